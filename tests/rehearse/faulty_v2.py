"""V2 with one planted fault, named by the environment's FAULT. Takes the options of `tripsearch`."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from typing import Any

import orjson

from tripsearch import openapi
from tripsearch.__main__ import main
from tripsearch.facts import Facts
from tripsearch.query import Search
from tripsearch.v2 import V2

_good, _promised, _answers = V2.answer, openapi.document, count()


def _text(answer: dict[str, Any]) -> None:
    """Prices are text, though the document promises numbers."""
    for hotel in answer["hotels"]:
        hotel["night_usd"] = str(hotel["night_usd"])


def _renamed(answer: dict[str, Any]) -> None:
    for hotel in answer["hotels"]:
        hotel["nightly_usd"] = hotel.pop("night_usd")


def _fahrenheit(answer: dict[str, Any]) -> None:
    degrees = answer["weather"].get("temperature_c", {})
    degrees |= {name: round(value * 9 / 5 + 32, 1) for name, value in degrees.items()}


def _some_differ(answer: dict[str, Any]) -> None:
    """One answer in fifty has another price."""
    if next(_answers) % 50 == 7 and answer["hotels"]:
        answer["hotels"][0]["night_usd"] += 1


FAULTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "text": _text,
    "renamed": _renamed,
    "renamed, and the document too": _renamed,
    "fahrenheit": _fahrenheit,
    "some differ": _some_differ,
}
_spoil = FAULTS[os.environ["FAULT"]]


async def _spoiled(self: V2, search: Search, facts: Facts) -> bytes:
    answer = orjson.loads(await _good(self, search, facts))
    _spoil(answer)
    return orjson.dumps(answer)


def _changed(version: str, path: str) -> bytes:
    return _promised(version, path).replace(b'"night_usd"', b'"nightly_usd"')


V2.answer = _spoiled  # type: ignore[method-assign]
if "document" in os.environ["FAULT"]:
    openapi.document = _changed

if __name__ == "__main__":
    main()

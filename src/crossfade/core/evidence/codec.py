"""Ticks as bytes: compact JSON, only what is not zero, the same bytes for the same tick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.jsonable import to_json
from crossfade.core.split import Version

FORMAT = 1

_COUNTS = ("requests", "failures", "critical", "fallbacks", "asked_v1", "cached")
_HISTOGRAMS = ("hundredths", "latency", "latency_cached")
_SUMS = ("timings", "outcomes")


def encode_tick(tick: Tick) -> bytes:
    """Return a tick as JSON; `decode_tick` gives an equal one back."""
    arms = sorted(tick.cells, key=lambda arm: (arm.version, arm.region, arm.cohort, arm.override))
    data = {
        "format": FORMAT,
        "number": tick.number,
        "start": tick.start,
        "length": tick.length,
        "lost": tick.lost,
        "malformed": tick.malformed,
        "sources": sorted(tick.sources),
        "cells": [[*arm, _cell_to_data(tick.cells[arm])] for arm in arms],
    }
    if tick.unanswered:
        data["unanswered"] = dict(sorted(tick.unanswered.items()))
    return to_json(data)


def decode_tick(data: bytes) -> Tick:
    """Return the tick that was encoded; raises ValueError where the bytes are not a tick of this format."""
    try:
        held = orjson.loads(data)
        if held["format"] != FORMAT:
            raise ValueError(f"tick format {held['format']!r} is not {FORMAT}")
        return _tick_from_data(held)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"not a tick: {error!r}") from None


def _tick_from_data(held: Mapping[str, Any]) -> Tick:
    return Tick(
        number=held["number"],
        start=held["start"],
        length=held["length"],
        lost=held["lost"],
        malformed=held["malformed"],
        sources=frozenset(held["sources"]),
        cells={
            Arm(Version(version), region, cohort, override): _cell_from_data(cell)
            for version, region, cohort, override, cell in held["cells"]
        },
        unanswered=dict(held.get("unanswered", {})),
    )


def _cell_to_data(cell: Cell) -> dict[str, object]:
    data: dict[str, object] = {name: getattr(cell, name) for name in _COUNTS}
    data |= {name: _flat(getattr(cell, name)) for name in _HISTOGRAMS}
    data["failing_users"] = sorted(cell.failing_users)
    data["facts"] = {name: dict(sorted(cell.facts[name].items())) for name in sorted(cell.facts)}
    for sums in _SUMS:
        data[sums] = dict(sorted(getattr(cell, sums).items()))
    return {name: value for name, value in data.items() if value}


def _cell_from_data(data: Mapping[str, Any]) -> Cell:
    return Cell(
        **{name: data.get(name, 0) for name in _COUNTS},
        hundredths=_counter(data.get("hundredths", ())),
        latency=_counter(data.get("latency", ())),
        latency_cached=_counter(data.get("latency_cached", ())),
        failing_users=set(data.get("failing_users", ())),
        facts={name: Counter(values) for name, values in data.get("facts", {}).items()},
        timings=_sums(data.get("timings", {})),
        outcomes=_sums(data.get("outcomes", {})),
    )


def _sums(data: Mapping[str, Any]) -> dict[str, tuple[int, float]]:
    return {name: (count, total) for name, (count, total) in data.items()}


def _flat(counts: Mapping[int, int]) -> list[int]:
    """Return bin, count, bin, count ...: a third of the size of an object with text keys."""
    return [number for pair in sorted(counts.items()) for number in pair]


def _counter(flat: Iterable[int]) -> Counter[int]:
    numbers = list(flat)
    return Counter(dict(zip(numbers[::2], numbers[1::2], strict=True)))

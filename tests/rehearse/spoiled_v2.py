"""V2 whose prices are text, though its document promises numbers. Takes the options of `tripsearch`."""

from __future__ import annotations

import orjson

from tripsearch.__main__ import main
from tripsearch.facts import Facts
from tripsearch.query import Search
from tripsearch.v2 import V2

_good = V2.answer


async def _spoiled(self: V2, search: Search, facts: Facts) -> bytes:
    answer = orjson.loads(await _good(self, search, facts))
    for hotel in answer["hotels"]:
        hotel["night_usd"] = str(hotel["night_usd"])
    return orjson.dumps(answer)


V2.answer = _spoiled  # type: ignore[method-assign]

if __name__ == "__main__":
    main()

"""V2 with a defect that only bad weather brings out: it then forgets the hotels. Takes the options of `tripsearch`."""

from __future__ import annotations

import orjson

from tripsearch.__main__ import main
from tripsearch.facts import Facts
from tripsearch.query import Search
from tripsearch.v2 import V2

_good = V2.answer


async def _forgetful(self: V2, search: Search, facts: Facts) -> bytes:
    answer = orjson.loads(await _good(self, search, facts))
    if answer["weather"].get("reason") == "timeout":
        answer["hotels"] = []  # the fact goes on saying that they are there
    return orjson.dumps(answer)


V2.answer = _forgetful  # type: ignore[method-assign]

if __name__ == "__main__":
    main()

"""Who is exempt now, and how that is told."""

from __future__ import annotations

from datetime import UTC, date, datetime

from crossfade.core.clients.exempt import exempt, told
from crossfade.core.clients.register import Registered

LAST = date(2027, 3, 28)  # clocks are put forward in Europe: the day is UTC's


def test_an_exemption_lasts_through_its_last_day() -> None:
    register = [Registered(client="acme", exempt_until=LAST), Registered(client="zeta")]
    days = [datetime(2027, 3, day, hour, 59, 59, tzinfo=UTC).timestamp() for day, hour in ((28, 23), (29, 0))]
    assert [dict(exempt(register, at)) for at in days] == [{"acme": LAST}, {}]


def test_those_with_the_latest_days_are_named() -> None:
    assert told({}) == ""
    assert told({"a": LAST, "b": date(2027, 4, 1)}) == "b until 2027-04-01, a until 2027-03-28"
    assert told({f"c{n}": LAST for n in range(7)}).endswith("c2 until 2027-03-28, and 2 more")

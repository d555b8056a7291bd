"""The register of clients: what it takes, and until when an exemption holds."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from crossfade.core.clients.register import Registered, registered


def test_a_row_becomes_an_entry_and_empty_fields_count_as_left_out() -> None:
    row = {"client": "acme", "owner": "Ann", "contact": "ann@acme.example", "notes": "", "exempt_until": "2026-12-31"}
    assert registered(row) == Registered(
        client="acme", owner="Ann", contact="ann@acme.example", exempt_until=date(2026, 12, 31)
    )
    assert registered({"client": "acme", "exempt_until": date(2026, 12, 31)}).owner == ""


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "client: is missing"),
        ({"client": "x" * 65}, "client: .* is no id"),
        ({"client": "a\nb"}, "client: .* is no id"),
        ({"client": " a"}, "client: .* is no id"),
        ({"client": 7}, "client: 7 is no text"),
        ({"client": "a", "owner": "\x1b[2J"}, "owner: .* control signs"),
        ({"client": "a", "notes": "n" * 2001}, "notes: has 2001 characters"),
        ({"client": "a", "contact": "Ann"}, "contact: 'Ann' is neither"),
        ({"client": "a", "contact": "javascript:alert(1)"}, "contact: .* is neither"),
        ({"client": "a", "exempt_until": "31.12.2026"}, "exempt_until: .* is no day"),
        ({"client": "a", "exempt_until": "2026-02-30"}, "exempt_until: .* is no day"),
        ({"client": "a", "expires": "2026-02-03"}, "expires: there is no such field"),
    ],
)
def test_what_cant_be_meant_is_refused_by_its_field(row: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        registered(row)


@pytest.mark.parametrize(
    ("at", "exempt"), [("2026-10-24T23:59:59", True), ("2026-10-25T23:59:59", True), ("2026-10-26T00:00:00", False)]
)
def test_an_exemption_holds_to_the_end_of_its_day_in_utc(at: str, exempt: bool) -> None:
    """Also on a day on which summer time ends."""
    one = Registered(client="acme", exempt_until=date(2026, 10, 25))
    assert one.is_exempt(datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp()) is exempt
    assert not Registered(client="acme").is_exempt(0.0)

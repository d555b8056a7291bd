"""The day on which V1 falls silent: forecast from complete days, with an interval that holds, or unknown."""

from __future__ import annotations

import numpy as np
import pytest

from crossfade.core.clients.forecast import Forecast, forecast
from crossfade.core.clients.ledger import DAY, Calls, Client, Ledger

BEGIN = 20_000 * DAY
TICK = DAY / 4
V1, V2 = (1, 0, 0, 0), (0, 0, 0, 1)


def watched(moves: list[float], until: float, *, dark: tuple[float, float] = (0, 0)) -> Ledger:
    """Return a ledger of clients that move at these days, watched for so many days."""
    ledger = Ledger()
    for number in range(int(until * DAY / TICK)):
        day = number * TICK / DAY
        calls = Calls({Client(f"c{n}"): V1 if day < move else V2 for n, move in enumerate(moves)})
        seen = not dark[0] <= day < dark[1]
        ledger.absorb(BEGIN + day * DAY, TICK, calls if seen else None)
    return ledger


def days_until(found: Forecast) -> list[float]:
    assert found.at is not None
    return [(at - BEGIN) / DAY for at in found.at]


def test_the_interval_holds_the_last_move_as_often_as_it_says() -> None:
    """Clients that move at any time with the same chance; asked when a good part of them has."""
    draw, held, rounds = np.random.default_rng(1), 0, 60
    for _ in range(rounds):
        moves = sorted(draw.exponential(15, 40).tolist())
        found = forecast(watched(moves, 14))
        low, middle, high = days_until(found)
        assert low < middle < high
        assert found.asking + found.moved == 40
        held += low <= moves[-1] <= high
    assert 0.65 <= held / rounds <= 0.95  # 80 %, and binomial chance


@pytest.mark.parametrize(
    ("moves", "until", "words"),
    [
        ([1.0] * 4 + [99.0], 2.5, "unknown: complete days watched: 2 of the 3 that it takes"),
        ([99.0] * 5, 10, "unknown: moves on complete days: 0 of the 3"),
        ([1.0, 2.0, 99.0], 10, "unknown: moves on complete days: 2 of"),
        ([], 10, "no client has asked for V1's own paths"),
        ([0.0] * 3, 10, "no client has asked for V1's own paths"),
    ],
)
def test_without_enough_it_is_unknown_and_says_why(moves: list[float], until: float, words: str) -> None:
    found = forecast(watched(moves, until))
    assert found.sentence.startswith(words)
    assert found.at is None
    assert found.silent_since is None


def test_nothing_watched_is_unknown() -> None:
    assert forecast(Ledger()).sentence == "unknown: nobody has watched yet"


def test_moves_in_days_that_nobody_watched_whole_do_not_count() -> None:
    moves = [4.1, 4.2, 4.3, 99.0]
    assert forecast(watched(moves, 10)).at is not None
    found = forecast(watched(moves, 10, dark=(4.5, 4.75)))
    assert found.sentence.startswith("unknown: moves on complete days: 0 of")


def test_when_the_last_has_moved_it_says_since_when() -> None:
    found = forecast(watched([1.0, 2.0, 3.0], 6))
    assert (found.asking, found.moved, found.at) == (0, 3, None)
    assert found.silent_since == BEGIN + 3 * DAY - TICK
    assert "the last client that asked for V1 has moved" in found.sentence


def test_a_client_that_only_falls_silent_has_not_moved() -> None:
    ledger = watched([1.0, 2.0, 3.0], 6)
    start = BEGIN + 6 * DAY
    ledger.absorb(start, TICK, Calls({Client("quiet"): V1}))
    for number in range(1, 21):
        ledger.absorb(start + number * TICK, TICK, Calls({Client("c0"): V2}))
    assert forecast(ledger).asking == 1

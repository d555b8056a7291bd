"""Gathered calls make the ledger that each tick alone makes, but for the minute in which things are told."""

from __future__ import annotations

import numpy as np
import pytest

from crossfade.core.clients import gathering
from crossfade.core.clients.gathering import FEW, GATHERED_S, Gathering
from crossfade.core.clients.ledger import DAY, Calls, Client, Ledger, Rows, Way, client_at, key_of

BEGIN = 20_000 * DAY
TICK = 10.0


def rows(*names: str, way: Way = Way.OWN_BY_V1) -> Calls:
    keys = [key_of(Client(name)) for name in names]
    return Calls(rows=[Rows(keys, np.full(len(keys), int(way)), np.ones(len(keys), dtype=np.int64))])


def ticks(seed: int, *, clients: int, count: int) -> list[Calls]:
    """Return ticks of 500 calls by clients drawn evenly."""
    draw = np.random.default_rng(seed)
    return [
        rows(*(f"c{n}" for n in draw.integers(0, clients, 500)), way=Way(int(draw.integers(4)))) for _ in range(count)
    ]


def settled(calls: list[Calls], start: float = BEGIN) -> tuple[Ledger, Ledger]:
    """Return the ledger of each tick alone, and the one of gathered ticks."""
    alone, gathered = Ledger(), Gathering(Ledger())
    for number, one in enumerate(calls):
        alone.absorb(start + number * TICK, TICK, one)
        gathered.add(start + number * TICK, TICK, one)
    gathered.settle()
    return alone, gathered.ledger


def test_the_counts_are_those_of_each_tick_and_times_are_of_the_same_minute() -> None:
    alone, gathered = settled(ticks(1, clients=3000, count=200))
    assert len(alone) > FEW
    found = dict(gathered)
    assert list(found) == [client for client, _ in alone]
    for client, entry in alone:
        assert (found[client].counts, found[client].error) == (entry.counts, entry.error)
        for mine, theirs in zip(entry.first + entry.last, found[client].first + found[client].last, strict=True):
            assert (mine is None) == (theirs is None)
            assert 0 <= (theirs or 0) - (mine or 0) < GATHERED_S
    assert gathered.days == alone.days
    assert (gathered.since, gathered.until, gathered.unnamed) == (alone.since, alone.until, alone.unnamed)


def test_few_clients_are_known_with_their_tick() -> None:
    gathered = Gathering(Ledger())
    for number in range(9):
        gathered.add(BEGIN + number * TICK, TICK, rows(f"c{number}"))
        assert len(gathered.ledger) == number + 1


def test_of_many_each_is_known_within_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "FEW", 2)
    gathered = Gathering(Ledger())
    for number in range(30):
        gathered.add(BEGIN + number * TICK, TICK, rows(f"c{number}"))
        assert len(gathered.ledger) >= number + 1 - GATHERED_S / TICK


def test_what_nobody_watched_is_a_gap_and_what_came_before_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "FEW", 0)
    gathered = Gathering(Ledger())
    gathered.add(BEGIN, TICK, rows("a"))
    gathered.add(BEGIN + TICK, TICK, rows("b"))
    gathered.add(BEGIN + 2 * TICK, TICK, None)
    assert len(gathered.ledger) == 2
    gathered.add(BEGIN + 3 * TICK, TICK, rows("c"))
    gathered.settle()
    assert gathered.ledger.watched_s(BEGIN, BEGIN + DAY) == 3 * TICK


def test_a_day_is_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "FEW", 0)
    monkeypatch.setattr(gathering, "GATHERED_S", 7 * DAY)
    alone, gathered = settled([rows(f"c{n}") for n in range(12)], BEGIN - 60)
    assert [day.asking_v1 for day in gathered.days] == [day.asking_v1 for day in alone.days] == [6, 6]


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "FEW", -1)
    monkeypatch.setattr(gathering, "ROWS_MAX", 3)
    gathered = Gathering(Ledger())
    gathered.add(BEGIN, TICK, rows("a", "b"))
    assert len(gathered.ledger) == 0
    gathered.add(BEGIN + TICK, TICK, rows("c", "d"))
    assert len(gathered.ledger) == 4


@pytest.mark.parametrize("name", ["acme", "@acme", "a b", "50%", "\N{GRINNING FACE}", "a\udcff", "a/b:c", "%40x"])
@pytest.mark.parametrize("agent", [False, True])
def test_a_key_is_of_one_client(name: str, agent: bool) -> None:
    assert client_at(key_of(Client(name, agent))) == Client(name, agent)

"""The ledger of clients against a plain count of everything: exact where it says so, within its error elsewhere."""

from __future__ import annotations

import tracemalloc
import zlib
from collections import Counter

import numpy as np
import pytest

from crossfade.core.clients.ledger import DAY, Calls, Client, Ledger, Standing, Way, load
from crossfade.core.clients.sketch import EXACT, STANDARD_ERROR, Sketch, hashes

TICK = 10.0
BEGIN = 20_000 * DAY


def by(way: Way, count: int = 1) -> list[int]:
    return [count if each is way else 0 for each in Way]


def absorb(ledger: Ledger, at: float, length: float = TICK, /, **counts: list[int]) -> None:
    """Have the ledger absorb the tick of `length` that begins at `at` days after the beginning."""
    start = BEGIN + at * DAY
    calls = Calls({Client(name): count for name, count in counts.items()})
    ledger.absorb(start, length, calls)


def standings(ledger: Ledger) -> dict[str, Standing]:
    return {client.name: ledger.standing(entry) for client, entry in ledger}


# ── counting ────────────────────────────────────────────────────────────────────────────────────────────────


def random_ticks(seed: int, *, clients: int, ticks: int, requests: int) -> list[Calls]:
    """Return ticks whose clients are drawn by Zipf's law."""
    draw = np.random.default_rng(seed)
    result = []
    for _ in range(ticks):
        names = np.minimum(draw.zipf(1.3, requests), clients)
        ways = draw.integers(0, 4, requests)
        counts: dict[Client, list[int]] = {}
        for name, way in zip(names.tolist(), ways.tolist(), strict=True):
            counts.setdefault(Client(f"c{name}"), [0] * 4)[way] += 1
        result.append(Calls(counts))
    return result


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_exact_or_within_their_error_and_frequent_clients_are_listed(seed: int) -> None:
    table, truth, ledger = 50, Counter[str](), Ledger(50)
    for number, calls in enumerate(random_ticks(seed, clients=5000, ticks=40, requests=300)):
        ledger.absorb(number * TICK, TICK, calls)
        for client, counts in calls.counts.items():
            truth[client.name] += sum(counts)
    listed = dict(ledger)
    requests = truth.total()
    for client, entry in listed.items():
        assert sum(entry.counts) <= truth[client.name] <= entry.total
        assert entry.error <= requests / table
    assert ledger.floor <= requests / table
    assert all(truth[name] <= ledger.floor for name in truth if Client(name) not in listed)
    assert {name for name, count in truth.items() if count > requests / table} <= {client.name for client in listed}
    assert any(entry.error == 0 for entry in listed.values())
    assert len(listed) <= 2 * table


def test_few_clients_are_counted_exactly_by_way_with_first_and_last() -> None:
    ledger = Ledger()
    absorb(ledger, 0, acme=[2, 0, 0, 0], bob=by(Way.ELSE_BY_V1))
    absorb(ledger, 1, acme=[1, 3, 0, 0])
    entry = dict(ledger)[Client("acme")]
    assert (entry.counts, entry.error, ledger.floor) == ([3, 3, 0, 0], 0, 0)
    assert entry.first == [BEGIN, BEGIN + DAY, None, None]
    assert entry.last == [BEGIN + DAY, BEGIN + DAY, None, None]


def test_the_last_clients_on_v1_are_named_however_little_they_call() -> None:
    """A thousand busy clients of V2 don't drive out the one that calls V1 once a day."""
    ledger = Ledger(20)
    busy: dict[str, list[int]] = {f"busy{n}": by(Way.ELSE_BY_V2, 100) for n in range(40)}
    for at in range(4):
        absorb(ledger, at, TICK, **busy)
        absorb(ledger, at + 0.5, last=by(Way.OWN_BY_V2))
    assert [name for name, where in standings(ledger).items() if where is Standing.V1] == ["last"]


def test_a_restart_anywhere_changes_nothing() -> None:
    ticks = random_ticks(7, clients=500, ticks=30, requests=100)
    straight, restarted = Ledger(20), Ledger(20)
    for number, calls in enumerate(ticks):
        straight.absorb(number * 7000.0, TICK, calls)
        restarted.absorb(number * 7000.0, TICK, calls)
        restarted = load(restarted.dump())
        restarted.absorb(number * 7000.0, TICK, calls)  # handed over again
    assert restarted.dump() == straight.dump()
    assert list(restarted) == list(straight)
    assert restarted.days == straight.days


def test_ticks_of_two_collectors_add_up() -> None:
    one = Calls({Client("a"): [1, 0, 0, 0], Client("b"): [0, 0, 0, 2]}, [1, 0, 0, 0])
    other = Calls({Client("a"): [0, 0, 1, 0]}, [0, 0, 0, 4], [0, 0, 0, 9])
    both = one.plus(other)
    assert {client.name: counts for client, counts in both.by_client().items()} == {
        "a": [1, 0, 1, 0],
        "b": [0, 0, 0, 2],
    }
    assert (list(both.unnamed), list(both.beyond)) == ([1, 0, 0, 4], [0, 0, 0, 9])


def test_an_id_and_a_user_agent_of_the_same_name_are_two_clients() -> None:
    ledger = Ledger()
    ledger.absorb(BEGIN, TICK, Calls({Client("x"): [1, 0, 0, 0], Client("x", agent=True): [1, 0, 0, 0]}))
    assert len(ledger) == 2
    assert ledger.days[-1].asking_v1 == 2


@pytest.mark.parametrize("data", [b"", b"x", zlib.compress(b"{}"), zlib.compress(b'{"format":99}')])
def test_what_is_no_ledger_is_told(data: bytes) -> None:
    with pytest.raises(ValueError, match="ledger"):
        load(data)


def test_a_million_clients_take_little_memory_and_are_told_apart() -> None:
    """With a twentieth of them and tables as full: a million take longer and no more."""
    ledger, clients = Ledger(200), 50_000
    tracemalloc.start()
    for number in range(20):
        names = range(number * clients // 20, (number + 1) * clients // 20)
        ledger.absorb(number * TICK, TICK, Calls({Client(f"client-{n}"): [1, 0, 0, 0] for n in names}))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 3_000_000
    assert len(ledger.dump()) < 100_000
    today = ledger.days[-1]
    assert today.asking_v1 == pytest.approx(clients, rel=4 * STANDARD_ERROR)
    assert not today.exact
    assert ledger.floor <= clients / 200


# ── where clients stand ─────────────────────────────────────────────────────────────────────────────────────


def test_a_client_has_moved_once_it_calls_v2_and_has_not_called_v1_for_a_day() -> None:
    ledger = Ledger()
    absorb(ledger, 0, 8640, mover=by(Way.OWN_BY_V1), quiet=by(Way.OWN_BY_V1), split=by(Way.ELSE_BY_V1))
    for tenth in range(1, 25):
        v2 = by(Way.ELSE_BY_V2)
        absorb(ledger, tenth / 10, 8640, mover=v2, split=by(Way.ELSE_BY_V1), new=v2)
        expected = Standing.V1 if tenth < 10 else Standing.V2
        assert standings(ledger)["mover"] is expected, tenth
    assert standings(ledger) == {
        "mover": Standing.V2,
        "quiet": Standing.SILENT,
        "split": Standing.V1,
        "new": Standing.V2,
    }


def test_time_in_which_nobody_watched_makes_no_client_silent() -> None:
    ledger = Ledger()
    absorb(ledger, 0, a=by(Way.OWN_BY_V1))
    ledger.absorb(BEGIN + 5 * DAY, TICK, None)
    assert standings(ledger) == {"a": Standing.V1}
    ledger.absorb(BEGIN + 6 * DAY, TICK, Calls())
    assert standings(ledger) == {"a": Standing.V1}
    assert ledger.watched_s(BEGIN, BEGIN + 10 * DAY) == 2 * TICK


def test_days_hold_what_came_and_are_complete_only_where_somebody_watched() -> None:
    ledger = Ledger()
    for hour in range(24):
        absorb(ledger, hour / 24, 3600, a=[1, 1, 0, 0], b=by(Way.ELSE_BY_V2))
    absorb(ledger, 1.5, 3600, b=by(Way.ELSE_BY_V2, 5))
    absorb(ledger, 2, 3600)
    first, second, third = ledger.days
    assert (first.number, first.requests, first.asking_v1, first.on_v1, first.on_v2) == (
        20_000,
        (24, 24, 0, 24),
        1,
        1,
        1,
    )
    assert (second.requests, second.was_watched, third.was_watched) == ((0, 0, 0, 5), False, False)
    assert [day.number for day in ledger.complete_days] == [20_000]


# ── sketches ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("count", [0, 1, EXACT])
def test_a_sketch_counts_few_exactly(count: int) -> None:
    sketch = Sketch()
    for _ in range(2):
        sketch.add(hashes(str(n).encode() for n in range(count)))
    assert (sketch.count(), sketch.is_exact) == (count, True)


@pytest.mark.parametrize("count", [EXACT + 1, 3_000, 10_000, 100_000])
def test_a_sketch_counts_many_within_its_error(count: int) -> None:
    errors = []
    for seed in range(20):
        sketch = Sketch()
        sketch.add(hashes(f"{seed}-{n}".encode() for n in range(count // 5 * 5)))
        errors.append(sketch.count() / (count // 5 * 5) - 1)
    assert np.sqrt(np.mean(np.square(errors))) < 1.7 * STANDARD_ERROR
    assert abs(np.mean(errors)) < 4 * STANDARD_ERROR / np.sqrt(20)


@pytest.mark.parametrize(("one", "other"), [(10, 20), (10, 5000), (5000, 10), (5000, 6000)])
def test_merged_sketches_are_the_sketch_of_all(one: int, other: int) -> None:
    parts = [hashes(f"{name}{n}".encode() for n in range(count)) for name, count in (("a", one), ("b", other))]
    merged, second, whole = Sketch(), Sketch(), Sketch()
    merged.add(parts[0])
    second.add(parts[1])
    merged.merge(second)
    for part in parts:
        whole.add(part)
    assert merged.data() == whole.data() == Sketch.of(whole.data()).data()

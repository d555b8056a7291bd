"""The sample-ratio check: luck among users explains much, a strange user or a broken node is seen."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from tests.core.test_evidence_book import PLAN, plan_of

from crossfade.core.evidence import book, share
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.observation import ShareReading
from crossfade.core.plan import Plan
from crossfade.core.split import BUCKETS, Version
from crossfade.core.verdict import Verdict

DAY_S = 86_400.0
HOUR = 3600.0


def _users(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return buckets and requests per day of users: some ask a hundred times as often as others."""
    return rng.integers(0, BUCKETS, count), rng.lognormal(1.5, 1.0, count)


def _ticks(
    rng: np.random.Generator, buckets: np.ndarray, activity: np.ndarray, *, part: int, hours: int, override: int = 0
) -> Iterator[Tick]:
    """Yield a tick an hour; users ask in sessions of about four requests."""
    for number in range(hours):
        requests = 4 * rng.poisson(activity / 24 / 4)
        cells = {}
        for version, mine in ((Version.V1, buckets >= part), (Version.V2, buckets < part)):
            by_part = np.bincount(buckets[mine] // 100, weights=requests[mine], minlength=100).astype(int)
            cell = Cell(requests=int(by_part.sum()))
            cell.hundredths.update({part: int(n) for part, n in enumerate(by_part) if n})
            cells[Arm(version, "", "")] = cell
        if override:
            cells[Arm(Version.V2, "", "", True)] = Cell(requests=override)
        yield Tick(number=number, start=number * HOUR, length=HOUR, cells=cells, sources=frozenset({"a"}))


def _judged(plan: Plan, ticks: Iterator[Tick], phase: int = 1) -> list[ShareReading]:
    state = book.enter_phase(plan, book.begin(plan, 0.0), phase, 0.0)
    found = []
    for tick in ticks:
        state = book.absorb(plan, state, [tick])
        found.append(book.read(plan, state, tick.start + tick.length).share)
    return found


def _part(phase: int) -> int:
    return PLAN.phases[phase].split.everyone


@pytest.mark.parametrize("users", [500, 2000, 50_000])
def test_the_luck_of_the_draw_is_no_mismatch(users: int) -> None:
    """Forty canary weeks at 5 %, looked at every hour."""
    wrong, split = 0, PLAN.phases[1].split
    for seed in range(40):
        rng = np.random.default_rng((1, seed, users))
        seen, verdicts = share.Share(), set()
        for tick in _ticks(rng, *_users(rng, users), part=_part(1), hours=7 * 24):
            seen = share.see(seen, tick, split, list(tick.cells.items()))
            verdicts.add(share.judge(PLAN, seen, 1).verdict)
        wrong += Verdict.FAIL in verdicts
        assert Verdict.PASS in verdicts
    assert wrong <= 1


@pytest.mark.parametrize("part", [500, 5000])
def test_a_bot_that_makes_much_of_the_traffic_is_seen(part: int) -> None:
    plan = plan_of()
    phase = next(i for i, p in enumerate(plan.phases) if p.split.everyone == part)
    rng = np.random.default_rng(2)
    buckets, activity = _users(rng, 2000)
    bot_on = part - 1
    buckets, activity = np.append(buckets, bot_on), np.append(activity, activity.sum())
    last = _judged(plan, _ticks(rng, buckets, activity, part=part, hours=48), phase)[-1]
    assert last.verdict is Verdict.FAIL
    assert "look for users with very many requests" in last.sentence


def test_answers_of_v2_that_get_lost_are_seen() -> None:
    rng = np.random.default_rng(3)

    def lossy() -> Iterator[Tick]:
        for tick in _ticks(rng, *_users(rng, 20_000), part=_part(1), hours=48):
            cells = dict(tick.cells)
            second = cells[Arm(Version.V2, "", "")]
            kept = Cell(requests=second.requests // 4)
            kept.hundredths.update({part: n // 4 for part, n in second.hundredths.items()})
            cells[Arm(Version.V2, "", "")] = kept
            yield Tick(number=tick.number, start=tick.start, length=HOUR, cells=cells, sources=tick.sources)

    last = _judged(PLAN, lossy())[-1]
    assert last.verdict is Verdict.FAIL
    assert "look for requests that are lost" in last.sentence


def test_a_node_with_another_split_is_seen_at_once_and_forgotten_when_it_is_mended() -> None:
    rng = np.random.default_rng(4)
    users = _users(rng, 20_000)
    broken = list(_ticks(rng, *users, part=2 * _part(1), hours=2))
    assert [r.verdict for r in _judged(PLAN, iter(broken))] == [Verdict.FAIL] * 2
    assert "another split" in _judged(PLAN, iter(broken))[0].sentence
    mended = [
        Tick(number=t.number + 2, start=t.start + 2 * HOUR, length=HOUR, cells=t.cells, sources=t.sources)
        for t in _ticks(rng, *users, part=_part(1), hours=24 * 7)
    ]
    assert _judged(PLAN, iter([*broken, *mended]))[-1].verdict is Verdict.PASS


def test_many_overrides_are_seen() -> None:
    rng = np.random.default_rng(5)
    users = _users(rng, 2000)
    few = _judged(PLAN, _ticks(rng, *users, part=_part(1), hours=24, override=2))
    assert all(reading.verdict is not Verdict.FAIL for reading in few)
    many = _judged(PLAN, _ticks(rng, *users, part=_part(1), hours=24, override=200))
    assert "chose it by an override" in many[-1].sentence


def test_a_proxy_that_tells_no_buckets_is_not_judged() -> None:
    rng = np.random.default_rng(6)
    for tick in _ticks(rng, *_users(rng, 2000), part=2000, hours=3):
        for cell in tick.cells.values():
            cell.hundredths.clear()
        assert _judged(PLAN, iter([tick]))[0].verdict is Verdict.INCONCLUSIVE


def test_a_restart_keeps_what_was_counted() -> None:
    rng = np.random.default_rng(7)
    state = book.enter_phase(PLAN, book.begin(PLAN, 0.0), 1, 0.0)
    state = book.absorb(PLAN, state, list(_ticks(rng, *_users(rng, 2000), part=_part(1), hours=24)))
    loaded = book.load(PLAN, book.dump(state))
    assert book.dump(loaded) == book.dump(state)
    assert book.read(PLAN, loaded, DAY_S).share == book.read(PLAN, state, DAY_S).share

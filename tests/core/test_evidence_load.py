"""What V1 was seen to answer, and whether that is enough for everyone; and a drill's ticks in the book."""

from __future__ import annotations

from crossfade.core.evidence import book, load
from crossfade.core.evidence.load import Load
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.plan import Plan
from crossfade.core.split import Version


def minutes(*pairs: tuple[int, int]) -> Load:
    """Return the load after minutes in which so many were asked in all, and answered by V1."""
    found = Load()
    for number, (asked, answered) in enumerate(pairs, 1):
        for _ in range(6):
            found = load.see(found, seconds=10, end=60.0 * number, asked=asked // 6, answered=answered // 6)
    return found


def test_nothing_seen_is_not_enough() -> None:
    assert "isn't known yet" in (load.why_not_all(Load(), None) or "")
    assert "isn't known yet" in (load.why_not_all(load.unseen(minutes((600, 600))), None) or "")


def test_v1_s_best_minute_is_remembered_and_the_busiest_of_five_is_asked() -> None:
    grown = minutes((600, 600), (1200, 300), *[(60, 30)] * 4)
    assert (grown.best, grown.now) == (10.0, 20.0)
    assert load.why_not_all(grown, None) is not None
    assert load.why_not_all(minutes((600, 600), (1200, 300), *[(60, 30)] * 5), None) is None


def test_the_plan_s_limit_counts_beside_what_was_seen() -> None:
    seen = minutes((600, 600), (600, 300))
    assert load.why_not_all(seen, 10.0) is None
    assert "the plan gives V1 at most 9/s" in (load.why_not_all(seen, 9.0) or "")


def _tick(number: int, v1: int, v2: int, failures: int = 0) -> Tick:
    cells = {
        Arm(Version.V1, "", ""): Cell(requests=v1),
        Arm(Version.V2, "", ""): Cell(requests=v2, failures=failures, failing_users=set(range(failures))),
    }
    return Tick(number=number, start=number * 60.0, length=60.0, cells=cells, sources=frozenset({"c"}))


def test_the_ticks_of_a_drill_are_compared_with_nothing_and_are_no_silence(plan: Plan) -> None:
    state = book.enter_phase(plan, book.begin(plan, 0.0, 60.0), 1, 0.0)
    state = book.absorb(plan, state, [_tick(n, 3000, 3000) for n in range(5)])
    before = book.read(plan, state, 300.0)
    drilled = book.stay_away(state, (330.0, 1000.0))
    drilled = book.absorb(plan, drilled, [_tick(n, 6000, 0) for n in range(5, 17)])
    during = book.read(plan, drilled, 1020.0)
    assert [item for item in during.blind if item.matters] == []
    assert (during.requests_v2, during.readings["failure_rate"].n1) == (
        before.requests_v2,
        before.readings["failure_rate"].n1,
    )
    assert book.load(plan, book.dump(drilled)).away == (330.0, 1000.0)
    after = book.read(plan, book.absorb(plan, drilled, [_tick(17, 3000, 3000)]), 1080.0)
    assert [item for item in after.blind if item.matters] == []
    assert after.requests_v2 == before.requests_v2 + 3000
    untold = book.read(plan, book.absorb(plan, state, [_tick(n, 6000, 0) for n in range(5, 17)]), 1020.0)
    assert [item.what for item in untold.blind if item.matters] == ["v2 traffic"]

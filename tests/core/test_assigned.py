"""How users were assigned at a time, out of the history."""

from __future__ import annotations

from pathlib import Path

from crossfade.app.planfile import load_plan
from crossfade.core import events as e
from crossfade.core.rollout import SPANS_KEPT, Rollout, evolve, fold
from crossfade.core.split import NOBODY

PLAN = load_plan(Path(__file__).parents[2] / "plans" / "trips-v2.yaml")


def _promoted(phase: int, at: float) -> e.PhasePromoted:
    name = PLAN.phases[phase].name
    return e.PhasePromoted(at=at, phase=phase, name=name, by="engine", reason="")


def _rolled_back(at: float) -> e.RolledBack:
    return e.RolledBack(at=at, trigger="person", reason="", by="ann", took_s=0.1, nodes={})


def _retried(at: float) -> e.Retried:
    return e.Retried(at=at, phase=1, name="canary", by="ann", reason="")


def _lived() -> Rollout:
    return fold(
        PLAN.name,
        [
            e.RolloutStarted(at=10.0, plan=PLAN.name, digest=PLAN.digest, by="ann"),
            _promoted(1, 20.0),
            e.Paused(at=25.0, by="ann", reason=""),
            e.Resumed(at=26.0, by="ann", reason=""),
            _promoted(2, 30.0),
            _rolled_back(40.0),
            _retried(50.0),
        ],
    )


def test_each_time_has_the_split_and_the_kill_of_its_time() -> None:
    rollout = _lived()
    assert rollout.assigned_at(PLAN, 9.9) is None
    assert rollout.assigned_at(PLAN, 10.0) == (PLAN.phases[0].split, False)
    for at in (20.0, 25.5, 29.9):
        assert rollout.assigned_at(PLAN, at) == (PLAN.phases[1].split, False)
    assert rollout.assigned_at(PLAN, 39.0) == (PLAN.phases[2].split, False)
    assert rollout.assigned_at(PLAN, 45.0) == (NOBODY, True)
    assert rollout.assigned_at(PLAN, 1e9) == (PLAN.phases[1].split, False)
    assert (rollout.wanted_split(PLAN), rollout.wanted_killed) == rollout.assigned_at(PLAN, 1e9)


def test_pauses_and_other_events_take_no_room_and_the_rest_is_bounded() -> None:
    rollout = _lived()
    assert [span.since for span in rollout.spans] == [10.0, 20.0, 30.0, 40.0, 50.0]
    for number in range(SPANS_KEPT):
        rollout = evolve(rollout, _rolled_back(60.0 + 10 * number))
        rollout = evolve(rollout, _retried(65.0 + 10 * number))
    assert len(rollout.spans) == SPANS_KEPT
    assert rollout.assigned_at(PLAN, 55.0) is None
    assert rollout.assigned_at(PLAN, 61.0 + 10 * (SPANS_KEPT - 1)) == (NOBODY, True)

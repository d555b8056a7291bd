"""The users of a phase: expected by the plan, seen by the proxy, and never made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crossfade.app.planfile import load_plan
from crossfade.core.clients.sketch import Sketch
from crossfade.core.evidence.sums import Tick, merge_ticks
from crossfade.core.population import Population
from crossfade.core.rollout import Rollout
from crossfade.core.split import Version

PLAN = load_plan(Path(__file__).parents[2] / "plans" / "trips-v2.yaml")
EARLY = Rollout(name="trips-v2", phase=2, phase_since=100.0)


def users(begin: int, end: int) -> Sketch:
    sketch = Sketch()
    sketch.add(np.random.default_rng(1).integers(0, 2**64 - 1, 5000, dtype=np.uint64)[begin:end])
    return sketch


def tick(start: float, **seen: tuple[int, int]) -> Tick:
    found = {(Version(name[:2]), name[3:]): users(*span) for name, span in seen.items()}
    return Tick(number=int(start), start=start, length=1.0, cells={}, sources=frozenset({"c"}), users=found)


def test_the_shipped_plan_says_how_many_users_a_phase_expects() -> None:
    assert [phase.users for phase in PLAN.phases] == [0, 100, 500, 1000, 1500, 1800, 0]


def test_a_user_counts_once_in_a_phase() -> None:
    population = Population(PLAN)
    population.absorb(
        EARLY, [tick(100.0, v1_=(0, 100), v2_=(500, 520)), tick(101.0, v1_=(50, 148), v2_beta=(500, 552))]
    )
    seen = population.seen(EARLY)
    assert (seen.expected, seen.v1, seen.v2, seen.since) == (500, 148, 52, 100.0)
    assert seen.sentence == (
        "about 500 expected on V2, 52 seen so far: the split of 25 % gives about 50 of 200 users seen"
    )


@pytest.mark.parametrize("looked", [[], [tick(99.0, v2_=(0, 9))], [tick(100.0)]])
def test_without_data_nobody_is_known(looked: list[Tick]) -> None:
    """Neither before the first tick, nor by one of an earlier phase, nor by one that tells of no user."""
    population = Population(PLAN)
    population.absorb(EARLY, looked)
    seen = population.seen(EARLY)
    assert (seen.v1, seen.v2, seen.since) == (None, None, None)
    assert seen.sentence == "about 500 expected on V2; nobody seen yet"


def test_each_phase_and_attempt_begins_anew_and_staff_is_left_out() -> None:
    population = Population(PLAN)
    population.absorb(EARLY, [tick(100.0, v2_=(0, 20))])
    for later in (replace(EARLY, phase=3), replace(EARLY, attempt=2)):
        assert population.seen(later).v2 is None
        population.absorb(later, [tick(200.0, v2_internal=(0, 10), v2_=(0, 3))])
        assert population.seen(later).v2 == 3


def test_ticks_of_two_collectors_count_a_user_once() -> None:
    merged = merge_ticks(tick(100.0, v2_=(0, 30)), tick(100.0, v2_=(10, 40), v1_=(50, 60)))
    population = Population(PLAN)
    population.absorb(EARLY, [merged])
    assert (population.seen(EARLY).v1, population.seen(EARLY).v2) == (10, 40)


def test_many_users_are_estimated_closely() -> None:
    population = Population(PLAN)
    population.absorb(EARLY, [tick(100.0, v2_=(0, 3000)), tick(101.0, v2_=(2000, 5000))])
    assert population.seen(EARLY).v2 == pytest.approx(5000, rel=0.06)


@pytest.mark.parametrize("many", [30, 3000])
def test_what_was_dumped_is_gone_on_with(many: int) -> None:
    """Exactly and estimated; who is seen again counts once, and a later phase begins anew."""
    before, after = Population(PLAN), Population(PLAN)
    assert before.dump() == b""
    before.absorb(EARLY, [tick(100.0, v1_=(0, 5), v2_=(0, many))])
    assert len(before.dump()) < 45_000
    after.go_on(before.dump())
    assert after.seen(EARLY) == before.seen(EARLY)
    again = [tick(200.0, v2_=(0, 20), v1_=(0, 7))]
    before.absorb(EARLY, again)
    after.absorb(EARLY, again)
    assert after.seen(EARLY) == before.seen(EARLY)
    assert (after.seen(EARLY).v1, after.seen(EARLY).since) == (7, 100.0)
    assert after.seen(replace(EARLY, phase=3)).v2 is None


@pytest.mark.parametrize(
    "wrong", [b"", b"{", b"[]", b"{}", b'{"attempt":1,"phase":2,"since":0,"seen":{"v1":[],"v2":"x"}}']
)
def test_what_is_no_dump_changes_nothing(wrong: bytes) -> None:
    population = Population(PLAN)
    population.absorb(EARLY, [tick(100.0, v2_=(0, 20))])
    with pytest.raises(ValueError, match=r".+"):
        population.go_on(wrong)
    assert population.seen(EARLY).v2 == 20

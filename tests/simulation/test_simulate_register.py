"""Users counted in arrays, hours at a time: the same numbers as the core's, tick by tick; and what long ticks hide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crossfade.app.planfile import load_plan
from crossfade.core.evidence import book, users
from crossfade.core.evidence.collect import assigned
from crossfade.core.evidence.streams import evidence_now
from crossfade.core.plan import DAY, HOUR
from crossfade.simulation import screen
from crossfade.simulation.draws import World, tick
from crossfade.simulation.model import BEGIN, Defect, Effect, Scenario
from crossfade.simulation.register import Marked

PLAN = load_plan(Path("plans/trips-v2.yaml"))
ILL = (Defect(metric="failure_rate", effect=Effect.RATE, value=0.2, phase=2, after_s=0.0),)


@pytest.fixture(scope="module")
def world() -> World:
    """Few users who fail again and again, for days, in rows."""
    return World(Scenario(plan=PLAN, rate=2.0, users=600, clustered=3, chronic=0.02), 1, 0)


def counted(ticks: list[users.Units]) -> dict[str, int]:
    return {name: sum(getattr(units, name) for units in ticks) for name in ("first", "weekly", "distinct")}


def test_arrays_count_as_dictionaries_do_however_long_the_ticks(world: World) -> None:
    split = PLAN.phases[2].split
    core: users.Failing = users.Failing()
    short: users.Failing = Marked(register=world.register)
    slices = [
        world.draw(n, BEGIN + n * 6 * HOUR, BEGIN + (n + 1) * 6 * HOUR, begun=BEGIN, split=split, ill=ILL)
        for n in range(12)
    ]
    told: dict[str, list[users.Units]] = {"core": [], "short": [], "long": []}
    for part in slices:
        for index, cells in enumerate(world.cut(part, 10.0)):
            rows = assigned(tick(index, part.start + 10.0 * index, 10.0, cells))
            compared = [arm.cohort != "beta" for arm, _ in rows]
            core, units = users.count(core, part.start + 10.0 * index, rows, compared)
            short, same = users.count(short, part.start + 10.0 * index, rows, compared)
            assert units == same
            told["core"] += units
            told["short"] += same
    assert (len(core.hurt), core.hurt_unknown) == (len(short.hurt), short.hurt_unknown)
    assert len(core.hurt) > 100

    long: users.Failing = Marked(register=world.register)
    for first in range(0, len(slices), 4):
        day = slices[first : first + 4]
        rows = assigned(tick(first, day[0].start, DAY, world.whole(day)))
        long, units = users.count(long, day[0].start, rows, [arm.cohort != "beta" for arm, _ in rows])
        told["long"] += units
    assert counted(told["core"]) == counted(told["long"])
    assert {arm.cohort for arm, _ in rows} >= {"", "beta"}
    assert len(long.hurt) == len(core.hurt)


def test_an_earlier_version_takes_back_what_was_counted_since(world: World) -> None:
    split = PLAN.phases[2].split
    part = world.draw(50, BEGIN, BEGIN + HOUR, begun=BEGIN, split=split, ill=ILL)
    rows = assigned(tick(0, BEGIN, HOUR, world.whole([part])))
    start = Marked(register=world.register, version=0)
    world.register.back_to(0)
    once, units = users.count(start, BEGIN, rows)
    again, none = users.count(once, BEGIN, rows)
    assert sum(u.first + u.weekly for u in none) == 0 < sum(u.first for u in units)
    assert users.count(start, BEGIN, rows)[1] == units
    assert len(again.hurt) == len(once.hurt) > 0


def test_a_new_phase_counts_the_users_hurt_anew(world: World) -> None:
    split = PLAN.phases[2].split
    world.register.back_to(0)
    failing: users.Failing = Marked(register=world.register)
    for number in (60, 61):
        at = BEGIN + number * HOUR
        part = world.draw(number, at, at + HOUR, begun=BEGIN, split=split, ill=ILL)
        rows = assigned(tick(number, at, HOUR, world.whole([part])))
        failing, _ = users.count(replace(failing, hurt=users.Counter()), at, rows)
        v2 = [cell.failing_users for arm, cell in rows if arm.version.value == "v2"]
        assert len(failing.hurt) == len(set().union(*v2))
    assert np.unique(world.register.hurt).tolist() == [0, 2, 3]


def test_evidence_that_rises_and_falls_within_a_long_tick_is_seen() -> None:
    """Six bad hours, then good ones: a day's sums end far below the height that looks every two minutes see."""
    plan, split = PLAN, PLAN.phases[2].split
    world = World(Scenario(plan=plan, rate=20.0, users=172_800), 2, 0)
    begun = book.enter_phase(plan, book.enter_phase(plan, book.begin(plan, BEGIN - DAY), 1, BEGIN - DAY), 2, BEGIN)
    begun = replace(begun, failing=Marked(register=world.register))
    warm = world.draw(1, BEGIN, BEGIN + HOUR, begun=BEGIN, split=split, ill=())
    begun = book.absorb(plan, begun, [tick(0, BEGIN, HOUR, world.whole([warm]))])
    ill = (replace(ILL[0], value=0.006),)
    parts = [
        world.draw(n, BEGIN + n * HOUR, BEGIN + (n + 1) * HOUR, begun=BEGIN, split=split, ill=ill if n < 7 else ())
        for n in range(1, 24)
    ]
    world.register.firsts.clear()
    day = book.absorb(plan, begun, [tick(1, parts[0].start, 23 * HOUR, world.whole(parts))])
    seen = screen.highest(
        day.layout,
        begun.streams,
        split=split,
        regions=begun.regions.slots,
        firsts=world.register.firsts,
        begin=parts[0].start,
        end=parts[-1].end,
    )["failure_rate"]
    closely, heights, number = begun, [], 1
    for part in parts:
        for index, cells in enumerate(world.cut(part, screen.STEP_S)):
            one = tick(number, part.start + index * screen.STEP_S, screen.STEP_S, cells)
            closely, number = book.absorb(plan, closely, [one]), number + 1
            heights.append(evidence_now(closely.layout, closely.streams, 0.0)["failure_rate"][0])
    assert seen == pytest.approx(max(heights), abs=0.5)
    assert max(heights) - 1 > evidence_now(day.layout, day.streams, 0.0)["failure_rate"][0]

"""Drills by the real controller on the shipped fakes and a manual clock: what is shown, and what never raises."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.simulation import test_controller_faults as faults
from tests.simulation.test_controller_faults import World, begun, lived

from crossfade.core.machine import State
from crossfade.core.plan import DrillStep, Gate, GateKind, Plan
from crossfade.core.split import Split, Version
from crossfade.engine.controller import Controller
from crossfade.errors import ConflictError
from crossfade.testing.proxy import FakeRollback

PASSED = Gate(kind=GateKind.DRILL_PASSED, text="drill passed")


async def half(world: World) -> Controller:
    """Return a controller in the phase at 50 %, after V1 was seen to take everyone's requests."""
    controller = await begun(world)
    await lived(world, controller, 3, 0.0, n=9000)
    await controller.promote("ada", "")
    await lived(world, controller, 10, 0.5)
    return controller


async def end(world: World, controller: Controller, *, v2_s: float | None = None, v1: bool = True) -> None:
    """Let a drill's time pass, V2 being given its last request `v2_s` after the command."""
    now = world.clock.now()
    if v1:
        world.telemetry.given[Version.V1] = now + 1
    if v2_s is not None:
        world.telemetry.given[Version.V2] = now + v2_s
    world.clock.move(2.0)
    await controller.tick()


async def last(world: World, kind: str) -> dict[str, Any]:
    return [dict(event.data) for event in await world.store.events("trips") if event.kind == kind][-1]


async def test_a_drill_puts_everyone_on_v1_and_returns_to_the_split_with_its_figures() -> None:
    world = World()
    controller = await half(world)
    generation = controller.rollout.generation
    await controller.drill("ada", "rehearsal")
    assert (controller.rollout.state, world.share) == (State.DRILLING, 0)
    await end(world, controller, v2_s=0.25)
    assert (controller.rollout.state, world.share) == (State.RUNNING, 5000)
    assert controller.rollout.generation > generation
    figures = await last(world, "DrillPassed")
    assert (figures["last_v2_s"], figures["within_s"], figures["nodes"]) == (0.25, 60.0, {"fake": "v1"})
    story = [kind for kind in await world.kinds() if kind.startswith(("Drill", "Split", "Rolled"))]
    assert story[-4:] == ["DrillStarted", "SplitApplied", "DrillPassed", "SplitApplied"]


async def test_a_drill_waits_until_v2_has_been_given_nothing_for_a_while() -> None:
    world = World()
    controller = await half(world)
    await controller.drill("ada", "")
    await end(world, controller, v2_s=1.9)
    assert "DrillPassed" not in await world.kinds()
    await end(world, controller)
    assert "DrillPassed" in await world.kinds()


@pytest.mark.parametrize(
    ("v2_s", "v1", "why"),
    [(61.0, True, "V2 was given a request 61 s after the command"), (None, False, "no request was reported")],
)
async def test_what_a_drill_does_not_show_leaves_everyone_on_v1(v2_s: float | None, v1: bool, why: str) -> None:
    world = World()
    controller = await half(world)
    await controller.drill("ada", "")
    await end(world, controller, v2_s=v2_s, v1=v1)
    world.clock.move(70.0)
    await controller.tick()
    assert (controller.rollout.state, world.share) == (State.ROLLED_BACK, 0)
    assert why in (await last(world, "DrillFailed"))["reason"]
    assert (await last(world, "RolledBack"))["trigger"] == "drill"


async def test_a_node_that_does_not_confirm_fails_the_drill() -> None:
    world = World()
    controller = await half(world)
    switch = world.proxy.throw_switch

    def unheard(generation: int | None) -> Any:
        return replace(switch(generation), reachable=False, state=None, error="no answer")

    world.proxy.throw_switch = unheard  # type: ignore[method-assign]
    await controller.drill("ada", "")
    await end(world, controller)
    assert "not every node" in (await last(world, "DrillFailed"))["reason"]
    assert (controller.rollout.state, world.share) == (State.ROLLED_BACK, 0)


async def test_a_person_s_rollback_during_a_drill_wins_and_nothing_raises() -> None:
    world = World()
    controller = await half(world)
    await controller.drill("ada", "")
    await controller.rollback("bob", "enough")
    await end(world, controller)
    await lived(world, controller, 3, 0.0)
    assert (controller.rollout.state, world.share) == (State.ROLLED_BACK, 0)
    assert "DrillPassed" not in await world.kinds()


async def test_a_rollback_at_the_proxy_during_a_drill_wins() -> None:
    world = World()
    controller = await half(world)
    await controller.drill("ada", "")
    await FakeRollback(world.proxy).rollback(None)
    await end(world, controller)
    assert (controller.rollout.state, world.share) == (State.ROLLED_BACK, 0)
    assert (await last(world, "RolledBack"))["trigger"] == "proxy"


async def test_a_rollback_at_the_proxy_just_before_a_drill_is_not_taken_for_its_own() -> None:
    world = World()
    controller = await half(world)
    append = world.store.append

    async def overtaken(*args: Any, **kwargs: Any) -> None:
        await append(*args, **kwargs)
        if world.proxy.rolled_back < 0:
            await FakeRollback(world.proxy).rollback(None)

    world.store.append = overtaken  # type: ignore[method-assign]
    with pytest.raises(ConflictError, match="was rolled back as it began"):
        await controller.drill("ada", "")
    await end(world, controller)
    assert (controller.rollout.state, world.share) == (State.ROLLED_BACK, 0)
    assert "rolled back directly" in (await last(world, "RolledBack"))["reason"]
    assert "DrillPassed" not in await world.kinds()


async def test_a_rollback_at_the_proxy_while_drift_is_mended_is_found_in_the_same_look() -> None:
    world = World()
    controller = await half(world)
    world.proxy.memory = replace(world.proxy.memory, split=Split())

    async def overtaken(step: str) -> None:
        if step == "it is read back":
            await FakeRollback(world.proxy).rollback(None)

    world.proxy.between = overtaken
    world.clock.move(2.0)
    await controller.tick()
    assert (controller.rollout.state, world.share) == (State.ROLLED_BACK, 0)
    assert (await last(world, "RolledBack"))["trigger"] == "proxy"


async def test_a_guardrail_that_breaks_during_a_drill_wins() -> None:
    world = World()
    controller = await half(world)
    world.tick(0.5, failures=600)  # it began before the drill
    await controller.drill("ada", "")
    await end(world, controller)
    assert (controller.rollout.state, world.share) == (State.ROLLED_BACK, 0)
    assert (await last(world, "RolledBack"))["trigger"] == "failure_rate"


async def test_a_crash_before_it_has_passed_leaves_everyone_on_v1() -> None:
    world = World()
    first = await half(world)
    await first.drill("ada", "")
    second = world.controller()
    await second.start()
    world.clock.move(2.0)
    await second.tick()
    assert (second.rollout.state, world.share) == (State.ROLLED_BACK, 0)
    assert "middle of the drill in half" in (await last(world, "RolledBack"))["reason"]


async def test_a_crash_after_it_has_passed_goes_back_to_the_split_by_the_recorded_intent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    first = await half(world)
    await first.drill("ada", "")
    await end(world, first, v2_s=1.9)

    async def killed(*_: object) -> None:
        raise faults.Crash

    with monkeypatch.context() as patched:
        patched.setattr(first, "_assert_wanted", killed)
        with pytest.raises(faults.Crash):
            await end(world, first)
    assert world.share == 0
    second = world.controller()
    await second.start()
    assert (second.rollout.state, world.share) == (State.RUNNING, 5000)


async def test_a_drill_is_refused_with_the_reason() -> None:
    world = World()
    controller = await begun(world)
    with pytest.raises(ConflictError, match="isn't known yet"):
        await controller.drill("ada", "")
    await lived(world, controller, 3, 0.05)
    await controller.promote("ada", "")
    await lived(world, controller, 6, 0.5)
    with pytest.raises(ConflictError, match=r"all users ask 100/s, and the most that V1 was seen .* is 95/s"):
        await controller.drill("ada", "")
    await controller.pause("ada", "")
    with pytest.raises(ConflictError, match="it must be running"):
        await controller.drill("ada", "")
    assert "DrillStarted" not in await world.kinds()


async def test_a_drill_is_no_blindness_and_its_time_is_no_soak() -> None:
    world = World()
    controller = await half(world)
    await controller.drill("ada", "")
    began = world.clock.now()
    world.tick(0.0)
    await controller.tick()
    await end(world, controller)
    taken = world.clock.now() - began
    await lived(world, controller, 5, 0.5)
    assert controller.rollout.held is None
    assert controller.rollout.away_s == pytest.approx(taken)
    entered = controller.rollout.phase_since
    assert world.clock.now() - entered - taken == pytest.approx(controller.rollout.lasted(entered, world.clock.now()))


def _with_step(limit: float | None) -> Plan:
    middle = replace(
        faults.PLAN.phases[1], drill=DrillStep(after_s=600, v1_capacity=limit), gates=(PASSED,), own_gates=(PASSED,)
    )
    return replace(faults.PLAN, phases=(faults.PLAN.phases[0], middle, faults.PLAN.phases[2]))


async def test_the_plan_s_drill_begins_at_its_time_and_opens_the_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "PLAN", _with_step(None))
    world = World()
    controller = await half(world)
    for _ in range(5):
        await lived(world, controller, 1, 0.5)
        if controller.rollout.state is State.DRILLING:
            break
    assert controller.rollout.state is State.DRILLING
    await end(world, controller)
    assert (controller.rollout.state, world.share) == (State.RUNNING, 5000)
    await lived(world, controller, 62, 0.5)
    assert controller.rollout.phase == 2
    assert (await world.kinds()).count("DrillStarted") == 1


async def test_the_plan_s_drill_waits_while_v1_may_not_be_given_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "PLAN", _with_step(80.0))
    world = World()
    controller = await half(world)
    await lived(world, controller, 70, 0.5)
    assert controller.decision is not None
    assert "all users ask 100/s, and the plan gives V1 at most 80/s" in controller.decision.gates[-1].evidence
    assert (controller.rollout.phase, "DrillStarted" in await world.kinds()) == (1, False)


@pytest.mark.parametrize(("part", "name"), faults.CALLS, ids=[f"{part}.{name}" for part, name in faults.CALLS])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(7))
async def test_killed_between_any_two_steps_of_a_drill_nobody_is_led_back_but_by_one_that_passed(
    part: str, name: str, nth: int, *, after: bool
) -> None:
    world = World()
    controller = await half(world)
    thing = getattr(world, part)
    original, seen = getattr(thing, name), 0

    async def deadly(*arguments: Any, **more: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == nth + 1 and not after:
            raise faults.Crash
        result = await original(*arguments, **more)
        if seen == nth + 1:
            raise faults.Crash
        return result

    setattr(thing, name, deadly)
    try:
        await controller.drill("ada", "")
        await end(world, controller, v2_s=0.25)
        await end(world, controller)
    except faults.Crash:
        pass
    setattr(thing, name, original)
    survivor = await begun(world)
    for _ in range(2):
        await end(world, survivor)
    kinds = await world.kinds()
    passed, back = "DrillStarted" not in kinds or "DrillPassed" in kinds, survivor.rollout.state is State.RUNNING
    assert (back, world.share) == ((True, 5000) if passed else (False, 0))
    assert survivor.rollout.applied_generation == survivor.rollout.generation

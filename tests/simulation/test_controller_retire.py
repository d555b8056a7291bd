"""Retiring V1 with the real controller on the shipped fakes: order, crashes, and that nothing brings V1 back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.simulation.test_controller_conflicts import live_on, lose_reply_of
from tests.simulation.test_controller_faults import PLAN, V2, Crash, World, lived

from crossfade.core.evidence.sums import Cell, Tick
from crossfade.core.machine import State
from crossfade.core.plan import HOUR, Gate, GateKind, Plan
from crossfade.engine.controller import Controller, Pace, Parts
from crossfade.engine.rollback import roll_back
from crossfade.errors import (
    ConflictError,
    ProxyRefusedError,
    ProxyUnreachableError,
    StaleGenerationError,
    UnreachableError,
)
from crossfade.ports import ProxyState
from crossfade.testing.proxy import FakeRollback

SILENT = Gate(kind=GateKind.NO_V1_REQUESTS, text="no v1 requests for 30m", for_s=HOUR / 2)
LAST = PLAN.phases[-1]
RETIRES = replace(PLAN, phases=(*PLAN.phases[:-1], replace(LAST, gates=(SILENT, *LAST.gates), retires=True)))


@dataclass
class Retiring(World):
    """A world whose plan may retire V1."""

    plan: Plan = RETIRES

    def controller(self) -> Controller:
        parts = Parts(
            store=self.store,
            proxy=self.proxy,
            switch=FakeRollback(self.proxy),
            telemetry=self.telemetry,
            clock=self.clock,
        )
        return Controller(self.plan, parts, pace=Pace())


async def completed(world: Retiring) -> Controller:
    """Return a controller whose last phase's gates have all passed."""
    await world.store.open()
    controller = world.controller()
    await controller.start()
    await controller.promote("ada", "")
    await controller.promote("ada", "")
    await controller.approve("ada", "")
    await lived(world, controller, 62, 1.0)
    assert controller.rollout.state is State.COMPLETED
    return controller


async def restarted(world: Retiring) -> Controller:
    survivor = world.controller()
    await survivor.start()
    await live_on(world, survivor, 2, 1.0)
    return survivor


def retired(world: Retiring) -> tuple[bool, bool]:
    """Tell whether V1 is retired in the proxy's memory and in its file."""
    return world.proxy.memory.retired, world.proxy.file.retired


async def test_the_intent_is_recorded_before_the_proxy_and_the_fact_after_it_was_read_back() -> None:
    world = Retiring()
    controller = await completed(world)
    seen: list[tuple[str, bool]] = []
    append = world.store.append

    async def watched(rollout: str, revision: int, events: Any, **more: Any) -> None:
        seen.extend((event.kind, world.proxy.memory.retired) for event in events)
        await append(rollout, revision, events, **more)

    world.store.append = watched  # type: ignore[method-assign]
    rollout = await controller.retire("ada", "nobody asks")
    assert seen == [("RetirementStarted", False), ("SplitApplied", True), ("V1Retired", True)]
    assert (rollout.state, retired(world)) == (State.RETIRED, (True, True))
    event = (await world.store.events("trips"))[-3]
    assert "no v1 requests for 30m: none since" in str(event.data["shown"])


async def test_it_refuses_until_the_last_client_is_gone() -> None:
    world = Retiring()
    controller = await completed(world)
    assert world.number is not None
    world.number += 1
    world.clock.move((world.number + 1) * 60.0 - world.clock.now())
    asked = Cell(requests=6000, asked_v1=1)
    world.telemetry.feed(
        Tick(number=world.number, start=world.number * 60.0, length=60.0, cells={V2: asked}, sources=frozenset({"c"}))
    )
    with pytest.raises(ConflictError, match="can't be retired yet: no v1 requests for 30m: V1 is still asked for"):
        await controller.retire("ada", "")
    await lived(world, controller, 25, 1.0)
    with pytest.raises(ConflictError, match="of 30m"):
        await controller.retire("ada", "")
    await lived(world, controller, 7, 1.0)
    assert (await controller.retire("ada", "")).state is State.RETIRED


async def test_silence_that_nobody_heard_is_none() -> None:
    world = Retiring()
    controller = await completed(world)
    await lived(world, controller, 1, 1.0, sources=())
    with pytest.raises(ConflictError, match="can't be seen"):
        await controller.retire("ada", "")
    assert not world.proxy.memory.retired


async def test_a_plan_that_does_not_say_so_retires_nothing() -> None:
    world = Retiring(plan=PLAN)
    controller = await completed(world)
    with pytest.raises(ConflictError, match="no `then: retire v1`"):
        await controller.retire("ada", "")


async def test_a_rollout_that_is_not_completed_retires_nothing() -> None:
    world = Retiring()
    await world.store.open()
    controller = world.controller()
    await controller.start()
    with pytest.raises(ConflictError, match="cannot retire a rollout that is running; it must be completed"):
        await controller.retire("ada", "")


async def test_afterwards_nothing_rolls_back() -> None:
    world = Retiring()
    controller = await completed(world)
    await controller.retire("ada", "")
    for verb in (controller.rollback, controller.abort):
        with pytest.raises(ConflictError, match="crossfade resurrect"):
            await verb("ada", "")
    report = await roll_back([FakeRollback(world.proxy)], None, world.clock)
    assert (report.retired, report.complete, report.sentence.split(":")[0]) == (
        True,
        False,
        "nothing can be rolled back",
    )
    await lived(world, controller, 1, 1.0, failures=6000)
    assert (controller.rollout.state, retired(world)) == (State.RETIRED, (True, True))


async def test_a_proxy_that_restarts_and_one_that_forgets_its_split_keep_v1_away() -> None:
    world = Retiring()
    controller = await completed(world)
    await controller.retire("ada", "")
    world.proxy.crash()
    await world.proxy.start()
    assert world.proxy.memory.retired
    world.proxy.memory = ProxyState(generation=world.proxy.memory.generation, retired=True)
    await lived(world, controller, 2, 1.0)
    assert (world.proxy.memory.split.everyone, retired(world)) == (10_000, (True, True))
    survivor = await restarted(world)
    assert (survivor.rollout.state, retired(world)) == (State.RETIRED, (True, True))
    assert all(state.retired for state in world.proxy.history[-4:])


async def test_a_proxy_that_lost_its_files_is_retired_again() -> None:
    """As on a new machine: the history says so."""
    world = Retiring()
    controller = await completed(world)
    await controller.retire("ada", "")
    generation = world.proxy.memory.generation
    world.proxy.memory = world.proxy.file = ProxyState(generation=generation)
    await lived(world, controller, 2, 1.0)
    assert (retired(world), (await world.kinds())[-1]) == ((True, True), "DriftFound")


@pytest.mark.parametrize("step", ["the memory is set", "it is read back", "the file is known to be the last"])
async def test_a_controller_killed_while_the_proxy_is_set_is_finished_by_the_next(step: str) -> None:
    world = Retiring()
    controller = await completed(world)

    async def killed(what: str) -> None:
        if what == step:
            raise Crash

    world.proxy.between = killed
    with pytest.raises(Crash):
        await controller.retire("ada", "")
    world.proxy.between = _at_once
    survivor = await restarted(world)
    assert (survivor.rollout.state, retired(world)) == (State.RETIRED, (True, True))
    assert (await world.kinds()).count("V1Retired") == 1


async def _at_once(_: str) -> None:
    return


async def test_a_controller_killed_between_proxy_and_fact_is_finished_by_the_next() -> None:
    world = Retiring()
    controller = await completed(world)
    append = world.store.append

    async def killed(rollout: str, revision: int, events: Any, **more: Any) -> None:
        if events[-1].kind == "V1Retired":
            raise Crash
        await append(rollout, revision, events, **more)

    world.store.append = killed  # type: ignore[method-assign]
    with pytest.raises(Crash):
        await controller.retire("ada", "")
    world.store.append = append  # type: ignore[method-assign]
    assert (await world.kinds())[-1] == "RetirementStarted"
    survivor = await restarted(world)
    assert (survivor.rollout.state, retired(world)) == (State.RETIRED, (True, True))


@pytest.mark.parametrize("kind", ["RetirementStarted", "V1Retired"])
async def test_a_lost_reply_retires_once(kind: str) -> None:
    world = Retiring()
    controller = await completed(world)
    lose_reply_of(world, kind)
    with pytest.raises(UnreachableError):
        await controller.retire("ada", "")
    await live_on(world, controller, 3, 1.0)
    assert (controller.rollout.state, retired(world)) == (State.RETIRED, (True, True))
    kinds = await world.kinds()
    assert (kinds.count("RetirementStarted"), kinds.count("V1Retired")) == (1, 1)


async def test_a_proxy_that_does_not_answer_is_retired_once_it_does() -> None:
    world = Retiring()
    controller = await completed(world)
    world.proxy.faults.unreachable = True
    with pytest.raises(ProxyUnreachableError):
        await controller.retire("ada", "")
    assert (controller.rollout.state, retired(world)) == (State.RETIRING, (False, False))
    world.proxy.faults.unreachable = False
    await live_on(world, controller, 2, 1.0)
    assert (controller.rollout.state, retired(world)) == (State.RETIRED, (True, True))


@pytest.mark.parametrize("by", ["a person", "the switch itself"])
async def test_what_no_proxy_has_confirmed_can_still_be_rolled_back(by: str) -> None:
    world = Retiring()
    controller = await completed(world)
    world.proxy.faults.refuse = "on purpose"
    with pytest.raises(ProxyRefusedError):
        await controller.retire("ada", "")
    await (controller.rollback("ada", "") if by == "a person" else FakeRollback(world.proxy).rollback())
    world.proxy.faults.refuse = ""
    await live_on(world, controller, 3, 0.0)
    assert (controller.rollout.state, world.share, retired(world)) == (State.ROLLED_BACK, 0, (False, False))
    assert "V1Retired" not in await world.kinds()


async def test_a_switch_thrown_in_the_middle_takes_the_retirement_back() -> None:
    world = Retiring()
    controller = await completed(world)

    async def thrown(what: str) -> None:
        if what == "the memory is set":
            await FakeRollback(world.proxy).rollback()

    world.proxy.between = thrown
    with pytest.raises(StaleGenerationError):
        await controller.retire("ada", "")
    world.proxy.between = _at_once
    await live_on(world, controller, 2, 0.0)
    assert (controller.rollout.state, world.share, retired(world)) == (State.ROLLED_BACK, 0, (False, False))


async def test_a_plan_that_wants_v1_archived_retires_it_only_with_an_archive() -> None:
    last = replace(RETIRES.phases[-1], archives=True)
    world = Retiring(plan=replace(RETIRES, phases=(*RETIRES.phases[:-1], last)))
    controller = await completed(world)
    with pytest.raises(ConflictError, match="wants V1 archived first: crossfade retire --archive"):
        await controller.retire("ada", "")
    assert (controller.rollout.state, retired(world)) == (State.COMPLETED, (False, False))
    await controller.retire("ada", "", archive="9f" * 32)
    assert (await world.store.events("trips"))[-3].data["archive"] == "9f" * 32

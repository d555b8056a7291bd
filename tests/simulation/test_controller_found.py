"""What the fault simulator found, each as the few steps that show it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest
from tests.simulation.test_controller_conflicts import live_on
from tests.simulation.test_controller_faults import PLAN, World, begun, lived, triggers

from crossfade.core.machine import State
from crossfade.engine.apply import wanted_state
from crossfade.engine.journal import Journal
from crossfade.errors import ConflictError, CrossfadeError, UnreachableError
from crossfade.ports import NodeState, StoredEvent
from crossfade.testing.proxy import FakeRollback

Nodes = Sequence[NodeState]


async def test_a_controller_that_never_saw_a_rollback_at_the_proxy_does_not_end_it() -> None:
    """Several restarts later its generation is above the one that the switch had outdated."""
    world = World()
    controller = await begun(world)
    await lived(world, controller, 2, 0.05)
    stale = await world.proxy.observe()
    await FakeRollback(world.proxy).rollback()
    world.proxy.faults.unreachable = True
    for _ in range(3):
        with pytest.raises(CrossfadeError):
            await begun(world)
    world.proxy.faults.unreachable = False
    world.proxy.observe = _answers_once(stale, world.proxy.observe)  # type: ignore[method-assign]
    unseen = await begun(world)
    assert (world.share, unseen.rollout.state, await triggers(world)) == (0, State.ROLLED_BACK, ["proxy"])


def _answers_once(
    stale: Nodes, then: Callable[[], Coroutine[Any, Any, Nodes]]
) -> Callable[[], Coroutine[Any, Any, Nodes]]:
    answers = iter([stale])

    async def observe() -> Nodes:
        return next(answers, None) or await then()

    return observe


async def test_a_controller_that_was_killed_while_a_switch_was_thrown_leaves_nobody_on_v2() -> None:
    world = World()
    controller = await begun(world)

    async def thrown(what: str) -> None:
        if what == "the memory is set":
            await FakeRollback(world.proxy).rollback()
        else:
            raise asyncio.CancelledError

    world.proxy.between = thrown
    with pytest.raises(asyncio.CancelledError):
        await controller.promote("ada", "")
    world.proxy.between = _at_once
    assert world.share == 5000
    survivor = await begun(world)
    await live_on(world, survivor, 2)
    assert (world.share, survivor.rollout.state) == (0, State.ROLLED_BACK)


async def _at_once(_: str) -> None:
    return


async def test_a_controller_that_learns_in_the_middle_of_a_look_that_another_began_writes_nothing() -> None:
    """Its own rollback waited for the store; the conflict says that another one has begun, and then V2 fails."""
    world = World()
    told: list[StoredEvent] = []
    first = await begun(world)
    first.listen(told.append)
    await lived(world, first, 2, 0.05)
    world.store.fail_next(1)
    await first.rollback("ada", "")
    second = await begun(world)
    before = await world.kinds()
    await live_on(world, first, 1, 0.0)
    await first.rollback("bob", "")
    assert (await world.kinds(), wanted_state(PLAN, second.rollout).killed) == (before, True)


async def test_a_journal_that_another_controller_has_taken_over_keeps_nothing_more() -> None:
    world = World()
    controller = await begun(world)
    journal = Journal(world.store, PLAN.name)
    journal.taken_over = 7
    with pytest.raises(ConflictError, match="another controller began at revision 7"):
        await journal.record()
    await journal.load()
    rollout = journal.rollout
    assert (await journal.record_done(), rollout.generation) == (rollout, controller.rollout.generation)


@pytest.mark.parametrize(("verb", "share"), [("promote", 5000), ("retry", 500), ("pause", 500)])
async def test_what_the_store_kept_without_saying_so_is_carried_out_though_nothing_else_is_written(
    verb: str, share: int
) -> None:
    """Nobody asks again, and no write comes that would conflict: the next look asks the store."""
    world, told = World(), list[StoredEvent]()
    controller = await begun(world)
    controller.listen(told.append)
    if verb == "retry":
        await controller.rollback("ada", "")
    await lived(world, controller, 2, world.share / 10_000)
    world.store.lose_reply()
    asked = {"promote": controller.promote, "pause": controller.pause}
    with pytest.raises(UnreachableError):
        await (controller.retry(None, "ada", "") if verb == "retry" else asked[verb]("ada", ""))
    await live_on(world, controller, 2)
    assert (controller.rollout.revision, world.share) == (len(await world.store.events("trips")), share)
    assert (controller.rollout.applied_generation, controller.fenced) == (controller.rollout.generation, None)
    assert len({event.revision for event in told}) == len(told)
    assert {"promote": "PhasePromoted", "retry": "Retried", "pause": "Paused"}[verb] in {event.kind for event in told}

"""What a controller makes of a history that it did not write alone: lost replies, a second controller."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.simulation.test_controller_faults import PLAN, Crash, World, begun, lived

from crossfade.core.evidence.sums import Cell, Tick
from crossfade.core.machine import State
from crossfade.engine.controller import Controller
from crossfade.errors import ConflictError, CrossfadeError, ProxyError, UnreachableError
from crossfade.testing.proxy import FakeRollback

VERBS: dict[str, Callable[[Controller], Awaitable[object]]] = {
    "promote": lambda c: c.promote("ada", ""),
    "pause": lambda c: c.pause("ada", ""),
    "approve": lambda c: c.approve("ada", ""),
}


async def live_on(world: World, controller: Controller, ticks: int, share: float | None = None) -> None:
    """Tick as `run` does: what goes wrong in one look is left to the next."""
    for _ in range(ticks):
        world.tick(world.share / 10_000 if share is None else share)
        try:
            await controller.tick()
        except CrossfadeError:
            continue


def lose_reply_of(world: World, kind: str) -> None:
    """Have the store keep the next event of a kind, and its reply be lost."""
    original, done = world.store.append, False

    async def losing(rollout: str, revision: int, events: Any, **more: Any) -> None:
        nonlocal done
        await original(rollout, revision, events, **more)
        if not done and any(event.kind == kind for event in events):
            done = True
            raise UnreachableError("the reply was lost")

    setattr(world.store, "append", losing)  # noqa: B010 - a method is replaced


async def test_a_promotion_whose_reply_was_lost_is_carried_out_and_judged_by_new_evidence() -> None:
    world = World()
    controller = await begun(world)
    lose_reply_of(world, "PhasePromoted")
    await live_on(world, controller, 65)
    assert (controller.rollout.phase, world.share) == (1, 5000)
    assert controller.seen.requests_v1 + controller.seen.requests_v2 < 10 * 6000
    assert (await world.kinds()).count("PhasePromoted") == 1


@pytest.mark.parametrize("kind", ["RolledBack", "SplitApplied"])
async def test_a_rollback_whose_reply_was_lost_is_recorded_once_and_fences_nobody(kind: str) -> None:
    world = World()
    controller = await begun(world)
    if kind == "SplitApplied":  # the store is one event ahead of us when the rollback comes
        lose_reply_of(world, kind)
        with pytest.raises(UnreachableError):
            await controller.promote("ada", "")
    else:
        await controller.promote("ada", "")
        lose_reply_of(world, kind)
    await controller.rollback("ada", "")
    await live_on(world, controller, 3)
    assert (controller.rollout.state, world.share, controller.fenced) == (State.ROLLED_BACK, 0, None)
    assert (await world.kinds()).count("RolledBack") == 1
    await controller.retry(None, "ada", "")
    assert world.share == 5000


async def test_a_retry_whose_reply_was_lost_is_carried_out_and_judged_by_new_evidence() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 3, 0.05, failures=30)
    lose_reply_of(world, "Retried")
    with pytest.raises(UnreachableError):
        await controller.retry(None, "ada", "fixed")
    with pytest.raises(ConflictError):  # the history has gone on; it is read anew
        await controller.retry(None, "ada", "fixed")
    await live_on(world, controller, 2)
    assert (controller.rollout.state, controller.rollout.attempt, world.share) == (State.RUNNING, 2, 500)
    await live_on(world, controller, 20)
    assert (controller.rollout.state, controller.seen.readings["failure_rate"].k2) == (State.RUNNING, 0)
    assert (await world.kinds()).count("RolledBack") == 1


@pytest.mark.parametrize("verb", VERBS)
async def test_a_verb_whose_reply_was_lost_is_seen_as_done_at_the_next_try(verb: str) -> None:
    world = World()
    controller = await begun(world)
    world.store.lose_reply()
    with pytest.raises(UnreachableError):
        await VERBS[verb](controller)
    revision = len(await world.store.events("trips"))
    with pytest.raises(ConflictError):
        await VERBS[verb](controller)
    assert controller.rollout.revision == revision
    await live_on(world, controller, 3)
    assert controller.rollout.applied_generation == controller.rollout.generation
    assert controller.fenced is None


async def _taken_over(world: World) -> Controller:
    """Return a controller that another one has followed, up to the other's first word to the proxy."""
    first = await begun(world)
    await lived(world, first, 2, 0.05)

    async def crash() -> None:
        raise Crash

    original = world.proxy.start
    setattr(world.proxy, "start", crash)  # noqa: B010 - a method is replaced
    with pytest.raises(Crash):
        await world.controller().start()
    setattr(world.proxy, "start", original)  # noqa: B010
    return first


@pytest.mark.parametrize("verb", VERBS)
async def test_a_controller_that_another_followed_writes_nothing_more(verb: str) -> None:
    world = World()
    first = await _taken_over(world)
    with pytest.raises(ConflictError):
        await VERBS[verb](first)
    before, states = await world.kinds(), len(world.proxy.history)
    with pytest.raises(ConflictError, match="another controller has acted since"):
        await VERBS[verb](first)
    await live_on(world, first, 5)
    assert first.fenced is not None
    assert (await world.kinds(), len(world.proxy.history)) == (before, states)


async def test_two_controllers_end_as_one_and_a_rollback_through_the_old_one_still_works() -> None:
    world = World()
    first = await begun(world)
    second = await begun(world)
    await second.promote("ada", "")
    await live_on(world, first, 3)
    assert first.fenced is not None
    await first.rollback("bob", "through the wrong window")
    assert world.share == 0
    await live_on(world, second, 2)
    assert (second.rollout.state, second.fenced) == (State.ROLLED_BACK, None)
    recorded = [event for event in await world.store.events("trips") if event.kind == "RolledBack"]
    assert [event.data["trigger"] for event in recorded] == ["proxy"]


async def test_an_unwritten_rollback_is_written_after_what_the_store_took_meanwhile() -> None:
    world = World()
    controller = await begun(world)
    world.store.fail_next(1)
    await controller.rollback("ada", "the store is down")
    assert "RolledBack" not in await world.kinds()
    await live_on(world, controller, 2)
    assert (await world.kinds())[-2:] == ["RolledBack", "SplitApplied"]


async def test_a_rollback_that_no_proxy_confirms_says_so_and_stands() -> None:
    world = World()
    controller = await begun(world)
    await controller.promote("ada", "")
    world.proxy.faults.unreachable = True
    with pytest.raises(ProxyError, match="NOT CONFIRMED"):
        await controller.rollback("ada", "")
    assert controller.rollout.state is State.ROLLED_BACK
    world.proxy.faults.unreachable = False
    await live_on(world, controller, 2)
    assert (world.share, (await world.kinds())[-1]) == (0, "SplitApplied")


@pytest.mark.parametrize("part", ["store", "telemetry"])
async def test_a_rollback_by_hand_needs_neither_store_nor_telemetry(part: str) -> None:
    world = World()
    controller = await begun(world)
    await controller.promote("ada", "")
    thing = getattr(world, part)

    def broken(*_: object, **__: object) -> None:
        raise UnreachableError("gone")

    for name in ("append", "save_ticks", "events") if part == "store" else ("closed_ticks", "recent"):
        setattr(thing, name, broken)
    await controller.rollback("ada", "")
    assert (world.share, world.proxy.memory.killed, controller.rollout.state) == (0, True, State.ROLLED_BACK)


async def test_where_both_versions_fail_it_holds_and_never_rolls_back() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 5, 0.05)
    for _ in range(20):
        world.tick(0.05)
        closed = world.telemetry.closed_ticks()[-1]
        cells = {
            arm: Cell(requests=cell.requests, failures=cell.requests // 5, failing_users=set(range(cell.requests // 5)))
            for arm, cell in closed.cells.items()
        }
        bad = Tick(number=closed.number, start=closed.start, length=closed.length, cells=cells, sources=closed.sources)
        world.telemetry._closed.append(bad)
        world.telemetry.recent_tick = bad
        await controller.look_for_gross_breach()
        await controller.tick()
    assert (controller.rollout.state, world.share) == (State.RUNNING, 500)
    assert controller.rollout.held is not None
    assert "PhasePromoted" not in await world.kinds()


async def test_nobody_promotes_past_a_split_that_the_proxy_did_not_confirm() -> None:
    """A rollback made at the proxy meanwhile would outdate the first raise only."""
    world = World()
    controller = await begun(world)
    world.proxy.faults.unreachable = True
    with pytest.raises(CrossfadeError):
        await controller.promote("ada", "")
    world.proxy.faults.unreachable = False
    await FakeRollback(world.proxy).rollback()
    with pytest.raises(ConflictError, match="has not confirmed the split of half"):
        await controller.promote("ada", "")
    await live_on(world, controller, 3)
    assert (world.share, controller.rollout.state) == (0, State.ROLLED_BACK)


async def test_promotions_at_once_are_two_promotions_one_after_the_other() -> None:
    world = World()
    controller = await begun(world)
    await controller.promote("ada", "")
    await controller.promote("bob", "")
    with pytest.raises(ConflictError, match="full is the last phase"):
        await controller.promote("eve", "")
    assert (controller.rollout.phase, world.share) == (len(PLAN.phases) - 1, 10_000)

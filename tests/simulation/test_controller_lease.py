"""Controllers that share a store by a lease: the one that was stopped changes nothing when it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.simulation.test_controller_faults import PLAN, V1, V2, World

from crossfade.core.evidence.sums import Cell, Tick
from crossfade.core.machine import State
from crossfade.engine.controller import Controller, Parts
from crossfade.engine.lease import LeaseKeeper
from crossfade.errors import ConflictError, CrossfadeError, UnreachableError
from crossfade.testing.proxy import FakeRollback

LASTS_S = 10.0
VERBS: dict[str, Callable[[Controller], Awaitable[object]]] = {
    "promote": lambda c: c.promote("ada", ""),
    "pause": lambda c: c.pause("ada", ""),
    "approve": lambda c: c.approve("ada", ""),
    "abort": lambda c: c.abort("ada", ""),
}


class Process:
    """A `serve`: a lease and a controller that acts under it."""

    def __init__(self, world: World, name: str) -> None:
        self.lease = LeaseKeeper(
            world.store, world.clock, rollout="trips", holder=name, address=f"http://{name}", lasts_s=LASTS_S
        )
        parts = Parts(
            store=world.store,
            proxy=world.proxy,
            switch=FakeRollback(world.proxy),
            telemetry=world.telemetry,
            clock=world.clock,
            lease=self.lease,
        )
        self.controller = Controller(PLAN, parts)

    async def lead(self, ended: str = "") -> Controller:
        assert await self.lease.look(ended)
        await self.controller.start()
        return self.controller

    async def live(self, world: World, ticks: int) -> None:
        """Tick and renew as `serve` does: what goes wrong in one look is left to the next."""
        for _ in range(ticks):
            world.tick(world.share / 10_000)
            await self.lease.renew()
            try:
                await self.controller.tick()
            except ConflictError:
                await self.lease.renew()
            except CrossfadeError:
                continue


async def opened() -> tuple[World, Process, Process]:
    world = World()
    await world.store.open()
    return world, Process(world, "a"), Process(world, "b")


async def told(world: World) -> tuple[object, ...]:
    """Return everything that a controller could change."""
    store = world.store
    return (
        list(await store.events("trips")),
        await store.evidence("trips"),
        [kept.tick.number for kept in await store.ticks("trips")],
        len(await store.looks("trips")),
        await store.lease("trips"),
        len(world.proxy.history),
        world.proxy.memory,
    )


async def test_what_each_process_records_says_who_it_was() -> None:
    world, a, b = await opened()
    await a.lead()
    await b.lead(ended="a")
    starts = [event.data["by"] for event in await world.store.events("trips") if event.kind.endswith("Started")]
    assert starts == ["a", "b"]


@pytest.mark.parametrize("verb", [*VERBS, "tick", "gross"])
async def test_a_leader_that_was_stopped_changes_nothing_when_it_goes_on(verb: str) -> None:
    """Not even where it has seen V2 fail grossly before it was stopped."""
    world, a, b = await opened()
    await a.lead()
    await a.live(world, 3)
    assert not await b.lease.look()
    world.clock.move(LASTS_S)
    await b.lead()
    world.tick(0.05)
    before = await told(world)
    if verb == "tick":
        await a.controller.tick()
    elif verb == "gross":
        grossly = Cell(requests=100, failures=90, failing_users=set(range(90)))
        world.telemetry.recent_tick = Tick(number=0, start=0.0, length=1.0, cells={V2: grossly, V1: Cell(requests=100)})
        assert not await a.controller.look_for_gross_breach()
    else:
        with pytest.raises(ConflictError):
            await VERBS[verb](a.controller)
    if verb != "abort":  # puts everybody on V1 before it asks anybody, as a rollback does
        assert await told(world) == before
    await a.lease.renew()
    await a.live(world, 3)
    assert a.controller.fenced is not None
    if verb != "abort":
        assert "b leads at http://b" in a.controller.fenced
        assert await told(world) == before
        await b.live(world, 3)
        assert (b.controller.fenced, b.controller.rollout.state) == (None, State.RUNNING)


CALLS = {"append": 4, "save_ticks": 4, "save_look": 4, "apply": 2, "observe": 6}
STEPS = [(name, nth) for name, count in CALLS.items() for nth in range(count)]


@pytest.mark.parametrize(("name", "nth"), STEPS, ids=[f"{name}-{nth}" for name, nth in STEPS])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_stopped_between_any_two_steps_and_followed_the_history_is_the_others_alone(
    name: str, nth: int, *, after: bool
) -> None:
    """The other one rolls back; whatever the first one was about to do, everybody stays on V1."""
    world, a, b = await opened()
    thing: Any = world.store if hasattr(world.store, name) else world.proxy
    original, seen = getattr(thing, name), 0
    mark: list[int] = []

    async def follow() -> None:
        setattr(thing, name, original)
        assert not await b.lease.look()
        world.clock.move(LASTS_S)
        await b.lead()
        if b.controller.rollout.state is not State.ROLLED_BACK:
            await b.controller.rollback("bob", "")
        mark.append(len(await world.store.events("trips")))

    async def stopped(*arguments: Any, **more: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == nth + 1 and not after:
            await follow()
        result = await original(*arguments, **more)
        if seen == nth + 1 and after:
            await follow()
        return result

    await a.lead()
    setattr(thing, name, stopped)
    for act in (VERBS["promote"], None, VERBS["promote"], None):
        try:
            if act is not None:
                await act(a.controller)
            await a.live(world, 2)
        except CrossfadeError:
            continue
    assert (world.share, world.proxy.memory.killed) == (0, True)
    assert len(await world.store.events("trips")) == mark[0]
    await b.live(world, 3)
    assert (b.controller.rollout.state, b.controller.fenced, world.share) == (State.ROLLED_BACK, None, 0)
    later = (await world.store.events("trips"))[mark[0] :]
    assert [event.kind for event in later if event.kind not in ("SplitApplied", "AlertRaised", "HoldBegan")] == []


@pytest.mark.parametrize("how", ["evidence", "gross", "person"])
async def test_with_its_store_away_a_leader_watches_and_rolls_back_and_never_promotes(how: str) -> None:
    world, a, _ = await opened()
    await a.lead()
    await a.live(world, 3)
    before = await world.kinds()

    def broken(*_: object, **__: object) -> None:
        raise UnreachableError("the store is away")

    names = ("append", "save_ticks", "save_look", "events", "renew", "lease")
    kept = {name: getattr(world.store, name) for name in names}
    for name in names:
        setattr(world.store, name, broken)
    await a.live(world, 5)
    assert a.lease.over is not None
    assert not a.lease.asleep
    with pytest.raises((ConflictError, UnreachableError), match="the store is away"):
        await a.controller.promote("ada", "")
    assert (world.share, a.controller.rollout.state) == (500, State.RUNNING)
    assert "store" in [blind.what for blind in a.controller.seen.blind]
    if how == "person":
        await a.controller.rollback("ada", "")
    elif how == "gross":
        grossly = Cell(requests=100, failures=90, failing_users=set(range(90)))
        world.telemetry.recent_tick = Tick(number=0, start=0.0, length=1.0, cells={V2: grossly, V1: Cell(requests=100)})
        assert await a.controller.look_for_gross_breach()
    else:
        for _ in range(30):
            world.tick(0.05, failures=30)
            await a.lease.renew()
            try:
                await a.controller.tick()
            except CrossfadeError:
                continue
    assert (world.share, world.proxy.memory.killed, a.controller.rollout.state) == (0, True, State.ROLLED_BACK)
    for name in names:
        setattr(world.store, name, kept[name])
    await a.live(world, 3)
    kinds = await world.kinds()
    assert kinds[: len(before)] == before
    assert kinds.count("RolledBack") == 1
    assert a.controller.fenced is None
    assert await a.lease.look()  # its own still


async def test_a_follower_tells_who_leads_and_does_nothing_but_roll_back() -> None:
    world, a, b = await opened()
    await a.lead()
    await a.controller.promote("ada", "")
    assert not await b.lease.look()
    await b.controller.follow(b.lease.leader)
    assert b.controller.rollout == a.controller.rollout
    assert [node.state for node in b.controller.nodes] == [world.proxy.memory]
    before = await told(world)
    for verb in ("promote", "pause", "approve"):
        with pytest.raises(ConflictError, match=r"^a leads trips at http://a$"):
            await VERBS[verb](b.controller)
    await b.controller.tick()
    assert await told(world) == before
    await a.controller.pause("ada", "")
    await b.controller.follow(b.lease.leader)
    assert b.controller.rollout.state is State.PAUSED
    await b.controller.rollback("bob", "through the follower")
    assert (world.share, world.proxy.memory.killed) == (0, True)
    await a.live(world, 2)
    assert (a.controller.rollout.state, a.controller.fenced) == (State.ROLLED_BACK, None)
    assert (await world.kinds()).count("RolledBack") == 1


async def test_a_follower_with_another_plan_is_refused() -> None:
    _, a, b = await opened()
    await a.lead()
    other = Controller(replace(PLAN, digest="two"), b.controller._parts)
    with pytest.raises(ConflictError, match="another version of the plan"):
        await other.follow("a leads")


async def test_what_is_asked_of_a_follower_while_it_takes_over_is_done_after_it_has_begun() -> None:
    world, a, b = await opened()
    await a.lead()
    assert not await b.lease.look()
    await b.controller.follow(b.lease.leader)
    world.clock.move(LASTS_S)
    assert await b.lease.look()
    original, asked = world.store.events, []

    async def meanwhile(*arguments: Any) -> Any:
        setattr(world.store, "events", original)  # noqa: B010 - a method is replaced
        asked.append(asyncio.create_task(b.controller.promote("ada", "")))
        for _ in range(20):
            await asyncio.sleep(0)
        return await original(*arguments)

    setattr(world.store, "events", meanwhile)  # noqa: B010 - a method is replaced
    await b.controller.start()
    await asyncio.gather(*asked)
    kinds = [event.kind for event in await world.store.events("trips")]
    assert kinds[-4:] == ["ControllerStarted", "SplitApplied", "PhasePromoted", "SplitApplied"]


async def test_a_rollback_reaches_a_proxy_that_comes_back_after_the_lease_ran_out_with_the_store_down() -> None:
    world, a, _ = await opened()
    controller = await a.lead()
    world.proxy.faults.unreachable = True
    with pytest.raises(CrossfadeError):
        await controller.rollback("ada", "")
    world.store.fail_next(1000)
    world.clock.move(LASTS_S)
    await a.lease.renew()
    world.proxy.faults.unreachable = False
    assert world.share > 0
    await a.live(world, 2)
    assert (a.lease.leads, world.share, world.proxy.memory.killed) == (False, 0, True)


async def test_the_last_rollback_of_one_who_has_lost_the_lease_is_recorded_and_stops_nobody() -> None:
    """It threw the switch under a generation that it could not record, and would be looked after by nobody."""
    world, a, b = await opened()
    await a.lead()
    await b.lead(ended="a")
    await b.live(world, 3)
    await FakeRollback(world.proxy).rollback(b.controller.rollout.generation + 1)
    await b.live(world, 2)
    assert b.controller.fenced is None
    assert b.controller.rollout.state is State.ROLLED_BACK
    assert world.proxy.memory.generation == b.controller.rollout.generation
    assert (await b.controller.retry(None, "ada", "")).state is State.RUNNING

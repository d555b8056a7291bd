"""The real controller on the shipped fakes and a manual clock: orders, crashes, and what must never happen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.machine import State
from crossfade.core.plan import (
    HOUR,
    Action,
    Api,
    AssignmentRule,
    Comparison,
    Gate,
    GateKind,
    Guardrail,
    Key,
    KeySource,
    Limit,
    Metric,
    MetricKind,
    Phase,
    Plan,
    Upstream,
)
from crossfade.core.split import NOBODY, Split, Version
from crossfade.engine.controller import Controller, Pace, Parts
from crossfade.errors import ConflictError, CrossfadeError, StoreError
from crossfade.ports import NodeState, ProxyState
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

V1, V2 = Arm(Version.V1, "", ""), Arm(Version.V2, "", "")
TICK_S = 60.0


def _phase(name: str, share: int, *gates: Gate) -> Phase:
    return Phase(name=name, split=Split(everyone=share), target=share, soak_s=HOUR, gates=gates)


PLAN = Plan(
    name="trips",
    api=Api(
        entry="/t",
        v1=Upstream(path="/v1/t", upstreams=("127.0.0.1:1",)),
        v2=Upstream(path="/v2/t", upstreams=("127.0.0.1:2",)),
    ),
    assignment=AssignmentRule(user=(Key(KeySource.HEADER, "X-User-Id"),), salt=1, users=100),
    metrics=(
        Metric(
            name="failure_rate",
            kind=MetricKind.FAILURE_RATE,
            target=Limit(comparison=Comparison.LE, value=0.005),
            guard=Guardrail(
                action=Action.ROLLBACK, breach=Limit(comparison=Comparison.GT, value=0.01), worse_than_v1=True
            ),
        ),
    ),
    phases=(
        _phase("canary", 500),
        _phase("half", 5000, Gate(kind=GateKind.STABLE, text="stable for 30m", for_s=HOUR / 2)),
        _phase("full", 10_000, Gate(kind=GateKind.APPROVED, text="approved by a person")),
    ),
    digest="one",
)


class Crash(BaseException):
    """The process is killed: nothing may catch it."""


@dataclass
class World:
    """What outlives a controller."""

    clock: ManualClock = field(default_factory=ManualClock)
    proxy: FakeProxy = field(default_factory=FakeProxy)
    store: MemoryStore = field(default_factory=MemoryStore)
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    number: int | None = None

    def controller(self) -> Controller:
        parts = Parts(
            store=self.store,
            proxy=self.proxy,
            switch=FakeRollback(self.proxy),
            telemetry=self.telemetry,
            clock=self.clock,
        )
        return Controller(PLAN, parts, pace=Pace())

    def tick(self, share: float, *, failures: int = 0, sources: Sequence[str] = ("c",), n: int = 6000) -> None:
        """Close one tick of healthy traffic, V2 failing `failures` times."""
        if self.number is None:
            self.number = int(self.clock.now() // TICK_S)
        self.number += 1
        second = round(n * share)
        cells = {
            V1: Cell(requests=n - second),
            V2: Cell(requests=second, failures=failures, failing_users=set(range(failures))),
        }
        self.clock.move(max(0.0, (self.number + 1) * TICK_S - self.clock.now()))
        start = self.number * TICK_S
        seen = cells if sources else {}
        self.telemetry.feed(
            Tick(number=self.number, start=start, length=TICK_S, cells=seen, sources=frozenset(sources))
        )

    async def kinds(self) -> list[str]:
        return [event.kind for event in await self.store.events("trips")]

    @property
    def share(self) -> int:
        return 0 if self.proxy.memory.killed else self.proxy.memory.split.everyone


async def begun(world: World) -> Controller:
    await world.store.open()
    controller = world.controller()
    await controller.start()
    return controller


async def lived(world: World, controller: Controller, ticks: int, share: float, **more: Any) -> None:
    for _ in range(ticks):
        world.tick(share, **more)
        await controller.tick()


async def test_a_fresh_rollout_starts_in_its_first_phase_and_a_later_controller_goes_on() -> None:
    world = World()
    first = await begun(world)
    await first.promote("ada", "")
    second = await begun(world)
    assert (second.rollout.phase, world.share) == (1, 5000)
    assert (await world.kinds()).count("ControllerStarted") == 1
    assert second.rollout.generation > first.rollout.generation


async def test_a_promotion_records_the_intent_sets_the_proxy_and_records_the_fact() -> None:
    world = World()
    controller = await begun(world)
    steps: list[str] = []
    _note(world.store, "append", steps, lambda _, __, events: [event.kind for event in events])
    _note(world.proxy, "apply", steps, lambda wanted: [f"proxy {wanted.split.everyone}"])
    await controller.promote("ada", "")
    assert steps == ["PhasePromoted", "proxy 5000", "SplitApplied"]


async def test_a_rollback_sets_the_proxy_before_it_is_recorded() -> None:
    world = World()
    controller = await begun(world)
    await controller.promote("ada", "")
    steps: list[str] = []
    _note(world.store, "append", steps, lambda _, __, events: [f"{e.kind} at {world.share}" for e in events])
    await controller.rollback("ada", "")
    assert steps == ["RolledBack at 0"]


def _note(thing: object, name: str, steps: list[str], words: Callable[..., list[str]]) -> None:
    original = getattr(thing, name)

    async def noted(*arguments: Any, **more: Any) -> Any:
        steps.extend(words(*arguments))
        return await original(*arguments, **more)

    setattr(thing, name, noted)


async def test_healthy_traffic_is_promoted_by_evidence_and_completed_after_approval() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 70, 0.05)
    assert controller.rollout.phase == 1
    await lived(world, controller, 70, 0.5)
    assert controller.rollout.phase == 2
    await lived(world, controller, 70, 1.0)
    assert "RolloutCompleted" not in await world.kinds()
    await controller.approve("ada", "")
    await lived(world, controller, 2, 1.0)
    assert controller.rollout.state is State.COMPLETED


async def test_no_telemetry_holds_with_an_alert_and_never_promotes() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 100, 0.05, sources=())
    assert (controller.rollout.phase, controller.rollout.held_kind) == (0, "BLIND")
    assert "blind" in controller.rollout.alerts
    assert world.share == 500


async def test_a_v2_that_fails_more_is_rolled_back_and_stays_so() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 5, 0.05)
    await lived(world, controller, 3, 0.05, failures=30)
    assert controller.rollout.state is State.ROLLED_BACK
    await lived(world, controller, 5, 0.0)
    assert world.share == 0


async def test_a_retry_begins_new_evidence() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 3, 0.05, failures=30)
    assert controller.rollout.state is State.ROLLED_BACK
    await controller.retry(None, "ada", "fixed")
    await lived(world, controller, 20, 0.05)
    assert (controller.rollout.state, controller.rollout.attempt, world.share) == (State.RUNNING, 2, 500)


def _gross() -> Tick:
    cells = {V1: Cell(requests=500), V2: Cell(requests=30, failures=30, failing_users=set(range(30)))}
    return Tick(number=1, start=0, length=1.0, cells=cells, sources=frozenset({"c"}))


async def test_a_gross_breach_rolls_back_at_one_look_without_tick_or_store() -> None:
    world = World()
    controller = await begun(world)
    world.telemetry.recent_tick = _gross()
    world.store.fail_next(1000)
    assert await controller.look_for_gross_breach()
    assert (world.share, world.proxy.memory.killed) == (0, True)
    world.store.heal()
    world.telemetry.recent_tick = None
    world.tick(0.0)
    await controller.tick()
    assert (await world.kinds())[-2:] == ["RolledBack", "SplitApplied"]


async def test_a_gross_breach_does_not_wait_for_a_store_that_hangs() -> None:
    world = World()
    controller = await begun(world)
    hanging = asyncio.Event()

    async def hang(*_: object, **__: object) -> None:
        await hanging.wait()

    setattr(world.store, "append", hang)  # noqa: B010 - a method is replaced
    world.telemetry.recent_tick = _gross()
    look = asyncio.create_task(controller.look_for_gross_breach())
    for _ in range(20):
        await asyncio.sleep(0)
    assert (world.share, look.done()) == (0, False)
    look.cancel()


async def test_a_rollback_during_an_apply_wins() -> None:
    world = World()
    controller = await begun(world)
    original = world.proxy.apply

    async def slow(wanted: ProxyState) -> Sequence[NodeState]:
        if not wanted.killed:
            await controller.rollback("ada", "in between")
        return await original(wanted)

    setattr(world.proxy, "apply", slow)  # noqa: B010 - a method is replaced
    with pytest.raises(CrossfadeError):
        await controller.promote("bob", "")
    await lived(world, controller, 3, 0.0)
    assert (world.share, controller.rollout.state) == (0, State.ROLLED_BACK)
    assert controller.fenced is None


async def test_a_rollback_at_the_proxy_itself_is_found_and_recorded() -> None:
    world = World()
    controller = await begun(world)
    await controller.promote("ada", "")
    await FakeRollback(world.proxy).rollback()
    world.tick(0.0)
    await controller.tick()
    event = next(e for e in await world.store.events("trips") if e.kind == "RolledBack")
    assert (event.data["trigger"], controller.rollout.state, world.share) == ("proxy", State.ROLLED_BACK, 0)
    await controller.retry(None, "ada", "")
    assert world.share == 5000


async def test_a_proxy_that_forgot_is_set_again_and_the_history_says_so() -> None:
    world = World()
    controller = await begun(world)
    await controller.promote("ada", "")
    world.proxy.memory = ProxyState(generation=controller.rollout.generation, split=NOBODY)
    world.tick(0.5)
    await controller.tick()
    assert (world.share, (await world.kinds())[-1]) == (5000, "DriftFound")


async def test_a_later_generation_at_the_proxy_fences_this_controller() -> None:
    world = World()
    controller = await begun(world)
    world.proxy.memory = ProxyState(generation=99, split=NOBODY)
    world.tick(0.05)
    await controller.tick()
    assert controller.fenced is not None
    with pytest.raises(ConflictError, match="another controller"):
        await controller.promote("ada", "")
    assert world.share == 0


async def test_a_proxy_that_refuses_leaves_an_intent_that_the_next_tick_carries_out() -> None:
    world = World()
    controller = await begun(world)
    world.proxy.faults.refuse = "not now"
    with pytest.raises(CrossfadeError):
        await controller.promote("ada", "")
    assert world.share == 500
    world.proxy.faults.refuse = ""
    world.tick(0.05)
    await controller.tick()
    assert (world.share, (await world.kinds())[-1]) == (5000, "SplitApplied")


async def test_an_abort_ends_on_v1_and_nothing_runs_again() -> None:
    world = World()
    controller = await begun(world)
    await controller.promote("ada", "")
    await controller.abort("ada", "enough")
    assert (controller.rollout.state, world.share, world.proxy.memory.killed) == (State.ABORTED, 0, True)
    with pytest.raises(ConflictError, match="cannot retry a rollout that is aborted"):
        await controller.retry(None, "ada", "")


async def test_a_store_that_fails_holds_and_keeps_the_ticks_for_later() -> None:
    world = World()
    controller = await begun(world)
    world.store.fail_next(1000, StoreError("disk full"))
    world.tick(0.05)
    with pytest.raises(StoreError):
        await controller.tick()  # the hold itself can't be recorded
    assert controller.decision is not None
    assert "disk full" in controller.decision.reason
    world.store.heal()
    await lived(world, controller, 2, 0.05)
    kept = await world.store.evidence("trips")
    assert kept is not None
    assert kept[0] == world.number


async def triggers(world: World) -> list[object]:
    """Return by what each recorded rollback was caused."""
    return [event.data["trigger"] for event in await world.store.events("trips") if event.kind == "RolledBack"]


async def test_a_retry_that_the_proxy_refused_is_carried_out_by_the_next_tick() -> None:
    world = World()
    controller = await begun(world)
    await controller.rollback("ada", "")
    await lived(world, controller, 2, 0.0)
    world.proxy.faults.refuse = "not now"
    with pytest.raises(CrossfadeError):
        await controller.retry(None, "ada", "fixed")
    await lived(world, controller, 2, 0.0)
    assert (controller.rollout.state, world.share) == (State.RUNNING, 0)
    world.proxy.faults.refuse = ""
    await lived(world, controller, 2, 0.05)
    assert (controller.rollout.state, world.share, await triggers(world)) == (State.RUNNING, 500, ["person"])


async def test_a_rollback_at_the_proxy_beats_a_retry_that_is_not_applied_yet() -> None:
    world = World()
    controller = await begun(world)
    await controller.rollback("ada", "")
    await lived(world, controller, 2, 0.0)
    world.proxy.faults.refuse = "not now"
    with pytest.raises(CrossfadeError):
        await controller.retry(None, "ada", "fixed")
    await FakeRollback(world.proxy).rollback()
    world.proxy.faults.refuse = ""
    await lived(world, controller, 3, 0.0)
    assert (controller.rollout.state, world.share) == (State.ROLLED_BACK, 0)
    assert await triggers(world) == ["person", "proxy"]


async def test_a_retry_right_after_somebody_elses_rollback_at_the_proxy_is_refused_once() -> None:
    world = World()
    controller = await begun(world)
    await controller.rollback("ada", "")
    await FakeRollback(world.proxy).rollback()
    with pytest.raises(ConflictError, match="somebody has just rolled back at the proxy itself"):
        await controller.retry(None, "bob", "")
    assert await triggers(world) == ["person", "proxy"]
    await controller.retry(None, "bob", "")
    assert (controller.rollout.state, world.share) == (State.RUNNING, 500)


async def test_a_retry_waits_until_the_proxy_has_confirmed_the_rollback() -> None:
    world = World()
    controller = await begun(world)
    world.proxy.faults.unreachable = True
    with pytest.raises(CrossfadeError):
        await controller.rollback("ada", "")
    with pytest.raises(CrossfadeError):
        await controller.retry(None, "ada", "")
    assert controller.rollout.state is State.ROLLED_BACK
    world.proxy.faults.unreachable = False
    await controller.retry(None, "ada", "")
    assert (controller.rollout.state, world.share) == (State.RUNNING, 500)


async def test_a_rollback_by_a_person_during_a_tick_that_decides_the_same_is_recorded_once() -> None:
    world = World()
    controller = await begun(world)
    await controller.promote("ada", "")
    original = world.store.save_look

    async def meanwhile(*arguments: Any, **more: Any) -> None:
        if not await triggers(world):
            await controller.rollback("bob", "mine")
        await original(*arguments, **more)

    setattr(world.store, "save_look", meanwhile)  # noqa: B010 - a method is replaced
    await lived(world, controller, 4, 0.5, failures=2500)
    assert (await triggers(world), world.share) == (["person"], 0)


async def test_a_gross_breach_seen_while_a_rollback_is_being_made_is_not_another_one() -> None:
    world = World()
    controller = await begun(world)
    begin, done = asyncio.Event(), asyncio.Event()
    original = world.store.append

    async def slow(*arguments: Any, **more: Any) -> None:
        begin.set()
        await done.wait()
        await original(*arguments, **more)

    setattr(world.store, "append", slow)  # noqa: B010 - a method is replaced
    world.telemetry.recent_tick = _gross()
    by_hand = asyncio.create_task(controller.rollback("ada", ""))
    await begin.wait()
    assert not await controller.look_for_gross_breach()
    done.set()
    await by_hand
    assert await triggers(world) == ["person"]


async def test_rollbacks_that_the_store_never_took_are_found_at_the_proxy_by_the_next_controller() -> None:
    world = World()
    controller = await begun(world)
    await controller.promote("ada", "")
    world.store.fail_next(2)
    await controller.rollback("ada", "one")
    await controller.rollback("ada", "two")
    world.store.heal()
    survivor = await begun(world)
    await lived(world, survivor, 2, 0.0)
    assert (survivor.rollout.state, survivor.fenced, world.share) == (State.ROLLED_BACK, None, 0)
    await survivor.retry(None, "ada", "")
    await lived(world, survivor, 2, 0.5)
    assert (survivor.rollout.state, world.share) == (State.RUNNING, 5000)


async def test_telemetry_that_raises_anything_ends_nothing_and_becomes_blindness() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 2, 0.05)
    original = world.telemetry.closed_ticks

    def broken() -> Sequence[Tick]:
        raise ValueError("a line that nobody thought of")

    setattr(world.telemetry, "closed_ticks", broken)  # noqa: B010 - a method is replaced
    await lived(world, controller, 10, 0.05)
    assert (controller.rollout.state, controller.rollout.held_kind) == (State.RUNNING, "BLIND")
    setattr(world.telemetry, "closed_ticks", original)  # noqa: B010
    await lived(world, controller, 5, 0.05)
    assert controller.rollout.held is None


async def test_whatever_one_look_meets_the_next_ones_are_taken() -> None:
    world = World()
    controller = await begun(world)
    looks = 0

    def broken(**_: object) -> Tick:
        nonlocal looks
        looks += 1
        raise ValueError("not thought of")

    setattr(world.telemetry, "recent", broken)  # noqa: B010 - a method is replaced
    setattr(world.telemetry, "closed_ticks", broken)  # noqa: B010
    life = asyncio.create_task(controller.run())
    for _ in range(10):
        controller.wake.set()
        world.clock.move(1.0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert (looks > 6, life.done()) == (True, False)
    life.cancel()


CALLS = [
    ("store", "append"),
    ("store", "save_ticks"),
    ("store", "save_look"),
    ("proxy", "apply"),
    ("proxy", "observe"),
]


@pytest.mark.parametrize(("part", "name"), CALLS, ids=[f"{part}.{name}" for part, name in CALLS])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(12))
async def test_killed_between_any_two_steps_the_next_controller_goes_on(
    part: str, name: str, nth: int, *, after: bool
) -> None:
    """V2's share is never above what the history has promoted to, and stays 0 after a rollback."""
    world = World()
    thing = getattr(world, part)
    original, seen = getattr(thing, name), 0

    async def deadly(*arguments: Any, **more: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == nth + 1 and not after:
            raise Crash
        result = await original(*arguments, **more)
        if seen == nth + 1:
            raise Crash
        return result

    setattr(thing, name, deadly)
    try:
        controller = await begun(world)
        await controller.promote("ada", "")
        await lived(world, controller, 2, 0.5)
        await controller.rollback("ada", "")
        await lived(world, controller, 2, 0.0)
        await controller.retry(None, "ada", "")
        await lived(world, controller, 2, 0.5)
    except Crash:
        pass
    setattr(thing, name, original)
    await _never_above_the_history(world)
    survivor = await begun(world)
    await lived(world, survivor, 2, world.share / 10_000)
    await _never_above_the_history(world)
    assert survivor.fenced is None
    assert len(await triggers(world)) <= 1
    assert world.share == survivor.rollout.wanted_split(PLAN).everyone
    assert survivor.rollout.applied_generation == survivor.rollout.generation


async def _never_above_the_history(world: World) -> None:
    shares = [PLAN.phases[0].split.everyone]
    for event in await world.store.events("trips"):
        if event.kind == "PhasePromoted":
            phase = event.data["phase"]
            assert isinstance(phase, int)
            shares.append(PLAN.phases[phase].split.everyone)
    assert max((s.split.everyone for s in world.proxy.history), default=0) <= max(shares)

"""The ledger of clients beside the evidence: kept with its ticks, and whoever acts next goes on with it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from crossfade.app.planfile import load_plan
from crossfade.core.clients.ledger import Calls, Client, Ledger
from crossfade.core.clients.sketch import Sketch
from crossfade.core.evidence.sums import Tick
from crossfade.core.plan import ClientsRule
from crossfade.core.split import Version
from crossfade.engine import controller as module
from crossfade.engine.controller import Controller, Pace, Parts
from crossfade.errors import UnreachableError
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

PLAN = replace(load_plan(Path(__file__).parents[2] / "plans" / "trips-v2.yaml"), clients=ClientsRule())


@dataclass
class World:
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: ManualClock = field(default_factory=ManualClock)
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    proxy: FakeProxy = field(default_factory=lambda: FakeProxy(cohorts=tuple(PLAN.assignment.cohorts)))
    truth: Ledger = field(default_factory=Ledger)
    ticks: int = 0

    def controller(self) -> Controller:
        switch = FakeRollback(self.proxy)
        parts = Parts(store=self.store, proxy=self.proxy, switch=switch, telemetry=self.telemetry, clock=self.clock)
        return Controller(PLAN, parts, pace=Pace())

    async def tick(self, *, watched: bool = True) -> None:
        """Let ten minutes pass; the clients of a tick depend on its number."""
        start = self.clock.now()
        await self.clock.advance(600)
        self.ticks += 1
        calls = Calls({Client(f"c{self.ticks % 7}"): [1, 0, 0, 0], Client("v2"): [0, 0, 0, 5]})
        sources = frozenset({"c"}) if watched else frozenset[str]()
        self.telemetry.feed(
            Tick(number=int(start // 600), start=start, length=600, cells={}, sources=sources, calls=calls)
        )
        self.truth.absorb(start, 600, calls if watched else None)


async def test_whoever_acts_next_goes_on_with_the_ledger() -> None:
    world = World()
    await world.store.open()
    for _ in range(5):
        controller = world.controller()
        await controller.start()
        for _ in range(3):
            await world.tick(watched=world.ticks != 7)
            await controller.tick()
        assert controller.ledger is not None
        assert controller.ledger.dump() == world.truth.dump()
        assert await world.store.ledger(PLAN.name) == world.truth.dump()


async def test_what_the_store_did_not_take_is_in_the_ledger_that_it_takes_later() -> None:
    world = World()
    await world.store.open()
    controller = world.controller()
    await controller.start()
    await world.tick()
    world.store.fail_next(100)
    with contextlib.suppress(UnreachableError):
        await controller.tick()
    world.store.heal()
    assert await world.store.ledger(PLAN.name) is None
    await world.tick()
    world.store.lose_reply()
    await controller.tick()
    assert await world.store.ledger(PLAN.name) == world.truth.dump()


async def test_ticks_that_evidence_passes_over_are_in_the_ledger() -> None:
    """A retry begins the evidence anew; clients have called all the same."""
    world = World()
    await world.store.open()
    controller = world.controller()
    await controller.start()
    await controller.rollback("ada", "")
    await world.tick()
    await controller.retry(None, "ada", "")
    await world.tick()
    await controller.tick()
    assert await world.store.ledger(PLAN.name) == world.truth.dump()


async def test_a_damaged_ledger_begins_anew_and_nothing_else_does(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    await world.store.open()
    controller = world.controller()
    await controller.start()
    await world.tick()
    await controller.tick()
    world.store._ledgers[PLAN.name] = b"gone"
    second = world.controller()
    await second.start()
    assert "the ledger of clients begins anew" in caplog.text
    assert second.ledger is not None
    assert len(second.ledger) == 0
    assert second.last_tick == controller.last_tick


async def test_a_large_ledger_is_kept_from_time_to_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FEW", 1)
    monkeypatch.setattr(module, "_LEDGER_EVERY_S", 1000.0)
    world = World()
    await world.store.open()
    controller = world.controller()
    await controller.start()
    kept = []
    for _ in range(5):
        await world.tick()
        await controller.tick()
        kept.append(await world.store.ledger(PLAN.name) == world.truth.dump())
    assert kept == [True, False, True, False, True]


async def test_whoever_acts_next_goes_on_with_the_users_of_the_phase() -> None:
    """A restart in the middle of a phase forgets nobody; who is seen on both sides of it counts once."""
    world = World()
    await world.store.open()
    for begin in (0, 20, 40):
        controller = world.controller()
        await controller.start()
        start = world.clock.now()
        await world.clock.advance(600)
        seen = Sketch()
        seen.add(np.arange(begin, begin + 30, dtype=np.uint64))
        number = int(start // 600)
        users = {(Version.V1, ""): seen}
        world.telemetry.feed(
            Tick(number=number, start=start, length=600, cells={}, sources=frozenset({"c"}), users=users)
        )
        await controller.tick()
        assert controller.population.seen(controller.rollout).v1 == begin + 30
    follower = world.controller()
    await follower.follow("another leads")
    assert follower.population.seen(follower.rollout).v1 == 70


async def test_users_of_a_phase_that_cannot_be_read_are_counted_anew(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    await world.store.open()
    await world.controller().start()
    world.store._populations[PLAN.name] = b"{"
    controller = world.controller()
    await controller.start()
    assert controller.population.seen(controller.rollout).v1 is None
    assert "counted anew" in caplog.text

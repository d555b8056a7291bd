"""Brownouts with the real controller on the shipped fakes: the calendar is kept, stopped and survived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime

import pytest
from tests.simulation.test_controller_faults import PLAN, World, lived

from crossfade.core.clients.register import Registered
from crossfade.core.plan import Brownout, Deprecation, Key, KeySource, Plan
from crossfade.engine.controller import Controller, Pace, Parts
from crossfade.errors import ConflictError, StoreError, UnreachableError, UsageError
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeRollback

BEGIN = int(ManualClock().now()) + 600


def planned(*brownouts: Brownout) -> Plan:
    return replace(PLAN, deprecation=Deprecation(since=0, successor="/v2/t", brownouts=brownouts))


FIRST = Brownout(name="first", at=BEGIN, until=BEGIN + 300, share=5000)
SECOND = Brownout(name="second", at=BEGIN + 1200, until=BEGIN + 1500, share=10_000)


@dataclass
class Browning(World):
    plan: Plan = field(default_factory=lambda: planned(FIRST, SECOND))

    def controller(self) -> Controller:
        parts = Parts(
            store=self.store,
            proxy=self.proxy,
            switch=FakeRollback(self.proxy),
            telemetry=self.telemetry,
            clock=self.clock,
        )
        return Controller(self.plan, parts, pace=Pace())

    def until(self) -> int | None:
        """When the brownout ends that the proxy carries out."""
        return self.proxy.memory.brownout.until if self.proxy.memory.brownout else None


async def begun(world: Browning) -> Controller:
    await world.store.open()
    controller = world.controller()
    await controller.start()
    return controller


async def test_the_calendar_is_kept() -> None:
    world = Browning()
    controller = await begun(world)
    seen = []
    for _ in range(38):
        await lived(world, controller, 1, 0.05)
        seen.append((world.until(), world.proxy.memory.v1_headers.get("Brownout", "").count("@")))
    assert list(dict.fromkeys(seen)) == [(None, 4), (FIRST.until, 4), (None, 2), (SECOND.until, 2), (None, 0)]
    kinds = [kind for kind in await world.kinds() if "Brownout" in kind]
    assert kinds == ["BrownoutStarted", "BrownoutEnded"] * 2
    assert controller.rollout.applied_generation == controller.rollout.generation


async def test_one_command_stops_it_at_once_and_for_good() -> None:
    world = Browning()
    controller = await begun(world)
    await lived(world, controller, 11, 0.05)
    assert world.until() == FIRST.until
    with pytest.raises(UsageError, match="the plan has first, second"):
        await controller.stop_brownout("third", "ada", "")
    await controller.stop_brownout("", "ada", "support is flooded")
    assert world.until() is None
    with pytest.raises(ConflictError, match="call it off: second"):
        await controller.stop_brownout("", "ada", "")
    with pytest.raises(ConflictError, match="first is over"):
        await controller.stop_brownout("first", "ada", "")
    await lived(world, controller, 2, 0.05)
    assert world.until() is None
    await controller.stop_brownout("second", "ada", "")
    assert "Brownout" not in world.proxy.memory.v1_headers
    await lived(world, controller, 20, 0.05)
    assert world.until() is None


async def test_a_store_that_is_down_does_not_keep_it_going() -> None:
    world = Browning()
    controller = await begun(world)
    await lived(world, controller, 11, 0.05)
    world.store.fail_next(100)
    with pytest.raises(UnreachableError, match="on purpose"):
        await controller.stop_brownout("", "ada", "")
    assert world.until() is None
    world.store.heal()
    await lived(world, controller, 2, 0.05)
    assert (world.until(), (await world.kinds()).count("BrownoutEnded")) == (None, 1)


async def test_a_rollback_ends_it_and_is_not_hindered() -> None:
    world = Browning()
    controller = await begun(world)
    await lived(world, controller, 11, 0.05)
    await controller.rollback("ada", "")
    assert world.proxy.memory.killed
    await lived(world, controller, 1, 0.0)
    assert (world.until(), world.proxy.memory.killed) == (None, True)
    await controller.retry(None, "ada", "")
    await lived(world, controller, 1, 0.05)
    assert (world.until(), world.share) == (None, 500)


async def test_a_controller_that_comes_in_the_middle_goes_on_with_it_and_a_late_one_does_not_begin_it() -> None:
    world = Browning()
    controller = await begun(world)
    await lived(world, controller, 11, 0.05)
    later = world.controller()
    await later.start()
    assert world.until() == FIRST.until
    await lived(world, later, 1, 0.05)
    assert (world.until(), (await world.kinds()).count("BrownoutStarted")) == (FIRST.until, 1)
    world.clock.move(3600)
    world.number = None
    last = world.controller()
    await last.start()
    await lived(world, last, 1, 0.05)
    assert world.until() is None
    assert [kind for kind in await world.kinds() if "Brownout" in kind][-2:] == ["BrownoutEnded", "BrownoutEnded"]


async def test_a_proxy_that_refuses_it_is_asked_again() -> None:
    world = Browning()
    controller = await begun(world)
    await lived(world, controller, 9, 0.05)
    world.proxy.faults.refuse = "no"
    await lived(world, controller, 1, 0.05)
    assert world.until() is None
    world.proxy.faults.refuse = ""
    await lived(world, controller, 1, 0.05)
    assert world.until() == FIRST.until


class TestExemptions:
    @staticmethod
    def world() -> Browning:
        plan = planned(FIRST, SECOND)
        named = replace(plan.assignment, client=Key(KeySource.HEADER, "X-Client-Id"))
        return Browning(plan=replace(plan, assignment=named))

    @staticmethod
    async def exempt(world: Browning, *clients: str, until: str = "2099-12-31") -> None:
        entries = [Registered(client=client, exempt_until=date.fromisoformat(until)) for client in clients]
        await world.store.save_register("trips", entries)

    async def test_the_register_says_who_is_exempt(self) -> None:
        world = self.world()
        await world.store.open()
        await self.exempt(world, "acme")
        controller = await begun(world)
        assert world.proxy.memory.exempt == {"acme"}
        await self.exempt(world, "zeta")
        await lived(world, controller, 1, 0.05)
        assert world.proxy.memory.exempt == {"acme", "zeta"}
        await world.store.save_register("trips", (), ["acme", "zeta"])
        await lived(world, controller, 1, 0.05)
        assert world.proxy.memory.exempt == set()
        assert "DriftFound" not in await world.kinds()

    async def test_an_exemption_ends_with_its_day(self) -> None:
        world = self.world()
        await world.store.open()
        today = datetime.fromtimestamp(world.clock.now(), UTC).date().isoformat()
        await self.exempt(world, "acme", until=today)
        controller = await begun(world)
        await lived(world, controller, 1, 0.05)
        assert world.proxy.memory.exempt == {"acme"}
        world.clock.move(86_400)
        world.number = None
        await lived(world, controller, 1, 0.05)
        assert world.proxy.memory.exempt == set()

    async def test_while_the_register_cant_be_read_nothing_is_taken_away_and_no_brownout_begins(self) -> None:
        world = self.world()
        await world.store.open()
        await self.exempt(world, "acme")
        controller = await begun(world)
        read = world.store.register

        async def damaged(rollout: str) -> Mapping[str, Registered]:
            raise StoreError(f"the register of {rollout} is damaged")

        world.store.register = damaged  # type: ignore[method-assign]
        await lived(world, controller, 12, 0.05)
        assert (world.proxy.memory.exempt, world.until(), controller.around.exempted) == (
            frozenset({"acme"}),
            None,
            None,
        )
        later = world.controller()
        await later.start()
        assert world.proxy.memory.exempt == {"acme"}
        world.store.register = read  # type: ignore[method-assign]
        await lived(world, later, 1, 0.05)
        assert (world.proxy.memory.exempt, world.until()) == (frozenset({"acme"}), FIRST.until)
        assert later.around.exempted == "acme until 2099-12-31"

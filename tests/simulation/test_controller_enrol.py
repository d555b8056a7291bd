"""Joining and leaving cohorts with the real controller on the shipped fakes: at once, kept, and told to followers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from tests.simulation.test_controller_faults import PLAN, World, lived

from crossfade.core.plan import Plan
from crossfade.core.split import Split, Version, bucket_of
from crossfade.engine.controller import Controller, Pace, Parts
from crossfade.errors import ConflictError, ProxyUnreachableError, StoreError, UnreachableError
from crossfade.testing.proxy import FakeProxy, FakeRollback

RULE = replace(PLAN.assignment, cohorts={"beta": frozenset({"bob"})})
BETA = replace(
    PLAN,
    assignment=RULE,
    phases=(replace(PLAN.phases[0], split=Split(everyone=0, cohorts={"beta": 5000})), *PLAN.phases[1:]),
)
ZOE, YAN = [user for user in (f"u{n}" for n in range(40)) if 500 <= bucket_of(user, RULE.salt) < 5000][:2]


@dataclass
class Enrolling(World):
    plan: Plan = BETA
    proxy: FakeProxy = field(default_factory=lambda: FakeProxy(cohorts=("beta",), rule=RULE))

    def controller(self) -> Controller:
        parts = Parts(
            store=self.store,
            proxy=self.proxy,
            switch=FakeRollback(self.proxy),
            telemetry=self.telemetry,
            clock=self.clock,
        )
        return Controller(self.plan, parts, pace=Pace())

    def versions(self, *users: str) -> list[Version]:
        return [self.proxy.version_of(user) for user in users]


async def begun(world: Enrolling) -> Controller:
    await world.store.open()
    controller = world.controller()
    await controller.start()
    return controller


V1, V2 = Version.V1, Version.V2


async def test_a_user_joins_and_leaves_at_once_without_a_look() -> None:
    world = Enrolling()
    controller = await begun(world)
    assert world.versions(ZOE, YAN) == [V1, V1]
    await controller.enrol("beta", {ZOE: 1.0, YAN: 1.0}, "ada", "by form")
    assert world.versions(ZOE, YAN) == [V2, V2]
    await controller.leave([ZOE], 2.0, "ada", "")
    assert world.versions(ZOE, YAN) == [V1, V2]
    assert [kind for kind in await world.kinds() if "Enrol" in kind] == ["EnrolmentsChanged"] * 2


async def test_the_history_names_no_user() -> None:
    world = Enrolling()
    controller = await begun(world)
    await controller.enrol("beta", {ZOE: 1.0}, "ada", "by form")
    told = [event.data for event in await world.store.events("trips") if event.kind == "EnrolmentsChanged"]
    assert told == [{"cohort": "beta", "joined": 1, "left": 0, "by": "ada", "reason": "by form"}]


async def test_what_users_said_survives_the_controller_and_the_proxy() -> None:
    world = Enrolling()
    controller = await begun(world)
    await controller.enrol("beta", {ZOE: 1.0, YAN: 1.0}, "ada", "")
    await controller.leave([YAN, "bob"], 2.0, "ada", "")
    world.proxy = FakeProxy(cohorts=("beta",), rule=RULE)
    later = world.controller()
    await later.start()
    assert world.versions(ZOE, YAN) == [V2, V1]
    assert [later.members.cohort_of(user) for user in (ZOE, YAN, "bob")] == ["beta", None, None]


async def test_a_follower_knows_with_its_next_look_at_the_history() -> None:
    world = Enrolling()
    controller = await begun(world)
    follower = world.controller()
    await follower.follow("another leads")
    for users, expected in (({ZOE: 1.0}, "beta"), ({}, None)):
        if users:
            await controller.enrol("beta", users, "ada", "")
        else:
            await controller.leave([ZOE], 2.0, "ada", "")
        await follower.follow("another leads")
        assert follower.members.cohort_of(ZOE) == expected == controller.members.cohort_of(ZOE)
    with pytest.raises(ConflictError, match="another leads"):
        await follower.enrol("beta", {ZOE: 1.0}, "ada", "")


async def test_after_a_rollback_joining_moves_nobody() -> None:
    world = Enrolling()
    controller = await begun(world)
    await controller.enrol("beta", {ZOE: 1.0}, "ada", "")
    await controller.rollback("ada", "")
    await controller.enrol("beta", {YAN: 1.0}, "ada", "")
    assert world.versions(ZOE, YAN) == [V1, V1]
    await controller.retry(None, "ada", "")
    assert world.versions(ZOE, YAN) == [V2, V2]


async def test_a_user_leaves_though_the_store_is_down_and_that_is_kept_later() -> None:
    world = Enrolling()
    controller = await begun(world)
    await controller.enrol("beta", {ZOE: 1.0}, "ada", "")
    world.store.fail_next(4)
    with pytest.raises(StoreError, match="no members any more at the proxy, but that is not kept"):
        await controller.leave([ZOE], 2.0, "ada", "")
    assert world.versions(ZOE) == [V1]
    world.store.heal()
    await lived(world, controller, 2, 0.0)
    assert await world.store.enrolments("trips") == {}


async def test_nobody_joins_while_the_store_is_down() -> None:
    world = Enrolling()
    controller = await begun(world)
    world.store.fail_next(1)
    with pytest.raises(UnreachableError):
        await controller.enrol("beta", {ZOE: 1.0}, "ada", "")
    assert (world.versions(ZOE), controller.members.cohort_of(ZOE)) == ([V1], None)


async def test_a_proxy_that_did_not_hear_it_is_told_again() -> None:
    world = Enrolling()
    controller = await begun(world)
    await controller.enrol("beta", {ZOE: 1.0}, "ada", "")
    world.proxy.faults.unreachable = True
    with pytest.raises(ProxyUnreachableError):
        await controller.leave([ZOE], 2.0, "ada", "")
    world.proxy.faults.unreachable = False
    assert await world.store.enrolments("trips") == {}
    await lived(world, controller, 2, 0.0)
    assert world.versions(ZOE) == [V1]

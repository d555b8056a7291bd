"""Two-person approval, as people ask the controller for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crossfade.core.machine import State
from crossfade.core.plan import Gate, GateKind
from crossfade.engine.controller import Controller, Parts
from crossfade.errors import ConflictError
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.simulator.plan import PLAN
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

TWO = Gate(kind=GateKind.APPROVED, text="approved by 2 people", people=2)


@pytest.fixture
async def controller() -> Controller:
    """A rollout whose first phase two people approve leaving."""
    first, *others = PLAN.phases
    plan = replace(PLAN, phases=(replace(first, gates=(*first.gates, TWO)), *others))
    store, proxy = MemoryStore(), FakeProxy(cohorts=("beta",))
    await store.open()
    parts = Parts(store=store, proxy=proxy, switch=FakeRollback(proxy), telemetry=FakeTelemetry(), clock=ManualClock())
    controller = Controller(plan, parts)
    await controller.start()
    return controller


async def test_nobody_approves_twice_under_whatever_name(controller: Controller) -> None:
    await controller.approve("ada", "", person="local")
    with pytest.raises(ConflictError, match="ada has approved leaving canary; somebody else must as well"):
        await controller.approve("bob", "", person="local")
    rollout = await controller.approve("bob", "", person="bob")
    assert rollout.approvals == {"local": "ada", "bob": "bob"}


async def test_nobody_alone_promotes_past_an_approval_by_two(controller: Controller) -> None:
    with pytest.raises(ConflictError, match=r"besides ada 1 more must, with: crossfade approve simulated"):
        await controller.promote("ada", "hurry")
    await controller.approve("ada", "")
    with pytest.raises(ConflictError, match="besides ada 1 more must"):
        await controller.promote("ada", "hurry")
    rollout = await controller.promote("bob", "it has been seen by two")
    assert (rollout.phase, rollout.approvals) == (1, {})
    assert (await controller.promote("ada", "the next phase wants nobody's")).phase == 2


async def test_a_rollback_wants_nobodys_approval(controller: Controller) -> None:
    assert State.ROLLED_BACK is (await controller.rollback("ada", "")).state

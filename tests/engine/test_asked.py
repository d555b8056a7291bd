"""What a person asks for on the strength of what they have seen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from crossfade.app.planfile import load_plan
from crossfade.engine.controller import Controller, Parts
from crossfade.errors import ChangedError
from crossfade.ports import StoredEvent
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

PLAN = load_plan(Path(__file__).parents[2] / "plans" / "trips-v2.yaml")


@pytest.fixture
async def controller() -> Controller:
    proxy, store = FakeProxy(cohorts=tuple(PLAN.assignment.cohorts)), MemoryStore()
    await store.open()
    parts = Parts(store=store, proxy=proxy, switch=FakeRollback(proxy), telemetry=FakeTelemetry(), clock=ManualClock())
    controller = Controller(PLAN, parts)
    await controller.start()
    return controller


async def test_of_two_who_have_seen_the_same_one_promotes(controller: Controller) -> None:
    seen = controller.rollout.revision
    asked = [controller.promote(who, "", revision=seen) for who in ("ada", "bob")]
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(result) for result in results][1:] == [ChangedError]
    assert PLAN.phases[controller.rollout.phase].name == "canary"


@pytest.mark.parametrize("verb", ["promote", "pause", "resume", "approve", "rollback", "abort"])
async def test_what_was_asked_of_another_revision_changes_nothing(controller: Controller, verb: str) -> None:
    before = controller.rollout
    with pytest.raises(ChangedError, match=f"is at revision {before.revision}, not 1; look again"):
        await getattr(controller, verb)("ada", "", revision=1)
    with pytest.raises(ChangedError):
        await controller.retry(None, "ada", "", revision=1)
    assert controller.rollout is before


async def test_a_listener_hears_of_what_is_recorded_from_then_on(controller: Controller) -> None:
    heard: list[StoredEvent] = []
    controller.listen(heard.append)
    await controller.pause("ada", "lunch")
    assert [(event.kind, event.revision) for event in heard] == [("Paused", controller.rollout.revision)]

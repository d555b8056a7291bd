"""Posting outcomes over the control API: what is taken, what is refused with its place, and that readings follow."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.app.serving import TOKEN, served_with, serving

from crossfade.adapters.outcomes import PostedOutcomes, UserBehaviour
from crossfade.app.planfile import load_plan
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.plan import (
    Action,
    Behaviour,
    Comparison,
    Counted,
    Guardrail,
    Limit,
    Metric,
    MetricKind,
    UserEvent,
)
from crossfade.core.split import Version
from crossfade.engine.controller import Controller, Parts
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

TRIPS = load_plan(Path(__file__).parents[2] / "plans" / "trips-v2.yaml")
SATISFACTION = Metric(
    name="satisfaction",
    kind=MetricKind.OUTCOME,
    outcome="satisfaction",
    target=Limit(comparison=Comparison.GE, value=0.9),
    guard=Guardrail(action=Action.HOLD, breach=Limit(comparison=Comparison.LT, value=0.85)),
)
OTHERS = tuple(metric for metric in TRIPS.metrics if metric.kind is not MetricKind.OUTCOME)
CONVERSION = Metric(
    name="conversion",
    kind=MetricKind.OUTCOME,
    outcome="conversion",
    behaviour=Behaviour(of="search", counted=Counted.REACHES, event="book", within_s=60),
)
BASKET = Metric(
    name="basket",
    kind=MetricKind.VALUE,
    outcome="basket",
    behaviour=Behaviour(of="search", counted=Counted.SUMS, event="buy", within_s=60, most=500),
)
EVENTS = (
    *(UserEvent(name=name) for name in ("search", "book", "buy")),
    UserEvent(name="home", method="GET", paths=("/",)),
)
PLAN = replace(TRIPS, metrics=(*OTHERS, SATISFACTION, CONVERSION, BASKET), events=EVENTS)


@dataclass
class Desk:
    """The API, its controller, and a world in which nothing else happens."""

    session: aiohttp.ClientSession
    url: str
    controller: Controller
    telemetry: FakeTelemetry
    clock: ManualClock
    ticks: int = 0

    async def post(self, *outcomes: object, **more: object) -> tuple[int, Any]:
        async with self.session.post(self.url, json={"outcomes": outcomes, **more}) as answer:
            return answer.status, await answer.json()

    async def tick(self) -> None:
        """Let ten seconds pass in which some requests came, and the controller look."""
        number = int(self.clock.now() // 10)
        cells = {arm: Cell(requests=20) for arm in (Arm(Version.V1, "", ""), Arm(Version.V2, "", "internal"))}
        await self.clock.advance(10)
        tick = Tick(number=number, start=number * 10.0, length=10.0, cells=cells, sources=frozenset({"a"}))
        self.telemetry.feed(tick)
        await self.controller.tick()


def of(user: str, value: float = 1.0, **more: object) -> dict[str, object]:
    return {"metric": "satisfaction", "user": user, "value": value, **more}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    clock, store, telemetry = ManualClock(), MemoryStore(), FakeTelemetry()
    proxy = FakeProxy(cohorts=tuple(PLAN.assignment.cohorts))
    await store.open()
    outcomes = PostedOutcomes(PLAN, tmp_path, key=b"k", tick_s=10)
    behaviour = UserBehaviour(PLAN, tmp_path / "events", key=b"k")
    parts = Parts(
        store=store,
        proxy=proxy,
        switch=FakeRollback(proxy),
        telemetry=telemetry,
        clock=clock,
        sources=(outcomes, behaviour),
    )
    controller = Controller(PLAN, parts)
    behaviour.assigned = lambda: (controller.rollout, controller.members)
    await behaviour.start()
    await controller.start()
    served = served_with(controller, store, telemetry, clock, tmp_path, outcomes=outcomes, behaviour=behaviour)
    async with (
        serving(served) as url,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
    ):
        yield Desk(session, f"{url}/api/v1/rollouts/trips-v2/outcomes", controller, telemetry, clock)


async def test_what_is_posted_is_read_in_the_next_look(desk: Desk) -> None:
    staff = sorted(PLAN.assignment.cohorts["internal"])[:5]
    await desk.tick()
    assert desk.controller.seen.readings["satisfaction"].guard == "BLIND"
    assert await desk.post(*(of(user, 0.5) for user in staff), of("u1", 1), of("u1", 0)) == (
        200,
        {"taken": 6, "repeated": 1, "outdated": 0},
    )
    await desk.tick()
    reading = desk.controller.seen.readings["satisfaction"]
    assert (reading.v2, reading.n2) == (0.5, 5)
    assert reading.sentence.startswith("satisfaction: V2 50 %")


async def test_a_batch_with_a_mistake_is_refused_whole_and_can_be_posted_again(desk: Desk) -> None:
    status, problem = await desk.post(of("u1"), of("u2") | {"metric": "conversion"})
    assert (status, problem["status"]) == (422, 422)
    assert problem["detail"] == (
        "outcomes.1.metric: 'conversion' is no posted outcome of the plan; it has satisfaction"
    )
    assert await desk.post(of("u1"), of("u2")) == (200, {"taken": 2, "repeated": 0, "outdated": 0})


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (of("u1", 1.5), "outcomes.1.value"),
        (of("u1", -0.1), "outcomes.1.value"),
        (of("u1") | {"value": "1"}, "outcomes.1.value"),
        (of("u1") | {"value": True}, "outcomes.1.value"),
        (of("u1") | {"value": None}, "outcomes.1.value"),
        (of(""), "outcomes.1.user"),
        (of("  "), "outcomes.1.user"),
        (of("u" * 513), "outcomes.1.user"),
        (of("u1") | {"user": 7}, "outcomes.1.user"),
        (of("u1", at="yesterday"), "outcomes.1.at"),
        (of("u1", at="2026-01-01T00:00:00"), "outcomes.1.at"),
        (of("u1", at="2126-01-01T00:00:00Z"), "outcomes.1.at"),
        (of("u1", score=1), "outcomes.1.score"),
        ({"user": "u1", "value": 1}, "outcomes.1.metric"),
        (of("u1", event="book"), "outcomes.1.event"),
        ({"user": "u1", "event": "home"}, "outcomes.1.event"),
        ({"user": "u1", "event": "buy", "value": 3}, "outcomes.1.id"),
        ({"user": "u1", "event": "book", "value": -1}, "outcomes.1.value"),
        ({"user": "u1", "event": "book", "value": 1e13}, "outcomes.1.value"),
        ({"user": " ", "event": "book"}, "outcomes.1.user"),
        ("u1", "outcomes.1"),
    ],
)
async def test_a_mistake_is_told_at_its_place(desk: Desk, entry: object, field: str) -> None:
    status, problem = await desk.post(of("u0"), entry)
    assert status == 422
    assert f"{field}: " in problem["detail"]
    assert await desk.post(of("u0")) == (200, {"taken": 1, "repeated": 0, "outdated": 0})


async def test_batches_have_bounds(desk: Desk) -> None:
    assert (await desk.post())[0] == 422
    assert (await desk.post(*(of(f"u{n}") for n in range(1001))))[0] == 422
    assert await desk.post(*(of(f"u{n}") for n in range(1000))) == (200, {"taken": 1000, "repeated": 0, "outdated": 0})
    assert (await desk.post(of("u1"), more=1))[0] == 422


async def test_a_time_of_an_earlier_phase_is_outdated(desk: Desk) -> None:
    now = desk.clock.now()
    early, just_now = (datetime.fromtimestamp(at, tz=UTC).isoformat() for at in (now - 3600, now))
    assert await desk.post(of("u1", at=early), of("u2", at=just_now, region="eu", id="7")) == (
        200,
        {"taken": 1, "repeated": 0, "outdated": 1},
    )


async def test_posting_wants_the_token(desk: Desk) -> None:
    async with desk.session.post(desk.url, json={}, headers={"Authorization": "Bearer no"}) as answer:
        assert answer.status == 401


async def test_a_controller_that_another_has_followed_takes_nothing(desk: Desk) -> None:
    desk.controller.fenced = "another controller has acted since"
    status, problem = await desk.post(of("u1"))
    assert (status, problem["detail"]) == (409, "another controller has acted since")
    desk.controller.fenced = None
    assert (await desk.post(of("u1")))[1]["taken"] == 1


async def test_a_source_that_fails_does_not_stop_the_controller(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostedOutcomes, "add_to", lambda self, tick: 1 / 0)
    await desk.tick()
    assert desk.controller.seen.requests_v1 == 20


async def test_what_users_do_becomes_conversion_and_value(desk: Desk) -> None:
    staff = sorted(PLAN.assignment.cohorts["internal"])[:4]
    await desk.tick()
    searched = [{"event": "search", "user": user} for user in staff]
    done = [{"event": "book", "user": staff[0]}, {"event": "buy", "user": staff[1], "value": 80, "id": "order-1"}]
    assert await desk.post(*searched, *done, of("u1")) == (200, {"taken": 7, "repeated": 0, "outdated": 0})
    assert await desk.post(*searched, *done) == (200, {"taken": 5, "repeated": 1, "outdated": 0})
    for _ in range(14):
        await desk.tick()
    readings = desk.controller.seen.readings
    assert (readings["conversion"].v2, readings["conversion"].n2) == (0.25, 4)
    assert readings["conversion"].sentence.startswith("conversion: V2 25 %, 1 of 4 users' windows")
    assert (round(readings["basket"].v2 or 0, 3), readings["basket"].n2) == (20.0, 4)
    assert readings["basket"].sentence.startswith("basket: V2 20.00, 4 users' windows; V2 between 0.")

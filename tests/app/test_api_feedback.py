"""Feedback over the control API: what is kept and counted for whom, what is refused, and how a user is forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fastapi import HTTPException
from tests.app.serving import TOKEN, served_with, serving

from crossfade.adapters.outcomes import PostedOutcomes
from crossfade.app.planfile import load_plan
from crossfade.app.web.feedback import PER_MINUTE, PER_USER_MINUTE, Flood
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.feedback import COMPLAINT_MAX, HEARD, PER_USER_DAY
from crossfade.core.gates import checklist
from crossfade.core.plan import DAY, Comparison, FeedbackRules, Gate, GateKind, Limit, Metric, MetricKind
from crossfade.core.split import Version, assign
from crossfade.engine.controller import Controller, Parts
from crossfade.errors import StoreError
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

TRIPS = load_plan(Path(__file__).parents[2] / "plans" / "trips-v2.yaml")
FEWER = Gate(
    kind=GateKind.LIMIT,
    text="complaints < 5",
    metric="complaints",
    limit=Limit(comparison=Comparison.LT, value=5),
)
HALF = next(phase for phase in TRIPS.phases if phase.target == 5000)
PLAN = replace(
    TRIPS,
    metrics=(
        *(metric for metric in TRIPS.metrics if metric.name not in ("complaints", "satisfaction")),
        Metric(name="complaints", kind=MetricKind.COMPLAINTS, outcome=HEARD),
        Metric(name="satisfaction", kind=MetricKind.OUTCOME, outcome="satisfaction"),
        Metric(name="dry", kind=MetricKind.OUTCOME, outcome="satisfaction.weather"),
        Metric(name="cross", kind=MetricKind.OUTCOME, outcome="complained.weather"),
    ),
    phases=(replace(HALF, gates=(FEWER,), own_gates=(FEWER,)),),
    feedback=FeedbackRules(topics=("weather", "prices"), ask=0.5),
)
USERS = [f"u{number:04d}" for number in range(1, 60)]


@dataclass
class Desk:
    """The API, its controller, and a world in which nothing else happens."""

    session: aiohttp.ClientSession
    url: str
    controller: Controller
    telemetry: FakeTelemetry
    clock: ManualClock
    store: MemoryStore

    async def give(self, user: str, **more: object) -> tuple[int, Any]:
        async with self.session.post(f"{self.url}/feedback", json={"user": user, **more}) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> Any:
        async with self.session.get(f"{self.url}/{path}") as answer:
            assert answer.status == 200, await answer.text()
            return await answer.json()

    async def whether(self, user: str) -> bool:
        async with self.session.post(f"{self.url}/feedback/ask", json={"user": user}) as answer:
            return bool((await answer.json())["ask"])

    async def tick(self) -> None:
        """Let ten seconds pass in which some requests came, and the controller look."""
        number = int(self.clock.now() // 10)
        cells = {Arm(version, "", ""): Cell(requests=20) for version in Version}
        await self.clock.advance(10)
        tick = Tick(number=number, start=number * 10.0, length=10.0, cells=cells, sources=frozenset({"a"}))
        self.telemetry.feed(tick)
        await self.controller.tick()

    def on(self, version: Version) -> list[str]:
        """Return the users whom the plan has on a version."""
        rollout, salt = self.controller.rollout, PLAN.assignment.salt
        split = rollout.wanted_split(PLAN)
        return [user for user in USERS if assign(user, salt=salt, split=split, cohort=None).version is version]

    def gate(self) -> tuple[str, str]:
        assert self.controller.seen is not None
        around = self.controller.around
        found = checklist(PLAN, self.controller.rollout, self.controller.seen, around, self.clock.now())
        (gate,) = (one for one in found if one.kind is GateKind.LIMIT)
        return gate.verdict.value, gate.evidence


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    clock, store, telemetry = ManualClock(), MemoryStore(), FakeTelemetry()
    proxy = FakeProxy(cohorts=tuple(PLAN.assignment.cohorts))
    await store.open()
    outcomes = PostedOutcomes(PLAN, tmp_path, key=b"k", tick_s=10)
    parts = Parts(
        store=store, proxy=proxy, switch=FakeRollback(proxy), telemetry=telemetry, clock=clock, sources=(outcomes,)
    )
    controller = Controller(PLAN, parts)
    await controller.start()
    served = served_with(controller, store, telemetry, clock, tmp_path, outcomes=outcomes)
    async with (
        serving(served) as url,
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
    ):
        yield Desk(session, f"{url}/api/v1/rollouts/trips-v2", controller, telemetry, clock, store)


async def test_complaints_count_for_the_version_that_the_user_had(desk: Desk) -> None:
    """Five of V2's users close the gate, any number of V1's do not; a user who complains twice a day is one."""
    await desk.tick()
    assert desk.gate() == ("BLIND", "nobody on V2 has given feedback yet")
    for user in desk.on(Version.V1)[:9]:
        assert await desk.give(user, complaint="I want the old one", rating=1) == (200, {"fate": "taken"})
    await desk.tick()
    assert desk.gate()[0] == "BLIND"
    second = desk.on(Version.V2)
    assert await desk.give(second[9], happy=True) == (200, {"fate": "taken"})
    for user in second[:4]:
        assert (await desk.give(user, complaint="wrong weather", topic="weather"))[0] == 200
    assert await desk.give(second[0], complaint="and prices", topic="prices", rating=2) == (200, {"fate": "taken"})
    await desk.tick()
    assert desk.gate() == ("PASS", "4, wanted < 5; 5 users' days with feedback")
    await desk.give(second[4], complaint="wrong weather")
    await desk.tick()
    assert desk.gate()[0] == "INCONCLUSIVE"
    assert desk.controller.seen is not None
    assert desk.controller.seen.readings["complaints"].sentence == (
        "complaints: 5 of V2's 6 users' days with feedback, 9 of V1's 9"
    )
    satisfied = desk.controller.seen.readings["satisfaction"]
    assert (satisfied.v2, satisfied.n2, satisfied.v1, satisfied.n1) == (0.5, 2, 0.0, 9)
    sums = {(one["version"], one["topic"]): one["complaints"] for one in await desk.get("feedback/sums")}
    assert sums == {("v1", ""): 9, ("v2", ""): 1, ("v2", "prices"): 1, ("v2", "weather"): 4}


async def test_the_same_thing_said_again_is_kept_and_counted_once(desk: Desk) -> None:
    (user, other) = desk.on(Version.V2)[:2]
    for fate in ("taken", "repeated"):
        assert await desk.give(user, complaint="no", id="a7") == (200, {"fate": fate})
        assert await desk.give(other, rating=3, complaint=" no\r\n") == (200, {"fate": fate})
    assert await desk.give(other, rating=3, complaint="no") == (200, {"fate": "repeated"})
    assert len((await desk.get("feedback"))["items"]) == 2


async def test_a_topic_counts_for_itself_where_the_plan_has_a_metric_of_it(desk: Desk) -> None:
    users = desk.on(Version.V2)
    for user, rating, topic, complaint in (
        *((user, 5, "weather", "") for user in users[:3]),
        (users[3], 1, "weather", "wet"),
        (users[4], None, "weather", "cold"),
        (users[5], 1, "prices", "dear"),
        (users[6], 5, "", ""),
    ):
        await desk.give(user, topic=topic, complaint=complaint, **({} if rating is None else {"rating": rating}))
    await desk.tick()
    await desk.tick()
    readings = desk.controller.seen.readings
    found = {name: (readings[name].n2, round(readings[name].v2 or 0, 3)) for name in ("satisfaction", "dry", "cross")}
    assert found == {"satisfaction": (6, 0.667), "dry": (4, 0.75), "cross": (5, 0.4)}


async def test_an_id_is_of_its_user(desk: Desk) -> None:
    for user in desk.on(Version.V2)[:2]:
        assert await desk.give(user, complaint=f"no, says {user}", id="1\x00") == (200, {"fate": "taken"})
    assert len((await desk.get("feedback"))["items"]) == 2
    assert all("\x00" not in one.key for _, one in await desk.store.feedback("trips-v2"))  # PostgreSQL refuses it


async def test_what_the_store_could_not_keep_is_given_again(desk: Desk) -> None:
    user = desk.on(Version.V2)[0]
    desk.store.fail_next(error=StoreError("the disk is full"))
    status, problem = await desk.give(user, complaint="no")
    assert (status, problem["detail"]) == (503, "the disk is full")
    assert await desk.give(user, complaint="no") == (200, {"fate": "taken"})


TEXTS = [
    "\N{PILE OF POO} \N{FAMILY}",
    "\u05e9\u05dc\u05d5\u05dd \u200f(\u05de\u05d6\u05d2)",
    "<script>alert(1)</script> & 'quotes' \"double\"",
    '=HYPERLINK("http://x")',
    "two\nlines\tand a tab",
]


@pytest.mark.parametrize("text", TEXTS)
async def test_any_text_comes_back_as_it_was_said(desk: Desk, text: str) -> None:
    assert await desk.give("u1", complaint=text) == (200, {"fate": "taken"})
    assert (await desk.get("feedback"))["items"][0]["complaint"] == text


async def test_what_is_no_text_is_left_out(desk: Desk) -> None:
    assert (await desk.give("u1", complaint="a\x00b\x1b[31mc\u202egnp.exe"))[0] == 200
    assert (await desk.get("feedback"))["items"][0]["complaint"] == "ab[31mcgnp.exe"


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"user": "u1"}, "rating: is missing"),
        ({"user": "u1", "complaint": " \x00 "}, "rating: is missing"),
        ({"user": "u1", "rating": 0}, "rating"),
        ({"user": "u1", "rating": 6}, "rating"),
        ({"user": "u1", "rating": 4.5}, "rating"),
        ({"user": "u1", "rating": "5"}, "rating"),
        ({"user": "u1", "rating": True}, "rating"),
        ({"user": "u1", "happy": "yes"}, "happy"),
        ({"user": "u1", "happy": True, "rating": 5}, "happy"),
        ({"user": "", "rating": 5}, "user"),
        ({"user": "  ", "rating": 5}, "user"),
        ({"user": "u" * 513, "rating": 5}, "user"),
        (
            {"user": "u1", "rating": 5, "topic": "hotels"},
            "topic: 'hotels' is none of the plan's; it has weather, prices",
        ),
        ({"user": "u1", "rating": 5, "at": "2126-01-01T00:00:00Z"}, "at: lies in the future"),
        ({"user": "u1", "rating": 5, "at": "2026-01-01T00:00:00"}, "at"),
        ({"user": "u1", "complaint": "x" * (COMPLAINT_MAX + 1)}, "complaint"),
        ({"user": "u1", "complaint": 7}, "complaint"),
        ({"user": "u1", "rating": 5, "score": 1}, "score"),
    ],
)
async def test_a_mistake_is_told_at_its_place(desk: Desk, said: dict[str, object], field: str) -> None:
    async with desk.session.post(f"{desk.url}/feedback", json=said) as answer:
        problem = await answer.json()
    assert answer.status == 422
    assert field in problem["detail"]
    assert (await desk.get("feedback"))["items"] == []


async def test_a_body_of_a_megabyte_is_refused(desk: Desk) -> None:
    status, _ = await desk.give("u1", complaint="x" * 1_000_000)
    assert status in (413, 422)


async def test_a_time_of_an_earlier_phase_counts_for_no_version(desk: Desk) -> None:
    user = desk.on(Version.V2)[0]
    ancient = datetime.fromtimestamp(1.0, UTC).isoformat()
    assert await desk.give(user, complaint="long ago", at=ancient) == (200, {"fate": "outdated"})
    await desk.tick()
    assert desk.gate()[0] == "BLIND"
    assert (await desk.get("feedback"))["items"][0]["version"] == ""


async def test_what_is_too_old_to_count_is_said_to_be_outdated(desk: Desk) -> None:
    user = desk.on(Version.V2)[0]
    await desk.clock.advance(5 * DAY)
    old, new = (datetime.fromtimestamp(desk.clock.now() - days * DAY, UTC).isoformat() for days in (4, 1))
    assert await desk.give(user, complaint="old", at=old) == (200, {"fate": "outdated"})
    assert await desk.give(user, complaint="new", at=new) == (200, {"fate": "taken"})
    await desk.tick()
    await desk.tick()
    assert desk.gate() == ("PASS", "1, wanted < 5; 1 users' days with feedback")


async def test_no_user_takes_the_room_of_others() -> None:
    clock = ManualClock()
    flood = Flood(clock.monotonic)

    def taken(user: str, times: int, rollout: str = "r") -> int:
        count = 0
        for _ in range(times):
            with suppress(HTTPException):
                flood.take(rollout, user)
                count += 1
        return count

    assert taken("u", PER_MINUTE) == PER_USER_MINUTE
    assert sum(taken(f"u{number}", 1) for number in range(PER_MINUTE)) == PER_MINUTE - PER_USER_MINUTE
    assert taken("u", 1, "s") == 1
    await clock.advance(60)
    assert taken("u", 1) == 1


async def test_who_tries_too_often_is_told_when_to_come_again(desk: Desk) -> None:
    found = [(await desk.give("u1", rating=5))[0] for _ in range(2 * PER_USER_MINUTE + 1)]  # a minute may begin between
    assert (found[:PER_USER_MINUTE], 429 in found) == ([200] * PER_USER_MINUTE, True)


async def test_who_says_too_much_is_told_when_to_come_again(desk: Desk) -> None:
    for number in range(PER_USER_DAY):
        assert (await desk.give("u1", complaint=f"and {number}"))[0] == 200
    status, problem = await desk.give("u1", complaint="and more")
    assert (status, f"{PER_USER_DAY} things within a day" in problem["detail"]) == (429, True)
    assert (await desk.give("u2", complaint="and I"))[0] == 200


async def test_pages_hold_everything_once_newest_first(desk: Desk) -> None:
    for number in range(7):
        await desk.give(f"u{number}", rating=1 + number % 5, topic="weather" if number % 2 else "")
    page = await desk.get("feedback?limit=3")
    found = [one["number"] for one in page["items"]]
    while page["next"]:
        async with desk.session.get(desk.url.partition("/api/")[0] + page["next"]) as answer:
            page = await answer.json()
        found += [one["number"] for one in page["items"]]
    assert found == [7, 6, 5, 4, 3, 2, 1]
    assert len((await desk.get("feedback?topic=weather"))["items"]) == 3
    both = [len((await desk.get(f"feedback?version={version}"))["items"]) for version in ("v1", "v2")]
    assert (sum(both), min(both) > 0) == (7, True)


async def test_a_user_can_be_forgotten_and_no_key_is_kept(desk: Desk) -> None:
    await desk.give("ann@example.com", complaint="mine")
    await desk.give("u2", complaint="another's")
    assert "ann@" not in str(await desk.get("feedback"))
    async with desk.session.delete(f"{desk.url}/feedback", params={"user": "ann@example.com"}) as answer:
        assert (answer.status, await answer.json()) == (200, {"forgotten": 1})
    assert [one["complaint"] for one in (await desk.get("feedback"))["items"]] == ["another's"]


async def test_about_the_plans_share_is_asked_and_each_once_a_phase(desk: Desk) -> None:
    many = [f"somebody-{number}" for number in range(300)]
    asked = [user for user in many if await desk.whether(user)]
    assert 110 < len(asked) < 190
    assert not any([await desk.whether(user) for user in many])


async def test_who_has_said_something_is_not_asked(desk: Desk) -> None:
    for number in range(40):
        await desk.give(f"happy-{number}", rating=5)
    assert not any([await desk.whether(f"happy-{number}") for number in range(40)])


async def test_a_controller_that_follows_takes_nothing(desk: Desk) -> None:
    desk.controller.fenced = "another controller has acted since"
    assert (await desk.give("u1", rating=5))[0] == 409


async def test_giving_and_reading_want_an_operator(desk: Desk) -> None:
    async with aiohttp.ClientSession() as stranger:
        for method, path in (("POST", "feedback"), ("GET", "feedback"), ("DELETE", "feedback?user=u1")):
            async with stranger.request(method, f"{desk.url}/{path}", json={"user": "u1", "rating": 5}) as answer:
                assert answer.status == 401, path

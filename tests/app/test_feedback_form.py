"""The feedback form: who gets in, what it takes, and what its page may do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest
from tests.app.serving import TOKEN, served_with, serving

from crossfade.adapters.outcomes import PostedOutcomes
from crossfade.app.formkey import FormKey
from crossfade.app.planfile import load_plan
from crossfade.app.web.form import opened, sealed
from crossfade.core.feedback import Feedback
from crossfade.core.plan import FeedbackRules
from crossfade.core.split import user_hash
from crossfade.engine.controller import Controller, Parts
from crossfade.errors import StoreError
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

TRIPS = load_plan(Path(__file__).parents[2] / "plans" / "trips-v2.yaml")
PLAN = replace(TRIPS, feedback=FeedbackRules(topics=("weather", "<i>"), framed_by=("https://www.example.com",)))
FORM = "application/x-www-form-urlencoded"


@dataclass
class Desk:
    session: aiohttp.ClientSession
    url: str
    store: MemoryStore
    wall: ManualClock

    async def link(self, user: str, **more: object) -> str:
        path = f"{self.url}/api/v1/rollouts/trips-v2/feedback/links"
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self.session.post(path, json={"user": user, **more}, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return self.url + str((await answer.json())["path"])

    async def said(self) -> list[Feedback]:
        return [one for _, one in await self.store.feedback("trips-v2")]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    clock, wall, store, telemetry = ManualClock(), ManualClock(), MemoryStore(), FakeTelemetry()
    proxy = FakeProxy(cohorts=tuple(PLAN.assignment.cohorts))
    await store.open()
    outcomes = PostedOutcomes(PLAN, tmp_path, key=b"k", tick_s=10)
    parts = Parts(
        store=store, proxy=proxy, switch=FakeRollback(proxy), telemetry=telemetry, clock=clock, sources=(outcomes,)
    )
    controller = Controller(PLAN, parts)
    await controller.start()
    served = served_with(controller, store, telemetry, clock, tmp_path, outcomes=outcomes, wall=wall)
    async with serving(served) as url, aiohttp.ClientSession() as session:
        yield Desk(session, url, store, wall)


async def test_a_user_says_something_without_script_or_login(desk: Desk) -> None:
    link = await desk.link("u\u00e9 0042")
    async with desk.session.get(link) as answer:
        page = await answer.text()
        policy = answer.headers["Content-Security-Policy"]
    assert (answer.status, "script" in page.lower()) == (200, False)
    assert "&lt;i&gt;" in page
    assert "default-src 'none'" in policy
    assert "frame-ancestors https://www.example.com" in policy
    fields = {"rating": "2", "topic": "weather", "complaint": "It\r\nrains <b>"}
    async with desk.session.post(link, data=fields) as answer:
        assert (answer.status, "Thank you" in await answer.text()) == (200, True)
    (said,) = await desk.said()
    assert (said.user, said.rating, said.topic, said.complaint) == (
        user_hash("u\u00e9 0042", PLAN.assignment.salt),
        2,
        "weather",
        "It\nrains <b>",
    )


@pytest.mark.parametrize(
    "body", ["", "rating=6", "rating=x", "complaint=%20", "topic=weather", "rating=5&topic=hotels", "rating=%ff"]
)
async def test_what_the_form_does_not_offer_is_asked_again(desk: Desk, body: str) -> None:
    link = await desk.link("u1")
    async with desk.session.post(link, data=body, headers={"Content-Type": FORM}) as answer:
        page = await answer.text()
    assert (answer.status, 'role="alert"' in page, "<form" in page) == (422, True, True)
    assert await desk.said() == []


async def test_a_link_ends_and_no_other_opens(desk: Desk) -> None:
    link = await desk.link("u1", for_s=60)
    for other in (link[:-4], link + "x", link.replace("/trips-v2/", "/other/"), f"{desk.url}/feedback/trips-v2/%00"):
        async with desk.session.post(other, data={"rating": "5"}) as answer:
            page = await answer.text()
            assert (answer.status, 'role="alert"' in page, "<form" in page) == (404, True, False), other
            assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    await desk.wall.advance(61)
    for method in ("GET", "POST"):
        async with desk.session.request(method, link, data={"rating": "5"}) as answer:
            assert (answer.status, "This link has ended" in await answer.text()) == (410, True)
    assert await desk.said() == []


async def test_a_strangers_link_is_not_made(desk: Desk) -> None:
    async with desk.session.post(f"{desk.url}/api/v1/rollouts/trips-v2/feedback/links", json={"user": "u1"}) as answer:
        assert answer.status == 401


async def test_what_was_written_is_still_there_after_a_mistake(desk: Desk) -> None:
    link = await desk.link("u1")
    async with desk.session.post(
        link, data={"rating": "2", "topic": "hotels", "complaint": "It <b>\u202erains"}
    ) as answer:
        page = await answer.text()
    assert (answer.status, "It &lt;b&gt;rains</textarea>" in page, 'value="2" checked' in page) == (422, True, True)


@pytest.mark.parametrize(("length", "status"), [(4000, 200), (4001, 422), (300_000, 422)])
async def test_a_line_end_is_one_character(desk: Desk, length: int, status: int) -> None:
    text = ("wet\r\n" * (length // 4 + 1)).replace("\r\n", "\n")[: length - 1] + "!"
    async with desk.session.post(await desk.link("u1"), data={"complaint": text.replace("\n", "\r\n")}) as answer:
        assert (answer.status, "at most 4,000" in await answer.text()) == (status, status == 422)
    assert [one.complaint for one in await desk.said()] == ([text] if status == 200 else [])


async def test_who_says_too_much_is_told_on_a_page(desk: Desk, tmp_path: Path) -> None:
    link = await desk.link("u1")
    found = []
    for number in range(12):
        async with desk.session.post(link, data={"complaint": f"and {number}"}) as answer:
            found.append(answer.status)
    assert found == [200] * 10 + [429] * 2
    record = (tmp_path / "audit.jsonl").read_text()
    assert ("POST /feedback/" in record, link.rsplit("/", 1)[1] in record) == (True, False)


def test_a_link_is_of_one_key_one_rollout_and_one_user() -> None:
    link = sealed(b"k" * 32, "trips", "u1", 7.0)
    assert opened(b"k" * 32, "trips", link) == ("u1", 7.0)
    assert opened(b"l" * 32, "trips", link) is None
    assert opened(b"k" * 32, "hotels", link) is None
    for at in range(len(link)):
        changed = link[:at] + ("A" if link[at] != "A" else "B") + link[at + 1 :]
        assert opened(b"k" * 32, "trips", changed) in (None, ("u1", 7.0))  # the last sign has bits that say nothing
        assert at > len(link) - 2 or opened(b"k" * 32, "trips", changed) is None
    for text in ("", "A", "\u00e9", "=" * 9, "A" * 1000):
        assert opened(b"k" * 32, "trips", text) is None


async def test_the_compare_page_shows_what_users_say_and_texts_to_operators_alone(desk: Desk) -> None:
    link = await desk.link("u1")
    async with desk.session.post(link, data={"rating": "1", "topic": "weather", "complaint": "<script>1</script>"}):
        pass
    page = f"{desk.url}/rollouts/trips-v2/compare"
    pages = {}
    tokens = {"operator": TOKEN}
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with desk.session.post(
        f"{desk.url}/api/v1/tokens", json={"name": "looker", "role": "viewer"}, headers=headers
    ) as answer:
        tokens["viewer"] = (await answer.json())["token"]
    for role, token in tokens.items():
        async with desk.session.get(page, headers={"Authorization": f"Bearer {token}"}) as answer:
            assert answer.status == 200
            pages[role] = await answer.text()
    assert "&lt;script&gt;1&lt;/script&gt;" in pages["operator"]
    assert all("<script>1" not in text and "<td>weather</td>" in text for text in pages.values())
    assert "script&gt;1" not in pages["viewer"]


# ── which controller, which machine ─────────────────────────────────────────────────────────────────────────


class Machine:
    """A controller's machine: a folder of its own, and a store that may be another's as well."""

    def __init__(self, store: MemoryStore, folder: Path, *, follows: str | None = None, former: bytes = b"") -> None:
        self.store, self.folder, self.follows, self.former = store, folder, follows, former
        self.made = 0

    def new(self) -> bytes:
        self.made += 1
        return (b"%d" % self.made + str(self.folder).encode()).rjust(32, b"k")[-32:]

    @asynccontextmanager
    async def desk(self) -> AsyncIterator[Desk]:
        clock, wall, telemetry = ManualClock(), ManualClock(), FakeTelemetry()
        proxy = FakeProxy(cohorts=tuple(PLAN.assignment.cohorts))
        self.folder.mkdir(exist_ok=True)
        await self.store.open()
        parts = Parts(store=self.store, proxy=proxy, switch=FakeRollback(proxy), telemetry=telemetry, clock=clock)
        controller = Controller(PLAN, parts)
        await controller.start()
        controller.fenced, controller.following = self.follows, self.follows is not None
        form_key = FormKey(controller, self.store, new=self.new, copy=self.folder / "form.key", former=self.former)
        outcomes = PostedOutcomes(PLAN, self.folder, key=b"k", tick_s=10)
        served = served_with(
            controller, self.store, telemetry, clock, self.folder, outcomes=outcomes, wall=wall, form_key=form_key
        )
        async with serving(served) as url, aiohttp.ClientSession() as session:
            yield Desk(session, url, self.store, wall)


async def opens(desk: Desk, link: str) -> int:
    async with desk.session.get(f"{desk.url}/feedback/{link.partition('/feedback/')[2]}") as answer:
        await answer.read()
        return answer.status


async def test_a_link_opens_at_every_controller_of_the_store(tmp_path: Path) -> None:
    """Also where the other one led when it was made; a follower can't take the form, and says to send it again."""
    store = MemoryStore()
    follower = Machine(store, tmp_path / "b", follows="ann leads")
    async with Machine(store, tmp_path / "a").desk() as led, follower.desk() as followed:
        with pytest.raises(AssertionError, match="ann leads"):
            await followed.link("u1")  # there is no key yet, and no lease to make one by
        link = await led.link("u1")
        assert [await opens(desk, link) for desk in (led, followed)] == [200, 200]
        assert await opens(led, await followed.link("u2")) == 200
        path = f"{followed.url}/feedback/{link.partition('/feedback/')[2]}"
        async with followed.session.post(path, data={"rating": "4", "complaint": "wet"}) as answer:
            page = await answer.text()
        assert (answer.status, "Please send it again in a minute" in page, "wet" in page) == (503, True, True)
        assert await led.said() == []
    assert (tmp_path / "b" / "form.key").stat().st_mode & 0o777 == 0o600


async def test_links_signed_before_the_store_had_a_key_still_open(tmp_path: Path) -> None:
    former = b"f" * 32
    async with Machine(MemoryStore(), tmp_path / "a", former=former).desk() as desk:
        link = f"/feedback/trips-v2/{sealed(former, 'trips-v2', 'u1', 9e9)}"
        assert await opens(desk, link) == 200
        assert opened(former, "trips-v2", (await desk.link("u1")).rpartition("/")[2]) is None
        assert await opens(desk, link) == 200


async def test_a_rollout_that_moves_to_another_store_takes_its_links_along(tmp_path: Path) -> None:
    """By the folder's copy; without the folder they open nothing."""
    async with Machine(MemoryStore(), tmp_path / "a").desk() as desk:
        link = await desk.link("u1")
    moved = MemoryStore()
    async with Machine(moved, tmp_path / "a").desk() as desk:
        assert await opens(desk, link) == 200
        await desk.link("u2")  # the new store is given the key
    async with Machine(moved, tmp_path / "b").desk() as desk:
        assert await opens(desk, link) == 200
    async with Machine(MemoryStore(), tmp_path / "c").desk() as desk:
        assert await opens(desk, link) == 404


async def test_a_store_that_is_away_is_no_wrong_link(tmp_path: Path) -> None:
    store = MemoryStore()
    async with Machine(store, tmp_path / "a").desk() as desk:
        link = await desk.link("u1")
    async with Machine(store, tmp_path / "b").desk() as desk:
        store.fail_next(1, StoreError("gone"))
        assert [await opens(desk, link) for _ in range(2)] == [503, 200]

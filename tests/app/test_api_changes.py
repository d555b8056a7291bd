"""What protects from doing twice and from not knowing: revisions, keys, pages, and the stream of events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fastapi import Response
from tests.app.serving import BASE, TOKEN, Asked, asked

from crossfade.app.web import stream
from crossfade.app.web.once import KEPT, KEPT_S
from crossfade.core.access import Role
from crossfade.core.look import KeptLook, Look

MINE = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Asked]:
    async with asked(tmp_path) as api:
        yield api


# ── revisions ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_reads_carry_the_revision_and_a_verb_that_names_another_is_refused(api: Asked) -> None:
    seen = (await api.ask("GET", BASE, headers=MINE)).headers["ETag"]
    assert seen == f'"{api.carried.controller.rollout.revision}"'
    answers = await asyncio.gather(*(api.post("promote", {"by": who}, **{"If-Match": seen}) for who in ("ada", "bob")))
    assert sorted(status for status, _ in answers) == [200, 412]
    assert (await api.get(BASE))[1]["phase"]["name"] == "canary"
    _, problem = next(answer for answer in answers if answer[0] == 412)
    assert "look again" in problem["detail"]


@pytest.mark.parametrize("verb", ["promote", "pause", "resume", "approve", "rollback", "retry", "abort"])
async def test_every_verb_honours_if_match(api: Asked, verb: str) -> None:
    before = api.carried.controller.rollout
    assert (await api.post(verb, {}, **{"If-Match": '"999"'}))[0] == 412
    assert api.carried.controller.rollout is before


@pytest.mark.parametrize(
    ("tag", "status"), [("*", 200), ('"N"', 200), ('W/"N"', 200), ('"1", "N"', 200), ("N", 412), ("", 412), ('""', 412)]
)
async def test_what_matches(api: Asked, tag: str, status: int) -> None:
    revision = api.carried.controller.rollout.revision
    assert (await api.post("pause", {}, **{"If-Match": tag.replace("N", str(revision))}))[0] == status


async def test_no_answer_is_kept_by_a_cache(api: Asked) -> None:
    assert (await api.ask("GET", BASE, headers=MINE)).headers["Cache-Control"] == "no-store"


# ── keys ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_same_key_and_body_is_done_once(api: Asked) -> None:
    key = {"Idempotency-Key": "a"}
    first, second = [await api.post("promote", {"reason": "x"}, **key) for _ in range(2)]
    assert first == second
    assert (first[0], first[1]["phase"]["name"]) == (200, "canary")
    assert (await api.get(BASE))[1]["phase"]["name"] == "canary"
    answer = await api.ask("POST", BASE + "/promote", json={"reason": "x"}, headers=MINE | key)
    assert answer.headers["Idempotency-Replayed"] == "true"
    status, problem = await api.post("promote", {"reason": "y"}, **key)
    assert (status, "use a new key" in problem["detail"]) == (422, True)
    assert (await api.post("pause", {"reason": "x"}, **key))[0] == 422
    assert (await api.post("promote", {"reason": "x"}, **{"Idempotency-Key": "b"}))[1]["phase"]["name"] == "early"


async def test_two_at_once_with_the_same_key_are_one(api: Asked) -> None:
    answers = await asyncio.gather(*(api.post("promote", {}, **{"Idempotency-Key": "a"}) for _ in range(5)))
    assert {(status, told["phase"]["name"]) for status, told in answers} == {(200, "canary")}


async def test_a_refusal_is_kept_and_what_the_proxy_did_not_confirm_is_tried_again(api: Asked) -> None:
    key = {"Idempotency-Key": "a"}
    assert (await api.post("resume", {}, **key))[0] == 409
    await api.post("pause")
    assert (await api.post("resume", {}, **key))[0] == 409
    api.proxy.faults.unreachable = True
    assert (await api.post("rollback", {}, **{"Idempotency-Key": "b"}))[0] == 502
    api.proxy.faults.unreachable = False
    assert (await api.post("rollback", {}, **{"Idempotency-Key": "b"}))[0] == 200


async def test_what_was_done_though_its_answer_said_otherwise_is_not_done_again(api: Asked) -> None:
    """The promotion is recorded, the proxy confirms it later: asking again would enter the phase after it."""
    key = {"Idempotency-Key": "a"}
    api.proxy.faults.unreachable = True
    assert (await api.post("promote", {}, **key))[0] == 503
    api.proxy.faults.unreachable = False
    await api.carried.controller.tick()
    status, problem = await api.post("promote", {}, **key)
    assert (status, "look again" in problem["detail"]) == (412, True)
    assert (await api.get(BASE))[1]["phase"]["name"] == "canary"
    assert (await api.post("promote", {}, **{"Idempotency-Key": "b"}))[1]["phase"]["name"] == "early"


async def test_a_key_is_its_callers_own_and_ends_after_a_day(api: Asked) -> None:
    key = {"Idempotency-Key": "a"}
    other = await api.token("ci", Role.OPERATOR)
    await api.post("promote", {}, **key)
    assert (await api.post("promote", {}, Authorization=other, **key))[1]["phase"]["name"] == "early"
    api.wall.move(KEPT_S + 1)
    assert (await api.post("promote", {}, **key))[1]["phase"]["name"] == "half"


async def test_keys_are_bounded(api: Asked) -> None:
    once = api.served.once
    for number in range(KEPT + 50):
        await once.answer("me", str(number), b"", _nothing)
    assert len(once._answers) == KEPT


async def _nothing() -> Response:
    return Response(status_code=204)


# ── pages ───────────────────────────────────────────────────────────────────────────────────────────────────


async def _all(api: Asked, path: str) -> list[list[Any]]:
    pages, following = [], path
    while following:
        status, page = await api.get(following)
        assert status == 200
        pages.append(page["items"])
        following = page["next"]
    return pages


async def test_events_come_in_pages(api: Asked) -> None:
    for _ in range(6):
        await api.post("pause")
        await api.post("resume")
    revision = api.carried.controller.rollout.revision
    pages = await _all(api, BASE + "/events?limit=5")
    assert [len(page) for page in pages[:-1]] == [5] * (len(pages) - 1)
    assert [event["revision"] for page in pages for event in page] == list(range(1, revision + 1))


async def test_decisions_come_in_pages_that_new_ones_do_not_shift(api: Asked) -> None:
    async def decide(number: int) -> None:
        record = {"outcome": "NOT ENOUGH YET", "sentence": str(number)}
        look = Look(at=0.0, due=0.0, revision=1, tick=None)
        await api.store.save_look("trips-v2", KeptLook(look=look, outcome="x", digest=b"", record=record))

    for number in range(7):
        await decide(number)
    _, first = await api.get(BASE + "/decisions?limit=3")
    await decide(7)
    pages = [first["items"], *await _all(api, first["next"])]
    assert [int(decision["sentence"]) for page in pages for decision in page] == [6, 5, 4, 3, 2, 1, 0]


# ── the stream ──────────────────────────────────────────────────────────────────────────────────────────────


class _Stream:
    """Reads server-sent events."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def message(self) -> dict[str, str]:
        """Return the next message; empty where the stream has ended."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(10):
            async for line in self.answer.content:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name and name not in ("retry", ""):
                    fields[name] = value
                elif not name and fields:
                    return fields
        return fields

    async def ended(self) -> bool:
        async with asyncio.timeout(10):
            await self.answer.content.read()
        return True


async def _follow(api: Asked, query: str = "", **headers: str) -> _Stream:
    answer = await api.session.get(f"{api.url}{BASE}/events/stream{query}", headers=MINE | headers)
    assert (answer.status, answer.content_type) == (200, "text/event-stream")
    return _Stream(answer)


async def test_events_are_told_as_they_happen(api: Asked) -> None:
    followed = await _follow(api)
    await api.post("pause", {"by": "ada", "reason": "line\nbreak"})
    told = await followed.message()
    assert (told["event"], told["id"]) == ("Paused", str(api.carried.controller.rollout.revision))
    assert json.loads(told["data"])["data"] == {"by": "ada", "reason": "line\nbreak"}


async def test_after_a_break_it_goes_on_where_it_was(api: Asked) -> None:
    for verb in ("pause", "resume", "pause"):
        await api.post(verb)
    last = api.carried.controller.rollout.revision
    followed = await _follow(api, "?after=0", **{"Last-Event-ID": str(last - 2)})
    assert [(await followed.message())["id"] for _ in range(2)] == [str(last - 1), str(last)]
    whole = await _follow(api, "?after=0")
    assert [(await whole.message())["id"] for _ in range(last)] == [str(n) for n in range(1, last + 1)]


@pytest.mark.parametrize("last", ["", "x", "-1", "9" * 30])
async def test_an_id_that_is_no_revision_is_refused(api: Asked, last: str) -> None:
    answer = await api.ask("GET", BASE + "/events/stream", headers=MINE | {"Last-Event-ID": last})
    assert answer.status == 422


async def test_it_gives_signs_of_life_and_ends_with_its_token(api: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.05)
    mine = await api.token("ci", Role.VIEWER)
    followed = await _follow(api, Authorization=mine)
    assert await asyncio.wait_for(_alive(followed), 10)
    await api.served.access.tokens.remove("ci")
    assert await followed.ended()
    await _until_closed(api)


async def _alive(followed: _Stream) -> bool:
    """Wait for a comment; False where the stream ends without one."""
    async for line in followed.answer.content:
        if line.startswith(b": "):
            return True
    return False


async def _until_closed(api: Asked) -> None:
    for _ in range(1000):
        if not api.carried.feed.open:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a stream is still open")


async def test_whoever_is_gone_holds_no_stream(api: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_S", 0.05)
    followed = await _follow(api)
    assert api.carried.feed.open == 1
    followed.answer.close()
    await _until_closed(api)


async def test_streams_end_when_the_server_does(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with asked(tmp_path) as api:
        followed = [asyncio.create_task((await _follow(api)).ended()) for _ in range(20)]
        began = loop.time()
    assert loop.time() - began < 2.0  # of the five seconds that uvicorn would wait
    assert await asyncio.gather(*followed) == [True] * 20


async def test_too_many_streams_are_refused(api: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    api.carried.feed.open = stream.STREAMS
    answer = await api.ask("GET", BASE + "/events/stream", headers=MINE)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
    api.carried.feed.open = 0

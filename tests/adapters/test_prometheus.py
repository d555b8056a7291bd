"""What a Prometheus says becomes counts, or a reason why there are none; and when it is asked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters import prometheus as module
from crossfade.adapters.prometheus import Prometheus
from crossfade.core.evidence.sums import Arm, Tick
from crossfade.core.plan import Metric, MetricKind, Query, Source
from crossfade.core.split import Version
from crossfade.testing.clock import ManualClock

V1, V2 = Arm(Version.V1, "", ""), Arm(Version.V2, "", "")
ERRORS = Metric(
    name="errors",
    kind=MetricKind.QUERIED,
    outcome="errors",
    query=Query(
        source="prometheus",
        bad='sum(increase(bad{version="$version"}[$interval]))',
        total='sum(increase(total{version="${version}"}[$interval]))',
    ),
)
NOON = 1_700_000_040.0
"""A multiple of a minute."""


def vector(*values: object) -> bytes:
    result = [{"metric": {}, "value": [NOON, value]} for value in values]
    return orjson.dumps({"status": "success", "data": {"resultType": "vector", "result": result}})


@dataclass
class Server:
    """A Prometheus that says what it is told to: by query an answer, or something to do."""

    url: str = ""
    answers: dict[str, bytes | int | Callable[[], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        query = str(form["query"])
        self.asked.append((query, str(form["time"])))
        self.tokens.add(request.headers.get("Authorization"))
        part = "bad" if query.startswith("sum(increase(bad") else "total"
        answer = self.answers.get(f"{'v1' if 'v1' in query else 'v2'} {part}", self.answers.get(part, b"{}"))
        if isinstance(answer, int):
            return web.Response(status=answer, headers={"Location": "/elsewhere"})
        return web.Response(body=answer) if isinstance(answer, bytes) else await answer()

    def healthy(self) -> None:
        self.answers = {"total": vector("100"), "v1 bad": vector("1"), "v2 bad": vector("5")}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    found.healthy()
    app = web.Application()
    app.router.add_post("/api/v1/query", found.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


@pytest.fixture
async def source(server: Server) -> AsyncIterator[Prometheus]:
    made = make(server.url)
    await made.start()
    yield made
    await made.close()


def make(url: str, *, token: str = "", clock: ManualClock | None = None, lateness_s: float = 15.0) -> Prometheus:
    where = Source(name="prometheus", url=url, every_s=60.0, token=token)
    return Prometheus(where, [ERRORS], clock=clock or ManualClock(NOON), lateness_s=lateness_s)


async def ask(source: Prometheus, end: float = NOON) -> Tick:
    assert source._session is not None
    await source._ask(source._session, end)
    return source.add_to(tick())


def tick(sources: str = "a") -> Tick:
    return Tick(number=1, start=0.0, length=10.0, cells={}, sources=frozenset(sources))


async def test_counts_of_both_versions_come_with_the_next_tick_and_once(server: Server, source: Prometheus) -> None:
    found = await ask(source)
    assert {arm: cell.outcomes for arm, cell in found.cells.items()} == {
        V1: {"errors": (100, 1.0)},
        V2: {"errors": (100, 5.0)},
    }
    assert found.unanswered == {}
    assert tick() == source.add_to(tick())
    assert ('sum(increase(bad{version="v2"}[60s]))', f"{NOON:.3f}") in server.asked
    assert {None} == server.tokens


async def test_fractions_that_increase_guesses_become_whole_units(server: Server, source: Prometheus) -> None:
    server.answers = {"total": vector("10.4"), "bad": vector("10.6")}
    assert (await ask(source)).cells[V1].outcomes == {"errors": (10, 10.0)}
    server.answers = {"total": vector("10.4"), "bad": vector("2.6")}
    assert (await ask(source)).cells[V1].outcomes == {"errors": (10, 2.5)}


async def test_a_scalar_is_a_number_too(server: Server, source: Prometheus) -> None:
    scalar = orjson.dumps({"status": "success", "data": {"resultType": "scalar", "result": [NOON, "50"]}})
    server.answers = {"total": vector("100"), "bad": scalar}
    assert (await ask(source)).cells[V2].outcomes == {"errors": (100, 50.0)}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (vector("NaN"), "V1, bad: NaN is no count"),
        (vector("+Inf"), "V1, bad: inf is no count"),
        (vector("-1"), "V1, bad: -1 is no count"),
        (vector(), "V1, bad: no series; write `... or vector(0)` where none means 0"),
        (vector("1", "2"), "V1, bad: 2 series; write sum(...)"),
        (vector(None), "V1, bad: a series without a number"),
        (vector("x"), "V1, bad: a series without a number"),
        (vector("120"), "V1: 120 bad ones are more than the 100 there were"),
        (b"", "V1, bad: the answer is no JSON of a Prometheus"),
        (b"<html>", "V1, bad: the answer is no JSON of a Prometheus"),
        (b"[]", "V1, bad: the answer is no JSON of a Prometheus"),
        (b'{"status":"success"}', "V1, bad: an answer without data"),
        (b'{"status":"success","data":{"resultType":"matrix"}}', "V1, bad: a matrix is no number; write a query"),
        (b'{"status":"success","data":{"resultType":"vector","result":[7]}}', "V1, bad: a series without a number"),
        (b'{"status":"error","error":"parse\\nerror"}', "V1, bad: HTTP 200: parse error"),
        (503, "V1, bad: HTTP 503"),
        (302, "V1, bad: HTTP 302"),
        (b" " * (module.ANSWER_BYTES + 1), "V1, bad: the answer is too long for one number"),
    ],
)
async def test_a_strange_answer_is_no_count_and_says_why(
    server: Server, source: Prometheus, answer: bytes | int, reason: str
) -> None:
    server.answers["v1 bad"] = answer
    found = await ask(source)
    assert found.cells == {}, "V2's counts alone would be compared with another time's"
    assert found.unanswered["errors"].startswith(reason)


async def test_a_version_without_requests_leaves_the_other_its_counts(server: Server, source: Prometheus) -> None:
    server.answers |= {"v1 total": vector("0"), "v1 bad": vector("0")}
    found = await ask(source)
    assert {V2} == set(found.cells)
    assert found.unanswered == {"errors": "V1: counted nothing"}


async def test_a_hanging_server_is_given_up_and_closing_does_not_wait(
    server: Server, source: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang() -> web.StreamResponse:
        await asyncio.sleep(60)
        raise AssertionError

    server.answers["v2 total"] = hang
    monkeypatch.setattr(module, "DEADLINE_S", 0.2)
    assert (await ask(source)).unanswered == {"errors": "no answer within 0.2 s"}


async def test_an_answer_that_breaks_off_is_no_count(
    server: Server, source: Prometheus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DEADLINE_S", 0.5)

    async def break_off() -> web.StreamResponse:
        return web.Response(body=vector("1"), headers={"Content-Length": "9999"})

    server.answers["v1 bad"] = break_off
    found = await ask(source)
    assert found.cells == {}
    assert "errors" in found.unanswered


async def test_nobody_there_is_a_reason_and_no_error() -> None:
    source = make("http://127.0.0.1:1")
    await source.start()
    found = await ask(source)
    await source.close()
    assert found.cells == {}
    assert found.unanswered["errors"].startswith("V1, total: Cannot connect to host 127.0.0.1:1")


async def test_the_token_is_sent_and_never_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    source = make(server.url, token="hunter2")
    await source.start()
    await ask(source)
    server.answers = {"total": 401}
    await ask(source)
    await source.close()
    assert {"Bearer hunter2"} == server.tokens
    assert "HTTP 401" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_reason_is_logged_once_and_its_end_too(
    server: Server, source: Prometheus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crossfade.prometheus")
    server.answers = {"total": 503}
    for _ in range(3):
        await ask(source)
    server.healthy()
    await ask(source)
    assert [record.getMessage() for record in caplog.records] == [
        "errors: prometheus gave no counts: V1, total: HTTP 503",
        "errors: prometheus tells again",
    ]


async def test_a_tick_that_nobody_reported_leaves_the_counts_to_the_next(server: Server, source: Prometheus) -> None:
    assert source._session is not None
    await source._ask(source._session, NOON)
    assert source.add_to(tick("")).cells == {}
    assert {V1, V2} == set(source.add_to(tick()).cells)


# ── when ────────────────────────────────────────────────────────────────────────────────────────────────────


async def asked_at(clock: ManualClock, monkeypatch: pytest.MonkeyPatch, act: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Return (end of the interval, plan time of the question), each since noon, while `act` moves the clock."""
    found = []

    async def note(self: Prometheus, session: object, end: float) -> None:
        found.append((end - NOON, clock.now() - NOON))

    monkeypatch.setattr(Prometheus, "_ask", note)
    source = make("http://127.0.0.1:1", clock=clock, lateness_s=15.0)
    await source.start()
    await act()
    await source.close()
    return found


async def test_it_is_asked_at_the_end_of_whole_intervals_after_the_lateness(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(NOON + 7)
    found = await asked_at(clock, monkeypatch, lambda: clock.advance(200))
    assert [end for end, _ in found] == [60, 120, 180]
    assert [at for _, at in found] == pytest.approx([75, 135, 195])


async def test_a_faster_clock_asks_in_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(NOON, speed=60)
    found = await asked_at(clock, monkeypatch, lambda: clock.advance(17.5))
    assert [end for end, _ in found] == [0, 60, 120]


async def test_intervals_slept_through_are_not_asked_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(NOON + 1)

    async def suspend() -> None:
        await clock.advance(80)
        clock.step(3600)
        await clock.advance(120)

    found = await asked_at(clock, monkeypatch, suspend)
    assert [end for end, _ in found] == [60, 120, 3720, 3780]


async def test_a_clock_set_back_goes_on_with_the_present(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock(NOON + 1)

    async def set_back() -> None:
        await clock.advance(80)
        clock.step(-3600)
        await clock.advance(180)

    found = await asked_at(clock, monkeypatch, set_back)
    assert found[0][0] == 60
    assert [end for end, _ in found[1:]] == [-3420, -3360]


@given(st.binary(max_size=80) | st.text(max_size=30).map(lambda text: orjson.dumps({"status": text, "data": text})))
def test_any_answer_is_a_number_or_a_reason(body: bytes) -> None:
    try:
        value = module._read(200, body)
    except module._NoCountsError:
        return
    assert value >= 0

"""The load client and its counts, against small servers that misbehave on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
import pytest

from crossfade.app.demo.load import Answer, NoAnswerError, Pool
from crossfade.app.demo.tally import Latencies, Seen, Tally, read

Handler = Callable[[int, int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Called with the numbers of the connection and of the request on it."""

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[int]:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        mine, number = connections, 0
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                number += 1
                await handler(mine, number, reader, writer)
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def answer(body: bytes = b"{}", status: str = "200 OK", more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{more}\r\n".encode() + body


async def test_kept_connections_are_used_again() -> None:
    seen: list[int] = []

    async def handler(connection: int, _: int, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(connection)
        writer.write(answer(b"hello", more="X-Kind: a\r\n"))

    async with serving(handler) as port:
        pool = Pool("127.0.0.1", port)
        for _ in range(3):
            got = await pool.ask(REQUEST)
            assert (got.status, got.body, got.headers[b"x-kind"]) == (200, b"hello", b"a")
        pool.close()
    assert seen == [1, 1, 1]


async def test_chunked_answers_and_changing_statuses_are_read() -> None:
    async def handler(_: int, number: int, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        else:
            writer.write(answer(b"no", "503 Service Unavailable"))

    async with serving(handler) as port:
        pool = Pool("127.0.0.1", port)
        assert (await pool.ask(REQUEST)).body == b"abcde"
        second = await pool.ask(REQUEST)
        assert (second.status, second.body) == (503, b"no")
        pool.close()


async def test_a_kept_connection_closed_before_any_byte_is_asked_once_more() -> None:
    async def handler(connection: int, number: int, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connection == 1 and number == 2:
            writer.close()
        else:
            writer.write(answer(b"ok"))

    async with serving(handler) as port:
        pool = Pool("127.0.0.1", port)
        assert not (await pool.ask(REQUEST)).retried
        again = await pool.ask(REQUEST)
        assert again.retried
        assert again.body == b"ok"
        pool.close()


async def test_a_reset_in_the_middle_of_an_answer_is_a_loss_and_not_asked_again() -> None:
    asked = 0

    async def handler(_: int, number: int, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if number == 1:
            writer.write(answer(b"ok"))
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        await writer.drain()
        writer.transport.abort()

    async with serving(handler) as port:
        pool = Pool("127.0.0.1", port)
        await pool.ask(REQUEST)
        with pytest.raises(NoAnswerError, match="the connection ended"):
            await pool.ask(REQUEST)
        pool.close()
    assert asked == 2


async def test_a_new_connection_closed_at_once_is_a_loss() -> None:
    async def handler(_: int, __: int, ___: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(handler) as port:
        with pytest.raises(NoAnswerError, match="the connection ended"):
            await Pool("127.0.0.1", port).ask(REQUEST)


async def test_nobody_listening_hanging_and_garbage_are_losses() -> None:
    async def handler(connection: int, _: int, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connection == 1:
            writer.write(b"who is there?\r\n\r\n")
        else:
            await asyncio.sleep(5)

    async with serving(handler) as port:
        pool = Pool("127.0.0.1", port, timeout_s=0.2)
        with pytest.raises(NoAnswerError, match="not HTTP"):
            await pool.ask(REQUEST)
        with pytest.raises(NoAnswerError, match=r"within 0\.2 s"):
            await pool.ask(REQUEST)
        pool.close()
    with pytest.raises(NoAnswerError, match="can't connect"):
        await Pool("127.0.0.1", port).ask(REQUEST)


# ── what answers say ──


def _json(body: object, status: int = 200, kind: bytes = b"application/json") -> Answer:
    return Answer(status=status, headers={b"content-type": kind}, body=orjson.dumps(body))


def test_versions_are_told_by_the_weather() -> None:
    v1 = {"flights": [], "hotels": [{"name": "x"}]}
    assert read(_json(v1)) == Seen(status=200, version="v1")
    assert read(_json(v1 | {"weather": {"status": "ok"}})) == Seen(status=200, version="v2", weather="ok")
    assert not read(_json({"hotels": [1]})).complete


def test_the_origins_errors_are_answers_and_the_proxys_are_not() -> None:
    assert read(_json({}, 500, b"application/problem+json")).by_origin
    assert not read(Answer(status=503, headers={b"content-type": b"text/html"}, body=b"<html>")).by_origin
    tally = Tally(1)
    tally.add(0, read(Answer(status=503, body=b"<html>")), 1.0, 1.1, retried=False)
    assert tally.line(2.0)["lost"] == 1


# ── what is counted ──


def _seen(version: str) -> Seen:
    return Seen(status=200, version=version, weather="ok" if version == "v2" else None)


def _told(*answers: tuple[str, float, float]) -> Tally:
    tally = Tally(1)
    for version, sent, answered in answers:
        tally.sent += 1
        tally.add(0, _seen(version), sent, answered, retried=False)
    return tally


def test_moving_up_is_no_change_back() -> None:
    summary = _told(("v1", 1, 2), ("v2", 3, 4), ("v2", 5, 6)).summary([])
    assert (summary["moved_back"], summary["violations"]) == (0, 0)


def test_moving_back_without_a_rollback_violates_stickiness() -> None:
    assert _told(("v2", 1, 2), ("v1", 30, 31)).summary([(50.0, 60.0)])["violations"] == 1


def test_moving_back_by_a_rollback_is_explained() -> None:
    summary = _told(("v1", 1, 2), ("v2", 10, 11), ("v1", 30, 31)).summary([(20.0, 40.0)])
    assert (summary["moved_back"], summary["violations"]) == (1, 0)


def test_requests_under_way_at_once_have_no_order() -> None:
    assert _told(("v2", 10, 12), ("v1", 11, 13)).summary([])["moved_back"] == 0


def test_the_last_v2_request_after_a_rollback_is_timed() -> None:
    tally = _told(("v2", 19.9, 20.1), ("v2", 20.004, 20.2), ("v2", 50, 51))
    assert tally.summary([(20.0, 45.0)])["last_v2_after_s"] == [pytest.approx(0.004)]
    assert tally.summary([(30.0, 45.0)])["last_v2_after_s"] == [None]


def test_errors_count_for_the_version_their_user_had() -> None:
    tally = _told(("v2", 1, 2))
    tally.add(0, Seen(status=500, version=None), 3, 4, retried=False)
    line = tally.line(5.0)
    assert (line["v2"]["answers"], line["v2"]["failed"]) == (2, 1)
    assert tally.summary([])["statuses"] == {"200": 1, "500": 1}


def test_quantiles_are_right_within_a_bin() -> None:
    latencies = Latencies()
    assert latencies.quantile_ms(0.5) is None
    for ms in range(1, 101):
        latencies.add(ms / 1000)
    assert latencies.quantile_ms(0.5) == pytest.approx(50, rel=0.06)
    assert latencies.quantile_ms(0.95) == pytest.approx(95, rel=0.06)

"""The load client, against small servers that misbehave on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from crossfade.adapters.load import BODY_BYTES_MAX, NoAnswerError, Pool, allow_connections
from crossfade.adapters.system import SystemClock
from crossfade.core.load.tally import Trouble
from crossfade.errors import UsageError

Handler = Callable[[int, int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Called with the numbers of the connection and of the request on it."""

CLOCK = SystemClock()
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
        pool = Pool("127.0.0.1", port, CLOCK)
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
        pool = Pool("127.0.0.1", port, CLOCK)
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
        pool = Pool("127.0.0.1", port, CLOCK)
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
        pool = Pool("127.0.0.1", port, CLOCK)
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
            await Pool("127.0.0.1", port, CLOCK).ask(REQUEST)


async def test_nobody_listening_hanging_and_garbage_are_losses() -> None:
    async def handler(connection: int, _: int, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if connection == 1:
            writer.write(b"who is there?\r\n\r\n")
        else:
            await asyncio.sleep(5)

    async with serving(handler) as port:
        pool = Pool("127.0.0.1", port, CLOCK, timeout_s=0.2)
        with pytest.raises(NoAnswerError, match="not HTTP") as garbage:
            await pool.ask(REQUEST)
        with pytest.raises(NoAnswerError, match=r"within 0\.2 s") as hanging:
            await pool.ask(REQUEST)
        pool.close()
    with pytest.raises(NoAnswerError, match="can't connect") as nobody:
        await Pool("127.0.0.1", port, CLOCK).ask(REQUEST)
    assert [one.value.trouble for one in (garbage, hanging, nobody)] == [
        Trouble.INVALID,
        Trouble.TIMEOUT,
        Trouble.REFUSED,
    ]


async def test_an_endless_body_is_given_up() -> None:
    async def handler(_: int, __: int, ___: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {2 * BODY_BYTES_MAX}\r\n\r\n".encode())
        for _part in range(2 * BODY_BYTES_MAX // 65536):
            writer.write(bytes(65536))
            await writer.drain()

    async with serving(handler) as port:
        pool = Pool("127.0.0.1", port, CLOCK)
        with pytest.raises(NoAnswerError, match="a body of more than") as got:
            await pool.ask(REQUEST)
        pool.close()
    assert got.value.trouble is Trouble.INVALID


def test_more_connections_than_the_system_allows_are_refused() -> None:
    allow_connections(10)
    with pytest.raises(UsageError, match="use fewer users or raise the limit"):
        allow_connections(2**40)

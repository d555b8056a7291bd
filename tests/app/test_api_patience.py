"""Clients that never say what they want are hung up on, and keep nobody from a rollback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.app.serving import BASE, TOKEN, Asked, asked

from crossfade.app.web import patience

SLOW = 200
FIFTY_MB = 50 * 2**20
HEAD = f"Host: 127.0.0.1\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
ROLLBACK = b"POST %s/rollback HTTP/1.1\r\n%b" % (BASE.encode(), HEAD)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Asked]:
    async with asked(tmp_path) as api:
        yield api


class Client:
    """A connection that sends what it is told to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def trickle(self, data: bytes, every_s: float = 0.1) -> None:
        """Send a byte at a time, over and over, until hung up on."""
        with contextlib.suppress(ConnectionError):
            while not self.writer.is_closing():
                for number in range(len(data)):
                    await self.send(data[number : number + 1])
                    await asyncio.sleep(every_s)

    async def ended(self) -> bytes:
        """Wait until hung up on; return what was said before."""
        said = b""
        with contextlib.suppress(ConnectionError):
            while part := await asyncio.wait_for(self.reader.read(65536), 30):
                said += part
        return said

    async def answer(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 30)


@contextlib.asynccontextmanager
async def client(api: Asked) -> AsyncIterator[Client]:
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the bounds pass within a test."""
    monkeypatch.setattr(patience, "HEADERS_S", 1.0)
    monkeypatch.setattr(patience, "BODY_S", 1.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "begin",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nX-Never: ",
        ROLLBACK + b"Content-Length: 100000\r\n\r\n",
        ROLLBACK + b"Transfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["request line", "headers", "body", "chunks"],
)
async def test_two_hundred_slow_clients_are_hung_up_on_and_a_rollback_is_done_meanwhile(
    api: Asked, begin: bytes, short: None
) -> None:
    async def slow() -> None:
        async with client(api) as one:
            await one.send(begin)
            trickling = asyncio.create_task(one.trickle(b"1\r\n1\r\n" if b"chunked" in begin else b"aaaaaa"))
            await one.ended()
            await trickling

    clients = [asyncio.create_task(slow()) for _ in range(SLOW)]
    await asyncio.sleep(0.5)
    status, _ = await api.post("rollback", {"reason": "now"})
    assert status == 200
    assert (await api.get(BASE))[1]["state"] == "rolled_back"
    await asyncio.wait_for(asyncio.gather(*clients), 60)
    audited = (await api.get("/api/v1/audit?limit=1000"))[1]
    assert [act["act"] for act in audited if act["status"] == 200] == ["rollback"], audited[:3]


async def test_blank_lines_between_requests_do_not_hold_a_connection(api: Asked, short: None) -> None:
    async with client(api) as one:
        await one.send(b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert b"200 OK" in await one.answer()
        trickling = asyncio.create_task(one.trickle(b"\r\n"))
        await one.ended()
        await trickling


@pytest.mark.parametrize("header", [b"X-Long: " + b"a" * 65536, b"".join(b"X-%d: a\r\n" % n for n in range(10_000))])
async def test_headers_without_end_are_refused(api: Asked, header: bytes) -> None:
    async with client(api) as one:
        sent = 0
        await one.send(b"GET / HTTP/1.1\r\n")
        with contextlib.suppress(ConnectionError):
            while sent < FIFTY_MB:
                await one.send(header)
                sent += len(header)
        assert sent < FIFTY_MB
        said = await one.ended()
        assert said == b"" or said.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("chunked", [False, True])
async def test_fifty_megabytes_are_refused_with_a_reason_and_not_kept(api: Asked, chunked: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(FIFTY_MB // 2**20):
            yield b"a" * 2**20

    headers = {"Authorization": f"Bearer {TOKEN}"} | ({} if chunked else {"Content-Length": str(FIFTY_MB)})
    async with api.session.post(f"{api.url}{BASE}/pause", data=parts(), headers=headers) as answer:
        assert answer.status == 413
        assert "2,097,152 bytes" in (await answer.json())["detail"]
    assert api.carried.controller.rollout.state == "running"


async def test_a_stream_is_never_hung_up_on(api: Asked, short: None) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with api.session.get(f"{api.url}{BASE}/events/stream", headers=headers) as answer:
        await asyncio.sleep(2.0)
        await api.post("pause", {"reason": "still there?"})
        read = b""
        while b"event: Paused" not in read:
            read += await asyncio.wait_for(answer.content.readany(), 30)


async def test_requests_sent_together_are_all_answered(api: Asked, short: None) -> None:
    async with client(api) as one:
        await one.send((b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n") * 5)
        for _ in range(5):
            assert b"200 OK" in await one.answer()
            await one.reader.readexactly(len(b'{"status":"ok"}'))


async def test_those_who_wait_longest_make_room(api: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "CONNECTIONS", 20)
    async with contextlib.AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(client(api)) for _ in range(40)]
        assert (await api.get(BASE))[0] == 200
        for one in idle[:20]:
            assert await one.ended() == b""
        await idle[-1].send(b"GET /healthz HTTP/1.1\r\n" + HEAD + b"\r\n")
        assert b"200 OK" in await idle[-1].answer()


@pytest.mark.parametrize(
    "line", [b"OPTIONS * HTTP/1.1", b"GET http:// HTTP/1.1", b"CONNECT a:1 HTTP/1.1", b"GET  HTTP/1.1", b"\x16\x03\x01"]
)
async def test_what_is_no_request_is_refused_and_the_next_one_is_answered(api: Asked, line: bytes) -> None:
    async with client(api) as one:
        await one.send(line + b"\r\n" + HEAD + b"Connection: close\r\n\r\n")
        said = await one.ended()
        assert said == b"" or b" 500 " not in said.splitlines()[0]
    assert (await api.get("/healthz"))[0] == 200

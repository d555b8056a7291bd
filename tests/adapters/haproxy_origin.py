"""Small servers that tests put behind and beside a proxy, and a client for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from crossfade.core.plan import Api, AssignmentRule, ClientsRule, Key, KeySource, Phase, Plan, Upstream
from crossfade.core.split import Split

HEADER, COOKIE, ADDRESS = KeySource.HEADER, KeySource.COOKIE, KeySource.ADDRESS


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Origin:
    """Answers every request with `<name> <method> <target>` and remembers the heads it saw."""

    name: str
    port: int = 0
    facts: bytes = b"flights=1, weather=fallback"
    heads: list[bytes] = field(default_factory=list)
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 20, backlog=1000)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        await reader.readexactly(int(line[15:]))
                method, target, _ = head.split(b" ", 2)
                body = self.name.encode() + b" " + method + b" " + target
                writer.write(
                    b"HTTP/1.1 200 OK\r\nCrossfade-Facts: %b\r\nContent-Length: %d\r\n\r\n%b"
                    % (self.facts, len(body), body)
                )
                if self._server is None:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@dataclass(slots=True)
class LineSink:
    """Takes telemetry and keeps its lines."""

    lines: list[str] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.close()

    async def wait_for(self, count: int, timeout_s: float = 10.0) -> list[str]:
        """Return the lines once there are `count` of them."""
        async with asyncio.timeout(timeout_s):
            while len(self.lines) < count:
                self._news.clear()
                await self._news.wait()
        return self.lines

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with suppress(ConnectionError):
            while line := await reader.readline():
                self.lines.append(line.decode().removesuffix("\n"))
                self._news.set()
        writer.close()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def version(self) -> str:
        """The origin that answered."""
        return self.body.split(" ")[0]

    @property
    def target(self) -> str:
        """The target that the origin saw."""
        return self.body.split(" ")[2]


@dataclass(slots=True)
class Client:
    """One keep-alive connection to a port."""

    port: int
    _streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, target: str = "/search", *headers: tuple[str, str | bytes], method: str = "GET") -> Answer:
        """Send one request and return the answer; header values may be any bytes."""
        lines = [f"{method} {target} HTTP/1.1".encode(), b"Host: test"]
        lines += [
            name.encode() + b": " + (value.encode() if isinstance(value, str) else value) for name, value in headers
        ]
        return await self.send(b"\r\n".join([*lines, b"", b""]))

    async def send(self, raw: bytes) -> Answer:
        """Send raw bytes and return the answer."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._streams
        writer.write(raw)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(head[0].split(" ")[1]), headers, body.decode())

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def make_plan(
    v1: Sequence[str],
    v2: Sequence[str],
    *,
    port: int = 0,
    user: tuple[Key, ...] = (Key(HEADER, "X-User-Id"), Key(HEADER, "X-Api-Key"), Key(COOKIE, "uid"), Key(ADDRESS)),
    cohorts: dict[str, frozenset[str]] | None = None,
    secret: str = "",
    salt: int = 0xFEDC_BA98_7654_3210,
    entry: str = "/search",
    paths: tuple[str, str] = ("/v1/trips/search", "/v2/trips/search"),
    clients: ClientsRule | None = None,
) -> Plan:
    """Return a plan whose only purpose is its proxy."""
    return Plan(
        name="proxy-test",
        api=Api(
            entry=entry,
            v1=Upstream(path=paths[0], upstreams=tuple(v1)),
            v2=Upstream(path=paths[1], upstreams=tuple(v2)),
            listen=f"127.0.0.1:{port or free_port()}",
        ),
        assignment=AssignmentRule(
            user=user,
            salt=salt,
            client=Key(HEADER, "X-Client-Id"),
            region=Key(HEADER, "X-Region"),
            cohorts=cohorts or {},
        ),
        metrics=(),
        phases=(Phase(name="all", split=Split(), target=0, soak_s=0, gates=()),),
        override_secret=secret,
        clients=clients,
    )


@asynccontextmanager
async def origins(*names: str) -> AsyncIterator[list[Origin]]:
    """Run an origin for each name."""
    running = [Origin(name) for name in names]
    for origin in running:
        await origin.start()
    try:
        yield running
    finally:
        for origin in running:
            await origin.stop()


def map_lines(directory: Path) -> dict[str, str]:
    """Return the integer map on disk."""
    return dict(line.split(" ", 1) for line in (directory / "int.map").read_text().splitlines())

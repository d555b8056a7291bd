"""A lean HTTP/1.1 client for load: keep-alive connections, one request at a time on each.

It behaves as a browser does: a GET on a kept connection that the server closed before the first byte of an answer is
sent once more on a new one. Every other end without a complete answer is an error that the caller counts as a loss.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass, field
from typing import cast

import httptools

from crossfade.core.load.tally import Trouble
from crossfade.errors import UnreachableError, UsageError
from crossfade.ports import Clock

IDLE_MAX = 4096
"""Connections kept for later."""
BODY_BYTES_MAX = 8 * 1024 * 1024
"""An answer with a longer body is no answer that an API gives."""
_HEADERS_MAX = 200
_OTHER_FILES = 100


class NoAnswerError(Exception):
    """The request got no complete answer; `str()` says why, `trouble` of what kind it is."""

    def __init__(self, message: str, trouble: Trouble = Trouble.RESET) -> None:
        super().__init__(message)
        self.trouble = trouble


class _ClosedWhileIdleError(Exception):
    """The server closed a kept connection before it sent a byte: safe to ask again."""


@dataclass(slots=True)
class Answer:
    """What a server said."""

    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""
    retried: bool = False
    """Asked twice, because the kept connection had been closed."""
    at: float = 0.0
    """When its last byte came, on the clock's monotonic time."""


class _Connection(asyncio.Protocol):
    """One connection; httptools calls the `on_` methods."""

    def __init__(self, clock: Clock) -> None:
        self.used = False
        self.open = False
        self._clock = clock
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer = Answer()
        self._body: list[bytes] = []
        self._bytes = 0
        self._begun = False

    def ask(self, request: bytes) -> asyncio.Future[Answer]:
        """Send a request; the connection must be idle."""
        if self._transport is None:
            raise NoAnswerError("not connected")
        self._waiting = asyncio.get_running_loop().create_future()
        self._answer, self._body, self._bytes, self._begun = Answer(), [], 0, False
        self._transport.write(request)
        return self._waiting

    def close(self) -> None:
        """Let go of the connection."""
        self.open = False
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are no subclasses of asyncio's, but behave as they do.
        self._transport, self.open = cast("asyncio.Transport", transport), True

    def eof_received(self) -> bool:
        """Never be taken from the pool again."""
        self.open = False
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits, and whether asking again is safe."""
        self.open = False
        if self.used and not self._begun:
            self._fail(_ClosedWhileIdleError())
        else:
            self._fail(NoAnswerError(f"the connection ended: {exc or 'closed by the server'}"))

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._give_up(f"not HTTP: {error}")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        if len(self._answer.headers) < _HEADERS_MAX:
            self._answer.headers[name.lower()] = value

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        self._bytes += len(data)
        if self._bytes > BODY_BYTES_MAX:
            self._give_up(f"a body of more than {BODY_BYTES_MAX:,} bytes")
        elif self._waiting is not None:
            self._body.append(data)

    def on_message_complete(self) -> None:
        """Hand the answer over."""
        self.used = True
        answer = self._answer
        answer.at = self._clock.monotonic()
        answer.status = self._parser.get_status_code()
        answer.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        if not self._parser.should_keep_alive():
            self.close()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    def _give_up(self, why: str) -> None:
        self.close()
        self._body = []
        self._fail(NoAnswerError(why, Trouble.INVALID))

    def _fail(self, error: Exception) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)


class Pool:
    """Connections to one address, opened as needed, the latest used first."""

    __slots__ = ("_address", "_busy", "_clock", "_idle", "_timeout_s")

    def __init__(self, host: str, port: int, clock: Clock, *, timeout_s: float = 10.0) -> None:
        self._address = (host, port)
        self._clock = clock
        self._timeout_s = timeout_s
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()

    async def ask(self, request: bytes) -> Answer:
        """Return the answer to a GET; NoAnswerError where there is none that is complete."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._ask(request)
        except TimeoutError:
            raise NoAnswerError(f"no answer within {self._timeout_s:g} s", Trouble.TIMEOUT) from None

    async def _ask(self, request: bytes) -> Answer:
        connection = self._kept() or await self._connect()
        try:
            return await self._exchange(connection, request)
        except _ClosedWhileIdleError:
            answer = await self._exchange(await self._connect(), request)
            answer.retried = True
            return answer

    async def _exchange(self, connection: _Connection, request: bytes) -> Answer:
        self._busy.add(connection)
        try:
            answer = await connection.ask(request)
        except BaseException:
            connection.close()  # after a timeout its answer would go to the next request
            raise
        finally:
            self._busy.discard(connection)
        if connection.open and len(self._idle) < IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.open:
                return connection
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(lambda: _Connection(self._clock), *self._address)
        except ConnectionRefusedError as error:
            raise NoAnswerError(f"can't connect: {error}", Trouble.REFUSED) from None
        except OSError as error:
            raise NoAnswerError(f"can't connect: {error}", Trouble.UNREACHABLE) from None
        return connection

    def close(self) -> None:
        """Close every connection."""
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()


async def reach(host: str, port: int, timeout_s: float) -> None:
    """Connect once and let go; UnreachableError where nobody can be connected to."""
    try:
        async with asyncio.timeout(timeout_s):
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, host, port)
    except TimeoutError:
        raise UnreachableError(f"{host}:{port} does not answer within {timeout_s:g} s") from None
    except OSError as error:
        reason = error.strerror or error
        raise UnreachableError(f"{host}:{port} can't be connected to: {reason}; start it first") from None
    transport.close()


def allow_connections(wanted: int) -> None:
    """Raise this process's limit on open files for so many connections; UsageError where the system says no."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OTHER_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (ValueError, OSError):
        raise UsageError(
            f"{wanted:,} connections need {needed:,} open files, and the system allows fewer; "
            f"use fewer users or raise the limit: ulimit -Hn {needed}"
        ) from None

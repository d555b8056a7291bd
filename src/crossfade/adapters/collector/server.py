"""The collector as a server: proxies connect, and their lines are summed a batch at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from crossfade.adapters.collector.lines import Columns, read_lines
from crossfade.adapters.collector.losses import Losses, follow
from crossfade.adapters.collector.ticks import Ticks
from crossfade.core.evidence.sums import Tick
from crossfade.core.split import Version
from crossfade.errors import UnreachableError
from crossfade.ports import Clock

log = logging.getLogger("crossfade.collector")

MAX_LINE = 8192
"""A line that is longer is skipped to its end."""
BATCH_BYTES = 256 * 1024
FLUSH_S = 0.1
URGENT_S = 0.002
"""Until a failure of V2 is summed; those that come together are summed together."""
_URGENT = (b",v2,5", b",v2,-", b",fallback,")
_REMEMBERED = 16
"""Proxies that went away and whose numbering is remembered."""


@dataclass(slots=True)
class _Stream:
    """What one connection sends."""

    waiting: list[bytes] = field(default_factory=list)
    size: int = 0
    losses: Losses | None = None
    """None until its first line."""
    since_us: int = 0
    """Requests that started before have been reported to somebody else in part."""


class Collector:
    """Keeps `ports.Telemetry`. Fed by TCP, or directly with `feed` in tests and benchmarks."""

    def __init__(
        self,
        *,
        clock: Clock,
        tick_s: float,
        lateness_s: float,
        key: bytes,
        host: str = "127.0.0.1",
        port: int = 0,
        name: str = "collector",
        on_failure: Callable[[], None] | None = None,
        clients: bool = False,
    ) -> None:
        """Sum into ticks of `tick_s` plan seconds that wait `lateness_s` real seconds for their slowest requests.

        `key` (up to 64 bytes) keys the hashes of users; `on_failure` is called when a failure of V2 has arrived,
        a few milliseconds after it did. With `clients`, ticks tell each client's calls.
        """
        self._clock = clock
        self._host, self._port = host, port
        self._name = name
        self.lateness_s = lateness_s
        self.on_failure = on_failure
        self._server: asyncio.Server | None = None
        self._connections: dict[_Connection, _Stream] = {}
        self._gone: list[Losses] = []
        self._directly = _Stream()
        self._flusher: asyncio.TimerHandle | None = None
        self._urgent = False
        self._ticks = Ticks(clock=clock, tick_s=tick_s, lateness_s=lateness_s, key=key, clients=clients)
        self._sighted_from = 0
        self._received = 0
        self._lost = 0
        self._malformed = 0

    # ── Telemetry ───────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Begin to listen; raises UnreachableError where the address is taken."""
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: _Connection(self), self._host, self._port)
        except OSError as error:
            raise UnreachableError(
                f"the collector can't listen on {self._host}:{self._port}: {error.strerror or error}; "
                "stop what holds the port, or choose another"
            ) from None
        self._port = self._server.sockets[0].getsockname()[1]

    @property
    def address(self) -> tuple[str, int]:
        """Return host and port that proxies send their lines to."""
        return self._host, self._port

    def use_port(self, port: int) -> None:
        """Listen elsewhere, from the next start on; 0 takes a free port."""
        self._port = port

    def closed_ticks(self) -> list[Tick]:
        """Return the ticks whose watermark has passed, oldest first, without gaps in their numbers."""
        self.flush()
        self._sight()
        return self._ticks.close_due(self._name)

    def recent(self, seconds: float) -> Tick:
        """Return the requests and failures that ended in the last real seconds; nothing else of them."""
        self.flush()
        now, length = self._clock.now(), seconds * self._clock.speed
        return Tick(
            number=int(now // length) if length > 0 else 0,
            start=now - length,
            length=length,
            cells=self._ticks.recent(seconds),
            sources=frozenset({self._name}) if self._connections else frozenset(),
        )

    def last_given(self) -> Mapping[Version, float]:
        """Return when the latest request started that each version was given by assignment, plan time."""
        self.flush()
        return {version: self._clock.plan_time(us / 1e6) for version, us in self._ticks.last_given_us.items()}

    def counters(self) -> Mapping[str, int]:
        """Return lines since the start by kind, and what did not fit into a bound."""
        return {
            "received": self._received,
            "lost": self._lost,
            "malformed": self._malformed + self._ticks.unreadable,
            "late": self._ticks.late,
            "facts_not_understood": self._ticks.headers_not_understood,
            "users_not_kept": self._ticks.users_not_kept,
        }

    async def close(self) -> None:
        """Stop listening, and hang up."""
        self._unschedule()
        for connection in list(self._connections):
            connection.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    # ── lines ───────────────────────────────────────────────────────────────────────────────────────────

    def connected(self, connection: _Connection) -> None:
        """Count a proxy in."""
        if not self._connections:
            self._sighted_from = self._ticks.current()
        self._connections[connection] = _Stream()
        log.info("a proxy reports to %s:%d", *self.address)

    def disconnected(self, connection: _Connection) -> None:
        """Count a proxy out, and sum what it has sent."""
        self.flush()
        self._sight()
        stream = self._connections.pop(connection)
        if stream.losses is not None:
            self._gone = [*self._gone[1 - _REMEMBERED :], stream.losses]
        log.warning("a proxy stopped reporting to %s:%d", *self.address)

    def receive(self, connection: _Connection, lines: bytes) -> None:
        """Keep whole lines until the next flush, which is soon, and sooner where they tell of a failure of V2."""
        stream = self._connections[connection]
        stream.waiting.append(lines)
        stream.size += len(lines)
        if stream.size >= BATCH_BYTES:
            self._sum_waiting(stream)
        elif not self._urgent and any(sign in lines for sign in _URGENT):
            self._unschedule()
            self._urgent = True
            self._flusher = asyncio.get_running_loop().call_later(URGENT_S, self.flush)
        elif self._flusher is None:
            self._flusher = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def skipped(self) -> None:
        """Count a line that had no end within bounds."""
        self._received += 1
        self._count_malformed(1)

    def feed(self, lines: bytes) -> None:
        """Take whole lines, parted by newlines, as if one proxy had sent them, at once."""
        self._sum(self._directly, lines)

    def flush(self) -> None:
        """Sum what has arrived."""
        self._unschedule()
        for stream in self._connections.values():
            self._sum_waiting(stream)

    def _unschedule(self) -> None:
        if self._flusher is not None:
            self._flusher.cancel()
        self._flusher, self._urgent = None, False

    def _sum_waiting(self, stream: _Stream) -> None:
        if stream.waiting:
            lines = b"\n".join(stream.waiting)
            stream.waiting.clear()
            stream.size = 0
            self._sum(stream, lines)

    def _sum(self, stream: _Stream, lines: bytes) -> None:
        columns, received, malformed = read_lines(lines)
        self._received += received
        self._count_malformed(malformed)
        if columns is None:
            return
        self._count_losses(stream, columns)
        if self._ticks.add(columns, stream.since_us) and self.on_failure is not None:
            self.on_failure()

    def _count_losses(self, stream: _Stream, columns: Columns) -> None:
        numbers = columns.sequence.tolist()
        if stream.losses is None:
            stream.losses = follow(self._gone, numbers[0])
            if stream.losses is None:
                stream.losses = Losses()
                stream.since_us = _first_end(columns) if numbers[0] > 1 else 0
        lost = stream.losses.take(numbers)
        self._lost += lost
        self._ticks.note(lost=lost)

    def _count_malformed(self, lines: int) -> None:
        self._malformed += lines
        self._ticks.note(malformed=lines)

    def _sight(self) -> None:
        """Mark the ticks during which a proxy was connected, up to the present one."""
        if self._connections:
            current = self._ticks.current()
            self._ticks.sight(self._sighted_from, current)
            self._sighted_from = current


def _first_end(columns: Columns) -> int:
    """Return when (microseconds since the epoch) the first of a proxy's requests that we hear of ended.

    The proxy has served before and reported to somebody else, or to nobody: whatever started before this
    moment and was quick is missing here, so that what is not missing tells too little of it.
    """
    return int(columns.start_us[0]) + max(0, int(columns.total_ms[0])) * 1000


class _Connection(asyncio.Protocol):
    """One proxy's ring: cuts the stream into lines."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._rest = b""
        self._skipping = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's transports behave as asyncio's, but are no subclasses of them.
        self._transport = cast("asyncio.Transport", transport)
        self._collector.connected(self)

    def data_received(self, data: bytes) -> None:
        """Pass whole lines on; of one that does not end, wait for the end."""
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        if newline and self._skipping:
            whole = whole.partition(b"\n")[2]
            self._skipping = False
        if whole:
            self._collector.receive(self, whole)
        if self._skipping:
            rest = b""
        elif len(rest) > MAX_LINE:
            self._collector.skipped()
            self._skipping, rest = True, b""
        self._rest = rest

    def connection_lost(self, exc: Exception | None) -> None:
        """Count half a line as one that can't be read."""
        del exc
        if self._rest:
            self._collector.skipped()
        self._collector.disconnected(self)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

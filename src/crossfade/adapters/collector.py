"""The collector: HAProxy's log ring arrives over TCP, and ticks come out.

Lines are parsed in batches, column by column: rows that differ only in time and latency share a group, and numpy
counts groups. That is what keeps a million requests below three seconds of CPU. A line that can't be read is
counted and passed over; nothing that a client sends can stop the collector.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from crossfade.core.evidence.sums import BIN_FLOOR_MS, BIN_RATIO, BINS, Arm, Cell, Tick, latency_bin
from crossfade.core.facts import NO_FACTS, Facts, parse_facts
from crossfade.core.split import Version
from crossfade.errors import UnreachableError
from crossfade.ports import REQUEST_LINE, Clock

log = logging.getLogger("crossfade.collector")

MAX_REGIONS = 64
MAX_FACT_NAMES = 32
MAX_FACT_VALUES = 16
OTHER = "other"
"""Where names beyond these bounds are counted: clients must not be able to fill our memory."""
MAX_GROUPS = 20_000
MAX_FAILING_USERS = 20_000
MAX_LINE = 8192
GAVE_UP_MS = 1000
"""A client that leaves after waiting this long has been failed; one that leaves sooner has only left."""
REORDER = 256
"""Lines of several proxy threads may overtake each other by about this many numbers."""
KEEP_RECENT_S = 10.0
MAX_TICKS_AT_ONCE = 100_000
FLUSH_S = 0.05

_FIELDS = len(REQUEST_LINE)
_VERSIONS = {b"v1": Version.V1, b"v2": Version.V2}
_LOG_RATIO = float(np.log(BIN_RATIO))

Signature = tuple[bytes, ...]


@dataclass(slots=True)
class _Group:
    """What rows have in common that differ only in number, time, latency and user."""

    arm: Arm
    failure: bool = False
    critical: bool = False
    fallback: bool = False
    cached: bool = False
    waited: bool = False
    """The client left while it waited; whether that is a failure depends on how long."""
    facts: Facts = NO_FACTS


@dataclass(slots=True)
class _Counters:
    received: int = 0
    lost: int = 0
    malformed: int = 0
    late: int = 0
    facts_not_understood: int = 0


@dataclass(slots=True)
class _Open:
    """A tick being filled."""

    cells: dict[Arm, Cell] = field(default_factory=dict)
    lost: int = 0
    malformed: int = 0
    sighted: bool = False


@dataclass(slots=True)
class _Sequence:
    """The numbers one proxy process gave its lines: a gap is a loss, a restart begins anew."""

    highest: int = -1
    missing: set[int] = field(default_factory=set)

    def lost(self, numbers: Sequence[int]) -> int:
        """Take the numbers of a batch, in order of arrival; return how many lines are known by now to be lost."""
        if self.highest >= 0 and not self.missing and numbers[-1] - self.highest == len(numbers):
            self.highest = numbers[-1]
            return 0
        lost = 0
        for number in numbers:
            lost += self._take(number)
        overdue = {number for number in self.missing if number < self.highest - REORDER}
        self.missing -= overdue
        return lost + len(overdue)

    def _take(self, number: int) -> int:
        if number in self.missing:
            self.missing.discard(number)
            return 0
        lost, gap = 0, number - self.highest - 1
        if self.highest >= 0 and gap > REORDER:
            lost = gap
        elif self.highest >= 0 and gap > 0:
            self.missing.update(range(self.highest + 1, number))
        elif number < self.highest - REORDER or number == 0:
            lost = len(self.missing)
            self.missing.clear()
            self.highest = -1
        self.highest = max(self.highest, number)
        return lost


class _Columns:
    """A batch of lines of the right shape, as columns."""

    def __init__(self, rows: list[list[bytes]]) -> None:
        columns = list(zip(*rows, strict=True))
        self.sequence = list(map(int, columns[0]))
        self.start_us = np.array(list(map(int, columns[1])), dtype=np.int64)
        self.headers_us = np.array([-1 if h == b"-" else int(h) for h in columns[4]], dtype=np.int64)
        self.total_ms = list(map(int, columns[5]))
        self.user = columns[8]
        c = columns
        self.signatures: list[Signature] = list(zip(c[2], c[3], c[6], c[7], c[9], c[11], c[13], c[14], strict=True))


class Collector:
    """Keeps `ports.Telemetry`. Feed it by TCP, or directly with `feed` in tests and benchmarks."""

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
    ) -> None:
        """Sum into ticks of `tick_s` plan seconds that wait `lateness_s` real seconds for their slowest requests.

        `key` (up to 64 bytes) keys the hashes of users; `on_failure` is called when a failure of V2 has arrived.
        """
        self._clock = clock
        self._tick_s = tick_s
        self._lateness_s = lateness_s
        self._key = key
        self._host, self._port = host, port
        self._name = name
        self.on_failure = on_failure
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._last_sequence = _Sequence()
        self._buffer: list[tuple[_Sequence, bytes]] = []
        self._flusher: asyncio.TimerHandle | None = None
        self._counts = _Counters()
        self._groups: dict[Signature, _Group | None] = {}
        self._regions: dict[bytes, str] = {b"-": ""}
        self._fact_names: set[str] = set()
        self._open: dict[int, _Open] = {}
        self._sighted_from = 0
        self._next = self._number(clock.now())
        self._recent: deque[tuple[float, dict[Arm, Cell]]] = deque()

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

    def closed_ticks(self) -> list[Tick]:
        """Return the ticks whose watermark has passed, oldest first, without gaps in their numbers."""
        self.flush()
        now = self._clock.now()
        end = self._number(now - self._lateness_s * self._clock.speed)
        self._sight(self._number(now))
        if end - self._next > MAX_TICKS_AT_ONCE:
            # The clock has jumped; who reads the ticks sees the gap in their numbers.
            self._next = end
            self._open = {number: tick for number, tick in self._open.items() if number >= end}
        closed = [self._close(number) for number in range(self._next, end)]
        self._next = max(self._next, end)
        return closed

    def recent(self, seconds: float) -> Tick:
        """Return the sums of requests that ended in the last real seconds; failures and requests only."""
        self.flush()
        since = self._clock.monotonic() - seconds
        cells: dict[Arm, Cell] = {}
        for at, arms in reversed(self._recent):
            if at < since:
                break
            for arm, cell in arms.items():
                cells.setdefault(arm, Cell()).add(cell)
        now = self._clock.now()
        sources = frozenset({self._name}) if self._connections else frozenset[str]()
        return Tick(number=self._number(now), start=now - seconds, length=seconds, cells=cells, sources=sources)

    def counters(self) -> Mapping[str, int]:
        """Return lines since the start by kind."""
        counts = self._counts
        return {
            "received": counts.received,
            "lost": counts.lost,
            "malformed": counts.malformed,
            "late": counts.late,
            "facts_not_understood": counts.facts_not_understood,
        }

    async def close(self) -> None:
        """Stop listening."""
        if self._flusher is not None:
            self._flusher.cancel()
        for connection in list(self._connections):
            connection.close()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    # ── lines ───────────────────────────────────────────────────────────────────────────────────────────

    def connected(self, connection: _Connection) -> _Sequence:
        """Count a proxy in; return where its numbering stood when it was last heard."""
        if not self._connections:
            self._sighted_from = self._number(self._clock.now())
        self._connections.add(connection)
        log.info("a proxy reports to %s:%d", *self.address)
        return self._last_sequence if len(self._connections) == 1 else _Sequence()

    def disconnected(self, connection: _Connection, sequence: _Sequence) -> None:
        """Count a proxy out."""
        self._sight(self._number(self._clock.now()))
        self._connections.discard(connection)
        self._last_sequence = sequence
        log.warning("a proxy stopped reporting to %s:%d", *self.address)

    def receive(self, sequence: _Sequence, lines: bytes) -> None:
        """Keep whole lines until the next flush, which is soon."""
        self._buffer.append((sequence, lines))
        if self._flusher is None:
            self._flusher = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)

    def feed(self, lines: bytes) -> None:
        """Take whole lines as if one proxy had sent them, at once."""
        self._take(self._last_sequence, lines)

    def flush(self) -> None:
        """Sum what has arrived."""
        if self._flusher is not None:
            self._flusher.cancel()
            self._flusher = None
        buffered, self._buffer = self._buffer, []
        for sequence, lines in buffered:
            self._take(sequence, lines)

    def _take(self, sequence: _Sequence, data: bytes) -> None:
        lines = data.split(b"\n")
        rows = [line.split(b",") for line in lines if line]
        self._counts.received += len(rows)
        columns = self._columns(rows)
        if columns is None:
            return
        lost = sequence.lost(columns.sequence)
        self._counts.lost += lost
        failed = self._sum(columns, lost)
        if failed and self.on_failure is not None:
            self.on_failure()

    def _columns(self, rows: list[list[bytes]]) -> _Columns | None:
        """Return the readable rows as columns; the others are counted. None where no row is readable."""
        good = [row for row in rows if len(row) == _FIELDS]
        try:
            columns = _Columns(good) if good else None
        except (ValueError, OverflowError):
            good = [row for row in good if _readable(row)]
            columns = _Columns(good) if good else None
        bad = len(rows) - len(good)
        if bad:
            self._counts.malformed += bad
            number = max(self._next, self._number(self._clock.now()))
            self._tick(number).malformed += bad
        return columns

    # ── sums ────────────────────────────────────────────────────────────────────────────────────────────

    def _sum(self, columns: _Columns, lost: int) -> bool:
        """Add a batch to its ticks; tell whether it held a failure of V2."""
        index: dict[Signature, int] = {}
        ids = np.array([index.setdefault(s, len(index)) for s in columns.signatures], dtype=np.int64)
        groups = [self._group(signature) for signature in index]
        numbers = self._numbers(columns.start_us)
        current = self._number(self._clock.now())
        self._tick(max(self._next, min(int(numbers.max()), current))).lost += lost
        known = np.array([group is not None for group in groups])[ids]
        # A proxy whose clock runs ahead must not open ticks that nobody will close for years.
        ahead = numbers > current + 1
        late = numbers < self._next
        self._counts.late += int(np.count_nonzero(late & known))
        self._counts.malformed += int(np.count_nonzero(ahead & known))
        usable = known & ~late & ~ahead
        special = np.array([g is not None and (g.failure or g.waited) for g in groups])[ids]
        recent: dict[Arm, Cell] = {}
        plain = usable & ~special
        for number, group, count in _counted(numbers, ids, groups, plain):
            _add(self._cell(number, group.arm), group, count)
            recent.setdefault(group.arm, Cell()).requests += count
        self._add_latencies(numbers, ids, groups, columns.headers_us, usable)
        failed = False
        for row in np.nonzero(special & known)[0].tolist():
            group = groups[ids[row]]
            if group is not None:
                in_time = int(numbers[row]) if usable[row] else None
                failed |= self._add_special(in_time, group, columns, row, recent)
        if recent:
            self._remember(recent)
        return failed

    def _add_special(
        self, number: int | None, group: _Group, columns: _Columns, row: int, recent: dict[Arm, Cell]
    ) -> bool:
        """Add one failure, or one client that left; tell whether it was a failure of V2.

        A failure that comes too late for its tick (`number` None) is still one for the looks by arrival.
        """
        if group.waited and columns.total_ms[row] < GAVE_UP_MS:
            return False
        user = self._user(columns.user[row])
        cells = [recent.setdefault(group.arm, Cell())]
        if number is not None:
            cells.append(self._cell(number, group.arm))
            if group.waited:
                cells[-1].latency[latency_bin(columns.total_ms[row])] += 1
        for cell in cells:
            _add(cell, group, 1)
            cell.failures += 1
            if user is not None and len(cell.failing_users) < MAX_FAILING_USERS:
                cell.failing_users.add(user)
        return group.arm.version is Version.V2

    def _add_latencies(
        self,
        numbers: NDArray[np.int64],
        ids: NDArray[np.int64],
        groups: Sequence[_Group | None],
        headers_us: NDArray[np.int64],
        usable: NDArray[np.bool_],
    ) -> None:
        answered = usable & (headers_us >= 0)
        milliseconds = np.maximum(headers_us / 1000.0, BIN_FLOOR_MS)
        bins = np.clip(np.ceil(np.log(milliseconds) / _LOG_RATIO - 1e-9), 0, BINS - 1).astype(np.int64)
        keys = (((numbers - self._next) * len(groups) + ids) * BINS + bins)[answered]
        unique, counts = np.unique(keys, return_counts=True)
        for key, count in zip(unique.tolist(), counts.tolist(), strict=True):
            rest, latency = divmod(key, BINS)
            offset, which = divmod(rest, len(groups))
            group = groups[which]
            if group is not None:
                cell = self._cell(self._next + offset, group.arm)
                (cell.latency_cached if group.cached else cell.latency)[latency] += count

    def _remember(self, cells: dict[Arm, Cell]) -> None:
        now = self._clock.monotonic()
        self._recent.append((now, cells))
        while self._recent and self._recent[0][0] < now - KEEP_RECENT_S:
            self._recent.popleft()

    def _user(self, raw: bytes) -> int | None:
        if raw == b"-":
            return None
        return int.from_bytes(hashlib.blake2b(raw, digest_size=8, key=self._key).digest())

    def _group(self, signature: Signature) -> _Group | None:
        """Return what the rows of a signature have in common; None where they are nobody's requests."""
        if signature not in self._groups:
            if len(self._groups) >= MAX_GROUPS:
                self._groups.clear()
            self._groups[signature] = self._make_group(*signature)
        return self._groups[signature]

    def _make_group(  # noqa: PLR0917 - the columns of a line, in their order
        self,
        version: bytes,
        status: bytes,
        cohort: bytes,
        override: bytes,
        region: bytes,
        termination: bytes,
        server: bytes,
        facts: bytes,
    ) -> _Group | None:
        side = _VERSIONS.get(version)
        if side is None or termination[1:2] == b"R":
            return None  # never routed, or left before the request was sent
        arm = Arm(
            version=side,
            region=self._region(region),
            cohort="" if cohort == b"-" else unquote(cohort.decode("latin-1")),
            override=override == b"1",
        )
        fallback = server == b"fallback"
        gave_none = termination[:1] in (b"S", b"s")
        failure = fallback or gave_none or (status.isdigit() and int(status) >= 500)
        waited = termination[:1] in (b"C", b"c") and termination[1:2] != b"D" and not failure
        said = self._facts(facts)
        return _Group(
            arm=arm,
            failure=failure,
            critical=fallback or gave_none,
            fallback=fallback,
            cached=("cache", "hit") in said.values,
            waited=waited,
            facts=said,
        )

    def _region(self, raw: bytes) -> str:
        known = self._regions.get(raw)
        if known is not None:
            return known
        if len(self._regions) > MAX_REGIONS:
            return OTHER
        text = unquote(raw.decode("latin-1"), errors="replace")
        name = "".join(c for c in text if c.isprintable())[:64]
        self._regions[raw] = name
        return name

    def _facts(self, raw: bytes) -> Facts:
        if raw == b"-":
            return NO_FACTS
        facts = parse_facts(unquote(raw.decode("latin-1"), errors="replace"))
        if not facts.understood:
            self._counts.facts_not_understood += 1
        names = [name for name, _ in (*facts.values, *facts.timings)]
        for name in names:
            if len(self._fact_names) < MAX_FACT_NAMES:
                self._fact_names.add(name)
        return Facts(
            values=tuple(pair for pair in facts.values if pair[0] in self._fact_names),
            timings=tuple(pair for pair in facts.timings if pair[0] in self._fact_names),
            understood=facts.understood,
        )

    # ── ticks ───────────────────────────────────────────────────────────────────────────────────────────

    def _number(self, at: float) -> int:
        return int(at // self._tick_s)

    def _numbers(self, start_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the tick of each start; plan time is linear in wall time over a batch."""
        first = float(start_us[0]) / 1e6
        base = self._clock.plan_time(first)
        offsets = (start_us - start_us[0]) / 1e6 * self._clock.speed
        numbers: NDArray[np.int64] = np.clip((base + offsets) // self._tick_s, -(2**53), 2**53).astype(np.int64)
        return numbers

    def _tick(self, number: int) -> _Open:
        tick = self._open.get(number)
        if tick is None:
            tick = self._open[number] = _Open()
        return tick

    def _cell(self, number: int, arm: Arm) -> Cell:
        tick = self._tick(number)
        tick.sighted = True
        cell = tick.cells.get(arm)
        if cell is None:
            cell = tick.cells[arm] = Cell()
        return cell

    def _sight(self, upto: int) -> None:
        """Mark the ticks during which a proxy was connected, up to the present one."""
        if not self._connections:
            return
        for number in range(max(self._next, self._sighted_from, upto - MAX_TICKS_AT_ONCE), upto + 1):
            self._tick(number).sighted = True
        self._sighted_from = upto

    def _close(self, number: int) -> Tick:
        tick = self._open.pop(number, None) or _Open()
        return Tick(
            number=number,
            start=number * self._tick_s,
            length=self._tick_s,
            cells=tick.cells,
            lost=tick.lost,
            malformed=tick.malformed,
            sources=frozenset({self._name}) if tick.sighted else frozenset(),
        )


def _readable(row: list[bytes]) -> bool:
    try:
        numbers = [int(row[0]), int(row[1]), int(row[5]), 0 if row[4] == b"-" else int(row[4])]
    except ValueError:
        return False
    return all(-(2**53) < number < 2**53 for number in numbers)


def _counted(
    numbers: NDArray[np.int64],
    ids: NDArray[np.int64],
    groups: Sequence[_Group | None],
    chosen: NDArray[np.bool_],
) -> Iterator[tuple[int, _Group, int]]:
    """Yield tick number, group and how many of the chosen rows they share."""
    if not chosen.any():
        return
    base = int(numbers[chosen].min())
    unique, counts = np.unique((numbers[chosen] - base) * len(groups) + ids[chosen], return_counts=True)
    for key, count in zip(unique.tolist(), counts.tolist(), strict=True):
        offset, which = divmod(key, len(groups))
        group = groups[which]
        if group is not None:
            yield base + offset, group, count


def _add(cell: Cell, group: _Group, count: int) -> None:
    """Add `count` requests of a group, their latencies and failures apart."""
    cell.requests += count
    cell.critical += count * group.critical
    cell.fallbacks += count * group.fallback
    cell.cached += count * group.cached
    for name, value in group.facts.values:
        values = cell.facts.get(name)
        if values is None:
            values = cell.facts[name] = Counter()
        values[value if value in values or len(values) < MAX_FACT_VALUES else OTHER] += count
    for name, timing in group.facts.timings:
        have_count, have_sum = cell.timings.get(name, (0, 0.0))
        cell.timings[name] = (have_count + count, have_sum + count * timing)


class _Connection(asyncio.Protocol):
    """One proxy's ring: cuts the stream into lines."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self._sequence = _Sequence()
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one, and does not inherit from it
        self._sequence = self._collector.connected(self)

    def data_received(self, data: bytes) -> None:
        """Pass whole lines on; what never ends is cut, and will be counted as malformed."""
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        if newline:
            self._collector.receive(self._sequence, whole)
        if len(rest) > MAX_LINE:
            self._collector.receive(self._sequence, rest[:64])
            rest = b""
        self._rest = rest

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up half a line."""
        del exc
        self._collector.disconnected(self, self._sequence)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

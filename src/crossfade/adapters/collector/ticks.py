"""Ticks being filled: batches of rows go in, closed ticks come out."""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crossfade.adapters.collector.groups import OTHER, ClientKeys, Group, Groups, Headers, Template, flags
from crossfade.adapters.collector.lines import Columns
from crossfade.core.clients.ledger import Calls, Rows, Way
from crossfade.core.clients.sketch import Sketch
from crossfade.core.evidence.sums import BIN_FLOOR_MS, BIN_RATIO, BINS, HUNDREDTHS, Arm, Cell, Doing, Tick, latency_bin
from crossfade.core.outcome import GAVE_UP_MS, Outcome
from crossfade.core.split import BUCKETS, Version
from crossfade.ports import Clock

MAX_FACT_VALUES = 16
MAX_FAILING_USERS = 20_000
"""Kept per tick; those beyond are counted only."""
MAX_ROWS = 100_000
"""Requests of clients that wait to be added up."""
MAX_CLIENTS = 20_000
"""Named per tick where there were more; the requests of those beyond are counted only."""
MAX_TICKS_AT_ONCE = 100_000
BUCKET_S = 0.1
KEEP_RECENT_S = 10.0

_LOG_RATIO = float(np.log(BIN_RATIO))
_FAR = float(2**52)


@dataclass(slots=True)
class _Open:
    """A tick being filled."""

    cells: dict[Arm, Cell] = field(default_factory=dict)
    lost: int = 0
    malformed: int = 0
    users: int = 0
    sighted: bool = False
    rows: list[Rows] = field(default_factory=list)
    """Requests of clients."""
    waiting: int = 0
    """How many they are."""
    unnamed: list[int] = field(default_factory=lambda: [0] * len(Way))
    """Those of nobody known."""
    seen: dict[tuple[Version, str], Sketch] = field(default_factory=dict)
    """Different users by version and cohort."""
    doings: dict[tuple[str, str, str], list[NDArray[np.uint64]]] = field(default_factory=dict)
    """Users who did what the plan has an event for, as often as they did it, by event, region and cohort."""
    beyond: list[int] = field(default_factory=lambda: [0] * len(Way))
    """Those of clients beyond MAX_CLIENTS."""

    def calls(self) -> Calls:
        """Return the requests of each client."""
        return Calls(unnamed=self.unnamed, beyond=self.beyond, rows=tuple(self.rows))

    def add_rows(self, keys: list[bytes], ways: NDArray[np.int64]) -> None:
        """Add requests of clients, whose keys are empty where nobody knows them."""
        if b"" in keys:
            known = np.fromiter(map(bool, keys), dtype=np.bool_, count=len(keys))
            nobodys = np.bincount(ways[~known], minlength=len(Way)).tolist()
            self.unnamed = [a + b for a, b in zip(self.unnamed, nobodys, strict=True)]
            keys, ways = [key for key in keys if key], ways[known]
        self.rows.append(Rows(keys, ways, np.ones(len(keys), dtype=np.int64)))
        self.waiting += len(keys)
        if self.waiting > MAX_ROWS:
            self._add_up()

    def _add_up(self) -> None:
        keys, counts = Calls(rows=self.rows).grouped()
        others = counts[MAX_CLIENTS:].sum(axis=0).tolist()
        self.beyond = [a + b for a, b in zip(self.beyond, others, strict=True)]
        who, ways = np.nonzero(counts[:MAX_CLIENTS])
        named = [keys[index] for index in who.tolist()]
        self.rows, self.waiting = [Rows(named, ways, counts[who, ways])], len(named)

    def cell(self, arm: Arm) -> Cell:
        found = self.cells.get(arm)
        if found is None:
            found = self.cells[arm] = Cell()
        return found


@dataclass(slots=True)
class _Bucket:
    """What arrived in a tenth of a second."""

    number: int
    cells: dict[Arm, Cell] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Rows with what was worked out of them, column by column."""

    columns: Columns
    groups: list[Group]
    arms: list[Arm]
    group: NDArray[np.int64]
    arm: NDArray[np.int64]
    header: NDArray[np.int64]
    number: NDArray[np.int64]
    """Tick number by start."""
    in_time: NDArray[np.bool_]


class Ticks:
    """Sums rows into ticks by start, and into buckets by arrival."""

    def __init__(self, *, clock: Clock, tick_s: float, lateness_s: float, key: bytes, clients: bool) -> None:
        """Sum as `Collector` says."""
        self._clock = clock
        self.tick_s = tick_s
        self._wait_s = lateness_s * clock.speed
        self._key = key
        self._with_clients = clients
        self._groups = Groups()
        self._headers = Headers()
        self._client_keys = ClientKeys()
        self._open: dict[int, _Open] = {}
        self._first = self.current()
        """Before this one, ticks are told of only where a proxy still had something to report."""
        self.next = self._due()
        self._recent: deque[_Bucket] = deque()
        self.last_given_us: dict[Version, int] = {}
        """Start of the latest request that each version was given by assignment, microseconds since the epoch."""
        self.late = 0
        self.unreadable = 0
        self.users_not_kept = 0

    @property
    def headers_not_understood(self) -> int:
        """Return how many different Facts headers could not be read."""
        return self._headers.not_understood

    def current(self) -> int:
        """Return the number of the present tick."""
        return int(self._clock.now() // self.tick_s)

    def _due(self) -> int:
        """Return the number of the first tick whose watermark has not passed."""
        return int((self._clock.now() - self._wait_s) // self.tick_s)

    # ── filling ─────────────────────────────────────────────────────────────────────────────────────────

    def add(self, columns: Columns, since_us: int) -> bool:
        """Add rows; tell whether they hold a failure of V2.

        Requests that started before `since_us` (microseconds since the epoch) count as late: of their time only
        those that were slow are here.
        """
        self._groups.forget()
        self._headers.forget()
        batch = self._work_out(columns, since_us)
        bucket = self._bucket()
        self._note_given(batch)
        self._count_unused(batch)
        self._add_answers(batch, bucket)
        self._add_asked(batch)
        self._add_clients(batch)
        self._add_doings(batch)
        self._add_latencies(batch)
        self._add_hundredths(batch)
        failed = False
        for row in np.nonzero(
            flags(g.outcome.is_failure or g.outcome is Outcome.LEFT for g in batch.groups)[batch.group]
        )[0]:
            failed |= self._add_failure(batch, int(row), bucket)
        return failed

    def note(self, *, lost: int = 0, malformed: int = 0) -> None:
        """Count lines that did not come, or could not be read, in the tick in which that was noticed."""
        if lost or malformed:
            tick = self._tick(max(self.next, self.current()))
            tick.lost += lost
            tick.malformed += malformed

    def sight(self, first: int, last: int) -> None:
        """Mark ticks during which a proxy was connected."""
        for number in range(max(self.next, first, last - MAX_TICKS_AT_ONCE), last + 1):
            self._tick(number).sighted = True

    def _work_out(self, columns: Columns, since_us: int) -> _Batch:
        group = np.fromiter(map(self._groups.__getitem__, columns.signatures), dtype=np.int64)
        header = np.fromiter(map(self._headers.__getitem__, columns.facts), dtype=np.int64)
        groups = self._groups.groups
        number = self._numbers(columns.start_us)
        # A proxy whose clock runs ahead must not open ticks that nobody will close for years.
        in_time = (number >= self.next) & (number <= self.current() + 1) & (columns.start_us >= since_us)
        return _Batch(
            columns=columns,
            groups=groups,
            arms=self._groups.arms,
            group=group,
            arm=np.fromiter((g.arm for g in groups), dtype=np.int64)[group],
            header=header,
            number=number,
            in_time=in_time,
        )

    def _numbers(self, start_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the tick of each start; plan time is linear in wall time over a batch."""
        base = self._clock.plan_time(float(start_us[0]) / 1e6)
        offsets = (start_us - start_us[0]) / 1e6 * self._clock.speed
        numbers: NDArray[np.int64] = np.clip((base + offsets) // self.tick_s, -_FAR, _FAR).astype(np.int64)
        return numbers

    def _note_given(self, batch: _Batch) -> None:
        if not batch.arms:
            return  # nothing but requests that are nobody's has ever come
        somebodys = flags(g.outcome is not Outcome.NOBODYS for g in batch.groups)[batch.group]
        for version in Version:
            given = flags(a.version is version and not a.override for a in batch.arms)[batch.arm] & somebodys
            starts = batch.columns.start_us[given]
            if len(starts):
                self.last_given_us[version] = max(self.last_given_us.get(version, 0), int(starts.max()))

    def _count_unused(self, batch: _Batch) -> None:
        somebodys = flags(g.outcome is not Outcome.NOBODYS for g in batch.groups)[batch.group]
        late = int(np.count_nonzero(somebodys & ~batch.in_time))
        self.late += late
        unreadable = int(np.count_nonzero(flags(not g.readable for g in batch.groups)[batch.group]))
        self.unreadable += unreadable
        self.note(lost=late, malformed=unreadable)

    def _add_answers(self, batch: _Batch, bucket: _Bucket) -> None:
        """Add requests and what their answers said, clients that left apart."""
        counted = flags(g.outcome not in (Outcome.NOBODYS, Outcome.LEFT) for g in batch.groups)[batch.group]
        by_arm = np.bincount(batch.arm[counted], minlength=1)
        for arm in np.flatnonzero(by_arm).tolist():
            _cell(bucket.cells, batch.arms[arm]).requests += int(by_arm[arm])
        said = flags(g.outcome.is_the_versions for g in batch.groups)[batch.group]
        template = np.where(said, self._headers.template_of[batch.header], 0)
        chosen = counted & batch.in_time
        width = len(self._headers.templates)
        keys = (self._offsets(batch, chosen)) * width + template[chosen]
        unique, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
        sums = self._sums_of_timings(batch.header[chosen], inverse, len(unique))
        for index, (key, count) in enumerate(zip(unique.tolist(), counts.tolist(), strict=True)):
            offset, which = divmod(key, width)
            _add_said(self._cell_at(offset, batch.arms), self._headers.templates[which], count, sums[:, index])

    def _sums_of_timings(self, header: NDArray[np.int64], inverse: NDArray[np.int64], size: int) -> NDArray[np.float64]:
        widest = max((len(template.timings) for template in self._headers.templates), default=0)
        sums = np.zeros((widest, size))
        for column in range(widest):
            sums[column] = np.bincount(inverse, weights=self._headers.timings_of[header, column], minlength=size)
        return sums

    def _add_asked(self, batch: _Batch) -> None:
        """Count requests for V1's own paths, a brownout's 410s too: whoever is met by one still calls V1."""
        asked = flags(g.asked_v1 and (g.away or g.outcome is not Outcome.NOBODYS) for g in batch.groups)[batch.group]
        unique, counts = np.unique(self._offsets(batch, asked & batch.in_time), return_counts=True)
        for offset, count in zip(unique.tolist(), counts.tolist(), strict=True):
            self._cell_at(offset, batch.arms).asked_v1 += count

    def _add_clients(self, batch: _Batch) -> None:
        """Count requests by client and way; clients that left, and those that a brownout met, called as well."""
        if not self._with_clients:
            return
        somebodys = flags(g.away or g.outcome is not Outcome.NOBODYS for g in batch.groups)[batch.group]
        known = somebodys & batch.in_time
        ways = np.fromiter((g.way for g in batch.groups), dtype=np.int64)[batch.group]
        keys = self._client_keys.of(batch.columns.client)
        for number in np.unique(batch.number[known]).tolist():
            mine = known & (batch.number == number)
            whole = bool(mine.all())
            chosen = keys if whole else [keys[index] for index in np.flatnonzero(mine).tolist()]
            self._tick(number, sighted=True).add_rows(chosen, ways if whole else ways[mine])

    def _add_doings(self, batch: _Batch) -> None:
        """Note who did what the plan has an event for; overrides are a choice of their own."""
        told = batch.columns.event
        if told.count(b"-") == len(told) or not batch.arms:
            return
        names, which = np.unique(np.array(told), return_inverse=True)
        users = np.array(batch.columns.user)
        answered = flags(g.answered for g in batch.groups)[batch.group]
        assigned = flags(not arm.override for arm in batch.arms)[batch.arm]
        chosen = (names != b"-")[which] & answered & assigned & batch.in_time & (users != b"-")
        try:
            hashes = users[chosen].astype(np.int64).view(np.uint64)
        except (ValueError, OverflowError):
            return  # a proxy that hashes otherwise
        keys = self._offsets(batch, chosen) * len(names) + which[chosen]
        for key in np.unique(keys).tolist():
            offset, event = divmod(key, len(names))
            number, arm = divmod(offset, len(batch.arms))
            place = (names[event].decode("latin-1"), batch.arms[arm].region, batch.arms[arm].cohort)
            self._tick(self.next + number, sighted=True).doings.setdefault(place, []).append(hashes[keys == key])

    def _add_latencies(self, batch: _Batch) -> None:
        """Count the version's own answers by how long their headers took."""
        columns = batch.columns
        timed = flags(g.outcome.is_the_versions for g in batch.groups)[batch.group]
        chosen = timed & batch.in_time & (columns.headers_us >= 0)
        cached_by_template = flags(template.cached for template in self._headers.templates)
        cached = cached_by_template[self._headers.template_of[batch.header[chosen]]]
        milliseconds = np.maximum(columns.headers_us[chosen] / 1000.0, BIN_FLOOR_MS)
        bins = np.clip(np.ceil(np.log(milliseconds) / _LOG_RATIO - 1e-9), 0, BINS - 1).astype(np.int64)
        keys = (self._offsets(batch, chosen) * 2 + cached) * BINS + bins
        unique, counts = np.unique(keys, return_counts=True)
        for key, count in zip(unique.tolist(), counts.tolist(), strict=True):
            rest, latency = divmod(key, BINS)
            offset, from_cache = divmod(rest, 2)
            cell = self._cell_at(offset, batch.arms)
            (cell.latency_cached if from_cache else cell.latency)[latency] += count

    def _add_hundredths(self, batch: _Batch) -> None:
        """Count requests by hundredth of the users, where the hash decided."""
        counted = flags(g.outcome not in (Outcome.NOBODYS, Outcome.LEFT) for g in batch.groups)[batch.group]
        users = np.array(batch.columns.user)
        chosen = counted & batch.in_time & (users != b"-")
        try:
            hashes = users[chosen].astype(np.int64).view(np.uint64)
        except (ValueError, OverflowError):
            return  # a proxy that hashes otherwise: nothing is known of its buckets
        buckets, offsets = hashes % BUCKETS, self._offsets(batch, chosen)
        self._add_users(batch, hashes, offsets)
        keys = offsets * HUNDREDTHS + (buckets // (BUCKETS // HUNDREDTHS)).astype(np.int64)
        unique, counts = np.unique(keys, return_counts=True)
        for key, count in zip(unique.tolist(), counts.tolist(), strict=True):
            offset, hundredth = divmod(key, HUNDREDTHS)
            self._cell_at(offset, batch.arms).hundredths[hundredth] += count

    def _add_users(self, batch: _Batch, hashes: NDArray[np.uint64], offsets: NDArray[np.int64]) -> None:
        """Note who was there, by hash (k,) and what `_offsets` gives for each."""
        for offset in np.unique(offsets).tolist():
            number, index = divmod(offset, len(batch.arms))
            arm = batch.arms[index]
            if not arm.override:
                seen = self._tick(self.next + number, sighted=True).seen
                seen.setdefault((arm.version, arm.cohort), Sketch()).add(np.unique(hashes[offsets == offset]))

    def _offsets(self, batch: _Batch, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return one number for tick and arm; `_cell_at` takes it."""
        offsets: NDArray[np.int64] = (batch.number[chosen] - self.next) * len(batch.arms) + batch.arm[chosen]
        return offsets

    def _cell_at(self, offset: int, arms: list[Arm]) -> Cell:
        number, arm = divmod(offset, len(arms))
        return self._tick(self.next + number, sighted=True).cell(arms[arm])

    def _add_failure(self, batch: _Batch, row: int, bucket: _Bucket) -> bool:
        """Add one failure, or one client that left; tell whether it was a failure of V2.

        A failure that comes too late for its tick is still one for the looks by arrival.
        """
        group, arm = batch.groups[batch.group[row]], batch.arms[batch.arm[row]]
        left = group.outcome is Outcome.LEFT
        waited_ms = int(batch.columns.total_ms[row])
        if left and waited_ms < GAVE_UP_MS:
            return False
        user = self._user(batch.columns.user[row])
        cells = [_cell(bucket.cells, arm)]
        if batch.in_time[row]:
            tick = self._tick(int(batch.number[row]), sighted=True)
            cells.append(tick.cell(arm))
            if left or group.timed_out:  # at least that slow
                cells[-1].latency[latency_bin(waited_ms)] += 1
            if user is not None:
                user = self._kept(tick, cells[-1], user)
        for cell in cells:
            _add_failed(cell, group.outcome, user)
        return arm.version is Version.V2

    def _kept(self, tick: _Open, cell: Cell, user: int) -> int | None:
        if user in cell.failing_users:
            return user
        if tick.users >= MAX_FAILING_USERS:
            self.users_not_kept += 1
            return None
        tick.users += 1
        return user

    def _user(self, raw: bytes) -> int | None:
        if raw == b"-":
            return None
        return int.from_bytes(hashlib.blake2b(raw, digest_size=8, key=self._key).digest())

    def _tick(self, number: int, *, sighted: bool = False) -> _Open:
        tick = self._open.get(number)
        if tick is None:
            tick = self._open[number] = _Open()
        tick.sighted |= sighted
        return tick

    # ── by arrival ──────────────────────────────────────────────────────────────────────────────────────

    def _bucket(self) -> _Bucket:
        number = int(self._clock.monotonic() // BUCKET_S)
        if not self._recent or self._recent[-1].number != number:
            self._recent.append(_Bucket(number=number))
            while self._recent[0].number < number - KEEP_RECENT_S / BUCKET_S:
                self._recent.popleft()
        return self._recent[-1]

    def recent(self, seconds: float) -> dict[Arm, Cell]:
        """Return requests and failures that arrived in the last real seconds, to the next full tenth."""
        since = int((self._clock.monotonic() - seconds) // BUCKET_S)
        cells: dict[Arm, Cell] = {}
        for bucket in reversed(self._recent):
            if bucket.number < since:
                break
            for arm, cell in bucket.cells.items():
                _cell(cells, arm).add(cell)
        return cells

    # ── closing ─────────────────────────────────────────────────────────────────────────────────────────

    def close_due(self, source: str) -> list[Tick]:
        """Return the ticks whose watermark has passed, oldest first, without gaps in their numbers.

        Where the clock jumped over more than MAX_TICKS_AT_ONCE, those between are left out.
        """
        end = self._due()
        if end <= self.next:
            return []
        self._groups.forget(tick_ended=True)
        self._headers.forget(tick_ended=True)
        if end - self.next > MAX_TICKS_AT_ONCE:
            self._open = {number: tick for number, tick in self._open.items() if number >= end}
            self.next = self._first = end
            return []
        closed = list(self._close(range(self.next, end), source))
        self.next = end
        return closed

    def _close(self, numbers: range, source: str) -> Iterator[Tick]:
        for number in numbers:
            tick = self._open.pop(number, None) or _Open()
            if number < self._first and not tick.sighted:
                continue  # nobody listened yet, and nothing was kept for us
            self._first = min(self._first, number)
            yield Tick(
                number=number,
                start=number * self.tick_s,
                length=self.tick_s,
                cells=tick.cells,
                lost=tick.lost,
                malformed=tick.malformed,
                sources=frozenset({source}) if tick.sighted else frozenset(),
                users=tick.seen,
                calls=tick.calls() if self._with_clients else None,
                doings=tuple(_doing(place, parts) for place, parts in tick.doings.items()),
            )


def _doing(place: tuple[str, str, str], parts: Sequence[NDArray[np.uint64]]) -> Doing:
    event, region, cohort = place
    users, times = np.unique(np.concatenate(parts), return_counts=True)
    return Doing(event=event, region=region, cohort=cohort, users=users, times=times)


def _cell(cells: dict[Arm, Cell], arm: Arm) -> Cell:
    found = cells.get(arm)
    if found is None:
        found = cells[arm] = Cell()
    return found


def _add_said(cell: Cell, template: Template, count: int, sums: NDArray[np.float64]) -> None:
    """Add `count` requests whose answers said the same but for their decimals, which are summed."""
    cell.requests += count
    cell.cached += count * template.cached
    for name, value in template.values:
        values = cell.facts.get(name)
        if values is None:
            values = cell.facts[name] = Counter()
        values[value if value in values or len(values) < MAX_FACT_VALUES else OTHER] += count
    for name, total in zip(template.timings, sums.tolist(), strict=False):
        have_count, have_total = cell.timings.get(name, (0, 0.0))
        cell.timings[name] = (have_count + count, have_total + total)


def _add_failed(cell: Cell, outcome: Outcome, user: int | None) -> None:
    """Add one failure; clients that left were not counted as requests before."""
    cell.requests += outcome is Outcome.LEFT
    cell.failures += 1
    cell.critical += outcome.is_critical
    cell.fallbacks += outcome is Outcome.FALLBACK
    if user is not None:
        cell.failing_users.add(user)

"""Outcomes that programs post for users: taken once per user and day, summed into the tick that they belong to.

Which units were taken is kept in one file per day, as keyed hashes, so that a repeated post and a restart count nobody
twice. What was taken is also one line of a journal, with its units, before anyone is told so: after a crash it is
counted again, unless a tick that the store has holds it.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from crossfade.adapters.outcomes.units import HASH_BYTES, Units
from crossfade.core.enrolment import Members
from crossfade.core.evidence.sums import Arm, Cell, Tick, merge_ticks
from crossfade.core.plan import DAY, MetricKind, Plan
from crossfade.core.split import Split, Version, assign
from crossfade.errors import StoreError

REGIONS_MAX = 64
"""Regions kept apart in one tick; further ones are `other`."""
REGION_LENGTH = 64
DAYS_KEPT = 3
"""Today and two days before: what is posted for an earlier day is outdated."""
JOURNAL = "taken.jsonl"
JOURNAL_BYTES = 4_000_000
"""From here on the journal is written anew, with what may still be needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posted:
    """One outcome of one user."""

    outcome: str
    """As the plan's metric says: `{outcome: conversion}`."""
    user: str
    value: float
    """0..1."""
    at: float | None = None
    """Plan time; None: now."""
    region: str = ""
    id: str = ""
    """The poster's own; one that was taken before is not taken again."""


class Fate(StrEnum):
    """What became of a posted outcome."""

    TAKEN = "taken"
    REPEATED = "repeated"
    """The user had one of that day, or the id was taken before."""
    OUTDATED = "outdated"
    """Of an earlier phase, or too long ago: the user may have been on another version."""


@dataclass(frozen=True, slots=True)
class _Count:
    """Outcomes of one arm in one tick, as the journal has them."""

    number: int
    version: str
    region: str
    cohort: str
    outcome: str
    times: int
    total: float


class PostedOutcomes:
    """Keeps `ports.MetricsSource`; `take` is what the API calls."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        *,
        key: bytes,
        tick_s: float,
        kept: Callable[[], Awaitable[int | None]] | None = None,
    ) -> None:
        """Keep the hashes of units in `folder`, keyed by `key` (up to 64 bytes); ticks last `tick_s` plan seconds.

        kept: returns the number of the last tick that the store has, None without any; left out: there is no store.
        """
        self._plan = plan
        self._folder = folder
        self._key = key
        self._tick_s = tick_s
        self._kept = kept
        self._open: dict[int, dict[Arm, Cell]] = {}
        self._closed = -1
        """Number of the last tick that was closed."""
        self._seen: dict[int, Units] = {}
        self._journal_most = JOURNAL_BYTES
        posted = (m for m in plan.metrics if m.kind is MetricKind.OUTCOME and m.behaviour is None)
        self.names = tuple(sorted({metric.outcome for metric in posted}))
        """What may be posted."""

    async def start(self) -> None:
        """Begin with what was kept; raises StoreError where the folder can't be used, or the store does not say."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self._folder} can't be made: {error.strerror or error}") from None
        last = await self._kept() if self._kept is not None else None
        units, counts = self._read_journal()
        self._seen, self._open, self._closed = {}, {}, -1 if last is None else last
        self._keep([(day, unit) for day, unit in units if unit not in self._units(day)])
        for count in counts:
            if last is None or count.number > last:  # what is in a tick that was kept is counted
                self._add(count)

    async def close(self) -> None:
        """Let go; nothing is held open."""

    def take(
        self,
        posted: Sequence[Posted],
        *,
        assigned: Callable[[float], tuple[Split, bool] | None],
        phase_since: float,
        now: float,
        members: Members | None = None,
    ) -> Counter[Fate]:
        """Count outcomes for the versions that their users were on when they happened; return what became of them.

        assigned: the split at a plan time, and whether everybody was put on V1; None: nobody knows any more. What is
        of before `phase_since` is outdated: the phase's evidence compares the versions under one share, and the share
        was another. So is what is of a drill, when everybody was on V1, and, of users who joined or left a cohort
        (`members`; None: nobody did), what is of before that. Raises StoreError where the units can't be kept;
        nothing is taken then, and all of it may be posted again.
        """
        members = members or Members(self._plan.assignment)
        fates: Counter[Fate] = Counter(dict.fromkeys(Fate, 0))
        taken: list[tuple[int, bytes]] = []
        counts: list[_Count] = []
        present = assigned(now)
        fresh: set[bytes] = set()
        for one in posted:
            at = now if one.at is None else min(one.at, now)
            day, today = int(at // DAY), int(now // DAY)
            own = members.enrolment_of(one.user)
            then = assigned(at)
            early = at < max(phase_since, phase_since if own is None else own.at) or day <= today - DAYS_KEPT
            drilled = then is not None and then[1] and present is not None and not present[1]
            if early or drilled or then is None:
                fates[Fate.OUTDATED] += 1
                continue
            unit, known = self._hash(one.outcome, str(day), one.user), self._units(day)
            by_id = self._hash("id", one.id) if one.id else None
            if unit in known or unit in fresh or by_id in fresh or (by_id and self._has(by_id, today)):
                fates[Fate.REPEATED] += 1
                continue
            fates[Fate.TAKEN] += 1
            fresh.add(unit)
            taken.append((day, unit))
            counts.append(self._place(replace(one, at=at), members.cohort_of(one.user), then, now=now))
            if by_id is not None:
                fresh.add(by_id)
                taken.append((today, by_id))
        if taken:
            self._note({"units": [[day, unit.hex()] for day, unit in taken], "counts": _as_data(counts)})
            self._keep(taken)
        for count in counts:
            self._add(count)
        self._forget(int(now // DAY))
        return fates

    def add_to(self, tick: Tick) -> Tick:
        """Return a closed tick with the outcomes of its time, and of ticks before it that nobody reported."""
        self._closed = max(self._closed, tick.number)
        due = sorted(number for number in self._open if number <= tick.number)
        if not tick.sources:
            if due:  # they wait for the next tick, also for whoever reads the journal
                self._note({"moved": [due[0], tick.number]})
                self._move(tick.number)
            return tick
        for number in due:
            cells = self._open.pop(number)
            tick = merge_ticks(tick, Tick(number=tick.number, start=tick.start, length=tick.length, cells=cells))
        return tick

    def _place(self, one: Posted, cohort: str | None, then: tuple[Split, bool], *, now: float) -> _Count:
        split, killed = then
        version = assign(one.user, salt=self._plan.assignment.salt, split=split, cohort=cohort, killed=killed).version
        number = int((now if one.at is None else one.at) // self._tick_s)
        if number <= self._closed:
            number = max(int(now // self._tick_s), self._closed + 1)
        region = "".join(char for char in one.region if char.isprintable())[:REGION_LENGTH]
        return _Count(number, version.value, region, cohort or "", one.outcome, 1, one.value)

    def _add(self, count: _Count) -> None:
        cells = self._open.setdefault(count.number, {})
        regions, region = {arm.region for arm in cells}, count.region
        if region not in regions and len(regions) >= REGIONS_MAX:
            region = "other"
        cell = cells.setdefault(Arm(Version(count.version), region, count.cohort), Cell())
        cell.add(Cell(outcomes={count.outcome: (count.times, count.total)}))

    def _move(self, closed: int) -> None:
        """Have what waits for ticks up to `closed` wait for the one after it."""
        for number in [number for number in self._open if number <= closed]:
            for arm, cell in self._open.pop(number).items():
                self._open.setdefault(closed + 1, {}).setdefault(arm, Cell()).add(cell)

    # ── journal ─────────────────────────────────────────────────────────────────────────────────────────

    def _note(self, line: dict[str, Any]) -> None:
        """Add a line, or nothing; raises StoreError."""
        path = self._folder / JOURNAL
        try:
            with path.open("ab") as file:
                begun = file.tell()
                try:
                    file.write(orjson.dumps(line) + b"\n")
                    file.flush()
                except OSError:
                    os.truncate(path, begun)  # half a line would spoil the next
                    raise
                size = file.tell()
        except OSError as error:
            raise StoreError(f"{path} can't be written: {error.strerror or error}") from None
        if size > self._journal_most:
            self._write_anew(path)

    def _write_anew(self, path: Path) -> None:
        """Keep of the journal what a tick may still lack: a store that was away for a day is given up on."""
        _, counts = self._read_journal()
        oldest = self._closed - int(DAY / self._tick_s)
        sums: dict[tuple[int, str, str, str, str], tuple[int, float]] = {}
        for count in counts:
            if count.number > oldest:
                key = (count.number, count.version, count.region, count.cohort, count.outcome)
                times, total = sums.get(key, (0, 0.0))
                sums[key] = times + count.times, total + count.total
        line = {"units": [], "counts": _as_data(_Count(*key, *sum_) for key, sum_ in sums.items())}
        fresh = path.with_suffix(".new")
        try:
            fresh.write_bytes(orjson.dumps(line) + b"\n")
            fresh.replace(path)
        except OSError as error:
            raise StoreError(f"{fresh} can't be written: {error.strerror or error}") from None
        self._journal_most = max(JOURNAL_BYTES, 2 * path.stat().st_size)

    def _read_journal(self) -> tuple[list[tuple[int, bytes]], list[_Count]]:
        """Return units by day, and counts with the ticks that they wait for or are in."""
        path = self._folder / JOURNAL
        try:
            kept = path.read_bytes()
        except FileNotFoundError:
            return [], []
        except OSError as error:
            raise StoreError(f"{path} can't be read: {error.strerror or error}") from None
        units: list[tuple[int, bytes]] = []
        counts: list[_Count] = []
        whole = kept.rfind(b"\n") + 1
        if whole < len(kept):  # a crash cut the last line, and nobody was told that it was taken
            os.truncate(path, whole)
        try:
            for text in kept[:whole].splitlines():
                line = orjson.loads(text)
                if "moved" in line:
                    first, last = line["moved"]
                    counts = [replace(one, number=last + 1) if first <= one.number <= last else one for one in counts]
                    continue
                units += [(day, bytes.fromhex(unit)) for day, unit in line["units"]]
                counts += [_Count(*one) for one in line["counts"]]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is no journal of outcomes: {error}; move it away to begin anew") from None
        return units, counts

    # ── units ───────────────────────────────────────────────────────────────────────────────────────────

    def _hash(self, *parts: str) -> bytes:
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=HASH_BYTES).digest()

    def _has(self, unit: bytes, today: int) -> bool:
        return any(unit in self._units(day) for day in range(today - DAYS_KEPT + 1, today + 1))

    def _units(self, day: int) -> Units:
        """Return the units taken of a day, read from its file at first."""
        if day not in self._seen:
            path = self._file(day)
            try:
                if path.exists() and (cut := path.stat().st_size % HASH_BYTES):  # by a crash
                    os.truncate(path, path.stat().st_size - cut)
                kept = np.fromfile(path, dtype="<u8") if path.exists() else None
            except OSError as error:
                raise StoreError(f"{path} can't be read: {error.strerror or error}") from None
            self._seen[day] = Units(kept)
        return self._seen[day]

    def _keep(self, units: Sequence[tuple[int, bytes]]) -> None:
        by_day: dict[int, list[bytes]] = {}
        for day, unit in units:
            by_day.setdefault(day, []).append(unit)
        for day, fresh in by_day.items():
            known = self._units(day)
            try:
                with self._file(day).open("ab") as file:
                    file.write(b"".join(fresh))
            except OSError as error:
                raise StoreError(f"{self._file(day)} can't be written: {error.strerror or error}") from None
            known.add(fresh)

    def _forget(self, today: int) -> None:
        for day in [day for day in self._seen if day <= today - DAYS_KEPT]:
            del self._seen[day]
            self._file(day).unlink(missing_ok=True)

    def _file(self, day: int) -> Path:
        return self._folder / f"{day}.units"


def _as_data(counts: Iterable[_Count]) -> list[list[Any]]:
    """Return counts as rows, equal ones of a batch added up."""
    sums: dict[tuple[int, str, str, str, str], list[float]] = {}
    for one in counts:
        row = sums.setdefault((one.number, one.version, one.region, one.cohort, one.outcome), [0, 0.0])
        row[0] += one.times
        row[1] += one.total
    return [[*key, int(times), total] for key, (times, total) in sums.items()]

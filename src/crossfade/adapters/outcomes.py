"""Outcomes that programs post for users: taken once per user and day, summed into the tick that they belong to.

Which units were taken is kept in one file per day, as keyed hashes, so that a repeated post and a restart count nobody
twice. What was taken and not yet in a closed tick is in memory alone: a crash loses the last seconds.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from crossfade.core.enrolment import Members
from crossfade.core.evidence.sums import Arm, Cell, Tick, merge_ticks
from crossfade.core.plan import DAY, MetricKind, Plan
from crossfade.core.split import Split, assign
from crossfade.errors import StoreError

REGIONS_MAX = 64
"""Regions kept apart in one tick; further ones are `other`."""
REGION_LENGTH = 64
DAYS_KEPT = 3
"""Today and two days before: what is posted for an earlier day is outdated."""
_HASH_BYTES = 8


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


class PostedOutcomes:
    """Keeps `ports.MetricsSource`; `take` is what the API calls."""

    def __init__(self, plan: Plan, folder: Path, *, key: bytes, tick_s: float) -> None:
        """Keep the hashes of units in `folder`, keyed by `key` (up to 64 bytes); ticks last `tick_s` plan seconds."""
        self._plan = plan
        self._folder = folder
        self._key = key
        self._tick_s = tick_s
        self._open: dict[int, dict[Arm, Cell]] = {}
        self._closed = -1
        """Number of the last tick that was closed."""
        self._seen: dict[int, set[bytes]] = {}
        self.names = tuple(sorted({metric.outcome for metric in plan.metrics if metric.kind is MetricKind.OUTCOME}))
        """What may be posted."""

    async def start(self) -> None:
        """Begin with what was kept; raises StoreError where the folder can't be used."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self._folder} can't be made: {error.strerror or error}") from None

    async def close(self) -> None:
        """Let go; nothing is held open."""

    def take(
        self,
        posted: Sequence[Posted],
        *,
        split: Split,
        killed: bool,
        phase_since: float,
        now: float,
        members: Members | None = None,
    ) -> Counter[Fate]:
        """Count outcomes for the versions that their users are on; return what became of them.

        split, killed: the assignment in force, since `phase_since`; of users who joined or left a cohort (`members`;
        None: nobody did), since they did. Raises StoreError where the units can't be kept;
        nothing is taken then, and all of it may be posted again.
        """
        members = members or Members(self._plan.assignment)
        fates: Counter[Fate] = Counter(dict.fromkeys(Fate, 0))
        taken: list[tuple[int, bytes, Posted]] = []
        fresh: set[bytes] = set()
        for one in posted:
            at = now if one.at is None else min(one.at, now)
            day, today = int(at // DAY), int(now // DAY)
            own = members.enrolment_of(one.user)
            if at < max(phase_since, phase_since if own is None else own.at) or day <= today - DAYS_KEPT:
                fates[Fate.OUTDATED] += 1
                continue
            unit, known = self._hash(one.outcome, str(day), one.user), self._units(day)
            by_id = self._hash("id", one.id) if one.id else None
            if unit in known or unit in fresh or by_id in fresh or (by_id and self._has(by_id, today)):
                fates[Fate.REPEATED] += 1
                continue
            fates[Fate.TAKEN] += 1
            fresh.add(unit)
            taken.append((day, unit, replace(one, at=at)))
            if by_id is not None:
                fresh.add(by_id)
                taken.append((today, by_id, replace(one, outcome="")))
        self._keep([(day, unit) for day, unit, _ in taken], today=int(now // DAY))
        for _, _, one in taken:
            if one.outcome:
                self._count(one, members.cohort_of(one.user), split=split, killed=killed, now=now)
        return fates

    def add_to(self, tick: Tick) -> Tick:
        """Return a closed tick with the outcomes of its time, and of ticks before it that nobody reported."""
        self._closed = max(self._closed, tick.number)
        due = sorted(number for number in self._open if number <= tick.number)
        if not tick.sources:
            return tick
        for number in due:
            cells = self._open.pop(number)
            tick = merge_ticks(tick, Tick(number=tick.number, start=tick.start, length=tick.length, cells=cells))
        return tick

    def _count(self, one: Posted, cohort: str | None, *, split: Split, killed: bool, now: float) -> None:
        version = assign(one.user, salt=self._plan.assignment.salt, split=split, cohort=cohort, killed=killed).version
        number = int((now if one.at is None else one.at) // self._tick_s)
        if number <= self._closed:
            number = max(int(now // self._tick_s), self._closed + 1)
        cells = self._open.setdefault(number, {})
        regions = {arm.region for arm in cells}
        region = "".join(char for char in one.region if char.isprintable())[:REGION_LENGTH]
        if region not in regions and len(regions) >= REGIONS_MAX:
            region = "other"
        cell = cells.setdefault(Arm(version, region, cohort or ""), Cell())
        cell.add(Cell(outcomes={one.outcome: (1, one.value)}))

    # ── units ───────────────────────────────────────────────────────────────────────────────────────────

    def _hash(self, *parts: str) -> bytes:
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=_HASH_BYTES).digest()

    def _has(self, unit: bytes, today: int) -> bool:
        return any(unit in self._units(day) for day in range(today - DAYS_KEPT + 1, today + 1))

    def _units(self, day: int) -> set[bytes]:
        """Return the units taken of a day, read from its file at first."""
        if day not in self._seen:
            try:
                kept = self._file(day).read_bytes()
            except FileNotFoundError:
                kept = b""
            except OSError as error:
                raise StoreError(f"{self._file(day)} can't be read: {error.strerror or error}") from None
            whole = len(kept) - len(kept) % _HASH_BYTES  # a crash may have cut the last one
            self._seen[day] = {kept[i : i + _HASH_BYTES] for i in range(0, whole, _HASH_BYTES)}
        return self._seen[day]

    def _keep(self, units: Sequence[tuple[int, bytes]], *, today: int) -> None:
        by_day: dict[int, list[bytes]] = {}
        for day, unit in units:
            by_day.setdefault(day, []).append(unit)
        for day, fresh in by_day.items():
            known = self._units(day)
            try:
                with self._file(day).open("r+b" if known else "wb") as file:
                    file.seek(len(known) * _HASH_BYTES)
                    file.write(b"".join(fresh))
            except OSError as error:
                raise StoreError(f"{self._file(day)} can't be written: {error.strerror or error}") from None
        for day, fresh in by_day.items():
            self._seen[day].update(fresh)
        for day in [day for day in self._seen if day <= today - DAYS_KEPT]:
            del self._seen[day]
            self._file(day).unlink(missing_ok=True)

    def _file(self, day: int) -> Path:
        return self._folder / f"{day}.units"

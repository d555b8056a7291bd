"""What users do, from requests that the proxy tells of and events that programs post, as units in ticks.

Windows live in memory (`core.behaviour`). What opened one or counted in one is also a record of a file per day, before
anyone is told that it was taken: after a crash the files are read again, and windows that no tick in the store has are
counted anew.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from crossfade.adapters.outcomes.posted import DAYS_KEPT, REGION_LENGTH, REGIONS_MAX, Fate
from crossfade.adapters.outcomes.units import HASH_BYTES, Units
from crossfade.core.behaviour import GRACE_S, Hit, Opened, Windows
from crossfade.core.behaviour import Users as UserArray
from crossfade.core.enrolment import Members
from crossfade.core.evidence.sums import Arm, Cell, Tick, merge_ticks
from crossfade.core.plan import DAY, Behaviour, Counted, Metric, Plan
from crossfade.core.rollout import Rollout, Span
from crossfade.core.split import BUCKETS, Split, Version, user_hash
from crossfade.errors import StoreError

_SUFFIX = ".windows"
_UNSIGNED = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PostedEvent:
    """Something that one user did."""

    event: str
    """As the plan calls it."""
    user: str
    value: float = 1.0
    """At least 0: what `sums` adds up."""
    at: float | None = None
    """Plan time; None: now."""
    region: str = ""
    id: str = ""
    """The poster's own; one that was taken before is not taken again."""


@dataclass(frozen=True, slots=True)
class _Done:
    """What some users of one region and cohort did, (k,) each."""

    event: str
    region: str
    cohort: str
    users: UserArray
    at: np.ndarray[Any, np.dtype[np.float64]]
    values: np.ndarray[Any, np.dtype[np.float64]]


class UserBehaviour:
    """Keeps `ports.MetricsSource`; `take` is what the API calls."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        *,
        key: bytes,
        kept: Callable[[], Awaitable[int | None]] | None = None,
    ) -> None:
        """Keep records in `folder`; `key` (up to 64 bytes) hashes what was posted.

        kept: returns the number of the last tick that the store has, None without any; left out: there is no store.
        """
        self._plan = plan
        self._folder = folder
        self._key = key
        self._kept = kept
        self._rules: dict[str, Behaviour] = {m.outcome: m.behaviour for m in _measured(plan) if m.behaviour}
        self._windows = {name: Windows(rule) for name, rule in self._rules.items()}
        self._since = 0.0
        """Plan time since which users are assigned as they are."""
        self._regions: set[str] = set()
        self._seen: dict[int, Units] = {}
        """Hashes of what was posted, by the day on which it was taken."""
        self._due: dict[Arm, Cell] = {}
        """Of windows that are over, and in no tick that was kept."""
        self._ended = 0.0
        """End of the latest tick."""
        self.assigned: Callable[[], tuple[Rollout, Members]] = lambda: (
            Rollout(name=plan.name),
            Members(plan.assignment),
        )
        """Tells how users are assigned; whoever has the rollout sets it."""
        self.names = tuple(event.name for event in plan.events if not event.paths)
        """What may be posted."""

    async def start(self) -> None:
        """Begin with what was kept; raises StoreError where the folder can't be used, or the store does not say."""
        if not self._rules:
            return
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{self._folder} can't be made: {error.strerror or error}") from None
        last = await self._kept() if self._kept is not None else None
        self._since, self._due, self._seen = 0.0, {}, {}
        for windows in self._windows.values():
            windows.begin_anew()
        for path in sorted(self._folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stem.zfill(9)):
            for head, body in _records(path):
                self._replay(head, body, last)

    async def close(self) -> None:
        """Let go; nothing is held open."""

    # ── posted ──────────────────────────────────────────────────────────────────────────────────────────

    def adds_up(self, event: str) -> bool:
        """Tell whether an event's values are added up, so that one that is told twice would count twice."""
        return any(rule.counted is Counted.SUMS and rule.event == event for rule in self._rules.values())

    def take(self, posted: Sequence[PostedEvent], now: float) -> Counter[Fate]:
        """Count what users did; return what became of it.

        What is of before the present assignment, or of more than two days ago, is outdated: its user may have been on
        another version. So is what begins a window on a day that is past, which may have had its window. Raises
        StoreError where it can't be kept; nothing is taken then, and all of it may be posted again.
        """
        fates: Counter[Fate] = Counter(dict.fromkeys(Fate, 0))
        rollout, members = self.assigned()
        span, today = self._renew(rollout), int(now // DAY)
        begins = {rule.of for rule in self._rules.values()}
        fresh: dict[bytes, None] = {}
        rows: dict[tuple[str, str, str], list[tuple[int, float, float]]] = {}
        for one in posted:
            at = now if one.at is None else min(one.at, now)
            oldest = today if one.event in begins else today - DAYS_KEPT + 1
            if span is None or not _splits(span) or at < span.since or at // DAY < oldest:
                fates[Fate.OUTDATED] += 1
                continue
            key = self._name(one)
            if key is not None and (key in fresh or self._has(key, today)):
                fates[Fate.REPEATED] += 1
                continue
            fates[Fate.TAKEN] += 1
            fresh |= {} if key is None else {key: None}
            place = (one.event, self._region(one.region), members.cohort_of(one.user) or "")
            user = user_hash(one.user, self._plan.assignment.salt) & _UNSIGNED
            rows.setdefault(place, []).append((user, at, one.value))
        if span is not None and rows:
            done = [
                _Done(*place, np.array(users, dtype=np.uint64), np.array(at), np.array(values, dtype=np.float64))
                for place, (users, at, values) in ((place, zip(*found, strict=True)) for place, found in rows.items())
            ]
            self._count(self._split(span), done, now, keys=list(fresh))
        return fates

    # ── ticks ───────────────────────────────────────────────────────────────────────────────────────────

    def add_to(self, tick: Tick) -> Tick:
        """Return a closed tick with the windows that are over with it; those that nobody reported wait for the next."""
        if not self._rules or not tick.sources:
            return tick
        rollout, members = self.assigned()
        span, end = self._renew(rollout), tick.start + tick.length
        if span is not None and _splits(span) and tick.start >= span.since:
            done = [
                _Done(
                    one.event,
                    one.region,
                    one.cohort,
                    one.users,
                    np.full(len(one.users), tick.start),
                    one.times.astype(np.float64),
                )
                for one in tick.doings
            ]
            self._count(self._split(span), done, end)
        self._close(end, members, tick.number)
        cells, self._due = self._due, {}
        self._forget(int(self._ended // DAY))  # by the tick before: this one may get lost
        self._ended = end
        if not cells:
            return tick
        return merge_ticks(tick, Tick(number=tick.number, start=tick.start, length=tick.length, cells=cells))

    def _close(self, end: float, members: Members, number: int) -> None:
        moved = [(user & _UNSIGNED, one.at) for user, one in members.enrolments.items() if one.at > self._since]
        over = {name: windows.due(end) for name, windows in self._windows.items()}
        if any(over.values()):
            self._write({"until": end, "tick": number, "since": self._since, "moved": moved}, b"", end)
        self._add_due(end, moved)

    def _add_due(self, end: float, moved: Sequence[tuple[int, float]]) -> None:
        for name, windows in self._windows.items():
            for arm, (count, total) in windows.close(end, moved).items():
                self._due.setdefault(arm, Cell()).add(Cell(outcomes={name: (count, total)}))

    # ── counting ────────────────────────────────────────────────────────────────────────────────────────

    def _renew(self, rollout: Rollout) -> Span | None:
        """Return how users are assigned; where that is new, nothing of before counts."""
        span = rollout.spans[-1] if rollout.spans else None
        if span is not None and span.since > self._since:
            self._begin(span.since)
        return span

    def _begin(self, since: float) -> None:
        self._since = since
        self._regions, self._due = set(), {}
        for windows in self._windows.values():
            windows.begin_anew()

    def _split(self, span: Span) -> Split:
        return self._plan.phases[span.phase].split

    def _count(self, split: Split, done: Sequence[_Done], now: float, *, keys: Sequence[bytes] = ()) -> None:
        """Open windows, and count what was done in them; each is written down before it counts."""
        opened: list[tuple[str, Opened | Hit]] = []
        for name, rule in self._rules.items():
            for one in done:
                if one.event == rule.of:
                    same = [new.users for known, new in opened if known == name]  # of another region
                    opened += [(name, new) for new in self._opened(name, split, one, same) if len(new.users)]
        if opened:
            self._keep(opened, now)
        hits: list[tuple[str, Opened | Hit]] = []
        for name, rule in self._rules.items():
            for one in done:
                if one.event == rule.event:
                    hit = self._windows[name].hits(one.users, one.at, one.values)
                    hits += [(name, hit)] if len(hit.users) else []
        if hits or keys:
            self._keep(hits, now, keys=keys)

    def _opened(self, name: str, split: Split, one: _Done, same: Sequence[UserArray]) -> Iterator[Opened]:
        """Yield the windows that open, by version: the hash is the one that the proxy has compared with the share."""
        fresh = ~np.isin(one.users, np.concatenate(same)) if same else np.ones(len(one.users), dtype=np.bool_)
        on_v2 = (one.users % np.uint64(BUCKETS)).astype(np.int64) < split.share_of(one.cohort or None)
        for version, mine in ((Version.V1, ~on_v2 & fresh), (Version.V2, on_v2 & fresh)):
            if mine.any():
                arm = Arm(version, one.region, one.cohort)
                yield self._windows[name].opens(arm, one.users[mine], one.at[mine])

    def _region(self, text: str) -> str:
        region = "".join(char for char in text if char.isprintable())[:REGION_LENGTH]
        if region not in self._regions and len(self._regions) >= REGIONS_MAX:
            return "other"
        self._regions.add(region)
        return region

    def _name(self, one: PostedEvent) -> bytes | None:
        """Return what an event is known by; None where it is only known by having happened."""
        if one.id:
            parts = ["id", one.id]
        elif one.at is not None:
            parts = ["at", one.event, one.user, repr(one.at), repr(one.value)]
        else:
            return None
        text = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, key=self._key, digest_size=HASH_BYTES).digest()

    def _has(self, key: bytes, today: int) -> bool:
        return any(key in self._seen[day] for day in range(today - DAYS_KEPT + 1, today + 1) if day in self._seen)

    # ── files ───────────────────────────────────────────────────────────────────────────────────────────

    def _keep(self, new: Sequence[tuple[str, Opened | Hit]], now: float, *, keys: Sequence[bytes] = ()) -> None:
        """Write down what happened, and let it count."""
        parts: list[list[Any]] = []
        body = BytesIO()
        for name, one in new:
            arm = one.arm if isinstance(one, Opened) else None
            place = [] if arm is None else [arm.version.value, arm.region, arm.cohort]
            parts.append([name, len(one.users), *place])
            body.write(one.users.astype("<u8").tobytes())
            body.write(one.at.astype("<f8").tobytes())
            if isinstance(one, Hit):
                body.write(one.values.astype("<f4").tobytes())
        body.write(b"".join(keys))
        head = {"since": self._since, "day": int(now // DAY), "parts": parts, "keys": len(keys)}
        self._write(head, body.getvalue(), now)
        for name, one in new:
            self._windows[name].add(one)
        if keys:
            self._seen.setdefault(int(now // DAY), Units()).add(keys)

    def _write(self, head: Mapping[str, Any], body: bytes, now: float) -> None:
        """Add a record, or nothing; raises StoreError."""
        path = self._folder / f"{int(now // DAY)}{_SUFFIX}"
        try:
            with path.open("ab") as file:
                begun = file.tell()
                try:
                    file.write(orjson.dumps({**head, "bytes": len(body)}) + b"\n" + body + b"\n")
                    file.flush()
                except OSError:
                    os.truncate(path, begun)  # half a record would spoil the next
                    raise
        except OSError as error:
            raise StoreError(f"{path} can't be written: {error.strerror or error}") from None

    def _replay(self, head: Mapping[str, Any], body: bytes, last: int | None) -> None:
        if head["since"] != self._since:
            self._begin(head["since"])
        if "until" in head:
            self._add_due(head["until"], [(user, at) for user, at in head["moved"]])
            if last is not None and head["tick"] <= last:  # what is in a tick that was kept is counted
                self._due = {}
            return
        at = 0
        for name, count, *place in head["parts"]:
            users = np.frombuffer(body, dtype="<u8", count=count, offset=at).astype(np.uint64)
            times = np.frombuffer(body, dtype="<f8", count=count, offset=at + 8 * count).astype(np.float64)
            at += 16 * count
            new: Opened | Hit
            if place:
                version, region, cohort = place
                new = Opened(arm=Arm(Version(version), region, cohort), users=users, at=times)
            else:
                values = np.frombuffer(body, dtype="<f4", count=count, offset=at).astype(np.float64)
                new = Hit(users=users, at=times, values=values)
                at += 4 * count
            if name in self._windows:
                self._windows[name].add(new)
        keys = [body[i : i + HASH_BYTES] for i in range(at, at + HASH_BYTES * head["keys"], HASH_BYTES)]
        if keys:
            self._seen.setdefault(head["day"], Units()).add(keys)

    def _forget(self, today: int) -> None:
        for day in [day for day in self._seen if day <= today - DAYS_KEPT]:
            del self._seen[day]
        longest = max(rule.within_s for rule in self._rules.values()) + GRACE_S
        oldest = today - max(DAYS_KEPT, int(longest // DAY) + 2)
        for path in self._folder.glob(f"*{_SUFFIX}"):
            if path.stem.isdecimal() and int(path.stem) < oldest:
                path.unlink(missing_ok=True)


def _measured(plan: Plan) -> Iterator[Metric]:
    return (metric for metric in plan.metrics if metric.behaviour is not None)


def _splits(span: Span) -> bool:
    """Tell whether users are on both versions as the plan says, and not all on V1."""
    return span.opened and not span.killed


def _records(path: Path) -> Iterator[tuple[Mapping[str, Any], bytes]]:
    """Yield the records of a file; half of one, by a crash, is cut off: nobody was told that it was taken."""
    try:
        with path.open("rb") as file:
            while line := file.readline():
                whole = file.tell() - len(line)
                head = _head(line, path)
                body = file.read(head["bytes"] + 1) if head is not None else b""
                if head is None or len(body) != head["bytes"] + 1:
                    os.truncate(path, whole)
                    return
                yield head, body[:-1]
    except OSError as error:
        raise StoreError(f"{path} can't be read: {error.strerror or error}") from None


def _head(line: bytes, path: Path) -> Mapping[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        head: Mapping[str, Any] = orjson.loads(line)
        int(head["bytes"])
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} holds no records of what users did: {error}; move it away to begin anew") from None
    return head

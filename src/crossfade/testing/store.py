"""A store in memory that fails when told to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import orjson

from crossfade.adapters.store import KEPT_DECISIONS, check_numbers
from crossfade.core.clients.register import Registered
from crossfade.core.enrolment import Enrolment
from crossfade.core.evidence.codec import decode_tick, encode_tick
from crossfade.core.evidence.sums import Tick
from crossfade.core.feedback import HAPPY_FROM, Feedback, FeedbackCount
from crossfade.core.jsonable import to_json
from crossfade.core.look import KeptLook, KeptTick
from crossfade.core.plan import DAY
from crossfade.errors import ConflictError, CrossfadeError, StoreError, UnreachableError, UsageError
from crossfade.ports import Lease, StoredEvent


class MemoryStore:
    """Keeps `ports.Store`, passes the same suite as the real ones, and goes wrong on purpose.

    Two controllers share a database by sharing one of these; closing it loses nothing.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        """Names of the methods called so far, failed ones included."""
        self._opened = False
        self._failures: list[CrossfadeError] = []
        self._lost_replies: list[CrossfadeError] = []
        self._events: dict[str, list[StoredEvent]] = {}
        self._ticks: dict[str, dict[int, KeptTick]] = defaultdict(dict)
        self._evidence: dict[str, tuple[int, bytes]] = {}
        self._decisions: dict[str, list[bytes]] = defaultdict(list)
        self._looks: dict[str, list[KeptLook]] = defaultdict(list)
        self._notices: dict[str, dict[str, bytes]] = defaultdict(dict)
        self._ledgers: dict[str, bytes] = {}
        self._register: dict[str, dict[str, Registered]] = defaultdict(dict)
        self._feedback: dict[str, list[Feedback]] = defaultdict(list)
        self._populations: dict[str, bytes] = {}
        self._keys: dict[tuple[str, str], bytes] = {}
        self._asked: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self._enrolments: dict[str, dict[int, Enrolment]] = defaultdict(dict)
        self._leases: dict[str, Lease] = {}

    # ── faults ──────────────────────────────────────────────────────────────────────────────────────────

    def fail_next(self, calls: int = 1, error: CrossfadeError | None = None) -> None:
        """Let the next calls raise and change nothing; UnreachableError where no error is given."""
        self._failures += [error or UnreachableError("the store does not answer (on purpose)")] * calls

    def lose_reply(self, writes: int = 1, error: CrossfadeError | None = None) -> None:
        """Let the next writes that succeed raise all the same: committed, and the reply was lost."""
        self._lost_replies += [error or UnreachableError("the store's reply was lost (on purpose)")] * writes

    def heal(self) -> None:
        """Take back all faults that have not happened yet."""
        self._failures.clear()
        self._lost_replies.clear()

    @contextmanager
    def _call(self, name: str, *, write: bool = False) -> Iterator[None]:
        self.calls.append(name)
        if self._failures:
            raise self._failures.pop(0)
        if not self._opened and name != "open":
            raise StoreError("the store is not open; call open() first")
        yield
        if write and self._lost_replies:
            raise self._lost_replies.pop(0)

    # ── the port ────────────────────────────────────────────────────────────────────────────────────────

    async def open(self) -> None:
        """Be ready."""
        with self._call("open"):
            self._opened = True

    def _must_hold(self, rollout: str, generation: int) -> None:
        held = self._leases.get(rollout)
        if (0 if held is None else held.generation) != generation:
            who = f"{held.holder} leads at {held.address}" if held is not None and held.holder else "nobody leads"
            raise ConflictError(f"this process does not lead {rollout} (any more): {who}")

    async def append(self, rollout: str, revision: int, events: Sequence[StoredEvent], *, generation: int = 0) -> None:
        """Append events after `revision`, all or none; ConflictError where the history does not end there."""
        check_numbers(rollout, revision, events)
        with self._call("append", write=True):
            history = self._events.get(rollout, [])
            if not events:
                return
            self._must_hold(rollout, generation)
            if len(history) != revision:
                raise ConflictError(
                    f"{rollout} is at revision {len(history)}, not {revision}: somebody else has written"
                )
            self._events.pop(rollout, None)  # what was written to last stands last
            self._events[rollout] = [*history, *map(_kept, events)]

    async def events(self, rollout: str, after: int = 0) -> Sequence[StoredEvent]:
        """Return the events with a revision above `after`, in order."""
        with self._call("events"):
            return [_kept(event) for event in self._events.get(rollout, [])[max(after, 0) :]]

    async def rollouts(self) -> Sequence[str]:
        """Return the names of all rollouts; the one that was written to last comes first."""
        with self._call("rollouts"):
            return list(reversed(self._events))

    async def evidence(self, rollout: str) -> tuple[int, bytes] | None:
        """Return the highest number of a kept tick and the latest evidence."""
        with self._call("evidence"):
            return self._evidence.get(rollout)

    async def save_ticks(
        self,
        rollout: str,
        ticks: Sequence[KeptTick],
        evidence: bytes,
        *,
        ledger: bytes = b"",
        population: bytes = b"",
        generation: int = 0,
    ) -> int:
        """Keep ticks with the evidence, ledger and population that include them; return how many were new."""
        with self._call("save_ticks", write=True):
            self._must_hold(rollout, generation)
            known = self._ticks[rollout]
            fresh = {kept.tick.number: kept for kept in ticks if kept.tick.number not in known}
            if fresh:
                known |= {number: replace(kept, tick=_same(kept.tick)) for number, kept in fresh.items()}
                self._evidence[rollout] = (max(known), evidence)
                if ledger:
                    self._ledgers[rollout] = ledger
                if population:
                    self._populations[rollout] = population
        return len(fresh)

    async def ticks(self, rollout: str, after: int | None = None, limit: int = 1000) -> Sequence[KeptTick]:
        """Return the first `limit` of the ticks numbered above `after` (None: of all), in order."""
        with self._call("ticks"):
            known = self._ticks[rollout]
            numbers = [number for number in sorted(known) if after is None or number > after]
            return [replace(known[number], tick=_same(known[number].tick)) for number in numbers[: max(limit, 0)]]

    async def decisions(
        self, rollout: str, limit: int = 50, before: int | None = None
    ) -> Sequence[Mapping[str, object]]:
        """Return the latest decisions, newest first, of those numbered below `before` (None: of all)."""
        with self._call("decisions"):
            latest = [orjson.loads(decision) for decision in reversed(self._decisions[rollout])]
            return [kept for kept in latest if before is None or kept["number"] < before][: max(limit, 0)]

    async def save_look(self, rollout: str, look: KeptLook, *, generation: int = 0) -> None:
        """Keep one look, and its record."""
        with self._call("save_look", write=True):
            self._must_hold(rollout, generation)
            looks = self._looks[rollout]
            number = looks[-1].number + 1 if looks else 1
            window = None if look.look.window is None else _same(look.look.window)
            record = None if look.record is None else orjson.loads(to_json({"at": look.look.at, **look.record}))
            looks.append(replace(look, look=replace(look.look, window=window), record=record, number=number))
            if record is not None:
                kept = self._decisions[rollout]
                kept.append(to_json({**record, "number": number}))
                del kept[:-KEPT_DECISIONS]

    async def looks(self, rollout: str, after: int = 0, limit: int = 1000) -> Sequence[KeptLook]:
        """Return the first `limit` of the looks numbered above `after`, in order, each with the record it has."""
        with self._call("looks"):
            return [look for look in self._looks[rollout] if look.number > after][: max(limit, 0)]

    async def notices(self, rollout: str) -> Mapping[str, bytes]:
        """Return the logbook of each rule, by its name."""
        with self._call("notices"):
            return dict(self._notices[rollout])

    async def save_notices(self, rollout: str, logbooks: Mapping[str, bytes], *, generation: int = 0) -> None:
        """Keep the logbooks of these rules; those of others stay."""
        with self._call("save_notices", write=True):
            self._must_hold(rollout, generation)
            self._notices[rollout] |= logbooks

    async def population(self, rollout: str) -> bytes | None:
        """Return the users of a phase; None where none were kept."""
        with self._call("population"):
            return self._populations.get(rollout)

    async def ledger(self, rollout: str) -> bytes | None:
        """Return the latest ledger of clients; None where none was kept."""
        with self._call("ledger"):
            return self._ledgers.get(rollout)

    async def register(self, rollout: str) -> Mapping[str, Registered]:
        """Return what is written down of clients, by their ids, in their order."""
        with self._call("register"):
            return dict(sorted(self._register[rollout].items()))

    async def save_register(
        self, rollout: str, entries: Sequence[Registered], gone: Sequence[str] = (), *, generation: int = 0
    ) -> None:
        """Keep entries in the place of those of the same clients, and forget those of `gone`."""
        with self._call("save_register", write=True):
            self._must_hold(rollout, generation)
            kept = {client: one for client, one in self._register[rollout].items() if client not in gone}
            self._register[rollout] = kept | {one.client: one for one in entries}

    async def add_feedback(self, rollout: str, said: Feedback, *, at_most: int, generation: int = 0) -> bool:
        """Keep one thing that a user said; return whether it is new."""
        with self._call("add_feedback", write=True):
            self._must_hold(rollout, generation)
            kept = self._feedback[rollout]
            if any(one.key == said.key for one in kept):
                return False
            if sum(one.user == said.user and abs(one.at - said.at) < DAY for one in kept) >= at_most:
                raise UsageError(f"this user has said {at_most} things within a day, which is as many as are kept")
            kept.append(said)
            return True

    async def feedback(
        self, rollout: str, *, before: int | None = None, limit: int = 100, version: str = "", topic: str | None = None
    ) -> Sequence[tuple[int, Feedback]]:
        """Return the latest, newest first, with their numbers."""
        with self._call("feedback"):
            found = [
                (number, one)
                for number, one in enumerate(self._feedback[rollout], 1)
                if (before is None or number < before)
                and (not version or one.version == version)
                and (topic is None or one.topic == topic)
            ]
            return found[::-1][:limit]

    async def feedback_counts(self, rollout: str, since: float) -> Sequence[FeedbackCount]:
        """Return how much was said, by version, topic and region."""
        with self._call("feedback_counts"):
            groups: dict[tuple[str, str, str], list[Feedback]] = defaultdict(list)
            for one in self._feedback[rollout]:
                if one.at >= since:
                    groups[one.version, one.topic, one.region].append(one)
            return [
                FeedbackCount(
                    version=version,
                    topic=topic,
                    region=region,
                    said=len(group),
                    complaints=sum(bool(one.complaint) for one in group),
                    ratings=sum(one.rating is not None for one in group),
                    happy=sum((one.rating or 0) >= HAPPY_FROM for one in group),
                )
                for (version, topic, region), group in sorted(groups.items())
            ]

    async def ask_once(self, rollout: str, phase: str, user: int, *, generation: int = 0) -> bool:
        """Note that a user is asked in a phase; return whether they were not before."""
        with self._call("ask_once", write=True):
            self._must_hold(rollout, generation)
            asked = self._asked[rollout]
            known = (phase, user) in asked
            asked.add((phase, user))
            return not known

    async def asked_in(self, rollout: str) -> Sequence[str]:
        """Return the phases in which anybody was asked."""
        with self._call("asked_in"):
            return sorted({phase for phase, _ in self._asked[rollout]})

    async def forget_asked(self, rollout: str, phase: str, *, limit: int = 5000, generation: int = 0) -> int:
        """Let go of who was asked in a phase, `limit` at a time."""
        with self._call("forget_asked", write=True):
            self._must_hold(rollout, generation)
            gone = [one for one in self._asked[rollout] if one[0] == phase][:limit]
            self._asked[rollout].difference_update(gone)
            return len(gone)

    async def forget_feedback(
        self, rollout: str, *, user: int | None = None, before: float | None = None, generation: int = 0
    ) -> int:
        """Let go of what one user said, or of what is old."""
        with self._call("forget_feedback", write=True):
            self._must_hold(rollout, generation)
            kept = self._feedback[rollout]
            gone = [one for one in kept if (user is None or one.user == user) and (before is None or one.at < before)]
            self._feedback[rollout] = [one for one in kept if one not in gone]
            self._asked[rollout] = {one for one in self._asked[rollout] if one[1] != user}
            return len(gone)

    async def key(self, rollout: str, name: str) -> bytes | None:
        """Return a key; None where none is kept."""
        with self._call("key"):
            return self._keys.get((rollout, name))

    async def keep_key(self, rollout: str, name: str, proposed: bytes, *, generation: int = 0) -> bytes:
        """Keep a key where there is none, and return the one that is kept."""
        with self._call("keep_key", write=True):
            self._must_hold(rollout, generation)
            return self._keys.setdefault((rollout, name), proposed)

    async def enrolments(self, rollout: str) -> Mapping[int, Enrolment]:
        """Return who has joined a cohort or left one."""
        with self._call("enrolments"):
            return dict(sorted(self._enrolments[rollout].items()))

    async def save_enrolments(
        self, rollout: str, kept: Sequence[Enrolment], forgotten: Sequence[int] = (), *, generation: int = 0
    ) -> None:
        """Keep enrolments in the place of those of the same users, and forget users."""
        with self._call("save_enrolments", write=True):
            self._must_hold(rollout, generation)
            left = {user: one for user, one in self._enrolments[rollout].items() if user not in forgotten}
            self._enrolments[rollout] = left | {one.user: one for one in kept}

    async def lease(self, rollout: str) -> Lease | None:
        """Return who may act."""
        with self._call("lease"):
            return self._leases.get(rollout)

    async def acquire(self, wanted: Lease, seen: Lease | None) -> None:
        """Put `wanted` in the place of `seen`; ConflictError where the lease is not that any more."""
        with self._call("acquire", write=True):
            now = self._leases.get(wanted.rollout)
            if (now and (now.generation, now.beat)) != (seen and (seen.generation, seen.beat)):
                raise ConflictError(f"somebody else has just taken the lease of {wanted.rollout}")
            self._leases[wanted.rollout] = wanted

    async def renew(self, lease: Lease) -> None:
        """Raise the beat of a lease; ConflictError where it has another generation."""
        with self._call("renew", write=True):
            self._must_hold(lease.rollout, lease.generation)
            held = self._leases[lease.rollout]
            self._leases[lease.rollout] = replace(held, beat=held.beat + 1)

    async def release(self, lease: Lease) -> None:
        """Give a lease back; changes nothing where another one has it."""
        with self._call("release", write=True):
            held = self._leases.get(lease.rollout)
            if held is not None and held.generation == lease.generation:
                free = replace(held, generation=held.generation + 1, holder="", address="")
                self._leases[lease.rollout] = free

    async def prune(self, rollout: str, before: float, *, limit: int = 500, generation: int = 0) -> int:
        """Let go of ticks, looks and records from before plan time `before`, the oldest first, `limit` of each."""
        with self._call("prune", write=True):
            self._must_hold(rollout, generation)
            ticks, looks, records = self._ticks[rollout], self._looks[rollout], self._decisions[rollout]
            oldest = [ticks[number].tick for number in sorted(ticks)[:limit]]
            old = [tick.number for tick in oldest if tick.start + tick.length <= before]
            for number in old:
                del ticks[number]
            count = len(looks) + len(records)
            self._looks[rollout] = [look for look in looks[:limit] if look.look.at >= before] + looks[limit:]
            late = [record for record in records[:limit] if orjson.loads(record)["at"] >= before]
            self._decisions[rollout] = late + records[limit:]
            return len(old) + count - len(self._looks[rollout]) - len(self._decisions[rollout])

    async def close(self) -> None:
        """Let go; what was kept stays."""
        self._opened = False


def _same(tick: Tick) -> Tick:
    """Return a tick as a database would give it back: nobody else's."""
    return decode_tick(encode_tick(tick))


def _kept(event: StoredEvent) -> StoredEvent:
    """Return an event as a database would give it back: its data is JSON by then, and nobody else's."""
    return StoredEvent(
        rollout=event.rollout,
        revision=event.revision,
        at=event.at,
        kind=event.kind,
        data=orjson.loads(to_json(event.data)),
    )

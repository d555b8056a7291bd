"""Rollouts in SQLite or PostgreSQL: one schema, one set of statements.

An append is a compare-and-swap on the revision: whoever sees another last revision than they assumed writes
nothing. Ticks and the evidence that includes them are one transaction, so a crash leaves all or none. Each write
carries the generation of its writer's lease, and is refused in the same transaction where another one holds it.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from crossfade.adapters.store import schema
from crossfade.adapters.store.copies import Copier, must_be_new, rows_of
from crossfade.adapters.store.database import Database
from crossfade.core.clients.register import Registered
from crossfade.core.enrolment import Enrolment
from crossfade.core.evidence.codec import decode_tick, encode_tick
from crossfade.core.evidence.sums import Tick
from crossfade.core.feedback import HAPPY_FROM, Feedback, FeedbackCount
from crossfade.core.gates import Surroundings
from crossfade.core.jsonable import to_json
from crossfade.core.look import KeptLook, KeptTick, Look
from crossfade.core.plan import DAY
from crossfade.errors import ConflictError, UsageError
from crossfade.ports import Lease, Record, StoredEvent

KEPT_DECISIONS = 10_000
"""Decisions kept per rollout; older ones are let go."""
PACKING = 1
"""How hard ticks are compressed: a third of the size in a tenth of a millisecond; harder gains little more."""

_events, _ticks, _evidence = schema.events, schema.ticks, schema.evidence
_decisions, _looks, _leases = schema.decisions, schema.looks, schema.leases
_notices, _register, _ledger = schema.notices, schema.register, schema.ledger
_enrolments = schema.enrolments
_feedback = schema.feedback
_asked = schema.asked
_keys = schema.keys
_population = schema.population


class SqlStore:
    """Keeps `ports.Store` on a database. Every method raises StoreError where the database can't keep or give
    what was asked, and UnreachableError where its server does not answer.
    """

    def __init__(self, url: str, *, must_exist: bool = False) -> None:
        """Take `sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`; raises StoreError for any other URL.

        With `must_exist`, a SQLite file that is not there is an error when it is opened.
        """
        self._database = Database(url, must_exist=must_exist)

    @property
    def shown(self) -> str:
        """Return the database's URL as it may be shown."""
        return self._database.shown

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────

    async def open(self) -> None:
        """Connect, and make the schema or bring it up to date.

        Raises StoreError where the database can't be opened or its schema is a later version's, UnreachableError
        where the server does not answer. What it raises names the URL without its password, and what to do.
        """
        await self._database.open()

    async def close(self) -> None:
        """Let go of the database; calling it again, or before `open`, is harmless."""
        await self._database.close()

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────

    async def append(self, rollout: str, revision: int, events: Sequence[StoredEvent], *, generation: int = 0) -> None:
        """Append events after `revision`, all or none.

        Raises ConflictError where the history does not end at `revision`: someone else has appended, or this is
        the second try of an append whose reply was lost. Either way: read the history anew. Raises ValueError
        where the events are another rollout's or are not numbered from `revision + 1`.
        """
        check_numbers(rollout, revision, events)
        if not events:
            return
        rows = [_event_row(event) for event in events]
        async with self._database.transaction(write=True) as connection:
            await _must_hold(connection, rollout, generation)
            last = await connection.scalar(sa.select(sa.func.max(_events.c.revision)).where(_of(_events, rollout)))
            if (last or 0) != revision:
                raise ConflictError(f"{rollout} is at revision {last or 0}, not {revision}: somebody else has written")
            try:
                await connection.execute(sa.insert(_events), rows)
            except IntegrityError:  # PostgreSQL lets two look at the same time
                raise ConflictError(f"{rollout} is past revision {revision}: somebody else has written") from None

    async def events(self, rollout: str, after: int = 0) -> Sequence[StoredEvent]:
        """Return the events with a revision above `after`, in order; StoreError where one is missing or damaged."""
        query = sa.select(_events).where(_of(_events, rollout), _events.c.revision > after)
        async with self._database.transaction(write=False) as connection:
            rows = (await connection.execute(query.order_by(_events.c.revision))).all()
        for expected, row in enumerate(rows, start=max(after, 0) + 1):
            if row.revision != expected:
                raise self._database.damaged(f"event {expected} of {rollout} is missing")
        return [
            StoredEvent(
                rollout=row.rollout,
                revision=row.revision,
                at=row.at,
                kind=row.kind,
                data=self._loads(row.data, f"event {row.revision} of {rollout}"),
            )
            for row in rows
        ]

    async def rollouts(self) -> Sequence[str]:
        """Return the names of all rollouts; the one that was written to last comes first."""
        query = sa.select(_events.c.rollout).group_by(_events.c.rollout).order_by(sa.func.max(_events.c.id).desc())
        async with self._database.transaction(write=False) as connection:
            return list((await connection.scalars(query)).all())

    # ── evidence ────────────────────────────────────────────────────────────────────────────────────────

    async def evidence(self, rollout: str) -> tuple[int, bytes] | None:
        """Return the highest number of a kept tick and the latest evidence; None where no tick was kept."""
        query = sa.select(_evidence.c.number, _evidence.c.state).where(_of(_evidence, rollout))
        async with self._database.transaction(write=False) as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else (row.number, bytes(row.state))

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
        """Keep ticks with the evidence, ledger and population that include them, in one transaction.

        Returns how many were new. A tick whose number was kept before stays as it was; where all were, the others do
        too.
        """
        if not ticks:
            return 0
        insert = postgresql.insert if self._database.is_postgresql else sqlite.insert
        last = max(kept.tick.number for kept in ticks)
        state = insert(_evidence).values(rollout=rollout, number=last, state=evidence)
        new, old = state.excluded.number, _evidence.c.number
        fresh = 0
        async with self._database.transaction(write=True) as connection:
            await _must_hold(connection, rollout, generation)
            for kept in ticks:
                row = _tick_row(rollout, kept)
                fresh += (await connection.execute(insert(_ticks).values(row).on_conflict_do_nothing())).rowcount
            if fresh:
                await connection.execute(
                    state.on_conflict_do_update(
                        index_elements=[_evidence.c.rollout],
                        # A late tick does not turn the number back.
                        set_={"number": sa.case((new > old, new), else_=old), "state": state.excluded.state},
                    )
                )
            for table, whole in ((_ledger, ledger), (_population, population)):
                if fresh and whole:
                    keep = insert(table).values(rollout=rollout, state=whole)
                    update = keep.on_conflict_do_update(
                        index_elements=[table.c.rollout], set_={"state": keep.excluded.state}
                    )
                    await connection.execute(update)
        return fresh

    async def ticks(self, rollout: str, after: int | None = None, limit: int = 1000) -> Sequence[KeptTick]:
        """Return the first `limit` of the ticks numbered above `after` (None: of all), in order."""
        query = sa.select(_ticks).where(_of(_ticks, rollout)).order_by(_ticks.c.number).limit(max(limit, 0))
        if after is not None:
            query = query.where(_ticks.c.number > after)
        async with self._database.transaction(write=False) as connection:
            rows = (await connection.execute(query)).all()
        return [
            KeptTick(
                tick=self._tick(row.data, f"tick {row.number} of {rollout}"),
                revision=row.revision,
                previous=row.previous,
            )
            for row in rows
        ]

    # ── decisions ───────────────────────────────────────────────────────────────────────────────────────

    async def decisions(
        self, rollout: str, limit: int = 50, before: int | None = None
    ) -> Sequence[Mapping[str, object]]:
        """Return the latest decisions, newest first, of those numbered below `before` (None: of all)."""
        query = sa.select(_decisions.c.id, _decisions.c.at, _decisions.c.data).where(_of(_decisions, rollout))
        if before is not None:
            query = query.where(_decisions.c.id < before)
        async with self._database.transaction(write=False) as connection:
            rows = (await connection.execute(query.order_by(_decisions.c.id.desc()).limit(max(limit, 0)))).all()
        return [{"at": row.at, **self._loads(row.data, f"a decision of {rollout}"), "number": row.id} for row in rows]

    async def save_look(self, rollout: str, look: KeptLook, *, generation: int = 0) -> None:
        """Keep one look, and its record; let go of the records beyond the latest KEPT_DECISIONS."""
        beyond = sa.select(_decisions.c.id).where(_of(_decisions, rollout)).order_by(_decisions.c.id.desc())
        last_old = beyond.offset(KEPT_DECISIONS).limit(1).scalar_subquery()
        async with self._database.transaction(write=True) as connection:
            await _must_hold(connection, rollout, generation)
            keep = sa.insert(_looks).values(_look_row(rollout, look)).returning(_looks.c.id)
            number = await connection.scalar(keep)
            if look.record is None:
                return
            record = {"rollout": rollout, "at": look.look.at, "data": to_json(look.record).decode(), "look": number}
            await connection.execute(sa.insert(_decisions).values(record))
            await connection.execute(sa.delete(_decisions).where(_of(_decisions, rollout), _decisions.c.id <= last_old))

    async def looks(self, rollout: str, after: int = 0, limit: int = 1000) -> Sequence[KeptLook]:
        """Return the first `limit` of the looks numbered above `after`, in order, each with the record it has."""
        query = (
            sa.select(_looks, _decisions.c.data)
            .outerjoin(_decisions, _decisions.c.look == _looks.c.id)
            .where(_of(_looks, rollout), _looks.c.id > after)
            .order_by(_looks.c.id)
        )
        async with self._database.transaction(write=False) as connection:
            rows = (await connection.execute(query.limit(max(limit, 0)))).all()
        return [self._look(row, f"look {row.id} of {rollout}") for row in rows]

    # ── notices ─────────────────────────────────────────────────────────────────────────────────────────

    async def notices(self, rollout: str) -> Mapping[str, bytes]:
        """Return the logbook of each rule, by its name."""
        query = sa.select(_notices.c.rule, _notices.c.logbook).where(_of(_notices, rollout))
        async with self._database.transaction(write=False) as connection:
            return {row.rule: bytes(row.logbook) for row in (await connection.execute(query)).all()}

    async def save_notices(self, rollout: str, logbooks: Mapping[str, bytes], *, generation: int = 0) -> None:
        """Keep the logbooks of these rules, all or none; those of others stay."""
        insert = postgresql.insert if self._database.is_postgresql else sqlite.insert
        async with self._database.transaction(write=True) as connection:
            await _must_hold(connection, rollout, generation)
            for rule, logbook in logbooks.items():
                keep = insert(_notices).values(rollout=rollout, rule=rule, logbook=logbook)
                same = [_notices.c.rollout, _notices.c.rule]
                update = keep.on_conflict_do_update(index_elements=same, set_={"logbook": keep.excluded.logbook})
                await connection.execute(update)

    async def population(self, rollout: str) -> bytes | None:
        """Return the users of a phase; None where none were kept."""
        query = sa.select(_population.c.state).where(_of(_population, rollout))
        async with self._database.transaction(write=False) as connection:
            found = await connection.scalar(query)
        return None if found is None else bytes(found)

    # ── clients ───────────────────────────────────────────────────────────────────────────────────────────

    async def ledger(self, rollout: str) -> bytes | None:
        """Return the latest ledger of clients; None where none was kept."""
        query = sa.select(_ledger.c.state).where(_of(_ledger, rollout))
        async with self._database.transaction(write=False) as connection:
            found = await connection.scalar(query)
        return None if found is None else bytes(found)

    async def register(self, rollout: str) -> Mapping[str, Registered]:
        """Return what is written down of clients, by their ids, in their order."""
        query = sa.select(_register).where(_of(_register, rollout))
        async with self._database.transaction(write=False) as connection:
            rows = (await connection.execute(query)).all()
        found = (self._registered(row, f"client {row.client!r} of {rollout}") for row in rows)
        return {one.client: one for one in sorted(found, key=lambda one: one.client)}

    async def save_register(
        self, rollout: str, entries: Sequence[Registered], gone: Sequence[str] = (), *, generation: int = 0
    ) -> None:
        """Keep entries in the place of those of the same clients, and forget those of `gone`, all or none."""
        insert = postgresql.insert if self._database.is_postgresql else sqlite.insert
        async with self._database.transaction(write=True) as connection:
            await _must_hold(connection, rollout, generation)
            await connection.execute(sa.delete(_register).where(_of(_register, rollout), _register.c.client.in_(gone)))
            for entry in entries:
                keep = insert(_register).values(_register_row(rollout, entry))
                same = [_register.c.rollout, _register.c.client]
                others = {c.name: keep.excluded[c.name] for c in _register.c if c not in same}
                await connection.execute(keep.on_conflict_do_update(index_elements=same, set_=others))

    # ── feedback ────────────────────────────────────────────────────────────────────────────────────────

    async def add_feedback(self, rollout: str, said: Feedback, *, at_most: int, generation: int = 0) -> bool:
        """Keep one thing that a user said; return whether it is new."""
        insert = postgresql.insert if self._database.is_postgresql else sqlite.insert
        of = _of(_feedback, rollout)
        recent = sa.select(sa.func.count()).where(
            of, _feedback.c.user_hash == said.user, _feedback.c.at > said.at - DAY, _feedback.c.at < said.at + DAY
        )
        row = {"rollout": rollout, **asdict(said), "user_hash": said.user}
        del row["user"]
        async with self._database.transaction(write=True) as connection:
            await _must_hold(connection, rollout, generation)
            known = sa.select(sa.literal(1)).where(of, _feedback.c.key == said.key)
            if await connection.scalar(known) is not None:
                return False
            if (await connection.scalar(recent) or 0) >= at_most:
                raise UsageError(f"this user has said {at_most} things within a day, which is as many as are kept")
            return bool((await connection.execute(insert(_feedback).values(row).on_conflict_do_nothing())).rowcount)

    async def feedback(
        self, rollout: str, *, before: int | None = None, limit: int = 100, version: str = "", topic: str | None = None
    ) -> Sequence[tuple[int, Feedback]]:
        """Return the latest, newest first, with their numbers."""
        query = sa.select(_feedback).where(_of(_feedback, rollout)).order_by(_feedback.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(_feedback.c.id < before)
        if version:
            query = query.where(_feedback.c.version == version)
        if topic is not None:
            query = query.where(_feedback.c.topic == topic)
        async with self._database.transaction(write=False) as connection:
            rows = (await connection.execute(query)).all()
        return [
            (
                row.id,
                Feedback(
                    key=row.key,
                    user=row.user_hash,
                    version=row.version,
                    at=row.at,
                    rating=row.rating,
                    complaint=row.complaint,
                    topic=row.topic,
                    region=row.region,
                ),
            )
            for row in rows
        ]

    async def feedback_counts(self, rollout: str, since: float) -> Sequence[FeedbackCount]:
        """Return how much was said, by version, topic and region."""
        by = (_feedback.c.version, _feedback.c.topic, _feedback.c.region)
        complaints = sa.func.sum(sa.case((_feedback.c.complaint != "", 1), else_=0))
        happy = sa.func.sum(sa.case((_feedback.c.rating >= HAPPY_FROM, 1), else_=0))
        sums = (
            sa.func.count().label("said"),
            complaints.label("complaints"),
            sa.func.count(_feedback.c.rating).label("ratings"),
            happy.label("happy"),
        )
        query = sa.select(*by, *sums).where(_of(_feedback, rollout), _feedback.c.at >= since).group_by(*by)
        async with self._database.transaction(write=False) as connection:
            rows = (await connection.execute(query)).mappings().all()
        found = (FeedbackCount(**{name: row[name] for name in row}) for row in rows)
        return sorted(found, key=lambda one: (one.version, one.topic, one.region))

    async def ask_once(self, rollout: str, phase: str, user: int, *, generation: int = 0) -> bool:
        """Note that a user is asked in a phase; return whether they were not before."""
        insert = postgresql.insert if self._database.is_postgresql else sqlite.insert
        note = insert(_asked).values(rollout=rollout, phase=phase, user_hash=user).on_conflict_do_nothing()
        async with self._database.transaction(write=True) as connection:
            await _must_hold(connection, rollout, generation)
            return bool((await connection.execute(note)).rowcount)

    async def asked_in(self, rollout: str) -> Sequence[str]:
        """Return the phases in which anybody was asked."""
        query = sa.select(_asked.c.phase).where(_of(_asked, rollout)).distinct()
        async with self._database.transaction(write=False) as connection:
            return sorted((await connection.scalars(query)).all())

    async def forget_asked(self, rollout: str, phase: str, *, limit: int = 5000, generation: int = 0) -> int:
        """Let go of who was asked in a phase, `limit` at a time."""
        theirs = sa.and_(_of(_asked, rollout), _asked.c.phase == phase)
        some = sa.select(_asked.c.user_hash).where(theirs).limit(limit).scalar_subquery()
        async with self._database.transaction(write=True) as connection:
            await _must_hold(connection, rollout, generation)
            gone = await connection.execute(sa.delete(_asked).where(theirs, _asked.c.user_hash.in_(some)))
            return gone.rowcount

    async def forget_feedback(
        self, rollout: str, *, user: int | None = None, before: float | None = None, generation: int = 0
    ) -> int:
        """Let go of what one user said, or of what is old."""
        gone = sa.delete(_feedback).where(_of(_feedback, rollout))
        if user is not None:
            gone = gone.where(_feedback.c.user_hash == user)
        if before is not None:
            gone = gone.where(_feedback.c.at < before)
        if user is None and before is None:
            raise ValueError("say of whom, or from before when")
        async with self._database.transaction(write=True) as connection:
            await _must_hold(connection, rollout, generation)
            if user is not None:
                await connection.execute(sa.delete(_asked).where(_of(_asked, rollout), _asked.c.user_hash == user))
            return (await connection.execute(gone)).rowcount

    async def key(self, rollout: str, name: str) -> bytes | None:
        """Return a key; None where none is kept."""
        query = sa.select(_keys.c.key).where(_of(_keys, rollout), _keys.c.name == name)
        async with self._database.transaction(write=False) as connection:
            found = await connection.scalar(query)
        return None if found is None else bytes(found)

    async def keep_key(self, rollout: str, name: str, proposed: bytes, *, generation: int = 0) -> bytes:
        """Keep a key where there is none, and return the one that is kept."""
        insert = postgresql.insert if self._database.is_postgresql else sqlite.insert
        keep = insert(_keys).values(rollout=rollout, name=name, key=proposed).on_conflict_do_nothing()
        query = sa.select(_keys.c.key).where(_of(_keys, rollout), _keys.c.name == name)
        async with self._database.transaction(write=True) as connection:
            await _must_hold(connection, rollout, generation)
            await connection.execute(keep)
            return bytes((await connection.execute(query)).scalar_one())

    # ── enrolments ──────────────────────────────────────────────────────────────────────────────────────

    async def enrolments(self, rollout: str) -> Mapping[int, Enrolment]:
        """Return who has joined a cohort or left one, by the user's hash."""
        query = sa.select(_enrolments).where(_of(_enrolments, rollout)).order_by(_enrolments.c.user_hash)
        async with self._database.transaction(write=False) as connection:
            rows = (await connection.execute(query)).all()
        return {
            row.user_hash: Enrolment(
                user=row.user_hash, cohort=row.cohort, consented_at=row.consented_at, at=row.at, by=row.by
            )
            for row in rows
        }

    async def save_enrolments(
        self, rollout: str, kept: Sequence[Enrolment], forgotten: Sequence[int] = (), *, generation: int = 0
    ) -> None:
        """Keep enrolments in the place of those of the same users, and forget users, all or none."""
        insert = postgresql.insert if self._database.is_postgresql else sqlite.insert
        same = [_enrolments.c.rollout, _enrolments.c.user_hash]
        keep = insert(_enrolments)
        others = {c.name: keep.excluded[c.name] for c in _enrolments.c if c not in same}
        rows = [{"rollout": rollout, **asdict(one), "user_hash": one.user} for one in kept]
        for row in rows:
            del row["user"]
        async with self._database.transaction(write=True) as connection:
            await _must_hold(connection, rollout, generation)
            if forgotten:
                gone = sa.delete(_enrolments).where(_of(_enrolments, rollout), _enrolments.c.user_hash.in_(forgotten))
                await connection.execute(gone)
            if rows:
                await connection.execute(keep.on_conflict_do_update(index_elements=same, set_=others), rows)

    # ── the lease ───────────────────────────────────────────────────────────────────────────────────────

    async def lease(self, rollout: str) -> Lease | None:
        """Return the lease as it is now; None where nobody ever had one."""
        async with self._database.transaction(write=False) as connection:
            row = (await connection.execute(sa.select(_leases).where(_of(_leases, rollout)))).one_or_none()
        return None if row is None else Lease(**row._mapping)  # noqa: SLF001 - its documented name

    async def acquire(self, wanted: Lease, seen: Lease | None) -> None:
        """Put `wanted` in the place of `seen`; ConflictError where the lease is not that any more."""
        values = asdict(wanted)
        insert = postgresql.insert if self._database.is_postgresql else sqlite.insert
        async with self._database.transaction(write=True) as connection:
            if seen is None:
                done = await connection.execute(insert(_leases).values(values).on_conflict_do_nothing())
            else:
                done = await connection.execute(_unchanged(sa.update(_leases), seen, beat=True).values(values))
        if done.rowcount == 0:
            raise ConflictError(f"somebody else has just taken the lease of {wanted.rollout}")

    async def renew(self, lease: Lease) -> None:
        """Raise the beat; ConflictError where the lease has another generation."""
        beat = {"beat": _leases.c.beat + 1}
        async with self._database.transaction(write=True) as connection:
            done = await connection.execute(_unchanged(sa.update(_leases), lease).values(beat))
            if done.rowcount == 0:
                await _must_hold(connection, lease.rollout, lease.generation)

    async def release(self, lease: Lease) -> None:
        """Give the lease back: the next one need not wait. Changes nothing where another one has it."""
        free = {"generation": lease.generation + 1, "holder": "", "address": ""}
        async with self._database.transaction(write=True) as connection:
            await connection.execute(_unchanged(sa.update(_leases), lease).values(free))

    # ── keeping house ───────────────────────────────────────────────────────────────────────────────────

    async def prune(self, rollout: str, before: float, *, limit: int = 500, generation: int = 0) -> int:
        """Let go of ticks, looks and records from before plan time `before`, the oldest first, `limit` of each.

        Returns how many went: ask again until it is 0, and let others write in between. Events are kept for good.
        """
        # A tick's number tells its time only together with its length.
        oldest = await self.ticks(rollout, limit=limit)
        old = [kept.tick.number for kept in oldest if kept.tick.start + kept.tick.length <= before]
        async with self._database.transaction(write=True) as connection:
            await _must_hold(connection, rollout, generation)
            gone = [await connection.execute(sa.delete(_ticks).where(_of(_ticks, rollout), _ticks.c.number.in_(old)))]
            for table in (_decisions, _looks):
                # Their numbers rise with their times, so that there is no need to look at all of them.
                first = sa.select(table.c.id, table.c.at).where(_of(table, rollout)).order_by(table.c.id).limit(limit)
                early = first.subquery()
                made_before = sa.select(early.c.id).where(early.c.at < before)
                gone.append(await connection.execute(sa.delete(table).where(table.c.id.in_(made_before))))
        return sum(done.rowcount for done in gone)

    async def copy_out(self, rollout: str) -> AsyncIterator[Record]:
        """Yield everything kept of a rollout as of one moment, events first; nothing where there is none."""
        async with self._database.transaction(write=False, snapshot=True) as connection:
            async for record in rows_of(connection, rollout):
                yield record

    async def copy_in(self, rollout: str, records: Iterable[Record]) -> None:
        """Keep what `copy_out` gave, all or none.

        Raises ConflictError where anything of this rollout is kept already, StoreError for a record that this store
        has no place for.
        """
        async with self._database.transaction(write=True) as connection:
            await must_be_new(connection, rollout)
            await Copier(connection, rollout).copy(records)

    # ── what is shared ──────────────────────────────────────────────────────────────────────────────────

    def _look(self, row: sa.Row[Any], what: str) -> KeptLook:
        trouble = {} if row.trouble is None else self._loads(row.trouble, what)
        drift, unkept, no_drill = trouble.get("drift"), trouble.get("unkept"), trouble.get("no_drill")
        exempted = trouble.get("exempted")
        look = Look(
            at=row.at,
            due=row.due,
            revision=row.revision,
            tick=row.tick,
            around=Surroundings(
                rollback_ready=row.rollback_ready,
                drift=None if drift is None else str(drift),
                no_drill=None if no_drill is None else str(no_drill),
                exempted=None if exempted is None else str(exempted),
            ),
            unkept=None if unkept is None else str(unkept),
            window=None if row.window is None else self._tick(row.window, what),
        )
        return KeptLook(
            look=look,
            outcome=row.outcome,
            digest=bytes(row.digest),
            record=None if row.data is None else {"at": row.at, **self._loads(row.data, what)},
            number=row.id,
        )

    def _registered(self, row: sa.Row[Any], what: str) -> Registered:
        try:
            return Registered(
                client=row.client,
                owner=row.owner,
                contact=row.contact,
                notes=row.notes,
                exempt_until=None if row.exempt_until is None else date.fromisoformat(row.exempt_until),
            )
        except ValueError as error:
            raise self._database.damaged(f"{what} can't be read: {error}") from None

    def _tick(self, data: bytes, what: str) -> Tick:
        try:
            return decode_tick(data if data.startswith(b"{") else zlib.decompress(data))
        except (ValueError, zlib.error) as error:
            raise self._database.damaged(f"{what} can't be read: {error}") from None

    def _loads(self, text: str, what: str) -> dict[str, object]:
        try:
            data: dict[str, object] = orjson.loads(text)
        except ValueError:
            raise self._database.damaged(f"{what} can't be read") from None
        return data


def check_numbers(rollout: str, revision: int, events: Sequence[StoredEvent]) -> None:
    """Raise ValueError where events are another rollout's or are not numbered from `revision + 1`."""
    for number, event in enumerate(events, start=revision + 1):
        if (event.rollout, event.revision) != (rollout, number):
            raise ValueError(f"{event.rollout} #{event.revision} can't be appended as {rollout} #{number}")


async def _must_hold(connection: AsyncConnection, rollout: str, generation: int) -> None:
    """Raise ConflictError where the lease has another generation; nobody else can take it until the commit."""
    query = sa.select(_leases).where(_of(_leases, rollout)).with_for_update(read=True)  # SQLite has one writer
    held = (await connection.execute(query)).one_or_none()
    if (0 if held is None else held.generation) != generation:
        who = f"{held.holder} leads at {held.address}" if held is not None and held.holder else "nobody leads"
        raise ConflictError(f"this process does not lead {rollout} (any more): {who}")


def _unchanged(update: sa.Update, lease: Lease, *, beat: bool = False) -> sa.Update:
    """Restrict an update to a lease that has the same generation, and the same beat if asked."""
    same = update.where(_of(_leases, lease.rollout), _leases.c.generation == lease.generation)
    return same.where(_leases.c.beat == lease.beat) if beat else same


def _event_row(event: StoredEvent) -> dict[str, object]:
    return {
        "rollout": event.rollout,
        "revision": event.revision,
        "at": event.at,
        "kind": event.kind,
        "data": to_json(event.data).decode(),
    }


def _tick_row(rollout: str, kept: KeptTick) -> dict[str, object]:
    return {
        "rollout": rollout,
        "number": kept.tick.number,
        "data": zlib.compress(encode_tick(kept.tick), PACKING),
        "revision": kept.revision,
        "previous": kept.previous,
    }


def _register_row(rollout: str, entry: Registered) -> dict[str, object]:
    until = entry.exempt_until
    return asdict(entry) | {"rollout": rollout, "exempt_until": None if until is None else until.isoformat()}


def _look_row(rollout: str, kept: KeptLook) -> dict[str, object]:
    look = kept.look
    around = look.around
    told = {
        "drift": around.drift, "no_drill": around.no_drill, "exempted": around.exempted, "unkept": look.unkept
    }  # fmt: skip
    trouble = {name: value for name, value in told.items() if value is not None}
    return {
        "rollout": rollout,
        "at": look.at,
        "due": look.due,
        "revision": look.revision,
        "tick": look.tick,
        "rollback_ready": look.around.rollback_ready,
        "trouble": to_json(trouble).decode() if trouble else None,
        "window": None if look.window is None else encode_tick(look.window),
        "outcome": kept.outcome,
        "digest": kept.digest,
    }


def _of(table: sa.Table, rollout: str) -> sa.ColumnElement[bool]:
    return table.c.rollout == rollout

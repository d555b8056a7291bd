"""Rollouts in SQLite or PostgreSQL: one schema, one set of statements.

An append is a compare-and-swap on the revision: whoever sees another last revision than they assumed writes
nothing. A tick and the evidence that includes it are one transaction, so a crash leaves both or neither.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from crossfade.core.evidence.codec import decode_tick, encode_tick
from crossfade.core.evidence.sums import Tick
from crossfade.core.gates import Surroundings
from crossfade.core.jsonable import to_json
from crossfade.core.look import KeptLook, KeptTick, Look
from crossfade.errors import ConflictError, CrossfadeError, StoreError, UnreachableError
from crossfade.ports import StoredEvent

SCHEMA_VERSION = 2
KEPT_DECISIONS = 10_000
"""Decisions kept per rollout; older ones are let go."""

BUSY_S = 5.0
"""How long SQLite waits for another process's lock."""
CONNECT_S = 3.0
COMMAND_S = 3.0
"""How long PostgreSQL may take to answer before it counts as unreachable."""

_OPEN_LOCK = 0x63726F7373  # "cross": held on PostgreSQL while the schema is made

_BEGIN = "crossfade_begin"

_metadata = sa.MetaData()
_serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")

_meta = sa.Table(
    "crossfade_meta",
    _metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
_events = sa.Table(
    "crossfade_events",
    _metadata,
    sa.Column("id", _serial, primary_key=True),
    sa.Column("rollout", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.UniqueConstraint("rollout", "revision", name="crossfade_events_revision"),
)
_ticks = sa.Table(
    "crossfade_ticks",
    _metadata,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.Column("revision", sa.BigInteger),
    sa.Column("previous", sa.BigInteger),
)
_evidence = sa.Table(
    "crossfade_evidence",
    _metadata,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
)
_decisions = sa.Table(
    "crossfade_decisions",
    _metadata,
    sa.Column("id", _serial, primary_key=True),
    sa.Column("rollout", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("look", sa.BigInteger),
    sa.Index("crossfade_decisions_latest", "rollout", "id"),
    sa.Index("crossfade_decisions_look", "look"),
)
_looks = sa.Table(
    "crossfade_looks",
    _metadata,
    sa.Column("id", _serial, primary_key=True),
    sa.Column("rollout", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("due", sa.Double, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("tick", sa.BigInteger),
    sa.Column("rollback_ready", sa.Boolean),
    sa.Column("trouble", sa.Text),
    sa.Column("window", sa.LargeBinary),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Index("crossfade_looks_in_order", "rollout", "id"),
)


class SqlStore:
    """Keeps `ports.Store` on a database. Every method raises StoreError where the database can't keep or give
    what was asked, and UnreachableError where its server does not answer.
    """

    def __init__(self, url: str) -> None:
        """Take `sqlite:///FILE` or `postgresql://USER@HOST/DATABASE`; raises StoreError for any other URL."""
        self._url = _parse(url)
        self._postgresql = self._url.get_backend_name() == "postgresql"
        self._shown = _without_password(self._url)
        self._engine: AsyncEngine | None = None
        self._foreign: tuple[type[BaseException], ...] = (SQLAlchemyError, OSError, TimeoutError)
        # One writer at a time in this process: queueing here is fair, SQLite's own waiting is polling.
        self._writing = asyncio.Lock()
        self._file_id: tuple[int, int] | None = None

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────

    async def open(self) -> None:
        """Connect and make the schema, or find it made.

        Raises StoreError where the database can't be opened or its schema is another version's, UnreachableError
        where the server does not answer. What it raises names the URL without its password, and what to do.
        """
        if self._engine is not None:
            return
        try:
            await self._start()
        except BaseException as error:
            await self.close()
            if isinstance(error, (sqlite3.Error, *self._foreign)):
                raise self._explained(error) from None
            if isinstance(error, (TypeError, ValueError)):  # an option in the URL that the driver does not take
                raise StoreError(f"{self._shown}: {error}; correct the URL") from None
            raise

    async def _start(self) -> None:
        self._engine = self._make_engine()
        if not self._postgresql:
            await asyncio.to_thread(_use_wal, self._engine)
        async with self._transaction(write=True) as connection:
            await self._make_schema(connection)
        self._file_id = self._stat()

    async def close(self) -> None:
        """Let go of the database; calling it again, or before `open`, is harmless."""
        engine, self._engine, self._file_id = self._engine, None, None
        if engine is not None:
            await engine.dispose()

    def _make_engine(self) -> AsyncEngine:
        if not self._postgresql:
            engine = create_async_engine(self._url, hide_parameters=True, connect_args={"timeout": BUSY_S})
            _prepare_sqlite(engine)
            return engine
        try:
            import asyncpg  # noqa: PLC0415 - an extra
        except ImportError:
            raise StoreError(
                f"{self._shown} needs a driver that is not installed; run: pip install crossfade[postgresql]"
            ) from None
        self._foreign = (*self._foreign, asyncpg.PostgresError, asyncpg.InterfaceError)
        return create_async_engine(
            self._url,
            hide_parameters=True,
            pool_pre_ping=True,  # a server that was restarted costs a ping, not an append
            connect_args={"timeout": CONNECT_S, "command_timeout": COMMAND_S},
        )

    async def _make_schema(self, connection: AsyncConnection) -> None:
        if self._postgresql:  # two controllers that start together make it once
            await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_OPEN_LOCK)))
        if await connection.run_sync(lambda c: sa.inspect(c).has_table(_meta.name)):
            found = await connection.scalar(sa.select(_meta.c.value).where(_meta.c.key == "schema"))
            self._check_version(found)
            # Who can't write learns it now and not when a rollback is to be kept.
            await connection.execute(sa.update(_meta).where(_meta.c.key == "schema").values(value=found))
            return
        await connection.run_sync(_metadata.create_all)
        await connection.execute(sa.insert(_meta).values(key="schema", value=str(SCHEMA_VERSION)))

    def _check_version(self, found: str | None) -> None:
        if found == str(SCHEMA_VERSION):
            return
        if found is not None and found.isdecimal() and int(found) > SCHEMA_VERSION:
            raise StoreError(
                f"{self._shown} was written by a later Crossfade (schema {found}, this one knows "
                f"{SCHEMA_VERSION}); install that version, or give another database"
            )
        raise StoreError(
            f"{self._shown} has schema {found!r}, not {SCHEMA_VERSION}; restore it from a backup, "
            "or give another database"
        )

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────

    async def append(self, rollout: str, revision: int, events: Sequence[StoredEvent]) -> None:
        """Append events after `revision`, all or none.

        Raises ConflictError where the history does not end at `revision`: someone else has appended, or this is
        the second try of an append whose reply was lost. Either way: read the history anew. Raises ValueError
        where the events are another rollout's or are not numbered from `revision + 1`.
        """
        check_numbers(rollout, revision, events)
        if not events:
            return
        rows = [_event_row(event) for event in events]
        async with self._transaction(write=True) as connection:
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
        async with self._transaction(write=False) as connection:
            rows = (await connection.execute(query.order_by(_events.c.revision))).all()
        for expected, row in enumerate(rows, start=max(after, 0) + 1):
            if row.revision != expected:
                raise self._damaged(f"event {expected} of {rollout} is missing")
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
        async with self._transaction(write=False) as connection:
            return list((await connection.scalars(query)).all())

    # ── evidence ────────────────────────────────────────────────────────────────────────────────────────

    async def evidence(self, rollout: str) -> tuple[int, bytes] | None:
        """Return the highest number of a kept tick and the latest evidence; None where no tick was kept."""
        query = sa.select(_evidence.c.number, _evidence.c.state).where(_of(_evidence, rollout))
        async with self._transaction(write=False) as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else (row.number, bytes(row.state))

    async def save_ticks(self, rollout: str, ticks: Sequence[KeptTick], evidence: bytes) -> int:
        """Keep ticks and the evidence that includes them all in one transaction; return how many were new.

        A tick whose number was kept before stays as it was; where all were, the evidence does too.
        """
        if not ticks:
            return 0
        insert = postgresql.insert if self._postgresql else sqlite.insert
        last = max(kept.tick.number for kept in ticks)
        state = insert(_evidence).values(rollout=rollout, number=last, state=evidence)
        new, old = state.excluded.number, _evidence.c.number
        fresh = 0
        async with self._transaction(write=True) as connection:
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
        return fresh

    async def ticks(self, rollout: str, after: int | None = None, limit: int = 1000) -> Sequence[KeptTick]:
        """Return the first `limit` of the ticks numbered above `after` (None: of all), in order."""
        query = sa.select(_ticks).where(_of(_ticks, rollout)).order_by(_ticks.c.number).limit(max(limit, 0))
        if after is not None:
            query = query.where(_ticks.c.number > after)
        async with self._transaction(write=False) as connection:
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

    async def decisions(self, rollout: str, limit: int = 50) -> Sequence[Mapping[str, object]]:
        """Return the latest decisions, newest first, each with its plan time as `at`."""
        query = sa.select(_decisions.c.at, _decisions.c.data).where(_of(_decisions, rollout))
        async with self._transaction(write=False) as connection:
            rows = (await connection.execute(query.order_by(_decisions.c.id.desc()).limit(max(limit, 0)))).all()
        return [{"at": row.at, **self._loads(row.data, f"a decision of {rollout}")} for row in rows]

    async def save_look(self, rollout: str, look: KeptLook) -> None:
        """Keep one look, and its record; let go of the records beyond the latest KEPT_DECISIONS."""
        beyond = sa.select(_decisions.c.id).where(_of(_decisions, rollout)).order_by(_decisions.c.id.desc())
        last_old = beyond.offset(KEPT_DECISIONS).limit(1).scalar_subquery()
        async with self._transaction(write=True) as connection:
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
        async with self._transaction(write=False) as connection:
            rows = (await connection.execute(query.limit(max(limit, 0)))).all()
        return [self._look(row, f"look {row.id} of {rollout}") for row in rows]

    # ── the database ────────────────────────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def _transaction(self, *, write: bool) -> AsyncIterator[AsyncConnection]:
        """Run the body in a transaction; what the database raises leaves as an error of ours."""
        if self._engine is None:
            raise StoreError(f"{self._shown} is not open; call open() first")
        engine = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE" if write else "BEGIN"})
        try:
            if self._postgresql or not write:
                async with engine.begin() as connection:
                    yield connection
            else:
                async with self._writing:
                    self._must_be_the_same_file()
                    async with engine.begin() as connection:
                        yield connection
        except CrossfadeError:
            raise
        except self._foreign as error:
            raise self._explained(error) from None

    def _stat(self) -> tuple[int, int] | None:
        path = _path(self._url)
        if path is None:
            return None
        found = path.stat()
        return found.st_dev, found.st_ino

    def _must_be_the_same_file(self) -> None:
        """Refuse to write into a file that was deleted: SQLite would not notice, and all would be lost."""
        if self._file_id is None:
            return
        try:
            same = self._stat() == self._file_id
        except FileNotFoundError:
            same = False
        if not same:
            raise StoreError(
                f"{self._shown}: the file was removed or replaced while it was open; "
                "put it back and start again, or start again with a new one"
            )

    def _explained(self, error: BaseException) -> CrossfadeError:
        cause = _cause(error)
        if self._postgresql:
            return _explain_postgresql(self._shown, cause)
        return _explain_sqlite(self._shown, _path(self._url), cause)

    def _look(self, row: sa.Row[Any], what: str) -> KeptLook:
        trouble = {} if row.trouble is None else self._loads(row.trouble, what)
        drift, unkept = trouble.get("drift"), trouble.get("unkept")
        look = Look(
            at=row.at,
            due=row.due,
            revision=row.revision,
            tick=row.tick,
            around=Surroundings(rollback_ready=row.rollback_ready, drift=None if drift is None else str(drift)),
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

    def _tick(self, data: bytes, what: str) -> Tick:
        try:
            return decode_tick(data)
        except ValueError as error:
            raise self._damaged(f"{what} can't be read: {error}") from None

    def _loads(self, text: str, what: str) -> dict[str, object]:
        try:
            data: dict[str, object] = orjson.loads(text)
        except ValueError:
            raise self._damaged(f"{what} can't be read") from None
        return data

    def _damaged(self, what: str) -> StoreError:
        return StoreError(f"{self._shown} is damaged: {what}; restore it from a backup")


def check_numbers(rollout: str, revision: int, events: Sequence[StoredEvent]) -> None:
    """Raise ValueError where events are another rollout's or are not numbered from `revision + 1`."""
    for number, event in enumerate(events, start=revision + 1):
        if (event.rollout, event.revision) != (rollout, number):
            raise ValueError(f"{event.rollout} #{event.revision} can't be appended as {rollout} #{number}")


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
        "data": encode_tick(kept.tick),
        "revision": kept.revision,
        "previous": kept.previous,
    }


def _look_row(rollout: str, kept: KeptLook) -> dict[str, object]:
    look = kept.look
    trouble = {"drift": look.around.drift, "unkept": look.unkept}
    return {
        "rollout": rollout,
        "at": look.at,
        "due": look.due,
        "revision": look.revision,
        "tick": look.tick,
        "rollback_ready": look.around.rollback_ready,
        "trouble": to_json(trouble).decode() if any(value is not None for value in trouble.values()) else None,
        "window": None if look.window is None else encode_tick(look.window),
        "outcome": kept.outcome,
        "digest": kept.digest,
    }


def _of(table: sa.Table, rollout: str) -> sa.ColumnElement[bool]:
    return table.c.rollout == rollout


# ── URLs ────────────────────────────────────────────────────────────────────────────────────────────────────


def _parse(text: str) -> sa.URL:
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise StoreError(
            "the store's URL can't be read; write sqlite:////path/to/file or postgresql://user@host/database"
        ) from None
    if url.drivername in ("sqlite", "sqlite+aiosqlite"):
        if url.database in (None, "", ":memory:"):
            raise StoreError(f"{text} would lose everything when the process ends; write sqlite:////path/to/file")
        return url.set(drivername="sqlite+aiosqlite")
    if url.drivername in ("postgresql", "postgres", "postgresql+asyncpg"):
        query = {("ssl" if name == "sslmode" else name): value for name, value in url.query.items()}
        return url.set(drivername="postgresql+asyncpg", query=query)
    raise StoreError(
        f"{url.drivername} is not a store that Crossfade knows; "
        "write sqlite:////path/to/file or postgresql://user@host/database"
    )


def _without_password(url: sa.URL) -> str:
    query = {name: value for name, value in url.query.items() if name != "password"}
    plain = url.set(drivername=url.get_backend_name(), query=query)
    return plain.render_as_string(hide_password=True)


def _path(url: sa.URL) -> Path | None:
    """Return the file of a SQLite URL; None for other databases and for SQLite's own `file:` URIs."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith("file:"):
        return None
    return Path(url.database)


# ── SQLite ──────────────────────────────────────────────────────────────────────────────────────────────────


def _prepare_sqlite(engine: AsyncEngine) -> None:
    """Take transactions into our own hands: the driver's default begins late and so loses updates."""

    @sa.event.listens_for(engine.sync_engine, "connect")
    def connected(dbapi: Any, _record: object) -> None:
        dbapi.isolation_level = None
        cursor = dbapi.cursor()
        # The proxy is set from what was committed; a power cut must not take it back.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @sa.event.listens_for(engine.sync_engine, "begin")
    def begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN IMMEDIATE"))


def _use_wal(engine: AsyncEngine) -> None:
    """Let readers and the writer not wait for each other; the mode stays with the file. Raises sqlite3.Error.

    Done without the asynchronous driver: where it can't open a file it leaves a thread behind, which complains
    on stderr when the event loop is gone.
    """
    arguments, options = engine.dialect.create_connect_args(engine.url)
    uri = bool(options.get("uri"))
    with closing(sqlite3.connect(arguments[0], timeout=BUSY_S, uri=uri)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


_SQLITE_REASONS = {
    "SQLITE_NOTADB": ("the file is not a SQLite database", "restore it from a backup, or give another file"),
    "SQLITE_CORRUPT": ("the file is damaged", "restore it from a backup, or give another file"),
    "SQLITE_READONLY": ("the file or its folder is read-only", "let this user write both"),
    "SQLITE_PERM": ("the file may not be opened", "let this user read and write it"),
    "SQLITE_FULL": ("the disk is full", "free some space; writing goes on by itself then"),
    "SQLITE_BUSY": (f"another process has locked it for more than {BUSY_S:g} s", "find and stop that process"),
    "SQLITE_LOCKED": ("another connection has locked it", "try again"),
    "SQLITE_IOERR": ("the disk can't be read or written", "check the disk"),
}


def _explain_sqlite(shown: str, path: Path | None, cause: BaseException) -> StoreError:
    name = getattr(cause, "sqlite_errorname", "")
    primary = "_".join(name.split("_")[:2])
    if primary == "SQLITE_CANTOPEN" and path is not None:
        reason, advice = _why_not_opened(path)
    else:
        reason, advice = _SQLITE_REASONS.get(primary, ("the database failed", "see the reason"))
    return StoreError(f"{shown}: {reason} ({cause}); {advice}")


def _why_not_opened(path: Path) -> tuple[str, str]:
    """Return reason and advice: SQLite itself only says that it was unable to."""
    if path.is_dir():
        return "it is a folder", "give a file inside it"
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist", f"run: mkdir -p {path.parent}"
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
        return "the file or its folder is not writable", "let this user write both"
    return "the file can't be opened", "check its path and the number of open files"


# ── PostgreSQL ──────────────────────────────────────────────────────────────────────────────────────────────

_POSTGRESQL_REASONS = {  # by SQLSTATE, or its class
    "28": ("the server refused the user or password", "correct the URL, or the server's pg_hba.conf"),
    "3D": ("the database does not exist", "run: createdb, with the name in the URL"),
    "42501": ("the user may not do that", "grant it CREATE on the schema, and all on Crossfade's tables"),
    "25006": ("the server is read-only", "give the URL of the primary"),
    "53100": ("the server's disk is full", "free some space; writing goes on by itself then"),
}
_POSTGRESQL_GONE = ("08", "57P", "53300")
"""The connection broke, the server is going or coming, or it has too many clients: trying again may help."""


def _explain_postgresql(shown: str, cause: BaseException) -> CrossfadeError:
    state = str(getattr(cause, "sqlstate", None) or "")
    for known, (reason, advice) in _POSTGRESQL_REASONS.items():
        if state.startswith(known):
            return StoreError(f"{shown}: {reason} ({cause}); {advice}")
    if not state or state.startswith(_POSTGRESQL_GONE):
        reason = str(cause) or "no answer in time"
        return UnreachableError(f"{shown} does not answer ({reason}); start the server, or correct the URL")
    return StoreError(f"{shown}: the database refused (SQLSTATE {state}: {cause}); see the reason")


def _cause(error: BaseException) -> BaseException:
    """Return what the driver itself raised."""
    original = error.orig if isinstance(error, DBAPIError) else None
    return error if original is None else original

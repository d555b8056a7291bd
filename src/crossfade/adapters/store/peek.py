"""A look into a store that changes nothing: nothing is made, migrated or locked by it, whatever it finds."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import orjson
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from crossfade.adapters.store import migrate, postgresql, schema, sqlite
from crossfade.adapters.store.url import file_of, parse, without_password
from crossfade.errors import StoreError
from crossfade.ports import Lease, StoredEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Peeked:
    """What a store holds of a rollout."""

    shown: str
    """The store's URL as it may be shown."""
    revision: str | None
    """Of its schema; None where it has no tables of ours."""
    lease: Lease | None = None
    """This, and `events`, only where the schema is the one that this version writes."""
    events: tuple[StoredEvent, ...] = ()


def peek(url: str, rollout: str) -> Peeked:
    """Return what the store at a URL holds of a rollout.

    Raises StoreError where it can't be read, UnreachableError where it does not answer. No event loop may run.
    """
    parsed = parse(url)
    shown = without_password(parsed)
    if parsed.get_backend_name() == "postgresql":
        return asyncio.run(_peek_postgresql(parsed, shown, rollout))
    path = _file(parsed, shown)
    engine = sa.create_engine("sqlite://", creator=lambda: _opened(path), poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            return _peeked(connection, shown, rollout)
    except (sa.exc.SQLAlchemyError, sqlite3.Error) as error:
        raise sqlite.explain(shown, path, _cause(error)) from None
    finally:
        engine.dispose()


def damage(url: str) -> str | None:
    """Return what SQLite's own check finds wrong with a file, empty for nothing; None for other databases."""
    parsed = parse(url)
    if parsed.get_backend_name() == "postgresql":
        return None
    path = _file(parsed, url)
    try:
        with closing(_opened(path)) as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
    except sqlite3.Error as error:
        raise sqlite.explain(without_password(parsed), path, error) from None
    return "" if found == ["ok"] else "; ".join(found)


def _file(url: sa.URL, shown: str) -> Path:
    path = file_of(url)
    if path is None:
        raise StoreError(f"{shown} can't be looked at without opening it; write sqlite:////path/to/file")
    if not path.is_file():
        raise StoreError(f"{shown}: there is no such file; correct the path")
    return path


def _opened(path: Path) -> sqlite3.Connection:
    """Open a file for reading. Without writers it counts as immutable: else SQLite makes files of its own beside it."""
    written = path.with_name(f"{path.name}-wal").exists()
    mode = "mode=ro" if written else "mode=ro&immutable=1"
    return sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True, timeout=sqlite.BUSY_S)


async def _peek_postgresql(url: sa.URL, shown: str, rollout: str) -> Peeked:
    try:
        import asyncpg  # noqa: PLC0415 - an extra
    except ImportError:
        raise StoreError(
            f"{shown} needs a driver that is not installed; run: pip install crossfade[postgresql]"
        ) from None
    engine = create_async_engine(
        url,
        hide_parameters=True,
        poolclass=sa.NullPool,
        connect_args={
            "timeout": postgresql.CONNECT_S,
            "command_timeout": postgresql.COMMAND_S,
            "server_settings": {"default_transaction_read_only": "on"},
        },
    )
    foreign = (sa.exc.SQLAlchemyError, OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(_peeked, shown, rollout)
    except foreign as error:
        raise postgresql.explain(shown, _cause(error)) from None
    finally:
        await engine.dispose()


def _peeked(connection: sa.Connection, shown: str, rollout: str) -> Peeked:
    revision = migrate.revision(connection)
    if revision != schema.REVISION:
        return Peeked(shown=shown, revision=revision)
    leases = connection.execute(sa.select(schema.leases).where(schema.leases.c.rollout == rollout))
    row = leases.one_or_none()
    return Peeked(
        shown=shown,
        revision=revision,
        lease=None if row is None else Lease(**row._mapping),  # noqa: SLF001 - its documented name
        events=tuple(_events(connection, rollout)),
    )


def _events(connection: sa.Connection, rollout: str) -> Sequence[StoredEvent]:
    events = schema.events
    query = sa.select(events).where(events.c.rollout == rollout).order_by(events.c.revision)
    return [
        StoredEvent(rollout=rollout, revision=row.revision, at=row.at, kind=row.kind, data=orjson.loads(row.data))
        for row in connection.execute(query)
    ]


def _cause(error: BaseException) -> BaseException:
    """Return what the driver itself raised."""
    original = error.orig if isinstance(error, DBAPIError) else None
    return error if original is None else original

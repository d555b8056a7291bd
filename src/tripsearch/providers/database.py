"""The database: opened, and filled from the vendored data on first start.

SQLite files are made aside and moved into place, so that nobody ever sees half a file; processes that start together
wait for one of them to make it. In PostgreSQL one transaction under an advisory lock does the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Table, inspect, select, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from tripsearch.providers import schema

_SQLITE = "sqlite+aiosqlite"
_CHUNK = 4000
_PG_LOCK = 0x7472_6970  # "trip"
_PG_TIMEOUT_S = 5
_LOCK_POLL_S = 0.05


class DatabaseUnusableError(Exception):
    """The database can't be opened; the message names it and the next action."""


class Database:
    """An open database with flights and hotels in it, read only."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    @classmethod
    async def open(cls, where: str | Path) -> Database:
        """Open a database URL or a SQLite file, filling it first if it is new. Raises DatabaseUnusableError."""
        parsed = URL.create(_SQLITE, database=str(where)) if isinstance(where, Path) else _url(where)
        shown = parsed.render_as_string(hide_password=True)
        try:
            if parsed.get_backend_name() == "sqlite":
                path = Path(parsed.database or "").absolute()  # noqa: ASYNC240 -- before anything is served
                await _make_file(path)
                engine = create_async_engine(_read_only(path), pool_size=4)
            else:
                limits = {"timeout": _PG_TIMEOUT_S, "command_timeout": _PG_TIMEOUT_S}
                await _fill_postgresql(parsed, limits)
                # A ping costs a round trip on a miss and survives a restart of the server.
                engine = create_async_engine(parsed, pool_size=8, pool_pre_ping=True, connect_args=limits)
        except ImportError as error:
            raise DatabaseUnusableError(f"{shown}: {error}; install crossfade[postgresql]") from error
        except (SQLAlchemyError, OSError) as error:
            raise DatabaseUnusableError(f"{shown}: {_first_line(error)}") from error
        return cls(engine)

    async def ready(self) -> bool:
        """Whether it answers now."""
        try:
            async with asyncio.timeout(1), self.engine.connect() as connection:
                return (await connection.execute(select(schema.meta.c.value))).first() is not None
        except (SQLAlchemyError, OSError, TimeoutError):
            return False

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()


def default_file(folder: Path) -> Path:
    """The SQLite file of this data version in a folder."""
    return folder.absolute() / f"tripsearch-{schema.VERSION}.sqlite"


def _url(text_: str) -> URL:
    try:
        url = make_url(text_.replace("postgres://", "postgresql://", 1))
    except ArgumentError:
        raise DatabaseUnusableError(
            "the database URL can't be read; give sqlite:///PATH or postgresql://USER@HOST/NAME"
        ) from None
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database not in (None, "", ":memory:"):
        return url.set(drivername=_SQLITE)
    if backend == "postgresql":
        return url.set(drivername="postgresql+asyncpg")
    raise DatabaseUnusableError(
        f"{url.render_as_string()}: give sqlite:///PATH (a file) or postgresql://USER@HOST/NAME"
    )


def _read_only(path: Path) -> URL:
    # SQLite decodes %XX in a file: URI, so a path may hold any character.
    return URL.create(_SQLITE, database=f"file:{quote(str(path))}", query={"mode": "ro", "uri": "true"})


async def _make_file(path: Path) -> None:
    """Leave a complete file at the path, whoever makes it."""
    if _file_is_ours(path):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    async with _locked(path.with_name(path.name + ".lock")):
        if _file_is_ours(path):  # made while we waited
            return
        aside = path.with_name(f"{path.name}.{os.getpid()}.new")
        engine = create_async_engine(URL.create(_SQLITE, database=str(aside)))
        try:
            aside.unlink(missing_ok=True)
            async with engine.begin() as connection:
                await _fill(connection)
            await engine.dispose()
            await asyncio.to_thread(_sync_file, aside)
            aside.replace(path)
        finally:
            await engine.dispose()
            aside.unlink(missing_ok=True)


def _file_is_ours(path: Path) -> bool:
    """Whether a complete file of this version is there. Raises when it is a file of something else."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT value FROM tripsearch_meta WHERE name = 'version'").fetchone()
    except sqlite3.Error as error:
        raise DatabaseUnusableError(
            f"{path} is no database of tripsearch ({error}); delete it or name another file"
        ) from None
    if found != (schema.VERSION,):
        raise DatabaseUnusableError(f"{path} holds another version of the data; delete it or name another file")
    return True


@contextlib.asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold the lock file; it is released by the kernel when its holder dies."""
    with path.open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:  # polled, so that a signal can end the wait
                await asyncio.sleep(_LOCK_POLL_S)
        yield


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


async def _fill_postgresql(url: URL, limits: dict[str, Any]) -> None:
    engine = create_async_engine(url, connect_args={**limits, "command_timeout": 120})
    try:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _PG_LOCK})
            if not await connection.run_sync(_has_meta):
                await _fill(connection)
            found = (
                await connection.execute(select(schema.meta.c.value).where(schema.meta.c.name == "version"))
            ).scalar()
        if found != schema.VERSION:
            raise DatabaseUnusableError(
                f"{url.render_as_string()} holds version {found} of the data; name an empty database"
            )
    finally:
        await engine.dispose()


def _has_meta(connection: Connection) -> bool:
    return inspect(connection).has_table(schema.meta.name)


async def _fill(connection: AsyncConnection) -> None:
    await connection.run_sync(schema.metadata.create_all)
    await _insert(connection, schema.flights, schema.flight_rows())
    await _insert(connection, schema.hotels, schema.hotel_rows())
    # Last, so that a version means that everything before it is there.
    await connection.execute(schema.meta.insert(), [{"name": "version", "value": schema.VERSION}])


async def _insert(connection: AsyncConnection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    for chunk in _chunks(rows):
        await connection.execute(table.insert(), chunk)


def _chunks(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    source = iter(rows)
    while chunk := list(islice(source, _CHUNK)):
        yield chunk


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

"""A database that is opened, migrated, and spoken to in transactions; what it raises is one of our errors."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from crossfade.adapters.store import migrate, postgresql, schema, sqlite
from crossfade.adapters.store.url import file_of, parse, without_password
from crossfade.errors import CrossfadeError, StoreError

MIGRATION_S = 3600.0
"""How long one statement of a migration may take on PostgreSQL."""


class Database:
    """SQLite or PostgreSQL by URL."""

    def __init__(self, url: str, *, must_exist: bool = False) -> None:
        """Take a URL; raises StoreError where it names no store. `must_exist` makes no new SQLite file."""
        self._url = parse(url)
        self._must_exist = must_exist
        self.is_postgresql = self._url.get_backend_name() == "postgresql"
        self.shown = without_password(self._url)
        """The URL as it may be shown."""
        self._engine: AsyncEngine | None = None
        self._foreign: tuple[type[BaseException], ...] = (SQLAlchemyError, OSError, TimeoutError)
        # One writer at a time in this process: queueing here is fair, SQLite's own waiting is polling.
        self._writing = asyncio.Lock()
        self._file_id: tuple[int, int] | None = None

    async def open(self) -> None:
        """Connect, and bring the schema up to date; see `SqlStore.open`."""
        if self._engine is not None:
            return
        try:
            await self._start()
        except BaseException as error:
            await self.close()
            if isinstance(error, (sqlite3.Error, *self._foreign)):
                raise self._explained(error) from None
            if isinstance(error, (TypeError, ValueError)):  # an option in the URL that the driver does not take
                raise StoreError(f"{self.shown}: {error}; correct the URL") from None
            raise

    async def close(self) -> None:
        """Let go; calling it again, or before `open`, is harmless."""
        engine, self._engine, self._file_id = self._engine, None, None
        if engine is not None:
            await engine.dispose()

    @asynccontextmanager
    async def transaction(self, *, write: bool, snapshot: bool = False) -> AsyncIterator[AsyncConnection]:
        """Run the body in a transaction; `snapshot` lets a long one read all of it as of one moment."""
        if self._engine is None:
            raise StoreError(f"{self.shown} is not open; call open() first")
        options = {sqlite.BEGIN: "BEGIN IMMEDIATE" if write else "BEGIN"}
        if snapshot and self.is_postgresql:
            options["isolation_level"] = "REPEATABLE READ"
        try:
            async with self._connected(self._engine.execution_options(**options), write=write) as connection:
                if snapshot and self.is_postgresql:  # whoever reads may be slow
                    await connection.execute(sa.text("SET LOCAL idle_in_transaction_session_timeout = 0"))
                yield connection
        except CrossfadeError:
            raise
        except self._foreign as error:
            raise self._explained(error) from None

    @asynccontextmanager
    async def _connected(self, engine: AsyncEngine, *, write: bool) -> AsyncIterator[AsyncConnection]:
        if self.is_postgresql or not write:
            async with engine.begin() as connection:
                yield connection
            return
        async with self._writing:
            self._must_be_the_same_file()
            async with engine.begin() as connection:
                yield connection

    def damaged(self, what: str) -> StoreError:
        """Return the error for something kept that can't be right."""
        return StoreError(f"{self.shown} is damaged: {what}; restore it from a backup")

    # ── opening ─────────────────────────────────────────────────────────────────────────────────────────

    async def _start(self) -> None:
        path = file_of(self._url)
        if self._must_exist and path is not None and not path.exists():
            raise StoreError(f"{self.shown}: there is no such file; correct the path")
        self._engine = self._make_engine(postgresql.COMMAND_S)
        if not self.is_postgresql:
            await asyncio.to_thread(sqlite.use_wal, self._engine)
        async with self.transaction(write=False) as connection:
            found = await connection.run_sync(migrate.revision)
        if found != schema.REVISION:
            await self._migrate()
        async with self.transaction(write=True) as connection:
            # Who can't write learns it now and not when a rollback is to be kept.
            await connection.execute(sa.update(schema.version).values(version_num=schema.REVISION))
        self._file_id = self._stat()

    def _make_engine(self, command_s: float) -> AsyncEngine:
        if not self.is_postgresql:
            engine = create_async_engine(self._url, hide_parameters=True, connect_args={"timeout": sqlite.BUSY_S})
            sqlite.prepare(engine)
            return engine
        try:
            import asyncpg  # noqa: PLC0415 - an extra
        except ImportError:
            raise StoreError(
                f"{self.shown} needs a driver that is not installed; run: pip install crossfade[postgresql]"
            ) from None
        self._foreign = (*self._foreign, asyncpg.PostgresError, asyncpg.InterfaceError)
        idle_ms = round(postgresql.IDLE_S * 1000) if command_s < MIGRATION_S else 0
        return create_async_engine(
            self._url,
            hide_parameters=True,
            pool_pre_ping=True,  # a server that was restarted costs a ping, not an append
            connect_args={
                "timeout": postgresql.CONNECT_S,
                "command_timeout": command_s,
                "server_settings": {"idle_in_transaction_session_timeout": str(idle_ms)},
            },
        )

    async def _migrate(self) -> None:
        """Carry out what is missing; of several that start together one does, and the others wait for it."""
        engine = self._make_engine(MIGRATION_S)
        try:
            async with engine.begin() as connection:  # SQLite's begins with its writers' lock
                if self.is_postgresql:
                    await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(postgresql.OPEN_LOCK)))
                await connection.run_sync(migrate.upgrade, self.shown)
        finally:
            await engine.dispose()

    # ── faults ──────────────────────────────────────────────────────────────────────────────────────────

    def _stat(self) -> tuple[int, int] | None:
        path = file_of(self._url)
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
                f"{self.shown}: the file was removed or replaced while it was open; "
                "put it back and start again, or start again with a new one"
            )

    def _explained(self, error: BaseException) -> CrossfadeError:
        cause = _cause(error)
        if self.is_postgresql:
            return postgresql.explain(self.shown, cause)
        return sqlite.explain(self.shown, file_of(self._url), cause)


def _cause(error: BaseException) -> BaseException:
    """Return what the driver itself raised."""
    original = error.orig if isinstance(error, DBAPIError) else None
    return error if original is None else original

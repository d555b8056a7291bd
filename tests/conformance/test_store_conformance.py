"""The store's contract, kept by SQLite, by PostgreSQL and by the shipped fake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from crossfade.adapters.store import SqlStore
from crossfade.errors import ConflictError, StoreError, UnreachableError
from crossfade.testing.conformance.store import Connect, StoreConformance, some_events, some_kept
from crossfade.testing.store import MemoryStore

_names = count()


async def _handles(url: str) -> AsyncIterator[Connect]:
    stores: list[SqlStore] = []

    async def connect() -> SqlStore:
        stores.append(SqlStore(url))
        await stores[-1].open()
        return stores[-1]

    yield connect
    for store in stores:
        await store.close()


async def _database(server: str) -> str:
    """Return the URL of an empty database on a server."""
    name = f"t{next(_names)}"
    engine = create_async_engine(
        f"{server}/postgres".replace("postgresql:", "postgresql+asyncpg:"), isolation_level="AUTOCOMMIT"
    )
    async with engine.connect() as connection:
        await connection.execute(sa.text(f"create database {name}"))
    await engine.dispose()
    return f"{server}/{name}"


class TestSqlite(StoreConformance):
    @pytest.fixture
    async def connect(self, tmp_path: Path) -> AsyncIterator[Connect]:
        async for connect in _handles(f"sqlite:///{tmp_path}/store.db"):
            yield connect


class TestMemory(StoreConformance):
    @pytest.fixture
    def connect(self) -> Connect:
        shared = MemoryStore()

        async def connect() -> MemoryStore:
            await shared.open()
            return shared

        return connect


@pytest.mark.external
class TestPostgresql(StoreConformance):
    @pytest.fixture
    async def connect(self, postgresql_server: str) -> AsyncIterator[Connect]:
        async for connect in _handles(await _database(postgresql_server)):
            yield connect


@pytest.mark.external
class TestPostgresqlServer:
    async def test_a_database_that_is_not_there_is_named(self, postgresql_server: str) -> None:
        with pytest.raises(StoreError, match=r"/nowhere: the database does not exist .*createdb"):
            await SqlStore(f"{postgresql_server}/nowhere").open()

    async def test_nobody_listening_is_unreachable_and_the_password_is_not_told(self) -> None:
        with pytest.raises(UnreachableError, match="does not answer") as caught:
            await SqlStore("postgresql://ann:hunter2@127.0.0.1:1/db").open()
        assert "hunter2" not in str(caught.value)

    async def test_a_later_schema_is_refused(self, postgresql_server: str) -> None:
        store = SqlStore(await _database(postgresql_server))
        await store.open()
        async with store._database.transaction(write=True) as connection:
            await connection.execute(sa.text("update crossfade_version set version_num = '0999'"))
        await store.close()
        with pytest.raises(StoreError, match="later Crossfade"):
            await store.open()

    async def test_connections_that_the_server_cut_are_replaced(self, postgresql_server: str) -> None:
        store = SqlStore(await _database(postgresql_server))
        await store.open()
        await store.append("r", 0, some_events("r", 1, 1))
        other = SqlStore(postgresql_server + "/postgres")
        await other.open()
        async with other._database.transaction(write=True) as connection:
            await connection.execute(
                sa.text("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
            )
        await store.append("r", 1, some_events("r", 2, 1))
        assert len(await store.events("r")) == 2
        await other.close()
        await store.close()


class TestFaults:
    """What the fake can do that a database does on its worst days."""

    @pytest.fixture
    async def store(self) -> MemoryStore:
        store = MemoryStore()
        await store.open()
        return store

    async def test_calls_fail_as_often_as_asked_and_change_nothing(self, store: MemoryStore) -> None:
        store.fail_next(2)
        for _ in range(2):
            with pytest.raises(UnreachableError):
                await store.append("r", 0, some_events("r", 1, 1))
        await store.append("r", 0, some_events("r", 1, 1))
        assert len(await store.events("r")) == 1
        assert store.calls.count("append") == 3

    async def test_a_lost_reply_comes_after_the_commit(self, store: MemoryStore) -> None:
        store.lose_reply()
        with pytest.raises(UnreachableError):
            await store.append("r", 0, some_events("r", 1, 1))
        with pytest.raises(ConflictError):
            await store.append("r", 0, some_events("r", 1, 1))
        store.lose_reply()
        with pytest.raises(UnreachableError):
            await store.save_ticks("r", [some_kept(1)], b"state")
        assert await store.save_ticks("r", [some_kept(1)], b"state") == 0

    async def test_the_error_is_the_one_given_until_healed(self, store: MemoryStore) -> None:
        mine: Any = StoreError("the disk is full")
        store.fail_next(9, mine)
        with pytest.raises(StoreError, match="disk is full"):
            await store.rollouts()
        store.heal()
        assert list(await store.rollouts()) == []

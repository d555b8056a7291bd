"""Schema = migrations, on both databases; a database of the release before migrations goes on with all it holds."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
import sqlalchemy.ext.asyncio
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from tests.conformance.test_store_conformance import _database

from crossfade.adapters.store import SqlStore, schema
from crossfade.errors import StoreError
from crossfade.ports import Lease
from crossfade.testing.conformance.store import some_events, some_kept, some_look

SCHEMAS = Path(__file__).parent / "schemas"
MIGRATIONS = Path(schema.__file__).parent / "migrations"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.external)])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return await _database(request.getfixturevalue("postgresql_server"))


@pytest.fixture
async def released(url: str) -> str:
    """A database that the release before migrations has written."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.executescript((SCHEMAS / "0001.sqlite.sql").read_text())
        return url
    connection = await asyncpg.connect(url)
    await connection.execute((SCHEMAS / "0001.postgresql.sql").read_text())
    await connection.close()
    return url


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[str], Any]]:
    stores: list[SqlStore] = []

    async def open_(url: str) -> SqlStore:
        stores.append(SqlStore(url))
        await stores[-1].open()
        return stores[-1]

    yield open_
    for store in stores:
        await store.close()


def _differences(connection: sa.Connection) -> list[Any]:
    options = {"version_table": schema.VERSION_TABLE, "compare_type": True, "compare_server_default": True}
    return list(compare_metadata(MigrationContext.configure(connection, opts=options), schema.metadata))


async def _run(store: SqlStore, what: Callable[[sa.Connection], Any]) -> Any:
    async with store._database.transaction(write=True) as connection:
        return await connection.run_sync(what)


def _write(*statements: str) -> Callable[[sa.Connection], None]:
    def run(connection: sa.Connection) -> None:
        for statement in statements:
            connection.execute(sa.text(statement))

    return run


def test_the_migrations_are_those_that_the_schema_names_in_one_line() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    assert tuple(reversed([found.revision for found in script.walk_revisions()])) == schema.REVISIONS
    assert script.get_heads() == [schema.REVISION]


async def test_a_new_database_has_the_schema_and_nothing_else(url: str, opened: Any) -> None:
    assert await _run(await opened(url), _differences) == []


async def test_an_upgraded_database_has_the_schema_and_nothing_else(released: str, opened: Any) -> None:
    assert await _run(await opened(released), _differences) == []


async def test_a_database_of_schema_2_from_before_migrations_is_upgraded(url: str, opened: Any) -> None:
    store = await opened(url)
    number = "update crossfade_meta set value = '2'"
    later = (
        "version",
        "leases",
        "notices",
        "register",
        "ledger",
        "population",
        "feedback",
        "asked",
        "keys",
        "enrolments",
    )
    await _run(store, _write(*(f"drop table crossfade_{name}" for name in later), number))
    await store.close()
    await store.open()
    assert await _run(store, _differences) == []


async def test_a_difference_would_be_seen(url: str, opened: Any) -> None:
    store = await opened(url)
    await _run(store, _write("alter table crossfade_leases add column more text"))
    assert [difference[0] for difference in await _run(store, _differences)] == ["remove_column"]


async def test_what_a_release_has_kept_is_all_there_after_the_upgrade_and_can_be_added_to(
    released: str, opened: Any
) -> None:
    store = await opened(released)
    first, second, third = await store.events("trips")
    assert [first, second] == some_events("trips", 1, 2)
    assert third == some_events("trips", 3, 1, kind="Resumed")[0]
    assert list(await store.rollouts()) == ["trips", "other"]
    assert await store.evidence("trips") == (8, b"1\nstate 8")
    kept = await store.ticks("trips")
    assert [(k.tick.number, k.tick.start, k.tick.lost, k.revision, k.previous) for k in kept] == [
        (7, 70.0, 2, None, None),
        (8, 80.0, 2, None, None),
    ]
    assert [sorted(cell.requests for cell in k.tick.cells.values()) for k in kept] == [[1, 3]] * 2
    assert [(d["at"], d["n"]) for d in await store.decisions("trips")] == [(1 / 3, 1), (0.0, 0)]
    assert list(await store.looks("trips")) == []
    await store.append("trips", 3, some_events("trips", 4, 1))
    assert await store.save_ticks("trips", [some_kept(9, 8)], b"1\nstate 9") == 1
    await store.save_look("trips", some_look(9.0, {"n": 2}))
    await store.acquire(Lease(rollout="trips", generation=1, holder="a", address="", lasts_s=1, beat=0), None)


async def test_versions_before_migrations_refuse_what_was_upgraded(released: str, opened: Any) -> None:
    """They compare this number with the only one they know, 1 or 2, and make a database without it anew."""
    store = await opened(released)
    number = sa.select(schema.meta.c.value).where(schema.meta.c.key == "schema")
    assert int(await _run(store, lambda connection: connection.scalar(number))) > 2


async def test_many_that_open_at_once_migrate_once(released: str, opened: Any) -> None:
    stores = await asyncio.gather(*(opened(released) for _ in range(5)))
    assert await _run(stores[0], _differences) == []
    assert [len(await store.events("trips")) for store in stores] == [3] * 5


async def test_processes_that_open_at_once_migrate_once(released: str) -> None:
    code = (
        "import asyncio, sys\nfrom crossfade.adapters.store import SqlStore\n"
        "async def main():\n    s = SqlStore(sys.argv[1]); await s.open(); print(len(await s.events('trips')))\n"
        "    await s.close()\nasyncio.run(main())"
    )
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, released, stdout=-1, stderr=-1)
        for _ in range(3)
    ]
    assert [await process.communicate() for process in processes] == [(b"3\n", b"")] * 3


async def test_a_later_schema_is_refused_with_advice_and_left_as_it_is(url: str, opened: Any) -> None:
    store = await opened(url)
    await _run(store, _write("update crossfade_version set version_num = '0999'"))
    await store.close()
    with pytest.raises(StoreError, match=r"later Crossfade \(schema 999, this one knows \d+\); install that version"):
        await store.open()
    assert "hunter2" not in store._database.shown


@pytest.mark.parametrize("number", ["0", "", "x", "²", "0000"])
async def test_a_schema_that_nobody_has_written_is_refused(url: str, opened: Any, number: str) -> None:
    store = await opened(url)
    if number == "0000":
        await _run(store, _write("update crossfade_version set version_num = '0000'"))
    else:
        update = f"update crossfade_meta set value = '{number}'"
        await _run(store, _write("drop table crossfade_version", update))
    await store.close()
    with pytest.raises(StoreError, match="which no Crossfade has written; restore it"):
        await store.open()


async def test_an_upgrade_that_fails_leaves_the_database_as_it_was(released: str, opened: Any) -> None:
    """A table of the same name is in the way."""
    url = released.replace("postgresql:", "postgresql+asyncpg:").replace("sqlite:", "sqlite+aiosqlite:")
    engine = sa.ext.asyncio.create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(sa.text("create table crossfade_leases (mine text)"))
    with pytest.raises(StoreError, match="crossfade_leases"):
        await opened(released)
    async with engine.begin() as connection:
        await connection.execute(sa.text("drop table crossfade_leases"))
        names = await connection.run_sync(lambda c: sa.inspect(c).get_table_names())
        number = await connection.scalar(sa.text("select value from crossfade_meta"))
    await engine.dispose()
    assert (schema.VERSION_TABLE in names, number) == (False, "1")
    store = await opened(released)
    assert len(await store.events("trips")) == 3

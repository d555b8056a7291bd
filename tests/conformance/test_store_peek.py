"""A look into a store reads what is there, and leaves both databases as they are, whatever their schema."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.conformance.test_store_conformance import _database

from crossfade.adapters.store import SqlStore, schema
from crossfade.adapters.store.peek import peek
from crossfade.errors import StoreError, UnreachableError
from crossfade.ports import Lease
from crossfade.testing.conformance.store import some_events

SCHEMAS = Path(__file__).parent / "schemas"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.external)])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        (tmp_path / "store.db").touch()
        return f"sqlite:///{tmp_path}/store.db"
    return await _database(request.getfixturevalue("postgresql_server"))


async def _run(url: str, script: str) -> None:
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            connection.executescript(script)
        return
    connection = await asyncpg.connect(url)
    await connection.execute(script)
    await connection.close()


async def test_what_is_kept_of_a_rollout_is_read(url: str) -> None:
    store = SqlStore(url)
    await store.open()
    events, lease = some_events("a", 1, 3), Lease(rollout="a", generation=1, holder="h", address="u", lasts_s=5, beat=0)
    await store.append("a", 0, events)
    await store.append("b", 0, some_events("b", 1, 1))
    await store.acquire(lease, None)
    found = await asyncio.to_thread(peek, url, "a")
    assert (found.revision, found.lease, list(found.events)) == (schema.REVISION, lease, events)
    await store.close()


async def test_an_empty_and_an_old_database_stay_as_they_are(url: str) -> None:
    assert (await asyncio.to_thread(peek, url, "a")).revision is None
    kind = "sqlite" if url.startswith("sqlite") else "postgresql"
    await _run(url, (SCHEMAS / f"0001.{kind}.sql").read_text())
    for _ in range(2):
        found: Any = await asyncio.to_thread(peek, url, "a")
        assert (found.revision, found.lease, found.events) == ("0001", None, ())


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no such file"):
        peek(f"sqlite:///{tmp_path}/store.db", "a")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UnreachableError, match="does not answer") as caught:
        peek("postgresql://ann:hunter2@127.0.0.1:1/db", "a")
    assert "hunter2" not in str(caught.value)

"""The store on SQLite on its bad days: killed writers, damaged and foreign files, locks, full disks, bad URLs."""
# ruff: noqa: ASYNC240 - files are small here

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from crossfade.adapters.store import KEPT_DECISIONS, SqlStore, sql, sqlite
from crossfade.errors import ConflictError, StoreError
from crossfade.testing.conformance.store import some_events, some_kept, some_look, some_tick

WRITER = """
import asyncio, sys
from crossfade.adapters.store import SqlStore
from crossfade.errors import ConflictError
from crossfade.testing.conformance.store import some_events, some_kept

async def main(url, name, rounds):
    store = SqlStore(url)
    await store.open()
    print("open", flush=True)
    for _ in range(rounds):
        last = len(await store.events("r"))
        try:
            await store.append("r", last, some_events("r", last + 1, 3, kind=name))
        except ConflictError:
            continue
        await store.save_ticks("r", [some_kept(last)], b"%d" % last)
        print(last + 3, flush=True)
    await store.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
async def store(file: Path) -> AsyncIterator[SqlStore]:
    store = SqlStore(f"sqlite:///{file}")
    await store.open()
    yield store
    await store.close()


def _writer(file: Path, name: str, rounds: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, f"sqlite:///{file}", name, str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _must_open_with(file: Path, reason: str) -> None:
    async def opened() -> None:
        await SqlStore(f"sqlite:///{file}").open()

    with pytest.raises(StoreError, match=reason) as caught:
        asyncio.run(opened())
    assert str(file) in str(caught.value)
    assert caught.value.__cause__ is None


# ── several processes, killed processes ─────────────────────────────────────────────────────────────────────


async def test_processes_that_create_and_write_one_file_at_once_lose_nothing(file: Path) -> None:
    writers = [_writer(file, f"By{n}", 40) for n in range(3)]
    lines = [[int(line) for line in writer.communicate()[0].split()[1:]] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    store = SqlStore(f"sqlite:///{file}")
    await store.open()
    events = await store.events("r")
    await store.close()
    assert sorted(line for written in lines for line in written) == [event.revision for event in events[2::3]]
    assert [event.kind for event in events[::3]] == [event.kind for event in events[2::3]]
    assert max(max(written) for written in lines) == events[-1].revision


@pytest.mark.parametrize("after", [1, 7, 30])
async def test_a_killed_writer_leaves_whole_appends_and_the_next_goes_on(file: Path, after: int) -> None:
    writer = _writer(file, "Killed", 100_000)
    assert writer.stdout is not None
    told = [writer.stdout.readline() for _ in range(after + 1)][-1]
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    store = SqlStore(f"sqlite:///{file}")
    await store.open()
    events = await store.events("r")
    assert len(events) >= int(told)
    assert len(events) % 3 == 0
    kept = await store.evidence("r")
    assert kept is not None
    assert len(events) - 6 <= kept[0] == int(kept[1]) < len(events)
    assert [some_kept(kept[0])] == list(await store.ticks("r", after=kept[0] - 1))
    await store.append("r", len(events), some_events("r", len(events) + 1, 1))
    await store.close()


async def test_two_tasks_on_one_handle_share_it(store: SqlStore) -> None:
    outcomes = await asyncio.gather(
        *(store.append("r", 0, some_events("r", 1, 2, kind=f"By{n}")) for n in range(8)), return_exceptions=True
    )
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 7
    assert len(await store.events("r")) == 2


async def test_a_cancelled_write_leaves_the_store_usable(store: SqlStore) -> None:
    for n in range(20):
        write = asyncio.create_task(store.save_look("r", some_look(0.0, {"n": n})))
        for _ in range(n):
            await asyncio.sleep(0)
        write.cancel()
        await asyncio.gather(write, return_exceptions=True)
    await store.append("r", 0, some_events("r", 1, 1))
    assert len(await store.events("r")) == 1


# ── files that are not what they should be ──────────────────────────────────────────────────────────────────


def test_a_missing_folder_is_told_with_the_command(tmp_path: Path) -> None:
    _must_open_with(tmp_path / "no" / "such" / "store.db", r"the folder .*/no/such does not exist .*mkdir -p")


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    _must_open_with(tmp_path, "it is a folder")


def test_text_is_no_store(file: Path) -> None:
    file.write_text("crossfade: 1\n" * 100)
    _must_open_with(file, "not a SQLite database")


def test_a_folder_in_which_no_file_can_be_made() -> None:
    """/proc refuses root too; others are told that they may not write."""
    _must_open_with(Path("/proc/self/store.db"), "can't be opened|not writable")


async def test_damaged_pages_are_told(store: SqlStore, file: Path) -> None:
    for n in range(30):
        await store.append("r", 3 * n, some_events("r", 3 * n + 1, 3))
    await store.close()
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    file.write_bytes(data)
    with pytest.raises(StoreError, match="damaged"):
        await store.open()


async def test_a_missing_event_is_damage_and_not_history(store: SqlStore) -> None:
    await store.append("r", 0, some_events("r", 1, 3))
    async with store._database.transaction(write=True) as connection:
        await connection.execute(sa.text("delete from crossfade_events where revision = 2"))
    with pytest.raises(StoreError, match="event 2 of r is missing"):
        await store.events("r")


async def test_an_event_or_tick_that_cannot_be_read_is_damage(store: SqlStore) -> None:
    await store.append("r", 0, some_events("r", 1, 1))
    await store.save_ticks("r", [some_kept(1)], b"")
    await store.save_look("r", some_look(1.0, window=some_tick(1)))
    async with store._database.transaction(write=True) as connection:
        await connection.execute(sa.text("update crossfade_events set data = '{'"))
        await connection.execute(sa.text("update crossfade_ticks set data = x'00'"))
        await connection.execute(sa.text("update crossfade_looks set window = x'00'"))
    with pytest.raises(StoreError, match="event 1 of r can't be read"):
        await store.events("r")
    with pytest.raises(StoreError, match="tick 1 of r can't be read"):
        await store.ticks("r")
    with pytest.raises(StoreError, match="look 1 of r can't be read"):
        await store.looks("r")


async def test_a_read_only_database_is_told_at_the_start(store: SqlStore, file: Path) -> None:
    await store.append("r", 0, some_events("r", 1, 1))
    read_only = SqlStore(f"sqlite:///file:{file}?mode=ro&uri=true")
    with pytest.raises(StoreError, match="read-only"):
        await read_only.open()


async def test_tables_of_others_are_left_alone(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("create table events (mine text)")
    store = SqlStore(f"sqlite:///{file}")
    await store.open()
    await store.append("r", 0, some_events("r", 1, 1))
    await store.close()
    with sqlite3.connect(file) as connection:
        assert connection.execute("select mine from events").fetchall() == []


# ── while running ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_locked_file_is_told_and_writing_goes_on_afterwards(
    store: SqlStore, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_S", 0.05)
    await store.close()
    await store.open()
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="another process has locked it"):
            await store.append("r", 0, some_events("r", 1, 1))
        assert list(await store.events("r")) == []  # readers don't wait
        other.execute("ROLLBACK")
    await store.append("r", 0, some_events("r", 1, 1))


async def test_a_full_disk_is_told_and_nothing_is_half_written(store: SqlStore) -> None:
    await store.append("r", 0, some_events("r", 1, 1))
    await store.save_ticks("r", [some_kept(1)], b"before")
    assert store._database._engine is not None
    await store._database._engine.dispose()

    @sa.event.listens_for(store._database._engine.sync_engine, "connect")
    def full(dbapi: sqlite3.Connection, _record: object) -> None:
        dbapi.cursor().execute("PRAGMA max_page_count = 1")  # as many as there are

    with pytest.raises(StoreError, match="the disk is full"):
        await store.save_ticks("r", [some_kept(2), some_kept(3)], b"x" * 1_000_000)
    assert await store.evidence("r") == (1, b"before")
    assert [kept.tick.number for kept in await store.ticks("r")] == [1]


async def test_a_file_deleted_while_open_is_noticed(store: SqlStore, file: Path) -> None:
    await store.append("r", 0, some_events("r", 1, 1))
    file.unlink()
    with pytest.raises(StoreError, match="removed or replaced"):
        await store.append("r", 1, some_events("r", 2, 1))
    file.write_bytes(b"")
    with pytest.raises(StoreError, match="removed or replaced"):
        await store.save_look("r", some_look(0.0))


async def test_of_records_the_latest_are_kept_and_of_looks_all(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KEPT_DECISIONS == 10_000
    monkeypatch.setattr(sql, "KEPT_DECISIONS", 3)
    for n in range(7):
        await store.save_look("r", some_look(float(n), {"n": n}))
        await store.save_look("other", some_look(float(n), {"n": n}))
    for rollout in ("r", "other"):
        assert [decision["n"] for decision in await store.decisions(rollout)] == [6, 5, 4]
        assert [look.record is None for look in await store.looks(rollout)] == [True] * 4 + [False] * 3


async def test_commits_are_on_the_disk(store: SqlStore) -> None:
    async with store._database.transaction(write=True) as connection:
        assert await connection.scalar(sa.text("PRAGMA synchronous")) == 2
        assert await connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"


# ── URLs ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "can't be read"),
        ("store.db", "can't be read"),
        ("postgresql://host:port/db", "can't be read"),
        ("mysql://ann:hunter2@host/db", "mysql is not a store"),
        ("postgresql+psycopg://ann:hunter2@host/db", "is not a store"),
        ("sqlite://", "would lose everything"),
        ("sqlite:///:memory:", "would lose everything"),
    ],
)
def test_urls_that_name_no_store(url: str, reason: str) -> None:
    with pytest.raises(StoreError, match=reason) as caught:
        SqlStore(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["postgresql://ann:hunter2@h/db", "postgres://ann@h/db?password=hunter2&sslmode=require"]
)
def test_passwords_are_never_shown(url: str) -> None:
    store = SqlStore(url)
    assert "hunter2" not in store._database.shown
    assert "ann" in store._database.shown


async def test_a_missing_driver_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(StoreError, match=r"pip install crossfade\[postgresql\]"):
        await SqlStore("postgresql://ann@127.0.0.1:1/db").open()


@pytest.mark.parametrize("url", ["postgresql://ann@127.0.0.1:1/db?nonsense=1", "sqlite:////tmp/x.db?timeout=nonsense"])
async def test_an_option_that_the_driver_does_not_take_is_told(url: str) -> None:
    with pytest.raises(StoreError, match=r"nonsense.*correct the URL"):
        await SqlStore(url).open()

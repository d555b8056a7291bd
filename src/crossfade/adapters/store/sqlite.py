"""What is SQLite's own: when its transactions begin, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from crossfade.errors import StoreError

BEGIN = "crossfade_begin"
"""Execution option with the statement that begins a transaction."""
BUSY_S = 5.0
"""How long a writer waits for another process's lock."""


def prepare(engine: AsyncEngine) -> None:
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
        connection.exec_driver_sql(connection.get_execution_options().get(BEGIN, "BEGIN IMMEDIATE"))


def use_wal(engine: AsyncEngine) -> None:
    """Let readers and the writer not wait for each other; the mode stays with the file. Raises sqlite3.Error.

    Done without the asynchronous driver: where it can't open a file it leaves a thread behind, which complains
    on stderr when the event loop is gone.
    """
    arguments, options = engine.dialect.create_connect_args(engine.url)
    uri = bool(options.get("uri"))
    with closing(sqlite3.connect(arguments[0], timeout=BUSY_S, uri=uri)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


_REASONS = {
    "SQLITE_NOTADB": ("the file is not a SQLite database", "restore it from a backup, or give another file"),
    "SQLITE_CORRUPT": ("the file is damaged", "restore it from a backup, or give another file"),
    "SQLITE_READONLY": ("the file or its folder is read-only", "let this user write both"),
    "SQLITE_PERM": ("the file may not be opened", "let this user read and write it"),
    "SQLITE_FULL": ("the disk is full", "free some space; writing goes on by itself then"),
    "SQLITE_BUSY": (f"another process has locked it for more than {BUSY_S:g} s", "find and stop that process"),
    "SQLITE_LOCKED": ("another connection has locked it", "try again"),
    "SQLITE_IOERR": ("the disk can't be read or written", "check the disk"),
}


def explain(shown: str, path: Path | None, cause: BaseException) -> StoreError:
    """Return what a driver's error means for the database `shown`, with advice."""
    name = getattr(cause, "sqlite_errorname", "")
    primary = "_".join(name.split("_")[:2])
    if primary == "SQLITE_CANTOPEN" and path is not None:
        reason, advice = _why_not_opened(path)
    else:
        reason, advice = _REASONS.get(primary, ("the database failed", "see the reason"))
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

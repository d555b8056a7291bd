"""`crossfade export rollout` and `crossfade import`: a rollout as a file, out of one store and into another."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from crossfade.adapters import archive
from crossfade.adapters.store import SqlStore
from crossfade.app.control import STORE_FILE
from crossfade.app.kept import find_kept, opened
from crossfade.errors import CrossfadeError, UsageError
from crossfade.ports import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What was written or kept."""

    rollout: str
    records: int
    where: str
    """The store, as it may be shown."""


def export_rollout(state: Path, rollout: str | None, database: str, output: Path | None) -> Moved:
    """Write everything kept of a rollout, as of one moment; a controller may go on meanwhile.

    Raises UsageError where there is no such rollout or the file can't be written.
    """
    kept = find_kept(state, rollout, database)

    async def run() -> Moved:
        async with opened(kept) as store:
            with _writing(output) as out:
                count = await archive.write(kept.rollout, store.copy_out(kept.rollout), out)
            return Moved(rollout=kept.rollout, records=count, where=store.shown)

    return asyncio.run(run())


@contextmanager
def _writing(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with path.open("wb") as out:
            yield out
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}") from None


def import_rollout(file: Path, state: Path, database: str) -> Moved:
    """Keep a rollout that `export_rollout` wrote, all or nothing.

    Raises UsageError naming file and line where it is damaged or cut off, ConflictError where the rollout is kept
    already.
    """
    try:
        with file.open("rb") as lines:
            rollout = _check(lines, file)
            lines.seek(0)
            return asyncio.run(_keep(lines, file, rollout, state, database))
    except OSError as error:
        raise UsageError(f"{file} can't be read: {error.strerror or error}") from None


def _check(lines: BinaryIO, file: Path) -> str:
    """Read the whole file before anything is made; return which rollout it holds."""
    rollout, records = archive.read(lines, str(file))
    for _ in records:
        pass
    if not rollout or "/" in rollout or rollout.startswith("."):
        raise UsageError(f"{file}:1: {rollout!r} is no name of a rollout")
    return rollout


async def _keep(lines: BinaryIO, file: Path, rollout: str, state: Path, database: str) -> Moved:
    store = SqlStore(database or f"sqlite:///{_made(state / rollout) / STORE_FILE}")
    try:
        await store.open()
        count = 0

        def counted() -> Iterator[Record]:
            nonlocal count
            for record in archive.read(lines, str(file))[1]:
                count += 1
                yield record

        await store.copy_in(rollout, counted())
    finally:
        await store.close()
    return Moved(rollout=rollout, records=count, where=store.shown)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CrossfadeError(f"{folder} can't be made: {error.strerror or error}; say --state DIR") from None
    return folder.resolve()

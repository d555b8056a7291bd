"""What was kept of a rollout, for commands that only read: its store and its plan, with or without a controller."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from crossfade.adapters.store import SqlStore
from crossfade.app.control import STORE_FILE, find_folder, noted_plan
from crossfade.app.planfile import load_plan
from crossfade.core import events as e
from crossfade.core.plan import Plan
from crossfade.core.rollout import Rollout, evolve
from crossfade.errors import ConflictError, StoreError, UsageError
from crossfade.ports import Store, StoredEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where a rollout is kept."""

    rollout: str
    folder: Path
    database: str
    """URL of its store."""

    def plan(self, path: Path | None) -> Plan:
        """Return the plan of a file, or of the one last carried out here; UsageError where none is known."""
        found = path or noted_plan(self.folder)
        if found is None:
            raise UsageError(f"nobody knows which plan file {self.rollout} was started from; say --plan FILE")
        return load_plan(found)


def find_kept(state: Path, rollout: str | None, database: str) -> Kept:
    """Return where a rollout is kept; UsageError where there is no such rollout or no store."""
    if database and rollout is not None:
        return Kept(rollout=rollout, folder=state / rollout, database=database)
    folder = find_folder(state, rollout)
    file = folder / STORE_FILE
    if not database and not file.is_file():
        raise UsageError(f"{folder} holds no store; where `serve` was given --database, give the same here")
    return Kept(rollout=folder.name, folder=folder, database=database or f"sqlite:///{file.resolve()}")


@asynccontextmanager
async def opened(kept: Kept) -> AsyncIterator[SqlStore]:
    """Open a rollout's store; raises UsageError where it holds no such rollout."""
    store = SqlStore(kept.database)
    try:
        await store.open()
        known = await store.rollouts()
        if kept.rollout not in known:
            held = f"it holds {', '.join(known)}" if known else "it holds none"
            raise UsageError(f"there is no rollout {kept.rollout!r} in this store; {held}")
        yield store
    finally:
        await store.close()


def must_be_its_plan(plan: Plan, started: e.RolloutStarted) -> None:
    """Raise UsageError where a rollout was started from another plan."""
    if started.digest != plan.digest:
        raise UsageError(
            f"this is not the plan that rollout {started.plan} was started from: its digest is {plan.digest[:12]}, "
            f"the rollout's {started.digest[:12]}; give that file with --plan"
        )


class History:
    """A rollout's events, read from its store as they come and checked to be a history."""

    def __init__(self, store: Store, rollout: str) -> None:
        self.started: e.RolloutStarted | None = None
        self.length = 0
        self._store = store
        self._rollout = Rollout(name=rollout)

    async def more(self) -> list[e.Event]:
        """Return the events since the last call; StoreError where they can't have happened."""
        found = _understood(await self._store.events(self._rollout.name, after=self.length))
        for event in found:
            try:
                self._rollout = evolve(self._rollout, event)
            except ConflictError as error:
                raise StoreError(f"event {self.length + 1} can't have happened: {error}") from None
            self.length += 1
            if isinstance(event, e.RolloutStarted):
                self.started = event
        return found


def _understood(events: Sequence[StoredEvent]) -> list[e.Event]:
    result = []
    for event in events:
        try:
            result.append(e.from_data(event.kind, event.at, event.data))
        except KeyError:
            raise StoreError(
                f"event {event.revision} of {event.rollout} is a {event.kind}, which this version does not know; "
                "use the version that wrote it"
            ) from None
        except TypeError as error:
            raise StoreError(f"event {event.revision} of {event.rollout} is damaged: {error}") from None
    return result

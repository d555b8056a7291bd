"""A rollout and its history: the fold in memory, the events in the store, never one ahead for long.

The store may be down while a rollback has to be recorded. Then the event is folded at once and kept until the
store takes it, because the users have been moved already, and saying otherwise would be the worse lie.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from crossfade.core.events import Event, from_data, to_data
from crossfade.core.rollout import Rollout, evolve, fold
from crossfade.errors import ConflictError, StoreError, UnreachableError
from crossfade.ports import Store, StoredEvent

log = logging.getLogger("crossfade.rollout")


class Journal:
    """The history of one rollout, as one controller sees it."""

    def __init__(self, store: Store, name: str, listeners: Sequence[Callable[[StoredEvent], None]] = ()) -> None:
        self._store = store
        self._listeners = list(listeners)
        self._waiting: list[StoredEvent] = []
        self._writing = asyncio.Lock()
        self.rollout = Rollout(name=name)

    async def load(self) -> Rollout:
        """Fold what the store holds; raises StoreError where it can't be read."""
        async with self._writing:
            events = await self._store.events(self.rollout.name)
            self._waiting.clear()
            self.rollout = fold(self.rollout.name, (from_data(e.kind, e.at, e.data) for e in events))
            return self.rollout

    async def record(self, *events: Event) -> Rollout:
        """Fold and keep events, all or none.

        Raises ConflictError where the table forbids one or another controller has written (reload, then decide
        anew), StoreError or UnreachableError where the store can't keep them; nothing is folded then.
        """
        async with self._writing:
            await self._catch_up()
            new, stored = self._folded(events)
            await self._store.append(self.rollout.name, self.rollout.revision, stored)
            self._adopt(new, stored)
            return new

    async def record_done(self, *events: Event) -> Rollout:
        """Fold events that the proxy has carried out already, and keep them now or as soon as the store can."""
        async with self._writing:
            new, stored = self._folded(events)
            self._waiting.extend(stored)
            self._adopt(new, stored)
            try:
                await self._catch_up()
            except (StoreError, UnreachableError) as error:
                log.error("the store did not take %d events yet: %s", len(self._waiting), error)
            return new

    async def catch_up(self) -> None:
        """Write events that the store has not taken yet; raises what `Store.append` raises."""
        async with self._writing:
            await self._catch_up()

    async def _catch_up(self) -> None:
        if not self._waiting:
            return
        waiting = list(self._waiting)
        await self._store.append(self.rollout.name, waiting[0].revision - 1, waiting)
        del self._waiting[: len(waiting)]

    def _folded(self, events: Sequence[Event]) -> tuple[Rollout, list[StoredEvent]]:
        new, stored = self.rollout, []
        for event in events:
            new = evolve(new, event)
            kind = type(event).__name__
            stored.append(
                StoredEvent(rollout=new.name, revision=new.revision, at=event.at, kind=kind, data=to_data(event))
            )
        return new, stored

    def _adopt(self, new: Rollout, stored: Sequence[StoredEvent]) -> None:
        self.rollout = new
        for event in stored:
            fields = " ".join(f"{key}={value!r}" for key, value in event.data.items() if value not in ("", None, {}))
            log.info("%s #%d %s %s", event.rollout, event.revision, event.kind, fields)
            for listener in self._listeners:
                listener(event)

    def check_digest(self, digest: str) -> None:
        """Raise ConflictError where the rollout was started from another plan."""
        if self.rollout.digest and self.rollout.digest != digest:
            raise ConflictError(
                f"rollout {self.rollout.name} was started from another version of the plan "
                f"({self.rollout.digest[:12]}, not {digest[:12]}); restore that file, or abort the rollout and "
                "start a new one under another name"
            )

"""A rollout and its history: the fold in memory, the events in the store, never one ahead for long.

The store may be down while a rollback has to be recorded. Then the event is folded at once and kept until the
store takes it, because the users have been moved already, and saying otherwise would be the worse lie.

A store may also have kept an event and its reply was lost. What the store holds is the truth then: a conflict has
the history read anew before it is raised, so whoever asks again asks of the present state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from itertools import product

from crossfade.core.events import ControllerStarted, Event, RolloutStarted, from_data, to_data
from crossfade.core.machine import allowed
from crossfade.core.rollout import Rollout, evolve, fold
from crossfade.engine.probe import Unwatched
from crossfade.errors import ConflictError, StoreError, UnreachableError
from crossfade.ports import Probe, Store, StoredEvent

log = logging.getLogger("crossfade.rollout")

_STARTS = (RolloutStarted.__name__, ControllerStarted.__name__)


class Journal:
    """The history of one rollout, as one controller sees it."""

    def __init__(
        self,
        store: Store,
        name: str,
        listeners: Sequence[Callable[[StoredEvent], None]] = (),
        *,
        generation: Callable[[], int] = lambda: 0,
        probe: Probe | None = None,
    ) -> None:
        """`generation` returns that of our lease, which goes with every write."""
        self._store = store
        self._probe = probe or Unwatched()
        self._generation = generation
        self._listeners = list(listeners)
        self._waiting: list[StoredEvent] = []
        self._writing = asyncio.Lock()
        self._in_doubt = False
        """Whether the store may have kept events that are not folded here."""
        self._started = 0
        self.rollout = Rollout(name=name)
        self.taken_over: int | None = None
        """Revision at which another controller began, after us; this one must not write any more."""

    @property
    def waiting(self) -> Sequence[StoredEvent]:
        """Return the events that are folded here and the store has not taken yet."""
        return tuple(self._waiting)

    def listen(self, listener: Callable[[StoredEvent], None]) -> None:
        """Have a listener told of each event that is folded here, from now on."""
        self._listeners.append(listener)

    async def load(self) -> Rollout:
        """Fold what the store holds, and nothing else; raises StoreError where it can't be read."""
        async with self._writing:
            self._waiting, self._started, self.taken_over = [], 0, None
            await self._read()
            return self.rollout

    async def follow(self) -> Rollout:
        """Fold what others have appended since the last look."""
        async with self._writing:
            await self._fold_new()
            return self.rollout

    async def _fold_new(self) -> bool:
        """Fold what the store has beyond our revision; tell whether there was anything."""
        new = await self._store.events(self.rollout.name, self.rollout.revision)
        if new:
            await self._read()
            for event, listener in product(new, self._listeners):
                listener(event)
        return bool(new)

    async def _read(self) -> None:
        """Fold what the store holds, and after it the facts that it has not taken yet."""
        events = await self._store.events(self.rollout.name)
        latest = max((e.revision for e in events if e.kind in _STARTS), default=0)
        if self._started and latest != self._started:
            self.taken_over = latest
        waiting, self._waiting = self._waiting, []
        kept = [from_data(e.kind, e.at, e.data) for e in events]
        self.rollout = fold(self.rollout.name, kept)
        if self.taken_over is not None:
            return  # the proxy tells the other controller what we did to it
        for fact in (from_data(e.kind, e.at, e.data) for e in waiting):
            if fact not in kept and allowed(self.rollout.state, type(fact)):
                self.rollout, stored = self._folded([fact])
                self._waiting.extend(stored)

    async def record(self, *events: Event) -> Rollout:
        """Fold and keep events, all or none.

        Raises ConflictError where the table forbids one or something else was written meanwhile (the history has
        been read anew then: decide anew), StoreError or UnreachableError where the store can't keep them; nothing
        is folded then.
        """
        async with self._writing:
            found = await self._catch_up()
            if self.taken_over is not None:
                raise ConflictError(f"another controller began at revision {self.taken_over} of the history")
            if found:
                raise ConflictError(
                    "the store had kept what it did not confirm, and the rollout has changed; ask again"
                )
            new, stored = self._folded(events)
            try:
                await self._append(self.rollout.revision, stored)
            except ConflictError:
                await self._read()
                raise
            except (StoreError, UnreachableError):
                self._in_doubt = True
                raise
            self._adopt(new, stored)
            return new

    async def record_done(self, *events: Event) -> Rollout:
        """Fold events that the proxy has carried out already, and keep them now or as soon as the store can.

        Where another controller has taken over nothing is folded: it finds at the proxy what we did there.
        """
        async with self._writing:
            if self.taken_over is not None:
                return self.rollout
            new, stored = self._folded(events)
            self._waiting.extend(stored)
            self._adopt(new, stored)
            try:
                await self._catch_up()
            except (StoreError, UnreachableError, ConflictError) as error:
                log.error("the store did not take %d events yet: %s", len(self._waiting), error)
            return self.rollout

    async def catch_up(self) -> None:
        """Be where the store is: fold what it kept though its reply was lost, write what it has not taken yet.

        Raises what `Store.events` and `Store.append` raise.
        """
        async with self._writing:
            await self._catch_up()

    async def _catch_up(self) -> bool:
        """Tell whether the store had kept something without our knowing."""
        found = self._in_doubt and await self._fold_new()
        self._in_doubt = False
        try:
            await self._append_waiting()
        except ConflictError:
            await self._read()
            await self._append_waiting()
        return found

    async def _append_waiting(self) -> None:
        if self._waiting:
            await self._append(self._waiting[0].revision - 1, self._waiting)
            self._waiting = []

    async def _append(self, revision: int, events: Sequence[StoredEvent]) -> None:
        with self._probe.span("record", what=", ".join(event.kind for event in events)):
            await self._store.append(self.rollout.name, revision, events, generation=self._generation())

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
            if event.kind in _STARTS:
                self._started = event.revision
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

"""Events as they happen, as server-sent events: the id of each is its revision."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress

from crossfade.core.jsonable import to_json
from crossfade.errors import StoreError, UnreachableError
from crossfade.ports import Store, StoredEvent

HEARTBEAT_S = 15.0
"""Real seconds between signs of life, so that whoever is gone is noticed on both sides."""
RETRY_MS = 2_000
"""How long a browser waits before it connects again."""
STREAMS = 512
"""Streams open at once."""
_RECENT = 256


class Feed:
    """Tells streams what the controller has recorded; ends them when the server does."""

    def __init__(self) -> None:
        self.closed = False
        self.open = 0
        """Streams open now."""
        self._recent: deque[StoredEvent] = deque(maxlen=_RECENT)
        self._news = asyncio.Event()

    def see(self, event: StoredEvent) -> None:
        """Take in an event that was just recorded."""
        self._recent.append(event)
        self._wake()

    def close(self) -> None:
        """End every stream at once."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def messages(
        self, store: Store, rollout: str, after: int, still: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        """Yield the events after a revision as they happen, for as long as `still` says so."""
        self.open += 1
        try:
            yield b"retry: %d\n\n" % RETRY_MS
            while not self.closed and await still():
                news = self._news
                for event in await self._after(store, rollout, after):
                    after = event.revision
                    yield message(event)
                if news.is_set():
                    continue
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), HEARTBEAT_S)
                    continue
                yield b": still here\n\n"
        finally:
            self.open -= 1

    async def _after(self, store: Store, rollout: str, after: int) -> Sequence[StoredEvent]:
        """Return events from memory where it goes back far enough without a gap, else from the store."""
        recent = [event for event in self._recent if event.revision > after]
        if self._recent and [e.revision for e in recent] == list(range(after + 1, self._recent[-1].revision + 1)):
            return recent
        try:
            return await store.events(rollout, after)
        except (StoreError, UnreachableError):
            return ()  # the next event or heartbeat asks again


def message(event: StoredEvent) -> bytes:
    """Return an event in the form of the stream."""
    data = to_json({"revision": event.revision, "at": event.at, "kind": event.kind, "data": event.data})
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (event.revision, event.kind.encode(), data)

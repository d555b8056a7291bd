"""A cache in the process: the least recently used goes first, entries age, a missing one is loaded once for all."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Cache(Generic[K, V]):
    """At most `size` entries, each for at most `ttl_s` seconds.

    A size of 0 keeps nothing and still loads once for all who wait.
    """

    def __init__(self, *, size: int, ttl_s: float, clock: Callable[[], float]) -> None:
        self._size = size
        self._ttl_s = ttl_s
        self._clock = clock
        self._entries: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._loading: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: K) -> V | None:
        """The entry, or None when it is absent or too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        expires, value = entry
        if self._clock() >= expires:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep a value, at the cost of the least recently used one when the cache is full."""
        if self._size <= 0:
            return
        self._entries[key] = (self._clock() + self._ttl_s, value)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def load(self, key: K, loader: Callable[[], Awaitable[V]]) -> tuple[asyncio.Task[V], bool]:
        """The task that loads this entry, and whether this call started it.

        Await it through `asyncio.shield`: the load belongs to all who wait, so one who leaves must not cancel it.
        A failed load is kept for nobody; the next request starts another.
        """
        running = self._loading.get(key)
        if running is not None:
            return running, False
        task = asyncio.ensure_future(self._load(key, loader))
        self._loading[key] = task
        task.add_done_callback(lambda done: self._loaded(key, done))
        return task, True

    async def close(self) -> None:
        """End the loads that are still running."""
        running = list(self._loading.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _load(self, key: K, loader: Callable[[], Awaitable[V]]) -> V:
        value = await loader()
        self.put(key, value)
        return value

    def _loaded(self, key: K, task: asyncio.Task[V]) -> None:
        del self._loading[key]
        if not task.cancelled():
            task.exception()  # marks it as seen: everyone who asked may have left

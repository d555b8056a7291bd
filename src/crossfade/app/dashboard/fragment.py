"""The part of a rollout's page that changes: drawn and packed once for all who look at the same time.

With a hundred open dashboards each change is asked for a hundred times at once, and the controller's ticks would wait.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from crossfade.app.web.served import Carried

FRESH_S = 1.0
"""Real seconds that a fragment is shown, unless what it shows has changed."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """HTML, plain and packed."""

    plain: bytes
    packed: bytes


@dataclass(frozen=True, slots=True)
class _Drawing:
    of: tuple[object, ...]
    began: float
    task: asyncio.Task[Fragment]


class Fragments:
    """The latest fragment of each rollout."""

    def __init__(self, draw: Callable[[Carried], Awaitable[str]]) -> None:
        self._draw = draw
        self._latest: dict[str, _Drawing] = {}

    async def get(self, carried: Carried) -> Fragment:
        """Return the fragment of now; raises what drawing it raises, and then draws anew for whoever asks next."""
        controller, now = carried.controller, carried.clock.monotonic()
        of = (controller.rollout.revision, controller.seen)
        latest = self._latest.get(carried.name)
        if latest is None or latest.of != of or now - latest.began > FRESH_S or _failed(latest.task):
            latest = _Drawing(of, now, asyncio.create_task(self._drawn(carried)))
            self._latest[carried.name] = latest
        return await asyncio.shield(latest.task)  # whoever asked first may go before the others

    async def _drawn(self, carried: Carried) -> Fragment:
        plain = (await self._draw(carried)).encode()
        return Fragment(plain, await asyncio.to_thread(gzip.compress, plain, 5))


def _failed(task: asyncio.Task[Fragment]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)

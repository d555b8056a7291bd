"""An event loop whose time is a manual clock's: when nobody can go on, time does. A run takes no time of its own."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from crossfade.testing.clock import ManualClock

_T = TypeVar("_T")


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Timers of asyncio and sleepers of the clock share one time, and nothing outside can wake anybody."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        super().__init__(_Idle(clock))
        self.set_exception_handler(_pass_over_the_dead)

    def time(self) -> float:
        """Return the clock's monotonic seconds."""
        return self._clock.monotonic()


def _pass_over_the_dead(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of tasks that ended because their process was killed, and which nobody waited for any more."""
    error = context.get("exception")
    if error is None or isinstance(error, Exception):
        loop.default_exception_handler(context)


class _Idle(selectors.SelectSelector):
    """Asked for what has happened outside, it lets time pass up to what happens next inside."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        waits = [seconds for seconds in (timeout, self._clock.until_next) if seconds is not None]
        if not waits:
            raise RuntimeError("everybody waits, and nothing is left that could happen")
        if min(waits) > 0:
            self._clock.move(min(waits))
        elif self._clock.until_next is not None:
            self._clock.move(0.0)
        return []


def run(clock: ManualClock, story: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end in simulated time; what is still running then is cancelled."""
    with asyncio.Runner(loop_factory=lambda: SimulatedLoop(clock)) as runner:
        return runner.run(story)

"""A clock that moves when it is told to. Sleepers wake in the order of their times; nothing waits for real."""

from __future__ import annotations

import asyncio
import heapq
import itertools


class ManualClock:
    """Keeps `ports.Clock`. The wall and the monotonic clock are two numbers, so that the wall can be stepped alone."""

    def __init__(self, wall: float = 1_700_000_000.0, *, speed: float = 1.0) -> None:
        """Start at wall time `wall` (seconds since the epoch), which is also the plan time then."""
        self.speed = speed
        self.wall = wall
        self._epoch = wall
        self._elapsed = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Return plan time in seconds since the epoch."""
        return self.plan_time(self.wall)

    def monotonic(self) -> float:
        """Return real seconds since this clock was made."""
        return self._elapsed

    def plan_time(self, wall: float) -> float:
        """Return the plan time at which the wall clock showed `wall`."""
        return self._epoch + (wall - self._epoch) * self.speed

    async def sleep(self, real_seconds: float) -> None:
        """Wait until the clock was moved that far; zero and less only yield."""
        if real_seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + real_seconds, next(self._order), woken))
        await woken

    @property
    def until_next(self) -> float | None:
        """Return the real seconds until the next sleeper wakes; None where nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)  # cancelled meanwhile
        return self._sleepers[0][0] - self._elapsed if self._sleepers else None

    def move(self, real_seconds: float) -> None:
        """Let real time pass at once, and wake whoever sleeps no longer than that."""
        self.wall += real_seconds
        self._elapsed += real_seconds
        while self._sleepers and self._sleepers[0][0] <= self._elapsed:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)

    async def advance(self, real_seconds: float) -> None:
        """Let real time pass from one sleeper's time to the next, each given the chance to run and sleep again."""
        until = self._elapsed + real_seconds
        await asyncio.sleep(0)
        while self._sleepers and self._sleepers[0][0] <= until:
            self.move(self._sleepers[0][0] - self._elapsed)
            for _ in range(3):  # a sleeper's own awaits, before time goes on
                await asyncio.sleep(0)
        self.move(until - self._elapsed)
        await asyncio.sleep(0)

    def step(self, seconds: float) -> None:
        """Step the wall clock alone, as an administrator or NTP would."""
        self.wall += seconds

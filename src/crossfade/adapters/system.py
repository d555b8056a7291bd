"""The machine: its clocks and its entropy. The only file that reads them."""

from __future__ import annotations

import asyncio
import gc
import secrets
import time


def collect_cycles_seldom() -> None:
    """Have Python look for cycles of garbage rarely, and never among what lives by now.

    By its defaults it goes through everything every few seconds, and with 200 rollouts nothing else moves meanwhile
    for 300 ms (`benchmarks/dashboard.py`). What has no cycles, nearly all of ours, goes when it is let go of.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 100)


class SystemClock:
    """Plan time is wall time."""

    speed = 1.0

    def now(self) -> float:
        """Return wall-clock seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return real seconds since an arbitrary start; never steps."""
        return time.monotonic()

    def plan_time(self, wall: float) -> float:
        """Return the wall time itself."""
        return wall

    async def sleep(self, real_seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(real_seconds)


class ScaledClock(SystemClock):
    """Plan time runs `speed` times as fast as the wall clock, from the moment of the epoch given."""

    def __init__(self, speed: float, epoch: float | None = None) -> None:
        """Start at plan time `epoch` (seconds since the epoch; None: now).

        Plan time is a line through (epoch, epoch), so that a controller that starts again with the same epoch
        and speed finds itself on the same line. Raises ValueError where the speed is not above zero.
        """
        if not speed > 0:
            raise ValueError(f"a clock runs at a speed above 0, not {speed:g}")
        self.speed = speed
        self.epoch = time.time() if epoch is None else epoch

    def now(self) -> float:
        """Return plan time in seconds since the epoch."""
        return self.plan_time(time.time())

    def plan_time(self, wall: float) -> float:
        """Return the plan time at which the wall clock showed `wall`."""
        return self.epoch + (wall - self.epoch) * self.speed


def new_token() -> str:
    """Return a secret of 256 bits, as text."""
    return secrets.token_urlsafe(32)


def new_key() -> bytes:
    """Return a secret key of 256 bits."""
    return secrets.token_bytes(32)


def chance() -> float:
    """Return a random number from 0 to 1."""
    return secrets.randbelow(2**32) / 2**32


def cpu_seconds() -> float:
    """Return the processor seconds that this process has used."""
    return time.process_time()

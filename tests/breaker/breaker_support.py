"""What the breaker's tests share: a clock that stands still, and calls that end as told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from crossfade.breaker import CircuitBreaker, State, Transition


class ManualClock:
    """Seconds that pass when the test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class Bench:
    """A small breaker on a manual clock, and ways to drive it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.seen: list[Transition] = []

    def breaker(self, **changes: Any) -> CircuitBreaker:
        """Return a breaker that opens at 2 failures of 4, cools for 30 s and wants 2 probes."""
        settings: dict[str, Any] = {
            "window": 4,
            "minimum_calls": 4,
            "failure_rate": 0.5,
            "cooldown_s": 30.0,
            "probes": 2,
            "probe_lease_s": 10.0,
            "clock": self.clock,
            "listeners": (self.seen.append,),
        }
        return CircuitBreaker("dep", **(settings | changes))

    def opened(self, **changes: Any) -> CircuitBreaker:
        """Return a breaker that failures have just opened."""
        breaker = self.breaker(**changes)
        for _ in range(changes.get("window", 4)):
            fail_sync(breaker)
        return breaker

    def half_open(self, **changes: Any) -> CircuitBreaker:
        """Return a breaker whose cooldown is just over."""
        breaker = self.opened(**changes)
        self.clock.advance(changes.get("cooldown_s", 30.0))
        return breaker


class Boom(Exception):  # noqa: N818 - it is short and loud
    """What a failing dependency raises here."""


def _boom() -> None:
    raise Boom


def ok_sync(breaker: CircuitBreaker) -> str:
    return breaker.call_sync(lambda: "ok")


def fail_sync(breaker: CircuitBreaker) -> None:
    with pytest.raises(Boom):
        breaker.call_sync(_boom)


def state(breaker: CircuitBreaker) -> State:
    """Read the state; a function, for a type checker takes a property to stay what it was."""
    return breaker.state


def drive(breaker: CircuitBreaker, outcomes: str) -> None:
    """Make one call for each letter: ``s`` succeeds, ``f`` fails."""
    for letter in outcomes:
        (ok_sync if letter == "s" else fail_sync)(breaker)


async def ok() -> str:
    return "ok"


async def boom() -> str:
    raise Boom


async def hang() -> str:
    await asyncio.get_running_loop().create_future()
    raise AssertionError


class Gate:
    """A call that ends when told, and how it is told."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __call__(self) -> str:
        return await self.answer

    def succeed(self) -> None:
        self.answer.set_result("ok")

    def fail(self) -> None:
        self.answer.set_exception(Boom())


async def start(breaker: CircuitBreaker) -> tuple[Gate, asyncio.Task[str]]:
    """Begin a call that stays under way."""
    gate = Gate()
    task = asyncio.create_task(breaker.call(gate))
    await asyncio.sleep(0)
    return gate, task


async def settle(*tasks: asyncio.Task[str]) -> None:
    """Wait for tasks to end, however."""
    await asyncio.gather(*tasks, return_exceptions=True)

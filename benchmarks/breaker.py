"""What a breaker adds to a call: ours, a bare call, and the libraries that are installed.

    python benchmarks/breaker.py [--calls N] [--rounds N]

Every round runs every row once, in an order that rotates, and each row's time is the median of its rounds, so that a
slow moment of the machine does not fall on one row alone. Rounds are short and many, for that
reason. Only the ratios within one run mean something. A row's ratio is to the bare call that it wraps: an ``await`` of
a coroutine that returns at once, or a plain function call.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import statistics
import sys
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from time import perf_counter  # noqa: TID251 - measuring time is what this file is for
from typing import Any, TypeAlias

import circuitbreaker
import purgatory
import pybreaker
from purgatory.domain.model import OpenedState

from crossfade.breaker import BreakerOpen, CircuitBreaker

Row: TypeAlias = Callable[[int], Awaitable[None]]


class Boom(Exception):  # noqa: N818 - it is short and loud
    """What a failing dependency raises here."""


async def fn() -> int:
    return 1


async def boom() -> int:
    raise Boom


def plain() -> int:
    return 1


def plain_boom() -> int:
    raise Boom


async def swallow(times: int, call: Callable[[], Awaitable[Any]]) -> None:
    """Call and let nothing out: how a library is driven open."""
    for _ in range(times):
        with contextlib.suppress(Exception):  # each library has errors of its own for it
            await call()


async def bare(n: int) -> None:
    for _ in range(n):
        await fn()


async def bare_plain(n: int) -> None:
    for _ in range(n):
        plain()


async def asyncio_timeout(n: int) -> None:
    for _ in range(n):
        async with asyncio.timeout(1.0):
            await fn()


def ours(breaker: CircuitBreaker) -> Row:
    async def run(n: int) -> None:
        for _ in range(n):
            await breaker.call(fn)

    return run


def ours_with_timeout(breaker: CircuitBreaker) -> Row:
    async def run(n: int) -> None:
        for _ in range(n):
            await breaker.call(fn, timeout_s=1.0)

    return run


def ours_sync(breaker: CircuitBreaker) -> Row:
    async def run(n: int) -> None:
        for _ in range(n):
            breaker.call_sync(plain)

    return run


def ours_open(breaker: CircuitBreaker) -> Row:
    async def run(n: int) -> None:
        for _ in range(n):
            try:  # noqa: SIM105 - a context manager would be measured too
                await breaker.call(fn)
            except BreakerOpen:
                pass

    return run


def ours_open_fallback(breaker: CircuitBreaker) -> Row:
    async def run(n: int) -> None:
        for _ in range(n):
            await breaker.call(fn, fallback=str)

    return run


def their_coroutine(call: Callable[[], Awaitable[Any]], rejection: type[Exception] | tuple[()] = ()) -> Row:
    async def run(n: int) -> None:
        for _ in range(n):
            try:  # noqa: SIM105 - a context manager would be measured too
                await call()
            except rejection:
                pass

    return run


def their_context(breaker: Any, rejection: type[Exception] | tuple[()] = ()) -> Row:
    async def run(n: int) -> None:
        for _ in range(n):
            try:
                async with breaker:
                    await fn()
            except rejection:
                pass

    return run


def their_function(call: Callable[[Callable[[], int]], Any], rejection: type[Exception] | tuple[()] = ()) -> Row:
    async def run(n: int) -> None:
        for _ in range(n):
            try:  # noqa: SIM105 - a context manager would be measured too
                call(plain)
            except rejection:
                pass

    return run


async def rows() -> dict[str, tuple[str, Row]]:
    """Return every row by name, with the bare call it is compared with; opened breakers are open already."""
    closed, opened = CircuitBreaker("closed"), CircuitBreaker("open", cooldown_s=3600)
    await ours(closed)(20)  # a full window, as in any process that has run for a moment
    await swallow(20, lambda: opened.call(boom))

    # One failure in a window that no run is long enough to push it out of.
    stained = CircuitBreaker("stained", window=10_000_000, minimum_calls=20)
    await swallow(1, lambda: stained.call(boom))

    # Its call_async wants Tornado's coroutines, so it is measured by its synchronous call.
    their_pybreaker = pybreaker.CircuitBreaker()
    open_pybreaker = pybreaker.CircuitBreaker(reset_timeout=3600)

    async def fail_pybreaker() -> None:
        open_pybreaker.call(plain_boom)

    await swallow(5, fail_pybreaker)

    their_circuit = circuitbreaker.CircuitBreaker(name="closed")(fn)
    open_circuit = circuitbreaker.CircuitBreaker(name="open", recovery_timeout=3600)(boom)
    await swallow(5, open_circuit)

    factory = purgatory.AsyncCircuitBreakerFactory()
    their_purgatory = await factory.get_breaker("closed")
    open_purgatory = await factory.get_breaker("open", ttl=3600)

    async def fail_purgatory() -> None:
        async with open_purgatory:
            raise Boom

    await swallow(5, fail_purgatory)

    return {
        "bare `await fn()`": ("await", bare),
        "**crossfade** `call`": ("await", ours(closed)),
        "**crossfade** `call`, a failure in the window": ("await", ours(stained)),
        f"circuitbreaker {version('circuitbreaker')}": ("await", their_coroutine(their_circuit)),
        f"purgatory {version('purgatory')}": ("await", their_context(their_purgatory)),
        "`asyncio.timeout` without a breaker": ("await", asyncio_timeout),
        "**crossfade** `call`, `timeout_s=`": ("await", ours_with_timeout(closed)),
        "**crossfade** open, `fallback=`": ("await", ours_open_fallback(opened)),
        "**crossfade** open, `BreakerOpen`": ("await", ours_open(opened)),
        f"circuitbreaker {version('circuitbreaker')} open": (
            "await",
            their_coroutine(open_circuit, circuitbreaker.CircuitBreakerError),
        ),
        f"purgatory {version('purgatory')} open": (
            "await",
            their_context(open_purgatory, OpenedState),
        ),
        "bare `fn()`": ("call", bare_plain),
        "**crossfade** `call_sync`": ("call", ours_sync(closed)),
        f"pybreaker {version('pybreaker')}": ("call", their_function(their_pybreaker.call)),
        f"pybreaker {version('pybreaker')} open": (
            "call",
            their_function(open_pybreaker.call, pybreaker.CircuitBreakerError),
        ),
    }


async def measure(table: dict[str, tuple[str, Row]], calls: int, rounds: int) -> dict[str, float]:
    """Return each row's median nanoseconds a call."""
    names = list(table)
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            run = table[name][1]
            began = perf_counter()
            await run(calls)
            times[name].append((perf_counter() - began) / calls * 1e9)
    return {name: statistics.median(each) for name, each in times.items()}


def report(table: dict[str, tuple[str, Row]], medians: dict[str, float]) -> str:
    """Return the Markdown table."""
    base = {"await": medians["bare `await fn()`"], "call": medians["bare `fn()`"]}
    lines = ["| call | ns | x bare |", "|---|---:|---:|"]
    lines += [f"| {name} | {ns:.0f} | {ns / base[table[name][0]]:.1f} |" for name, ns in medians.items()]
    return "\n".join(lines)


async def main(calls: int, rounds: int) -> None:
    logging.getLogger("crossfade.breaker").setLevel(logging.ERROR)
    table = await rows()
    await measure(table, max(calls // 10, 100), 1)  # warm up
    print(f"Python {sys.version.split()[0]}, {calls} calls a round, medians of {rounds} interleaved rounds\n")
    print(report(table, await measure(table, calls, rounds)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=300)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.calls, arguments.rounds))

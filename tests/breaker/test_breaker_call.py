"""What one awaited call gives, raises and counts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from tests.breaker.breaker_support import Bench, Boom, boom, drive, hang, ok, settle, start, state

from crossfade.breaker import BreakerOpen, CircuitBreaker, State


def counted(breaker: CircuitBreaker) -> dict[str, int]:
    return {outcome: n for outcome, n in breaker.counts.items() if n}


async def test_it_gives_what_the_call_gives(bench: Bench) -> None:
    breaker = bench.breaker()
    assert await breaker.call(ok) == "ok"
    assert counted(breaker) == {"success": 1}


async def test_any_awaitable_will_do(bench: Bench) -> None:
    future = asyncio.get_running_loop().create_future()
    future.set_result(7)
    assert await bench.breaker().call(lambda: future) == 7


async def test_it_raises_what_the_call_raised(bench: Bench) -> None:
    error = Boom("this very one")

    async def fn() -> None:
        raise error

    breaker = bench.breaker()
    with pytest.raises(Boom) as caught:
        await breaker.call(fn)
    assert error is caught.value
    assert counted(breaker) == {"error": 1}


async def test_a_call_that_raises_before_there_is_anything_to_await_is_an_error(bench: Bench) -> None:
    def fn() -> Any:
        raise Boom

    breaker = bench.breaker()
    with pytest.raises(Boom):
        await breaker.call(fn)
    assert counted(breaker) == {"error": 1}


async def test_a_rejection_raises_without_suspending(bench: Bench) -> None:
    for timeout_s in (None, 1.0):
        call = bench.opened().call(ok, timeout_s=timeout_s)
        with pytest.raises(BreakerOpen):
            call.send(None)


async def test_a_call_that_does_not_suspend_is_not_suspended(bench: Bench) -> None:
    call = bench.breaker().call(ok)
    with pytest.raises(StopIteration, match="ok"):
        call.send(None)


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
@pytest.mark.parametrize("reason", ["open", "timeout", "error"])
async def test_a_fallback_answers_for_every_kind_of_failure(bench: Bench, reason: str, kind: str) -> None:
    async def later(why: str) -> str:
        return f"instead: {why}"

    fallback: Callable[[str], Any] = later if kind == "coroutine" else lambda why: f"instead: {why}"
    breaker = bench.opened() if reason == "open" else bench.breaker()
    fn = {"open": ok, "timeout": hang, "error": boom}[reason]
    answer = await breaker.call(fn, timeout_s=0.01 if reason == "timeout" else None, fallback=fallback)
    assert f"instead: {reason}" == answer


async def test_a_fallback_is_not_asked_when_all_is_well(bench: Bench) -> None:
    assert await bench.breaker().call(ok, fallback=lambda _: pytest.fail("asked")) == "ok"


async def test_a_fallback_counts_nothing_away(bench: Bench) -> None:
    breaker = bench.breaker()
    for _ in range(4):
        await breaker.call(boom, fallback=lambda _: None)
    assert state(breaker) is State.OPEN


async def test_what_a_fallback_raises_reaches_the_caller_and_the_outcome_stands(bench: Bench) -> None:
    def fallback(_: str) -> str:
        raise ZeroDivisionError

    breaker = bench.breaker()
    with pytest.raises(ZeroDivisionError) as caught:
        await breaker.call(boom, fallback=fallback)
    assert isinstance(caught.value.__context__, Boom)
    assert counted(breaker) == {"error": 1}


async def test_ignored_exceptions_reach_the_caller_and_do_not_count(bench: Bench) -> None:
    """They are an answer of the dependency, so no fallback hides them."""

    async def fn() -> None:
        raise KeyError

    breaker = bench.breaker(ignore=(LookupError,))
    for _ in range(10):
        with pytest.raises(KeyError):
            await breaker.call(fn, fallback=lambda _: pytest.fail("asked"))
    drive(breaker, "fff")
    assert state(breaker) is State.CLOSED
    assert counted(breaker) == {"ignored": 10, "error": 3}


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit, KeyboardInterrupt, GeneratorExit])
async def test_the_end_of_the_caller_is_no_failure_of_the_dependency(bench: Bench, error: type[BaseException]) -> None:
    """Driven by hand, for a loop would stop at a KeyboardInterrupt."""

    async def fn() -> None:
        raise error

    breaker = bench.breaker(window=1, minimum_calls=1)
    with pytest.raises(error):
        breaker.call(fn, fallback=lambda _: pytest.fail("asked")).send(None)
    assert state(breaker) is State.CLOSED
    assert counted(breaker) == {"cancelled": 1}


# -- the deadline ------------------------------------------------------------------------------------------------------


async def test_hangs_with_the_deadline_inside_open_it(bench: Bench) -> None:
    breaker = bench.breaker()
    for _ in range(4):
        with pytest.raises(TimeoutError, match=r"dep: no answer within 0.005 s"):
            await breaker.call(hang, timeout_s=0.005)
    assert state(breaker) is State.OPEN
    assert counted(breaker) == {"timeout": 4}


async def test_a_hang_is_cancelled_and_not_left_behind(bench: Bench) -> None:
    cleaned_up = False

    async def fn() -> None:
        nonlocal cleaned_up
        try:
            await hang()
        finally:
            cleaned_up = True

    with pytest.raises(TimeoutError):
        await bench.breaker().call(fn, timeout_s=0.005)
    assert cleaned_up
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_timeout_that_the_call_raises_itself_is_an_error(bench: Bench) -> None:
    """The reason "timeout" means this breaker's deadline and no other."""

    async def fn() -> None:
        raise TimeoutError

    breaker = bench.breaker()
    assert await breaker.call(fn, timeout_s=5, fallback=lambda reason: reason) == "error"
    assert counted(breaker) == {"error": 1}


async def test_a_breaker_inside_a_breaker_times_out_alone(bench: Bench) -> None:
    inner, outer = bench.breaker(), bench.breaker()
    reason = await outer.call(lambda: inner.call(hang, timeout_s=0.005), timeout_s=5, fallback=lambda reason: reason)
    assert reason == "error"
    assert (counted(inner), counted(outer)) == ({"timeout": 1}, {"error": 1})


async def test_a_deadline_that_is_kept_leaves_nothing(bench: Bench) -> None:
    breaker = bench.breaker()
    assert await breaker.call(ok, timeout_s=0.005) == "ok"
    await asyncio.sleep(0.01)
    assert counted(breaker) == {"success": 1}


async def test_ignored_exceptions_are_ignored_before_a_deadline_too(bench: Bench) -> None:
    async def fn() -> None:
        raise KeyError

    breaker = bench.breaker(ignore=LookupError)
    with pytest.raises(KeyError):
        await breaker.call(fn, timeout_s=5)
    assert counted(breaker) == {"ignored": 1}


async def test_ignoring_timeouts_does_not_ignore_the_deadline(bench: Bench) -> None:
    breaker = bench.breaker(ignore=(TimeoutError,))
    with pytest.raises(TimeoutError):
        await breaker.call(hang, timeout_s=0.005)
    assert counted(breaker) == {"timeout": 1}


@pytest.mark.parametrize("ending", ["value", "error"])
async def test_a_call_that_refuses_to_be_cancelled_is_late_whatever_it_answers(bench: Bench, ending: str) -> None:
    async def fn() -> str:
        try:
            await hang()
        except asyncio.CancelledError:
            if ending == "error":
                raise Boom from None
        return "late"

    breaker = bench.breaker()
    assert await breaker.call(fn, timeout_s=0.005, fallback=lambda reason: reason) == "timeout"
    with pytest.raises(TimeoutError):
        await breaker.call(fn, timeout_s=0.005)
    assert counted(breaker) == {"timeout": 2}


@pytest.mark.parametrize("timeout_s", [0, -3.0])
async def test_a_spent_budget_is_a_deadline_at_the_first_wait(bench: Bench, timeout_s: float) -> None:
    breaker = bench.breaker()
    assert await breaker.call(ok, timeout_s=timeout_s) == "ok"
    assert await breaker.call(hang, timeout_s=timeout_s, fallback=lambda reason: reason) == "timeout"


async def test_an_endless_deadline_is_none(bench: Bench) -> None:
    assert await bench.breaker().call(ok, timeout_s=float("inf")) == "ok"


@pytest.mark.parametrize("timeout_s", [float("nan"), "1", True])
async def test_a_deadline_that_is_no_number_takes_no_permit(bench: Bench, timeout_s: Any) -> None:
    breaker = bench.half_open(probes=1)
    with pytest.raises(ValueError, match="timeout_s="):
        await breaker.call(ok, timeout_s=timeout_s)
    assert await breaker.call(ok) == "ok"


def test_a_deadline_outside_an_event_loop_takes_no_permit(bench: Bench) -> None:
    breaker = bench.half_open(probes=1)
    with pytest.raises(RuntimeError):
        breaker.call(ok, timeout_s=1).send(None)
    with pytest.raises(StopIteration):
        breaker.call(ok).send(None)
    assert state(breaker) is State.CLOSED


# -- cancellation from outside -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout_s", [None, 5.0])
async def test_a_cancelled_call_is_no_failure(bench: Bench, timeout_s: float | None) -> None:
    breaker = bench.breaker(window=1, minimum_calls=1)
    task = asyncio.create_task(breaker.call(hang, timeout_s=timeout_s, fallback=lambda _: pytest.fail("asked")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert state(breaker) is State.CLOSED
    assert counted(breaker) == {"cancelled": 1}


@pytest.mark.parametrize("timeout_s", [None, 5.0])
async def test_a_timeout_outside_is_no_failure(bench: Bench, timeout_s: float | None) -> None:
    breaker = bench.breaker(window=1, minimum_calls=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):
            await breaker.call(hang, timeout_s=timeout_s)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(breaker.call(hang, timeout_s=timeout_s), 0.005)
    assert counted(breaker) == {"cancelled": 2}


async def test_a_cancellation_after_the_deadline_wins_the_caller_and_the_timeout_counts(bench: Bench) -> None:
    breaker = bench.breaker()
    cleaning = asyncio.Event()

    async def fn() -> None:
        try:
            await hang()
        finally:
            cleaning.set()
            await hang()

    task = asyncio.create_task(breaker.call(fn, timeout_s=0.005))
    await cleaning.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counted(breaker) == {"timeout": 1}


async def test_a_deadline_after_a_cancellation_counts_nothing(bench: Bench) -> None:
    breaker = bench.breaker()

    async def fn() -> None:
        try:
            await hang()
        finally:
            await hang()

    task = asyncio.create_task(breaker.call(fn, timeout_s=0.01))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counted(breaker) == {"cancelled": 1}


async def test_every_call_is_counted_whatever_generation_it_is_of(bench: Bench) -> None:
    breaker = bench.breaker()
    gate, task = await start(breaker)
    drive(breaker, "ffff")
    await breaker.call(ok, fallback=lambda _: "open")
    gate.succeed()
    await settle(task)
    assert counted(breaker) == {"success": 1, "error": 4, "rejected": 1}


def test_one_breaker_serves_several_loops(bench: Bench) -> None:
    breaker = bench.half_open(probes=3)
    for _ in range(3):
        assert asyncio.run(breaker.call(ok, timeout_s=5)) == "ok"
    assert state(breaker) is State.CLOSED

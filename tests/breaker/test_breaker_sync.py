"""The synchronous twin, and many threads on one breaker."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.breaker.breaker_support import Bench, Boom, boom, drive, fail_sync, ok, ok_sync, state

from crossfade.breaker import BreakerOpen, State


def test_it_gives_and_raises_what_the_call_does(bench: Bench) -> None:
    breaker = bench.breaker()
    assert ok_sync(breaker) == "ok"
    fail_sync(breaker)
    assert {k: n for k, n in breaker.counts.items() if n} == {"success": 1, "error": 1}


def test_both_twins_share_one_window(bench: Bench) -> None:
    breaker = bench.breaker()
    drive(breaker, "ff")
    for _ in range(2):
        with pytest.raises(Boom):
            asyncio.run(breaker.call(boom))
    with pytest.raises(BreakerOpen):
        ok_sync(breaker)


def test_the_fallback_gets_the_reason(bench: Bench) -> None:
    breaker = bench.breaker(window=2, minimum_calls=2, failure_rate=1)

    def slow() -> str:
        bench.clock.advance(2)
        return "late"

    def fail() -> str:
        raise Boom

    assert breaker.call_sync(slow, timeout_s=1, fallback=lambda reason: reason) == "timeout"
    assert breaker.call_sync(fail, fallback=lambda reason: reason) == "error"
    assert breaker.call_sync(fail, fallback=lambda reason: reason) == "open"


@pytest.mark.parametrize("ending", ["value", "error"])
def test_a_call_that_took_too_long_is_a_timeout(bench: Bench, ending: str) -> None:
    def slow() -> str:
        bench.clock.advance(1.5)
        if ending == "error":
            raise Boom
        return "late"

    breaker = bench.breaker()
    with pytest.raises(TimeoutError, match=r"dep: no answer within 1 s"):
        breaker.call_sync(slow, timeout_s=1)
    assert breaker.counts["timeout"] == 1
    assert ending == "error" or breaker.call_sync(slow, timeout_s=1.5) == "late"


def test_an_error_in_time_is_an_error(bench: Bench) -> None:
    def fail() -> str:
        raise TimeoutError

    assert bench.breaker().call_sync(fail, timeout_s=1, fallback=lambda reason: reason) == "error"


def test_an_interrupt_gives_the_place_back(bench: Bench) -> None:
    def interrupt() -> None:
        bench.clock.advance(2)
        raise KeyboardInterrupt

    breaker = bench.half_open(probes=1)
    with pytest.raises(KeyboardInterrupt):
        breaker.call_sync(interrupt, timeout_s=1)
    assert ok_sync(breaker) == "ok"
    assert state(breaker) is State.CLOSED


def test_a_coroutine_function_is_a_mistake_and_counts_nothing(bench: Bench) -> None:
    breaker = bench.half_open(probes=1)
    with pytest.raises(TypeError, match=r"await breaker\.call"):
        _ = breaker.call_sync(ok)
    assert ok_sync(breaker) == "ok"


def test_a_recursive_call_does_not_block(bench: Bench) -> None:
    breaker = bench.half_open()
    assert breaker.call_sync(lambda: ok_sync(breaker)) == "ok"
    assert state(breaker) is State.CLOSED


def test_threads_lose_no_call_and_no_more_probes_are_let_in(bench: Bench) -> None:
    breaker = bench.half_open(probes=5, window=20, minimum_calls=20)
    arrived, together = threading.Barrier(5), threading.Event()

    def probe() -> str:
        arrived.wait(5)  # only if five are in at once
        together.set()
        return "ok"

    def call(_: int) -> str:
        return breaker.call_sync(probe, fallback=lambda reason: reason)

    with ThreadPoolExecutor(16) as pool:
        first = [pool.submit(call, n) for n in range(5)]
        assert together.wait(5)
        assert [future.result() for future in first] == ["ok"] * 5
        assert state(breaker) is State.CLOSED
        calls = list(pool.map(lambda _: ok_sync(breaker), range(400)))
    assert calls == ["ok"] * 400
    assert breaker.counts["success"] == 405


def test_one_outage_seen_by_many_threads_is_one_transition(bench: Bench) -> None:
    breaker = bench.breaker()
    everyone = threading.Barrier(8)

    def fail() -> None:
        everyone.wait(5)
        raise Boom

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: breaker.call_sync(fail, fallback=str), range(8)))
    assert [transition.new for transition in bench.seen] == [State.OPEN]

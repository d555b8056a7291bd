"""How a breaker finds out that the dependency is back, and that nothing sticks it there."""

from __future__ import annotations

import asyncio

import pytest
from tests.breaker.breaker_support import Bench, Boom, boom, drive, fail_sync, hang, ok, ok_sync, settle, start, state

from crossfade.breaker import BreakerOpen, CircuitBreaker, State


async def rejected(breaker: CircuitBreaker) -> bool:
    return await breaker.call(ok, fallback=lambda reason: reason) == "open"


def test_it_closes_after_exactly_so_many_good_probes(bench: Bench) -> None:
    breaker = bench.half_open(probes=5)
    drive(breaker, "ssss")
    assert state(breaker) is State.HALF_OPEN
    drive(breaker, "s")
    assert state(breaker) is State.CLOSED


def test_one_failed_probe_reopens_for_a_full_cooldown(bench: Bench) -> None:
    breaker = bench.half_open(probes=5)
    drive(breaker, "ssssf")
    assert state(breaker) is State.OPEN
    bench.clock.advance(29.9)
    assert state(breaker) is State.OPEN
    bench.clock.now = 1060.0
    assert state(breaker) is State.HALF_OPEN


def test_a_second_trial_counts_its_probes_from_the_beginning(bench: Bench) -> None:
    breaker = bench.half_open()
    drive(breaker, "sf")
    bench.clock.advance(30)
    drive(breaker, "s")
    assert state(breaker) is State.HALF_OPEN
    drive(breaker, "s")
    assert state(breaker) is State.CLOSED


async def test_no_more_probes_than_said_are_under_way_and_others_get_the_fallback_at_once(bench: Bench) -> None:
    breaker = bench.half_open(probes=5)
    probes = [await start(breaker) for _ in range(5)]
    for _ in range(20):
        assert await rejected(breaker)
    with pytest.raises(BreakerOpen):
        await breaker.call(ok)
    for gate, _ in probes:
        gate.succeed()
    await settle(*(task for _, task in probes))
    assert state(breaker) is State.CLOSED


async def test_passed_probes_count_against_the_number_let_in(bench: Bench) -> None:
    """Five in total: three that passed leave room for two, not for five again."""
    breaker = bench.half_open(probes=5)
    for _ in range(3):
        await breaker.call(ok)
    tasks = [(await start(breaker))[1] for _ in range(2)]
    assert await rejected(breaker)
    for task in tasks:
        task.cancel()
    await settle(*tasks)


async def test_a_thundering_herd_meets_five_probes(bench: Bench) -> None:
    breaker = bench.half_open(probes=5)
    asked = 0

    async def count() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        raise Boom

    answers = await asyncio.gather(*(breaker.call(count, fallback=lambda reason: reason) for _ in range(200)))
    assert (asked, answers.count("error"), answers.count("open")) == (5, 5, 195)


async def test_a_cancelled_probe_gives_its_place_back(bench: Bench) -> None:
    breaker = bench.half_open(probes=1)
    _, task = await start(breaker)
    assert await rejected(breaker)
    task.cancel()
    await settle(task)
    assert state(breaker) is State.HALF_OPEN
    await breaker.call(ok)
    assert state(breaker) is State.CLOSED


async def test_a_probe_cut_off_by_a_timeout_outside_gives_its_place_back(bench: Bench) -> None:
    breaker = bench.half_open(probes=1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(breaker.call(hang), 0.01)
    assert state(breaker) is State.HALF_OPEN
    assert await breaker.call(ok) == "ok"


def test_an_ignored_probe_gives_its_place_back(bench: Bench) -> None:
    breaker = bench.half_open(probes=1, ignore=(LookupError,))
    for _ in range(10):
        with pytest.raises(KeyError):
            breaker.call_sync(lambda: dict[str, str]()["absent"])
    assert state(breaker) is State.HALF_OPEN
    assert ok_sync(breaker) == "ok"
    assert state(breaker) is State.CLOSED


async def test_a_probe_that_is_forgotten_gives_its_place_back(bench: Bench) -> None:
    """A coroutine that is closed, as the garbage collector does, is no answer."""
    breaker = bench.half_open(probes=1)
    forgotten = breaker.call(hang)
    forgotten.send(None)
    assert await rejected(breaker)
    forgotten.close()
    assert await breaker.call(ok) == "ok"


async def test_a_probe_that_never_returns_gives_its_place_up_after_the_lease(bench: Bench) -> None:
    breaker = bench.half_open(probes=1)
    _, task = await start(breaker)
    bench.clock.advance(9.9)
    assert await rejected(breaker)
    bench.clock.now = 1040.0
    assert await breaker.call(ok) == "ok"
    assert state(breaker) is State.CLOSED
    task.cancel()
    await settle(task)


@pytest.mark.parametrize("answer", ["succeed", "fail"])
async def test_the_late_answer_of_an_expired_probe_changes_nothing(bench: Bench, answer: str) -> None:
    """Not even when nobody has taken its place yet."""
    breaker = bench.half_open(probes=1)
    gate, task = await start(breaker)
    bench.clock.advance(10)
    getattr(gate, answer)()
    await settle(task)
    assert state(breaker) is State.HALF_OPEN
    assert await breaker.call(ok) == "ok"
    assert state(breaker) is State.CLOSED


async def test_a_late_answer_does_not_take_the_place_of_the_next_probe(bench: Bench) -> None:
    breaker = bench.half_open(probes=1)
    late, late_task = await start(breaker)
    bench.clock.advance(10)
    _, next_task = await start(breaker)
    late.succeed()
    await settle(late_task)
    assert state(breaker) is State.HALF_OPEN
    assert await rejected(breaker)
    next_task.cancel()
    await settle(next_task)


async def test_a_clock_that_jumps_back_costs_one_lease_at_most(bench: Bench) -> None:
    breaker = bench.half_open(probes=1)
    _, task = await start(breaker)
    bench.clock.now = 0.0
    assert await rejected(breaker)
    bench.clock.advance(10)
    assert await breaker.call(ok) == "ok"
    task.cancel()
    await settle(task)


async def test_a_probe_that_misses_its_deadline_reopens(bench: Bench) -> None:
    breaker = bench.half_open()
    with pytest.raises(TimeoutError):
        await breaker.call(hang, timeout_s=0.01)
    assert state(breaker) is State.OPEN


async def test_a_probe_of_the_trial_before_changes_nothing(bench: Bench) -> None:
    """It began in HALF_OPEN and ends in HALF_OPEN, but not in the same one."""
    breaker = bench.half_open(probes=2)
    gate, task = await start(breaker)
    with pytest.raises(Boom):
        await breaker.call(boom)
    bench.clock.advance(30)
    assert state(breaker) is State.HALF_OPEN
    gate.fail()
    await settle(task)
    assert state(breaker) is State.HALF_OPEN
    await breaker.call(ok)
    await breaker.call(ok)
    assert state(breaker) is State.CLOSED


@pytest.mark.parametrize("answer", ["succeed", "fail"])
async def test_calls_begun_in_closed_do_not_answer_for_a_probe(bench: Bench, answer: str) -> None:
    breaker = bench.breaker(probes=1)
    gate, task = await start(breaker)
    drive(breaker, "ffff")
    bench.clock.advance(30)
    assert state(breaker) is State.HALF_OPEN
    getattr(gate, answer)()
    await settle(task)
    assert state(breaker) is State.HALF_OPEN


async def test_calls_begun_in_closed_change_nothing_in_open(bench: Bench) -> None:
    breaker = bench.breaker()
    late = [await start(breaker) for _ in range(5)]
    drive(breaker, "ffff")
    bench.clock.advance(20)
    for gate, _ in late:
        gate.fail()
    await settle(*(task for _, task in late))
    bench.clock.advance(10)
    assert state(breaker) is State.HALF_OPEN
    assert len(bench.seen) == 2


@pytest.mark.parametrize("between", ["reset", "disable"])
async def test_failures_begun_before_a_reset_do_not_count_after_it(bench: Bench, between: str) -> None:
    breaker = bench.breaker()
    late = [await start(breaker) for _ in range(4)]
    getattr(breaker, between)()
    breaker.reset()
    for gate, _ in late:
        gate.fail()
    await settle(*(task for _, task in late))
    assert state(breaker) is State.CLOSED
    fail_sync(breaker)
    assert state(breaker) is State.CLOSED


async def test_successes_begun_before_an_outage_do_not_dilute_the_window_after_it(bench: Bench) -> None:
    breaker = bench.breaker()
    late = [await start(breaker) for _ in range(4)]
    drive(breaker, "ffff")
    bench.clock.advance(30)
    drive(breaker, "ssfff")
    for gate, _ in late:
        gate.succeed()
    await settle(*(task for _, task in late))
    assert state(breaker) is State.CLOSED
    drive(breaker, "f")
    assert state(breaker) is State.OPEN

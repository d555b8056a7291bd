from __future__ import annotations

import asyncio

import pytest

from crossfade.adapters.system import ScaledClock, SystemClock, new_key, new_token
from crossfade.ports import Clock
from crossfade.testing.clock import ManualClock


@pytest.mark.parametrize("clock", [SystemClock(), ScaledClock(60), ManualClock()])
def test_plan_time_passes_at_the_clocks_speed(clock: Clock) -> None:
    assert clock.plan_time(1010.0) - clock.plan_time(1000.0) == pytest.approx(10 * clock.speed)


def test_wall_time_is_plan_time_in_production() -> None:
    assert SystemClock().plan_time(12.5) == 12.5
    assert SystemClock.speed == 1


def test_a_scaled_clock_with_the_same_epoch_is_on_the_same_line_after_a_restart() -> None:
    first, second = ScaledClock(3600, epoch=1000.0), ScaledClock(3600, epoch=1000.0)
    assert first.plan_time(1001.0) == second.plan_time(1001.0) == 4600.0
    before = first.now()
    assert second.now() >= before


@pytest.mark.parametrize("speed", [0, -1, float("nan")])
def test_a_clock_that_stands_still_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        ScaledClock(speed)


def test_secrets_differ_and_are_long() -> None:
    assert new_token() != new_token()
    assert len(new_key()) == 32


async def test_a_manual_clock_wakes_sleepers_in_the_order_of_their_times() -> None:
    clock, woken = ManualClock(), []

    async def sleeper(seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append((seconds, clock.monotonic()))

    async with asyncio.TaskGroup() as group:
        for seconds in (3.0, 1.0, 2.0):
            group.create_task(sleeper(seconds))
        await clock.advance(2.5)
        assert woken == [(1.0, 1.0), (2.0, 2.0)]
        await clock.advance(0.5)


async def test_a_loop_that_sleeps_runs_once_for_each_of_its_sleeps() -> None:
    clock, looks = ManualClock(speed=60), []

    async def loop() -> None:
        while True:
            await clock.sleep(0.25)
            looks.append(clock.now())

    task = asyncio.create_task(loop())
    start = clock.now()
    await clock.advance(1.0)
    task.cancel()
    assert looks == [start + 15, start + 30, start + 45, start + 60]


def test_stepping_the_wall_does_not_move_the_monotonic_clock() -> None:
    clock = ManualClock(wall=100.0)
    clock.step(-50)
    assert (clock.now(), clock.monotonic()) == (50.0, 0.0)

"""What an open breaker does, and until when."""

from __future__ import annotations

import math
import pickle

import pytest
from tests.breaker.breaker_support import Bench, drive, fail_sync, ok_sync, state

from crossfade.breaker import BreakerOpen, State


def test_a_rejected_call_asks_nobody(bench: Bench) -> None:
    breaker = bench.opened()
    with pytest.raises(BreakerOpen):
        breaker.call_sync(lambda: pytest.fail("asked"))


def test_a_rejection_says_whose_it_is_and_when_to_come_back(bench: Bench) -> None:
    breaker = bench.opened()
    bench.clock.advance(10)
    with pytest.raises(BreakerOpen, match="'dep' is open, next probe in 20 s") as caught:
        ok_sync(breaker)
    assert (caught.value.name, caught.value.retry_in_s) == ("dep", 20.0)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (copy.name, copy.retry_in_s) == ("dep", 20.0)


def test_a_rejection_without_a_cooldown_names_no_time(bench: Bench) -> None:
    breaker = bench.breaker()
    breaker.force_open()
    with pytest.raises(BreakerOpen, match=r"'dep' is open$") as caught:
        ok_sync(breaker)
    assert caught.value.retry_in_s is None


def test_open_lasts_exactly_the_cooldown(bench: Bench) -> None:
    breaker = bench.opened()
    bench.clock.advance(29.999)
    assert state(breaker) is State.OPEN
    bench.clock.now = 1030.0
    assert state(breaker) is State.HALF_OPEN


def test_rejections_do_not_prolong_the_cooldown(bench: Bench) -> None:
    breaker = bench.opened()
    for _ in range(30):
        with pytest.raises(BreakerOpen):
            ok_sync(breaker)
        bench.clock.advance(1)
    assert state(breaker) is State.HALF_OPEN


def test_a_call_notices_the_end_of_the_cooldown_without_a_read(bench: Bench) -> None:
    breaker = bench.half_open()
    assert ok_sync(breaker) == "ok"
    assert (bench.seen[-1].old, bench.seen[-1].new) == (State.OPEN, State.HALF_OPEN)


def test_a_cooldown_of_zero_probes_at_once(bench: Bench) -> None:
    breaker = bench.opened(cooldown_s=0)
    assert state(breaker) is State.HALF_OPEN


def test_a_clock_that_jumps_back_costs_one_cooldown_at_most(bench: Bench) -> None:
    breaker = bench.opened()
    bench.clock.now = -5_000.0
    assert state(breaker) is State.OPEN
    bench.clock.advance(29.0)
    assert state(breaker) is State.OPEN
    bench.clock.advance(1.0)
    assert state(breaker) is State.HALF_OPEN


def test_a_small_jump_back_within_the_cooldown_lengthens_nothing(bench: Bench) -> None:
    breaker = bench.opened()
    bench.clock.advance(25)
    assert state(breaker) is State.OPEN
    bench.clock.advance(-20)
    assert state(breaker) is State.OPEN
    bench.clock.advance(25)
    assert state(breaker) is State.HALF_OPEN


def test_a_clock_that_jumps_far_ahead_ends_the_cooldown(bench: Bench) -> None:
    breaker = bench.opened()
    bench.clock.now = 1e12
    assert state(breaker) is State.HALF_OPEN
    drive(breaker, "ss")
    assert state(breaker) is State.CLOSED


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_clock_that_breaks_while_opening_does_not_stick_it(bench: Bench, broken: float) -> None:
    breaker = bench.breaker()
    drive(breaker, "fff")
    bench.clock.now = broken
    fail_sync(breaker)
    bench.clock.now = 50.0
    assert state(breaker) in {State.OPEN, State.HALF_OPEN}
    bench.clock.advance(30)
    drive(breaker, "ss")
    assert state(breaker) is State.CLOSED


def test_a_clock_that_flickers_does_not_prolong_the_cooldown(bench: Bench) -> None:
    breaker = bench.opened()
    for second in range(1, 30):
        bench.clock.now = math.nan
        assert state(breaker) is State.OPEN
        bench.clock.now = 1000.0 + second
        assert state(breaker) is State.OPEN
    bench.clock.advance(1)
    assert state(breaker) is State.HALF_OPEN


def test_forced_open_has_no_cooldown(bench: Bench) -> None:
    breaker = bench.breaker()
    breaker.force_open()
    bench.clock.advance(1e9)
    assert state(breaker) is State.OPEN
    with pytest.raises(BreakerOpen):
        ok_sync(breaker)


def test_forcing_an_open_breaker_stops_its_cooldown_and_is_no_transition(bench: Bench) -> None:
    breaker = bench.opened()
    breaker.force_open()
    bench.clock.advance(60)
    assert state(breaker) is State.OPEN
    assert len(bench.seen) == 1


@pytest.mark.parametrize("begin", ["breaker", "opened", "half_open"])
def test_reset_closes_from_everywhere(bench: Bench, begin: str) -> None:
    breaker = getattr(bench, begin)()
    breaker.reset()
    assert state(breaker) is State.CLOSED
    drive(breaker, "fff")
    assert state(breaker) is State.CLOSED


def test_reset_lifts_a_forced_open(bench: Bench) -> None:
    breaker = bench.breaker()
    breaker.force_open()
    breaker.reset()
    assert ok_sync(breaker) == "ok"


def test_reset_empties_the_window(bench: Bench) -> None:
    breaker = bench.breaker()
    drive(breaker, "fff")
    breaker.reset()
    drive(breaker, "fff")
    assert state(breaker) is State.CLOSED
    drive(breaker, "s")
    assert state(breaker) is State.OPEN


def test_a_disabled_breaker_never_opens(bench: Bench) -> None:
    breaker = bench.breaker()
    breaker.disable()
    drive(breaker, "f" * 50)
    assert state(breaker) is State.CLOSED
    assert ok_sync(breaker) == "ok"


@pytest.mark.parametrize("begin", ["opened", "half_open"])
def test_disabling_lets_everything_through_at_once(bench: Bench, begin: str) -> None:
    breaker = getattr(bench, begin)()
    breaker.disable()
    assert state(breaker) is State.CLOSED
    drive(breaker, "sf" * 10)
    assert bench.seen[-1].reason == "disabled"


def test_reset_ends_disabling_with_an_empty_window(bench: Bench) -> None:
    breaker = bench.breaker()
    breaker.disable()
    drive(breaker, "ffff")
    breaker.reset()
    drive(breaker, "fff")
    assert state(breaker) is State.CLOSED
    drive(breaker, "f")
    assert state(breaker) is State.OPEN


def test_the_last_word_of_an_operator_counts(bench: Bench) -> None:
    breaker = bench.breaker()
    breaker.disable()
    breaker.force_open()
    assert state(breaker) is State.OPEN
    breaker.disable()
    assert state(breaker) is State.CLOSED

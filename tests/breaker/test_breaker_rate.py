"""When a closed breaker opens."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from tests.breaker.breaker_support import Bench, drive, state

from crossfade.breaker import State


@pytest.mark.parametrize(
    ("rate", "calls", "failures"),
    [(0.1, 10, 1), (0.1, 30, 3), (0.3, 10, 3), (0.7, 10, 7), (1 / 3, 3, 1), (2 / 3, 3, 2), (1.0, 5, 5), (0.07, 100, 7)],
)
def test_the_rate_is_tested_in_whole_numbers(bench: Bench, rate: float, calls: int, failures: int) -> None:
    """Exactly the rate opens, one failure fewer does not, whatever floats make of it."""
    below = bench.breaker(window=calls, minimum_calls=calls, failure_rate=rate)
    drive(below, "f" * (failures - 1) + "s" * (calls - failures + 1))
    assert state(below) is State.CLOSED

    at = bench.breaker(window=calls, minimum_calls=calls, failure_rate=rate)
    drive(at, "f" * failures + "s" * (calls - failures))
    assert state(at) is State.OPEN


@pytest.mark.parametrize("rate", [Fraction(1, 2), Decimal("0.5"), 0.5])
def test_a_rate_may_be_any_kind_of_number(bench: Bench, rate: float) -> None:
    breaker = bench.breaker(failure_rate=rate)
    drive(breaker, "ffss")
    assert state(breaker) is State.OPEN


def test_nothing_is_judged_before_the_minimum(bench: Bench) -> None:
    """Three failures of three are not four outcomes."""
    breaker = bench.breaker()
    drive(breaker, "fff")
    assert state(breaker) is State.CLOSED


def test_a_success_that_completes_the_minimum_can_open(bench: Bench) -> None:
    """Every outcome is judged, not just the failures."""
    breaker = bench.breaker()
    drive(breaker, "fffs")
    assert state(breaker) is State.OPEN


def test_a_minimum_below_the_window_judges_a_part_of_it(bench: Bench) -> None:
    breaker = bench.breaker(window=10, minimum_calls=2)
    drive(breaker, "sf")
    assert state(breaker) is State.OPEN


def test_the_window_slides(bench: Bench) -> None:
    """Outcomes older than the window are forgotten, one by one."""
    breaker = bench.breaker()
    drive(breaker, "fsssfsssfsss")
    assert state(breaker) is State.CLOSED
    drive(breaker, "ff")
    assert state(breaker) is State.OPEN


def test_failures_in_a_full_window_of_successes_count(bench: Bench) -> None:
    """The shortcut for calm times loses no failure."""
    breaker = bench.breaker()
    drive(breaker, "s" * 25 + "f")
    assert state(breaker) is State.CLOSED
    drive(breaker, "f")
    assert state(breaker) is State.OPEN


def test_a_window_of_one_opens_at_the_first_failure(bench: Bench) -> None:
    breaker = bench.breaker(window=1, minimum_calls=1, failure_rate=1)
    drive(breaker, "sssf")
    assert state(breaker) is State.OPEN


def test_the_defaults_want_ten_failures_of_twenty(bench: Bench) -> None:
    breaker = bench.breaker(window=20, minimum_calls=20)
    drive(breaker, "f" * 9 + "s" * 11)
    assert state(breaker) is State.CLOSED
    drive(breaker, "s" * 20 + "f" * 10)
    assert state(breaker) is State.OPEN


def test_closing_begins_with_an_empty_window(bench: Bench) -> None:
    """The failures of before the outage do not open it again."""
    breaker = bench.half_open()
    drive(breaker, "ss")
    assert state(breaker) is State.CLOSED
    drive(breaker, "fff")
    assert state(breaker) is State.CLOSED
    drive(breaker, "f")
    assert state(breaker) is State.OPEN

"""Losses: counted, however the numbers arrive."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.collector.losses import REORDER, Losses, follow

TAIL = REORDER * 3


def lost(numbers: list[int], batch: int = 1) -> int:
    losses = Losses()
    return sum(losses.take(numbers[i : i + batch]) for i in range(0, len(numbers), batch))


@given(
    st.integers(0, 10**9),
    st.sets(st.integers(1, 299), max_size=50),
    st.integers(1, 70),
)
def test_every_gap_is_counted_in_batches_of_any_size(first: int, dropped: set[int], batch: int) -> None:
    numbers = [first + i for i in range(300) if i not in dropped] + [first + i for i in range(300, 300 + TAIL)]
    assert len(dropped) == lost(numbers, batch)


@given(st.integers(0, 2**32), st.sets(st.integers(1, 280), max_size=20), st.integers(1, 70))
def test_lines_that_overtake_each_other_are_not_lost(seed: int, dropped: set[int], batch: int) -> None:
    """Each line may come up to eight places late, as with eight threads."""
    numbers = [10 + i for i in range(300) if i not in dropped]
    delays = np.random.default_rng(seed).uniform(0, 8, len(numbers))
    numbers = [number for _, number in sorted(zip(np.add(numbers, delays), numbers, strict=True))]
    assert lost([*numbers, *range(310, 310 + TAIL)], batch) == len(dropped)


def test_one_number_twice_and_the_next_never_is_no_loss() -> None:
    numbers = [1, 2, 3, 3, 5, 6, 7, 7, 9, *range(10, 10 + TAIL)]
    assert lost(numbers) == 0


@pytest.mark.parametrize("again", [0, 1])
def test_a_restart_begins_anew_and_what_was_missing_is_lost(again: int) -> None:
    before = [*range(1000, 1100), *range(1103, 1110)]
    assert lost([*before, *range(again, 200)]) == 3


def test_a_young_process_that_restarts_is_seen_by_its_zero() -> None:
    assert lost([0, 1, 2, 3, 0, 1, 2, 3, 4, *range(5, TAIL)]) == 0


def test_a_wide_gap_is_lost_at_once() -> None:
    assert lost([1, 2, 9_003]) == 9_000


def test_a_proxy_that_connects_again_is_known_by_where_it_was() -> None:
    one, two = Losses(), Losses()
    one.take([500])
    two.take([900])
    known = [one, two]
    assert two is follow(known, 950)
    assert follow(known, 400) is None
    assert one is follow(known, 950)
    assert known == []


def test_a_first_line_is_of_a_new_process() -> None:
    one = Losses()
    one.take([500])
    assert follow([one], 0) is None

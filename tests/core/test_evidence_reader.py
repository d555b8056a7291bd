"""A reader that remembers says the same as one that doesn't."""

from __future__ import annotations

import numpy as np
import pytest
from tests.core.test_evidence_book import PLAN, canary, traffic

from crossfade.core.evidence import book

HOURS = (0.0, 1.0, 60.0, 7200.0, 90_000.0)


@pytest.mark.parametrize("p2", [0.005, 0.4])
def test_a_reader_says_at_every_time_what_reading_anew_says(p2: float) -> None:
    """With no tick yet, with good ones, with a breach that is some time ago, and when ticks stay away."""
    reader, state = book.Reader(PLAN), canary()
    rng, end = np.random.default_rng(3), 0.0
    for first in (None, 0, 40):
        if first is not None:
            state = book.absorb(PLAN, state, traffic(rng, range(first, first + 40), p2=p2))
            end = (first + 40) * 10.0
        for after in HOURS:
            assert reader(state, end + after) == book.read(PLAN, state, end + after)


def test_the_same_evidence_is_read_once_until_it_is_too_old() -> None:
    state = book.absorb(PLAN, canary(), traffic(np.random.default_rng(4), range(40)))
    reader = book.Reader(PLAN)
    first = reader(state, 401.0)
    assert reader(state, 402.0) is first
    assert [item.what for item in reader(state, 90_000.0).blind if item.matters] == ["telemetry"]
    state = book.absorb(PLAN, state, traffic(np.random.default_rng(5), range(40, 41)))
    assert reader(state, 411.0).requests_v1 > first.requests_v1

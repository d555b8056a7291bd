"""Differences are said as people speak of them."""

from __future__ import annotations

import math

import pytest

from crossfade.core.words import difference


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.95, 0.98, "2 % to 5 % lower"),
        (0.999, 0.9996, "0.04 % to 0.1 % lower"),
        (0.2, 0.4, "60 % to 80 % lower"),
        (None, 0.9, "10 % to 100 % lower"),
        (1.02, 1.5, "2 % to 50 % higher"),
        (1.02, None, "at least 2 % higher"),
        (2.5, 50, "2.5 to 50 times as high"),
        (0.9, 1.13, "not told apart: from 10 % lower to 13 % higher"),
        (1.0, 1.13, "not told apart: from 0 % lower to 13 % higher"),
        (0.5, math.inf, "not told apart yet"),
        (None, None, "not told apart yet"),
    ],
)
def test_a_difference(low: float | None, high: float | None, said: str) -> None:
    assert difference(low, high) == said

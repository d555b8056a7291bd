"""Confidence sequences: intervals that hold at every look at once.

Rates and quantiles invert a beta-binomial mixture (Robbins' method of mixtures; Howard and Ramdas,
arXiv:1906.09712, compare it with theirs); ratios invert (R) over a grid of ratios.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from crossfade.core.evidence.ratio import Floats, log_sum_exp
from crossfade.core.evidence.sums import BINS, bin_upper_ms

RATIO_GRID: Floats = np.exp(np.linspace(-math.log(20), math.log(20), 33))
"""Ratios (V2's rate over V1's) at which a phase's likelihood is kept, 0.05 .. 20."""

REMEMBERED = 16_384
"""Intervals remembered: a process looks at each rollout's every second, and their counts change every ten."""

QUANTILE_WEIGHT = 200.0
"""How many observations the mixture's prior is worth: narrowest at some thousand answers."""


def log_beta(a: float, b: float) -> float:
    """Return ln B(a, b)."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


@lru_cache(maxsize=REMEMBERED)
def rate_interval(k: float, n: float, alpha: float) -> tuple[float, float]:
    """Return the ends of a confidence sequence for a rate, from k bad of n (both may be fractions of a count).

    p is inside while ``ln B(a+k, b+n-k) - ln B(a, b) - k ln p - (n-k) ln(1-p) < ln(1/alpha)``, a = b = 1/2. Covers
    with probability 1 - alpha at all n at once if the rate is constant; without data it is (0, 1).
    """
    if n <= 0:
        return 0.0, 1.0
    marginal = log_beta(0.5 + k, 0.5 + n - k) - log_beta(0.5, 0.5)
    bar = math.log(1 / alpha)

    def outside(p: float) -> bool:
        return marginal - _log_power(p, k) - _log_power(1 - p, n - k) >= bar

    centre = k / n
    low = 0.0 if k <= 0 else _edge(outside, bad=0.0, good=centre)
    high = 1.0 if k >= n else _edge(outside, bad=1.0, good=centre)
    return low, high


def _log_power(base: float, exponent: float) -> float:
    if exponent <= 0:
        return 0.0
    return exponent * math.log(base) if base > 0 else -math.inf


def _edge(outside: Callable[[float], bool], *, bad: float, good: float) -> float:
    for _ in range(60):
        middle = (bad + good) / 2
        if outside(middle):
            bad = middle
        else:
            good = middle
        if abs(bad - good) <= 1e-9 * good:  # far finer than anybody reads
            break
    return bad


def quantile_interval(histogram: Floats, q: float, alpha: float) -> tuple[float, float, float] | None:
    """Return (low, value, high) in milliseconds of the q-quantile, from counts by latency bin; None without data.

    histogram: shape (226,), counts in the bins of `sums`. x is inside while the mixture
    ``ln B(a+k, b+n-k) - ln B(a, b) - k ln q - (n-k) ln(1-q)`` of k = #answers <= x is below ln(1/alpha), with a = m q,
    b = m (1-q), m = 200. `low` is a bin's lower edge and `high` an upper one, so rounding only widens it.
    """
    n = float(histogram.sum())
    if n <= 0:
        return None
    below = np.cumsum(histogram)
    fewest, most = _count_band(n, q, alpha)
    value = int(np.searchsorted(below, q * n - 1e-9))
    low = int(np.searchsorted(below, fewest - 1e-9))
    high = int(np.searchsorted(below, most + 1e-9, side="right"))
    return (
        bin_upper_ms(low - 1) if low > 0 else 0.0,
        bin_upper_ms(min(value, BINS - 1)),
        bin_upper_ms(high) if high < BINS else math.inf,
    )


@lru_cache(maxsize=REMEMBERED)
def _count_band(n: float, q: float, alpha: float) -> tuple[float, float]:
    """Return the least and greatest count below the true quantile that n observations don't rule out."""
    a, b = QUANTILE_WEIGHT * q, QUANTILE_WEIGHT * (1 - q)
    bar = math.log(1 / alpha) + log_beta(a, b)

    def outside(k: float) -> bool:
        return log_beta(a + k, b + n - k) - k * math.log(q) - (n - k) * math.log(1 - q) >= bar

    centre = q * n
    least = _edge(outside, bad=0.0, good=centre) if outside(0.0) else 0.0
    most = _edge(outside, bad=n, good=centre) if outside(n) else n
    return least, most


def ratio_interval(profile: Floats, alpha: float) -> tuple[float, float, float] | None:
    """Return (low, estimate, high) of V2's rate over V1's; None while nothing failed.

    profile: shape (33,), ln of (R) from ratio 1 to each ratio of the grid, summed over a phase's ticks. A ratio is
    inside while ``ln mean exp(profile) - profile(ratio) < ln(1/alpha)``: each ratio's own e-process, mixed evenly over
    the grid. Assumes that the ratio is constant within the phase. Ends beyond the grid are 0 and infinity.
    """
    if not profile.any():
        return None
    grid = np.log(RATIO_GRID)
    floor = log_sum_exp(profile) - math.log(len(profile)) - math.log(1 / alpha)
    best = int(profile.argmax())
    inside = np.flatnonzero(profile > floor)
    first, last = int(inside[0]), int(inside[-1])
    low = 0.0 if first == 0 else math.exp(_crossing(grid, profile, first - 1, first, floor))
    high = math.inf if last == len(grid) - 1 else math.exp(_crossing(grid, profile, last, last + 1, floor))
    return low, math.exp(_peak(grid, profile, best)), high


def _crossing(x: Floats, y: Floats, left: int, right: int, level: float) -> float:
    slope = (y[right] - y[left]) / (x[right] - x[left])
    return float(x[left] + (level - y[left]) / slope)


def _peak(x: Floats, y: Floats, best: int) -> float:
    if best in (0, len(x) - 1):
        return float(x[best])
    before, top, after = y[best - 1 : best + 2]
    bend = before - 2 * top + after
    return float(x[best] if bend == 0 else x[best] + 0.5 * (before - after) / bend * (x[1] - x[0]))

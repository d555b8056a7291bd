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

_LOG_RATIOS: Floats = np.linspace(-math.log(20), math.log(20), 33)
RATIO_GRID: Floats = np.exp(_LOG_RATIOS)
"""Ratios (V2's rate over V1's) at which a phase's likelihood is kept, 0.05 .. 20."""

_STEP = float(_LOG_RATIOS[1] - _LOG_RATIOS[0])
_POINTS = 8
_THROUGH = np.linalg.inv(np.vander(np.arange(_POINTS), increasing=True).astype(np.float64))
"""From the values at eight points to the polynomial through them."""
_NEWTON = 6
_HALVINGS = 40

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
    the logarithms of the grid's range. Assumes that the ratio is constant within the phase. Ends beyond the grid are 0
    and infinity.

    The profile is a sum of ln(1 + e^x), smooth at the scale of 1: between the grid's points (0.19 apart) the
    polynomial through eight of them is exact to 1e-7 nats a failure, so that millions of failures may be compared.
    """
    if not profile.any():
        return None
    best = int(profile.argmax())
    peak, top, bend = _peak(profile, best)
    narrow = bend * _STEP * _STEP > 1  # its standard deviation is below the grid's step
    if narrow:  # the integral by Laplace: the grid would step over the peak
        floor = top + 0.5 * math.log(2 * math.pi / bend) - math.log(_LOG_RATIOS[-1] - _LOG_RATIOS[0])
    else:
        floor = log_sum_exp(profile) - math.log(len(profile))
    floor -= math.log(1 / alpha)
    below, above = math.floor((peak - _LOG_RATIOS[0]) / _STEP), math.ceil((peak - _LOG_RATIOS[0]) / _STEP)
    first = next((at for at in range(below, -1, -1) if profile[at] <= floor), None)
    last = next((at for at in range(above, len(profile)) if profile[at] <= floor), None)
    low = 0.0 if first is None else math.exp(_crossing(profile, first, min(first + 1, above), peak, floor))
    high = math.inf if last is None else math.exp(_crossing(profile, last, max(last - 1, below), peak, floor))
    return low, math.exp(peak), high


def _peak(profile: Floats, best: int) -> tuple[float, float, float]:
    """Return where the profile is highest (a logarithm), how high, and minus its second derivative there."""
    if best in (0, len(profile) - 1):
        return float(_LOG_RATIOS[best]), float(profile[best]), 0.0
    begin, powers = _local(profile, best)
    slopes = [power * factor for factor, power in enumerate(powers)][1:]
    bends = [power * factor for factor, power in enumerate(slopes)][1:]
    at = float(best - begin)
    for _ in range(_NEWTON):
        bend = _value(bends, at)
        if bend >= 0:
            break
        at = min(max(at - _value(slopes, at) / bend, best - begin - 1.0), best - begin + 1.0)
    return _LOG_RATIOS[0] + (begin + at) * _STEP, _value(powers, at), max(0.0, -_value(bends, at)) / _STEP**2


def _crossing(profile: Floats, outside: int, inside: int, peak: float, level: float) -> float:
    """Return where the profile crosses a level between a point of the grid below it, and one above it or the peak."""
    begin, powers = _local(profile, min(outside, inside))
    bad, good = float(outside - begin), float(inside - begin)
    at_peak = (peak - _LOG_RATIOS[0]) / _STEP - begin
    if (at_peak - bad) * (at_peak - good) < 0:
        good = at_peak
    for _ in range(_HALVINGS):
        middle = (bad + good) / 2
        if _value(powers, middle) <= level:
            bad = middle
        else:
            good = middle
    return float(_LOG_RATIOS[0] + (begin + bad) * _STEP)


def _local(profile: Floats, at: int) -> tuple[int, list[float]]:
    """Return the first of the eight points around one, and the polynomial through them, in steps from there."""
    begin = min(max(at - _POINTS // 2 + 1, 0), len(profile) - _POINTS)
    values = profile[begin : begin + _POINTS]
    return begin, (_THROUGH @ values).tolist()


def _value(powers: list[float], at: float) -> float:
    value = 0.0
    for power in reversed(powers):
        value = value * at + power
    return value

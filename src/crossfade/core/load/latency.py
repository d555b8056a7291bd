"""Latencies as counts in logarithmic bins, so that quantiles of any number of them cost the same few kilobytes."""

from __future__ import annotations

import math
from collections import Counter

RATIO = 1.01
"""Width of a bin: a quantile is right within 1 %, as an HDR histogram of two digits is."""
FLOOR_S = 1e-5
CEILING_S = 3600.0

_STEP = math.log(RATIO)


class Latencies:
    """Counts of latencies from 10 µs to an hour; what lies outside counts at the end."""

    __slots__ = ("_bins", "_sum_s", "count", "max_s")

    def __init__(self) -> None:
        self._bins: Counter[int] = Counter()
        self._sum_s = 0.0
        self.count = 0
        self.max_s = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._bins[math.ceil(math.log(min(max(seconds, FLOOR_S), CEILING_S)) / _STEP)] += 1
        self._sum_s += seconds
        self.count += 1
        self.max_s = max(self.max_s, seconds)

    def merge(self, other: Latencies) -> None:
        """Count another's as well."""
        self._bins.update(other._bins)
        self._sum_s += other._sum_s
        self.count += other.count
        self.max_s = max(self.max_s, other.max_s)

    def quantile_ms(self, quantile: float) -> float | None:
        """Return a quantile in milliseconds, the upper end of its bin; None where nothing was counted."""
        left = quantile * self.count
        for number in sorted(self._bins):
            left -= self._bins[number]
            if left <= 0:
                return 1000 * min(math.exp(number * _STEP), max(self.max_s, FLOOR_S))
        return None

    def mean_ms(self) -> float | None:
        """Return the mean in milliseconds; None where nothing was counted."""
        return 1000 * self._sum_s / self.count if self.count else None

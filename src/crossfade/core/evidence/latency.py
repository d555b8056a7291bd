"""Latency as counts: histograms over the bins of `sums`, and answers slower than a limit."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from crossfade.core.evidence.ratio import Floats
from crossfade.core.evidence.sums import BIN_RATIO, BINS, Cell, bin_upper_ms, latency_bin

_UPPER_MS: Floats = np.array([bin_upper_ms(index) for index in range(BINS)])


def histogram(cells: Iterable[Cell]) -> Floats:
    """Return answers by bin, shape (226,), cached and uncached together: what users saw."""
    result = np.zeros(BINS)
    for cell in cells:
        for counts in (cell.latency, cell.latency_cached):
            for index, count in counts.items():
                result[index] += count
    return result


def slower_than(cell: Cell, limit_ms: float) -> tuple[int, int]:
    """Return (answers, those slower than the limit).

    The bin that holds the limit counts as not slower, so "slower" means by up to a bin's width (5 %).
    """
    last = latency_bin(limit_ms)
    answers = slow = 0
    for counts in (cell.latency, cell.latency_cached):
        for index, count in counts.items():
            answers += count
            slow += count * (index > last)
    return answers, slow


def sum_cut(cell: Cell, cut_ms: float) -> tuple[int, float]:
    """Return (answers, the sum of their times as parts of `cut_ms`, each 1 at most).

    Summed exactly, because a tick read back holds its bins in another order.
    """
    both = [item for counts in (cell.latency, cell.latency_cached) for item in counts.items()]
    return sum(count for _, count in both), math.fsum(
        count * min(bin_upper_ms(index) / cut_ms, 1.0) for index, count in both
    )


def mean_ms(counts: Floats) -> float | None:
    """Return the mean of a histogram, shape (226,), by the bins' upper edges; None without answers."""
    answers = float(counts.sum())
    return float(counts @ _UPPER_MS) / answers if answers else None


def within_bin(upper_ms: float, limit_ms: float) -> bool:
    """Tell whether a bin's upper edge is at most the limit, as finely as bins can tell."""
    return upper_ms <= limit_ms * BIN_RATIO

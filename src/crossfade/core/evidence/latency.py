"""Latency as counts: histograms over the bins of `sums`, and answers slower than a limit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from crossfade.core.evidence.ratio import Floats
from crossfade.core.evidence.sums import BIN_RATIO, BINS, Cell, latency_bin


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


def within_bin(upper_ms: float, limit_ms: float) -> bool:
    """Tell whether a bin's upper edge is at most the limit, as finely as bins can tell."""
    return upper_ms <= limit_ms * BIN_RATIO

"""Whether V2 is slower than V1: exceedances of V1's own quantiles of the day before (EVIDENCE 1.7).

Six thresholds see a shift as well as a long tail, where a mean sees neither. Answers from a cache and others are strata
of their own: their mix is an outcome, not a speed. V2 is held to thresholds one bin (5 %) higher, the margin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from crossfade.core.evidence import mass
from crossfade.core.evidence.common import ODDS_RATIOS, log_e_common, remember
from crossfade.core.evidence.ratio import CEILING, Floats
from crossfade.core.evidence.sums import BINS, Arm, Cell, bin_upper_ms
from crossfade.core.plan import DAY
from crossfade.core.split import Version

QUANTILES: Floats = np.array([0.25, 0.5, 0.75, 0.9, 0.95, 0.99], dtype=np.float64)
ENOUGH = 1000
"""V1 answers in a day, below which it gives no thresholds and the day before that keeps its place."""
MARGIN_BINS = 1
USUAL_CUT_MS = 10_000.0
"""Until enough answers are known."""
STRATA = 2


def _empty() -> Floats:
    return np.zeros((STRATA, BINS))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pace:
    """The state: V1's histogram of today, thresholds of the day before, and the streams (2 strata x 6 x 9)."""

    day: int = -1
    today: Floats = field(default_factory=_empty)
    thresholds: Floats = field(default_factory=lambda: np.full((STRATA, len(QUANTILES)), -1.0))
    """Bins, shape (2, 6); -1 where nothing is known of the day before."""
    guess: Floats = field(default_factory=lambda: np.tile(1 - QUANTILES, (STRATA, 1)))
    """V1's share of answers above each threshold."""
    harm: Floats = field(default_factory=lambda: np.zeros((STRATA, len(QUANTILES), len(ODDS_RATIOS))))
    spent: float = 0.0
    waiting: float = mass.START


def strata(cells: Iterable[tuple[Arm, Cell]], version: Version) -> Floats:
    """Return a version's answers by stratum (not cached, cached) and bin, shape (2, 226)."""
    result = _empty()
    for arm, cell in cells:
        if arm.version is version:
            for row, counts in enumerate((cell.latency, cell.latency_cached)):
                for index, count in counts.items():
                    result[row, index] += count
    return result


def step(pace: Pace, *, start: float, flowed: float, one: Floats, two: Floats) -> Pace:
    """Return the state after one tick.

    start: plan time; flowed: onset mass that has flowed by now; one, two: answers of V1 and V2, shape (2, 226).
    """
    pace = _turn_day(pace, int(start // DAY))
    known = (pace.thresholds >= 0) & (one.sum(axis=1) > 0)[:, None] & (two.sum(axis=1) > 0)[:, None]
    if known.any():
        counts = np.stack(
            [
                np.broadcast_to(one.sum(axis=1)[:, None], known.shape),
                _above(one, pace.thresholds),
                np.broadcast_to(two.sum(axis=1)[:, None], known.shape),
                _above(two, pace.thresholds + MARGIN_BINS),
            ],
            axis=-1,
        )
        counts = np.where(known[..., None], counts, 0.0)
        grown = np.exp(np.minimum(log_e_common(counts, pace.guess), 230.0))
        added = pace.waiting + flowed - pace.spent
        pace = replace(
            pace,
            harm=np.minimum((pace.harm + added) * grown, CEILING),
            guess=remember(pace.guess, counts[..., 0], counts[..., 1]),
            spent=flowed,
            waiting=0.0,
        )
    return replace(pace, today=pace.today + one)


def _turn_day(pace: Pace, day: int) -> Pace:
    """Take yesterday's quantiles as thresholds when a day begins: known before anything is compared with them."""
    if day == pace.day:
        return pace
    thresholds, guess = pace.thresholds.copy(), pace.guess.copy()
    for row, counts in enumerate(pace.today):
        below, total = np.cumsum(counts), counts.sum()
        if total >= ENOUGH:
            found = np.searchsorted(below, QUANTILES * total)
            thresholds[row] = found
            guess[row] = np.clip(1 - below[np.minimum(found, BINS - 1)] / total, 1e-4, 1 - 1e-4)
    return replace(pace, day=day, today=_empty(), thresholds=thresholds, guess=guess)


def _above(histogram: Floats, thresholds: Floats) -> Floats:
    """Return how many answers lie above each threshold's bin, shape (2, 6)."""
    below = np.cumsum(histogram, axis=1)
    index = np.clip(thresholds, 0, BINS - 1).astype(np.int64)
    return np.asarray(below[:, -1:] - np.take_along_axis(below, index, axis=1))


def cut_ms(pace: Pace) -> float:
    """Return where times are cut before their mean is compared: twice V1's 99th percentile.

    Of the day before; on the first one of the day so far, which is also known before the times that are cut there.
    """
    known = pace.thresholds[:, -1].max()
    if known < 0:
        counts = pace.today.sum(axis=0)
        total = counts.sum()
        if total < ENOUGH:
            return USUAL_CUT_MS
        known = np.searchsorted(np.cumsum(counts), QUANTILES[-1] * total)
    return 2 * bin_upper_ms(int(known))


def log_e_slower(pace: Pace) -> float:
    """Return ln of the evidence that V2 is slower than V1 by more than 5 % somewhere; -inf before any comparison."""
    mean = float(pace.harm.mean())
    return math.log(mean) if mean > 0 else -math.inf

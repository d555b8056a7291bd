"""Whether V2 is slower than V1: classes between V1's own quantiles of the day before (EVIDENCE 1.7).

Seven thresholds make eight classes, which see a shift as well as a long tail, where a mean sees neither. Answers from a
cache and others are strata of their own: their mix is an outcome, not a speed. V2 is held to thresholds one bin (5 %)
higher, the margin.

Alternatives are of two kinds: a *shift* of all answers, which is one of their normal scores whatever their distribution
(van der Waerden), and a *step*, by which V2's odds of lying above one threshold are so many times V1's. The evidence is
sum_s sum_a prior_a M_sa over strata and alternatives. Each tick's onset mass is divided evenly among the strata that V1
filled the day before, so it is known before the tick and adds up to what flows. The sum plus the mass not yet given is
then a nonnegative supermartingale that starts at 1 (`ratio.weighted_sr`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np

from crossfade.core.evidence import mass
from crossfade.core.evidence.common import classes, log_e_classes, remember
from crossfade.core.evidence.ratio import CEILING, Floats
from crossfade.core.evidence.sums import BINS, Arm, Cell, bin_upper_ms
from crossfade.core.plan import DAY
from crossfade.core.split import Version

QUANTILES: Floats = np.array([0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99], dtype=np.float64)
SHIFTS = (0.15, 0.25, 0.4, 0.6, 0.9, 1.4, 2.2)
"""By how many standard deviations of a normal score V2's answers are slower."""
STEP_QUANTILES = (0.9, 0.95, 0.98, 0.99)
STEP_ODDS = (2.0, 4.0, 8.0)
SHIFTED = 0.4
"""How much of the mass bets on shifts; the rest on steps."""
ENOUGH = 1000
"""V1 answers in a day, below which it gives no thresholds and the day before that keeps its place."""
MARGIN_BINS = 1
USUAL_CUT_MS = 10_000.0
"""Until enough answers are known."""
STRATA = 2


def _tilts() -> Floats:
    """Return the alternatives, shape (19, 8): V2's probability of each class over V1's, but for a constant."""
    normal, nominal = NormalDist(), classes(1 - QUANTILES)
    scores = np.array([normal.inv_cdf(float(q)) for q in QUANTILES])
    shifts = [classes(np.array([1 - normal.cdf(z - by) for z in scores])) / nominal for by in SHIFTS]
    steps = [np.repeat([1.0, odds], [i, len(nominal) - i]) for i in _STEPS for odds in STEP_ODDS]
    return np.array([*shifts, *steps])


_STEPS = [int(np.searchsorted(QUANTILES, q)) + 1 for q in STEP_QUANTILES]
TILTS: Floats = _tilts()
PRIOR: Floats = np.repeat([SHIFTED, 1 - SHIFTED], [len(SHIFTS), len(TILTS) - len(SHIFTS)])
PRIOR /= np.repeat([len(SHIFTS), len(TILTS) - len(SHIFTS)], [len(SHIFTS), len(TILTS) - len(SHIFTS)])


def _empty() -> Floats:
    return np.zeros((STRATA, BINS))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pace:
    """The state: V1's histogram of today, thresholds of the day before, and the streams (2 strata x 19)."""

    day: int = -1
    today: Floats = field(default_factory=_empty)
    thresholds: Floats = field(default_factory=lambda: np.full((STRATA, len(QUANTILES)), -1.0))
    """Bins, shape (2, 7); -1 where nothing is known of the day before."""
    guess: Floats = field(default_factory=lambda: np.tile(1 - QUANTILES, (STRATA, 1)))
    """V1's share of answers above each threshold."""
    harm: Floats = field(default_factory=lambda: np.zeros((STRATA, len(TILTS))))
    """M by stratum and alternative."""
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
    filled = pace.thresholds[:, 0] >= 0
    known = filled & (one.sum(axis=1) > 0) & (two.sum(axis=1) > 0)
    if known.any():
        n1, above = one.sum(axis=1)[:, None], _above(one, pace.thresholds)
        x1, x2 = _by_class(one, pace.thresholds), _by_class(two, pace.thresholds + MARGIN_BINS)
        log_e = np.where(known[:, None], log_e_classes(x1, x2, classes(pace.guess), TILTS), 0.0)
        grown = np.exp(np.minimum(log_e, 230.0))
        added = (pace.waiting + flowed - pace.spent) * filled[:, None] / filled.sum()
        pace = replace(
            pace,
            harm=np.minimum((pace.harm + added) * grown, CEILING),
            guess=np.where(known[:, None], remember(pace.guess, n1, above), pace.guess),
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
    """Return how many answers lie above each threshold's bin, shape (2, 7)."""
    below = np.cumsum(histogram, axis=1)
    index = np.clip(thresholds, 0, BINS - 1).astype(np.int64)
    return np.asarray(below[:, -1:] - np.take_along_axis(below, index, axis=1))


def _by_class(histogram: Floats, thresholds: Floats) -> Floats:
    """Return how many answers lie in each class between thresholds, shape (2, 8)."""
    edges = [histogram.sum(axis=1)[:, None], _above(histogram, thresholds), np.zeros((STRATA, 1))]
    return np.asarray(-np.diff(np.concatenate(edges, axis=1), axis=1))


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
    total = float((pace.harm @ PRIOR).sum())
    return math.log(total) if total > 0 else -math.inf


def reread(stored: Pace) -> Pace:
    """Return a stored state in this form; one of former versions had six thresholds with nine odds each, (2, 6, 9).

    Its evidence was the mean of its M. That wealth goes on, placed on the alternatives of today: where a bettor puts
    it may change at any time, so nothing is lost and nothing spent twice. Its thresholds are set aside: nothing is
    compared until the day turns.
    """
    if stored.harm.shape == (STRATA, len(TILTS)):
        return stored
    wealth = stored.harm.reshape(STRATA, -1).mean(axis=1, keepdims=True) / STRATA
    fresh = Pace()
    return replace(stored, harm=np.repeat(wealth, len(TILTS), axis=1), thresholds=fresh.thresholds, guess=fresh.guess)

"""The two-sample ratio e-value (R), and the weighted Shiryaev-Roberts recursion that makes a detector of it.

Sources: (R) is the conditional test of "on which version did the next failure land" (Lindon and Malek,
arXiv:2011.03567) with a margin and a split per tick; the recursion is a Bayes-weighted e-detector (Shin, Ramdas
and Rinaldo, arXiv:2203.03532) whose weights sum to 1, which buys a bound for the whole rollout.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HARM_GRID: Floats = np.array([1.3, 1.5, 1.75, 2, 2.5, 3, 4, 5.5, 8, 12, 20, 50, 200], dtype=np.float64)
"""Alternatives, as multiples of the null's ratio: the state of one stream is one number for each."""

FINE_GRID: Floats = np.array([1.01, 1.02, 1.035, 1.06, 1.1, 1.15, 1.2, 1.3, 1.4, 1.6, 2.2, 5, 30], dtype=np.float64)
"""Alternatives where a plan names the very ratio at which it wants to know: they begin close to it.

An alternative can show no less than about half its distance from that ratio, however much is counted.
"""

RARE_GRID: Floats = np.array([1.5, 3, 8, 20, 60, 120, 200, 300, 400, 500, 700, 1000, 5000], dtype=np.float64)
"""Alternatives where V1 next to never has what is counted: beyond the limit at which V2 breaches, hundreds of times."""

_PRIOR = [1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.2, 1.4, 1.4, 1.2, 0.6, 0.3]
HARM_PRIOR: Floats = np.array(_PRIOR, dtype=np.float64) / sum(_PRIOR)
"""How much of the onset mass bets on each alternative: most on defects that are likely and worth finding early."""

CEILING = 1e200
"""Evidence beyond this says nothing more, and products of it must not overflow."""
_STEP_MAX = 230.0
"""Of ln e in one tick: e^230 times the ceiling is still a number; making an e-value smaller keeps it valid."""


_MANY = 64


def log_e_ratio(counts: Floats, theta: Floats, theta0: Floats) -> Floats:
    """Return ln e of (R): ``(th/th0)^k2 * ((n1 + th0 n2) / (n1 + th n2))^(k1 + k2)``.

    counts: shape (N, 4): n1, k1, n2, k2, requests and failures (or any sum of outcomes in [0, 1]) of V1 and V2, each
    row one tick of one stratum; n1 and n2 may be shares instead, only their ratio matters. theta, theta0: shape (Q,).
    The result has shape (N, Q), in nats; 0 where nothing failed or one side had no traffic.

    Assumes that within a row p2 <= theta0 * p1 (for theta > theta0; >= for theta < theta0) under the null; p1 may
    be anything and change from row to row. Then E exp(result) <= 1, because a^x <= 1 + x (a - 1) on [0, 1].
    """
    n1, k1, n2, k2 = counts.T
    result = np.zeros((len(n1), len(theta)))
    failures = k1 + k2
    useful = (failures > 0) & (n1 > 0) & (n2 > 0)
    if useful.any():
        every = bool(useful.all())
        pick = slice(None) if every else useful
        odds = n2[pick] / n1[pick]
        which: slice | NDArray[np.int64] = slice(None)
        if len(odds) >= _MANY:  # most are alike in a long batch, and logs are dear
            odds, which = np.unique(odds, return_inverse=True)
        each = np.log1p(theta0 * odds[:, None]) - np.log1p(theta * odds[:, None])
        value = k2[pick][:, None] * np.log(theta / theta0) + failures[pick][:, None] * each[which]
        if every:
            return np.asarray(value)
        result[useful] = value
    return result


def weighted_sr(state: Floats, mass: Floats, log_e: Floats, anew: Mapping[int, NDArray[np.bool_]]) -> Floats:
    """Run ``M_t = (M_(t-1) + w_t) e_t`` and return every M_t.

    state: (rows, G), M before the first tick. mass: (T, rows), onset mass w_t >= 0, known before the tick's
    outcomes, summing to at most 1 per row over the whole rollout. log_e: (T, rows, G), overwritten. anew: by tick,
    the rows (rows,) that begin anew with it, which forget their M but not their mass.
    Returns (T, rows, G). The mean of M_t over G by `HARM_PRIOR`, plus 1 - sum w, is a nonnegative supermartingale
    that starts at 1, so P(mean M_t is ever >= 1/alpha) <= alpha at any looking frequency (Ville).

    M itself is kept, not its logarithm: M can't underflow to a state from which it doesn't recover (w is added
    before each step), the ceiling keeps it finite, and one tick or a million take the same steps to the same bits.
    """
    np.minimum(log_e, _STEP_MAX, out=log_e)
    clips = _could_overflow(state, log_e)
    values = np.exp(log_e, out=log_e)
    current, grown = state, np.empty_like(state)
    for index, (weight, value) in enumerate(zip(mass[:, :, None], values, strict=True)):
        if index in anew:
            current = np.where(anew[index][:, None], 0.0, current)
        np.add(current, weight, out=grown)
        np.multiply(grown, value, out=value)
        if clips:
            np.minimum(value, CEILING, out=value)
        current = value
    return values


def _could_overflow(state: Floats, log_e: Floats) -> bool:
    """Tell whether some M might pass the ceiling; where none can, the loop need not look (the bits are the same)."""
    rise = np.maximum(log_e.max(axis=(1, 2), initial=0.0), 0.0).sum()
    top = max(1.0, float(state.max(initial=0.0)))
    return bool(rise + math.log(top + len(log_e)) > 400.0)


def log_mixture(values: Floats) -> Floats:
    """Return ln of the mean over the alternatives (last axis), by their prior; -inf where all are zero."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(values @ HARM_PRIOR))


def log_sum_exp(values: Floats) -> float:
    """Return ln sum exp of a vector."""
    top = float(values.max(initial=-math.inf))
    if not math.isfinite(top):
        return top
    return top + math.log(float(np.exp(values - top).sum()))

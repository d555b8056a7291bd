"""Promotion: V2 shown not to be worse than V1 beyond a margin (EVIDENCE 1.10)."""

from __future__ import annotations

import math

import numpy as np

from crossfade.core.evidence.ratio import Floats, log_sum_exp

_STEPS: Floats = np.array([0.5, 1, 2, 4, 8], dtype=np.float64)
"""Where the alternatives lie, on the way from the margin (0) past parity (1), in logs."""
_LOG_PRIOR: Floats = np.log(np.array([0.12, 0.80, 0.04, 0.02, 0.02], dtype=np.float64))
"""Nearly all bets on parity: a V2 that is better is promoted sooner by that bet than one at parity is."""
ALTERNATIVES = len(_STEPS)

_DISTANCE = math.log(1.25)
"""How far beyond the margin V2 is hoped to be where parity would not do (`target: < 80% of v1`)."""


def alternatives(level: float, *, more: bool = False) -> Floats:
    """Return the ratios that are bet on, shape (5,), where V2 must be shown below `level` times V1's value.

    more: above it instead, for what is good to have more of.
    """
    parity = -math.log(level) if more else math.log(level)
    distance = parity if parity > 0 else _DISTANCE
    return np.asarray(level * np.exp(_STEPS * (distance if more else -distance)))


def log_e_promote(state: Floats) -> float:
    """Return ln of the mean over the alternatives, by their prior, of (R)'s products since the phase began.

    state: shape (5,), sums of ln e with theta0 = margin and theta of `alternatives`. Null: V2's rate is at least the
    margin times V1's in every tick. A plain product: each phase asks anew, so there is no late onset to wait for.
    """
    return log_sum_exp(state + _LOG_PRIOR)

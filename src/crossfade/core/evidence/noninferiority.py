"""Promotion: V2 shown not to be worse than V1 beyond a margin (EVIDENCE 1.10)."""

from __future__ import annotations

import math

import numpy as np

from crossfade.core.evidence.ratio import Floats, log_sum_exp

PROMOTE_GRID: Floats = np.array([0.97, 0.93, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.3, 0.1], dtype=np.float64)
"""Alternatives, as multiples of the margin."""


def log_e_promote(state: Floats) -> float:
    """Return ln of the mean over the grid of (R)'s products since the phase began.

    state: shape (11,), sums of ln e with theta0 = margin and theta = margin * grid. Null: V2's rate is at least the
    margin times V1's in every tick. A plain product: each phase asks anew, so there is no late onset to wait for.
    """
    return log_sum_exp(state) - math.log(len(state))

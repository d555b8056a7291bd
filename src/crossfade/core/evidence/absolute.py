"""The one-sample e-value, which tells whether V2's rate is above a fixed limit.

Never roll back on it alone: an outage of both versions raises it as well (EVIDENCE 1.3). With the ratio's e-value
it makes an AND: the smaller of the two is an e-process for "below the limit, or no worse than V1".
"""

from __future__ import annotations

import numpy as np

from crossfade.core.evidence.ratio import HARM_GRID, Floats


def alternatives(limit: float) -> Floats:
    """Return the 13 rates above a limit (0..1): its odds times the harm grid, which stays below 1 for any limit."""
    odds = limit / (1 - limit) * HARM_GRID
    return np.asarray(odds / (1 + odds))


def log_e_absolute(n: Floats, k: Floats, rates: Floats, limits: Floats) -> Floats:
    """Return ln e of ``(p/p0)^k ((1-p)/(1-p0))^(n-k)``, shape (N, Q), in nats.

    n, k: shape (N,), requests and bad ones of V2 in a tick. rates, limits: shape (Q,), p > p0, both in (0, 1).
    Null: every tick's rate is at most its p0; the rate may change from tick to tick (likelihood ratio, monotone).
    """
    gain, loss = np.log(rates / limits), np.log((1 - rates) / (1 - limits))
    return np.asarray(k[:, None] * gain + (n - k)[:, None] * loss)

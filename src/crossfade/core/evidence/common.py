"""The 2x2 e-value for common events, where (R) would be loose by a factor of about 1 - p.

Source: Turner, Ly and Grünwald, "Generic e-variables for exact sequential k-sample tests that allow for optional
stopping", arXiv:2106.02693.
"""

from __future__ import annotations

import numpy as np

from crossfade.core.evidence.ratio import Floats

ODDS_RATIOS: Floats = np.array([1.05, 1.1, 1.2, 1.4, 1.8, 2.5, 4, 8, 20], dtype=np.float64)
"""Alternatives: V2's odds over V1's."""

MEMORY = 20_000.0
"""Requests after which V1's rate has half forgotten what it was."""


def log_e_common(counts: Floats, guess: Floats) -> Floats:
    """Return ln of ``(pa/pm)^x1 ((1-pa)/(1-pm))^(n1-x1) (pb/pm)^x2 ((1-pb)/(1-pm))^(n2-x2)``, in nats.

    counts: shape (..., 4): n1, x1, n2, x2, answers and events of V1 and V2 in one tick. guess: shape (...): V1's rate,
    as known before the tick, in (0, 1). The result has shape (..., 9): pb has the odds of pa times each of
    `ODDS_RATIOS`, pm = (n1 pa + n2 pb) / (n1 + n2). 0 where one side has no answers. Null: p2 <= p1 in every tick, p1
    anything; a bad guess costs power, never validity.
    """
    n1, x1, n2, x2 = (counts[..., i, None] for i in range(4))
    pa = guess[..., None]
    odds = pa / (1 - pa) * ODDS_RATIOS
    pb = odds / (1 + odds)
    pm = (n1 * pa + n2 * pb) / np.maximum(n1 + n2, 1)
    pm = np.where((n1 > 0) & (n2 > 0), pm, 0.5)
    value = (
        x1 * np.log(pa / pm)
        + (n1 - x1) * np.log((1 - pa) / (1 - pm))
        + x2 * np.log(pb / pm)
        + (n2 - x2) * np.log((1 - pb) / (1 - pm))
    )
    return np.asarray(np.where((n1 > 0) & (n2 > 0), value, 0.0))


def remember(guess: Floats, answers: Floats, events: Floats) -> Floats:
    """Return V1's rate with one more tick in it (exponentially forgetting, weight n / (n + 20,000))."""
    weight = answers / (answers + MEMORY)
    seen = events / np.maximum(answers, 1)
    return np.asarray(np.clip(guess + weight * (seen - guess), 1e-4, 1 - 1e-4))

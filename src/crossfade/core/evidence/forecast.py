"""How long until there is enough evidence to promote (EVIDENCE 1.11)."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from crossfade.core.evidence.noninferiority import alternatives
from crossfade.core.evidence.ratio import Floats

_NORMAL: Floats = np.array([NormalDist().inv_cdf((i + 0.5) / 20) for i in range(20)], dtype=np.float64)
"""20 even quantiles; 20 x 20 of them stand for 400 draws, so the same counts always give the same forecast."""


def gamma_quantiles(shape: float) -> Floats:
    """Return 20 even quantiles of a gamma distribution (scale 1) by Wilson and Hilferty's cube."""
    c = 1 / (9 * shape)
    return np.asarray(shape * np.maximum(1 - c + _NORMAL * math.sqrt(c), 0.05) ** 3)


def growth(theta: Floats, base_rate: Floats, margin: float, share: float) -> Floats:
    """Return the expected growth of ln e per V2 request, at the best alternative.

    theta: true ratios; base_rate: V1's rate (same shape); share: V2's share of the compared requests, in (0, 1).
    """
    odds = (1 - share) / share
    alternative = alternatives(margin)[:, None]
    log_r = np.log((odds + margin) / (odds + alternative))
    per_request = theta * base_rate * (np.log(alternative / margin) + log_r) + odds * base_rate * log_r
    return np.asarray(per_request.max(axis=0))


def forecast(
    *, counts: tuple[float, float, float, float], log_e: float, needed: float, margin: float, v2_per_s: float
) -> tuple[tuple[float, float, float] | None, float]:
    """Return seconds until non-inferiority is shown (10th, 50th, 90th percentile), and the chance that it never is.

    counts: n1, k1, n2, k2 of the phase. The percentiles are of the cases in which it is shown at all; None where
    nothing is known of either rate or no V2 requests come.
    """
    n1, k1, n2, k2 = counts
    if log_e >= needed:
        return (0.0, 0.0, 0.0), 0.0
    if min(n1, n2) <= 0 or v2_per_s <= 0 or k1 + k2 <= 0:
        return None, 0.0
    p1 = np.repeat(gamma_quantiles(k1 + 0.5) / n1, 20)
    p2 = np.tile(gamma_quantiles(k2 + 0.5) / n2, 20)
    speed = growth(p2 / p1, p1, margin, n2 / (n1 + n2))
    reachable = speed > 1e-9
    never = float(1 - reachable.mean())
    if not reachable.any():
        return None, never
    wait = (needed - log_e) / speed[reachable] / v2_per_s
    low, middle, high = np.quantile(wait, [0.1, 0.5, 0.9])
    return (float(low), float(middle), float(high)), never

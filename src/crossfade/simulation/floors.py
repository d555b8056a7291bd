"""How soon a defect could be found at best: bounds that no test of the same error probability beats (EVIDENCE 2).

Counted in V2 requests. Wald (1945) for a defect at the start; Lai (IEEE Trans. Inf. Theory 44, 1998) for one that
begins unannounced among many good requests.
"""

from __future__ import annotations

import math

_NOTHING = 1e-12
"""Nats per request below which rounding says more than the rates do."""


def divergence(p: float, q: float) -> float:
    """Return KL(Bernoulli(p) || Bernoulli(q)) in nats; infinite where q excludes what p allows."""

    def part(a: float, b: float) -> float:
        return 0.0 if a <= 0 else math.inf if b <= 0 else a * math.log(a / b)

    return part(p, q) + part(1 - p, 1 - q)


def wald(p1: float, p2: float, share: float, alpha: float) -> float | None:
    """Return ``ln(1/alpha) / (KL(p2||m) + (1-s)/s KL(p1||m))``, m = s p2 + (1-s) p1.

    p1, p2: failure rates of V1 and V2; share: V2's (0..1) of the requests compared. None where they are the same, or
    nobody is compared.
    """
    if not 0 < share < 1 or p1 == p2:
        return None
    middle = share * p2 + (1 - share) * p1
    gained = divergence(p2, middle) + (1 - share) / share * divergence(p1, middle)
    return -math.log(alpha) / gained if gained > _NOTHING else None


def lai(p1: float, p2: float, share: float, alpha: float, requests: float) -> float | None:
    """Return Wald's floor x (1 + ln(T / delay) / ln(1/alpha)): a defect that may begin at any of T V2 requests.

    requests: T, at least the delay itself.
    """
    delay = wald(p1, p2, share, alpha)
    if delay is None:
        return None
    return delay * (1 + math.log(max(1.0, requests / delay)) / -math.log(alpha))

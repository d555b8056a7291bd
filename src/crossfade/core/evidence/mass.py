"""Onset mass: how much of the error budget waits for a defect that begins now.

0.60 waits at the start of the rollout, 0.10 * 6/(pi^2 j^2) at the j-th promotion, and the rest flows: 0.25 over the
time the plan's soaks add up to, a third of it within the first week of eight, because a defect is the likelier the
younger a version is; and 0.05 after that, thinning out so that it never runs dry however long the rollout lasts. The
sum stays below 1 (EVIDENCE 1.2). Mass that flows while nothing can be compared is not lost; it waits for the next tick
that compares.

Evidence that begins anew each week, or every ten minutes, has no start to wait for: all its mass flows.
"""

from __future__ import annotations

import math

import numpy as np

from crossfade.core.evidence.ratio import Floats
from crossfade.core.plan import DAY, Plan

START = 0.60
PROMOTIONS = 0.10
WITHIN_PLAN = 0.25
AFTER_PLAN = 0.05
PERIODIC_FLOW = (1 - PROMOTIONS) / (WITHIN_PLAN + AFTER_PLAN)
"""How much faster mass flows into evidence that begins anew again and again."""


def at_promotion(number: int) -> float:
    """Return the mass of the number-th promotion (1, 2, ...); all of them together are at most 0.10."""
    return PROMOTIONS * 6 / (math.pi * number) ** 2


def planned_seconds(plan: Plan) -> float:
    """Return how long the plan's soaks last together, a day at least."""
    return max(DAY, sum(phase.soak_s for phase in plan.phases))


def flowed(elapsed_s: Floats, planned_s: float) -> Floats:
    """Return the mass that has flowed by `elapsed_s` (shape (T,), seconds since the start): 0 .. 0.30, rising.

    Within the plan half of it flows evenly and half as ln(1 + t) / ln(1 + T), t and T in days: its density falls as
    1 / (1 + t).
    """
    within = np.clip(elapsed_s, 0.0, planned_s)
    inside = (within / planned_s + np.log1p(within / DAY) / math.log1p(planned_s / DAY)) / 2
    late = np.maximum(elapsed_s - planned_s, 0.0)
    return np.asarray(WITHIN_PLAN * inside + AFTER_PLAN * late / (planned_s + late))

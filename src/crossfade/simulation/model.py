"""What is simulated: a plan's traffic, how it misbehaves, and the defects that V2 is given.

Rates are fractions of 1, times plan seconds. A scenario draws nothing itself; `people` and `draws` do, from its seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from crossfade.core.evidence.streams import counts_absence
from crossfade.core.plan import Metric, MetricKind, Plan
from crossfade.simulation.traffic import REGIONS, Region

BEGIN = 1_767_571_200.0
"""Plan time at which a simulated rollout starts: Monday 2026-01-05, 00:00 UTC."""
SEARCHES_PER_DAY = 10.0
"""Of one user, where the plan's traffic isn't told (EVIDENCE 0.12)."""
USUAL_FAILURES = 0.005
USUAL_LATENCY_MS = 200.0
USUAL_OUTCOME = 0.1
SIGMA = 0.5
"""Of ln(latency): p99 is 2.2 times p75."""
CHRONIC_SHARE = 0.6
"""Of all failures, those of the users who are always in trouble (EVIDENCE 1.5)."""
DRIFT = 0.5
"""How far a day bends the failure rate of both versions, where traffic is diurnal."""


class Curve(StrEnum):
    """How traffic goes through a day."""

    STEADY = "steady"
    DIURNAL = "diurnal"


class Effect(StrEnum):
    """What a defect does to V2."""

    RATE = "rate"
    """The metric's value becomes this."""
    FACTOR = "factor"
    """The time grows by this factor."""
    TAIL = "tail"
    """The slowest tenth takes this many times as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defect:
    """Something that goes wrong with V2, and from when on."""

    metric: str
    """As in the plan; empty for the latency of all answers."""
    effect: Effect
    value: float
    """The share (of answers that fail, that have a fact) or the factor."""
    phase: int
    after_s: float
    """Seconds after the phase was entered."""
    region: str | None = None
    """Only there; None for everywhere."""
    text: str = ""
    """As it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A plan and the traffic it is tried on."""

    plan: Plan
    rate: float
    """Requests per second of all users (staff come on top), over a whole day."""
    users: int
    """Outside of staff."""
    curve: Curve = Curve.STEADY
    shared_bursts: bool = False
    """About once a day both versions fail together for 5 to 30 minutes."""
    clustered: int = 1
    """Failed requests per user in trouble, within ten minutes."""
    chronic: float = 0.0
    """Share of users who have 60 % of all failures."""
    defects: tuple[Defect, ...] = ()
    regions: tuple[Region, ...] = REGIONS
    weeks_max: float | None = None
    """A run ends after so long; None: twice the plan's soaks."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ValueError(f"the rate is requests per second, above 0, not {self.rate:g}")
        if self.users < 2:
            raise ValueError(f"a rollout needs two users at least, one on each version, not {self.users}")
        if self.clustered < 1:
            raise ValueError(f"failures come in clusters of one at least, not {self.clustered}")
        if not 0 <= self.chronic < 1:
            raise ValueError(f"the share of users who always fail lies between 0 and 1, not at {self.chronic:g}")

    @property
    def horizon_s(self) -> float:
        """Return after how long a run is given up."""
        if self.weeks_max is not None:
            return self.weeks_max * 7 * 86_400
        return 2 * sum(phase.soak_s for phase in self.plan.phases)


def named_regions(count: int) -> tuple[Region, ...]:
    """Return regions of equal size around the globe."""
    return tuple(
        Region(name=f"region-{index + 1}", share=1 / count, offset_h=24 * index / count) for index in range(count)
    )


def plan_regions(plan: Plan, count: int | None = None) -> tuple[Region, ...]:
    """Return the regions users come from; one without a name where the plan looks at none."""
    if plan.assignment.region is None:
        return (Region(name="", share=1.0, offset_h=0.0),)
    return REGIONS if count is None else named_regions(count)


def failure_baseline(plan: Plan) -> float:
    """Return V1's failure rate: the plan's baseline, else 0.5 %."""
    known = _first(plan.metrics, MetricKind.FAILURE_RATE)
    return USUAL_FAILURES if known is None or known.baseline is None else known.baseline


def fact_baseline(metric: Metric) -> float:
    """Return the share of answers in which a fact is bad (AVAILABILITY) or is not the value counted (RATIO)."""
    if metric.baseline is not None:
        return 1 - metric.baseline
    if metric.target is not None and counts_absence(metric):
        return (1 - metric.target.value) / 2  # halfway between perfect and just good enough
    return 0.0 if metric.kind is MetricKind.AVAILABILITY else 0.5


def outcome_baseline(metric: Metric) -> float:
    """Return the value of an outcome on both versions: its baseline, else one well inside its limits."""
    if metric.kind is MetricKind.COMPLAINTS:
        return 0.0  # people say something, and nobody complains
    if metric.baseline is not None:
        return metric.baseline
    limit = metric.target or (metric.guard.breach if metric.guard else None)
    if limit is None or limit.of_v1:
        return USUAL_OUTCOME
    return (1 + limit.value) / 2 if counts_absence(metric) else limit.value / 2


def told_by_v1(metric: Metric) -> bool:
    """Tell whether V1's answers carry a fact: its availability has a baseline only if it had one before V2."""
    return metric.kind is not MetricKind.AVAILABILITY or metric.baseline is not None


def latency_median_ms(plan: Plan) -> float:
    """Return the median of a lognormal latency whose quantile lies at the plan's baseline, or at 2/3 of its limit."""
    metric = _first(plan.metrics, MetricKind.LATENCY)
    if metric is None:
        return USUAL_LATENCY_MS / math.exp(SIGMA * 1.645)
    limit = metric.target or (metric.guard.breach if metric.guard else None)
    at = metric.baseline or (limit.value * 2 / 3 if limit else USUAL_LATENCY_MS)
    return at / math.exp(SIGMA * normal_quantile(metric.quantile or 0.95))


def normal_quantile(q: float) -> float:
    """Return z with P(N(0, 1) <= z) = q, by bisection."""
    low, high = -10.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 * (1 + math.erf(middle / math.sqrt(2))) < q else (low, middle)
    return (low + high) / 2


def _first(metrics: Sequence[Metric], kind: MetricKind) -> Metric | None:
    return next((metric for metric in metrics if metric.kind is kind), None)

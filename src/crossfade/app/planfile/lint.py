"""What a plan asks of its traffic: gates that can't be expected to decide within their phase's soak.

The need is EVIDENCE 1.11's growth of the non-inferiority e-process at equal versions, with two measured corrections:
the price of its grid of alternatives, and the luck of the draw. The means of EVIDENCE 0.12 come out within 15 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from crossfade.app.planfile.shares import Population
from crossfade.core.plan import DAY, Gate, GateKind, MetricKind, Phase, Plan
from crossfade.core.split import BUCKETS, Split
from crossfade.core.words import duration

MARGINS = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0)
"""Margins that a finding may propose."""
UNLUCKY = 1.5
"""In four of five runs the evidence suffices after this many times the mean need (measured: 1.36 to 1.59)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A gate that the plan's traffic can't be expected to decide in time."""

    phase: str
    gate: str
    needed_requests: float
    """V2 requests after which four of five runs have decided; infinite where none ever does."""
    expected_requests: float
    """V2 requests that the phase's soak gives."""
    message: str
    """One sentence: what was compared, and what would help."""


def lint(plan: Plan, requests_per_user_per_day: float = 10.0) -> tuple[Finding, ...]:
    """Return what won't be decided in time at so many requests per user and day.

    Needs the number of users, and the metric's baseline; where the plan doesn't say them, nothing is found.
    """
    people = population(plan)
    if people.users <= 0:
        return ()
    found = (
        _finding(plan, phase, gate, people, requests_per_user_per_day)
        for phase in plan.phases
        for gate in phase.gates
        if gate.kind is GateKind.ON_TARGET
    )
    return tuple(finding for finding in found if finding is not None)


def needed_v2_requests(margin: float, share: float, rate: float, false_promotion: float = 0.05) -> float:
    """Return the mean number of V2 requests until V2 is shown to be below `margin` times V1's rate, both being equal.

    `share` is V2's share (0..1) of the requests compared, `rate` V1's failure rate; infinite where nothing fails.
    """
    growth = growth_per_v2_request(margin, share, rate)
    if growth <= 0:
        return math.inf
    return math.log(1 / false_promotion) / growth * _grid_cost(margin, share)


def growth_per_v2_request(margin: float, share: float, rate: float) -> float:
    """Return by how much the log of the e-process grows with each V2 request, at equal versions (EVIDENCE 1.11)."""
    if not 0 < share < 1:
        return 0.0
    per_v2 = (1 - share) / share
    q = (per_v2 + 1) / (per_v2 + margin)
    return rate * (math.log(1 / (margin * q)) + per_v2 * math.log(1 / q))


def population(plan: Plan) -> Population:
    """Return who the plan's shares are shares of."""
    rule = plan.assignment
    return Population(users=rule.users, sizes=rule.cohort_sizes(), staff=plan.staff_cohorts())


def _grid_cost(margin: float, share: float) -> float:
    """Return the measured price of not knowing the best alternative; wide margins with few V1 users pay more."""
    return 1.25 + 0.35 * math.log(margin) * math.sqrt(share)


def _finding(plan: Plan, phase: Phase, gate: Gate, people: Population, per_user_day: float) -> Finding | None:
    rate = _rate(plan, gate)
    compared = tuple(_compared(phase.split, people))
    if rate is None or not compared:
        return None
    v2_per_day = sum(size * share for size, share in compared) * per_user_day
    expected = v2_per_day * phase.soak_s / DAY
    needed = _needed(phase.margin, compared, rate, plan.confidence.false_promotion)
    if needed <= expected:
        return None
    cures = (m for m in MARGINS if m > phase.margin)
    cure = next((m for m in cures if _needed(m, compared, rate, plan.confidence.false_promotion) <= expected), None)
    return Finding(
        phase=phase.name,
        gate=gate.text,
        needed_requests=needed,
        expected_requests=expected,
        message=_sentence(phase, gate, needed, v2_per_day, cure),
    )


def _needed(margin: float, compared: tuple[tuple[int, float], ...], rate: float, false_promotion: float) -> float:
    """Return the V2 requests after which four of five runs have decided, over all groups that are compared."""
    v2 = sum(size * share for size, share in compared)
    speed = sum(size * share / needed_v2_requests(margin, share, rate, false_promotion) for size, share in compared)
    return UNLUCKY * v2 / speed if speed > 0 else math.inf


def _compared(split: Split, people: Population) -> Iterator[tuple[int, float]]:
    """Yield (users, V2's share 0..1) of each group in which the hash put users on both versions."""
    for name, size in people.groups().items():
        share = split.share_of(name)
        if size and 0 < share < BUCKETS:
            yield size, share / BUCKETS


def _rate(plan: Plan, gate: Gate) -> float | None:
    """Return how often the event that the gate compares happens on V1; None where the plan doesn't say."""
    metric = plan.metric(gate.metric or "")
    if metric.kind is MetricKind.LATENCY:
        return 1 - (metric.quantile or 0.5)
    if metric.baseline is None:
        return None
    return 1 - metric.baseline if metric.kind is MetricKind.AVAILABILITY else metric.baseline


def _sentence(phase: Phase, gate: Gate, needed: float, v2_per_day: float, cure: float | None) -> str:
    if math.isinf(needed):
        return (
            f"phase {phase.name}: `{gate.text}` can never decide: by its baseline nothing fails on V1, "
            f"so there is nothing to compare; write a limit instead, such as `{gate.metric} >= 99.9%`"
        )
    helps = f"margin {cure:g} instead of {phase.margin:g}, " if cure else ""
    return (
        f"phase {phase.name}: at {v2_per_day / DAY:.2g} V2 requests/s `{gate.text}` can't be expected to decide within "
        f"the soak of {duration(phase.soak_s)}: it needs about {_round(needed):,} V2 requests = "
        f"{needed / v2_per_day:.3g} days; {helps}more users on both versions or a longer soak would do"
    )


def _round(number: float) -> int:
    """Return a number to two significant digits, which is all it is good for."""
    digits = max(0, int(math.log10(max(number, 1))) - 1)
    return int(round(number, -digits))

"""What a plan asks of its traffic: gates that can't be expected to decide within their phase's soak.

`x on target` needs two things of V2's rate: a confidence sequence that stays inside the guard's limit; and either one
that stays inside the target, or shown non-inferiority. The first is asked of `core.evidence` itself. The second is
EVIDENCE 1.11's growth of the e-process at equal versions, corrected by the measured price of its grid of alternatives:
the means of EVIDENCE 0.12 come out within 15 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from crossfade.app.planfile.shares import Population
from crossfade.core.evidence.sequences import rate_interval
from crossfade.core.evidence.streams import bad_limit, counts_absence
from crossfade.core.plan import DAY, Gate, GateKind, Metric, MetricKind, Phase, Plan
from crossfade.core.split import BUCKETS, Split
from crossfade.core.words import duration

MARGINS = (1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0, 20.0)
"""Margins that a finding may propose."""
_SHARES = (MetricKind.AVAILABILITY, MetricKind.RATIO, MetricKind.OUTCOME)
"""Kinds of which being there or not may be what is bad."""
UNLUCKY = 1.5
"""In four of five runs non-inferiority is shown after this many times the mean need (measured: 1.36 to 1.59)."""
_INTERVAL_ALPHA = 0.05
_LUCK = 0.6
"""Deviations above the true rate at which a confidence sequence is where four of five runs have it (measured, 6 %)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A gate that the plan's traffic can't be expected to decide in time."""

    phase: str
    gate: str
    needed_requests: float
    """V2 requests (of a posted outcome: units) after which four of five runs have decided; infinite where none does."""
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
    """Return the measured price of not knowing the best alternative; wide margins with few V1 users pay more.

    A target such as `>= 95% of v1` (a margin below 1) lies close to equal versions, where alternatives are coarse.
    """
    if margin < 1:
        return 1.55
    return 1.25 + 0.35 * math.log(margin) * math.sqrt(share)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What a gate asks of a phase's traffic; rates are of bad outcomes."""

    compared: tuple[tuple[int, float], ...]
    """(users, V2's share) of each group in which both versions have users."""
    rate: float
    """V1's."""
    limit: float | None
    """The guard's."""
    target: float
    spotless: bool
    """Shown to be no worse where nothing fails on either version."""
    false_promotion: float
    per_user_day: float
    ratio: float | None = None
    """Of a target relative to V1: this ratio is asked for, whatever the phase's margin."""

    def needed(self, margin: float) -> float:
        """Return the V2 requests after which four of five runs have decided; infinite where none ever does."""
        if self.ratio is not None:
            return self._not_inferior(self.ratio)
        inside_limit = 0.0 if self.limit is None else requests_to_show(self.rate, self.limit)
        no_worse = 0.0 if self.spotless and self.rate <= 0 else self._not_inferior(margin)
        return max(inside_limit, min(no_worse, requests_to_show(self.rate, self.target)))

    def _not_inferior(self, margin: float) -> float:
        v2 = sum(size * share for size, share in self.compared)
        speed = sum(
            size * share / needed_v2_requests(margin, share, self.rate, self.false_promotion)
            for size, share in self.compared
        )
        return UNLUCKY * v2 / speed if speed > 0 else math.inf


def requests_to_show(rate: float, limit: float) -> float:
    """Return the requests after which four of five runs show a true `rate` to be within `limit`; infinite if never."""
    if rate >= limit:
        return math.inf
    low, high = 1.0, 1e12
    while high > low * 1.005:
        middle = math.sqrt(low * high)
        seen = min(middle, middle * rate + _LUCK * math.sqrt(middle * rate))
        if rate_interval(seen, middle, _INTERVAL_ALPHA)[1] <= limit:
            high = middle
        else:
            low = middle
    return high


def _finding(plan: Plan, phase: Phase, gate: Gate, people: Population, per_user_day: float) -> Finding | None:
    metric = plan.metric(gate.metric or "")
    question = _question(plan, phase, metric, people, per_user_day)
    if question is None:
        return None
    v2_per_day = sum(size * share for size, share in question.compared) * question.per_user_day
    expected = v2_per_day * phase.soak_s / DAY
    needed = question.needed(phase.margin)
    if needed <= expected:
        return None
    cure = next((m for m in MARGINS if m > phase.margin and question.needed(m) <= expected), None)
    posted = metric.kind in (MetricKind.OUTCOME, MetricKind.VALUE)
    return Finding(
        phase=phase.name,
        gate=gate.text,
        needed_requests=needed,
        expected_requests=expected,
        message=_sentence(phase, gate, needed, v2_per_day, cure=cure, what="V2 outcomes" if posted else "V2 requests"),
    )


def _question(plan: Plan, phase: Phase, metric: Metric, people: Population, per_user_day: float) -> _Question | None:
    """Return what `on target` asks; None where the plan doesn't say enough, or nothing is compared."""
    compared = tuple(_compared(phase.split, people))
    absence = metric.kind in _SHARES and counts_absence(metric)
    timed = metric.kind in (MetricKind.LATENCY, MetricKind.LATENCY_MEAN)
    if not compared or metric.baseline is None or metric.target is None or timed:
        return None
    if metric.relative is not None and not metric.target.of_v1:
        return None
    return _Question(
        compared=compared,
        rate=1 - metric.baseline if absence else metric.baseline,
        limit=bad_limit(metric),
        target=1 - metric.target.value if absence else metric.target.value,
        spotless=metric.kind is MetricKind.AVAILABILITY,
        false_promotion=plan.confidence.false_promotion,
        per_user_day=1.0 if metric.kind in (MetricKind.OUTCOME, MetricKind.VALUE) else per_user_day,
        ratio=metric.target.value if metric.target.of_v1 else None,
    )


def _compared(split: Split, people: Population) -> Iterator[tuple[int, float]]:
    """Yield (users, V2's share 0..1) of each group in which the hash put users on both versions."""
    for name, size in people.groups().items():
        share = split.share_of(name)
        if size and 0 < share < BUCKETS:
            yield size, share / BUCKETS


def _sentence(phase: Phase, gate: Gate, needed: float, v2_per_day: float, *, cure: float | None, what: str) -> str:
    if math.isinf(needed):
        return (
            f"phase {phase.name}: `{gate.text}` can never decide: V1's baseline is neither inside V2's target and "
            "guard, nor does V1 fail often enough to be compared with; set other limits"
        )
    helps = f"margin {cure:g} instead of {phase.margin:g}, " if cure else ""
    return (
        f"phase {phase.name}: at {v2_per_day / DAY:.2g} {what}/s `{gate.text}` can't be expected to decide within "
        f"the soak of {duration(phase.soak_s)}: it needs about {_round(needed):,} {what} = "
        f"{needed / v2_per_day:.3g} days; {helps}more users on both versions or a longer soak would do"
    )


def _round(number: float) -> int:
    """Return a number to two significant digits, which is all it is good for."""
    digits = max(0, int(math.log10(max(number, 1))) - 1)
    return int(round(number, -digits))

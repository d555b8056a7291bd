"""The fast path: every or nearly every answer of V2 fails while V1's don't.

It looks at raw counts of the last second or so, by arrival, about four times a second, with no state. So its bar is
set by counting looks: the chance of a false alarm at one look, times the number of looks in the plan, is within its
slice of the plan's false-rollback probability.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from crossfade.core.evidence.collect import assigned
from crossfade.core.evidence.mass import planned_seconds
from crossfade.core.evidence.streams import GROSS_SHARE, bad_limit
from crossfade.core.evidence.sums import Cell, Tick
from crossfade.core.plan import WEEK, Action, Metric, MetricKind, Plan
from crossfade.core.split import BUCKETS, Version

LOOKS_PER_S = 4
NEARLY_EVERY = 0.9
OUTAGE_S = 3600.0
"""For how long, in all, both versions are assumed to fail together."""
ENOUGH_ALONE = 20
"""Requests of V2 at which it is judged without a V1 beside it."""
_SHARES = {True: (0.8, 0.1), False: (0.05, 0.05)}
"""Of the slice, for chance failures of a V2 within its limit and for outages of both: in looks over a second or more,
and in looks over less, which find a broken V2 under load within a tenth of a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrossBreach:
    """What was seen."""

    metric: str
    n1: int
    k1: int
    n2: int
    k2: int
    sentence: str


def gross(plan: Plan, recent: Tick, *, phase: int | None = None) -> GrossBreach | None:
    """Return the breach that the last requests show, None for none; `phase` is the index of the present one.

    It fires where nine in ten of V2's answers failed and both hold:
    - a V2 within the guardrail's limit p0 would do so with probability P(Bin(n2, p0) >= k2) <= 0.8 a / looks;
    - both versions failing alike would put so many of the failures on V2 with probability (Fisher's exact
      test, one-sided) <= 0.1 a / (looks in an hour);
    a = a quarter of the plan's false-rollback probability, looks = 4 per second for the plan's soaks or eight weeks.
    `recent.length` below a second takes 0.05 a for each, and counts 4 / length^2 looks per second.
    So P(false alarm in the whole rollout) <= a, as long as failures of different users are independent within a second
    and both versions don't fail together for more than an hour in all. With a limit of 1 % and V2 at 5 %, five
    failures in a row are enough. One user counts at most twice (a client that repeats itself is no outage). A
    request that V1 answered in V2's place is a success of V1. Staff and overrides are left out.

    Where a phase has everyone on V2, nobody can say whether V1 would fail as well. Then twenty requests are wanted and
    the limit alone decides: users of a V2 that answers nobody can only gain by going back.
    """
    metric = _rollback_metric(plan)
    limit = None if metric is None else bad_limit(metric)
    if metric is None or limit is None:
        return None
    staff = plan.staff_cohorts()
    cells = [(arm, cell) for arm, cell in assigned(recent) if arm.cohort not in staff]
    one = [cell for arm, cell in cells if arm.version is Version.V1]
    two = [cell for arm, cell in cells if arm.version is Version.V2]
    n2, k2 = sum(cell.requests for cell in two), sum(cell.failures for cell in two)
    if k2 < 3 or k2 < NEARLY_EVERY * n2:
        return None
    n1 = sum(cell.requests for cell in one) + sum(cell.fallbacks for cell in two)
    k1 = sum(cell.failures for cell in one)
    counted = _counted(two, k2)
    alpha = plan.confidence.false_rollback * GROSS_SHARE
    chance_share, outage_share = _SHARES[recent.length >= 1]
    looks_per_s = LOOKS_PER_S / min(1.0, recent.length) ** 2
    looks = looks_per_s * max(planned_seconds(plan), 8 * WEEK)
    by_chance = _log_binomial_tail(n2, counted, limit)
    alike = _log_fisher_tail(n1, k1, n2, counted)
    if by_chance > math.log(chance_share * alpha / looks):
        return None
    no_control = phase is not None and plan.phases[phase].split.everyone == BUCKETS and n1 == 0
    if no_control and n2 < ENOUGH_ALONE:
        return None
    if not no_control and alike > math.log(outage_share * alpha / (looks_per_s * OUTAGE_S)):
        return None
    sentence = f"{k2} of V2's last {n2} requests failed, against {k1} of {n1} on V1"
    return GrossBreach(metric=metric.name, n1=n1, k1=k1, n2=n2, k2=k2, sentence=sentence)


def _rollback_metric(plan: Plan) -> Metric | None:
    for metric in plan.metrics:
        rolls_back = metric.guard is not None and metric.guard.action is Action.ROLLBACK
        if metric.kind is MetricKind.FAILURE_RATE and rolls_back:
            return metric
    return None


def _counted(cells: Sequence[Cell], failures: int) -> int:
    """Return V2's failures with no user counted more than twice."""
    users = set().union(*(cell.failing_users for cell in cells))
    unknown = sum(cell.failures for cell in cells if not cell.failing_users)
    return min(failures, 2 * len(users) + unknown)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _log_sum(terms: Sequence[float]) -> float:
    top = max(terms)
    return top + math.log(sum(math.exp(term - top) for term in terms))


def _log_binomial_tail(n: int, k: int, p: float) -> float:
    """Return ln P(Bin(n, p) >= k)."""
    return min(0.0, _log_sum([_log_choose(n, i) + i * math.log(p) + (n - i) * math.log1p(-p) for i in range(k, n + 1)]))


def _log_fisher_tail(n1: int, k1: int, n2: int, k2: int) -> float:
    """Return ln P(at least k2 of the k1 + k2 failures fall on V2's n2 requests), all requests being alike."""
    total, failed = n1 + n2, k1 + k2
    terms = [
        _log_choose(n2, i) + _log_choose(n1, failed - i) - _log_choose(total, failed)
        for i in range(k2, min(n2, failed) + 1)
        if failed - i <= n1
    ]
    return min(0.0, _log_sum(terms)) if terms else 0.0

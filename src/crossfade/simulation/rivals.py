"""Other tools' rules on the same scenario, at their documented settings (EVIDENCE 3).

They look at failure counts per minute and know neither gates nor evidence, so the phases go by the plan's soaks. The
traffic is the scenario's, drawn by the minute from the same seed: same users' shares, same curve, same bursts and
defects; defects in facts and latency, which these rules aren't told of, leave them cold.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossfade.core.evidence.mass import planned_seconds
from crossfade.core.evidence.ratio import HARM_GRID, log_e_ratio, log_mixture, weighted_sr
from crossfade.core.plan import MetricKind
from crossfade.core.split import BUCKETS
from crossfade.simulation.draws import bursts_of
from crossfade.simulation.model import BEGIN, CHRONIC_SHARE, DRIFT, Curve, Scenario, failure_baseline
from crossfade.simulation.people import Floats
from crossfade.simulation.traffic import DAY_S, HOUR_S, diurnal

MINUTE_S = 60.0
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Minutes:
    """A rollout by the minute: requests and failures, shape (T,)."""

    n1: Ints
    k1: Ints
    n2: Ints
    k2: Ints
    onset: int | None
    """First minute of the first defect; None without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RivalRun:
    """When a rule rolled back, and what that cost."""

    seconds: float | None
    """From the onset (or the start) to the rollback; None where none came."""
    too_soon: bool
    v2_requests: int
    v2_failed: int
    at: float | None
    """When it rolled back, seconds since the rollout's start."""


def minutes(scenario: Scenario, seed: int, run: int) -> Minutes:
    """Draw one rollout that goes by the plan's soaks."""
    plan = scenario.plan
    total = int(planned_seconds(plan) // MINUTE_S)
    at: Floats = (np.arange(total, dtype=np.float64) + 0.5) * MINUTE_S
    rng = np.random.default_rng((seed, run, 3))
    ends = np.cumsum([phase.soak_s for phase in plan.phases])
    phase = np.minimum(np.searchsorted(ends, at, side="right"), len(ends) - 1)
    share = np.array([phase.target / BUCKETS for phase in plan.phases])[phase]
    base = failure_baseline(plan)
    load: Floats = np.full(total, scenario.rate * MINUTE_S)
    healthy: Floats = np.full(total, base)
    if scenario.curve is Curve.DIURNAL:
        hours = ((BEGIN + at)[:, None] / HOUR_S + [region.offset_h for region in scenario.regions]) % 24
        load = load * (diurnal(hours) * [region.share for region in scenario.regions]).sum(axis=1)
        healthy = base * (1 + DRIFT * np.sin(2 * np.pi * (BEGIN + at) / DAY_S))
    ill, onset = _ill(scenario, at, healthy, np.concatenate([[0.0], ends]))
    for begin, end, rate in bursts_of(scenario, seed, run):
        inside = (at >= begin) & (at < end)
        healthy, ill = (
            np.where(inside, np.maximum(healthy, rate), healthy),
            np.where(inside, np.maximum(ill, rate), ill),
        )
    n1, n2 = rng.poisson(load * (1 - share)), rng.poisson(load * share)
    k1, k2 = _fail(rng, scenario, n1, healthy, 1 - share), _fail(rng, scenario, n2, ill, share)
    return Minutes(n1=n1, k1=k1, n2=n2, k2=k2, onset=onset)


def _ill(scenario: Scenario, at: Floats, healthy: Floats, begins: Floats) -> tuple[Floats, int | None]:
    kinds = {metric.name: metric.kind for metric in scenario.plan.metrics}
    ill, onset = healthy.copy(), None
    base = failure_baseline(scenario.plan)
    for defect in scenario.defects:
        begin = begins[defect.phase] + defect.after_s
        onset = int(begin // MINUTE_S) if onset is None else min(onset, int(begin // MINUTE_S))
        part = next((r.share for r in scenario.regions if r.name == defect.region), 1.0)
        if kinds.get(defect.metric) is MetricKind.FAILURE_RATE:
            worse = defect.value * healthy / base if base else np.full_like(healthy, defect.value)
            ill = np.where(at >= begin, (1 - part) * ill + part * worse, ill)
        elif kinds.get(defect.metric) is MetricKind.CRITICAL_ERRORS:
            ill = np.where(at >= begin, ill + part * defect.value, ill)
    return np.minimum(ill, 1.0), onset


def _fail(rng: np.random.Generator, scenario: Scenario, n: Ints, rate: Floats, share: Floats) -> Ints:
    """Draw failures: in clusters, and from a few users whom stickiness keeps on one side."""
    size = scenario.clustered
    k = rng.binomial(n, np.minimum(1.0, rate / size)) * size
    if scenario.chronic:
        many = max(1, round(scenario.users * scenario.chronic))
        side = np.random.default_rng(rng.integers(2**63)).random(many)
        on = np.searchsorted(np.sort(side), share) / many
        lucky = np.divide(on, share, out=np.ones_like(on), where=share > 0)
        k = rng.binomial(k, 1 - CHRONIC_SHARE) + rng.poisson(n * rate * CHRONIC_SHARE * lucky)
    return np.minimum(k, n)


# ── the rules: minutes -> index of the minute after which they roll back ─────────────────────────────────────


def flagger(seen: Minutes) -> int | None:
    """Flagger's defaults: each minute, success below 99 % or no measurement adds one; ten are too many."""
    with np.errstate(divide="ignore", invalid="ignore"):
        bad = ~(1 - seen.k2 / seen.n2 >= 0.99)  # nan, without traffic, is bad
    return _nth(bad & _begun(seen), 10)


def argo(seen: Minutes) -> int | None:
    """Argo Rollouts: every five minutes, success below 99 % fails; more than three failures, or no data, abort."""
    n, k = _blocks(seen.n2, 5), _blocks(seen.k2, 5)
    begun = np.cumsum(n) > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        bad = ~(1 - k / n >= 0.99)
    found = _nth(bad & begun, 4)
    return None if found is None else min(5 * found + 4, len(seen.n1) - 1)


def kayenta(seen: Minutes) -> int | None:
    """Kayenta's NetflixACAJudge, hourly, on the error rate per minute; one metric that is High scores 0 and fails.

    Mann-Whitney: High where the 98 % confidence interval of the shift (Hodges-Lehmann, normal approximation) lies above
    a quarter of its own estimate. Minutes without traffic are no samples.
    """
    for hour in range(len(seen.n1) // 60):
        cut = slice(60 * hour, 60 * hour + 60)
        n1, n2 = seen.n1[cut], seen.n2[cut]
        if not n1.any() or not n2.any() or seen.k2[cut].sum() * n1.sum() <= seen.k1[cut].sum() * n2.sum():
            continue
        one = seen.k1[cut][n1 > 0] / n1[n1 > 0]
        two = seen.k2[cut][n2 > 0] / n2[n2 > 0]
        if _is_higher(one, two):
            return 60 * hour + 59
    return None


def _is_higher(one: Floats, two: Floats, z: float = 2.326, tolerance: float = 0.25) -> bool:
    differences = np.sort((two[:, None] - one[None, :]).ravel())
    m, n = len(one), len(two)
    estimate = float(np.median(differences))
    lowest = math.floor(m * n / 2 - z * math.sqrt(m * n * (m + n + 1) / 12))
    return lowest >= 0 and differences[lowest] > tolerance * abs(estimate) and estimate > 0


def growthbook(seen: Minutes, alpha: float = 0.05, tuned: float = 5000.0) -> int | None:
    """GrowthBook's sequential z-test (GAVI), hourly on all counts so far: half-width as in EVIDENCE 3."""
    n1, k1, n2, k2 = (np.cumsum(_blocks(values, 60)).astype(float) for values in (seen.n1, seen.k1, seen.n2, seen.k2))
    inner = -2 * math.log(2 * alpha)
    rho2 = (inner + math.log(inner + 1)) / tuned
    with np.errstate(divide="ignore", invalid="ignore"):
        p1, p2, n = k1 / n1, k2 / n2, n1 + n2
        variance = p1 * (1 - p1) / n1 + p2 * (1 - p2) / n2
        scaled = n * rho2
        width = np.sqrt(
            variance * n * 2 * (scaled + 1) / (n * n * rho2) * np.log(1 + np.sqrt(scaled + 1) / (2 * alpha))
        )
        shown = (p2 - p1 > width) & (k1 + k2 > 0) & (variance > 0)
    found = _nth(shown, 1)
    return None if found is None else 60 * found + 59


def zscore(seen: Minutes) -> int | None:
    """A negative control: a pooled two-sample z-test at 1 %, one-sided, asked every hour on all counts so far."""
    n1, k1, n2, k2 = (np.cumsum(_blocks(values, 60)).astype(float) for values in (seen.n1, seen.k1, seen.n2, seen.k2))
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = (k1 + k2) / (n1 + n2)
        z = (k2 / n2 - k1 / n1) / np.sqrt(rate * (1 - rate) * (1 / n1 + 1 / n2))
    found = _nth(np.nan_to_num(z, posinf=0.0) > 2.326, 1)
    return None if found is None else 60 * found + 59


def raw(seen: Minutes, alpha: float = 0.01) -> int | None:
    """A negative control: this product's e-process against "no worse", on plain requests, every ten minutes."""
    counts = np.stack([_blocks(values, 10) for values in (seen.n1, seen.k1, seen.n2, seen.k2)], axis=1).astype(float)
    log_e = log_e_ratio(counts, HARM_GRID, np.ones(len(HARM_GRID)))[:, None]
    begins = np.zeros((len(counts), 1))
    begins[0] = 0.5
    path = weighted_sr(np.zeros((1, len(HARM_GRID))), begins + 0.5 / len(counts), log_e, {})
    found = _nth(log_mixture(path)[:, 0] >= -math.log(alpha), 1)
    return None if found is None else min(10 * found + 9, len(seen.n1) - 1)


RULES: dict[str, Callable[[Minutes], int | None]] = {
    "flagger": flagger,
    "argo": argo,
    "kayenta": kayenta,
    "growthbook": growthbook,
    "zscore": zscore,
    "raw": raw,
}


def judge(rule: str, seen: Minutes) -> RivalRun:
    """Let one rule look at a rollout."""
    found = RULES[rule](seen)
    start = 0 if seen.onset is None else seen.onset
    if found is None:
        return RivalRun(
            seconds=None,
            too_soon=False,
            v2_requests=int(seen.n2[start:].sum()),
            v2_failed=int(seen.k2[start:].sum()),
            at=None,
        )
    return RivalRun(
        seconds=(found + 1 - start) * MINUTE_S,
        too_soon=seen.onset is None or found < seen.onset,
        v2_requests=int(seen.n2[start : found + 1].sum()),
        v2_failed=int(seen.k2[start : found + 1].sum()),
        at=(found + 1) * MINUTE_S,
    )


def _begun(seen: Minutes) -> NDArray[np.bool_]:
    """Tell from which minute on V2 has had traffic: an analysis starts with the canary, not before it."""
    return np.asarray(np.cumsum(seen.n2) > 0)


def _blocks(values: Ints, size: int) -> Ints:
    return np.add.reduceat(values, np.arange(0, len(values), size))


def _nth(hits: NDArray[np.bool_], count: int) -> int | None:
    found = np.flatnonzero(hits)
    return int(found[count - 1]) if len(found) >= count else None

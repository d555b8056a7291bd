"""Seeded draws: what all users do in a slice of time, as sums by arm, and the ticks that tell of it.

A slice is drawn once. It can be told as one tick or cut into many: requests fall on the parts as a Poisson process's
do, failures lie where they were drawn, so coarse and fine ticks tell of the same requests.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crossfade.core.evidence.sums import BIN_RATIO, BINS, Arm, Cell, Tick
from crossfade.core.plan import Metric, MetricKind
from crossfade.core.split import Split, Version
from crossfade.simulation.model import (
    CHRONIC_SHARE,
    DRIFT,
    SIGMA,
    Curve,
    Defect,
    Effect,
    Scenario,
    fact_baseline,
    failure_baseline,
    latency_median_ms,
    told_by_v1,
)
from crossfade.simulation.people import Floats, Group, Ints, make_groups
from crossfade.simulation.traffic import DAY_S, HOUR_S, diurnal

_SOURCES = frozenset({"simulation"})
_TIMING_MS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArmDraw:
    """What one arm's users did in a slice."""

    arm: Arm
    requests: int
    failing: Ints
    """(k,): the user behind each failure."""
    failed_at: Floats
    """(k,): when, as a part (0..1) of the slice."""
    critical: int
    """Of the failures, the first so many were no answer at all."""
    missing: Mapping[str, int]
    """By metric: answers in which the fact says no, or another value."""
    bins: Ints
    """(226,): answers by latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A stretch of time in which nothing changes but chance."""

    number: int
    start: float
    end: float
    arms: tuple[ArmDraw, ...]


class World:
    """One run's users and its generators; slices are drawn from it by number."""

    def __init__(self, scenario: Scenario, seed: int, run: int) -> None:
        self.scenario = scenario
        self._seed = (seed, run)
        self.groups = make_groups(scenario, np.random.default_rng((seed, run, 0)))
        self.bursts = bursts_of(scenario, seed, run)
        self._healthy = failure_baseline(scenario.plan)
        self._median = latency_median_ms(scenario.plan)
        self._facts = tuple(m for m in scenario.plan.metrics if m.kind in (MetricKind.AVAILABILITY, MetricKind.RATIO))

    def draw(
        self, number: int, start: float, end: float, *, begun: float, split: Split, ill: Sequence[Defect]
    ) -> Slice:
        """Return a slice of plan time [start, end) under a split, with the defects that V2 has in it.

        `begun` is the rollout's start, from which bursts are counted.
        """
        rng = np.random.default_rng((*self._seed, 1, number))
        burst = next((rate for a, b, rate in self.bursts if a <= start - begun < b), 0.0)
        when = (start, end)
        arms = [
            self._arm(rng, group=group, version=version, split=split, when=when, burst=burst, ill=ill)
            for group in self.groups
            for version in (Version.V1, Version.V2)
        ]
        found = tuple(arm for arm in arms if arm is not None)
        return Slice(number=number, start=start, end=end, arms=found)

    def cut(self, part: Slice, seconds: float) -> list[dict[Arm, Cell]]:
        """Return the cells of a slice by parts of about so many seconds."""
        parts = max(1, round((part.end - part.start) / seconds))
        rng = np.random.default_rng((*self._seed, 2, part.number))
        result: list[dict[Arm, Cell]] = [{} for _ in range(parts)]
        for arm in part.arms:
            for cells, cell in zip(result, self._parts(rng, arm, parts), strict=True):
                if cell.requests:
                    cells[arm.arm] = cell
        return result

    def whole(self, part: Slice) -> dict[Arm, Cell]:
        """Return the cells of a slice as those of one tick."""
        return {
            arm.arm: self._cell(
                arm.arm.version,
                arm.requests,
                failing=arm.failing,
                critical=arm.critical,
                missing=arm.missing,
                bins=arm.bins,
            )
            for arm in part.arms
        }

    # ── one arm ─────────────────────────────────────────────────────────────────────────────────────────

    def _arm(
        self,
        rng: np.random.Generator,
        *,
        group: Group,
        version: Version,
        split: Split,
        when: tuple[float, float],
        burst: float,
        ill: Sequence[Defect],
    ) -> ArmDraw | None:
        region = self.scenario.regions[group.region]
        span = group.everyone.side(version, split.share_of(group.cohort or None))
        weight = group.everyone.weight(span)
        seconds, middle = when[1] - when[0], (when[0] + when[1]) / 2
        load, drift = 1.0, 1.0
        if self.scenario.curve is Curve.DIURNAL:
            load = float(diurnal((middle / HOUR_S + region.offset_h) % 24))
            drift = 1 + DRIFT * math.sin(2 * math.pi * middle / DAY_S)
        requests = int(rng.poisson(self.scenario.rate * weight * seconds * load))
        if not requests:
            return None
        sick = [d for d in ill if version is Version.V2 and d.region in (None, region.name)]
        rate, critical = self._failure_rate(sick, drift, burst)
        failing, failed_at = self._failures(
            rng, group=group, version=version, span=span, requests=requests, rate=rate, split=split
        )
        return ArmDraw(
            arm=Arm(version, region.name, group.cohort),
            requests=requests,
            failing=failing,
            failed_at=failed_at,
            critical=int(rng.binomial(len(failing), critical)),
            missing={
                metric.name: int(rng.binomial(requests, _missing(metric, sick)))
                for metric in self._facts
                if version is Version.V2 or told_by_v1(metric)
            },
            bins=rng.multinomial(requests, latency_bins(self._median, *_slowness(sick))),
        )

    def _failure_rate(self, sick: Sequence[Defect], drift: float, burst: float) -> tuple[float, float]:
        """Return V2's or V1's failure rate, and the part of the failures that are no answer at all."""
        metrics = {metric.name: metric.kind for metric in self.scenario.plan.metrics}
        rate, critical = self._healthy * drift, 0.0
        for defect in sick:
            if metrics.get(defect.metric) is MetricKind.FAILURE_RATE:
                rate = defect.value * drift
        for defect in sick:
            if metrics.get(defect.metric) is MetricKind.CRITICAL_ERRORS:
                rate, critical = rate + defect.value, defect.value / (rate + defect.value)
        return min(1.0, max(rate, burst)), critical

    def _failures(
        self,
        rng: np.random.Generator,
        *,
        group: Group,
        version: Version,
        span: tuple[int, int],
        requests: int,
        rate: float,
        split: Split,
    ) -> tuple[Ints, Floats]:
        """Draw who fails and when: `clustered` failures in a row for each user in trouble."""
        scattered, chronic, size = rate, 0, self.scenario.clustered
        if self.scenario.chronic and group.chronic_total > 0:
            part = group.chronic.side(version, split.share_of(group.cohort or None))
            share = group.chronic.weight(part) / max(group.everyone.weight(span), 1e-12)
            scattered = rate * (1 - CHRONIC_SHARE)
            chronic = int(rng.poisson(requests * rate * CHRONIC_SHARE * share / group.chronic_total))
        count = int(rng.binomial(requests, scattered / size)) if scattered < size else requests
        users = group.everyone.pick(span, rng.random(count))
        if chronic:
            users = np.concatenate([users, group.chronic.pick(part, rng.random(chronic))])
        at = rng.random(len(users))
        failing, failed_at = np.repeat(users, size)[:requests], np.repeat(at, size)[:requests]
        return failing, failed_at

    # ── cells ───────────────────────────────────────────────────────────────────────────────────────────

    def _parts(self, rng: np.random.Generator, arm: ArmDraw, parts: int) -> list[Cell]:
        """Cut one arm into equal parts of time; its requests fall on them as a Poisson process's do."""
        where = np.minimum((arm.failed_at * parts).astype(np.int64), parts - 1)
        failures = np.bincount(where, minlength=parts)
        good = rng.multinomial(arm.requests - len(where), np.full(parts, 1 / parts))
        requests = failures + good
        owners = np.repeat(np.arange(parts), requests)
        bins = rng.permutation(np.repeat(np.arange(BINS), arm.bins))
        bounds = np.concatenate([[0], np.cumsum(requests)])
        missing = {}
        for name, count in arm.missing.items():
            chosen = owners[rng.permutation(arm.requests)[:count]] if count else owners[:0]
            missing[name] = np.bincount(chosen, minlength=parts)
        return [
            self._cell(
                arm.arm.version,
                int(requests[index]),
                failing=arm.failing[where == index] if failures[index] else arm.failing[:0],
                critical=int((where[: arm.critical] == index).sum()),
                missing={name: int(counts[index]) for name, counts in missing.items()},
                bins=np.bincount(bins[bounds[index] : bounds[index + 1]], minlength=BINS),
            )
            for index in range(parts)
        ]

    def _cell(
        self, version: Version, requests: int, *, failing: Ints, critical: int, missing: Mapping[str, int], bins: Ints
    ) -> Cell:
        facts, timings = {}, {}
        for metric in self.scenario.plan.metrics:
            if metric.name in missing:
                no = missing[metric.name]
                yes, other = (metric.fact_value, "other") if metric.kind is MetricKind.RATIO else ("1", "0")
                facts[metric.fact] = Counter({yes: requests - no, other: no} if no else {yes: requests})
            elif metric.kind is MetricKind.BREAKER and version is Version.V2:
                facts[metric.fact] = Counter(closed=requests)
            elif metric.kind is MetricKind.TIMING:
                timings[metric.fact] = (requests, requests * (metric.baseline or _TIMING_MS))
        used = np.flatnonzero(bins)
        return Cell(
            requests=requests,
            failures=len(failing),
            critical=critical,
            failing_users=set(failing.tolist()),
            latency=Counter(dict(zip(used.tolist(), bins[used].tolist(), strict=True))),
            facts=facts,
            timings=timings,
        )


def tick(number: int, start: float, length: float, cells: Mapping[Arm, Cell]) -> Tick:
    """Return a tick that a collector reported; simulated ticks are numbered in a row, whatever their length."""
    return Tick(number=number, start=start, length=length, cells=cells, sources=_SOURCES)


def _missing(metric: Metric, sick: Sequence[Defect]) -> float:
    found = [defect.value for defect in sick if defect.metric == metric.name]
    return 1 - found[-1] if found else fact_baseline(metric)


def _slowness(sick: Sequence[Defect]) -> tuple[float, float]:
    """Return by which factors everything and the slowest tenth are slower."""
    shift = math.prod(defect.value for defect in sick if defect.effect is Effect.FACTOR)
    tail = math.prod(defect.value for defect in sick if defect.effect is Effect.TAIL)
    return shift, tail


_LATENCIES: dict[tuple[float, float, float], Floats] = {}


def latency_bins(median_ms: float, shift: float, tail: float) -> Floats:
    """Return the probability of each latency bin, shape (226,), for a lognormal latency.

    All answers take `shift` times as long, and those above the 90th percentile `tail` times as long again.
    """
    key = (median_ms, shift, tail)
    if key not in _LATENCIES:
        edges = BIN_RATIO ** np.arange(BINS) / shift
        kink = median_ms * math.exp(SIGMA * 1.2816)
        beyond = edges > kink
        reached = np.where(beyond, np.maximum(edges / tail, kink), edges)
        z = np.log(reached / median_ms) / SIGMA / math.sqrt(2)
        upto = np.array([0.5 * (1 + math.erf(value)) for value in z])
        upto[-1] = 1.0
        found = np.diff(upto, prepend=0.0)
        found[found < 1e-9] = 0.0
        _LATENCIES[key] = found / found.sum()
    return _LATENCIES[key]


def bursts_of(scenario: Scenario, seed: int, run: int) -> tuple[tuple[float, float, float], ...]:
    """Return (begin, end, failure rate) of the outages that both versions share, seconds since the start."""
    if not scenario.shared_bursts:
        return ()
    rng = np.random.default_rng((seed, run, 4))
    count = int(rng.poisson(scenario.horizon_s / DAY_S))
    begins = np.sort(rng.random(count) * scenario.horizon_s)
    lasts = rng.uniform(300.0, 1800.0, count)
    rates = rng.choice([0.05, 0.3, 0.9], count)
    return tuple(
        (float(a), float(a + lasting), float(rate)) for a, lasting, rate in zip(begins, lasts, rates, strict=True)
    )

"""Seeded draws: what all users do in a slice of time, as sums by arm, and the ticks that tell of it.

A slice is drawn once. It can be told as one tick, alone or with its neighbours, or cut into many: requests fall on the
parts as a Poisson process's do, failures lie where they were drawn, so coarse and fine ticks tell of the same requests.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    outcome_baseline,
    told_by_v1,
)
from crossfade.simulation.people import Floats, Ints, make_people
from crossfade.simulation.register import Named, Register
from crossfade.simulation.traffic import DAY_S, HOUR_S, diurnal

_SOURCES = frozenset({"simulation"})
_TIMING_MS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Slice:
    """A stretch of time in which nothing changes but chance; sums by arm, in the order of `World.arms`."""

    number: int
    start: float
    end: float
    requests: Ints
    """(arms,)."""
    failures: Ints
    """(arms,)."""
    failing: Ints
    """(sum of failures,): the user behind each failure, arm by arm."""
    failed_at: Floats
    """The same shape: when, as a part (0..1) of the slice."""
    critical: Ints
    """(arms,): of the failures, the first so many were no answer at all."""
    missing: Ints
    """(facts, arms): answers in which the fact says no, or another value."""
    bins: Ints
    """(arms, bins that occur): answers by latency."""
    outcomes: Ints
    """(outcomes, 2, arms): units of which one was posted or counted, and the sum of their values."""

    def failed(self, arm: int) -> slice:
        """Return where an arm's failures lie."""
        first = int(self.failures[:arm].sum())
        return slice(first, first + int(self.failures[arm]))


class World:
    """One run's users and its generators; slices are drawn from it by number."""

    def __init__(self, scenario: Scenario, seed: int, run: int) -> None:
        self.scenario = scenario
        self._seed = (seed, run)
        self.people = make_people(scenario, np.random.default_rng((seed, run, 0)))
        self.register = Register(len(self.people.everyone.ids))
        self.bursts = bursts_of(scenario, seed, run)
        regions = scenario.regions
        self.arms = tuple(
            Arm(version, regions[group.region].name, group.cohort)
            for group in self.people.groups
            for version in (Version.V2, Version.V1)
        )
        staff = scenario.plan.staff_cohorts()
        self.of_users = np.array([arm.version is Version.V2 and arm.cohort not in staff for arm in self.arms])
        """(arms,): whether an arm's requests are V2's, of users who aren't staff."""
        self._on_v2 = np.array([arm.version is Version.V2 for arm in self.arms])
        self._region = np.repeat([group.region for group in self.people.groups], 2)
        self._offsets = np.array([regions[group.region].offset_h for group in self.people.groups]).repeat(2)
        self._healthy = failure_baseline(scenario.plan)
        self._median = latency_median_ms(scenario.plan)
        self._facts = tuple(m for m in scenario.plan.metrics if m.kind in (MetricKind.AVAILABILITY, MetricKind.RATIO))
        self._outcomes = tuple({m.outcome: m for m in scenario.plan.metrics if m.outcome}.values())
        self._timings = tuple(m for m in scenario.plan.metrics if m.kind is MetricKind.TIMING)
        self._breakers = tuple(m for m in scenario.plan.metrics if m.kind is MetricKind.BREAKER)
        self._split: Split | None = None
        self._spans = self._chronic_spans = np.zeros((0, 2), dtype=np.int64)
        self._chances: dict[tuple[Defect, ...], Floats] = {}

    def draw(
        self, number: int, start: float, end: float, *, begun: float, split: Split, ill: Sequence[Defect]
    ) -> Slice:
        """Return a slice of plan time [start, end) under a split, with the defects that V2 has in it.

        `begun` is the rollout's start, from which bursts are counted.
        """
        rng = np.random.default_rng((*self._seed, 1, number))
        if split != self._split:
            self._split = split
            self._spans = self.people.everyone.sides(split, self.people.groups)
            self._chronic_spans = self.people.chronic.sides(split, self.people.groups)
        burst = next((rate for a, b, rate in self.bursts if a <= start - begun < b), 0.0)
        middle = (start + end) / 2
        drift = 1.0
        load = self.scenario.rate * (end - start) * self.people.everyone.weights(self._spans)
        if self.scenario.curve is Curve.DIURNAL:
            load = load * diurnal((middle / HOUR_S + self._offsets) % 24)
            drift = 1 + DRIFT * math.sin(2 * math.pi * middle / DAY_S)
        requests = rng.poisson(load)
        rates, critical = self._failure_rates(ill, drift, burst)
        failures, failing, failed_at = self._failures(rng, requests, rates)
        bad = self._bad_facts(ill)
        return Slice(
            number=number,
            start=start,
            end=end,
            requests=requests,
            failures=failures,
            failing=failing,
            failed_at=failed_at,
            critical=rng.binomial(failures, critical),
            missing=rng.binomial(requests, bad) if len(bad) else np.zeros((0, len(requests)), dtype=np.int64),
            bins=rng.multinomial(requests, self._latencies(ill)),
            outcomes=self._posted(rng, requests),
        )

    def cut(self, part: Slice, seconds: float) -> list[dict[Arm, Cell]]:
        """Return the cells of a slice by parts of about so many seconds."""
        parts = max(1, round((part.end - part.start) / seconds))
        rng = np.random.default_rng((*self._seed, 2, part.number))
        result: list[dict[Arm, Cell]] = [{} for _ in range(parts)]
        for arm in np.flatnonzero(part.requests).tolist():
            for cells, cell in zip(result, self._parts(rng, part, arm, parts), strict=True):
                if cell.requests or cell.outcomes:
                    cells[self.arms[arm]] = cell
        return result

    def whole(self, parts: Sequence[Slice]) -> dict[Arm, Cell]:
        """Return the cells of slices that follow each other as those of one tick."""
        requests, critical, missing, bins, outcomes = (
            np.sum([getattr(part, name) for part in parts], axis=0)
            for name in ("requests", "critical", "missing", "bins", "outcomes")
        )
        times = [part.start + part.failed_at * (part.end - part.start) for part in parts]
        cells = {}
        for arm in np.flatnonzero(requests).tolist():
            where = [part.failed(arm) for part in parts]
            cells[self.arms[arm]] = self._cell(
                arm,
                int(requests[arm]),
                failing=np.concatenate([part.failing[at] for part, at in zip(parts, where, strict=True)]),
                times=np.concatenate([moments[at] for moments, at in zip(times, where, strict=True)]),
                critical=int(critical[arm]),
                missing=missing[:, arm],
                bins=bins[arm],
                outcomes=outcomes[:, :, arm],
            )
        return cells

    def seen(self, part: Slice, metrics: Collection[str]) -> tuple[int, int]:
        """Return V2's requests of users in a slice, and those that failed or lack what one of the metrics counts."""
        lacking = [row for row, metric in enumerate(self._facts) if metric.name in metrics and not _is_ratio(metric)]
        bad = part.failures + part.missing[lacking].sum(axis=0)
        return int(part.requests[self.of_users].sum()), int(bad[self.of_users].sum())

    # ── what is drawn from ──────────────────────────────────────────────────────────────────────────────

    def _failure_rates(self, ill: Sequence[Defect], drift: float, burst: float) -> tuple[Floats, Floats]:
        """Return, by arm, the failure rate, and the part of the failures that are no answer at all."""
        metrics = {metric.name: metric.kind for metric in self.scenario.plan.metrics}
        rates, critical = np.full(len(self.arms), self._healthy * drift), np.zeros(len(self.arms))
        for defect in ill:
            if metrics.get(defect.metric) is MetricKind.FAILURE_RATE:
                rates[self._sick(defect)] = defect.value * drift
        for defect in ill:
            if metrics.get(defect.metric) is MetricKind.CRITICAL_ERRORS and defect.value > 0:
                sick = self._sick(defect)
                rates[sick] += defect.value
                critical[sick] = defect.value / rates[sick]
        return np.clip(rates, burst, 1.0), critical

    def _sick(self, defect: Defect) -> NDArray[np.bool_]:
        """Tell which arms a defect befalls."""
        here = [defect.region in (None, region.name) for region in self.scenario.regions]
        return np.asarray(self._on_v2 & np.array(here)[self._region])

    def _bad_facts(self, ill: Sequence[Defect]) -> Floats:
        """Return the share of answers without what a fact counts, shape (facts, arms); 0 where nobody tells it."""
        found = np.zeros((len(self._facts), len(self.arms)))
        for row, metric in enumerate(self._facts):
            found[row] = np.where(self._on_v2 | told_by_v1(metric), fact_baseline(metric), 0.0)
            for defect in ill:
                if defect.metric == metric.name:
                    found[row, self._sick(defect)] = 1 - defect.value
        return found

    def _latencies(self, ill: Sequence[Defect]) -> Floats:
        """Return the probability of each latency bin by arm, shape (arms, bins that occur)."""
        slow = tuple(defect for defect in ill if defect.effect is not Effect.RATE)
        if slow not in self._chances:
            table = np.empty((len(self.arms), BINS))
            for arm in range(len(self.arms)):
                mine = [defect for defect in slow if self._sick(defect)[arm]]
                table[arm] = latency_bins(self._median, *_slowness(mine))
            self._chances[slow] = table[:, : int(np.flatnonzero(table.any(axis=0)).max()) + 1]
        return self._chances[slow]

    def _posted(self, rng: np.random.Generator, requests: Ints) -> Ints:
        """Draw units and values of outcomes, alike on both versions: one a user and day, or one a request."""
        scenario = self.scenario
        per_request = min(1.0, scenario.users / (scenario.rate * DAY_S))
        result = np.zeros((len(self._outcomes), 2, len(requests)), dtype=np.int64)
        for row, metric in enumerate(self._outcomes):
            result[row, 0] = requests if metric.query else rng.binomial(requests, per_request)
            result[row, 1] = rng.binomial(result[row, 0], outcome_baseline(metric))
        return result

    def _failures(self, rng: np.random.Generator, requests: Ints, rates: Floats) -> tuple[Ints, Ints, Floats]:
        """Draw who fails and when: failures by arm, then users and moments in the order of the arms.

        `clustered` failures at once for each user in trouble.
        """
        size, chronic = self.scenario.clustered, self.people.chronic_total > 0
        scattered = rates * (1 - CHRONIC_SHARE) if chronic else rates
        counts = rng.binomial(requests, scattered / size)
        who = self.people.everyone.pick(self._spans, counts, rng)
        if chronic:
            weights = self.people.everyone.weights(self._spans)
            share = self.people.chronic.weights(self._chronic_spans) / np.maximum(weights, 1e-12)
            more = rng.poisson(requests * rates * CHRONIC_SHARE * share / self.people.chronic_total / size)
            who = np.concatenate([who, self.people.chronic.pick(self._chronic_spans, more, rng)])
            arms = np.concatenate([_repeat(counts), _repeat(more)])
            who = who[np.argsort(arms, kind="stable")]
            counts = counts + more
        failures, at = np.minimum(counts * size, requests), rng.random(len(who))
        if size > 1 or chronic:
            who, at = np.repeat(who, size), np.repeat(at, size)
            place = np.arange(len(who)) - np.repeat(np.cumsum(counts * size) - counts * size, counts * size)
            kept = place < np.repeat(failures, counts * size)
            who, at = who[kept], at[kept]
        return failures, who, at

    # ── cells ───────────────────────────────────────────────────────────────────────────────────────────

    def _parts(self, rng: np.random.Generator, part: Slice, arm: int, parts: int) -> list[Cell]:
        """Cut one arm into equal parts of time; its requests fall on them as a Poisson process's do."""
        total, mine = int(part.requests[arm]), part.failed(arm)
        where = np.minimum((part.failed_at[mine] * parts).astype(np.int64), parts - 1)
        failures = np.bincount(where, minlength=parts)
        requests = failures + rng.multinomial(total - len(where), np.full(parts, 1 / parts))
        owners = np.repeat(np.arange(parts), requests)
        width = part.bins.shape[1]
        mixed = rng.permutation(np.repeat(np.arange(width), part.bins[arm]))
        bins = np.bincount(owners * width + mixed, minlength=parts * width).reshape(parts, width)
        missing = np.zeros((len(self._facts), parts), dtype=np.int64)
        for row, count in enumerate(part.missing[:, arm].tolist()):
            if count:
                missing[row] = np.bincount(owners[rng.permutation(total)[:count]], minlength=parts)
        critical = np.bincount(where[: part.critical[arm]], minlength=parts)
        order = np.argsort(where, kind="stable")
        failing, ends = part.failing[mine][order], np.cumsum(failures)
        starts = part.start + np.arange(parts) * (part.end - part.start) / parts
        outcomes = np.zeros((len(self._outcomes), 2, parts), dtype=np.int64)
        for row, metric in enumerate(self._outcomes):
            outcomes[row, :, 0] = part.outcomes[row, :, arm]  # posted together
            if metric.query:
                chosen = owners[rng.permutation(total)[: part.outcomes[row, 1, arm]]]
                outcomes[row] = requests, np.bincount(chosen, minlength=parts)
        return [
            self._cell(
                arm,
                int(requests[index]),
                failing=failing[ends[index] - failures[index] : ends[index]],
                times=np.full(failures[index], starts[index]),
                critical=int(critical[index]),
                missing=missing[:, index],
                bins=bins[index],
                outcomes=outcomes[:, :, index],
            )
            for index in range(parts)
        ]

    def _cell(
        self,
        arm: int,
        requests: int,
        *,
        failing: Ints,
        times: Floats,
        critical: int,
        missing: Ints,
        bins: Ints,
        outcomes: Ints,
    ) -> Cell:
        facts, timings, on_v2 = {}, {}, self.arms[arm].version is Version.V2
        for metric, no in zip(self._facts, missing.tolist(), strict=True):
            if on_v2 or told_by_v1(metric):
                yes, other = (metric.fact_value, "other") if _is_ratio(metric) else ("1", "0")
                facts[metric.fact] = Counter({yes: requests - no, other: no} if no else {yes: requests})
        if on_v2:
            facts |= {metric.fact: Counter(closed=requests) for metric in self._breakers}
        for metric in self._timings:
            timings[metric.fact] = (requests, requests * (metric.baseline or _TIMING_MS))
        used = np.flatnonzero(bins)
        return Cell(
            requests=requests,
            failures=len(failing),
            critical=critical,
            failing_users=Named(failing, times) if len(failing) else set(),
            latency=Counter(dict(zip(used.tolist(), bins[used].tolist(), strict=True))),
            facts=facts,
            timings=timings,
            outcomes={
                metric.outcome: (units, float(total))
                for metric, (units, total) in zip(self._outcomes, outcomes.tolist(), strict=True)
                if units
            },
        )


def _is_ratio(metric: Metric) -> bool:
    return metric.kind is MetricKind.RATIO


def _repeat(counts: Ints) -> Ints:
    return np.repeat(np.arange(len(counts)), counts)


def tick(number: int, start: float, length: float, cells: Mapping[Arm, Cell]) -> Tick:
    """Return a tick that a collector reported; simulated ticks are numbered in a row, whatever their length."""
    return Tick(number=number, start=start, length=length, cells=cells, sources=_SOURCES)


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
        found[found < 1e-7] = 0.0
        _LATENCIES[key] = found / found.sum()
    return _LATENCIES[key]


def bursts_of(scenario: Scenario, seed: int, run: int) -> tuple[tuple[float, float, float], ...]:
    """Return (begin, end, failure rate) of the outages that both versions share, seconds since the start."""
    if not scenario.shared_bursts:
        return ()
    rng = np.random.default_rng((seed, run, 4))
    count = int(rng.poisson(scenario.horizon_s / DAY_S))
    begins = np.sort(rng.integers(0, int(scenario.horizon_s), count))  # whole seconds: sums of them are exact
    lasts = rng.integers(300, 1801, count)
    rates = rng.choice([0.05, 0.3, 0.9], count)
    return tuple(
        (float(a), float(a + lasting), float(rate)) for a, lasting, rate in zip(begins, lasts, rates, strict=True)
    )

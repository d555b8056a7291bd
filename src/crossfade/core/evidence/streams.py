"""Which streams of evidence a plan calls for, how the error budget is split among them, and how ticks move them.

Budget (documented in docs/explanation/evidence.md): of the plan's false-rollback probability a quarter belongs to gross
breaches (`gross.py`), the rest to one weighted total over the metrics that may roll back and their regions (EVIDENCE
1.9). A weighted mean of e-processes is one, however they depend on each other (Vovk and Wang, arXiv:1912.06116).
Guardrails that hold or alert have a total of their own.

Periodic evidence begins anew each week, or every ten minutes. It must not know who failed before, which other evidence
does, so the two are never added up: each is held against the bar, and their weights add up to 1 (union bound).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from crossfade.core.evidence import burst, mass, noninferiority
from crossfade.core.evidence.absolute import alternatives, log_e_absolute
from crossfade.core.evidence.attribution import blamed
from crossfade.core.evidence.ratio import FINE_GRID, HARM_GRID, RARE_GRID, Floats, log_e_ratio, log_mixture, weighted_sr
from crossfade.core.evidence.sequences import RATIO_GRID
from crossfade.core.evidence.users import BLOCK_S, WEEK_S
from crossfade.core.plan import Action, Comparison, Metric, MetricKind, Plan

GROSS_SHARE = 0.25
HOLD_ALPHA = 0.10
"""Probability that some guardrail without a rollback is ever wrongly shown breached in a whole rollout."""
REGIONAL_SHARE = 0.25
SLOTS = 20
"""Regions with streams of their own; the others are pooled."""
_SLOT_WEIGHTS = [1 / (j + 3) for j in range(SLOTS)]
SLOT_WEIGHT: Floats = np.array(_SLOT_WEIGHTS, dtype=np.float64) / sum(_SLOT_WEIGHTS)
"""By order of appearance: fixed in advance, because nobody knows how many regions will come."""

BINARY = (
    MetricKind.FAILURE_RATE,
    MetricKind.AVAILABILITY,
    MetricKind.RATIO,
    MetricKind.LATENCY,
    MetricKind.LATENCY_MEAN,
    MetricKind.OUTCOME,
    MetricKind.VALUE,
    MetricKind.QUERIED,
)
BREAKER_BLOCK_S = 300.0
"""A breaker's share of time open is counted in blocks: a tick is its part of one."""
PLAIN = (MetricKind.CRITICAL_ERRORS, MetricKind.TIMING, MetricKind.COMPLAINTS)
"""Kinds that are summed, and not compared."""
SPARSE = (MetricKind.OUTCOME, MetricKind.VALUE, MetricKind.QUERIED)
"""Kinds whose counts don't come with the requests."""


class Unit(StrEnum):
    """What is counted as bad; see `users.py`."""

    FIRST = "first"
    WEEKLY = "weekly"
    ACUTE = "acute"
    DISTINCT = "distinct"
    RAW = "raw"


PERIOD_S = {Unit.WEEKLY: WEEK_S, Unit.ACUTE: BLOCK_S}
"""Units whose evidence begins anew."""
BY_SHARE = (Unit.FIRST, Unit.WEEKLY, Unit.ACUTE)
"""Units in which the sides weigh as the shares do, because the hash draws users and not requests."""


class Bet(StrEnum):
    """What a ratio's e-process bets on."""

    WORSE = "worse"
    """More bad ones on V2 than `level` times V1's."""
    RARE = "rare"
    """The same where V1 next to never has bad ones: three that all fall on V2 must be enough at a share of 5 %."""
    MORE = "more"
    """A value of more than `level` times V1's, and be it by little."""
    LESS = "less"
    """A value of less than `level` times V1's: (R) with theta < theta0, whose proof holds with the signs turned."""


_ALTERNATIVES: Mapping[Bet, Floats] = {
    Bet.WORSE: HARM_GRID,
    Bet.RARE: RARE_GRID,
    Bet.MORE: FINE_GRID,
    Bet.LESS: 1 / FINE_GRID,
}


@dataclass(frozen=True, slots=True)
class Measure:
    """One way of counting one metric; an index into the counts of a tick."""

    metric: Metric
    unit: Unit

    @property
    def is_sparse(self) -> bool:
        """Tell whether its counts come apart from the requests."""
        return self.metric.kind in SPARSE


@dataclass(frozen=True, slots=True)
class Stream:
    """One e-process: 13 numbers. `level` is the null's ratio, or its rate for absolute streams."""

    measure: int
    level: float
    bet: Bet = Bet.WORSE


@dataclass(frozen=True, slots=True)
class Part:
    """A share of a metric's evidence: the smallest of the streams named (AND), by row."""

    weight: float
    rows: tuple[int, ...]
    alone: bool
    """Its evidence is periodic, and not added to the rest."""
    acute: bool


@dataclass(frozen=True, slots=True)
class RegionalPart:
    """A share of a metric's evidence that is split among regions: a regional stream, by index."""

    weight: float
    index: int
    alone: bool


@dataclass(frozen=True, slots=True)
class Budget:
    """Guardrails that share an error probability alpha: their weighted total is held against 1/alpha."""

    weights: Mapping[str, float]
    """By metric; they add up to 1."""
    needed: float
    """ln(1/alpha)."""

    def bar(self, metric: str) -> float:
        """Return ln of the evidence that is enough from one metric whatever the others show."""
        return self.needed - math.log(self.weights[metric])


@dataclass(frozen=True, slots=True)
class Plane:
    """The parameters at which one measure's (R) is computed, side by side: rows, regional rows, promotion, profile."""

    theta: Floats
    theta0: Floats
    rows: tuple[int, ...]
    regional: tuple[int, ...]
    compared: int | None
    """Index among the metrics compared for promotion, or None."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layout:
    """What the plan calls for in one phase. Derived from the plan, never stored."""

    phase: int
    planned_s: float
    measures: tuple[Measure, ...]
    ratio: tuple[Stream, ...]
    absolute: tuple[Stream, ...]
    """On the compared V2 requests."""
    wide: tuple[Stream, ...]
    """On all of V2's requests, users without a control included: they hold and alert, and never roll back."""
    regional: tuple[Stream, ...]
    parts: Mapping[str, tuple[Part, ...]]
    regional_parts: Mapping[str, tuple[RegionalPart, ...]]
    budgets: tuple[Budget, ...]
    """Of the guardrails that roll back, and of the others."""
    tolerance_s: float
    """How long a burst of V2's may be that rolls nothing back; 0: none."""
    compared: tuple[int, ...]
    """Measures whose ratio is shown and asked for promotion."""
    planes: tuple[Plane | None, ...]
    plain: tuple[Metric, ...]
    """Metrics whose values are shown without a test: critical errors and timings."""

    @property
    def rows(self) -> int:
        """Return the number of streams before the regional ones."""
        return len(self.ratio) + len(self.absolute) + len(self.wide)

    def periods(self, slots: int) -> Floats:
        """Return each row's period in seconds, infinity for most, with the regional rows of so many slots."""
        ratio, regional = (
            [PERIOD_S.get(self.measures[stream.measure].unit, math.inf) for stream in streams]
            for streams in (self.ratio, self.regional)
        )
        others = [math.inf] * (len(self.absolute) + len(self.wide))
        return np.array(ratio + others + regional * slots)

    def bars(self, slots: int) -> Floats:
        """Return ln of what is enough from each row alone, with the regional rows of so many slots.

        `NO_BAR` for rows that a tolerance doesn't slow down: of guardrails that don't roll back, and acute ones.
        """
        found = np.full(self.rows + slots * len(self.regional), burst.NO_BAR)
        acting = self.budgets[0]
        for name in acting.weights:
            for part in self.parts[name]:
                rows = [row for row in part.rows if not part.acute]
                found[rows] = np.minimum(found[rows], acting.bar(name) - math.log(part.weight))
            for regional in self.regional_parts.get(name, ()):
                first = self.rows + regional.index
                found[first :: len(self.regional)] = acting.bar(name) - np.log(regional.weight * SLOT_WEIGHT[:slots])
        return found

    def measure_of(self, metric: str, unit: Unit | None = None) -> int | None:
        """Return the index of a metric's measure: the unit asked for, else the one that is shown to people."""
        wanted = (unit,) if unit else (Unit.DISTINCT, Unit.RAW)
        for index, measure in enumerate(self.measures):
            if measure.metric.name == metric and measure.unit in wanted:
                return index
        return None


def bad_limit(metric: Metric) -> float | None:
    """Return the guardrail's breach as a rate of bad outcomes, None where it isn't a bound on such a rate.

    Bad is: a failure, a fact that says no, an answer slower than the limit (of which 1 - q are allowed).
    """
    breach = metric.guard.breach if metric.guard else None
    if breach is None or breach.of_v1 or not is_tested(metric):
        return None
    upward = breach.is_upper
    match metric.kind:
        case MetricKind.LATENCY:
            rate = 1 - metric.quantile if upward and metric.quantile else None
        case MetricKind.FAILURE_RATE:
            rate = breach.value if upward else None
        case MetricKind.LATENCY_MEAN:
            rate = None
        case MetricKind.BREAKER:
            rate = breach.value if upward else None
        case MetricKind.AVAILABILITY:
            rate = None if upward else 1 - breach.value
        case _:
            rate = breach.value if upward else 1 - breach.value
    return None if rate is None else min(max(rate, 1e-6), 1 - 1e-6)


def is_tested(metric: Metric) -> bool:
    """Tell whether e-processes watch a metric; a breaker's share of time open, but not for how long it is open."""
    held_to_share = metric.guard is not None and metric.guard.breach is not None
    return metric.kind in BINARY or (metric.kind is MetricKind.BREAKER and held_to_share)


def counts_absence(metric: Metric) -> bool:
    """Tell whether bad means that the value is missing (`cache_hit < 20%`) rather than there.

    What is compared with V1's value (`< 95% of v1`) is counted as it is; so is what users do, where nothing is bad.
    """
    if metric.relative is not None:
        return False
    if metric.kind is MetricKind.AVAILABILITY:
        return True
    breach = metric.guard.breach if metric.guard else None
    limit = breach or metric.target
    if limit is None:
        return metric.behaviour is None
    fewer = limit.comparison in (Comparison.LT, Comparison.LE)
    return fewer if breach else not fewer


def is_paced(metric: Metric) -> bool:
    """Tell whether a latency's guardrail is only breached where V2 is slower than V1, too: always to roll back."""
    guard = metric.guard
    if guard is None or metric.kind is not MetricKind.LATENCY:
        return False
    return guard.action is Action.ROLLBACK or guard.worse_than_v1


class _Builder:
    """Collects streams while the layout is made."""

    def __init__(self) -> None:
        self.measures: list[Measure] = []
        self.ratio: list[Stream] = []
        self.absolute: list[Stream] = []
        self.wide: list[Stream] = []
        self.regional: list[Stream] = []
        self.parts: dict[str, list[tuple[float, tuple[tuple[str, int], ...]]]] = {}
        self.regional_parts: dict[str, list[tuple[float, int]]] = {}

    def measure(self, metric: Metric, unit: Unit) -> int:
        wanted = Measure(metric, unit)
        if wanted not in self.measures:
            self.measures.append(wanted)
        return self.measures.index(wanted)

    def stream(self, kind: str, measure: int, level: float, bet: Bet = Bet.WORSE) -> tuple[str, int]:
        streams: list[Stream] = getattr(self, kind)
        stream = Stream(measure, level, bet)
        if stream not in streams:
            streams.append(stream)
        return kind, streams.index(stream)

    def part(self, metric: Metric, weight: float, *streams: tuple[str, int]) -> None:
        self.parts.setdefault(metric.name, []).append((weight, streams))

    def region(self, metric: Metric, weight: float, measure: int, level: float, bet: Bet = Bet.WORSE) -> None:
        index = self.stream("regional", measure, level, bet)[1]
        self.regional_parts.setdefault(metric.name, []).append((weight, index))

    def unit(self, kind: str, index: int) -> Unit:
        stream: Stream = getattr(self, kind)[index]
        return self.measures[stream.measure].unit

    def row(self, kind: str, index: int) -> int:
        before = {"ratio": 0, "absolute": len(self.ratio), "wide": len(self.ratio) + len(self.absolute)}
        return before[kind] + index


def layout_of(plan: Plan, phase: int) -> Layout:
    """Return the streams that a plan calls for in a phase."""
    build = _Builder()
    watched = [metric for metric in plan.metrics if is_tested(metric)]
    for metric in watched:
        build.measure(metric, Unit.DISTINCT if metric.kind is MetricKind.FAILURE_RATE else Unit.RAW)
        _add_streams(build, metric, plan)
    compared = tuple(
        index
        for index, measure in enumerate(build.measures)
        if measure.unit in (Unit.DISTINCT, Unit.RAW)
        and measure.metric.kind not in (MetricKind.LATENCY, MetricKind.BREAKER)
    )
    margin = plan.phases[phase].margin
    return Layout(
        phase=phase,
        planned_s=mass.planned_seconds(plan),
        measures=tuple(build.measures),
        ratio=tuple(build.ratio),
        absolute=tuple(build.absolute),
        wide=tuple(build.wide),
        regional=tuple(build.regional),
        parts={
            name: tuple(
                Part(
                    weight,
                    tuple(build.row(*stream) for stream in streams),
                    alone=any(build.unit(*stream) in PERIOD_S for stream in streams),
                    acute=any(build.unit(*stream) is Unit.ACUTE for stream in streams),
                )
                for weight, streams in parts
            )
            for name, parts in build.parts.items()
        },
        regional_parts={
            name: tuple(
                RegionalPart(weight, index, build.unit("regional", index) in PERIOD_S) for weight, index in parts
            )
            for name, parts in build.regional_parts.items()
        },
        budgets=_budgets(plan, [metric for metric in watched if metric.name in build.parts]),
        tolerance_s=plan.confidence.burst_tolerance_s,
        compared=compared,
        planes=tuple(_plane(build, index, compared, margin) for index in range(len(build.measures))),
        plain=tuple(m for m in plan.metrics if m.kind in PLAIN),
    )


def _add_streams(build: _Builder, metric: Metric, plan: Plan) -> None:
    """Add a metric's e-processes by EVIDENCE 1.4, 1.5 and 1.8; none where it is only monitored."""
    limit = bad_limit(metric)
    guard = metric.guard
    if guard is None or guard.action is Action.MONITOR:
        return
    if metric.relative is not None:
        bet = Bet.MORE if metric.relative.is_upper else Bet.LESS
        build.part(metric, 1.0, build.stream("ratio", build.measure(metric, Unit.RAW), metric.relative.value, bet))
        return
    if limit is None:
        return
    if is_paced(metric):  # with the evidence of `pace`, which sees more than one threshold
        build.part(metric, 1.0, build.stream("absolute", build.measure(metric, Unit.RAW), limit))
        return
    if guard.action is not Action.ROLLBACK:
        shown = build.measure(metric, Unit.DISTINCT if metric.kind is MetricKind.FAILURE_RATE else Unit.RAW)
        if guard.worse_than_v1:
            build.part(metric, 1.0, build.stream("absolute", shown, limit), build.stream("ratio", shown, 1.0))
        else:
            build.part(metric, 1.0, build.stream("wide", shown, limit))
        return
    regions = plan.assignment.region is not None and metric.kind not in SPARSE
    everywhere = 1 - REGIONAL_SHARE if regions else 1.0
    if metric.kind is MetricKind.FAILURE_RATE:
        _add_failure_streams(build, metric, everywhere)
        _add_acute(build, metric, limit, everywhere, bursts=plan.confidence.burst_tolerance_s > 0)
        return
    raw = build.measure(metric, Unit.RAW)
    bet = Bet.RARE if _is_rare(metric, limit) else Bet.WORSE
    both = build.stream("absolute", raw, limit), build.stream("ratio", raw, 1.0, bet)
    build.part(metric, 0.1 * everywhere, *both)
    build.part(metric, 0.9 * everywhere, build.stream("ratio", raw, 1.1, bet))
    if regions:
        build.region(metric, REGIONAL_SHARE, raw, 1.1, bet)


def _is_rare(metric: Metric, limit: float) -> bool:
    """Tell whether the plan expects V1 to be a tenth as often without the fact as its limit allows, or less.

    Only the alternatives depend on it. A wrong expectation costs power; the null stays that V2 is no worse than V1.
    """
    wanted = metric.target.value if metric.target is not None and not metric.target.of_v1 else None
    having = metric.baseline if metric.baseline is not None else wanted
    return metric.kind is MetricKind.AVAILABILITY and having is not None and 1 - having <= limit / 10


def _add_failure_streams(build: _Builder, metric: Metric, everywhere: float) -> None:
    """Add a failure rate's e-processes: 0.80 first failures, 0.12 weekly ones (and 0.08 acute ones).

    All are tested against "no worse" itself (null ratio 1): within a period the hash puts each newly failing user on V2
    with probability s, so that each is exactly valid, whatever users do. Their alternatives begin at 1.3, so evidence
    shrinks while V2 is less than 1.14 times as bad, and the margin of 1.1 is kept by drift. Tested against 1.1 they
    need 1.4 times as many requests to see the same defect.
    """
    first = build.measure(metric, Unit.FIRST)
    weekly = build.measure(metric, Unit.WEEKLY)
    build.part(metric, 0.80 * everywhere, build.stream("ratio", first, 1.0))
    build.part(metric, 0.12 * everywhere, build.stream("ratio", weekly, 1.0))
    if everywhere < 1:
        build.region(metric, 0.8 * (1 - everywhere), first, 1.0)
        build.region(metric, 0.2 * (1 - everywhere), weekly, 1.0)


def _add_acute(build: _Builder, metric: Metric, limit: float, everywhere: float, *, bursts: bool) -> None:
    """Add a failure rate's acute e-process; where bursts are tolerated it speaks only of a V2 above ten limits."""
    streams = [build.stream("ratio", build.measure(metric, Unit.ACUTE), 1.0)]
    if bursts:
        shown = build.measure(metric, Unit.DISTINCT)
        streams.append(build.stream("absolute", shown, min(max(0.10, 10 * limit), 0.5)))
    build.part(metric, 0.08 * everywhere, *streams)


_KIND_WEIGHT = {
    MetricKind.FAILURE_RATE: 0.45,
    MetricKind.AVAILABILITY: 0.20,
    MetricKind.LATENCY: 0.20,
    MetricKind.RATIO: 0.15,
    MetricKind.OUTCOME: 0.15,
    MetricKind.VALUE: 0.15,
}


def _budgets(plan: Plan, metrics: Sequence[Metric]) -> tuple[Budget, ...]:
    acting = [metric for metric in metrics if metric.guard and metric.guard.action is Action.ROLLBACK]
    holding = [metric for metric in metrics if metric not in acting]
    kinds = [metric.kind for metric in acting]
    total = sum(_KIND_WEIGHT[kind] for kind in set(kinds))
    alpha = plan.confidence.false_rollback * (1 - GROSS_SHARE)
    roll_back = {m.name: _KIND_WEIGHT[m.kind] / total / kinds.count(m.kind) for m in acting}
    hold = {m.name: 1 / len(holding) for m in holding}
    return (Budget(roll_back, -math.log(alpha)), Budget(hold, -math.log(HOLD_ALPHA)))


def _promotable(metric: Metric, margin: float) -> tuple[float, Floats]:
    """Return the ratio that V2 must be shown to be on the good side of, and the alternatives."""
    target = metric.target
    if target is None or not target.of_v1:
        return margin, noninferiority.alternatives(margin)
    return target.value, noninferiority.alternatives(target.value, more=target.is_upper)


def _plane(build: _Builder, measure: int, compared: tuple[int, ...], margin: float) -> Plane | None:
    rows = tuple(i for i, stream in enumerate(build.ratio) if stream.measure == measure)
    regional = tuple(i for i, stream in enumerate(build.regional) if stream.measure == measure)
    streams = [build.ratio[i] for i in rows] + [build.regional[i] for i in regional]
    theta = [stream.level * _ALTERNATIVES[stream.bet] for stream in streams]
    theta0 = [np.full(len(HARM_GRID), stream.level) for stream in streams]
    if measure in compared:
        level, better = _promotable(build.measures[measure].metric, margin)
        theta += [better, RATIO_GRID]
        theta0 += [np.full(len(better), level), np.ones(len(RATIO_GRID))]
    if not theta:
        return None
    index = compared.index(measure) if measure in compared else None
    return Plane(np.concatenate(theta), np.concatenate(theta0), rows, regional, index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """Counts that can be compared, one row per (tick, stratum), in the order of the ticks."""

    tick: NDArray[np.int64]
    """(N,): position of the tick in the batch, rising."""
    slot: NDArray[np.int64]
    """(N,): the region's slot, -1 for a region without one."""
    counts: Floats
    """(N, measures, 4): n1, k1, n2, k2."""
    in_phase: NDArray[np.bool_]
    """(N,): whether it belongs to the present phase, for promotion and the ratio shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """The state of all e-processes."""

    begun_at: float
    promotions: int
    at: float
    """Start of the last tick: what has a period begins anew when the next one lies in another."""
    harm: Floats
    """(rows + slots * regional, 13): M of the weighted Shiryaev-Roberts recursion."""
    spent: Floats
    """(rows + slots * regional,): flowed onset mass that the row has used."""
    waiting: Floats
    """The same shape: onset mass of the start and of promotions that waits for the row's next comparison."""
    best: Floats
    """(rows, 13): the greatest product of any restart, in logs (CUSUM), for the estimate of the onset."""
    onset: Floats
    """(rows, 13): where that restart lies, plan time."""
    block: int
    """Where bursts are tolerated: the number of the block that the last tick began in; see `burst.py`."""
    heights: Floats
    """(rows + slots * regional, 3): ln of the evidence at the start of the last blocks; without rows where none are."""
    limits: Floats
    """(rows + slots * regional,): ln of what counts in this block at most."""
    promote: Floats
    """(compared, 5): sums of ln e of non-inferiority since the phase began."""
    profile: Floats
    """(compared, 33): ln of (R) by ratio since the phase began."""


def begin_streams(layout: Layout, at: float) -> Streams:
    """Return streams without any evidence."""
    rows = layout.rows
    return Streams(
        begun_at=at,
        promotions=0,
        at=at,
        harm=np.zeros((rows, len(HARM_GRID))),
        spent=np.zeros(rows),
        waiting=np.where(np.isfinite(layout.periods(0)), 0.0, mass.START),
        best=np.zeros((rows, len(HARM_GRID))),
        onset=np.full((rows, len(HARM_GRID)), at),
        block=-1,
        heights=np.zeros((rows if layout.tolerance_s else 0, burst.BLOCKS)),
        limits=np.zeros(rows if layout.tolerance_s else 0),
        promote=np.zeros((len(layout.compared), noninferiority.ALTERNATIVES)),
        profile=np.zeros((len(layout.compared), len(RATIO_GRID))),
    )


def next_phase(streams: Streams) -> Streams:
    """Return the streams after a promotion: its onset mass waits, promotion evidence starts anew."""
    number = streams.promotions + 1
    return replace(
        streams,
        promotions=number,
        waiting=streams.waiting + mass.at_promotion(number),
        promote=np.zeros_like(streams.promote),
        profile=np.zeros_like(streams.profile),
    )


def with_slots(layout: Layout, streams: Streams, slots: int) -> Streams:
    """Return the streams with rows for that many regions; a new region has all of its own mass to wait with."""
    missing = layout.rows + slots * len(layout.regional) - len(streams.harm)
    if missing <= 0:
        return streams
    slots = (len(streams.harm) + missing - layout.rows) // len(layout.regional)
    periodic = np.isfinite(layout.periods(slots)[len(streams.harm) :])
    promoted = sum(mass.at_promotion(j + 1) for j in range(streams.promotions))
    slowed = missing if layout.tolerance_s else 0
    return replace(
        streams,
        harm=np.concatenate([streams.harm, np.zeros((missing, len(HARM_GRID)))]),
        spent=np.concatenate([streams.spent, np.zeros(missing)]),
        waiting=np.concatenate([streams.waiting, promoted + np.where(periodic, 0.0, mass.START)]),
        heights=np.concatenate([streams.heights, np.zeros((slowed, burst.BLOCKS))]),
        limits=np.concatenate([streams.limits, layout.bars(slots)[-missing:][:slowed] / burst.BLOCKS]),
    )


def advance(
    layout: Layout, streams: Streams, *, starts: Floats, ends: Floats, entries: Entries, wide: Floats
) -> tuple[Streams, Harm]:
    """Move all streams by T ticks and return the evidence of harm after each of them.

    starts, ends: (T,) plan time. wide: (T, measures, 2), n and k over all of V2. The result doesn't depend on how the
    ticks are cut into batches.
    """
    ticks, rows = len(starts), len(streams.harm)
    log_e = np.zeros((ticks, rows, len(HARM_GRID)))
    compares = np.zeros((ticks, rows), dtype=bool)
    promote, profile = streams.promote.copy(), streams.profile.copy()
    for index, plane in enumerate(layout.planes):
        if plane is not None and len(entries.tick):
            _add_ratio(
                layout,
                plane,
                index,
                entries,
                log_e=log_e,
                compares=compares,
                promote=promote,
                profile=profile,
            )
    _add_absolute(layout, entries, wide, log_e, compares)
    periods = layout.periods(_slots(layout, rows))
    elapsed = mass.flowed(ends - streams.begun_at, layout.planned_s)
    flowed = elapsed[:, None] * np.where(np.isfinite(periods), mass.PERIODIC_FLOW, 1.0)
    added, spent, waiting = _release(streams, compares, flowed)
    best, onset = _restarts(streams, log_e[:, : layout.rows], compares[:, : layout.rows], starts)
    moved, shown = _run(layout, streams, starts=starts, ends=ends, added=added, log_e=log_e)
    moved = replace(moved, spent=spent, waiting=waiting, best=best, onset=onset, promote=promote, profile=profile)
    return moved, _by_metric(layout, shown)


def _run(
    layout: Layout, streams: Streams, *, starts: Floats, ends: Floats, added: Floats, log_e: Floats
) -> tuple[Streams, Floats]:
    """Run all rows' recursions, with their periods and blocks; return ln of each row's evidence, (T, rows), too.

    log_e: (T, rows, 13), overwritten.
    """
    ticks, slots = len(starts), _slots(layout, len(streams.harm))
    most = np.full(log_e.shape[:2], burst.NO_BAR)
    turned = _turns(layout.periods(slots), np.concatenate([[streams.at], starts]))
    begun = _begun(layout, streams.block, starts)
    harm, heights, limits = streams.harm, streams.heights, streams.limits
    for first, last in pairwise([*sorted({0, *begun}), ticks]):
        if first in begun:
            spans = max(1, math.ceil((ends[first] - starts[first]) / layout.tolerance_s))
            harm, heights, limits = burst.next_block(harm, heights, limits, bars=layout.bars(slots), spans=spans)
        if last > first:
            anew = {at - first: rows for at, rows in turned.items() if first <= at < last} if begun else turned
            harm = weighted_sr(harm, added[first:last], log_e[first:last], anew)[-1]
            most[first:last] = limits if layout.tolerance_s else burst.NO_BAR
    moved = replace(
        streams,
        at=float(starts[-1]) if ticks else streams.at,
        harm=harm.copy(),
        block=[streams.block, *begun.values()][-1],
        heights=heights,
        limits=limits,
    )
    return moved, np.minimum(log_mixture(log_e), most)


def _begun(layout: Layout, block: int, starts: Floats) -> dict[int, int]:
    """Return the blocks that begin, by position of their first tick; none where no burst is tolerated."""
    if not layout.tolerance_s:
        return {}
    numbers = (starts // layout.tolerance_s).astype(np.int64)
    return {at: int(numbers[at]) for at in np.flatnonzero(np.diff(numbers, prepend=block)).tolist()}


def _turns(periods: Floats, starts: Floats) -> dict[int, NDArray[np.bool_]]:
    """Return the rows whose period has changed, by position of the tick; starts: (T + 1,), the tick before included."""
    found: dict[int, NDArray[np.bool_]] = {}
    for period in np.unique(periods[np.isfinite(periods)]):
        for position in np.flatnonzero(np.diff(starts // period)).tolist():
            found[position] = found.get(position, False) | (periods == period)
    return found


def _slots(layout: Layout, rows: int) -> int:
    return (rows - layout.rows) // max(1, len(layout.regional))


def _add_ratio(
    layout: Layout,
    plane: Plane,
    measure: int,
    entries: Entries,
    *,
    log_e: Floats,
    compares: NDArray[np.bool_],
    promote: Floats,
    profile: Floats,
) -> None:
    counts = entries.counts[:, measure]
    usable = (counts[:, 0] > 0) & (counts[:, 2] > 0)
    if not usable.any():
        return
    tick, slot = entries.tick[usable], entries.slot[usable]
    counts = counts[usable]
    for row in plane.rows:
        compares[tick, row] = True
    placed = slot >= 0
    where = layout.rows + slot * len(layout.regional)
    for row in plane.regional:
        compares[tick[placed], where[placed] + row] = True
    failed = counts[:, 1] + counts[:, 3] > 0
    if not failed.any():
        return
    tick, placed, where = tick[failed], placed[failed], where[failed]
    value = log_e_ratio(counts[failed], plane.theta, plane.theta0)
    width = len(HARM_GRID)
    for position, row in enumerate(plane.rows):
        _add_at(log_e[:, row], tick, value[:, position * width : (position + 1) * width])
    for position, row in enumerate(plane.regional, start=len(plane.rows)):
        piece = value[placed, position * width : (position + 1) * width]
        np.add.at(log_e, (tick[placed], where[placed] + row), piece)
    if plane.compared is not None:
        inside = value[entries.in_phase[usable][failed], (len(plane.rows) + len(plane.regional)) * width :]
        # summed one after the other, so that batches of any size give the same bits
        total = np.concatenate([np.concatenate([promote[plane.compared], profile[plane.compared]])[None], inside])
        summed = np.cumsum(total, axis=0)[-1]
        promote[plane.compared], profile[plane.compared] = np.split(summed, [noninferiority.ALTERNATIVES])


def _add_absolute(layout: Layout, entries: Entries, wide: Floats, log_e: Floats, compares: NDArray[np.bool_]) -> None:
    row = len(layout.ratio)
    for stream in layout.absolute:
        counts = entries.counts[:, stream.measure]
        usable = (counts[:, 0] > 0) & (counts[:, 2] > 0)
        rates = alternatives(stream.level)
        value = log_e_absolute(counts[usable, 2], counts[usable, 3], rates, np.full_like(rates, stream.level))
        _add_at(log_e[:, row], entries.tick[usable], value)
        compares[entries.tick[usable], row] = True
        row += 1
    for stream in layout.wide:
        rates = alternatives(stream.level)
        n, k = wide[:, stream.measure].T
        log_e[:, row] = log_e_absolute(n, k, rates, np.full_like(rates, stream.level))
        compares[:, row] = n > 0
        row += 1


def _add_at(target: Floats, index: NDArray[np.int64], value: Floats) -> None:
    """Add rows to a target at rising positions, which may repeat."""
    if (np.diff(index) > 0).all():
        target[index] += value  # ten times as fast, and right while no position repeats
    else:
        np.add.at(target, index, value)


def _release(streams: Streams, compares: NDArray[np.bool_], flowed: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the onset mass of each tick and row (T, rows), and what is spent and waiting afterwards.

    flowed: (T, rows), what has flowed for each row by the end of each tick.
    """
    seen = np.where(compares, flowed, 0.0)
    spent = np.maximum.accumulate(np.concatenate([streams.spent[None], seen]), axis=0)
    added = spent[1:] - spent[:-1]
    first = compares & (np.cumsum(compares, axis=0) == 1)
    added += np.where(first, streams.waiting, 0.0)
    waiting = np.where(compares.any(axis=0), 0.0, streams.waiting)
    return added, spent[-1], waiting


def _restarts(streams: Streams, log_e: Floats, compares: NDArray[np.bool_], starts: Floats) -> tuple[Floats, Floats]:
    """Return the CUSUM and the start of its present rise, by row and alternative."""
    path = np.empty((len(starts) + 1, *streams.best.shape))
    path[0] = streams.best
    lifted = np.empty_like(streams.best)
    for index, value in enumerate(log_e):
        np.maximum(path[index], 0.0, out=lifted)
        np.add(lifted, value, out=path[index + 1])
    begins = (path[:-1] <= 0) & compares[:, :, None]
    last = len(starts) - 1 - begins[::-1].argmax(axis=0)
    onset = np.where(begins.any(axis=0), starts[last], streams.onset)
    return np.maximum(path[-1], 0.0), onset


@dataclass(frozen=True, slots=True)
class Harm:
    """ln of the evidence of harm by metric, shape (T,) each."""

    together: dict[str, Floats]
    """What may be added up over metrics."""
    alone: dict[str, Floats]
    """The strongest of what must not be added to anything; only metrics that have it."""

    def paced(self, layout: Layout, slower: Floats) -> Harm:
        """Return this with V2 shown slower than V1 (`pace`, ln, (T,)) demanded by the guardrails that want it."""
        paced = {measure.metric.name for measure in layout.measures if is_paced(measure.metric)}
        together = {name: np.minimum(e, slower) if name in paced else e for name, e in self.together.items()}
        return replace(self, together=together)


def _by_metric(layout: Layout, rows: Floats) -> Harm:
    """Add up each metric's weighted evidence, from ln of the streams', shape (T, rows)."""
    harm, slots = Harm({}, {}), _slots(layout, rows.shape[1])
    for name, parts in layout.parts.items():
        terms = [(part.alone, math.log(part.weight) + rows[:, part.rows].min(axis=1)) for part in parts]
        for regional in layout.regional_parts.get(name, ()):
            for slot in range(slots):
                row = layout.rows + slot * len(layout.regional) + regional.index
                terms.append((regional.alone, math.log(regional.weight * SLOT_WEIGHT[slot]) + rows[:, row]))
        harm.together[name] = np.logaddexp.reduce([term for alone, term in terms if not alone], axis=0)
        if any(alone for alone, _ in terms):
            harm.alone[name] = np.maximum.reduce([term for alone, term in terms if alone])
    return harm


def against_bars(layout: Layout, harm: Harm) -> dict[str, tuple[Floats, Floats]]:
    """Return, by metric, ln of its evidence and ln of what that must reach to be a breach, (T,) each.

    A budget's guardrails are judged by their weighted total: what the others show lowers the bar of the strongest, so
    that it is reached where ``sum w_j E_j >= 1/alpha``. The others keep the bar that they have alone.
    """
    found = {}
    for budget in layout.budgets:
        terms = np.array([math.log(weight) + harm.together[name] for name, weight in budget.weights.items()])
        for index, name in enumerate(budget.weights):
            bar = budget.bar(name)
            with np.errstate(invalid="ignore"):  # no evidence at all: -inf less -inf
                lift = np.logaddexp.reduce(terms, axis=0) - terms[index]
            strongest = (terms.argmax(axis=0) == index) & np.isfinite(lift)
            value, needed = harm.together[name], np.where(strongest, bar - lift, bar)
            alone = harm.alone.get(name)
            if alone is not None:
                nearer = alone - bar > value - needed
                value, needed = np.where(nearer, alone, value), np.where(nearer, bar, needed)
            found[name] = (value, needed)
    return found


def onset_of(layout: Layout, streams: Streams, metric: str) -> float | None:
    """Return when the metric's harm most likely began: the last restart of its strongest stream."""
    found: tuple[float, float] | None = None
    for part in layout.parts.get(metric, ()):
        for row in part.rows:
            column = int(streams.best[row].argmax())
            height = float(streams.best[row, column])
            if height > 0 and (found is None or height > found[0]):
                found = (height, float(streams.onset[row, column]))
    return None if found is None else found[1]


def regions_to_blame(layout: Layout, streams: Streams, metric: str, regions: Sequence[str]) -> tuple[str, ...]:
    """Return the regions in which a metric's harm is shown (e-BH at 10 %), strongest first."""
    rows = log_mixture(streams.harm[layout.rows :])
    wanted = [part.index for part in layout.regional_parts.get(metric, ())]
    if not wanted:
        return ()
    by_slot = rows.reshape(-1, len(layout.regional))[:, wanted].max(axis=1) - math.log(len(wanted))
    return blamed({name: float(value) for name, value in zip(regions, by_slot, strict=False)})


def evidence_now(layout: Layout, streams: Streams, slower: float) -> dict[str, tuple[float, float]]:
    """Return, by metric, ln of the evidence of harm as it stands and ln of what it must reach.

    slower: ln of the evidence that V2 is slower than V1 (`pace`).
    """
    shown = log_mixture(streams.harm[None])
    if layout.tolerance_s:
        shown = np.minimum(shown, streams.limits)
    harm = _by_metric(layout, shown).paced(layout, np.array([slower]))
    return {name: (float(value[0]), float(bar[0])) for name, (value, bar) in against_bars(layout, harm).items()}

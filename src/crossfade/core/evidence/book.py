"""The book of evidence: begin it, enter phases, absorb ticks, read it. All functions are pure.

    state = begin(plan, at)
    state = absorb(plan, state, ticks)         # as they close, one or many
    observation = read(plan, state, now)
    state = enter_phase(plan, state, 1, at)    # after a promotion, or a retry

`gross` is the fast path beside it, `dump` and `load` keep the book over a restart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from crossfade.core.evidence import collect, mass, outcomes, pace, share, streams, users, watch
from crossfade.core.evidence.collect import Cells
from crossfade.core.evidence.gross import GrossBreach, gross
from crossfade.core.evidence.latency import histogram
from crossfade.core.evidence.pace import Pace, log_e_slower
from crossfade.core.evidence.ratio import Floats
from crossfade.core.evidence.reading import Reader, read
from crossfade.core.evidence.state import EvidenceState, Tally, dump, load
from crossfade.core.evidence.streams import Entries, Layout, Unit, layout_of
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.plan import Action, Metric, MetricKind, Plan
from crossfade.core.split import Version

__all__ = [
    "EvidenceState",
    "GrossBreach",
    "Reader",
    "absorb",
    "begin",
    "dump",
    "enter_phase",
    "go_on_loaded",
    "gross",
    "load",
    "read",
    "stay_away",
]

_RECENT_S = 600.0
_BATCH = 2048
"""Ticks moved through the streams at once; bounds the memory, changes no bit of the result."""


def begin(plan: Plan, at: float, tick_s: float = watch.USUAL_TICK_S) -> EvidenceState:
    """Return an empty book for a rollout that starts in its first phase at `at` (plan time, seconds).

    `tick_s` is how long a tick is expected to be, in plan time, until one has come.
    """
    layout = layout_of(plan, 0)
    return EvidenceState(
        layout=layout,
        phase=0,
        phase_at=at,
        streams=streams.begin_streams(layout, at),
        watch=watch.Watch(begun_at=at, last_length=tick_s),
    )


def enter_phase(plan: Plan, state: EvidenceState, phase_index: int, at: float) -> EvidenceState:
    """Return the book after a phase was entered.

    The phase's counts and promotion streams start anew. A later phase than before is a promotion:
    harm streams go on and get the promotion's onset mass. The same or an earlier one is a retry: another V2 is
    being tried, so evidence of harm, and the users it was counted by, start anew with a budget of their own.
    """
    layout = layout_of(plan, phase_index)
    retried = phase_index <= state.phase
    fresh = users.Failing()
    moved = streams.begin_streams(layout, at) if retried else streams.next_phase(state.streams)
    if retried:
        moved = streams.with_slots(layout, moved, len(state.regions.slots))
    return EvidenceState(
        layout=layout,
        phase=phase_index,
        phase_at=at,
        streams=moved,
        failing=fresh if retried else replace(state.failing, hurt=users.Counter(), hurt_unknown=0),
        regions=state.regions,
        recent={} if retried else state.recent,
        pace=_next_pace(state, retried=retried),
        share=share.begin_phase(state.share),
        breached_since={} if retried else state.breached_since,
        shown_at={},
        watch=watch.begin_phase(replace(state.watch, begun_at=at) if retried else state.watch),
    )


def go_on_loaded(state: EvidenceState, before: EvidenceState) -> EvidenceState:
    """Return a new attempt's book that knows what V1 was seen to answer before: a retry doesn't change V1."""
    return replace(state, watch=replace(state.watch, load=before.watch.load))


def stay_away(state: EvidenceState, away: tuple[float, float | None] | None) -> EvidenceState:
    """Return the book that compares nothing in the ticks of a drill, from its begin to its end (None: not over)."""
    return state if state.away == away else replace(state, away=away)


def _on_purpose(state: EvidenceState, tick: Tick) -> bool:
    """Tell whether a drill lies in a tick, in whole or in part."""
    if state.away is None:
        return False
    since, until = state.away
    return tick.start + tick.length > since and (until is None or tick.start < until)


def _next_pace(state: EvidenceState, *, retried: bool) -> Pace:
    """Return V1's pace, which a retry doesn't change, with the evidence that goes on or starts anew."""
    if retried:
        empty = Pace()
        return replace(state.pace, harm=empty.harm, spent=empty.spent, waiting=empty.waiting)
    return replace(state.pace, waiting=state.pace.waiting + mass.at_promotion(state.streams.promotions + 1))


def absorb(plan: Plan, state: EvidenceState, ticks: Sequence[Tick]) -> EvidenceState:
    """Return the book after these ticks, which come in the order of their numbers.

    A tick whose number is not above the last one absorbed changes nothing, so giving a tick twice is harmless. One
    tick at a time and all of them at once give the same book.
    """
    last = state.watch.last_number
    fresh = [tick for tick in ticks if last is None or tick.number > last]
    for first in range(0, len(fresh), _BATCH):
        state = _absorb_batch(plan, state, fresh[first : first + _BATCH])
    return state


@dataclass(slots=True)
class _Fold:
    """What changes from tick to tick while a batch is collected."""

    watch: watch.Watch
    failing: users.Failing
    regions: collect.Regions
    pools: Mapping[tuple[int, str], collect.Pool]
    outcomes: outcomes.Pools
    tallies: dict[str, Tally]
    recent: dict[str, Tally]
    latency_v1: Floats
    latency_v2: Floats
    pace: Pace
    share: share.Share


def _absorb_batch(plan: Plan, state: EvidenceState, ticks: Sequence[Tick]) -> EvidenceState:
    layout = state.layout
    fold = _Fold(
        state.watch,
        state.failing,
        state.regions,
        state.pools,
        state.outcomes,
        dict(state.tallies),
        dict(state.recent),
        state.latency_v1.copy(),
        state.latency_v2.copy(),
        state.pace,
        state.share,
    )
    wide = np.zeros((len(ticks), len(layout.measures), 2))
    ready: list[tuple[int, int, Floats]] = []
    watches, slower = [], []
    for index, tick in enumerate(ticks):
        compared = _absorb_tick(plan, state, fold, tick, wide[index])
        ready += [(index, slot, counts) for slot, counts in compared]
        watches.append(fold.watch)
        slower.append(log_e_slower(fold.pace))
    moved, evidence = streams.advance(
        layout,
        streams.with_slots(layout, state.streams, len(fold.regions.slots)),
        starts=np.array([tick.start for tick in ticks]),
        ends=np.array([tick.start + tick.length for tick in ticks]),
        entries=_entries(layout, ready),
        wide=wide,
    )
    found = streams.against_bars(layout, evidence.paced(layout, np.array(slower)))
    over = {name: value >= bar for name, (value, bar) in found.items()}
    breached, shown, stable = _follow(plan, state, ticks, watches, over)
    return replace(
        state,
        streams=moved,
        failing=fold.failing,
        regions=fold.regions,
        pools=fold.pools,
        outcomes=fold.outcomes,
        tallies=fold.tallies,
        recent=fold.recent,
        latency_v1=fold.latency_v1,
        latency_v2=fold.latency_v2,
        pace=fold.pace,
        share=fold.share,
        breached_since=breached,
        shown_at=shown,
        watch=replace(fold.watch, stable_since=stable),
    )


def _entries(layout: Layout, ready: Sequence[tuple[int, int, Floats]]) -> Entries:
    shape = (0, len(layout.measures), 4)
    return Entries(
        tick=np.array([index for index, _, _ in ready], dtype=np.int64),
        slot=np.array([slot for _, slot, _ in ready], dtype=np.int64),
        counts=np.stack([counts for _, _, counts in ready]) if ready else np.zeros(shape),
        in_phase=np.ones(len(ready), dtype=bool),
    )


def _absorb_tick(plan: Plan, state: EvidenceState, fold: _Fold, tick: Tick, wide: Floats) -> list[tuple[int, Floats]]:
    """Fold one tick; fill its row of `wide` and return the counts that became comparable, by region slot."""
    drilling = _on_purpose(state, tick)
    in_phase = tick.start >= state.phase_at and not drilling
    fold.watch = watch.see(plan, fold.watch, tick, phase=state.phase, in_phase=in_phase)
    if drilling:
        fold.watch = watch.pass_over(fold.watch, tick)
    if not in_phase or not tick.sources:
        return []
    layout, split = state.layout, plan.phases[state.phase].split
    cells = collect.assigned(tick)
    staff = plan.staff_cohorts()
    comparable = [arm.cohort not in staff and collect.is_compared(split, arm.cohort) for arm, _ in cells]
    fold.failing, units = users.count(fold.failing, tick.start, cells, comparable)
    fold.regions = fold.regions.plus(cells)
    cut_ms = pace.cut_ms(fold.pace)
    counts = [
        collect.counts_of(layout.measures, cell, unit, cut_ms) for (_, cell), unit in zip(cells, units, strict=True)
    ]
    for (arm, _), values in zip(cells, counts, strict=True):
        if arm.version is Version.V2:
            wide += values
    for index, measure in enumerate(layout.measures):
        if measure.metric.kind is MetricKind.BREAKER:
            wide[index] = collect.time_open(measure.metric, tick)
    fold.share = share.see(fold.share, tick, split, [item for item, ok in zip(cells, comparable, strict=True) if ok])
    chosen = comparable if _has_control(plan, state.phase) else [True] * len(cells)
    if _looks_at_times(layout):
        _compare_pace(state, fold, tick, [item for item, ok in zip(cells, comparable, strict=True) if ok])
    _tally(layout, fold, tick, cells=cells, counts=counts, chosen=chosen)
    fold.pools, ready = collect.pool_tick(
        layout,
        fold.pools,
        tick=tick,
        split=split,
        rows=[
            (arm, unit, value) for (arm, _), unit, value, ok in zip(cells, units, counts, comparable, strict=True) if ok
        ],
        requests={arm: cell.requests for arm, cell in cells},
        slots={arm.region: fold.regions.slot(arm.region) for arm, _ in cells},
    )
    fold.outcomes, seldom = outcomes.compare(
        layout,
        fold.outcomes,
        tick=tick,
        rows=[(arm, value, ok) for (arm, _), value, ok in zip(cells, counts, comparable, strict=True)],
    )
    return [*ready, *((-1, found) for found in seldom)]


def _looks_at_times(layout: Layout) -> bool:
    return any(m.metric.kind in (MetricKind.LATENCY, MetricKind.LATENCY_MEAN) for m in layout.measures)


def _compare_pace(state: EvidenceState, fold: _Fold, tick: Tick, cells: Cells) -> None:
    elapsed = np.array([tick.start + tick.length - state.streams.begun_at])
    fold.pace = pace.step(
        fold.pace,
        start=tick.start,
        flowed=float(mass.flowed(elapsed, state.layout.planned_s)[0]),
        one=pace.strata(cells, Version.V1),
        two=pace.strata(cells, Version.V2),
    )


def _has_control(plan: Plan, phase: int) -> bool:
    split, staff = plan.phases[phase].split, plan.staff_cohorts()
    cohorts = ["", *(name for name in split.cohorts if name not in staff)]
    return any(collect.is_compared(split, cohort) for cohort in cohorts)


def _tally(
    layout: Layout,
    fold: _Fold,
    tick: Tick,
    *,
    cells: Cells,
    counts: Sequence[Sequence[tuple[float, float]]],
    chosen: Sequence[bool],
) -> None:
    """Add the tick to the phase's plain sums, of those who are compared (of everyone where nobody is)."""
    fade = math.exp(-tick.length / _RECENT_S)
    every = [(arm, cell, values) for (arm, cell), values in zip(cells, counts, strict=True)]
    picked = [row for row, ok in zip(every, chosen, strict=True) if ok]
    for index, measure in enumerate(layout.measures):
        if measure.unit in (Unit.DISTINCT, Unit.RAW):
            rows = every if measure.metric.kind is MetricKind.QUERIED else picked
            failed = measure.unit is Unit.DISTINCT
            found = [(arm, values[index], cell.failures if failed else values[index][1]) for arm, cell, values in rows]
            _add(fold, measure.metric.name, [(arm, n, k, units) for arm, (n, units), k in found], fade)
    for metric in layout.plain:
        told = [(arm, *_plain(metric, cell)) for arm, cell, _ in picked]
        _add(fold, metric.name, [(arm, n, k, k) for arm, n, k in told], fade)
    if _looks_at_times(layout):
        fold.latency_v1 += histogram(cell for arm, cell, _ in picked if arm.version is Version.V1)
        fold.latency_v2 += histogram(cell for arm, cell, _ in picked if arm.version is Version.V2)


def _add(fold: _Fold, metric: str, rows: Sequence[tuple[Arm, float, float, float]], fade: float) -> None:
    """Add a tick's requests, bad ones and bad units, by arm, to a metric's sums."""
    sums = {version: [0.0, 0.0, 0.0] for version in Version}
    for arm, *numbers in rows:
        side = sums[arm.version]
        for index, number in enumerate(numbers):
            side[index] += number
    (n1, k1, units1), (n2, k2, units2) = sums[Version.V1], sums[Version.V2]
    total = Tally(n1=n1, k1=k1, n2=n2, k2=k2, units1=units1, units2=units2)
    fold.tallies[metric] = fold.tallies.get(metric, Tally()).plus(total)
    fold.recent[metric] = fold.recent.get(metric, Tally()).fading(fade).plus(total)


def _plain(metric: Metric, cell: Cell) -> tuple[float, float]:
    if metric.kind is MetricKind.CRITICAL_ERRORS:
        return cell.requests, cell.critical
    if metric.kind is MetricKind.COMPLAINTS:
        return collect.bad_of(metric, cell, math.inf)
    return cell.timings.get(metric.fact, (0, 0.0))


def _follow(
    plan: Plan,
    state: EvidenceState,
    ticks: Sequence[Tick],
    watches: Sequence[watch.Watch],
    over: Mapping[str, NDArray[np.bool_]],
) -> tuple[dict[str, float], dict[str, float], float | None]:
    """Follow tick by tick since when guardrails are breached and since when all is stable."""
    breached, shown = dict(state.breached_since), dict(state.shown_at)
    acts = {m.name for m in plan.metrics if m.guard is not None and m.guard.action is Action.ROLLBACK}
    stable = state.watch.stable_since
    for index, tick in enumerate(ticks):
        seen = watches[index]
        for name, values in over.items():
            if values[index]:
                breached.setdefault(name, tick.start)
                if name in acts:
                    shown.setdefault(name, tick.start)
            elif name not in shown:
                breached.pop(name, None)
        blind = watch.blindness(plan, seen, phase=state.phase, now=tick.start + tick.length)
        steady = not breached and not watch.stuck(plan, seen) and not any(item.matters for item in blind)
        stable = (tick.start if stable is None else stable) if steady else None
    return breached, shown, stable

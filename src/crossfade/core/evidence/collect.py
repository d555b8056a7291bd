"""From ticks to counts that can be compared: who is compared with whom, and in which unit (EVIDENCE 0.11, 1.5).

The hash randomises only inside a cohort whose share lies between 0 and 100 %. V2 is compared with V1 per region and
cohort; overrides are left out, and cohorts wholly on one side have no control. Few requests in a tick carry little
information about the split, so a stratum waits until both sides have answered some, for ten minutes at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from crossfade.core.evidence import latency, users
from crossfade.core.evidence.ratio import Floats
from crossfade.core.evidence.streams import (
    BREAKER_BLOCK_S,
    BY_SHARE,
    PERIOD_S,
    SLOTS,
    Layout,
    Measure,
    Unit,
    counts_absence,
)
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.feedback import COMPLAINED, HEARD
from crossfade.core.plan import Metric, MetricKind
from crossfade.core.split import BUCKETS, Split, Version

ENOUGH = 5
"""Requests on each side at which a stratum stops waiting."""
SILENT = 15.0
"""Expected requests without one: chance explains that silence with probability e^-15, so it is no comparison."""

REGION_REQUESTS = 200
REGION_SHARE = 0.005
CANDIDATES = 64

NOT_AVAILABLE = frozenset({"0", "false", "?0", "missing", "fallback", "unavailable", "no", "error"})

Cells = Sequence[tuple[Arm, Cell]]

_NOTHING = ((0.0, 0.0),) * len(BY_SHARE)
_PERIODS = tuple(PERIOD_S.get(unit, math.inf) for unit in BY_SHARE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pool:
    """One stratum's counts that wait to be compared."""

    since: float
    requests: tuple[float, float] = (0, 0)
    counts: Floats
    """(measures, 4); the measures by share stay empty here."""
    seen: tuple[float, float] = (0.0, 0.0)
    """Requests of V1 and V2 since both sides were last seen."""
    failed: tuple[tuple[float, float], ...] = _NOTHING
    """Failures of V1 and V2 meanwhile in the units `BY_SHARE`, of the present period where they have one."""
    at: float = 0.0
    """Start of the last tick that added to them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """Regions by slot, and a bounded count of those that might get one (Misra and Gries' frequent items)."""

    slots: tuple[str, ...] = ()
    candidates: Mapping[str, int] = field(default_factory=dict)
    requests: int = 0

    def slot(self, region: str) -> int:
        """Return a region's slot, -1 for none."""
        return self.slots.index(region) if region in self.slots else -1

    def plus(self, cells: Cells) -> Regions:
        """Return this after a tick's requests; a region with enough of them gets a slot while there are any.

        Names come from clients: whoever sends a new one with each request must not grow the state.
        """
        if len(self.slots) >= SLOTS:
            return self
        seen = dict(self.candidates)
        total = self.requests
        for arm, cell in cells:
            total += cell.requests
            if not arm.region or arm.region in self.slots:
                continue
            seen[arm.region] = seen.get(arm.region, 0) + cell.requests
        if len(seen) > CANDIDATES:
            floor = sorted(seen.values(), reverse=True)[CANDIDATES]
            seen = {name: count - floor for name, count in seen.items() if count > floor}
        bar = max(REGION_REQUESTS, REGION_SHARE * total)
        slots = self.slots
        for name in sorted(name for name, count in seen.items() if count >= bar):
            if len(slots) < SLOTS:
                slots = (*slots, name)
                del seen[name]
        return Regions(slots=slots, candidates=seen, requests=total)


def assigned(tick: Tick) -> list[tuple[Arm, Cell]]:
    """Return the tick's cells that the plan assigned (no overrides), in a fixed order."""
    return sorted(((arm, cell) for arm, cell in tick.cells.items() if not arm.override), key=lambda item: item[0])


def share(split: Split, cohort: str) -> float:
    """Return V2's share (0..1) among a cohort's users."""
    return split.share_of(cohort or None) / BUCKETS


def is_compared(split: Split, cohort: str) -> bool:
    """Tell whether the hash decides inside a cohort, so that V1 is V2's control."""
    return 0 < split.share_of(cohort or None) < BUCKETS


def bad_of(metric: Metric, cell: Cell, cut_ms: float) -> tuple[float, float]:
    """Return (answers that tell, bad ones) of one cell, for metrics that are not failures.

    Of values within 0..1 it is their number and their sum; times are such values when cut at `cut_ms`.
    """
    if metric.kind is MetricKind.LATENCY:
        breach = metric.guard.breach if metric.guard else None
        limit = breach or metric.target
        return latency.slower_than(cell, limit.value) if limit else (0, 0)
    if metric.kind is MetricKind.BREAKER:
        return 0, 0  # by time, not by answer: see `time_open`
    if metric.kind is MetricKind.LATENCY_MEAN:
        return latency.sum_cut(cell, cut_ms)
    if metric.kind is MetricKind.COMPLAINTS:
        heard, _ = cell.outcomes.get(HEARD, (0, 0.0))
        return heard, cell.outcomes.get(COMPLAINED, (0, 0.0))[1]
    if metric.outcome:
        units, total = cell.outcomes.get(metric.outcome, (0, 0.0))
        return units, units - total if counts_absence(metric) else total
    told = cell.facts.get(metric.fact)
    if not told:
        return 0, 0
    answers = sum(told.values())
    if metric.kind is MetricKind.AVAILABILITY:
        having = sum(count for value, count in told.items() if value.lower() not in NOT_AVAILABLE)
    else:
        having = told.get(metric.fact_value, 0)
    return answers, answers - having if counts_absence(metric) else having


def time_open(metric: Metric, tick: Tick) -> tuple[float, float]:
    """Return (blocks of five minutes, the sum of the breaker's share of time open in them) of one tick on V2.

    A tick is its part of a block, so that a block weighs 1 whatever the ticks. A part w <= 1 of an e-value is one, too:
    E X^w <= (E X)^w.
    """
    cells = [cell for arm, cell in tick.cells.items() if arm.version is Version.V2 and metric.fact in cell.facts]
    told = sum(cell.facts[metric.fact].total() for cell in cells)
    if not told:
        return 0.0, 0.0
    part = min(1.0, tick.length / BREAKER_BLOCK_S)
    return part, part * sum(cell.facts[metric.fact]["open"] for cell in cells) / told


def counts_of(measures: Sequence[Measure], cell: Cell, units: users.Units, cut_ms: float) -> list[tuple[float, float]]:
    """Return (n, k) of one cell by measure; units by share are left out, their n is the share."""
    result: list[tuple[float, float]] = []
    for measure in measures:
        match measure.unit:
            case Unit.FIRST | Unit.WEEKLY | Unit.ACUTE:
                result.append((0.0, 0.0))
            case Unit.DISTINCT:
                result.append((cell.requests, units.distinct))
            case _:
                result.append(bad_of(measure.metric, cell, cut_ms))
    return result


def pool_tick(
    layout: Layout,
    pools: Mapping[tuple[int, str], Pool],
    *,
    tick: Tick,
    split: Split,
    rows: Sequence[tuple[Arm, users.Units, Sequence[tuple[float, float]]]],
    requests: Mapping[Arm, int],
    slots: Mapping[str, int],
) -> tuple[dict[tuple[int, str], Pool], list[tuple[int, Floats]]]:
    """Add a tick's compared cells to the pools; return the pools and, by slot, the counts now ready."""
    filled: dict[tuple[int, str], Pool] = dict(pools)
    before = dict(pools)
    of_requests = np.array([[not measure.is_sparse] for measure in layout.measures])
    for arm, units, counts in rows:
        key = (slots[arm.region], arm.cohort)
        pool = filled.get(key) or Pool(since=tick.start, counts=np.zeros((len(layout.measures), 4)))
        before.setdefault(key, pool)
        filled[key] = _plus(pool, arm, units, counts * of_requests, requests=requests[arm], start=tick.start)
    ready: list[tuple[int, Floats]] = []
    for key in sorted(filled):
        left, counts_ready = _settle(layout, filled[key], before[key], share(split, key[1]), tick.start + tick.length)
        if counts_ready is not None:
            ready.append((key[0], counts_ready))
        if left is None:
            del filled[key]
        else:
            filled[key] = left
    return filled, ready


def _plus(pool: Pool, arm: Arm, units: users.Units, counts: Floats, *, requests: int, start: float) -> Pool:
    side = 0 if arm.version is Version.V1 else 1
    total = pool.counts.copy()
    total[:, 2 * side : 2 * side + 2] += counts
    new = (units.first, units.weekly, units.distinct)
    known = _of_period(pool.failed, pool.at, start)
    return Pool(
        since=pool.since,
        requests=_raised(pool.requests, side, requests),
        counts=total,
        seen=_raised(pool.seen, side, requests),
        failed=tuple(_raised(pair, side, k) for pair, k in zip(known, new, strict=True)),
        at=start,
    )


def _raised(pair: tuple[float, float], side: int, by: float) -> tuple[float, float]:
    return (pair[0], pair[1] + by) if side else (pair[0] + by, pair[1])


def _of_period(failed: tuple[tuple[float, float], ...], at: float, start: float) -> tuple[tuple[float, float], ...]:
    """Return what was counted by `at` and belongs to the same period as a tick that begins at `start`."""
    return tuple(
        pair if at // period == start // period else (0.0, 0.0) for pair, period in zip(failed, _PERIODS, strict=True)
    )


def _settle(layout: Layout, pool: Pool, before: Pool, part: float, now: float) -> tuple[Pool | None, Floats | None]:
    """Return the pool that goes on waiting (None for nothing) and the counts that are ready (None for none)."""
    ready: Floats | None = None
    if min(pool.seen) > 0:
        ready = np.zeros_like(pool.counts)
        failed = pool.failed
        if _was_silent(before.seen, part):  # the other side was away: what failed meanwhile had no control
            known = _of_period(before.failed, before.at, pool.at)
            failed = tuple((k[0] - b[0], k[1] - b[1]) for k, b in zip(failed, known, strict=True))
        for index, measure in enumerate(layout.measures):
            if measure.unit in BY_SHARE:
                k1, k2 = failed[BY_SHARE.index(measure.unit)]
                ready[index] = (1 - part, k1, part, k2)
        pool = replace(pool, seen=(0.0, 0.0), failed=_NOTHING)
    old = now - pool.since >= users.BLOCK_S
    both = min(pool.requests)
    if both >= ENOUGH or (old and both > 0):
        ready = pool.counts if ready is None else ready + pool.counts
    if both >= ENOUGH or old:
        pool = replace(pool, since=now, counts=np.zeros_like(pool.counts), requests=(0, 0))
    return (pool if any(pool.requests) or any(pool.seen) else None), ready


def _was_silent(seen: tuple[float, float], part: float) -> bool:
    missed = seen[0] * part / (1 - part) if seen[1] == 0 else seen[1] * (1 - part) / part if seen[0] == 0 else 0.0
    return missed >= SILENT

"""Each metric's values by region, in the present phase and since this process began: to be shown, never decided by."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossfade.core.evidence.collect import bad_of
from crossfade.core.evidence.latency import histogram, mean_ms
from crossfade.core.evidence.streams import counts_absence
from crossfade.core.evidence.sums import BINS, Cell, Tick, bin_upper_ms
from crossfade.core.plan import Metric, MetricKind, Plan
from crossfade.core.split import Version
from crossfade.ports import StoredEvent

_ANEW = ("RolloutStarted", "PhasePromoted", "Retried")
_TIMES = (MetricKind.LATENCY, MetricKind.LATENCY_MEAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionRow:
    """One metric in one region, in the metric's unit; a version without answers that tell has None."""

    region: str
    """As clients call it; empty where they don't."""
    v1: float | None
    v2: float | None
    n1: int
    n2: int


class Regions:
    """Sums by metric, version and region. Bounded by the names that `named` lets through."""

    def __init__(self, plan: Plan, named: Callable[[str], str]) -> None:
        self._plan, self._named = plan, named
        self._sums: dict[tuple[str, Version, str], tuple[float, float]] = {}
        self._latency: dict[tuple[Version, str], NDArray[np.float64]] = {}

    def see(self, event: StoredEvent) -> None:
        """Begin anew with each phase."""
        if event.kind in _ANEW:
            self._sums.clear()
            self._latency.clear()

    def closed(self, ticks: Sequence[Tick]) -> None:
        """Add ticks; clients that chose their version themselves are left out, as they are of the comparison."""
        for tick in ticks:
            for arm, cell in tick.cells.items():
                if not arm.override:
                    self._add(arm.version, self._named(arm.region), cell)

    def rows(self, metric: Metric) -> list[RegionRow]:
        """Return a row for each region that has told something of a metric, those with most of it first."""
        regions = {region for (name, _, region) in self._sums if name == metric.name}
        rows = []
        for region in regions:
            (v1, n1), (v2, n2) = (self._value(metric, version, region) for version in Version)
            if n1 or n2:
                rows.append(RegionRow(region=region, v1=v1, v2=v2, n1=n1, n2=n2))
        return sorted(rows, key=lambda row: (-row.n1 - row.n2, row.region))

    def _add(self, version: Version, region: str, cell: Cell) -> None:
        for metric in self._plan.metrics:
            n, k = _counted(metric, cell)
            have_n, have_k = self._sums.get((metric.name, version, region), (0.0, 0.0))
            self._sums[metric.name, version, region] = have_n + n, have_k + k
        so_far = self._latency.get((version, region))
        new = histogram([cell])
        self._latency[version, region] = new if so_far is None else so_far + new

    def _value(self, metric: Metric, version: Version, region: str) -> tuple[float | None, int]:
        if metric.kind in _TIMES:
            counts = self._latency.get((version, region), np.zeros(BINS))
            answers = int(counts.sum())
            if metric.kind is MetricKind.LATENCY_MEAN:
                return mean_ms(counts), answers
            return (_quantile(counts, metric.quantile or 0.95) if answers else None), answers
        n, k = self._sums.get((metric.name, version, region), (0.0, 0.0))
        if metric.kind in (MetricKind.CRITICAL_ERRORS, MetricKind.COMPLAINTS):
            return (k if n else None), int(n)
        return (metric.most * k / n if n else None), int(n)


def _counted(metric: Metric, cell: Cell) -> tuple[float, float]:
    """Return (answers that tell, the sum that the metric's value is the mean of) of one cell."""
    match metric.kind:
        case MetricKind.FAILURE_RATE:
            return cell.requests, cell.failures
        case MetricKind.CRITICAL_ERRORS:
            return cell.requests, cell.critical
        case MetricKind.TIMING:
            return cell.timings.get(metric.fact, (0, 0.0))
        case MetricKind.BREAKER:
            told = cell.facts.get(metric.fact)
            return (told.total(), told["open"]) if told else (0, 0)
        case MetricKind.LATENCY | MetricKind.LATENCY_MEAN:
            return 0, 0
        case _:
            n, bad = bad_of(metric, cell, math.inf)
            return n, n - bad if counts_absence(metric) else bad


def _quantile(counts: NDArray[np.float64], q: float) -> float:
    return bin_upper_ms(int(np.searchsorted(np.cumsum(counts), q * counts.sum() - 1e-9)))

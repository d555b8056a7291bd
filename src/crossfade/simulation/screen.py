"""How high the evidence rose between two looks: users' first failures, followed by the minute.

A long tick shows where the evidence ends, not whether it passed its bar on the way and fell back. What rises and falls
so is chiefly the evidence of first failures, and it is cheap to follow: within a phase all strata of one share have the
same odds, so sums over all users tell as much as strata do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from crossfade.core.evidence import mass
from crossfade.core.evidence.ratio import HARM_GRID, log_e_ratio, log_mixture, weighted_sr
from crossfade.core.evidence.streams import SLOT_WEIGHT, Layout, Streams, Unit
from crossfade.core.evidence.sums import Arm
from crossfade.core.split import BUCKETS, Split, Version
from crossfade.simulation.people import Floats

STEP_S = 120.0


def highest(
    layout: Layout,
    streams: Streams,
    *,
    split: Split,
    regions: Sequence[str],
    firsts: Iterable[tuple[Arm, Floats]],
    begin: float,
    end: float,
) -> dict[str, float]:
    """Return, by metric, ln of the highest evidence of first failures between two moments of plan time.

    streams: as they stood at `begin`. regions: those with a slot. firsts: by arm, when users failed for the first time;
    arms that aren't compared by chance are left out.
    """
    steps = max(1, round((end - begin) / STEP_S))
    edges: Floats = np.linspace(begin, end, steps + 1)
    counts: dict[tuple[str, float], Floats] = {}
    for arm, times in firsts:
        part = split.share_of(arm.cohort or None) / BUCKETS
        if 0 < part < 1:
            found = counts.setdefault((arm.region, part), np.tile([1 - part, 0.0, part, 0.0], (steps, 1)))
            found[:, 3 if arm.version is Version.V2 else 1] += np.histogram(times, edges)[0]
    flowed = mass.flowed(edges - streams.begun_at, layout.planned_s)
    result = {}
    for name in layout.parts:
        rows = _rows(layout, name, regions)
        if not rows or len(streams.harm) <= max(row for row, *_ in rows):
            continue
        log_e, added = np.zeros((steps, len(rows), streams.harm.shape[1])), np.zeros((steps, len(rows)))
        for index, (row, level, region, _) in enumerate(rows):
            added[:, index] = np.diff(flowed)
            added[0, index] += flowed[0] - streams.spent[row] + streams.waiting[row]
            for (where, _), found in counts.items():
                if region in (None, where):
                    log_e[:, index] += log_e_ratio(found, level * HARM_GRID, np.full(len(HARM_GRID), level))
        path = log_mixture(weighted_sr(streams.harm[[row for row, *_ in rows]], added, log_e, {}))
        weights = np.log([weight for *_, weight in rows])
        result[name] = float(np.logaddexp.reduce(path + weights, axis=1).max())
    return result


def _rows(layout: Layout, metric: str, regions: Sequence[str]) -> list[tuple[int, float, str | None, float]]:
    """Return (row, null's ratio, region or None, weight) of a metric's streams of first failures."""
    found: list[tuple[int, float, str | None, float]] = []
    for part in layout.parts[metric]:
        row = part.rows[0]
        if len(part.rows) == 1 and row < len(layout.ratio):
            stream = layout.ratio[row]
            if layout.measures[stream.measure].unit is Unit.FIRST:
                found.append((row, stream.level, None, part.weight))
    for regional in layout.regional_parts.get(metric, ()):
        stream = layout.regional[regional.index]
        if layout.measures[stream.measure].unit is Unit.FIRST:
            for slot, region in enumerate(regions):
                row = layout.rows + slot * len(layout.regional) + regional.index
                found.append((row, stream.level, region, regional.weight * float(SLOT_WEIGHT[slot])))
    return found

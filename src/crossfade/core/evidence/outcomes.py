"""Outcomes that come apart from requests: posted ones, and counts that a source was asked for.

They come seldom, and a tick with units of one version only compares nothing. So a cohort's units wait until both
versions have some, for a day at most; within that time the share is the same, and (R) needs no more. They know no
regions. Nobody knows either which users a source's counts are about: those are compared as they come.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crossfade.core.evidence.ratio import Floats
from crossfade.core.evidence.streams import Layout
from crossfade.core.evidence.sums import Arm, Tick
from crossfade.core.plan import DAY, MetricKind
from crossfade.core.split import Version

ENOUGH = 5
"""Units on each side at which they stop waiting."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One cohort's units of one measure that wait to be compared."""

    since: float
    counts: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    """Units and the sum of their values of V1 and V2."""

    def plus(self, version: Version, n: float, k: float) -> Waiting:
        """Return this with units of a version."""
        n1, k1, n2, k2 = self.counts
        more = (n1 + n, k1 + k, n2, k2) if version is Version.V1 else (n1, k1, n2 + n, k2 + k)
        return Waiting(self.since, more)


Pools = Mapping[tuple[int, str], Waiting]
"""By measure and cohort."""


def compare(
    layout: Layout,
    pools: Pools,
    *,
    tick: Tick,
    rows: Sequence[tuple[Arm, Sequence[tuple[float, float]], bool]],
) -> tuple[Pools, list[Floats]]:
    """Add a tick's units to those that wait; return what goes on waiting, and the counts that are ready.

    rows: arm, (n, k) by measure, and whether the hash decides in the arm's cohort. Ready counts have shape
    (measures, 4), all zero but for one measure.
    """
    waiting = dict(pools)
    sparse = [(index, measure.metric.kind) for index, measure in enumerate(layout.measures) if measure.is_sparse]
    for arm, counts, comparable in rows:
        for index, kind in sparse:
            if counts[index][0] > 0 and (comparable or kind is MetricKind.QUERIED):
                known = waiting.get((index, arm.cohort), Waiting(tick.start))
                waiting[index, arm.cohort] = known.plus(arm.version, *counts[index])
    ready = []
    for key in sorted(waiting):
        n1, _, n2, _ = waiting[key].counts
        old = tick.start + tick.length - waiting[key].since >= DAY
        if min(n1, n2) >= ENOUGH or (old and min(n1, n2) > 0):
            ready.append(np.zeros((len(layout.measures), 4)))
            ready[-1][key[0]] = waiting[key].counts
        elif not old:
            continue
        del waiting[key]
    return waiting, ready

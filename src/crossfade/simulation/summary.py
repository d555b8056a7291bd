"""What many simulated runs add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossfade.simulation.run import Ending, RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median and 90th percentile; None where there is nothing to take them of."""

    p50: float | None
    p90: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSummary:
    """One phase over all runs that left it."""

    name: str
    entered: int
    """Runs that came into it."""
    left: int
    """Runs that were promoted out of it, or completed."""
    hours: Spread
    """From entering to leaving."""
    held_for: dict[str, float]
    """Mean hours that each gate held the phase after its soak, per run that entered it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Rates and quantiles over runs."""

    runs: int
    rolled_back: int
    too_soon: int
    """Rolled back before V2 had a defect (or without one): false."""
    completed: int
    promoted_ill: int
    requests: Spread
    """V2 requests from the defect's onset to the rollback."""
    failed: Spread
    """Those of them that failed."""
    seconds: Spread
    phases: tuple[PhaseSummary, ...]
    triggers: dict[str, int]
    """Rollbacks by the metric that showed harm."""


def spread(values: Sequence[float]) -> Spread:
    """Return median and 90th percentile of some values."""
    if not values:
        return Spread(p50=None, p90=None)
    return Spread(p50=float(np.quantile(values, 0.5)), p90=float(np.quantile(values, 0.9)))


def summarise(results: Sequence[RunResult], phases: Sequence[str]) -> Summary:
    """Return the summary of some runs of one plan, whose phases have these names."""
    found = [result for result in results if result.seconds_to_rollback is not None]
    back = [result for result in results if result.ending is Ending.ROLLED_BACK]
    return Summary(
        runs=len(results),
        rolled_back=len(back),
        too_soon=sum(result.too_soon for result in results),
        completed=sum(result.ending is Ending.COMPLETED for result in results),
        promoted_ill=sum(result.promoted_ill for result in results),
        requests=spread([result.v2_requests for result in found]),
        failed=spread([result.v2_failed for result in found]),
        seconds=spread([result.seconds_to_rollback or 0.0 for result in found]),
        phases=tuple(_phase(results, index, name) for index, name in enumerate(phases)),
        triggers=dict(Counter(result.trigger for result in back).most_common()),
    )


def _phase(results: Sequence[RunResult], index: int, name: str) -> PhaseSummary:
    mine = [result.phases[index] for result in results if index < len(result.phases)]
    hours = [(phase.left - phase.entered) / 3600 for phase in mine if phase.left is not None]
    held: Counter[str] = Counter()
    for phase in mine:
        for gate, seconds in phase.held.items():
            held[gate] += seconds / 3600 / len(mine)  # type: ignore[assignment]
    return PhaseSummary(
        name=name,
        entered=len(mine),
        left=len(hours),
        hours=spread(hours),
        held_for={gate: round(float(value), 2) for gate, value in held.most_common()},
    )

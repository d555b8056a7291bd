"""A rollback done on purpose: thrown with the real switch, timed, and judged by what was seen of it.

Everyone stays on V1 until it is shown that every node has confirmed in time, that V2 is given nothing any more, and
that V1 is given requests meanwhile. What isn't shown is a failure: no silence leads back to V2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from crossfade.core import events as e
from crossfade.core.evidence import load
from crossfade.core.evidence.load import Load
from crossfade.core.plan import DRILL_WITHIN_S, Phase, Plan
from crossfade.core.rollout import Rollout
from crossfade.core.split import Version
from crossfade.core.words import duration
from crossfade.engine.rollback import RollbackReport, roll_back
from crossfade.ports import Clock, RollbackSwitch

MARGIN_S = 1.0
"""Real seconds beyond the collector's lateness for which V2 must be given nothing."""
ENOUGH = 10.0
"""Requests that are to be expected within the bound; fewer may stay away by chance (once in e^10 = 22,000)."""


def within_s(phase: Phase) -> float:
    """Return the real seconds that a rollback may take in a phase."""
    return DRILL_WITHIN_S if phase.drill is None else phase.drill.within_s


def _limit(phase: Phase) -> float | None:
    return None if phase.drill is None else phase.drill.v1_capacity


def why_not(plan: Plan, rollout: Rollout, seen: Load, *, ready: bool | None, speed: float) -> str | None:
    """Return why no drill can begin in the present phase; None where one can. It is the same for plans and people."""
    phase = plan.phases[rollout.phase]
    if not phase.split.everyone and not any(phase.split.cohorts.values()):
        return f"nobody is on V2 in phase {phase.name}"
    if rollout.applied_generation != rollout.generation:
        return f"the proxy has not confirmed the split of {phase.name} yet"
    if not ready:
        return "the rollback connection does not answer on every node"
    unable = load.why_not_all(seen, _limit(phase))
    if unable is not None:
        return f"V1 is not shown to be able to take everyone: {unable}"
    expected = (seen.now or 0.0) * speed * within_s(phase)
    if expected < ENOUGH:
        limit = duration(within_s(phase))
        return f"too few requests to time it: about {expected:.2g} are to be expected in {limit}, wanted {ENOUGH:.0f}"
    return None


def started(plan: Plan, rollout: Rollout, seen: Load, *, now: float, by: str, reason: str) -> e.DrillStarted:
    """Return the intent."""
    phase = plan.phases[rollout.phase]
    shown = load.words(seen, _limit(phase))
    return e.DrillStarted(
        at=now,
        phase=rollout.phase,
        name=phase.name,
        within_s=within_s(phase),
        reason=f"{reason}: {shown}" if reason else shown,
        by=by,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """One drill, as of the moment at which its switch was thrown."""

    phase: int
    name: str
    within_s: float
    settle_s: float
    """Real seconds after which the slowest requests have been reported."""
    commanded: float
    """Plan time."""
    began: float
    """By the monotonic clock."""
    report: RollbackReport

    def judge(self, given: Mapping[Version, float], clock: Clock) -> e.DrillPassed | e.DrillFailed | None:
        """Return what the drill has shown; None while it may yet show it.

        `given` is when (plan time) the latest request that each version was given by assignment had started.
        """
        lasted = clock.monotonic() - self.began
        last = max(0.0, (given.get(Version.V2, self.commanded) - self.commanded) / clock.speed)
        if not self.report.complete:
            return self._failed(clock, None, "not every node confirmed that everyone is on V1")
        if self.report.took_s > self.within_s:
            late = f"it took {self.report.took_s:.3g} s until every node had confirmed"
            return self._failed(clock, None, f"{late}, limit {duration(self.within_s)}")
        if last > self.within_s:
            late = f"V2 was given a request {last:.3g} s after the command"
            return self._failed(clock, last, f"{late}, limit {duration(self.within_s)}")
        seen = given.get(Version.V1, self.commanded) > self.commanded
        if seen and lasted - last >= self.settle_s:
            return self._passed(clock, last, lasted)
        if lasted > self.within_s + self.settle_s:
            unseen = f"no request was reported for {lasted:.3g} s, so it can't be said when V2 was given its last one"
            return self._failed(clock, None, unseen)
        return None

    def _passed(self, clock: Clock, last: float, lasted: float) -> e.DrillPassed:
        return e.DrillPassed(
            at=clock.now(),
            phase=self.phase,
            name=self.name,
            took_s=self.report.took_s,
            last_v2_s=last,
            within_s=self.within_s,
            lasted_s=lasted,
            nodes=self.report.outcomes(),
        )

    def _failed(self, clock: Clock, last: float | None, reason: str) -> e.DrillFailed:
        return e.DrillFailed(
            at=clock.now(),
            phase=self.phase,
            name=self.name,
            reason=reason,
            took_s=self.report.took_s,
            last_v2_s=last,
            nodes=self.report.outcomes(),
        )


async def throw(intent: e.DrillStarted, generation: int, switch: RollbackSwitch, clock: Clock, late_s: float) -> Drill:
    """Throw the real switch and return what it said; never raises, as `roll_back`."""
    commanded, began = clock.now(), clock.monotonic()
    report = await roll_back([switch], generation, clock)
    return Drill(
        phase=intent.phase,
        name=intent.name,
        within_s=intent.within_s,
        settle_s=late_s + MARGIN_S,
        commanded=commanded,
        began=began,
        report=report,
    )

"""How many different users were seen in a phase, beside how many the plan expects: to be shown, never decided by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from crossfade.core.clients.sketch import Sketch
from crossfade.core.evidence.sums import Tick
from crossfade.core.plan import Phase, Plan
from crossfade.core.rollout import Rollout
from crossfade.core.split import BUCKETS, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersSeen:
    """Different users of a phase, staff and overrides left out."""

    expected: int | None
    """On V2, as the plan's author wrote; None where they didn't."""
    v1: int | None
    v2: int | None
    """None while nobody has been looked at: that is not zero."""
    since: float | None
    """Plan time from which they were counted: the phase's beginning, or this process's where that was later."""
    sentence: str


class Population:
    """Counts the users of the present phase since this process began; beyond a thousand it estimates."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._staff = plan.staff_cohorts()
        self._of: tuple[int, int] | None = None
        """Attempt and phase that are counted."""
        self._seen: dict[Version, Sketch] = {}
        self._since: float | None = None

    def absorb(self, rollout: Rollout, ticks: Iterable[Tick]) -> None:
        """Add ticks that began in the present phase; those that nobody reported tell nothing."""
        if self._of != (rollout.attempt, rollout.phase):
            self._of, self._seen, self._since = (rollout.attempt, rollout.phase), {v: Sketch() for v in Version}, None
        for tick in ticks:
            if not tick.users or tick.start < rollout.phase_since:
                continue
            self._since = tick.start if self._since is None else min(self._since, tick.start)
            for (version, cohort), users in tick.users.items():
                if cohort not in self._staff:
                    self._seen[version].merge(users)

    def seen(self, rollout: Rollout) -> UsersSeen:
        """Return what is known of the present phase's users."""
        phase = self._plan.phases[rollout.phase]
        looked = self._of == (rollout.attempt, rollout.phase) and self._since is not None
        v1, v2 = (self._seen[version].count() if looked else None for version in Version)
        return UsersSeen(
            expected=phase.users or None,
            v1=v1,
            v2=v2,
            since=self._since if looked else None,
            sentence=_sentence(phase, v1, v2),
        )


def _sentence(phase: Phase, v1: int | None, v2: int | None) -> str:
    expected = f"about {phase.users:,} expected on V2" if phase.users else "the plan expects no number on V2"
    if v1 is None or v2 is None:
        return f"{expected}; nobody seen yet"
    total, gives = v1 + v2, round(phase.target * (v1 + v2) / BUCKETS)
    split = f"the split of {phase.target / 100:g} % gives about {gives:,} of {total:,} users seen"
    return f"{expected}, {v2:,} seen so far: {split}"

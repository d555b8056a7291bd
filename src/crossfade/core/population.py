"""How many different users were seen in a phase, beside how many the plan expects: to be shown, never decided by."""

from __future__ import annotations

import json
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
    """Plan time from which they were counted: the phase's beginning, or when counting began where that was later."""
    sentence: str


class Population:
    """Counts the users of the present phase; beyond a thousand it estimates."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._staff = plan.staff_cohorts()
        self._of: tuple[int, int] | None = None
        """Attempt and phase that are counted."""
        self._seen: dict[Version, Sketch] = {}
        self._since: float | None = None
        self.kept = b""
        """What was dumped and kept last."""

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

    def dump(self) -> bytes:
        """Return it as what a store can keep, 45 kB at most; empty where nobody was seen."""
        if self._of is None or self._since is None:
            return b""
        attempt, phase = self._of
        seen = {version.value: sketch.data() for version, sketch in self._seen.items()}
        return json.dumps({"attempt": attempt, "phase": phase, "since": self._since, "seen": seen}).encode()

    def go_on(self, dumped: bytes) -> None:
        """Go on from what another one dumped; ValueError where it can't be read, and nothing changes then."""
        try:
            kept = json.loads(dumped)
            seen = {version: Sketch.of(kept["seen"][version.value]) for version in Version}
            of, since = (int(kept["attempt"]), int(kept["phase"])), float(kept["since"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"these are no users of a phase: {error!r}") from None
        self._of, self._since, self._seen = of, since, seen

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

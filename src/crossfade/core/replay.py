"""Replay: fold a history and its ticks as the controller did, and decide again at every look that was kept.

A look can be decided again where everything before it was kept: the events it saw and, in one unbroken chain back to
the evidence's beginning, every tick in its evidence. Where a link is missing the answer is BLIND, until the evidence
begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import orjson

from crossfade.core import events as e
from crossfade.core.decide import Complete, Decision, Drill, Promote, RollBack
from crossfade.core.evidence import book
from crossfade.core.jsonable import to_json
from crossfade.core.look import KeptLook, KeptTick, Look, begin_attempt, decide_look, decide_window, digest, record
from crossfade.core.observation import Observation
from crossfade.core.plan import Plan
from crossfade.core.rollout import Rollout, evolve

_ACTS: dict[type[e.Event], str] = {
    e.RolledBack: RollBack.__name__,
    e.PhasePromoted: Promote.__name__,
    e.DrillStarted: Drill.__name__,
    e.RolloutCompleted: Complete.__name__,
}
"""What moves users or ends a rollout, and the command that asks for it."""


class Finding(StrEnum):
    """What deciding again comes to."""

    SAME = "same"
    DIFFERENT = "different"
    BLIND = "blind"
    """Something that the decision rested on was not kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One look, decided again."""

    at: float
    finding: Finding
    kept: str = ""
    """What was kept where it differs, as a sentence."""
    recomputed: str = ""
    """What it comes to now; why that can't be said where the finding is BLIND."""


class Replay:
    """The fold. Give it what the store holds in order: events as there are any, ticks and looks as they were kept."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.rollout = Rollout(name=plan.name)
        self.missing: str | None = None
        """Why nothing can be decided again; None while it can."""
        self._speed = 1.0
        self._events: list[e.Event] = []
        self._evidence = begin_attempt(plan, 0, 0.0, self._speed)
        self._begun = 0
        """Revision at which the evidence began."""
        self._kept: tuple[int, book.EvidenceState] | None = None
        """Attempt and evidence as of the last tick kept: what a controller that starts goes on from."""
        self._asked: set[str] = set()
        """Commands that looks have asked for and the history has not told of yet."""
        self._unexplained: list[Compared] = []

    def extend(self, events: Sequence[e.Event]) -> None:
        """Take note of more of the history; it is folded as far as looks and ticks have seen it."""
        self._events += events

    def absorb(self, kept: KeptTick) -> None:
        """Add a tick to the evidence; its number is above that of the one before."""
        if kept.revision is None:
            self._go_to(1)  # all that is known of when it came
            self._miss(f"tick {kept.tick.number} was kept by an older version, without its place in the evidence")
            return
        self._go_to(kept.revision)
        if kept.revision < self._begun or self.missing is not None:
            return  # it belongs to evidence that has been given up
        last = self._evidence.watch.last_number
        if kept.previous != last:
            self._miss(_gap(kept, last))
            return
        self._evidence = book.absorb(self.plan, self._evidence, [kept.tick])
        self._kept = (self.rollout.attempt, self._evidence)

    def compare(self, kept: KeptLook) -> Compared:
        """Decide again at a look, of whose evidence every tick that was kept has been absorbed."""
        self._go_to(kept.look.revision)
        unseen = self._unseen(kept)
        if unseen is not None:
            found = Compared(at=kept.look.at, finding=Finding.BLIND, recomputed=unseen)
        else:
            seen, decision = self._decide(kept.look)
            found = self._judge(kept, seen, decision)
            if decision is not None and found.finding is Finding.SAME:
                self._asked |= {type(command).__name__ for command in decision.commands}
                return found
        self._asked |= set(_ACTS.values())  # whatever it asked for, it has been told of here
        return found

    def unexplained(self) -> list[Compared]:
        """Return what the evidence is said to have done without a look that was kept; each is returned once."""
        found, self._unexplained = self._unexplained, []
        return found

    def finish(self, revision: int) -> None:
        """Fold the history up to a revision, after the last look."""
        self._go_to(revision)

    def _unseen(self, kept: KeptLook) -> str | None:
        """Return what a look rested on that was not kept; None where all of it was."""
        look = kept.look
        if look.revision > self.rollout.revision:
            return f"event {look.revision} of the history is missing"
        if look.revision < self.rollout.revision:
            return f"it was made after event {self.rollout.revision}, by a controller that did not know of it"
        if look.window is not None:
            return None
        if self.missing is None and self._evidence.watch.last_number != look.tick:
            return f"tick {look.tick} is not kept"
        return self.missing

    def _decide(self, look: Look) -> tuple[Observation | None, Decision | None]:
        if look.window is not None:
            return None, decide_window(self.plan, self.rollout, look.window)
        return decide_look(self.plan, self.rollout, self._evidence, look)

    def _judge(self, kept: KeptLook, seen: Observation | None, decision: Decision | None) -> Compared:
        at, told = kept.look.at, _told(kept)
        if decision is None:
            return Compared(at=at, finding=Finding.DIFFERENT, kept=told, recomputed="no gross breach")
        if (decision.outcome.value, digest(decision)) != (kept.outcome, kept.digest):
            return Compared(at=at, finding=Finding.DIFFERENT, kept=told, recomputed=decision.sentence)
        if kept.record is not None:
            again = orjson.loads(to_json({"at": at, **record(self.plan, self.rollout, seen, decision)}))
            differing = sorted(key for key in {*again, *kept.record} if again.get(key) != kept.record.get(key))
            if differing:
                told = f"{told} (differs in {', '.join(differing)})"
                return Compared(at=at, finding=Finding.DIFFERENT, kept=told, recomputed=decision.sentence)
        return Compared(at=at, finding=Finding.SAME)

    # ── the history ─────────────────────────────────────────────────────────────────────────────────────

    def _go_to(self, revision: int) -> None:
        """Fold events up to a revision, and what each did to the evidence."""
        while self.rollout.revision < min(revision, len(self._events)):
            event = self._events[self.rollout.revision]
            self.rollout = evolve(self.rollout, event)
            self._explain(event)
            match event:
                case e.RolloutStarted():
                    self._speed = event.speed
                    self._begin(event.at)
                case e.Retried():
                    self._begin(event.at)
                case e.ControllerStarted():
                    self._speed = event.speed
                    self._restart(event.at)
                case e.PhasePromoted():
                    self._enter()
                case _:
                    pass
            self._evidence = book.stay_away(self._evidence, self.rollout.away)

    def _explain(self, event: e.Event) -> None:
        """Note an act of the evidence that no look has asked for."""
        command = _ACTS.get(type(event))
        others = ("person", "proxy", "unattended", "drill")
        by_people = getattr(event, "by", "") or getattr(event, "trigger", "") in others
        if command is None or by_people:
            return
        if command not in self._asked:
            reason = "the look that decided it is not kept"
            self._unexplained.append(
                Compared(at=event.at, finding=Finding.BLIND, kept=type(event).__name__, recomputed=reason)
            )
        self._asked.discard(command)

    def _begin(self, at: float) -> None:
        self._evidence = begin_attempt(self.plan, self.rollout.phase, at, self._speed)
        self._begun, self.missing = self.rollout.revision, None

    def _restart(self, at: float) -> None:
        """Go on as a controller that starts does: from the evidence kept last, if it is of this attempt."""
        if self.missing is not None:
            return
        if self._kept is None or self._kept[0] != self.rollout.attempt:
            self._begin(at)
            return
        self._evidence = self._kept[1]
        self._enter()

    def _enter(self) -> None:
        rollout = self.rollout
        if self._evidence.phase != rollout.phase:
            self._evidence = book.enter_phase(self.plan, self._evidence, rollout.phase, rollout.phase_since)

    def _miss(self, reason: str) -> None:
        self.missing = self.missing or reason


def _gap(kept: KeptTick, last: int | None) -> str:
    number = kept.tick.number
    if kept.previous is None:
        return f"the evidence began anew with tick {number}, and the history does not say why"
    if last is None or last < kept.previous:
        return f"tick {kept.previous}, which came before tick {number}, is not kept"
    return f"tick {number} was absorbed by a controller that did not know of tick {last}"


def _told(kept: KeptLook) -> str:
    sentence = None if kept.record is None else kept.record.get("sentence")
    return kept.outcome if sentence is None else str(sentence)

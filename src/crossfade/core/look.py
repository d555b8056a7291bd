"""One look: what a decision rests on besides plan, history and ticks. Controller and replay both decide here.

So what is kept of a look is enough to decide again, on any machine that has the plan, the events and the ticks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from crossfade.core.decide import Decision, Outcome, RollBack, decide
from crossfade.core.evidence import book, watch
from crossfade.core.evidence.sums import Tick
from crossfade.core.gates import Surroundings
from crossfade.core.jsonable import to_json
from crossfade.core.observation import Blindness, Observation
from crossfade.core.plan import Plan
from crossfade.core.rollout import Rollout

DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The inputs of one decision that are written down nowhere else."""

    at: float
    """Plan time at which it was made."""
    due: float
    """Plan time up to which requests were taken to have arrived: `at` less the collector's lateness."""
    revision: int
    """Of the history that it saw."""
    tick: int | None
    """Number of the last tick in the evidence; None where it held none yet."""
    around: Surroundings = field(default_factory=Surroundings)
    unkept: str | None = None
    """Why the store could not keep the evidence; None where it could."""
    window: Tick | None = None
    """The requests that ended just before, where they were grossly bad: such a decision rests on nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptLook:
    """One look: what its decision rested on, what came of it, and the whole record where it said something new."""

    look: Look
    outcome: str
    digest: bytes
    """Of sentence and commands, as `digest` gives it."""
    record: Mapping[str, object] | None = None
    """Sentence, commands, gates and readings, for people."""
    number: int = 0
    """Given by the store: later ones are higher."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTick:
    """One tick and its place in the evidence."""

    tick: Tick
    revision: int | None
    """Of the history when it was absorbed; None where a version kept it that did not note this."""
    previous: int | None
    """Number of the tick absorbed before it; None where the evidence began with this one."""


def begin_attempt(plan: Plan, phase: int, at: float, speed: float) -> book.EvidenceState:
    """Return the evidence of an attempt that begins in a phase at `at`, by a clock of that speed."""
    begun = book.begin(plan, at, watch.USUAL_TICK_S * speed)
    return book.enter_phase(plan, begun, phase, at)


def decide_look(
    plan: Plan, rollout: Rollout, evidence: book.EvidenceState, look: Look, *, reader: book.Reader | None = None
) -> tuple[Observation, Decision]:
    """Return what the evidence says at a look, and what is to be done; `rollout` is as of `look.revision`.

    Whoever looks again and again at the same evidence gives their `reader`.
    """
    seen = (reader or book.Reader(plan))(evidence, look.due)
    if look.unkept is not None:
        unseen = Blindness(what="store", since=look.at, reason=f"decisions can't be kept: {look.unkept}")
        seen = replace(seen, blind=(*seen.blind, unseen))
    return seen, decide(plan, rollout, seen, look.around, look.at)


def decide_window(plan: Plan, rollout: Rollout, window: Tick) -> Decision | None:
    """Return the rollback that a window of the last requests asks for; None where it shows no gross breach."""
    breach = book.gross(plan, window, phase=rollout.phase)
    if breach is None:
        return None
    command = RollBack(trigger=breach.metric, reason=breach.sentence, users_hurt=breach.k2)
    return Decision(outcome=Outcome.ROLL_BACK, reason=breach.sentence, commands=(command,))


def digest(decision: Decision) -> bytes:
    """Return eight bytes that stand for a decision's sentence and commands, so that each can be compared.

    Two decisions that differ share them with probability 2^-64.
    """
    commands = [[type(command).__name__, command] for command in decision.commands]
    return blake2b(to_json([decision.sentence, commands]), digest_size=DIGEST_BYTES).digest()


def record(plan: Plan, rollout: Rollout, seen: Observation | None, decision: Decision) -> dict[str, object]:
    """Return a decision with all that was seen, as it is kept for people; `seen` is None for a window."""
    return {
        "outcome": decision.outcome.value,
        "sentence": decision.sentence,
        "phase": plan.phases[rollout.phase].name,
        "state": rollout.state.value,
        "revision": rollout.revision,
        "commands": [type(command).__name__ for command in decision.commands],
        "gates": [{"gate": g.text, "verdict": g.verdict.value, "evidence": g.evidence} for g in decision.gates],
        "seen": seen,
    }

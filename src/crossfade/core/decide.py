"""`decide`: from a plan, a rollout and what was seen to what is to be done, and why.

The order is the policy: harm first, then whether we can see, then what asks for a hold, then a person's pause,
and only then whether every gate has passed. No data never promotes and never rolls back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from crossfade.core.gates import GateStatus, Surroundings, checklist, drill_due_in_s
from crossfade.core.machine import State
from crossfade.core.observation import Observation, Reading
from crossfade.core.plan import Action, GateKind, Plan
from crossfade.core.rollout import Rollout
from crossfade.core.verdict import Verdict
from crossfade.core.words import duration, percent


class Outcome(StrEnum):
    """What a decision comes to."""

    ROLL_BACK = "ROLL BACK"
    BOTH_BAD = "BOTH BAD"
    BLIND = "BLIND"
    HOLD = "HOLD"
    PAUSED = "PAUSED"
    DRILL = "DRILL"
    PROMOTE = "PROMOTE"
    COMPLETE = "COMPLETE"
    NOT_YET = "NOT ENOUGH YET"
    NOTHING = "NOTHING TO DO"


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """Put everybody on V1 now."""

    trigger: str
    reason: str
    users_hurt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote:
    """Enter the next phase."""

    phase: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """Roll back on purpose, and return to the split once that is shown to have worked."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete:
    """The last phase's gates have passed."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginHold:
    """Record that promotions stop, and why."""

    kind: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndHold:
    """Record that the reason to hold is gone."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseAlert:
    """Tell people."""

    key: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearAlert:
    """Tell people that it is over."""

    key: str
    sentence: str


UNATTENDED = "unattended"
"""Key of the alert that no controller looks after a proxy: its nodes tell, and no evidence."""

Command = RollBack | Promote | Drill | Complete | BeginHold | EndHold | RaiseAlert | ClearAlert


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do, why, and when to look again."""

    outcome: Outcome
    reason: str
    """One sentence: value, limit, interval, sample."""
    commands: tuple[Command, ...] = ()
    gates: tuple[GateStatus, ...] = ()
    look_again_s: float | None = None
    """Plan seconds until something is expected to change; None where only a person or the next tick can tell."""

    @property
    def sentence(self) -> str:
        """Return outcome, reason and next look as one line."""
        look = "" if self.look_again_s is None else f"; next look in {duration(self.look_again_s)}"
        return f"{self.outcome.value}: {self.reason}{look}"


def decide(plan: Plan, rollout: Rollout, seen: Observation, around: Surroundings, now: float) -> Decision:
    """Return what is to be done about a rollout, given what was seen up to `now` (plan time)."""
    if rollout.wanted_retired:
        return _without_v1(plan, rollout, seen, now)
    if rollout.state not in (State.RUNNING, State.PAUSED, State.DRILLING, State.COMPLETED):
        return Decision(outcome=Outcome.NOTHING, reason=f"the rollout is {rollout.state.value}")
    harm = _harm(plan, seen, now)
    if harm is not None:
        return Decision(outcome=Outcome.ROLL_BACK, reason=harm.reason, commands=(harm,))
    if rollout.state is State.DRILLING:
        return Decision(outcome=Outcome.DRILL, reason="everyone is on V1 on purpose, until it is shown to have worked")
    gates = checklist(plan, rollout, seen, around, now)
    if rollout.state is State.COMPLETED:
        reason = "the rollout is completed; V2's guardrails are still watched"
        if plan.retires:
            unmet = why_not_retire(gates)
            reason += f"; V1 can't be retired yet: {unmet}" if unmet else f"; {retirement_offered(rollout)}"
        return Decision(outcome=Outcome.NOTHING, reason=reason, gates=gates if plan.retires else ())
    held = _reason_to_hold(plan, seen, around)
    notices = (*_alerts(plan, rollout, seen, held, now), *_hold_commands(rollout, held))
    if held is not None:
        outcome, reason = held
        return Decision(outcome=outcome, reason=reason, commands=notices, gates=gates)
    if rollout.state is State.PAUSED:
        return Decision(outcome=Outcome.PAUSED, reason="paused by a person", commands=notices, gates=gates)
    phase = plan.phases[rollout.phase]
    if drill_due_in_s(phase, rollout, now) == 0.0 and around.no_drill is None:
        reason = f"the plan's drill in {phase.name}"
        return Decision(outcome=Outcome.DRILL, reason=reason, commands=(*notices, Drill(reason=reason)), gates=gates)
    return _promotion(plan, rollout, gates, notices)


def retirement_offered(rollout: Rollout) -> str:
    """Return how V1 is retired, and that it is for good."""
    return f"V1 can be retired, the one step that no rollback undoes: crossfade retire {rollout.name}"


def why_not_retire(gates: tuple[GateStatus, ...]) -> str | None:
    """Return what the checklist has against retiring V1 now; None where every gate passes."""
    return "; ".join(f"{g.text}: {g.evidence}" for g in gates if g.verdict is not Verdict.PASS) or None


def _without_v1(plan: Plan, rollout: Rollout, seen: Observation, now: float) -> Decision:
    """Return the decision where V1 is no refuge: what would have rolled back is told to people."""
    harm = _harm(plan, seen, now)
    wanted = {} if harm is None else {harm.trigger: f"{harm.reason}; V1 is retired, so nothing can be rolled back"}
    raised = [RaiseAlert(key=key, sentence=text) for key, text in wanted.items() if key not in rollout.alerts]
    over = [key for key in rollout.alerts if key not in (*wanted, UNATTENDED)]
    cleared = [ClearAlert(key=key, sentence=f"over: {rollout.alerts[key]}") for key in over]
    reason = "V1 is retired" if rollout.state is State.RETIRED else "V1 is being retired: not every node has confirmed"
    return Decision(outcome=Outcome.NOTHING, reason=reason, commands=(*raised, *cleared))


def _harm(plan: Plan, seen: Observation, now: float) -> RollBack | None:
    for metric in plan.metrics:
        reading = seen.readings.get(metric.name)
        acts = metric.guard is not None and metric.guard.action is Action.ROLLBACK
        if acts and reading is not None and reading.guard is Verdict.FAIL and not reading.both_bad:
            return RollBack(trigger=metric.name, reason=reading.sentence, users_hurt=reading.users_hurt)
    if plan.blind_rollback_s is not None:
        for blindness in seen.blind:
            lasted = now - blindness.since
            if blindness.matters and lasted > plan.blind_rollback_s:
                limit = duration(plan.blind_rollback_s)
                return RollBack(trigger="blind", reason=f"{blindness.reason} for {duration(lasted)}, limit {limit}")
    return None


def _breached(plan: Plan, seen: Observation, action: Action) -> list[Reading]:
    readings = [
        seen.readings.get(metric.name)
        for metric in plan.metrics
        if metric.guard is not None and metric.guard.action is action
    ]
    return [reading for reading in readings if reading is not None and reading.guard is Verdict.FAIL]


def _reason_to_hold(plan: Plan, seen: Observation, around: Surroundings) -> tuple[Outcome, str] | None:
    bad = [reading for reading in seen.readings.values() if reading.both_bad]
    if bad:
        return Outcome.BOTH_BAD, f"a shared incident, not V2's: {bad[0].sentence}"
    blind = [blindness for blindness in seen.blind if blindness.matters]
    if blind:
        return Outcome.BLIND, "; ".join(b.reason for b in blind)
    if seen.share.verdict is Verdict.FAIL:
        return Outcome.HOLD, f"sample ratio mismatch: {seen.share.sentence}"
    breached = _breached(plan, seen, Action.HOLD)
    if breached:
        return Outcome.HOLD, breached[0].sentence
    if around.drift is not None:
        return Outcome.HOLD, f"the proxy differs from what is wanted: {around.drift}"
    return None


def _hold_commands(rollout: Rollout, held: tuple[Outcome, str] | None) -> tuple[Command, ...]:
    """Return the record of a hold that begins, changes its kind or ends; not of one that goes on."""
    if held is None:
        return (EndHold(reason=f"over: {rollout.held}"),) if rollout.held is not None else ()
    outcome, reason = held
    return () if rollout.held_kind == outcome.value else (BeginHold(kind=outcome.value, reason=reason),)


def _alerts(
    plan: Plan, rollout: Rollout, seen: Observation, held: tuple[Outcome, str] | None, now: float
) -> tuple[Command, ...]:
    wanted = {reading.metric: reading.sentence for reading in _breached(plan, seen, Action.ALERT)}
    for metric in plan.metrics:
        breaker = seen.breakers.get(metric.name)
        limit_s = metric.guard.open_longer_than_s if metric.guard else None
        if breaker is not None and breaker.open_since is not None and limit_s is not None:
            open_s = now - breaker.open_since
            if open_s > limit_s:
                wanted[metric.name] = f"breaker {breaker.name} open for more than {duration(limit_s)}"
    if held is not None and held[0] in (Outcome.BLIND, Outcome.BOTH_BAD):
        wanted[held[0].value.lower()] = held[1]
    raised = [RaiseAlert(key=key, sentence=text) for key, text in wanted.items() if key not in rollout.alerts]
    cleared = [
        ClearAlert(key=key, sentence=f"over: {text}")
        for key, text in rollout.alerts.items()
        if key not in (*wanted, UNATTENDED)
    ]
    return (*raised, *cleared)


def _promotion(plan: Plan, rollout: Rollout, gates: tuple[GateStatus, ...], notices: tuple[Command, ...]) -> Decision:
    waiting = [gate for gate in gates if gate.verdict is not Verdict.PASS]
    if waiting:
        return _not_yet(gates, waiting, notices)
    evidence = next((gate.evidence for gate in gates if gate.kind is GateKind.ON_TARGET), gates[0].evidence)
    if rollout.phase + 1 < len(plan.phases):
        following = plan.phases[rollout.phase + 1]
        reason = f"all {len(gates)} gates passed, on to {following.name} ({percent(following.target)}); {evidence}"
        command: Command = Promote(phase=rollout.phase + 1, reason=reason)
        return Decision(outcome=Outcome.PROMOTE, reason=reason, commands=(*notices, command), gates=gates)
    reason = f"all {len(gates)} gates of the last phase passed; {evidence}"
    return Decision(outcome=Outcome.COMPLETE, reason=reason, commands=(*notices, Complete(reason=reason)), gates=gates)


def _waits(gate: GateStatus) -> str:
    """Return a gate that has not passed, with the time that it is expected to take."""
    return gate.text if gate.left_s is None else f"{gate.text} in about {duration(gate.left_s)}"


def _not_yet(gates: tuple[GateStatus, ...], waiting: list[GateStatus], notices: tuple[Command, ...]) -> Decision:
    failed = [gate for gate in waiting if gate.verdict is Verdict.FAIL]
    first = (
        failed or sorted(waiting, key=lambda gate: (gate.kind is GateKind.SOAK, gate.kind is not GateKind.ON_TARGET))
    )[0]
    lefts = [gate.left_s for gate in waiting]
    known = [left for left in lefts if left is not None]
    count = f"{len(gates) - len(waiting)} of {len(gates)} gates passed"
    others = f"; {', '.join(map(_waits, waiting))}" if len(waiting) > 1 else ""
    reason = f"{count}{others}; {first.text}: {first.evidence}"
    outcome = Outcome.HOLD if failed else Outcome.NOT_YET
    return Decision(
        outcome=outcome,
        reason=reason,
        commands=notices,
        gates=gates,
        look_again_s=max(known) if known and len(known) == len(lefts) else None,
    )

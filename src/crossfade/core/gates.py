"""Gates: each condition to leave a phase, as a line of a checklist with its evidence, limit and time left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crossfade.core.events import PeakLoadRecorded, RehearsalRecorded
from crossfade.core.observation import Observation
from crossfade.core.plan import DAY, Action, Gate, GateKind, MetricKind, Phase, Plan
from crossfade.core.rollout import Rollout
from crossfade.core.verdict import Verdict, combine
from crossfade.core.words import duration, moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is known besides the evidence."""

    rollback_ready: bool | None = None
    """The rollback connection answered on every node; None where nobody asked."""
    drift: str | None = None
    """How the proxy differs from what is wanted and could not be set right; None where it doesn't."""
    no_drill: str | None = None
    """Why a drill can't begin now, in a phase whose plan has one; None where it can, or none is planned."""
    exempted: str | None = None
    """Which clients are exempt until when; empty: none, None where the register could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateStatus:
    """One line of the checklist."""

    text: str
    kind: GateKind
    verdict: Verdict
    evidence: str
    """What has been seen, beside its limit."""
    left_s: float | None = None
    """Plan seconds until it can pass, as far as that is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    plan: Plan
    rollout: Rollout
    phase: Phase
    seen: Observation
    around: Surroundings
    now: float

    @property
    def blind(self) -> str | None:
        """Why nothing can be said now; None where something can."""
        return next((b.reason for b in self.seen.blind if b.matters), None)


def checklist(
    plan: Plan, rollout: Rollout, seen: Observation, around: Surroundings, now: float
) -> tuple[GateStatus, ...]:
    """Return the state of every gate of the present phase, soak first."""
    phase = plan.phases[rollout.phase]
    look = _Look(plan=plan, rollout=rollout, phase=phase, seen=seen, around=around, now=now)
    soak = Gate(kind=GateKind.SOAK, text=f"soak {duration(phase.soak_s)}", for_s=phase.soak_s)
    gates = [gate for gate in phase.gates if gate.kind is not GateKind.SOAK]
    return tuple(_EVALUATE[gate.kind](gate, look) for gate in (soak, *gates))


def _status(gate: Gate, verdict: Verdict, evidence: str, left_s: float | None = None) -> GateStatus:
    return GateStatus(text=gate.text, kind=gate.kind, verdict=verdict, evidence=evidence, left_s=left_s)


def _soak(gate: Gate, look: _Look) -> GateStatus:
    lasted = look.rollout.lasted(look.rollout.phase_since, look.now)
    left = gate.for_s - lasted
    text = f"{duration(max(0.0, lasted))} of {duration(gate.for_s)}"
    if left <= 0:
        return _status(gate, Verdict.PASS, text, 0.0)
    return _status(gate, Verdict.INCONCLUSIVE, text, left)


def _for_as_long(gate: Gate, look: _Look, since: float | None, what: str, otherwise: str) -> GateStatus:
    """Judge a condition that must have held for `for_s` up to now, inside this phase."""
    if look.blind is not None:
        return _status(gate, Verdict.BLIND, f"can't be seen: {look.blind}")
    if since is None:
        return _status(gate, Verdict.INCONCLUSIVE, otherwise, gate.for_s)
    held = max(0.0, look.rollout.lasted(since, look.now))
    text = f"{what} for {duration(held)} of {duration(gate.for_s)}"
    if held >= gate.for_s:
        return _status(gate, Verdict.PASS, text, 0.0)
    return _status(gate, Verdict.INCONCLUSIVE, text, gate.for_s - held)


def _on_target(gate: Gate, look: _Look) -> GateStatus:
    reading = look.seen.readings.get(gate.metric or "")
    if reading is None:
        return _status(gate, Verdict.BLIND, "no reading yet")
    left = None
    if reading.target is Verdict.PASS:
        left = 0.0
    elif reading.forecast_s is not None:
        left = reading.forecast_s[1]
    return _status(gate, reading.target, reading.sentence, left)


def _limit(gate: Gate, look: _Look) -> GateStatus:
    reading = look.seen.readings.get(gate.metric or "")
    said = reading is not None and look.plan.metric(reading.metric).kind is MetricKind.COMPLAINTS
    if reading is None or reading.v2 is None or gate.limit is None:
        return _status(gate, Verdict.BLIND, "nobody on V2 has given feedback yet" if said else "no value yet")
    if reading.target is Verdict.BLIND:
        return _status(gate, Verdict.BLIND, f"can't be seen now; it was {reading.v2:.4g}")
    holds = gate.limit.comparison.holds(reading.v2, gate.limit.value)
    verdict = Verdict.PASS if holds else Verdict.INCONCLUSIVE
    of = "users' days with feedback" if said else "answers"
    text = f"{reading.v2:.4g}, wanted {gate.limit.comparison.value} {gate.limit.value:g}; {reading.n2:,} {of}"
    return _status(gate, verdict, text, 0.0 if holds else None)


def _no_critical_errors(gate: Gate, look: _Look) -> GateStatus:
    return _for_as_long(gate, look, look.seen.no_critical_since, "none", "one has just been seen, or nobody watched")


def _stable(gate: Gate, look: _Look) -> GateStatus:
    return _for_as_long(gate, look, look.seen.stable_since, "stable", "a guardrail is breached, or nobody watched")


def _no_v1_requests(gate: Gate, look: _Look) -> GateStatus:
    since = look.seen.v1_silent_since
    what = "none" if since is None else f"none since {moment(since)} UTC,"
    return _for_as_long(gate, look, since, what, "V1 is still asked for, or answers in V2's place")


def _share_rises(gate: Gate, look: _Look) -> GateStatus:
    seen = look.seen.adoption
    if look.blind is not None:
        return _status(gate, Verdict.BLIND, f"can't be seen: {look.blind}")
    if seen.last is None or seen.first is None:
        return _status(gate, Verdict.BLIND, "no whole day (UTC) with requests has been watched yet")
    fell = "" if seen.fell is None else f"; it fell on {moment(seen.fell * DAY)[:10]}"
    if seen.run < 2:
        return _status(gate, Verdict.INCONCLUSIVE, f"{seen.last:.1%} on the latest day; one more is needed{fell}")
    text = f"from {seen.first:.1%} to {seen.last:.1%} of all requests in {seen.run} days without a fall{fell}"
    return _status(gate, Verdict.PASS if seen.rises else Verdict.INCONCLUSIVE, text, 0.0 if seen.rises else None)


def _no_stuck_breaker(gate: Gate, look: _Look) -> GateStatus:
    watched = [metric for metric in look.plan.metrics if metric.kind is MetricKind.BREAKER]
    if not watched:
        return _status(gate, Verdict.BLIND, "the plan watches no breaker")
    verdicts, parts = [], []
    for metric in watched:
        reading = look.seen.breakers.get(metric.name)
        limit_s = (metric.guard.open_longer_than_s if metric.guard else None) or 300.0
        if reading is None or reading.last_seen is None:
            verdicts.append(Verdict.BLIND)
            parts.append(f"{metric.name}: no answer has told its state")
        elif reading.open_since is None:
            verdicts.append(Verdict.PASS)
            parts.append(f"not open; longest opening {duration(reading.longest_open_s)}")
        else:
            open_s = look.now - reading.open_since
            verdicts.append(Verdict.FAIL if open_s > limit_s else Verdict.INCONCLUSIVE)
            parts.append(f"open for {duration(open_s)}, limit {duration(limit_s)}")
    return _status(gate, combine(verdicts), "; ".join(parts))


def _no_cascading_failures(gate: Gate, look: _Look) -> GateStatus:
    watched = [m.name for m in look.plan.metrics if m.guard is not None and m.guard.action is Action.ROLLBACK]
    readings = [look.seen.readings[name] for name in watched if name in look.seen.readings]
    verdict = combine(reading.guard for reading in readings)
    breached = [reading.metric for reading in readings if reading.guard is Verdict.FAIL]
    openings = ", ".join(
        f"{b.name} open {b.share_open:.1%} of the answers" for b in look.seen.breakers.values() if b.share_open
    )
    text = f"{', '.join(breached)} breached" if breached else f"{', '.join(watched)} inside their limits"
    return _status(gate, verdict, f"{text}{'; ' + openings if openings else ''}")


def _rollback_ready(gate: Gate, look: _Look) -> GateStatus:
    match look.around.rollback_ready:
        case True:
            return _status(gate, Verdict.PASS, "the rollback connection answers on every node", 0.0)
        case False:
            return _status(gate, Verdict.FAIL, "the rollback connection does not answer on every node")
        case _:
            return _status(gate, Verdict.BLIND, "nobody has asked the proxy yet")


def drill_due_in_s(phase: Phase, rollout: Rollout, now: float) -> float | None:
    """Return the plan seconds until the phase's drill is due, 0 once it is; None where none is left to be done."""
    if phase.drill is None or rollout.drilled_phase == rollout.phase:
        return None
    return max(0.0, phase.drill.after_s - rollout.lasted(rollout.phase_since, now))


def _drill_passed(gate: Gate, look: _Look) -> GateStatus:
    rollout = look.rollout
    reached = enumerate(look.plan.phases[: rollout.phase + 1])
    asked = [index for index, phase in reached if any(own.kind is gate.kind for own in phase.own_gates)]
    if rollout.drilled_phase is not None and rollout.drilled_phase >= max(asked, default=rollout.phase):
        return _status(gate, Verdict.PASS, rollout.drilled or "", 0.0)
    left = drill_due_in_s(look.phase, rollout, look.now)
    if left is None:
        return _status(gate, Verdict.INCONCLUSIVE, f"waits for: crossfade drill {rollout.name}")
    if left > 0:
        return _status(gate, Verdict.INCONCLUSIVE, f"the plan's drill begins in {duration(left)}", left)
    waits = f"can't begin: {look.around.no_drill}" if look.around.no_drill else "due"
    return _status(gate, Verdict.INCONCLUSIVE, f"the plan's drill: {waits}")


def _rehearsal_passed(gate: Gate, look: _Look) -> GateStatus:
    return _recorded(gate, look, look.rollout.rehearsed, "waits for: crossfade rehearse PLAN --record")


def _peak_load_passed(gate: Gate, look: _Look) -> GateStatus:
    return _recorded(gate, look, look.rollout.peak, "waits for: crossfade rehearse PLAN --only load --record")


def _recorded(gate: Gate, look: _Look, seen: RehearsalRecorded | PeakLoadRecorded | None, waits: str) -> GateStatus:
    if seen is None:
        return _status(gate, Verdict.INCONCLUSIVE, f"none is recorded; {waits}")
    when, verdict = f"ended {moment(seen.ended)} UTC", Verdict(seen.outcome)
    if seen.digest != look.plan.rehearsal_digest:
        return _status(gate, Verdict.INCONCLUSIVE, f"the plan has changed since the one that {when}; {waits}")
    expires_s = look.plan.rehearsal.expires_s
    if verdict is Verdict.PASS and look.now - seen.ended >= expires_s:
        return _status(gate, Verdict.INCONCLUSIVE, f"expired: {when}, and counts for {duration(expires_s)}; {waits}")
    if verdict is Verdict.PASS:
        return _status(gate, verdict, f"{seen.sentence}; {when}, counts for {duration(expires_s)}", 0.0)
    return _status(gate, verdict, f"{seen.sentence}; {when}; {waits}")


def _no_exempted_clients(gate: Gate, look: _Look) -> GateStatus:
    match look.around.exempted:
        case None:
            return _status(gate, Verdict.BLIND, "the register of clients could not be read")
        case "":
            return _status(gate, Verdict.PASS, "nobody's exemption lasts", 0.0)
        case who:
            return _status(gate, Verdict.INCONCLUSIVE, f"exempt: {who}")


def approvals_missing(phase: Phase, rollout: Rollout, person: str | None = None) -> int:
    """Return how many more people must approve leaving a phase, were `person` to approve as well."""
    wanted = max((gate.people for gate in phase.gates if gate.kind is GateKind.APPROVED), default=0)
    return max(0, wanted - len({*rollout.approvals, person} - {None}))


def _approved(gate: Gate, look: _Look) -> GateStatus:
    given, missing = look.rollout.approvals, approvals_missing(look.phase, look.rollout)
    if not missing:
        return _status(gate, Verdict.PASS, f"by {' and '.join(given.values())}", 0.0)
    waits = f"waits for: crossfade approve {look.rollout.name}"
    if gate.people == 1:
        return _status(gate, Verdict.INCONCLUSIVE, waits)
    who = f": {', '.join(given.values())}" if given else ""
    more = f"{missing} more people" if missing > 1 else "one more person"
    return _status(gate, Verdict.INCONCLUSIVE, f"{len(given)} of {gate.people}{who}; {more}; {waits}")


_EVALUATE: dict[GateKind, Callable[[Gate, _Look], GateStatus]] = {
    GateKind.SOAK: _soak,
    GateKind.ON_TARGET: _on_target,
    GateKind.LIMIT: _limit,
    GateKind.NO_CRITICAL_ERRORS: _no_critical_errors,
    GateKind.NO_STUCK_BREAKER: _no_stuck_breaker,
    GateKind.STABLE: _stable,
    GateKind.NO_V1_REQUESTS: _no_v1_requests,
    GateKind.SHARE_RISES: _share_rises,
    GateKind.NO_CASCADING_FAILURES: _no_cascading_failures,
    GateKind.ROLLBACK_READY: _rollback_ready,
    GateKind.DRILL_PASSED: _drill_passed,
    GateKind.REHEARSAL_PASSED: _rehearsal_passed,
    GateKind.PEAK_LOAD_PASSED: _peak_load_passed,
    GateKind.NO_EXEMPTED_CLIENTS: _no_exempted_clients,
    GateKind.APPROVED: _approved,
}

"""`decide`: the order of policy, gates as a checklist, and what no data means."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crossfade.core import decide as d
from crossfade.core import events as e
from crossfade.core.gates import Surroundings, checklist
from crossfade.core.observation import Blindness, BreakerReading, Observation, Reading
from crossfade.core.plan import DAY, HOUR, Comparison, DrillStep, Gate, GateKind, Limit, Phase, Plan
from crossfade.core.rollout import Rollout, fold
from crossfade.core.verdict import Verdict, combine

START = 1_000_000.0
LATER = START + DAY
READY = Surroundings(rollback_ready=True)


def reading(metric: str = "failure_rate", guard: Verdict = Verdict.PASS, **fields: object) -> Reading:
    values: dict[str, object] = {"target": Verdict.PASS, "sentence": f"{metric} sentence", **fields}
    return Reading(metric=metric, guard=guard, **values)  # type: ignore[arg-type]


def seen(*readings: Reading, **fields: object) -> Observation:
    values: dict[str, object] = {
        "stable_since": START,
        "no_critical_since": START,
        "readings": {r.metric: r for r in readings or (reading(),)},
        **fields,
    }
    return Observation(**values)  # type: ignore[arg-type]


def running(phase: int = 1, *more: e.Event) -> Rollout:
    history: list[e.Event] = [e.RolloutStarted(at=START, plan="trips", digest="d")]
    history += [e.PhasePromoted(at=START, phase=i, name=str(i), reason="") for i in range(1, phase + 1)]
    return fold("trips", [*history, *more])


def outcome(plan: Plan, rollout: Rollout, what: Observation, now: float = LATER) -> d.Decision:
    return d.decide(plan, rollout, what, READY, now)


def test_all_gates_passed_promotes_to_the_next_phase(plan: Plan) -> None:
    decision = outcome(plan, running(), seen())
    assert (decision.outcome, decision.commands[-1].phase) == (d.Outcome.PROMOTE, 2)  # type: ignore[union-attr]


def test_nothing_seen_is_neither_a_pass_nor_a_failure(plan: Plan) -> None:
    decision = outcome(plan, running(), Observation())
    assert (decision.outcome, decision.commands) == (d.Outcome.NOT_YET, ())


def test_a_breached_rollback_guardrail_rolls_back_before_anything_else(plan: Plan) -> None:
    """Blindness, a pause and an unfinished soak all stand behind it."""
    what = seen(reading(guard=Verdict.FAIL), blind=(Blindness(what="telemetry", since=START, reason="dark"),))
    paused = running(1, e.Paused(at=START, by="p", reason=""))
    decision = outcome(plan, paused, what, START + 1)
    assert d.Outcome.ROLL_BACK is decision.outcome
    assert (d.RollBack(trigger="failure_rate", reason="failure_rate sentence"),) == decision.commands


def test_a_completed_rollout_is_still_guarded(plan: Plan) -> None:
    completed = running(2, e.RolloutCompleted(at=START, reason=""))
    assert d.Outcome.ROLL_BACK is outcome(plan, completed, seen(reading(guard=Verdict.FAIL))).outcome


@pytest.mark.parametrize(
    ("target", "value", "verdict"),
    [
        (Verdict.INCONCLUSIVE, 0.9, Verdict.PASS),
        (Verdict.INCONCLUSIVE, 0.7, Verdict.INCONCLUSIVE),
        (Verdict.BLIND, 0.9, Verdict.BLIND),
        (Verdict.BLIND, None, Verdict.BLIND),
    ],
)
def test_a_limit_is_not_met_by_what_was_seen_before_nobody_could_look(
    plan: Plan, target: Verdict, value: float | None, verdict: Verdict
) -> None:
    limit = Limit(comparison=Comparison.GE, value=0.8)
    gate = Gate(kind=GateKind.LIMIT, text="latency_p95 >= 80%", metric="latency_p95", limit=limit)
    phases = (plan.phases[0], replace(plan.phases[1], gates=(gate,)), plan.phases[2])
    held = replace(plan, phases=phases)
    what = seen(reading("latency_p95", target=target, v2=value))
    assert verdict is checklist(held, running(), what, READY, LATER)[1].verdict


def test_both_versions_bad_holds_and_alerts_and_never_rolls_back(plan: Plan) -> None:
    decision = outcome(plan, running(), seen(reading(guard=Verdict.FAIL, both_bad=True)))
    assert d.Outcome.BOTH_BAD is decision.outcome
    assert [type(c).__name__ for c in decision.commands] == ["RaiseAlert", "BeginHold"]


def test_blindness_that_matters_holds_with_an_alert_and_says_what_cannot_be_seen(plan: Plan) -> None:
    blind = Blindness(what="telemetry", since=START, reason="no telemetry for 5m")
    decision = outcome(plan, running(), seen(blind=(blind,)))
    assert (decision.outcome, decision.reason) == (d.Outcome.BLIND, "no telemetry for 5m")
    assert [type(c).__name__ for c in decision.commands] == ["RaiseAlert", "BeginHold"]


def test_blindness_that_no_decision_rests_on_changes_nothing(plan: Plan) -> None:
    blind = Blindness(what="fact x", since=START, reason="nobody tells x", matters=False)
    assert d.Outcome.PROMOTE is outcome(plan, running(), seen(blind=(blind,))).outcome


@pytest.mark.parametrize(("blind_s", "expected"), [(HOUR - 1, d.Outcome.BLIND), (HOUR + 1, d.Outcome.ROLL_BACK)])
def test_blindness_rolls_back_only_past_the_plans_own_limit(plan: Plan, blind_s: float, expected: d.Outcome) -> None:
    strict = replace(plan, blind_rollback_s=HOUR)
    blind = Blindness(what="telemetry", since=LATER - blind_s, reason="dark")
    assert expected is outcome(strict, running(), seen(blind=(blind,))).outcome


def test_a_hold_guardrail_holds_and_is_recorded_once(plan: Plan) -> None:
    slow = seen(reading(), reading("latency_p95", guard=Verdict.FAIL))
    first = outcome(plan, running(), slow)
    held = running(1, e.HoldBegan(at=LATER, kind="HOLD", reason="r"))
    assert (first.outcome, len(first.commands)) == (d.Outcome.HOLD, 1)
    assert outcome(plan, held, slow).commands == ()


def test_the_end_of_a_hold_is_recorded_and_the_rollout_goes_on(plan: Plan) -> None:
    held = running(1, e.HoldBegan(at=LATER, kind="HOLD", reason="slow"))
    decision = outcome(plan, held, seen())
    assert d.EndHold(reason="over: slow") == decision.commands[0]
    assert d.Outcome.PROMOTE is decision.outcome


def test_a_paused_rollout_is_watched_and_not_promoted(plan: Plan) -> None:
    paused = running(1, e.Paused(at=START, by="p", reason=""))
    assert d.Outcome.PAUSED is outcome(plan, paused, seen()).outcome


def test_a_breaker_open_too_long_alerts_once_and_clears(plan: Plan) -> None:
    open_now = {"breaker_open": BreakerReading(name="weather", open_since=LATER - 301, last_seen=LATER)}
    raised = outcome(plan, running(), seen(breakers=open_now)).commands
    alerted = running(1, e.AlertRaised(at=LATER, key="breaker_open", sentence="s"))
    assert d.RaiseAlert(key="breaker_open", sentence="breaker weather open for more than 5m") == raised[0]
    assert d.RaiseAlert not in [type(c) for c in outcome(plan, alerted, seen(breakers=open_now)).commands]
    assert d.ClearAlert in [type(c) for c in outcome(plan, alerted, seen()).commands]


def test_drift_that_could_not_be_mended_holds(plan: Plan) -> None:
    decision = d.decide(plan, running(), seen(), Surroundings(rollback_ready=True, drift="node 1: gone"), LATER)
    assert d.Outcome.HOLD is decision.outcome


def test_the_last_phase_waits_for_approval_and_then_completes(plan: Plan) -> None:
    waiting = outcome(plan, running(2), seen())
    approved = running(2, e.GateApproved(at=LATER, phase=2, by="ada", reason=""))
    assert "crossfade approve trips" in waiting.reason
    assert d.Outcome.COMPLETE is outcome(plan, approved, seen()).outcome


def test_a_promotion_takes_the_approval_of_the_phase_before_with_it(plan: Plan) -> None:
    approval = e.GateApproved(at=LATER, phase=1, by="ada", reason="")
    promoted = e.PhasePromoted(at=LATER, phase=2, name="2", reason="")
    assert running(1, approval).approvals == {"ada": "ada"}
    assert running(1, approval, promoted).approvals == {}


def by_two(plan: Plan) -> Plan:
    """Return the plan with a last phase that two people approve leaving."""
    *before, last = plan.phases
    two = Gate(kind=GateKind.APPROVED, text="approved by 2 people", people=2)
    return replace(plan, phases=(*before, replace(last, gates=(*before[-1].gates, two))))


def approval(by: str, person: str = "") -> e.GateApproved:
    return e.GateApproved(at=LATER, phase=2, by=by, reason="", person=person)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "0 of 2; 2 more people; waits for: crossfade approve trips"),
        ([approval("ada")], "1 of 2: ada; one more person; waits for: crossfade approve trips"),
        ([approval("ada"), approval("ada")], "1 of 2: ada; one more person; waits for: crossfade approve trips"),
        ([approval("ada", "local"), approval("bob", "local")], "1 of 2: bob; one more person"),
        ([approval("ada"), approval("bob")], "by ada and bob"),
        ([approval("ada", "local"), approval("ada", "ada")], "by ada and ada"),
    ],
)
def test_two_people_are_two_tokens_whatever_they_call_themselves(
    plan: Plan, given: list[e.GateApproved], told: str
) -> None:
    line = checklist(by_two(plan), running(2, *given), seen(), READY, LATER)[-1]
    assert line.evidence.startswith(told)
    assert (line.verdict is Verdict.PASS) is told.startswith("by ")


def test_approvals_end_with_the_attempt(plan: Plan) -> None:
    back = e.RolledBack(at=LATER, reason="", trigger="person", took_s=0.1, nodes={})
    again = e.Retried(at=LATER, phase=2, name="2", by="ada", reason="")
    assert running(2, approval("ada"), approval("bob"), back, again).approvals == {}


@pytest.mark.parametrize("verdict", [Verdict.INCONCLUSIVE, Verdict.BLIND])
def test_a_target_that_is_not_shown_never_promotes(plan: Plan, verdict: Verdict) -> None:
    assert d.Outcome.NOT_YET is outcome(plan, running(), seen(reading(target=verdict))).outcome


def test_a_target_shown_to_be_missed_holds(plan: Plan) -> None:
    assert d.Outcome.HOLD is outcome(plan, running(), seen(reading(target=Verdict.FAIL))).outcome


def test_not_enough_yet_says_when_to_look_again(plan: Plan) -> None:
    decision = outcome(plan, running(), seen(), START + HOUR / 2)
    assert decision.look_again_s == pytest.approx(1.5 * HOUR)
    assert "next look in 1h 30m" in decision.sentence


def test_a_forecast_that_is_missing_leaves_the_next_look_open(plan: Plan) -> None:
    unknown = seen(reading(target=Verdict.INCONCLUSIVE, forecast_s=None))
    assert outcome(plan, running(), unknown).look_again_s is None


def _gate_plan(plan: Plan, gate: Gate) -> Plan:
    phase = replace(plan.phases[1], gates=(gate,))
    return replace(plan, phases=(plan.phases[0], phase, plan.phases[2]))


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (GateKind.NO_CRITICAL_ERRORS, "no_critical_since"),
        (GateKind.STABLE, "stable_since"),
        (GateKind.NO_V1_REQUESTS, "v1_silent_since"),
    ],
)
@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (LATER - 2 * HOUR, Verdict.PASS),
        (LATER - 2 * HOUR + 1, Verdict.INCONCLUSIVE),
        (None, Verdict.INCONCLUSIVE),
    ],
)
def test_a_gate_with_a_duration_wants_all_of_it(
    plan: Plan, kind: GateKind, field: str, since: float | None, expected: Verdict
) -> None:
    gate = Gate(kind=kind, text="g", for_s=2 * HOUR)
    lines = checklist(_gate_plan(plan, gate), running(), seen(**{field: since}), READY, LATER)
    assert expected is lines[1].verdict


def test_a_duration_counts_from_the_start_of_the_phase_at_the_earliest(plan: Plan) -> None:
    gate = Gate(kind=GateKind.STABLE, text="g", for_s=2 * HOUR)
    what = seen(stable_since=START - 10 * DAY)
    lines = checklist(_gate_plan(plan, gate), running(), what, READY, START + HOUR)
    assert (lines[1].verdict, lines[1].left_s) == (Verdict.INCONCLUSIVE, HOUR)


def test_a_duration_can_not_pass_while_blind(plan: Plan) -> None:
    gate = Gate(kind=GateKind.NO_CRITICAL_ERRORS, text="g", for_s=1)
    what = seen(blind=(Blindness(what="telemetry", since=START, reason="dark"),))
    assert Verdict.BLIND is checklist(_gate_plan(plan, gate), running(), what, READY, LATER)[1].verdict


@pytest.mark.parametrize(
    ("breaker", "expected"),
    [
        (None, Verdict.BLIND),
        (BreakerReading(name="w"), Verdict.BLIND),
        (BreakerReading(name="w", last_seen=LATER), Verdict.PASS),
        (BreakerReading(name="w", last_seen=LATER, open_since=LATER - 10), Verdict.INCONCLUSIVE),
        (BreakerReading(name="w", last_seen=LATER, open_since=LATER - 301), Verdict.FAIL),
    ],
)
def test_a_stuck_breaker_is_one_that_is_open_past_its_guard(
    plan: Plan, breaker: BreakerReading | None, expected: Verdict
) -> None:
    gate = Gate(kind=GateKind.NO_STUCK_BREAKER, text="no stuck breaker")
    breakers = {} if breaker is None else {"breaker_open": breaker}
    assert expected is checklist(_gate_plan(plan, gate), running(), seen(breakers=breakers), READY, LATER)[1].verdict


@pytest.mark.parametrize(("ready", "expected"), [(True, Verdict.PASS), (False, Verdict.FAIL), (None, Verdict.BLIND)])
def test_rollback_ready_is_what_the_proxy_answers(plan: Plan, ready: bool | None, expected: Verdict) -> None:
    gate = Gate(kind=GateKind.ROLLBACK_READY, text="rollback ready")
    around = Surroundings(rollback_ready=ready)
    assert expected is checklist(_gate_plan(plan, gate), running(), seen(), around, LATER)[1].verdict


def test_cascading_failures_are_breached_rollback_guardrails(plan: Plan) -> None:
    gate = Gate(kind=GateKind.NO_CASCADING_FAILURES, text="no cascading failures")
    good = checklist(_gate_plan(plan, gate), running(), seen(), READY, LATER)[1]
    bad = checklist(_gate_plan(plan, gate), running(), seen(reading(guard=Verdict.FAIL)), READY, LATER)[1]
    assert (good.verdict, bad.verdict) == (Verdict.PASS, Verdict.FAIL)


def test_every_kind_of_gate_can_be_evaluated(plan: Plan) -> None:
    for kind in GateKind:
        gate = Gate(kind=kind, text=kind.value, metric="failure_rate", for_s=1)
        assert checklist(_gate_plan(plan, gate), running(), Observation(), Surroundings(), LATER)


def test_the_one_table_of_worst() -> None:
    order = [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.BLIND, Verdict.FAIL]
    assert order == [combine(order[: i + 1]) for i in range(4)]
    assert Verdict.INCONCLUSIVE is combine([])


def test_a_falling_split_can_not_be_constructed(plan: Plan) -> None:
    fallen: Phase = replace(plan.phases[0], name="again")
    with pytest.raises(ValueError, match="falls below"):
        replace(plan, phases=(plan.phases[1], fallen))


PASSED = Gate(kind=GateKind.DRILL_PASSED, text="drill passed")
DRILL = (
    e.DrillStarted(at=START, phase=1, name="half", within_s=60, reason=""),
    e.DrillPassed(at=START, phase=1, name="half", took_s=0.02, last_v2_s=0.0, within_s=60, lasted_s=16, nodes={}),
)


def drilling(plan: Plan, after_s: float = HOUR) -> Plan:
    half = replace(plan.phases[1], gates=(PASSED,), own_gates=(PASSED,), drill=DrillStep(after_s=after_s))
    full = replace(plan.phases[2], gates=(PASSED,))
    return replace(plan, phases=(plan.phases[0], half, full))


def test_a_planned_drill_begins_at_its_time_and_not_before_nor_while_it_is_refused(plan: Plan) -> None:
    due, early = drilling(plan), drilling(plan, 2 * DAY)
    assert outcome(due, running(), seen()).commands[-1] == d.Drill(reason="the plan's drill in half")
    assert outcome(early, running(), seen()).outcome is d.Outcome.NOT_YET
    refused = d.decide(due, running(), seen(), replace(READY, no_drill="V1 is small"), LATER)
    assert (refused.outcome, "can't begin: V1 is small" in refused.reason) == (d.Outcome.NOT_YET, True)


def test_nothing_but_harm_is_decided_during_a_drill(plan: Plan) -> None:
    rollout = running(1, DRILL[0])
    blind = (Blindness(what="telemetry", since=START, reason="dark"),)
    quiet = outcome(drilling(plan), rollout, seen(blind=blind))
    assert (quiet.outcome, quiet.commands) == (d.Outcome.DRILL, ())
    assert outcome(plan, rollout, seen(reading(guard=Verdict.FAIL))).outcome is d.Outcome.ROLL_BACK


def test_a_drill_opens_the_gate_where_it_is_asked_for_and_where_that_is_inherited(plan: Plan) -> None:
    here = running(1, *DRILL)
    after = running(1, *DRILL, e.PhasePromoted(at=START, phase=2, name="full", reason=""))
    for rollout in (here, after):
        status = checklist(drilling(plan), rollout, seen(), READY, LATER)[1]
        assert (status.verdict, "0.02 s after the command" in status.evidence) == (Verdict.PASS, True)


def test_a_drill_of_an_earlier_phase_does_not_count_where_one_is_asked_for_anew(plan: Plan) -> None:
    earlier = tuple(replace(event, phase=0) for event in DRILL)
    rollout = running(0, *earlier, e.PhasePromoted(at=START, phase=1, name="half", reason=""))
    assert checklist(drilling(plan), rollout, seen(), READY, LATER)[1].verdict is Verdict.INCONCLUSIVE


def test_the_time_of_a_drill_is_no_soak(plan: Plan) -> None:
    back = e.SplitApplied(at=START + HOUR / 2, generation=9, everyone=5000, cohorts={}, killed=False)
    soak = checklist(plan, running(1, *DRILL, back), seen(), READY, START + HOUR)[0]
    assert (soak.verdict, soak.left_s) == (Verdict.INCONCLUSIVE, HOUR / 2)

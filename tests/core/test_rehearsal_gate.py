"""The gate `rehearsal passed`: the latest report recorded counts, of this plan, until it expires."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crossfade.core import decide as d
from crossfade.core import events as e
from crossfade.core.gates import GateStatus, Surroundings, checklist
from crossfade.core.observation import Observation
from crossfade.core.plan import DAY, Gate, GateKind, Plan, Rehearsal
from crossfade.core.rollout import Rollout, fold
from crossfade.core.verdict import Verdict

START = 1_000_000.0
READY = Surroundings(rollback_ready=True)


@pytest.fixture
def gated(plan: Plan) -> Plan:
    first, *others = plan.phases
    gate = Gate(kind=GateKind.REHEARSAL_PASSED, text="rehearsal passed")
    phases = (replace(first, gates=(gate,)), *others)
    return replace(plan, phases=phases, rehearsal_digest="d", rehearsal=Rehearsal(expires_s=7 * DAY))


def recorded(outcome: str, sentence: str = "all 60 criteria of 5 parts pass", digest: str = "d") -> e.RehearsalRecorded:
    return e.RehearsalRecorded(
        at=START, by="ada", reason="", digest=digest, outcome=outcome, sentence=sentence, ended=START - DAY
    )


def rollout(*more: e.Event) -> Rollout:
    return fold("trips", [e.RolloutStarted(at=START, plan="trips", digest="d"), *more])


def gate(plan: Plan, what: Rollout, now: float = START + DAY) -> GateStatus:
    return checklist(plan, what, Observation(), READY, now)[-1]


def test_without_a_report_it_waits_and_says_what_to_run(gated: Plan) -> None:
    line = gate(gated, rollout())
    assert line.verdict is Verdict.INCONCLUSIVE
    assert line.evidence == "none is recorded; waits for: crossfade rehearse PLAN --record"


def test_a_pass_counts_until_it_expires_from_its_end_on(gated: Plan) -> None:
    what = rollout(recorded("PASS"))
    assert gate(gated, what, START + 6 * DAY - 1).verdict is Verdict.PASS
    late = gate(gated, what, START + 6 * DAY)
    assert late.verdict is Verdict.INCONCLUSIVE
    assert late.evidence.startswith("expired: ended ")
    assert "counts for 1w" in late.evidence


def test_a_fail_holds_with_the_criterions_name(gated: Plan) -> None:
    what = rollout(recorded("PASS"), recorded("FAIL", "breakers: opens: never opened in 40 failing requests"))
    decision = d.decide(gated, what, Observation(), READY, START + DAY)
    assert decision.outcome is d.Outcome.HOLD
    assert "rehearsal passed: breakers: opens: never opened in 40 failing requests" in decision.reason


def test_the_latest_counts(gated: Plan) -> None:
    assert gate(gated, rollout(recorded("FAIL"), recorded("PASS"))).verdict is Verdict.PASS
    assert gate(gated, rollout(recorded("PASS"), recorded("INCONCLUSIVE"))).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("outcome", ["PASS", "FAIL"])
def test_one_of_another_plan_counts_neither_way(gated: Plan, outcome: str) -> None:
    line = gate(gated, rollout(recorded(outcome, digest="other")))
    assert (line.verdict, "the plan has changed" in line.evidence) == (Verdict.INCONCLUSIVE, True)


def peak(outcome: str, digest: str = "d") -> e.PeakLoadRecorded:
    return e.PeakLoadRecorded(
        at=START, by="ada", reason="", digest=digest, outcome=outcome, sentence="p95: 301 ms", ended=START
    )


def test_a_peak_load_counts_by_itself_and_expires_as_a_rehearsal_does(gated: Plan) -> None:
    first, *others = gated.phases
    asked = Gate(kind=GateKind.PEAK_LOAD_PASSED, text="peak load passed")
    plan = replace(gated, phases=(replace(first, gates=(asked,)), *others))
    waiting = gate(plan, rollout(recorded("PASS")))
    assert waiting.verdict is Verdict.INCONCLUSIVE
    assert waiting.evidence == "none is recorded; waits for: crossfade rehearse PLAN --only load --record"
    assert gate(plan, rollout(peak("PASS"))).verdict is Verdict.PASS
    assert gate(plan, rollout(peak("PASS")), START + 7 * DAY).evidence.startswith("expired: ended ")
    assert gate(plan, rollout(peak("PASS"), peak("FAIL"))).verdict is Verdict.FAIL
    assert gate(plan, rollout(peak("PASS", digest="other"))).verdict is Verdict.INCONCLUSIVE
    assert gate(gated, rollout(recorded("PASS"), peak("FAIL"))).verdict is Verdict.PASS, "of the rehearsal"


def test_a_retry_wants_a_rehearsal_of_what_was_mended(gated: Plan) -> None:
    back = e.RolledBack(at=START, reason="", trigger="person", took_s=0.1, nodes={})
    again = e.Retried(at=START, phase=0, name="internal", by="ada", reason="")
    assert gate(gated, rollout(recorded("PASS"), back, again)).verdict is Verdict.INCONCLUSIVE

"""Retiring V1 as a decision: when it is offered, what its answers say, and that nothing leads back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crossfade.core import events as e
from crossfade.core.decide import Outcome, RaiseAlert, decide
from crossfade.core.deprecation import gone_headers
from crossfade.core.gates import Surroundings
from crossfade.core.machine import State, allowed, refusal
from crossfade.core.observation import Observation, Reading
from crossfade.core.plan import DAY, WEEK, Deprecation, Gate, GateKind
from crossfade.core.rollout import Rollout
from crossfade.core.split import NOBODY, Split
from crossfade.core.verdict import Verdict
from crossfade.engine.apply import compare, wanted_state
from crossfade.ports import NodeState
from crossfade.testing.simulator.plan import PLAN

LAST = len(PLAN.phases) - 1
COMPLETED = Rollout(
    name=PLAN.name, state=State.COMPLETED, phase=LAST, phase_since=0.0, approvals={"ada": "ada"}, generation=7,
    drilled="in early", drilled_phase=1,
)  # fmt: skip
NOW = 2 * WEEK
GOOD = Reading(metric="failure_rate", guard=Verdict.PASS, target=Verdict.PASS, sentence="V2 is fine")
SEEN = Observation(
    readings={"failure_rate": GOOD}, stable_since=0.0, v1_silent_since=NOW - 2 * DAY, no_critical_since=0.0
)


def decided(rollout: Rollout, seen: Observation) -> tuple[Outcome, str]:
    decision = decide(PLAN, rollout, seen, Surroundings(), NOW)
    return decision.outcome, decision.reason


def test_it_is_offered_as_what_nothing_undoes_and_done_by_nobody_but_a_person() -> None:
    decision = decide(PLAN, COMPLETED, SEEN, Surroundings(), NOW)
    assert (decision.outcome, decision.commands) == (Outcome.NOTHING, ())
    assert "the one step that no rollback undoes: crossfade retire simulated" in decision.reason


@pytest.mark.parametrize(
    ("since", "says"),
    [
        (None, "V1 is still asked for"),
        (NOW - DAY / 2, "none since 1970-01-14 12:00:00 UTC, for 12h of 1d"),
    ],
)
def test_a_v1_that_is_asked_for_is_not_offered(since: float | None, says: str) -> None:
    _, reason = decided(COMPLETED, replace(SEEN, v1_silent_since=since))
    assert f"can't be retired yet: no v1 requests for 1d: {says}" in reason


def test_harm_after_it_is_told_and_rolls_nothing_back() -> None:
    bad = replace(SEEN, readings={"failure_rate": replace(GOOD, guard=Verdict.FAIL, sentence="V2 fails")})
    assert decided(COMPLETED, bad)[0] is Outcome.ROLL_BACK
    decision = decide(PLAN, replace(COMPLETED, state=State.RETIRED), bad, Surroundings(), NOW)
    (alert,) = decision.commands
    assert isinstance(alert, RaiseAlert)
    assert alert.sentence == "V2 fails; V1 is retired, so nothing can be rolled back"


def test_nothing_leads_out_of_it() -> None:
    leaving = [kind for kind in e.KINDS.values() if allowed(State.RETIRED, kind)]
    assert {kind.__name__ for kind in leaving} == {
        "SplitApplied", "AlertRaised", "AlertCleared", "ControllerStarted", "DriftFound", "EnrolmentsChanged",
        "OwnerTold",
    }  # fmt: skip
    said = refusal(State.RETIRED, e.RolledBack)
    assert "cannot roll back a rollout that is retired" in said
    assert "crossfade resurrect" in said


def test_it_stays_wanted_whatever_the_nodes_say() -> None:
    """Drift is mended towards the retired V1; a switch that moved nobody is no rollback."""
    wanted = wanted_state(PLAN, replace(COMPLETED, state=State.RETIRED))
    assert wanted.retired
    back = NodeState(node="n", reachable=True, state=replace(wanted, retired=False))
    thrown = NodeState(node="n", reachable=True, state=wanted, rolled_back=99)
    lost = NodeState(node="n", reachable=True, state=replace(wanted, split=NOBODY))
    assert compare(wanted, [back], 0).differing == (("n", "V1 is not retired"),)
    assert (compare(wanted, [thrown], 0).killed, compare(wanted, [thrown], 0).differing) == ((), ())
    assert len(compare(wanted, [lost], 0).differing) == 1


def test_its_answers_name_a_successor_with_and_without_the_plans_dates() -> None:
    assert gone_headers(PLAN, LAST) == {"Link": '</v2/t>; rel="successor-version"'}
    dated = replace(
        PLAN, deprecation=Deprecation(since=1767225600, sunset=1798761600, successor="https://x.example/v2")
    )
    assert gone_headers(dated, LAST) == {
        "Deprecation": "@1767225600",
        "Sunset": "Fri, 01 Jan 2027 00:00:00 GMT",
        "Link": '<https://x.example/v2>; rel="successor-version"',
    }


def test_only_the_last_phase_can_retire() -> None:
    first = replace(PLAN.phases[0], retires=True)
    with pytest.raises(ValueError, match="after the last phase, not after canary"):
        replace(PLAN, phases=(first, *PLAN.phases[1:]))


def test_the_split_of_a_retired_rollout_is_everyone_on_v2() -> None:
    rollout = replace(COMPLETED, state=State.RETIRING)
    assert rollout.wanted_split(PLAN) == Split(everyone=10_000, cohorts={"beta": 10_000})
    assert not rollout.wanted_killed


@pytest.mark.parametrize(
    ("exempted", "verdict", "evidence"),
    [
        ("", Verdict.PASS, "nobody's exemption lasts"),
        ("acme until 2027-06-01", Verdict.INCONCLUSIVE, "exempt: acme until 2027-06-01"),
        (None, Verdict.BLIND, "the register of clients could not be read"),
    ],
)
def test_an_exempt_client_is_waited_for(exempted: str | None, verdict: Verdict, evidence: str) -> None:
    """A register that could not be read is no register without exemptions."""
    gate = Gate(kind=GateKind.NO_EXEMPTED_CLIENTS, text="no exempted client left")
    plan = replace(PLAN, phases=(*PLAN.phases[:-1], replace(PLAN.phases[-1], gates=(*PLAN.phases[-1].gates, gate))))
    decision = decide(plan, COMPLETED, SEEN, Surroundings(exempted=exempted), NOW)
    status = next(status for status in decision.gates if status.kind is GateKind.NO_EXEMPTED_CLIENTS)
    assert (status.verdict, status.evidence) == (verdict, evidence)
    assert ("can't be retired yet" in decision.reason) is (verdict is not Verdict.PASS)

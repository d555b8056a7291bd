"""The transition table, and the fold of events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core import events as e
from crossfade.core.machine import ANYWHERE, TRANSITIONS, State, allowed, next_state, refusal
from crossfade.core.plan import Plan
from crossfade.core.rollout import Rollout, evolve, fold
from crossfade.core.split import NOBODY
from crossfade.errors import ConflictError

SAMPLES: dict[type[e.Event], e.Event] = {
    type(event): event
    for event in (
        e.RolloutStarted(at=1, plan="p", digest="d"),
        e.ControllerStarted(at=2),
        e.PhasePromoted(at=3, phase=1, name="half", reason="r"),
        e.SplitApplied(at=4, generation=2, everyone=5000, cohorts={}, killed=False),
        e.HoldBegan(at=5, kind="BLIND", reason="r"),
        e.HoldEnded(at=6, reason="r"),
        e.Paused(at=7, by="p", reason=""),
        e.Resumed(at=8, by="p", reason=""),
        e.GateApproved(at=9, phase=1, by="p", reason=""),
        e.PeakLoadRecorded(at=9.04, by="p", reason="", digest="d", outcome="PASS", sentence="s", ended=8),
        e.RehearsalRecorded(at=9.05, by="p", reason="", digest="d", outcome="PASS", sentence="s", ended=8),
        e.DrillStarted(at=9.1, phase=1, name="half", within_s=60, reason="r"),
        e.DrillPassed(
            at=9.2, phase=1, name="half", took_s=0.1, last_v2_s=0.0, within_s=60, lasted_s=16, nodes={"n": "v1"}
        ),
        e.DrillFailed(at=9.3, phase=1, name="half", reason="r"),
        e.RolledBack(at=10, reason="r", trigger="person", took_s=0.1, nodes={"n": "v1"}),
        e.Retried(at=11, phase=1, name="half", by="p", reason=""),
        e.Aborted(at=12, by="p", reason=""),
        e.RolloutCompleted(at=13, reason="r"),
        e.RetirementStarted(at=13.1, by="p", reason="", shown="s"),
        e.V1Retired(at=13.2),
        e.BrownoutStarted(at=13.3, name="first", until=20, share=1000),
        e.BrownoutEnded(at=13.4, name="first", reason="r"),
        e.EnrolmentsChanged(at=13.5, cohort="beta", joined=2, left=0, by="p"),
        e.OwnerTold(
            at=13.6,
            id="notice_1",
            step="announced",
            brownout="",
            owner="Ann",
            contact="a…@acme.example",
            clients=["acme"],
            count=1,
            taken=True,
            said="250 OK",
        ),
        e.AlertRaised(at=14, key="k", sentence="s"),
        e.AlertCleared(at=15, key="k", sentence="s"),
        e.DriftFound(at=16, node="n", detail="d"),
    )
}


def test_every_event_type_has_a_sample_and_a_place_in_the_table() -> None:
    placed = {kind for _, kind in TRANSITIONS} | set(ANYWHERE)
    assert set(e.KINDS.values()) == set(SAMPLES) == placed


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("kind", list(SAMPLES), ids=lambda kind: kind.__name__)
def test_what_the_table_does_not_name_is_refused(state: State, kind: type[e.Event]) -> None:
    if allowed(state, kind):
        assert isinstance(next_state(state, SAMPLES[kind]), State)
    else:
        with pytest.raises(ConflictError, match=f"a rollout that is {state.value}"):
            next_state(state, SAMPLES[kind])


@pytest.mark.parametrize("state", [State.RUNNING, State.PAUSED, State.DRILLING, State.ROLLED_BACK, State.COMPLETED])
def test_a_rollback_is_allowed_wherever_users_may_be_on_v2(state: State) -> None:
    assert next_state(state, SAMPLES[e.RolledBack]) is State.ROLLED_BACK


def test_an_aborted_rollout_never_runs_again() -> None:
    reached = {to for (origin, _), to in TRANSITIONS.items() if origin is State.ABORTED}
    assert {State.ABORTED} == reached


def test_a_refusal_says_which_states_it_would_take() -> None:
    assert refusal(State.RUNNING, e.Retried) == "cannot retry a rollout that is running; it must be rolled_back"


@pytest.mark.parametrize("event", list(SAMPLES.values()), ids=lambda event: type(event).__name__)
def test_an_event_comes_back_from_the_store_as_it_was(event: e.Event) -> None:
    assert event == e.from_data(type(event).__name__, event.at, e.to_data(event))


def test_a_field_of_a_later_version_is_passed_over() -> None:
    data = {**e.to_data(SAMPLES[e.Paused]), "mood": "new"}
    assert SAMPLES[e.Paused] == e.from_data("Paused", 7, data)


def _walk(choices: list[int]) -> tuple[list[e.Event], Rollout]:
    """Return a history that the table allows, chosen by numbers, and its fold."""
    rollout, history = Rollout(name="r"), []
    for choice in choices:
        possible = [event for kind, event in SAMPLES.items() if allowed(rollout.state, kind)]
        event = possible[choice % len(possible)]
        rollout = evolve(rollout, event)
        history.append(event)
    return history, rollout


@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_folding_a_history_gives_its_state_and_revision(choices: list[int]) -> None:
    history, rollout = _walk(choices)
    assert rollout == fold("r", history)
    assert len(history) == rollout.revision


@given(st.lists(st.integers(0, 10_000), max_size=40))
def test_nobody_is_wanted_on_v2_in_a_state_that_ended_or_was_rolled_back(choices: list[int]) -> None:
    _, rollout = _walk(choices)
    plan: Any = Plan.__new__(Plan)
    if rollout.state in (State.PENDING, State.ROLLED_BACK, State.ABORTED):
        assert rollout.wanted_split(plan) == NOBODY
    assert rollout.wanted_killed == (rollout.state in (State.DRILLING, State.ROLLED_BACK, State.ABORTED))


@given(st.lists(st.integers(0, 10_000), max_size=40), st.integers(0, 10_000))
def test_the_generation_never_falls_and_rises_with_every_change_of_what_is_wanted(
    choices: list[int], choice: int
) -> None:
    _, before = _walk(choices)
    _, after = _walk([*choices, choice])
    assert after.generation >= before.generation
    if before.state is not after.state and after.state in (State.ROLLED_BACK, State.ABORTED):
        assert after.generation == before.generation + 1


def test_a_retry_keeps_the_phase_and_begins_a_new_attempt() -> None:
    rolled_back = fold("r", [SAMPLES[e.RolloutStarted], SAMPLES[e.PhasePromoted], SAMPLES[e.RolledBack]])
    again = evolve(rolled_back, SAMPLES[e.Retried])
    assert (again.state, again.phase, again.attempt, again.rollback_reason) == (State.RUNNING, 1, 2, None)

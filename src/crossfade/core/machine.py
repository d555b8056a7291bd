"""The transition table of a rollout. Nothing else may change a state.

A rollout waits (PENDING), runs through its phases (RUNNING), may be held still by a person (PAUSED), and ends
COMPLETED or ABORTED. ROLLED_BACK is a rest, not an end: a retry goes on from a chosen phase with the same
assignment. A rollback is allowed in every state that can have users on V2; a completed rollout can still be
rolled back, because V1 is still there.

DRILLING is a rollback done on purpose: everyone is on V1 until the drill has passed. Only that leads back to the
split; whatever else happens meanwhile ends in a rollback.

RETIRING is a retirement that not every node has confirmed: only what was rolled back before it came there takes it
back. RETIRED is the end: nothing leads out of it.

Holding is no state: the engine holds by not promoting, and goes on looking.
"""

from __future__ import annotations

from enum import StrEnum

from crossfade.core import events as e
from crossfade.errors import ConflictError


class State(StrEnum):
    """Where a rollout is."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    DRILLING = "drilling"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"
    COMPLETED = "completed"
    RETIRING = "retiring"
    RETIRED = "retired"


_P, _R, _H, _D, _B, _A, _C, _X = (
    State.PENDING,
    State.RUNNING,
    State.PAUSED,
    State.DRILLING,
    State.ROLLED_BACK,
    State.ABORTED,
    State.COMPLETED,
    State.RETIRING,
)

TRANSITIONS: dict[tuple[State, type[e.Event]], State] = {
    (_P, e.RolloutStarted): _R,
    (_P, e.Aborted): _A,
    (_R, e.PhasePromoted): _R,
    (_R, e.Paused): _H,
    (_R, e.RolledBack): _B,
    (_R, e.Aborted): _A,
    (_R, e.RolloutCompleted): _C,
    (_R, e.GateApproved): _R,
    (_R, e.RehearsalRecorded): _R,
    (_R, e.PeakLoadRecorded): _R,
    (_R, e.HoldBegan): _R,
    (_R, e.HoldEnded): _R,
    (_R, e.DrillStarted): _D,
    (_D, e.DrillPassed): _R,
    (_D, e.DrillFailed): _D,
    (_D, e.RolledBack): _B,
    (_D, e.Aborted): _A,
    (_H, e.Resumed): _R,
    (_H, e.RolledBack): _B,
    (_H, e.Aborted): _A,
    (_H, e.GateApproved): _H,
    (_H, e.RehearsalRecorded): _H,
    (_H, e.PeakLoadRecorded): _H,
    (_H, e.HoldBegan): _H,
    (_H, e.HoldEnded): _H,
    (_B, e.Retried): _R,
    (_B, e.RolledBack): _B,
    (_B, e.Aborted): _A,
    (_R, e.BrownoutStarted): _R,
    (_H, e.BrownoutStarted): _H,
    (_C, e.BrownoutStarted): _C,
    (_R, e.BrownoutEnded): _R,
    (_H, e.BrownoutEnded): _H,
    (_C, e.BrownoutEnded): _C,
    (_B, e.BrownoutEnded): _B,
    (_C, e.RolledBack): _B,
    (_C, e.HoldEnded): _C,
    (_C, e.RetirementStarted): _X,
    (_X, e.V1Retired): State.RETIRED,
    (_X, e.RolledBack): _B,
    (_A, e.RolledBack): _A,
}
"""(state, event) -> state."""

ANYWHERE: frozenset[type[e.Event]] = frozenset(
    {
        e.SplitApplied,
        e.AlertRaised,
        e.AlertCleared,
        e.ControllerStarted,
        e.DriftFound,
        e.EnrolmentsChanged,
        e.OwnerTold,
    }
)
"""Facts that change no state and may be recorded in all of them."""


FOR_GOOD = (
    "V1 is out of the proxy, which nothing takes back; `crossfade resurrect` writes the plan of a new rollout that "
    "brings V1 back"
)


def next_state(state: State, event: e.Event) -> State:
    """Return the state after an event; ConflictError where the table has no such transition."""
    if type(event) in ANYWHERE:
        return state
    try:
        return TRANSITIONS[state, type(event)]
    except KeyError:
        raise ConflictError(refusal(state, type(event))) from None


def allowed(state: State, event: type[e.Event]) -> bool:
    """Tell whether an event of this type may happen in this state."""
    return event in ANYWHERE or (state, event) in TRANSITIONS


def refusal(state: State, event: type[e.Event]) -> str:
    """Return why an event can't happen in a state, and in which states it can."""
    where = sorted({origin.value for origin, kind in TRANSITIONS if kind is event})
    verb = event.VERB or event.__name__
    if state is State.RETIRED:
        return f"cannot {verb} a rollout that is retired: {FOR_GOOD}"
    return f"cannot {verb} a rollout that is {state.value}; it must be {' or '.join(where)}"

"""A rollout's state, as the fold of its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from crossfade.core import events as e
from crossfade.core.machine import State, next_state
from crossfade.core.plan import Plan
from crossfade.core.split import NOBODY, Split

_NEW_GENERATION = (
    e.RolloutStarted,
    e.ControllerStarted,
    e.PhasePromoted,
    e.RolledBack,
    e.Retried,
    e.Aborted,
)
"""After these, whatever an earlier actor asked of the proxy is out of date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One execution of a plan, as of its latest event."""

    name: str
    state: State = State.PENDING
    digest: str = ""
    phase: int = 0
    phase_since: float = 0.0
    """Plan time at which the phase was entered; a retry enters it anew."""
    generation: int = 0
    revision: int = 0
    """Number of events."""
    started_at: float | None = None
    ended_at: float | None = None
    held: str | None = None
    """Why the engine holds; None while it doesn't."""
    held_kind: str | None = None
    held_since: float | None = None
    approved_by: str | None = None
    """Who approved leaving the present phase."""
    applied_generation: int = 0
    """Of the latest wanted state that every node reported back."""
    rollback_reason: str | None = None
    rollback_at: float | None = None
    rollbacks: int = 0
    rollback_generation: int = 0
    """Of the latest rollback recorded; a switch thrown under a later one is news."""
    attempt: int = 1
    """Counts retries; evidence is gathered anew in each attempt."""
    alerts: Mapping[str, str] = field(default_factory=dict)
    """Alerts raised and not cleared, by key."""

    def wanted_split(self, plan: Plan) -> Split:
        """Return the split that the proxy ought to have."""
        if self.state in (State.RUNNING, State.PAUSED, State.COMPLETED):
            return plan.phases[self.phase].split
        return NOBODY

    @property
    def wanted_killed(self) -> bool:
        """Tell whether the proxy ought to put everybody on V1, cohorts and overrides included."""
        return self.state in (State.ROLLED_BACK, State.ABORTED)


def evolve(rollout: Rollout, event: e.Event) -> Rollout:
    """Return the state after an event; ConflictError where it can't happen now."""
    state = next_state(rollout.state, event)
    new = replace(
        rollout,
        state=state,
        revision=rollout.revision + 1,
        generation=rollout.generation + isinstance(event, _NEW_GENERATION),
    )
    match event:
        case e.RolloutStarted():
            return replace(new, digest=event.digest, started_at=event.at, phase_since=event.at)
        case e.PhasePromoted():
            return _enter(new, event.phase, event.at)
        case e.Retried():
            fresh = replace(new, attempt=new.attempt + 1, rollback_reason=None, rollback_at=None, alerts={})
            return _enter(fresh, event.phase, event.at)
        case e.RolledBack():
            generation = max(new.generation, event.generation)
            return replace(
                _released(new),
                generation=generation,
                rollback_generation=generation,
                rollback_reason=event.reason,
                rollback_at=event.at,
                rollbacks=new.rollbacks + (rollout.state is not State.ROLLED_BACK),
            )
        case e.Aborted() | e.RolloutCompleted():
            return replace(_released(new), ended_at=event.at)
        case _:
            return _note(new, event)


def _note(new: Rollout, event: e.Event) -> Rollout:
    """Return the state after an event that moves nobody."""
    match event:
        case e.SplitApplied():
            return replace(new, applied_generation=event.generation)
        case e.HoldBegan():
            since = event.at if new.held is None else new.held_since
            return replace(new, held=event.reason, held_kind=event.kind, held_since=since)
        case e.HoldEnded():
            return _released(new)
        case e.GateApproved():
            return replace(new, approved_by=event.by)
        case e.AlertRaised():
            return replace(new, alerts=MappingProxyType({**new.alerts, event.key: event.sentence}))
        case e.AlertCleared():
            left = {key: sentence for key, sentence in new.alerts.items() if key != event.key}
            return replace(new, alerts=MappingProxyType(left))
        case _:
            return new


def _enter(rollout: Rollout, phase: int, at: float) -> Rollout:
    return replace(_released(rollout), phase=phase, phase_since=at, approved_by=None)


def _released(rollout: Rollout) -> Rollout:
    return replace(rollout, held=None, held_kind=None, held_since=None)


def fold(name: str, events: Iterable[e.Event]) -> Rollout:
    """Return the state that a history adds up to."""
    rollout = Rollout(name=name)
    for event in events:
        rollout = evolve(rollout, event)
    return rollout

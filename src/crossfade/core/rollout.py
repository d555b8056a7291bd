"""A rollout's state, as the fold of its events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from crossfade.core import events as e
from crossfade.core.machine import State, next_state
from crossfade.core.plan import Plan
from crossfade.core.split import NOBODY, Split
from crossfade.core.words import duration

_NEW_GENERATION = (
    e.RolloutStarted,
    e.ControllerStarted,
    e.PhasePromoted,
    e.DrillStarted,
    e.DrillPassed,
    e.RolledBack,
    e.Retried,
    e.Aborted,
    e.RetirementStarted,
    e.BrownoutStarted,
    e.BrownoutEnded,
)
"""After these, whatever an earlier actor asked of the proxy is out of date."""
_OPENED = (State.RUNNING, State.PAUSED, State.COMPLETED, State.RETIRING, State.RETIRED)
"""States in which the phase's split is wanted."""
_END_BROWNOUT = (e.RolledBack, e.DrillStarted, e.RetirementStarted, e.Aborted)
"""Everyone is put on V1, or V1 goes for good."""


SPANS_KEPT = 200
"""Of the assignment's history: each phase, drill, rollback and retry is one or two."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which the plan assigned users in one way, up to the next one's begin."""

    since: float
    """Plan time."""
    phase: int
    opened: bool
    """The phase's split is wanted; else nobody is on V2."""
    killed: bool
    """Everybody is on V1, cohorts and overrides included."""


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
    approvals: Mapping[str, str] = field(default_factory=dict)
    """Who approved leaving the present phase: as they said, by what makes them one person."""
    applied_generation: int = 0
    """Of the latest wanted state that every node reported back."""
    rollback_reason: str | None = None
    rollback_at: float | None = None
    rollbacks: int = 0
    rollback_generation: int = 0
    """Of the latest rollback recorded, drills included; a switch thrown under a later one is news."""
    away_since: float | None = None
    """Plan time at which the latest drill put everyone on V1."""
    away_until: float | None = None
    """Plan time at which that drill's end was confirmed; None while everyone is away."""
    away_s: float = 0.0
    """Plan seconds that drills have taken from the present phase."""
    drilled: str | None = None
    """What the latest drill that passed has shown, in this attempt."""
    drilled_phase: int | None = None
    """Index of the phase in which it passed."""
    rehearsed: e.RehearsalRecorded | None = None
    """The latest rehearsal of this attempt."""
    peak: e.PeakLoadRecorded | None = None
    """The latest load at the plan's peak of this attempt."""
    attempt: int = 1
    """Counts retries; evidence is gathered anew in each attempt."""
    alerts: Mapping[str, str] = field(default_factory=dict)
    """Alerts raised and not cleared, by key."""
    brownout: str | None = None
    """Name of the one that goes on."""
    brownouts_over: frozenset[str] = frozenset()
    """Names of those that do not come again."""
    enrolled: int = 0
    """Revision at which users joined or left cohorts last."""
    spans: tuple[Span, ...] = ()
    """How users were assigned until now, the latest `SPANS_KEPT`."""

    def wanted_split(self, plan: Plan) -> Split:
        """Return the split that the proxy ought to have."""
        return plan.phases[self.phase].split if self.state in _OPENED else NOBODY

    def assigned_at(self, plan: Plan, at: float) -> tuple[Split, bool] | None:
        """Return the split, and whether all were put on V1, at a plan time; None where that is not known any more.

        As the history says: a proxy has carried it out within a second of that.
        """
        span = next((span for span in reversed(self.spans) if span.since <= at), None)
        if span is None:
            return None
        return plan.phases[span.phase].split if span.opened else NOBODY, span.killed

    @property
    def wanted_killed(self) -> bool:
        """Tell whether the proxy ought to put everybody on V1, cohorts and overrides included."""
        return self.state in (State.DRILLING, State.ROLLED_BACK, State.ABORTED)

    @property
    def wanted_retired(self) -> bool:
        """Tell whether V1 ought to be out of the proxy."""
        return self.state in (State.RETIRING, State.RETIRED)

    @property
    def away(self) -> tuple[float, float | None] | None:
        """Return when the latest drill of this attempt began and ended (None: not yet)."""
        return None if self.away_since is None else (self.away_since, self.away_until)

    def lasted(self, since: float, now: float) -> float:
        """Return the plan seconds of the present phase from `since` to `now`, without those that a drill took."""
        away = self.away_s if self.away_until is not None and since < self.away_until else 0.0
        return now - max(since, self.phase_since) - away


def evolve(rollout: Rollout, event: e.Event) -> Rollout:
    """Return the state after an event; ConflictError where it can't happen now."""
    new = _evolve(rollout, event)
    span = Span(event.at, new.phase, new.state in _OPENED, new.wanted_killed)
    if new.spans and replace(new.spans[-1], since=span.since) == span:
        return new
    return replace(new, spans=(*new.spans[1 - SPANS_KEPT :], span))


def _evolve(rollout: Rollout, event: e.Event) -> Rollout:
    state = next_state(rollout.state, event)
    new = replace(
        rollout,
        state=state,
        revision=rollout.revision + 1,
        generation=rollout.generation + isinstance(event, _NEW_GENERATION),
    )
    if isinstance(event, _END_BROWNOUT):
        new = _without_brownout(new, rollout.brownout)
    match event:
        case e.RolloutStarted():
            return replace(new, digest=event.digest, started_at=event.at, phase_since=event.at)
        case e.PhasePromoted():
            return _enter(new, event.phase, event.at)
        case e.Retried():
            return _enter(_begin_attempt(new), event.phase, event.at)
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
            return _confirmed(new, event)
        case e.DrillStarted():
            return replace(new, rollback_generation=new.generation, away_since=event.at, away_until=None)
        case e.DrillPassed():
            return replace(new, drilled=_shown(event), drilled_phase=event.phase)
        case e.HoldBegan():
            since = event.at if new.held is None else new.held_since
            return replace(new, held=event.reason, held_kind=event.kind, held_since=since)
        case e.HoldEnded():
            return _released(new)
        case e.RehearsalRecorded() | e.PeakLoadRecorded():
            return _rehearsed(new, event)
        case e.BrownoutStarted():
            return replace(new, brownout=event.name)
        case e.BrownoutEnded():
            return _without_brownout(new, event.name)
        case e.EnrolmentsChanged():
            return replace(new, enrolled=new.revision)
        case e.GateApproved():
            return replace(new, approvals=MappingProxyType({**new.approvals, event.person or event.by: event.by}))
        case e.AlertRaised() | e.AlertCleared():
            return _alerted(new, event)
        case _:
            return new


def _alerted(rollout: Rollout, event: e.AlertRaised | e.AlertCleared) -> Rollout:
    alerts = {key: sentence for key, sentence in rollout.alerts.items() if key != event.key}
    if isinstance(event, e.AlertRaised):
        alerts[event.key] = event.sentence
    return replace(rollout, alerts=MappingProxyType(alerts))


def _without_brownout(rollout: Rollout, name: str | None) -> Rollout:
    if name is None:
        return rollout
    left = None if rollout.brownout == name else rollout.brownout
    return replace(rollout, brownout=left, brownouts_over=rollout.brownouts_over | {name})


def _confirmed(rollout: Rollout, event: e.SplitApplied) -> Rollout:
    new = replace(rollout, applied_generation=event.generation)
    if event.killed or rollout.away_since is None or rollout.away_until is not None:
        return new
    return replace(new, away_until=event.at, away_s=rollout.away_s + event.at - rollout.away_since)


def _rehearsed(rollout: Rollout, event: e.RehearsalRecorded | e.PeakLoadRecorded) -> Rollout:
    if isinstance(event, e.PeakLoadRecorded):
        return replace(rollout, peak=event)
    return replace(rollout, rehearsed=event)


def _shown(drill: e.DrillPassed) -> str:
    last = f"V2's last request {drill.last_v2_s:.2g} s" if drill.last_v2_s > 0 else "no request to V2"
    return (
        f"in {drill.name}: every node had confirmed {drill.took_s:.2g} s after the command and {last} after it, "
        f"limit {duration(drill.within_s)}; everyone was on V1 for {duration(drill.lasted_s)}"
    )


def _begin_attempt(rollout: Rollout) -> Rollout:
    return replace(
        rollout,
        attempt=rollout.attempt + 1,
        rollback_reason=None,
        rollback_at=None,
        alerts={},
        away_since=None,
        away_until=None,
        drilled=None,
        drilled_phase=None,
        rehearsed=None,
        peak=None,
    )


def _enter(rollout: Rollout, phase: int, at: float) -> Rollout:
    return replace(_released(rollout), phase=phase, phase_since=at, approvals={}, away_s=0.0)


def _released(rollout: Rollout) -> Rollout:
    return replace(rollout, held=None, held_kind=None, held_since=None)


def fold(name: str, events: Iterable[e.Event]) -> Rollout:
    """Return the state that a history adds up to."""
    rollout = Rollout(name=name)
    for event in events:
        rollout = evolve(rollout, event)
    return rollout

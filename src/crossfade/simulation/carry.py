"""Carrying a rollout out without a proxy: what a command does is recorded as the event that it becomes."""

from __future__ import annotations

from crossfade.core import events as e
from crossfade.core.decide import (
    BeginHold,
    ClearAlert,
    Command,
    Complete,
    Drill,
    EndHold,
    Promote,
    RaiseAlert,
    RollBack,
)
from crossfade.core.plan import DRILL_WITHIN_S, Plan
from crossfade.core.rollout import Rollout


def events_of(plan: Plan, rollout: Rollout, command: Command, at: float) -> tuple[e.Event, ...]:
    """Return what has happened once a command was carried out at `at` (plan time), all in no time; drills pass."""
    if not isinstance(command, Drill):
        return (_event_of(plan, command, at),)
    phase, name = rollout.phase, plan.phases[rollout.phase].name
    begun = e.DrillStarted(at=at, phase=phase, name=name, within_s=DRILL_WITHIN_S, reason="")
    passed = e.DrillPassed(
        at=at, phase=phase, name=name, took_s=0.0, last_v2_s=0.0, within_s=DRILL_WITHIN_S, lasted_s=0.0, nodes={}
    )
    return begun, passed


def _event_of(
    plan: Plan, command: RollBack | Promote | Complete | BeginHold | EndHold | RaiseAlert | ClearAlert, at: float
) -> e.Event:
    match command:
        case RollBack():
            return e.RolledBack(
                at=at,
                reason=command.reason,
                trigger=command.trigger,
                took_s=0.0,
                nodes={},
                users_hurt=command.users_hurt,
            )
        case Promote():
            name = plan.phases[command.phase].name
            return e.PhasePromoted(at=at, phase=command.phase, name=name, reason=command.reason)
        case Complete():
            return e.RolloutCompleted(at=at, reason=command.reason)
        case BeginHold():
            return e.HoldBegan(at=at, kind=command.kind, reason=command.reason)
        case EndHold():
            return e.HoldEnded(at=at, reason=command.reason)
        case RaiseAlert():
            return e.AlertRaised(at=at, key=command.key, sentence=command.sentence)
        case ClearAlert():
            return e.AlertCleared(at=at, key=command.key, sentence=command.sentence)

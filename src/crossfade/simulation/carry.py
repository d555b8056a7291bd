"""Carrying a rollout out without a proxy: what a command does is recorded as the event that it becomes."""

from __future__ import annotations

from crossfade.core import events as e
from crossfade.core.decide import BeginHold, ClearAlert, Command, Complete, EndHold, Promote, RaiseAlert, RollBack
from crossfade.core.plan import Plan


def event_of(plan: Plan, command: Command, at: float) -> e.Event:
    """Return what has happened once a command was carried out at `at` (plan time), all in no time."""
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

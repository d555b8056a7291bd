"""What API, CLI and demo show of a rollout: one record, made in one place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from crossfade.app.regions import Regions
from crossfade.core.access import Token
from crossfade.core.brownout import calendar
from crossfade.core.enrolment import Members
from crossfade.core.gates import GateStatus
from crossfade.core.plan import Gate, Limit, Plan
from crossfade.core.rollout import Rollout
from crossfade.core.split import Split, assign
from crossfade.engine.controller import Controller


def split_view(split: Split) -> dict[str, Any]:
    """Return a split in basis points."""
    return {"everyone": split.everyone, "cohorts": dict(split.cohorts)}


def plan_view(plan: Plan) -> dict[str, Any]:
    """Return a plan's outline."""
    return {
        "rollout": plan.name,
        "digest": plan.digest,
        "salt": plan.assignment.salt,
        "phases": [
            {
                "name": phase.name,
                "target": phase.target,
                "split": split_view(phase.split),
                "soak_s": phase.soak_s,
                "margin": phase.margin,
                "gates": [gate.text for gate in phase.gates],
            }
            for phase in plan.phases
        ],
        "metrics": [
            {"name": metric.name, "kind": metric.kind.value, "guard": metric.guard.text if metric.guard else None}
            for metric in plan.metrics
        ],
    }


def rollouts_view(controllers: Iterable[Controller], names: Iterable[str]) -> list[dict[str, Any]]:
    """Return one line per rollout: what these controllers carry out, and the names of the others in their stores."""
    mine = [_line(controller) for controller in controllers]
    known = {line["rollout"] for line in mine}
    others = [dict.fromkeys(mine[0]) | {"rollout": name, "served": False} for name in names if name not in known]
    return [*mine, *others]


def _line(controller: Controller) -> dict[str, Any]:
    plan, rollout, decision = controller.plan, controller.rollout, controller.decision
    return {
        "rollout": rollout.name,
        "served": True,
        "state": rollout.state.value,
        "phase": plan.phases[rollout.phase].name,
        "weight": weight(plan, rollout.wanted_split(plan)),
        "held_kind": rollout.held_kind,
        "held": rollout.held,
        "reason": None if decision is None else decision.reason,
        "look_again_s": None if decision is None else decision.look_again_s,
        "fenced": controller.fenced,
        "revision": rollout.revision,
    }


def gate_view(gate: GateStatus) -> dict[str, Any]:
    """Return one line of the checklist."""
    return {
        "gate": gate.text,
        "kind": gate.kind.value,
        "verdict": gate.verdict.value,
        "evidence": gate.evidence,
        "left_s": gate.left_s,
    }


def metrics_view(controller: Controller, regions: Regions) -> list[dict[str, Any]]:
    """Return what the plan wants of each metric, and what has been seen of it in this phase, by region too."""
    readings, margin = controller.seen.readings, controller.plan.phases[controller.rollout.phase].margin
    return [
        {
            "name": metric.name,
            "kind": metric.kind.value,
            "baseline": metric.baseline,
            "target": _bound(metric.target),
            "guard": None
            if metric.guard is None
            else {
                "text": metric.guard.text,
                "action": metric.guard.action.value,
                "breach": _bound(metric.guard.breach),
                "worse_than_v1": metric.guard.worse_than_v1,
            },
            "margin": margin,
            "reading": asdict(readings[metric.name]) if metric.name in readings else None,
            "regions": [asdict(row) for row in regions.rows(metric)],
        }
        for metric in controller.plan.metrics
    ]


def trend_view(points: Sequence[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return how a rollout has looked, oldest first and with the present end, thinned to `most` points at most."""
    kept = points[:: -max(1, -(-len(points) // most))][::-1]
    return [
        {name: point[name] for name in ("at", "phase", "weight", "seen")}
        | {"metrics": {name: {"v1": pair[0], "v2": pair[1]} for name, pair in point["metrics"].items()}}
        for point in kept
    ]


def _bound(limit: Limit | None) -> dict[str, Any] | None:
    return None if limit is None else asdict(limit)


def token_view(token: Token, now: float) -> dict[str, Any]:
    """Return what is told of a token at a time (real seconds since the epoch)."""
    return {
        "name": token.name,
        "role": token.role.value,
        "created_at": token.created_at,
        "created_by": token.created_by,
        "expires_at": token.expires_at,
        "expired": token.expired(now),
    }


def phases_view(controller: Controller) -> list[dict[str, Any]]:
    """Return the plan's phases with their gates; only those of the present phase have been looked at."""
    plan, rollout = controller.plan, controller.rollout
    seen = [] if controller.decision is None else [gate_view(gate) for gate in controller.decision.gates]
    views = []
    for index, phase in enumerate(plan.phases):
        place = "past" if index < rollout.phase else "now" if index == rollout.phase else "ahead"
        views.append(
            {
                "name": phase.name,
                "place": place,
                "target": phase.target,
                "split": split_view(phase.split),
                "soak_s": phase.soak_s,
                "margin": phase.margin,
                "gates": seen if place == "now" and seen else [_unseen(gate) for gate in phase.gates],
            }
        )
    return views


def _unseen(gate: Gate) -> dict[str, Any]:
    return {"gate": gate.text, "kind": gate.kind.value, "verdict": None, "evidence": None, "left_s": None}


def status_view(controller: Controller, now: float) -> dict[str, Any]:
    """Return where a rollout is, why, and what comes next. Times are plan seconds since the epoch."""
    plan, rollout, decision = controller.plan, controller.rollout, controller.decision
    phase = plan.phases[rollout.phase]
    wanted = rollout.wanted_split(plan)
    return {
        "rollout": rollout.name,
        "state": rollout.state.value,
        "held": rollout.held,
        "held_kind": rollout.held_kind,
        "now": now,
        "started_at": rollout.started_at,
        "ended_at": rollout.ended_at,
        "revision": rollout.revision,
        "generation": rollout.generation,
        "attempt": rollout.attempt,
        "rollbacks": rollout.rollbacks,
        "rollback_reason": rollout.rollback_reason,
        "drilled": rollout.drilled,
        "phase": {
            "name": phase.name,
            "index": rollout.phase,
            "count": len(plan.phases),
            "since": rollout.phase_since,
            "target": phase.target,
            "soak_s": phase.soak_s,
        },
        "split": split_view(wanted),
        "weight": weight(plan, wanted),
        "weight_seen": controller.seen.weight_seen,
        "share": {"verdict": controller.seen.share.verdict.value, "sentence": controller.seen.share.sentence},
        "users": asdict(controller.population.seen(rollout)),
        "killed": rollout.wanted_killed,
        "applied": rollout.applied_generation == rollout.generation,
        "nodes": [asdict_node(node) for node in controller.nodes],
        "gates": [] if decision is None else [gate_view(gate) for gate in decision.gates],
        "decision": None
        if decision is None
        else {
            "outcome": decision.outcome.value,
            "sentence": decision.sentence,
            "reason": decision.reason,
            "look_again_s": decision.look_again_s,
        },
        "metrics": {name: asdict(reading) for name, reading in controller.seen.readings.items()},
        "breakers": {name: asdict(reading) for name, reading in controller.seen.breakers.items()},
        "blind": [asdict(blindness) for blindness in controller.seen.blind],
        "alerts": dict(rollout.alerts),
        "requests": {"v1": controller.seen.requests_v1, "v2": controller.seen.requests_v2},
        "brownouts": brownouts_view(plan, rollout),
        "fenced": controller.fenced,
    }


def brownouts_view(plan: Plan, rollout: Rollout) -> list[dict[str, Any]]:
    """Return the calendar of brownouts: each is ahead, goes on now, or is over."""
    states = dict.fromkeys(rollout.brownouts_over, "over") | ({rollout.brownout: "now"} if rollout.brownout else {})
    return [asdict(one) | {"state": states.get(one.name, "ahead")} for one in calendar(plan)]


def asdict_node(node: Any) -> dict[str, Any]:
    """Return a node's report; its state's split in basis points."""
    state = node.state
    return {
        "node": node.node,
        "reachable": node.reachable,
        "error": node.error,
        "version": node.proxy_version,
        "up_since": node.up_since,
        "generation": None if state is None else state.generation,
        "killed": None if state is None else state.killed,
        "split": None if state is None else split_view(state.split),
    }


def weight(plan: Plan, split: Split) -> float:
    """Return V2's share of all users in basis points, staff cohorts left out."""
    staff = plan.staff_cohorts()
    sizes = {name: size for name, size in plan.assignment.cohort_sizes().items() if name not in staff}
    return split.weight(sizes, plan.assignment.users)


def whois_view(
    plan: Plan, user: str, split: Split, *, killed: bool, phase: str, members: Members | None = None
) -> dict[str, Any]:
    """Return which version a user gets under a split, and why; without `members` by the plan's cohorts."""
    cohort = (members or Members(plan.assignment)).cohort_of(user)
    assignment = assign(user, salt=plan.assignment.salt, split=split, cohort=cohort, killed=killed)
    return {
        "user": user.encode(errors="surrogateescape").decode(errors="replace"),
        "version": assignment.version.value,
        "bucket": assignment.bucket,
        "cohort": cohort,
        "share": assignment.share,
        "phase": phase,
        "reason": assignment.reason,
    }

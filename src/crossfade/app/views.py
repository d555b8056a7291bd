"""What API, CLI and demo show of a rollout: one record, made in one place."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from crossfade.core.plan import Plan
from crossfade.core.split import Split, assign
from crossfade.engine.controller import Controller


def split_view(split: Split) -> dict[str, Any]:
    """Return a split in basis points."""
    return {"everyone": split.everyone, "cohorts": dict(split.cohorts)}


def phases_view(controller: Controller) -> list[dict[str, Any]]:
    """Return the plan's phases and where the rollout is among them."""
    plan, rollout = controller.plan, controller.rollout
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
                "gates": [gate.text for gate in phase.gates],
            }
        )
    return views


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
        "killed": rollout.wanted_killed,
        "applied": rollout.applied_generation == rollout.generation,
        "nodes": [asdict_node(node) for node in controller.nodes],
        "gates": []
        if decision is None
        else [
            {
                "gate": gate.text,
                "kind": gate.kind.value,
                "verdict": gate.verdict.value,
                "evidence": gate.evidence,
                "left_s": gate.left_s,
            }
            for gate in decision.gates
        ],
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
        "fenced": controller.fenced,
    }


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


def whois_view(plan: Plan, user: str, split: Split, *, killed: bool, phase: str) -> dict[str, Any]:
    """Return which version a user gets under a split, and why."""
    cohort = plan.assignment.cohort_of(user)
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

"""Alert rules for a Prometheus that scrapes the controllers of a plan's rollout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from crossfade.app.monitoring.promql import highest, literal, selector
from crossfade.core.plan import Action, Metric, Plan
from crossfade.core.words import duration

_SEVERITY = {Action.ALERT: "warning", Action.HOLD: "warning", Action.ROLLBACK: "critical"}


def alerts_of(plan: Plan) -> bytes:
    """Return a rule file, as `promtool check rules` takes it."""
    group = {"name": f"crossfade {plan.name}", "rules": list(_rules(plan))}
    text: bytes = yaml.safe_dump({"groups": [group]}, sort_keys=False, allow_unicode=True, width=120, encoding="utf-8")
    return text


def _rules(plan: Plan) -> Iterator[dict[str, Any]]:
    name = plan.name
    yield _rule(
        plan,
        "CrossfadeRolledBack",
        f"{highest('rollout', 'crossfade_rollout_state', rollout=name, state='rolled_back')} == 1",
        severity="critical",
        summary=f"{name} was rolled back",
        description="Every user is on V1. `crossfade why` says what was seen; `crossfade retry` starts again.",
    )
    yield _rule(
        plan,
        "CrossfadeHolding",
        f"{highest('rollout', 'crossfade_rollout_held', rollout=name)} == 1",
        severity="warning",
        summary=f"{name} holds",
        description="Nobody is moved to V2 until the reason is gone; `crossfade status` has it.",
        lasting="5m",
    )
    yield _rule(
        plan,
        "CrossfadeBlind",
        f"{highest('rollout', 'crossfade_rollout_blind', rollout=name)} == 1",
        severity="critical",
        summary=f"nothing can be said of {name}",
        description="No traffic, no telemetry, a source that is down, a clock that jumped: `crossfade status` has it.",
        lasting="2m",
    )
    yield _rule(
        plan,
        "CrossfadeNoLeader",
        f"absent({selector('crossfade_lease_leads', rollout=name)} == 1)",
        severity="critical",
        summary=f"nobody leads {name}",
        description="No controller that may act is scraped: the proxy keeps its split, and nobody watches V2.",
        lasting="1m",
    )
    yield _rule(
        plan,
        "CrossfadeTicksLost",
        f"sum by (rollout) (increase({selector('crossfade_ticks_lost_total', rollout=name)}[5m])) > 0",
        severity="warning",
        summary=f"{name} has ticks in which no proxy was heard",
        description="Of these intervals nothing is known; is the proxy connected to the collector?",
    )
    yield _rule(
        plan,
        "CrossfadeApprovalWanted",
        f"{highest('rollout', 'crossfade_approval_wanted', rollout=name)} == 1",
        severity="info",
        summary=f"{name} waits for a person",
        description="Every other gate of this phase has passed: look, and `crossfade approve`.",
    )
    if plan.notices:
        waiting, leads = (selector(f"crossfade_{of}", rollout=name) for of in ("notices_waiting", "lease_leads"))
        yield _rule(
            plan,
            "CrossfadeNoticesWaiting",
            # what one who follows has waiting is old
            f"max by (rollout, rule) ({waiting} and on (rollout, instance) ({leads} == 1)) > 0",
            severity="warning",
            summary=f"notices of {name} are not taken",
            description="People are not told of what the plan says; `/readyz` says why, `crossfade notify test` tries.",
            lasting="15m",
        )
    if plan.owner_notices is not None:
        undelivered = selector("crossfade_owner_notices_undelivered_seconds", rollout=name)
        yield _rule(
            plan,
            "CrossfadeOwnersNotTold",
            f"max by (rollout, step) ({undelivered}) > 900",
            severity="warning",
            summary=f"owners of clients of {name} are not told that V1 goes",
            description="A notice has been due for 15 minutes and can't be delivered; `/readyz` says why.",
        )
    for metric in plan.metrics:
        yield from _guardrail(plan, metric)


def _guardrail(plan: Plan, metric: Metric) -> Iterator[dict[str, Any]]:
    guard = metric.guard
    if guard is None or guard.action not in _SEVERITY:
        return
    labels = {"rollout": plan.name}
    if guard.open_longer_than_s is not None:
        summary = f"the breaker of {metric.name} is open for more than {duration(guard.open_longer_than_s)}"
        by, family = "rollout, breaker", "crossfade_observed_breaker_open_seconds"
        open_s = highest(by, family, breaker=metric.name, **labels)
        expression, alert = f"{open_s} > {guard.open_longer_than_s:g}", "CrossfadeBreakerOpen"
    elif guard.breach is not None:
        summary = f"{metric.name} of {plan.name} breaches its guardrail"
        by, family = "rollout, metric, action", "crossfade_guardrail_breached"
        expression = f"{highest(by, family, metric=metric.name, **labels)} == 1"
        alert = "CrossfadeGuardrailBreached"
    else:
        return
    text = f"The plan says: {guard.text}. `crossfade why` has the values."
    severity = _SEVERITY[guard.action]
    yield _rule(plan, alert, expression, severity=severity, summary=summary, description=text, metric=metric.name)


def _rule(
    plan: Plan,
    alert: str,
    expression: str,
    *,
    severity: str,
    summary: str,
    description: str,
    lasting: str = "",
    **labels: str,
) -> dict[str, Any]:
    rule: dict[str, Any] = {"alert": alert, "expr": expression}
    if lasting:
        rule["for"] = lasting
    rule["labels"] = {"severity": severity, "rollout": plan.name, **labels}
    rule["annotations"] = {"summary": literal(summary), "description": literal(description)}
    return rule

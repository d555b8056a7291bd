"""The plan that is simulated: eight weeks, a cohort of its own share, gates that evidence and people open."""

from __future__ import annotations

from crossfade.core.plan import (
    DAY,
    WEEK,
    Action,
    Api,
    AssignmentRule,
    Comparison,
    DrillStep,
    Gate,
    GateKind,
    Guardrail,
    Key,
    KeySource,
    Limit,
    Metric,
    MetricKind,
    Phase,
    Plan,
    Upstream,
)
from crossfade.core.split import Split

BETA = tuple(f"beta-{n}" for n in range(20))
USERS = (*BETA, *(f"user-{n}" for n in range(80)))
"""Users whose version is watched, each with an equal share of the traffic."""
_STABLE = Gate(kind=GateKind.STABLE, text="stable for 2d", for_s=2 * DAY)
_ON_TARGET = Gate(kind=GateKind.ON_TARGET, text="failure_rate on target", metric="failure_rate")
_DRILLED = Gate(kind=GateKind.DRILL_PASSED, text="drill passed")
_APPROVED = Gate(kind=GateKind.APPROVED, text="approved by a person")


_SILENT = Gate(kind=GateKind.NO_V1_REQUESTS, text="no v1 requests for 1d", for_s=DAY)


def _phase(
    name: str,
    everyone: int,
    beta: int,
    weeks: float,
    *gates: Gate,
    drill: DrillStep | None = None,
    retires: bool = False,
) -> Phase:
    split = Split(everyone=everyone, cohorts={"beta": beta})
    return Phase(
        name=name,
        split=split,
        target=everyone,
        soak_s=weeks * WEEK,
        gates=gates,
        margin=2.0,
        drill=drill,
        retires=retires,
    )


PLAN = Plan(
    name="simulated",
    api=Api(
        entry="/t",
        v1=Upstream(path="/v1/t", upstreams=("127.0.0.1:1",)),
        v2=Upstream(path="/v2/t", upstreams=("127.0.0.1:2",)),
    ),
    assignment=AssignmentRule(
        user=(Key(KeySource.HEADER, "X-User-Id"),), salt=1, users=len(USERS), cohorts={"beta": frozenset(BETA)}
    ),
    metrics=(
        Metric(
            name="failure_rate",
            kind=MetricKind.FAILURE_RATE,
            target=Limit(comparison=Comparison.LE, value=0.005),
            guard=Guardrail(
                action=Action.ROLLBACK, breach=Limit(comparison=Comparison.GT, value=0.01), worse_than_v1=True
            ),
        ),
    ),
    phases=(
        _phase("canary", 500, 5000, 1),
        _phase("early", 2500, 5000, 2, _STABLE, _DRILLED, drill=DrillStep(after_s=2 * DAY)),
        _phase("half", 5000, 5000, 1, _STABLE, _ON_TARGET),
        _phase("most", 7500, 10_000, 1, _STABLE),
        _phase("full", 10_000, 10_000, 1, _STABLE, _SILENT, _APPROVED, retires=True),
    ),
    digest="simulated",
)

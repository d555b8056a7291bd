"""A small plan for the core's tests."""

from __future__ import annotations

import pytest

from crossfade.core.plan import (
    HOUR,
    Action,
    Api,
    AssignmentRule,
    Comparison,
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

ON_TARGET = Gate(kind=GateKind.ON_TARGET, text="failure_rate on target", metric="failure_rate")


@pytest.fixture
def plan() -> Plan:
    """Three phases: staff, half, all; a failure rate that rolls back, a latency that holds, a breaker that alerts."""
    stable = Gate(kind=GateKind.STABLE, text="stable for 2h", for_s=2 * HOUR)
    approved = Gate(kind=GateKind.APPROVED, text="approved by a person")
    return Plan(
        name="trips",
        api=Api(
            entry="/t",
            v1=Upstream(path="/v1/t", upstreams=("127.0.0.1:1",)),
            v2=Upstream(path="/v2/t", upstreams=("127.0.0.1:2",)),
        ),
        assignment=AssignmentRule(
            user=(Key(KeySource.HEADER, "X-User-Id"),),
            salt=1,
            cohorts={"internal": frozenset({"s1"})},
            users=100,
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
            Metric(
                name="latency_p95",
                kind=MetricKind.LATENCY,
                quantile=0.95,
                guard=Guardrail(action=Action.HOLD, breach=Limit(comparison=Comparison.GT, value=300.0)),
            ),
            Metric(
                name="breaker_open",
                kind=MetricKind.BREAKER,
                fact="weather-breaker",
                guard=Guardrail(action=Action.ALERT, open_longer_than_s=300.0),
            ),
        ),
        phases=(
            Phase(name="internal", split=Split(cohorts={"internal": 10_000}), target=0, soak_s=HOUR, gates=()),
            Phase(
                name="half",
                split=Split(everyone=5000, cohorts={"internal": 10_000}),
                target=5000,
                soak_s=HOUR,
                gates=(ON_TARGET, stable),
            ),
            Phase(
                name="full",
                split=Split(everyone=10_000, cohorts={"internal": 10_000}),
                target=10_000,
                soak_s=HOUR,
                gates=(stable, approved),
            ),
        ),
        digest="d",
    )

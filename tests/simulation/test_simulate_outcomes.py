"""Plans with metrics that the proxy can't see are simulated too: outcomes are drawn alike on both versions."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.simulation.test_simulate_run import SHIPPED, shorter

from crossfade.core.evidence.sums import Cell
from crossfade.core.plan import (
    DAY,
    HOUR,
    Action,
    Comparison,
    Gate,
    GateKind,
    Guardrail,
    Limit,
    Metric,
    MetricKind,
    Plan,
    Query,
    Source,
)
from crossfade.core.split import Split, Version
from crossfade.simulation.draws import World
from crossfade.simulation.model import BEGIN, Scenario, outcome_baseline
from crossfade.simulation.run import Ending, run_once

HOLD_BELOW = Guardrail(action=Action.HOLD, breach=Limit(comparison=Comparison.LT, value=0.95, of_v1=True))
CONVERSION = Metric(name="conversion", kind=MetricKind.OUTCOME, outcome="conversion", baseline=0.12, guard=HOLD_BELOW)
SATISFACTION = Metric(
    name="satisfaction",
    kind=MetricKind.OUTCOME,
    outcome="satisfaction",
    target=Limit(comparison=Comparison.GE, value=0.9),
    guard=Guardrail(action=Action.HOLD, breach=Limit(comparison=Comparison.LT, value=0.85)),
)
CHECKOUT = Metric(
    name="checkout",
    kind=MetricKind.QUERIED,
    outcome="checkout",
    query=Query(source="prometheus", bad="b", total="t"),
    guard=Guardrail(action=Action.HOLD, breach=Limit(comparison=Comparison.GT, value=0.02), worse_than_v1=True),
)
MEAN = Metric(
    name="latency_mean",
    kind=MetricKind.LATENCY_MEAN,
    guard=Guardrail(action=Action.HOLD, breach=Limit(comparison=Comparison.GT, value=1.25, of_v1=True)),
)


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The shipped plan's first four phases, held by outcomes, and one gate on them."""
    short = shorter(SHIPPED, 2 * DAY)
    gate = Gate(kind=GateKind.LIMIT, text="satisfaction >= 80%", metric="satisfaction")
    gate = replace(gate, limit=Limit(comparison=Comparison.GE, value=0.8))
    half = replace(short.phases[-1], gates=(*short.phases[-1].gates, gate))
    return replace(
        short,
        metrics=(*short.metrics, CONVERSION, SATISFACTION, CHECKOUT, MEAN),
        phases=(*short.phases[:-1], half),
        sources=(Source(name="prometheus", url="http://127.0.0.1:9090"),),
    )


def test_a_plan_with_outcomes_completes(plan: Plan) -> None:
    result = run_once(Scenario(plan=plan, rate=2.0, users=17_280), 1, 0)
    assert result.ending is Ending.COMPLETED


def test_outcomes_have_their_baselines_and_units_and_are_the_same_in_coarse_and_fine_ticks(plan: Plan) -> None:
    world = World(Scenario(plan=plan, rate=20.0, users=17_280), 1, 0)
    part = world.draw(0, BEGIN, BEGIN + 10 * HOUR, begun=BEGIN, split=Split(everyone=5000), ill=())
    whole = world.whole([part])
    sums: dict[str, list[float]] = {}
    for arm, cell in whole.items():
        assert cell.requests
        for name, (units, total) in cell.outcomes.items():
            have = sums.setdefault(f"{name} {arm.version}", [0, 0.0])
            have[0], have[1] = have[0] + units, have[1] + total
    rates = {"conversion": 0.12, "satisfaction": 0.95, "checkout": 0.01}
    for version in Version:
        requests = sum(cell.requests for arm, cell in whole.items() if arm.version is version)
        for name, rate in rates.items():
            drawn, value = sums[f"{name} {version}"]
            assert value / drawn == pytest.approx(rate, rel=0.25)
            assert drawn == pytest.approx(requests * (1 if name == "checkout" else 0.01), rel=0.15)
    fine: dict[object, Cell] = {}
    for cells in world.cut(part, 600.0):
        for arm, cell in cells.items():
            fine.setdefault(arm, Cell()).add(cell)
    assert {arm: cell.outcomes for arm, cell in whole.items()} == {arm: cell.outcomes for arm, cell in fine.items()}


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (CONVERSION, 0.12),
        (replace(CONVERSION, baseline=None), 0.1),
        (SATISFACTION, 0.95),
        (CHECKOUT, 0.01),
        (replace(CHECKOUT, guard=None), 0.1),
    ],
)
def test_baselines(metric: Metric, value: float) -> None:
    assert outcome_baseline(metric) == pytest.approx(value)

"""Floors and rivals: the figures of EVIDENCE 2, and rules that are seen to fail where they do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from crossfade.app.planfile import load_plan
from crossfade.simulation.floors import lai, wald
from crossfade.simulation.model import Curve, Defect, Effect, Scenario
from crossfade.simulation.rivals import RULES, judge, minutes

PLAN = load_plan(Path("plans/trips-v2.yaml"))
HEALTHY = Scenario(plan=PLAN, rate=10.0, users=86_400)
BROKEN = Defect(metric="failure_rate", effect=Effect.RATE, value=0.5, phase=2, after_s=86_400.0)


@pytest.mark.parametrize(
    ("p2", "requests"), [(0.0075, 8977), (0.01, 2530), (0.015, 762), (0.02, 392), (0.05, 74), (0.2, 11)]
)
def test_walds_floor(p2: float, requests: float) -> None:
    found = wald(0.005, p2, 0.05, 0.01)
    assert found == pytest.approx(requests, abs=0.6)


def test_lais_floor_is_walds_at_the_start_and_grows_with_the_good_days_before() -> None:
    least = wald(0.005, 0.02, 0.05, 0.01)
    assert least is not None
    assert lai(0.005, 0.02, 0.05, 0.01, 0.0) == least
    late = lai(0.005, 0.02, 0.05, 0.01, 1e6)
    assert late is not None
    assert 2 * least < late < 4 * least


def test_there_is_no_floor_without_a_difference_or_a_control() -> None:
    assert wald(0.005, 0.005, 0.05, 0.01) is None
    assert wald(0.005, 0.02, 1.0, 0.01) is None


@pytest.mark.parametrize("rule", ["flagger", "argo"])
def test_counters_that_never_reset_roll_back_a_healthy_v2(rule: str) -> None:
    """The negative control of EVIDENCE 0.4."""
    wrong = [judge(rule, minutes(HEALTHY, 1, run)).too_soon for run in range(5)]
    assert sum(wrong) >= 4


def test_a_cumulative_test_over_all_phases_is_fooled_when_shares_and_rates_change() -> None:
    """Simpson's paradox (EVIDENCE 0.3): traffic by day and night, with shared outages."""
    hard = replace(HEALTHY, curve=Curve.DIURNAL, shared_bursts=True)
    wrong = [judge("growthbook", minutes(hard, 1, run)).too_soon for run in range(12)]
    assert sum(wrong) >= 3


@pytest.mark.parametrize("rule", list(RULES))
def test_each_rule_finds_a_v2_that_fails_half_its_requests(rule: str) -> None:
    found = judge(rule, minutes(replace(HEALTHY, defects=(BROKEN,)), 1, 0))
    assert found.seconds is not None


def test_the_same_seed_gives_the_same_minutes() -> None:
    one, other = minutes(HEALTHY, 3, 1), minutes(HEALTHY, 3, 1)
    assert (one.k2 == other.k2).all()
    assert (one.k2 != minutes(HEALTHY, 3, 2).k2).any()


@pytest.mark.parametrize(
    ("control", "hard"),
    [
        ("raw", replace(HEALTHY, users=2000, clustered=10)),
        ("zscore", replace(HEALTHY, curve=Curve.DIURNAL)),
        ("zscore", replace(HEALTHY, users=2000, chronic=0.01)),
    ],
    ids=["raw counts of users who fail in rows", "pooled through days and shares", "users who always fail"],
)
def test_the_negative_controls_are_fooled(control: str, hard: Scenario) -> None:
    """The traffic is hard enough: tests that aren't built for it roll a healthy V2 back in most rollouts."""
    wrong = [judge(control, minutes(hard, 2, run)).too_soon for run in range(10)]
    assert sum(wrong) >= 6


def test_rates_that_rounding_alone_tells_apart_have_no_floor() -> None:
    assert wald(0.3, 0.3 + 1e-17 * 8, 0.05, 0.01) is None
    assert wald(0.3, 0.3 * (1 + 1e-9), 0.05, 0.01) is None

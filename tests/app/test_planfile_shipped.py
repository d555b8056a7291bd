"""The plans that come with Crossfade, the lint that gave their margins, and the summary that reads them back."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crossfade.app.planfile import lint, load_plan, summarise
from crossfade.app.planfile.lint import needed_v2_requests, requests_to_show
from crossfade.core.plan import DAY, WEEK, GateKind, Phase, Plan
from crossfade.core.split import NOBODY

PLANS = Path(__file__).parents[2] / "plans"
DEMO_REQUESTS_PER_USER_DAY = 600 * 30 / 2000 / 7
"""600 requests/s, half a minute a plan week, 2,000 users."""


@pytest.fixture(scope="module")
def trips() -> Plan:
    return load_plan(PLANS / "trips-v2.yaml")


@pytest.fixture(scope="module")
def demo() -> Plan:
    return load_plan(PLANS / "trips-v2-demo.yaml")


def test_the_founding_documents_seven_phases(trips: Plan) -> None:
    assert [phase.name for phase in trips.phases] == ["internal", "canary", "early", "half", "most", "nearly", "full"]
    assert [phase.target for phase in trips.phases] == [0, 500, 2_500, 5_000, 7_500, 9_500, 10_000]
    assert sum(phase.soak_s for phase in trips.phases) == 8 * WEEK
    assert trips.phases[0].split.rises_from(NOBODY)
    assert trips.assignment.cohort_sizes() == {"internal": 12, "beta": 500}
    assert {"internal"} == trips.staff_cohorts()


def test_the_beta_programme_is_a_quarter_of_the_demos_users_spread_over_them(trips: Plan) -> None:
    users = {f"u{n:04d}" for n in range(1, 2001)}
    beta = trips.assignment.cohorts["beta"]
    assert beta < users
    assert all(
        100 < sum(f"u{n:04d}" in beta for n in range(start, start + 500)) < 150 for start in (1, 501, 1001, 1501)
    )


def test_the_real_plan_decides_at_ten_requests_a_day_and_the_demos_at_its_own(trips: Plan, demo: Plan) -> None:
    assert lint(trips, 10) == ()
    assert lint(demo, DEMO_REQUESTS_PER_USER_DAY) == ()
    assert {"canary", "early", "half", "most", "nearly"} == {
        found.phase for found in lint(trips, DEMO_REQUESTS_PER_USER_DAY)
    }


def test_the_demo_differs_only_where_it_says(trips: Plan, demo: Plan) -> None:
    pairs = list(zip(map(_without_trials, trips.phases), demo.phases, strict=True))
    assert [phase.name for phase in trips.phases if phase.drill] == ["nearly"]
    tried = {kind: [p.name for p in trips.phases if any(g.kind is kind for g in p.gates)] for kind in _TRIALS}
    assert tried == {
        GateKind.REHEARSAL_PASSED: ["internal"],
        GateKind.PEAK_LOAD_PASSED: ["early"],
        GateKind.DRILL_PASSED: ["nearly", "full"],
    }
    assert [(real.name, real.soak_s, play.soak_s) for real, play in pairs if real != play] == [
        ("canary", WEEK, 2 * WEEK)
    ]
    assert replace(pairs[1][0], soak_s=2 * WEEK) == pairs[1][1]
    rate, *others = demo.metrics
    assert (replace(rate, baseline=0.005), *others) == tuple(m for m in trips.metrics if m.name not in _SAID)
    assert {m.name for m in trips.metrics} >= _SAID
    assert rate.baseline == 0
    assert (trips.api, trips.confidence) == (demo.api, demo.confidence)
    assert trips.assignment.cohorts == demo.assignment.cohorts
    marks = re.findall(r"# DEMO\b", (PLANS / "trips-v2-demo.yaml").read_text())
    assert len(marks) == 7, "name, baseline, feedback, rehearsal, soak, peak load with complaints, drill"


_SAID = {"satisfaction", "weather_liked", "complaints"}
"""Metrics of feedback: nobody gives any in the demo."""
_TRIALS = (GateKind.REHEARSAL_PASSED, GateKind.PEAK_LOAD_PASSED, GateKind.DRILL_PASSED)


def _without_trials(phase: Phase) -> Phase:
    own, all_of_them = (
        tuple(gate for gate in gates if gate.kind not in _TRIALS and gate.metric not in _SAID)
        for gates in (phase.own_gates, phase.gates)
    )
    return replace(phase, drill=None, own_gates=own, gates=all_of_them)


MEASURED = [
    (1.25, (31_400, 40_900, 63_300, 129_000)),
    (1.5, (8_500, 11_800, 18_600, 42_600)),
    (2, (2_900, 4_000, 6_400, 15_800)),
    (3, (1_000, 1_500, 3_200, 7_800)),
    (4, (600, 1_100, 2_200, 5_300)),
]


@pytest.mark.parametrize(("margin", "means"), MEASURED)
def test_the_need_is_what_was_simulated(margin: float, means: tuple[int, ...]) -> None:
    """EVIDENCE 0.12's table, within 15 %."""
    for share, mean in zip((0.05, 0.25, 0.5, 0.75), means, strict=True):
        assert mean == pytest.approx(needed_v2_requests(margin, share, 0.005), rel=0.15)


def test_a_need_grows_as_margin_traffic_and_rate_shrink() -> None:
    assert needed_v2_requests(1.25, 0.25, 0.005) > needed_v2_requests(1.5, 0.25, 0.005)
    assert needed_v2_requests(1.5, 0.95, 0.005) > needed_v2_requests(1.5, 0.5, 0.005)
    assert needed_v2_requests(1.5, 0.25, 0.0005) > needed_v2_requests(1.5, 0.25, 0.005)
    assert float("inf") == needed_v2_requests(1.5, 0.25, 0.0) == needed_v2_requests(1.5, 1.0, 0.005)


def test_the_lint_says_what_is_needed_and_what_would_do(desk: Any, plan_text: str) -> None:
    found = {finding.phase: finding for finding in lint(desk.load(plan_text.replace("margin: 1.5", "margin: 1.1")), 10)}
    half = found["half"]
    assert half.needed_requests > half.expected_requests == 70_000
    assert "`failure_rate on target` can't be expected to decide within the soak of 1w" in half.message
    assert "margin 1.5 instead of 1.1" in half.message
    assert f"{half.needed_requests / 10_000:.3g} days" in half.message


def test_an_availability_that_never_fails_is_decided_by_its_guard_alone(desk: Any, plan_text: str) -> None:
    text = plan_text.replace("[failure_rate on target]", "[flights_available on target]")
    assert [found.phase for found in lint(desk.load(text), 10)] == []
    assert {found.phase for found in lint(desk.load(text), 0.5)} == {"canary"}, "700 requests are a lot for 350"


def test_a_baseline_outside_of_target_and_guard_never_decides(desk: Any, plan_text: str) -> None:
    text = plan_text.replace("baseline: 0.5%", "baseline: 1.5%")
    assert all("can never decide" in found.message for found in lint(desk.load(text), 1_000))
    assert {found.phase for found in lint(desk.load(text), 1_000)} == {"canary", "half"}


@pytest.mark.parametrize(
    ("rate", "limit", "measured"),
    [(0.005, 0.01, 5_950), (0.003, 0.01, 2_560), (0.002, 0.01, 1_920), (0.001, 0.005, 3_840), (0.0, 0.005, 1_440)],
)
def test_showing_a_rate_to_be_within_a_limit_takes_what_was_simulated(
    rate: float, limit: float, measured: float
) -> None:
    """The 80th percentile of 150 seeded runs of the confidence sequence, looked at every 0.8/limit requests."""
    assert requests_to_show(rate, limit) == pytest.approx(measured, rel=0.1)
    assert requests_to_show(limit, limit) == float("inf")


@pytest.mark.parametrize(("share", "measured"), [(0.05, 33_200), (0.25, 39_400), (0.5, 57_400), (0.75, 110_100)])
def test_the_need_of_a_relative_target_is_what_was_simulated(share: float, measured: float) -> None:
    """Mean user-days on V2 until 12 % conversion is shown to be at least 95 % of V1's, versions equal, 80 runs."""
    assert needed_v2_requests(0.95, share, 0.12) == pytest.approx(measured, rel=0.08)


def test_a_posted_outcome_is_counted_once_a_user_and_day(desk: Any, plan_text: str) -> None:
    conversion = '  conversion: {outcome: conversion, baseline: 12%, target: ">= 95% of v1"}\n'
    text = plan_text.replace("phases:\n", f"{conversion}phases:\n")
    text = text.replace("[failure_rate on target]", "[conversion on target]")
    (canary, half) = lint(desk.load(text), 10)
    assert canary.expected_requests == pytest.approx(700)
    assert half.expected_requests == pytest.approx(7000)
    assert half.needed_requests == pytest.approx(88_000, rel=0.02)
    assert "at 0.012 V2 outcomes/s `conversion on target` can't be expected" in half.message
    assert "margin" not in half.message


def test_satisfaction_is_asked_for_as_an_availability(desk: Any, plan_text: str) -> None:
    metric = '  satisfaction: {outcome: mood, baseline: 95%, target: ">= 90%", guard: "< 85% -> hold"}\n'
    text = plan_text.replace("phases:\n", f"{metric}phases:\n")
    assert lint(desk.load(text.replace("[failure_rate on target]", "[satisfaction on target]")), 10) == ()


def test_without_the_number_of_users_the_lint_is_silent(desk: Any, plan_text: str) -> None:
    text = plan_text.replace("  users: 2000\n", "").replace(" cohort: beta,", "")
    plan = desk.load(text)
    assert lint(plan) == ()
    assert "can't be told" in summarise(plan)


@pytest.mark.parametrize("requests", [10, 1])
def test_the_summary_fits_a_terminal_and_names_everything(trips: Plan, requests: float) -> None:
    text = summarise(trips, requests)
    too_long = [line for line in text.splitlines() if len(line) > 80]
    assert too_long == []
    for word in (
        [p.name for p in trips.phases] + [m.name for m in trips.metrics] + ["beta 20 %", "about 1,900", "12 staff"]
    ):
        assert word in text
    assert ("every comparison is likely to decide" in text) == (requests == 10)


def test_soaks_cover_the_gates_with_a_time(trips: Plan, demo: Plan) -> None:
    for plan in (trips, demo):
        for phase in plan.phases:
            assert phase.soak_s >= max((gate.for_s for gate in phase.gates), default=0) >= 0
            assert phase.soak_s >= DAY

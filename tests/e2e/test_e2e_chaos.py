"""A short piece of `benchmarks/chaos.py`: whatever is killed or stopped, nobody gets a wrong answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.chaos import Asked, Fault, Report, chaos, told

from crossfade.app.planfile import load_plan
from crossfade.core.split import Version, assign

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_whatever_is_killed_or_stopped_no_answer_is_wrong_and_the_rollout_completes(tmp_path: Path) -> None:
    with chaos(tmp_path, "sqlite", seed=7, seconds=30.0) as found:
        report = found.run(threads=3)
        plan = load_plan(found.site.plan)
    assert report.completed, told(report, plan)
    assert (report.lost()[1], report.wrong(plan)) == ([], []), told(report, plan)
    assert {event["kind"] for event in report.events} >= {"RolloutStarted", "PhasePromoted", "RolloutCompleted"}
    assert len(report.asked) > 100


def test_the_judge_knows_wrong_answers_and_lost_ones() -> None:
    """Without this a count of 0 would say nothing."""
    plan = load_plan(ROOT / "plans" / "trips-v2.yaml")
    half = plan.phases[3].split
    events = [
        {"kind": "RolloutStarted", "at": 0.0, "data": {}},
        {"kind": "SplitApplied", "at": 1.0, "data": {}},
        {"kind": "PhasePromoted", "at": 100.0, "data": {"phase": 3}},
        {"kind": "SplitApplied", "at": 110.0, "data": {}},
        {"kind": "RolledBack", "at": 200.0, "data": {"took_s": 2.0}},
        {"kind": "SplitApplied", "at": 203.0, "data": {}},
    ]
    rule = plan.assignment
    users = (f"u{n:04d}" for n in range(1, 2001))
    on_v2 = next(u for u in users if assign(u, salt=rule.salt, split=half, cohort=None).version is Version.V2)

    def asked(at: float, version: str, status: int = 200) -> Asked:
        return Asked(on_v2, at, at + 0.01, status, version)

    right = [asked(50, "v1"), asked(105, "v1"), asked(105, "v2"), asked(150, "v2"), asked(199, "v1"), asked(203, "v2")]
    wrong = [asked(50, "v2"), asked(150, "v1"), asked(190, "v1"), asked(210, "v2")]
    report = Report(asked=[*right, *wrong], events=events)
    assert report.wrong(plan) == wrong
    stood_in = Report(asked=wrong, events=events, faults=[Fault("kill V2", 149, 151)])
    assert stood_in.wrong(plan) == [wrong[0], wrong[2], wrong[3]]

    failed = [asked(10, "", 0), asked(20, "v1", 503)]
    report = Report(asked=failed, faults=[Fault("kill V1", 19, 21), Fault("stop proxy", 9, 11)])
    lost, unexplained = report.lost()
    assert (dict(lost), unexplained) == ({"kill V1": 1}, failed[:1])

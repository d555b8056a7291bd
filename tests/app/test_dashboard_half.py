"""The comparison at 50/50: each ratio with its interval, what it is of, and what it means."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from crossfade.app.dashboard import model
from crossfade.app.planfile import load_plan

PLAN = load_plan(Path(__file__).parents[2] / "plans" / "trips-v2.yaml")


def test_a_ratio_says_what_it_is_of_and_how_far_v1_and_v2_are_apart() -> None:
    metrics = {
        "failure_rate": [0.005, 0.006, 0.9, 1.2, 1.6],
        "latency_mean": [100.0, 1087.0, 9.8, 10.9, 12.0],
        "satisfaction": [0.95, 0.93, 1.1, 1.4, 1.8],
        "returning": [0.5, 0.45, 0.88, 0.9, 0.93],
        "database_time": [1.0, 1.1, None, None, None],
    }
    points = [{"phase": 3, "at": 0.0, "metrics": metrics}]
    controller = cast("Any", SimpleNamespace(rollout=SimpleNamespace(phase=3)))
    when, rows = model.at_half(PLAN, controller, points)
    assert when == "as of 1970-01-01 00:00:00 UTC"
    assert {row["name"]: (row["ratio"], row["word"]) for row in rows} == {
        "failure_rate": ("1.20 (0.9..1.6)", "not told apart: from 10 % lower to 60 % higher"),
        "latency_mean": ("10.90 (9.8..12)", "9.8 to 12 times as high"),
        "satisfaction": ("1.40 (1.1..1.8) of misses", "misses: 10 % to 80 % higher"),
        "returning": ("0.900 (0.880..0.930)", "7 % to 12 % lower"),
        "database_time": ("-", "-"),
    }

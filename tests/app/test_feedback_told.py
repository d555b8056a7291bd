"""Feedback in the terminal, in the plan and in simulation."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from crossfade.app.cli import main
from crossfade.app.planfile import load_plan
from crossfade.app.terminal.escaped import escaped_all
from crossfade.app.terminal.feedback import as_csv, shown
from crossfade.core.plan import DAY, FeedbackRules, MetricKind
from crossfade.errors import PlanError

PLAN = """\
crossfade: 1
rollout: trips
api:
  entry: /trips
  v1: {path: /v1/trips, upstreams: [127.0.0.1:8101]}
  v2: {path: /v2/trips, upstreams: [127.0.0.1:8102]}
assignment: {user: [header X-User-Id], users: 1000}
metrics:
  failure_rate: {baseline: 0.5%, guard: "> 5% and worse than v1 -> rollback"}
  complaints: COMPLAINTS
phases:
  - {name: half, split: 50%, soak: 3d, promote when: [complaints < 5]}
"""


def line(**more: object) -> dict[str, Any]:
    return {
        "number": 1,
        "user": "-7",
        "version": "v2",
        "at": 0.0,
        "rating": 1,
        "complaint": "bad",
        "topic": "weather",
        "region": "eu",
        **more,
    }


def test_csv_holds_no_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(as_csv([line(complaint='=1+1\n,"', topic="@SUM(A1)", rating=None)]))))
    assert (rows[0]["complaint"], rows[0]["topic"], rows[0]["user"]) == ("'=1+1\n,\"", "'@SUM(A1)", "'-7")
    assert (rows[0]["rating"], rows[0]["at"]) == ("", "1970-01-01 00:00:00")


def test_people_see_what_it_adds_up_to_and_no_text_acts_on_their_terminal() -> None:
    sums = [
        {"version": "v2", "topic": "weather", "region": "", "said": 4, "complaints": 3, "ratings": 2, "happy": 1},
        {"version": "v2", "topic": "", "region": "", "said": 1, "complaints": 1, "ratings": 0, "happy": 0},
    ]
    text = shown(escaped_all([line(complaint="\x1b[31mred " + "x" * 99), line(version="", rating=None)]), sums)
    assert "\x1b" not in text
    assert "…" in text
    assert text.endswith("V1: 0 complaints, nobody rated it\nV2: 4 complaints (3 of weather), 1 of 2 satisfied")
    assert shown([], []).startswith("nobody has said anything yet")


def plan_of(folder: Path, complaints: str = "{guard: monitor}", more: str = "") -> Path:
    path = folder / "plan.yaml"
    path.write_text(PLAN.replace("COMPLAINTS", complaints) + more)
    return path


def test_the_section_is_read_and_no_part_of_the_digest(tmp_path: Path) -> None:
    usual = load_plan(plan_of(tmp_path))
    said = load_plan(plan_of(tmp_path, more="feedback: {topics: [weather, prices], ask: 25%, keep: 30d}\n"))
    assert said.feedback == FeedbackRules(topics=("weather", "prices"), ask=0.25, keep_s=30 * DAY)
    assert (usual.feedback, usual.digest) == (FeedbackRules(), said.digest)
    assert said.metric("complaints").kind is MetricKind.COMPLAINTS


@pytest.mark.parametrize(
    ("complaints", "more", "told"),
    [
        ("{guard: monitor}", "feedback: {topics: [weather], ask: 200%}\n", "more than everything"),
        ("{guard: monitor}", "feedback: {keep: soon}\n", "'soon' is no duration"),
        ("{guard: monitor}", 'feedback: {topics: ["wea\\tther"]}\n', "is no topic"),
        ("{guard: monitor}", "feedback: {asks: 1}\n", "asks"),
        ('{guard: "> 5 -> rollback"}', "", "a count of complaints can't roll back, a few people can complain"),
        ('{guard: "> 5% -> hold"}', "", "does not fit a count of complaints"),
        ('{guard: "> 5 and worse than v1 -> hold"}', "", "counts of V1 and V2 can't be compared"),
        ("{outcome: complaint}", "", "complaints is counted from feedback, not from any outcome"),
        ('{guard: "< 5 -> hold"}', "", "would trip when V2 is good"),
    ],
)
def test_a_mistake_in_the_plan_is_told(tmp_path: Path, complaints: str, more: str, told: str) -> None:
    with pytest.raises(PlanError, match=told.replace("(", r"\(")) as error:
        load_plan(plan_of(tmp_path, complaints, more))
    assert "plan.yaml:" in str(error.value)


def test_a_simulated_rollout_passes_the_gate(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main,
        [
            "simulate",
            str(plan_of(tmp_path)),
            "--rate",
            "5",
            "--users",
            "1000",
            "--runs",
            "2",
            "--seed",
            "1",
            "-o",
            "json",
        ],
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["completed"]["rate"] == 1.0

"""`crossfade simulate`: its document, its page, and what it says to bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from crossfade.app.cli import main
from crossfade.app.planfile import load_plan
from crossfade.app.simulate.defects import parse_defect
from crossfade.app.simulate.options import SimulateOptions, scenario_of
from crossfade.app.simulate.page import as_html
from crossfade.app.simulate.pool import simulate
from crossfade.app.simulate.report import as_data
from crossfade.core.plan import DAY
from crossfade.errors import UsageError
from crossfade.simulation.model import Defect, Effect, plan_regions

PLAN = "plans/trips-v2.yaml"
LOADED = load_plan(Path(PLAN))
EARLY = ("--defect", "failure_rate=20% at canary", "--runs", "2", "--seed", "4")


def crossfade(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["simulate", *arguments])
    return result.exit_code, result.output


def parse(text: str) -> Defect:
    return parse_defect(text, LOADED, plan_regions(LOADED))


def test_the_document_has_the_keys_it_promises() -> None:
    code, output = crossfade(
        PLAN, *EARLY, "--processes", "1", "--against", "flagger,argo,kayenta,growthbook", "-o", "json"
    )
    assert code == 0
    data = json.loads(output)
    assert data["runs"] == 2
    assert data["rolled_back"]["rate"] == 1
    assert data["rolled_back_before_defect"]["rate"] == 0
    assert data["completed"]["rate"] == data["false_promotion"]["rate"] == 0
    for name in ("v2_requests_to_rollback", "v2_failed_to_rollback", "seconds_to_rollback"):
        assert 0 < data[name]["p50"] <= data[name]["p90"]
    assert {"name", "hours_p50", "hours_p90", "held_for"} <= set(data["phases"][0])
    assert 0 < data["floor"]["wald"] <= data["floor"]["lai"]
    for rival in ("flagger", "argo", "kayenta", "growthbook"):
        assert set(data[rival]) == {
            "runs",
            "rolled_back",
            "rolled_back_before_defect",
            "v2_requests_to_rollback",
            "v2_failed_to_rollback",
            "seconds_to_rollback",
            "completed",
            "false_promotion",
            "phases",
            "floor",
        }
        assert data[rival]["completed"]["rate"] + data[rival]["rolled_back"]["rate"] == 1
        assert [phase["name"] for phase in data[rival]["phases"]] == [phase["name"] for phase in data["phases"]]


def test_the_page_fits_80_columns_and_says_what_an_author_asks() -> None:
    code, output = crossfade(PLAN, *EARLY, "--processes", "1", "--against", "flagger")
    assert code == 0
    assert max(len(line) for line in output.splitlines()) <= 80
    for word in ("Rolled back", "V2 requests", "Gates", "What a V2 that fails", "canary", "flagger"):
        assert word in output


def test_the_number_of_processes_changes_nothing() -> None:
    outputs = {crossfade(PLAN, *EARLY, "--processes", count, "-o", "json") for count in ("1", "2")}
    assert len(outputs) == 1


def test_gates_that_cannot_decide_are_named_with_what_they_need() -> None:
    code, output = crossfade(PLAN, *EARLY, "--processes", "1", "--users", "400")
    assert code == 0
    assert "can't be expected to decide" in output
    assert "needs about" in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate", "0"], "above 0"),
        (["--rate", "-1"], "above 0"),
        (["--rate", "nan"], "above 0"),
        (["--rate", "inf"], "above 0"),
        (["--rate", "1e9"], "at most 10,000"),
        (["--users", "99999999999"], "at most 2,000,000"),
        (["--defect", "failures=2% at canary"], "did you mean failure_rate?"),
        (["--defect", "failure_rate=2% at canery"], "did you mean canary?"),
        (["--defect", "failure_rate=2% at canary in region mars"], "there are eu, us, asia"),
        (["--defect", "failure_rate=200% at canary"], "200%"),
        (["--defect", "failure_rate=x2 at canary"], "a share, such as failure_rate=2%"),
        (["--defect", "latency=5% at canary"], "latency=x1.25"),
        (["--defect", "latency=x0 at canary"], "above 0"),
        (["--defect", "failure_rate=2% at canary+soon"], "is no defect"),
        (["--defect", "nonsense"], "write one like"),
        (["--defect", "breaker_open=2% at canary"], "can't be given a defect"),
        (["--against", "spinnaker"], "there are flagger"),
        (["--chronic", "often"], "often"),
        (["--tick", "0"], "tick"),
        (["--tick", "nan"], "tick"),
    ],
)
def test_bad_input_is_one_clear_error(arguments: list[str], words: str) -> None:
    code, output = crossfade(PLAN, *arguments, "--runs", "1")
    assert code == 2
    assert words in output
    assert "Traceback" not in output


def test_a_plan_that_is_not_there() -> None:
    code, output = crossfade("nowhere.yaml")
    assert code == 2
    assert "nowhere.yaml" in output


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "failure_rate=2% at canary+3d",
            Defect(metric="failure_rate", effect=Effect.RATE, value=0.02, phase=1, after_s=3 * DAY),
        ),
        (
            "latency=x1.25 at early+1w 2d in region eu",
            Defect(metric="latency_p95", effect=Effect.FACTOR, value=1.25, phase=2, after_s=9 * DAY, region="eu"),
        ),
        (
            "latency.tail=x1.5  at full",
            Defect(metric="latency_p95", effect=Effect.TAIL, value=1.5, phase=6, after_s=0),
        ),
        (
            "flights_available=97% at half in region us",
            Defect(metric="flights_available", effect=Effect.RATE, value=0.97, phase=3, after_s=0, region="us"),
        ),
    ],
)
def test_a_defect_says_what_where_and_when(text: str, expected: Defect) -> None:
    found = parse(text)
    assert (found.metric, found.effect, found.value) == (expected.metric, expected.effect, expected.value)
    assert (found.phase, found.after_s, found.region) == (expected.phase, expected.after_s, expected.region)


def test_a_defect_of_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UsageError, match="no metric 'zzz'"):
        parse("zzz=2% at canary")


def test_the_html_page_stands_alone() -> None:
    code, page = crossfade(PLAN, *EARLY, "--processes", "1", "--against", "flagger,zscore", "-o", "html")
    assert code == 0
    assert page.startswith("<!doctype html>")
    for word in (
        "Time in each phase",
        "Users whom a defect would hurt",
        "Rolled back falsely",
        "from the defect to the",
    ):
        assert word in page
    assert page.count("<svg") > 20
    for outside in ("<script", "http://", "https://", "src=", "@import", "url("):
        assert outside not in page
    assert "prefers-color-scheme: dark" in page


def test_the_html_page_escapes_what_a_plan_says() -> None:
    options = SimulateOptions(plan=Path(PLAN), runs=1, users=500, processes=1, defects=("failure_rate=90% at canary",))
    scenario = scenario_of(options)
    outcomes = simulate(options, ())
    scenario = replace(scenario, plan=replace(scenario.plan, name="<b>&amp;</b>"))
    page = as_html(options, scenario, as_data(options, scenario, outcomes, ()), outcomes, ())
    assert "<b>" not in page
    assert page.count("&lt;b&gt;&amp;amp;&lt;/b&gt;") == 3


@pytest.mark.parametrize("tick", ["1", "60"])
def test_looks_each_second_or_each_minute_decide_alike(tick: str) -> None:
    """The same requests and the same rollback, up to a look's length."""
    code, output = crossfade(
        PLAN, "--rate", "20", "--runs", "2", "--defect", "failure_rate=5% at canary+1h", "--tick", tick, "-o", "json"
    )
    assert code == 0
    data = json.loads(output)
    assert data["rolled_back"]["rate"] == 1
    _, usual = crossfade(PLAN, "--rate", "20", "--runs", "2", "--defect", "failure_rate=5% at canary+1h", "-o", "yaml")
    assert abs(data["seconds_to_rollback"]["p50"] - yaml.safe_load(usual)["seconds_to_rollback"]["p50"]) <= 75


def test_an_improvement_and_outages_of_both_roll_nothing_back() -> None:
    """V2 fails a fifth as often as V1; V2 has the failures that V1 has, in outages of both."""
    for arguments in (["--defect", "failure_rate=0.1% at internal"], ["--shared-bursts"]):
        code, output = crossfade(PLAN, *arguments, "--rate", "2", "--runs", "4", "--seed", "9", "-o", "json")
        assert code == 0
        assert json.loads(output)["rolled_back"]["rate"] == 0

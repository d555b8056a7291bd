"""What is written for Prometheus and Grafana is what they take, and finds what a controller tells."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from click.testing import CliRunner
from tests.app.lived import Lived
from tests.app.serving import BASE, TOKEN, served_with, serving
from tests.app.serving import PLAN as SHIPPED

from crossfade.app.cli import main
from crossfade.app.monitoring.alerts import alerts_of
from crossfade.app.monitoring.grafana import WIDTH, dashboard_of
from crossfade.core.plan import Action, ClientsRule, Guardrail, Kept, NoticeKind, NoticeRule, OwnerNotices, Plan

PLANS = Path(__file__).parents[2] / "plans"
PAGER = NoticeRule(name="pager", on={NoticeKind.ROLLBACK: 0.0}, webhook=Kept(text="https://example.org"))
OWNERS = OwnerNotices(templates={}, sender="api-team@example.org", mail=Kept(variable="CROSSFADE_TEST_MAIL"))
PLAN = replace(SHIPPED, notices=(PAGER,), clients=ClientsRule(notices=OWNERS))
GRAPHS = ("stat", "timeseries", "state-timeline")


def promtool() -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed; `apt-get install prometheus` brings it")
    return program


def rules_of(plan: Plan) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = yaml.safe_load(alerts_of(plan))["groups"][0]["rules"]
    return rules


# ── alert rules ─────────────────────────────────────────────────────────────────────────────────────────────


def hostile() -> Plan:
    """Return a plan whose texts hold everything that could end a string or begin a template."""
    guard = Guardrail(action=Action.ALERT, text='{{ $value }} "\\ \n é', breach=PLAN.metrics[0].target)
    return replace(PLAN, metrics=(replace(PLAN.metrics[0], guard=guard), *PLAN.metrics[1:]))


@pytest.mark.external
@pytest.mark.parametrize("plan", [PLAN, hostile()], ids=["shipped", "hostile"])
def test_promtool_takes_the_rules(plan: Plan, tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_bytes(alerts_of(plan))
    done = subprocess.run([promtool(), "check", "rules", file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"SUCCESS: {len(rules_of(plan))} rules found" in done.stdout


def test_every_guardrail_that_acts_has_a_rule() -> None:
    acting = [m.name for m in PLAN.metrics if m.guard is not None and m.guard.action is not Action.MONITOR]
    assert [rule["labels"]["metric"] for rule in rules_of(PLAN) if "metric" in rule["labels"]] == acting
    assert len(acting) > 3


R = 'rollout="trips-v2"'
LED = f"crossfade_lease_leads{{{R}}}"
CASES: list[tuple[str, dict[str, str], str]] = [
    ("CrossfadeRolledBack", {f'crossfade_rollout_state{{{R},state="rolled_back"}}': "0x4 1x20"}, "5m"),
    ("CrossfadeHolding", {f"crossfade_rollout_held{{{R}}}": "0x4 1x20"}, "11m"),
    ("CrossfadeBlind", {f"crossfade_rollout_blind{{{R}}}": "0x4 1x20"}, "8m"),
    ("CrossfadeNoLeader", {LED: "1x4 0x20"}, "7m"),
    ("CrossfadeNoLeader", {LED: "1x4 _x20"}, "12m"),
    ("CrossfadeTicksLost", {f"crossfade_ticks_lost_total{{{R}}}": "0x4 0+1x20"}, "8m"),
    ("CrossfadeApprovalWanted", {f"crossfade_approval_wanted{{{R}}}": "0x4 1x20"}, "5m"),
    ("CrossfadeNoticesWaiting", {f'crossfade_notices_waiting{{{R},rule="pager"}}': "0x4 2x25"}, "20m"),
    (
        "CrossfadeBreakerOpen",
        {f'crossfade_observed_breaker_open_seconds{{{R},breaker="breaker_open"}}': "0x4 60+60x20"},
        "12m",
    ),
    (
        "CrossfadeGuardrailBreached",
        {f'crossfade_guardrail_breached{{{R},metric="latency_p95",action="hold"}}': "0x4 1x20"},
        "5m",
    ),
]


@pytest.mark.external
@pytest.mark.parametrize(("alert", "series", "by"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_a_rule_fires_when_it_must_and_not_before(alert: str, series: dict[str, str], by: str, tmp_path: Path) -> None:
    """Minute by minute: nothing in the first four, and the alert, and no other, at the time that the rule says."""
    (tmp_path / "rules.yml").write_bytes(alerts_of(PLAN))
    led = {} if LED in series else {LED: "1x30"}
    inputs = [{"series": name, "values": values} for name, values in (series | led).items()]
    names = sorted({rule["alert"] for rule in rules_of(PLAN)})
    matching = [r for r in rules_of(PLAN) if r["alert"] == alert]
    if len(matching) > 1:
        matching = [r for r in matching if f'metric="{r["labels"]["metric"]}"' in next(iter(series))]
    (rule,) = matching
    labels = {**_labels(next(iter(series))), **rule["labels"]}
    dropped = ("state", "le") if alert != "CrossfadeNoLeader" else ("state",)
    wanted = {
        "exp_labels": {key: value for key, value in labels.items() if key not in dropped},
        "exp_annotations": rule["annotations"],
    }
    tests = {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "30s",
        "tests": [
            {
                "interval": "1m",
                "input_series": inputs,
                "alert_rule_test": [
                    *({"eval_time": "4m", "alertname": name, "exp_alerts": []} for name in names),
                    *(
                        {"eval_time": by, "alertname": name, "exp_alerts": [wanted] if name == alert else []}
                        for name in names
                    ),
                ],
            }
        ],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    done = subprocess.run(
        [promtool(), "test", "rules", "tests.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _labels(series: str) -> dict[str, str]:
    return dict(re.findall(r'(\w+)="([^"]*)"', series))


# ── the dashboard ───────────────────────────────────────────────────────────────────────────────────────────


def test_panels_have_what_grafana_needs_and_do_not_overlap() -> None:
    board = json.loads(dashboard_of(PLAN))
    assert {"title", "uid", "schemaVersion", "panels", "templating", "annotations", "time"} <= board.keys()
    assert len(board["uid"]) <= 40
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in _span(place)}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= WIDTH
        taken |= cells
        if panel["type"] != "row":
            assert panel["type"] in GRAPHS
            assert panel["datasource"] == {"type": "prometheus", "uid": "${source}"}
            assert [target["refId"] for target in panel["targets"]] == list("ABCD"[: len(panel["targets"])])
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)


def _span(place: dict[str, int]) -> range:
    return range(place["y"], place["y"] + place["h"])


def test_every_metric_has_its_panels() -> None:
    titles = [panel["title"] for panel in json.loads(dashboard_of(PLAN))["panels"]]
    for metric in PLAN.metrics:
        assert {metric.name, f"{metric.name}: evidence", f"{metric.name}: V2 over V1"} <= set(titles)


@pytest.mark.parametrize("what", ["alerts", "grafana"])
def test_the_command_writes_to_a_file_or_to_standard_output(what: str, tmp_path: Path) -> None:
    plan, run = str(PLANS / "trips-v2.yaml"), CliRunner().invoke
    told = run(main, ["export", what, plan])
    assert told.exit_code == 0
    file = tmp_path / "made"
    assert run(main, ["export", what, plan, "--output", str(file)]).exit_code == 0
    assert file.read_text() == told.output
    assert "trips-v2" in told.output
    refused = run(main, ["export", what, plan, "--output", str(tmp_path / "no" / "where")])
    assert refused.exit_code == 2
    assert "can't be written" in refused.output


# ── a real Prometheus ───────────────────────────────────────────────────────────────────────────────────────

CONFIG = """\
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: crossfade
    static_configs: [{{targets: ['{target}']}}]
"""


class Watching:
    """A Prometheus that scrapes a served controller."""

    def __init__(self, url: str, lived: Lived, served: str, session: aiohttp.ClientSession) -> None:
        self.url, self.lived, self.served, self._session = url, lived, served, session

    async def ask(self, path: str, **query: str) -> Any:
        async with self._session.get(self.url + path, params=query) as answer:
            told = await answer.json()
        assert told["status"] == "success", (query, told)
        return told["data"]

    async def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.ask("/api/v1/query", query=expression))["result"]
        return found

    async def status(self) -> Any:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with self._session.get(self.served + BASE, headers=headers) as answer:
            return await answer.json()


@pytest.fixture
async def watching(tmp_path: Path) -> AsyncIterator[Watching]:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed; `apt-get install prometheus` brings it")
    lived = await Lived().begin(30)
    served = served_with(lived.controller, lived.store, lived.telemetry, lived.clock, tmp_path, meters=lived.meters)
    async with aiohttp.ClientSession() as session, serving(served) as url:
        (tmp_path / "rules.yml").write_bytes(alerts_of(PLAN))
        (tmp_path / "prometheus.yml").write_text(CONFIG.format(target=url.removeprefix("http://")))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={tmp_path}/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/data",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            watching = Watching(f"http://127.0.0.1:{port}", lived, url, session)
            await _scraped(watching)
            yield watching
        finally:
            process.kill()
            await process.wait()


async def _scraped(watching: Watching) -> None:
    """Wait until rates can be told: a few scrapes, with traffic between them."""
    for _ in range(300):
        await asyncio.sleep(0.1)
        try:
            seen = await _scrapes(watching)
        except (aiohttp.ClientError, ValueError):
            continue  # not up yet
        if seen >= 3:
            return
        if seen:
            await watching.lived.hour()
    pytest.fail("Prometheus did not scrape within 30 s")


async def _scrapes(watching: Watching) -> float:
    seen = await watching.query('count_over_time(crossfade_ticks_total{rollout="trips-v2"}[1m])')
    return float(seen[0]["value"][1]) if seen else 0.0


async def _until(watching: Watching, scrapes: float) -> None:
    for _ in range(150):
        if await _scrapes(watching) >= scrapes:
            return
        await asyncio.sleep(0.2)
    pytest.fail("Prometheus did not scrape within 30 s")


@pytest.mark.slow
@pytest.mark.external
async def test_a_real_prometheus_scrapes_what_the_status_says_and_answers_every_panel(watching: Watching) -> None:
    # The rollout stands still from here on; the next scrape is of the state that the status tells.
    await _until(watching, await _scrapes(watching) + 2)
    status, mine = await watching.status(), '{rollout="trips-v2"}'
    for name, value in {
        "crossfade_weight_ratio": status["weight"] / 10_000,
        "crossfade_share_observed_ratio": status["weight_seen"] / 10_000,
        "crossfade_adoption_ratio": status["requests"]["v2"] / sum(status["requests"].values()),
        "crossfade_rollout_phase": status["phase"]["index"],
    }.items():
        (sample,) = await watching.query(name + mine)
        assert float(sample["value"][1]) == pytest.approx(value), name
    told = {
        (s["metric"]["metric"], s["metric"]["of"]): float(s["value"][1])
        for s in await watching.query(f"crossfade_evidence_log_odds{mine}")
    }
    for metric, reading in status["metrics"].items():
        if reading["harm_log_e"] is not None:
            assert told[metric, "breach"] == pytest.approx(reading["harm_log_e"]), metric
    verdicts = await watching.query(f"crossfade_gate_verdict{mine} == 1")
    assert {(s["metric"]["gate"], s["metric"]["verdict"]) for s in verdicts} == {
        (gate["gate"], gate["verdict"]) for gate in status["gates"]
    }

    board = json.loads(dashboard_of(PLAN))
    empty = set()
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"].replace("$__rate_interval", "1m")
            if not await watching.query(expression):
                empty.add((panel["title"], target["refId"]))
    for mark in board["annotations"]["list"]:
        await watching.query(mark["expr"])
    assert empty == _unknown(watching.lived), "a panel is empty only where nothing is known"

    loaded = await watching.ask("/api/v1/rules")
    assert {rule["health"] for rule in loaded["groups"][0]["rules"]} <= {"ok", "unknown"}
    await watching.lived.controller.rollback("ada", "enough")
    for _ in range(150):
        firing = {a["labels"]["alertname"] for a in (await watching.ask("/api/v1/alerts"))["alerts"]}
        if "CrossfadeRolledBack" in firing:
            return
        await asyncio.sleep(0.2)
    pytest.fail(f"the rollback raised no alert within 30 s: {firing}")


def _unknown(lived: Lived) -> set[tuple[str, str]]:
    """Return the targets that can have no data: nobody set a bound, or nothing is compared."""
    missing = set()
    for metric in PLAN.metrics:
        reading = lived.controller.seen.readings[metric.name]
        breach = metric.guard.breach if metric.guard else None
        if reading.v1 is None and reading.v2 is None:
            missing.add((metric.name, "A"))
        if breach is None or (breach.of_v1 and reading.v1 is None):
            missing.add((metric.name, "B"))
        if metric.target is None or (metric.target.of_v1 and reading.v1 is None):
            missing.add((metric.name, "C"))
        evidence = f"{metric.name}: evidence"
        if reading.harm_log_e is None and reading.promote_log_e is None:
            missing.add((evidence, "A"))
        if reading.harm_needed is None and reading.promote_needed is None:
            missing.add((evidence, "B"))
        if reading.ratio is None:
            missing.add((f"{metric.name}: V2 over V1", "A"))
    return missing

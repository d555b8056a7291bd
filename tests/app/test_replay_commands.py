"""A rollout is carried out and replayed, as somebody at a shell would."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections import Counter
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from tests.simulation.test_controller_faults import V1, V2, World

from crossfade.adapters.store import SqlStore
from crossfade.app.cli import main
from crossfade.app.control import note_plan
from crossfade.app.planfile import load_plan
from crossfade.app.progress import Progress
from crossfade.core.evidence.sums import Cell, Tick
from crossfade.core.machine import State
from crossfade.core.plan import Plan
from crossfade.engine.controller import Controller, Parts
from crossfade.testing.proxy import FakeRollback

PLAN = """\
crossfade: 1
rollout: trips
api:
  listen: 127.0.0.1:8100
  entry: /trips
  v1: {path: /v1/trips, upstreams: [127.0.0.1:8101]}
  v2: {path: /v2/trips, upstreams: [127.0.0.1:8102]}
assignment:
  user: [header X-User-Id]
  users: 20000
metrics:
  failure_rate: {baseline: 0.5%, target: "<= 2%", guard: "> 2% and worse than v1 -> rollback"}
  flights_available: {fact: flights, baseline: 100%, guard: monitor}
phases:
  - {name: canary, split: 5%, soak: 1h, margin: 2, promote when: [failure_rate on target]}
  - {name: half, split: 50%, soak: 1h, margin: 2, promote when: [stable for 10m]}
  - {name: full, split: 100%, soak: 1h, promote when: [approved by a person]}
"""
TICK_S = 60.0


class PlanWorld(World):
    """The fakes, carrying out a plan from a file into a real database."""

    plan: Plan

    def controller(self) -> Controller:
        parts = Parts(
            store=self.store,
            proxy=self.proxy,
            switch=FakeRollback(self.proxy),
            telemetry=self.telemetry,
            clock=self.clock,
        )
        return Controller(self.plan, parts)

    def serve_minute(self, v2_fails: float, v2_lacks: float) -> None:
        """Close one tick of 6,000 requests, split as the proxy is; V1 fails in 0.5 % of its own and has all flights."""
        number = int(self.clock.now() // TICK_S)
        self.clock.move((number + 1) * TICK_S - self.clock.now())
        n2 = round(6000 * self.share / 10_000)
        cells = {
            V1: _cell(number, 6000 - n2, failures=round((6000 - n2) * 0.005), lacking=0),
            V2: _cell(-number, n2, failures=round(n2 * v2_fails), lacking=round(n2 * v2_lacks)),
        }
        start = number * TICK_S
        self.telemetry.feed(Tick(number=number, start=start, length=TICK_S, cells=cells, sources=frozenset({"c"})))


def _cell(block: int, requests: int, *, failures: int, lacking: int) -> Cell:
    return Cell(
        requests=requests,
        failures=failures,
        failing_users={2**63 + 1000 * block + user for user in range(failures)},
        facts={"flights": Counter({"1": requests - lacking, "0": lacking})},
    )


async def _carry_out(folder: Path, plan: Plan) -> None:
    world = PlanWorld()
    world.plan = plan
    store = SqlStore(f"sqlite:///{folder / 'store.db'}")
    world.store = store  # type: ignore[assignment]
    await store.open()
    controller = world.controller()
    await controller.start()

    async def after(minutes: int, *, v2_fails: float = 0.005, v2_lacks: float = 0.0) -> tuple[int, State]:
        for _ in range(minutes):
            world.serve_minute(v2_fails, v2_lacks)
            await controller.tick()
        return controller.rollout.phase, controller.rollout.state

    assert await after(65) == (1, State.RUNNING)
    assert await after(20, v2_lacks=0.05) == (1, State.RUNNING)
    assert await after(20, v2_lacks=0.05, v2_fails=0.2) == (1, State.ROLLED_BACK)
    await store.close()


@dataclass(frozen=True)
class Carried:
    """A rollout that was carried out: from 5 % to 50 %, where V2 loses flights, then fails and is rolled back."""

    state: Path
    plan: Path

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, [arguments[0], *arguments[1:]], env={"CROSSFADE_STATE": str(self.state)})


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Carried:
    home = tmp_path_factory.mktemp("carried")
    plan = home / "plan.yaml"
    plan.write_text(PLAN)
    folder = home / "state" / "trips"
    folder.mkdir(parents=True)
    note_plan(folder, plan)
    asyncio.run(_carry_out(folder, load_plan(plan)))
    return Carried(home / "state", plan)


@pytest.fixture
def carried(original: Carried, tmp_path: Path) -> Carried:
    """The same rollout, in a folder of the test's own."""
    shutil.copytree(original.state, tmp_path / "state")
    return Carried(tmp_path / "state", original.plan)


def test_a_replay_of_an_untouched_rollout_is_all_the_same(carried: Carried) -> None:
    done = carried.run("replay", "trips")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == "105 decisions recomputed, all the same\n"
    data = json.loads(carried.run("replay", "-o", "json").stdout)
    assert (data["rollout"], data["recomputed"], data["same"], data["different"]) == ("trips", 105, 105, [])
    assert yaml.safe_load(carried.run("replay", "-o", "yaml").stdout) == data
    assert carried.run("replay", "-o", "wide").stdout == done.stdout


def test_a_decision_changed_in_the_database_is_told_in_one_line(carried: Carried) -> None:
    with sqlite3.connect(carried.state / "trips" / "store.db") as database:
        changed = "update crossfade_decisions set data = replace(data, 'ROLL BACK: ', 'HOLD: ')"
        assert database.execute(changed + " where data like '%ROLL BACK: %'").rowcount == 1
    done = carried.run("replay")
    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert " different: kept HOLD: " in lines[0]
    assert "; recomputed ROLL BACK: " in lines[0]
    assert lines[1] == "105 decisions recomputed, 1 different"
    assert json.loads(carried.run("replay", "-o", "json").stdout)["different"][0]["kept"].startswith("HOLD: ")


def test_ticks_that_are_gone_are_blind_and_nothing_recomputed_is_a_failure(carried: Carried) -> None:
    with sqlite3.connect(carried.state / "trips" / "store.db") as database:
        database.execute("delete from crossfade_ticks where number = (select min(number) from crossfade_ticks)")
    done = carried.run("replay")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (
        1,
        "BLIND: no decision could be recomputed; of 105, whose inputs were not kept",
    )


def test_another_plan_is_one_error_that_says_what_to_do(carried: Carried, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(PLAN.replace("> 2%", "> 3%"))
    done = carried.run("replay", "--plan", str(other))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "not the plan that rollout trips was started from" in done.stderr
    assert "--plan" in done.stderr


def test_without_a_store_a_plan_or_a_rollout_each_is_one_error(carried: Carried) -> None:
    database = f"sqlite:///{carried.state}/trips/store.db"
    assert "there is no rollout 'nowhere'" in carried.run("replay", "nowhere").stderr
    assert (
        "it holds trips" in carried.run("replay", "nowhere", "--database", database, "--plan", str(carried.plan)).stderr
    )
    (carried.state / "trips" / "plan").unlink()
    assert "say --plan FILE" in carried.run("replay").stderr
    (carried.state / "trips" / "store.db").unlink()
    done = carried.run("replay", "--plan", str(carried.plan))
    assert (done.exit_code, "holds no store" in done.stderr) == (2, True)


def test_a_rollout_moved_to_another_store_is_replayed_from_there(carried: Carried, tmp_path: Path) -> None:
    file = tmp_path / "rollout.jsonl"
    assert carried.run("export", "rollout", "trips", "--output", str(file)).exit_code == 0
    moved = Carried(tmp_path / "moved", carried.plan)
    assert moved.run("import", str(file)).exit_code == 0
    done = moved.run("replay", "trips", "--plan", str(carried.plan))
    assert (done.exit_code, done.stdout) == (0, "105 decisions recomputed, all the same\n")


# ── export and backtest ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def recording(original: Carried) -> Path:
    file = original.plan.with_name("recording.jsonl")
    done = original.run("export", "ticks", "trips", "--output", str(file))
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    return file


def backtested(carried: Carried, recording: Path, plan: Path | None = None) -> dict[str, Any]:
    done = carried.run("backtest", str(plan or carried.plan), str(recording), "-o", "json")
    assert (done.exit_code, done.stderr) == (0, "")
    data: dict[str, Any] = json.loads(done.stdout)
    return data


def test_a_backtest_is_the_same_record_in_json_and_yaml(original: Carried, recording: Path) -> None:
    forms = {
        form: original.run("backtest", str(original.plan), str(recording), "-o", form).stdout
        for form in ("json", "yaml", "text", "wide")
    }
    assert json.loads(forms["json"])["rollout"] == "trips"
    assert yaml.safe_load(forms["yaml"]) == json.loads(forms["json"])
    assert forms["wide"] == forms["text"]


def changed_plan(folder: Path, *changes: tuple[str, str]) -> Path:
    text = PLAN
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = folder / "changed.yaml"
    file.write_text(text)
    return file


def kept_looks(carried: Carried) -> list[tuple[str, float]]:
    with sqlite3.connect(carried.state / "trips" / "store.db") as database:
        rows = database.execute("select outcome, at from crossfade_looks order by id").fetchall()
    return [(outcome, at) for n, (outcome, at) in enumerate(rows) if n == 0 or outcome != rows[n - 1][0]]


def test_a_recording_is_a_header_and_a_line_per_tick(original: Carried, recording: Path) -> None:
    header, *ticks = [json.loads(line) for line in recording.read_text().splitlines()]
    assert (header["crossfade"], header["format"], header["rollout"]) == ("recording", 1, "trips")
    assert header["plan"] == load_plan(original.plan).digest
    assert [(phase["name"], phase["split"]["everyone"]) for phase in header["phases"]] == [
        ("canary", 500),
        ("half", 5000),
    ]
    assert (len(ticks), header["last_tick"], header["tick_s"]) == (105, ticks[-1]["number"], TICK_S)
    assert original.run("export", "ticks").stdout_bytes == recording.read_bytes()


def test_the_same_plan_over_the_recording_decides_the_same_at_the_same_times(
    original: Carried, recording: Path
) -> None:
    data = backtested(original, recording)
    assert [(v["outcome"], v["at"]) for v in data["verdicts"]] == kept_looks(original)
    assert [(p["name"], p["came"], p["went"]) for p in data["phases"]] == [
        ("canary", "started", "decided"),
        ("half", "decided", "rolled back"),
    ]
    assert data["rollbacks"] == data["recording"]["rollbacks"]
    assert data["rollbacks"][0]["trigger"] == "failure_rate"
    assert sum(phase["blind_s"] for phase in data["phases"]) == 0
    assert data["unjudged"] == [{"phase": "full", "split": "100 %"}]


def test_a_plan_with_a_tighter_guardrail_rolls_back_sooner(original: Carried, recording: Path, tmp_path: Path) -> None:
    plan = changed_plan(tmp_path, ("guard: monitor", 'guard: "< 99% -> rollback"'))
    data = backtested(original, recording, plan)
    (ours,), (theirs,) = data["rollbacks"], data["recording"]["rollbacks"]
    assert (ours["trigger"], ours["phase"]) == ("flights_available", "half")
    assert theirs["at"] - ours["at"] > 600
    done = original.run("backtest", str(plan), str(recording))
    assert done.exit_code == 0
    assert " by flights_available: " in done.stdout
    assert " sooner than the recording" in done.stdout


def test_a_plan_that_stays_longer_follows_the_recording_and_says_so(
    original: Carried, recording: Path, tmp_path: Path
) -> None:
    plan = changed_plan(tmp_path, ("{name: canary, split: 5%, soak: 1h", "{name: canary, split: 5%, soak: 1w"))
    data = backtested(original, recording, plan)
    assert [(p["name"], p["came"]) for p in data["phases"]] == [
        ("canary", "started"),
        ("half", "followed the recording"),
    ]
    assert data["rollbacks"][0]["trigger"] == "failure_rate"


def test_a_plan_that_is_sooner_waits_blind_for_the_recording(
    original: Carried, recording: Path, tmp_path: Path
) -> None:
    plan = changed_plan(tmp_path, ("{name: canary, split: 5%, soak: 1h", "{name: canary, split: 5%, soak: 30m"))
    data = backtested(original, recording, plan)
    _canary, half = data["phases"]
    assert half["entered"] < data["recording"]["phases"][1]["entered"]
    assert half["blind"] == "the recording had 5 % where half wants 50 %"
    assert half["blind_s"] == pytest.approx(data["recording"]["phases"][1]["entered"] - half["entered"], abs=TICK_S)
    assert half["judged_s"] > 0
    assert any(v["sentence"] == f"BLIND: {half['blind']}" for v in data["verdicts"])
    assert data["rollbacks"][0]["at"] == data["recording"]["rollbacks"][0]["at"]


def test_a_phase_between_those_of_the_recording_is_blind(original: Carried, recording: Path, tmp_path: Path) -> None:
    between = "  - {name: early, split: 25%, soak: 1h, margin: 2}\n  - {name: half"
    data = backtested(original, recording, changed_plan(tmp_path, ("  - {name: half", between)))
    assert {"phase": "early", "split": "25 %"} in data["unjudged"]
    assert [(p["name"], p["came"], p["judged_s"] > 0) for p in data["phases"]] == [
        ("canary", "started", True),
        ("early", "decided", False),
        ("half", "followed the recording", True),
    ]


def test_without_the_first_phase_a_recording_begins_with_the_second(original: Carried, tmp_path: Path) -> None:
    file = tmp_path / "half.jsonl"
    assert original.run("export", "ticks", "--from-phase", "half", "--output", str(file)).exit_code == 0
    assert len(file.read_text().splitlines()) < 50
    data = backtested(original, file)
    assert [(p["name"], p["judged_s"] > 0) for p in data["phases"]] == [("canary", False), ("half", True)]
    assert data["rollbacks"][0]["trigger"] == "failure_rate"
    done = original.run("export", "ticks", "--from-phase", "full", "--output", str(tmp_path / "none"))
    assert (done.exit_code, "entered were canary, half" in done.stderr) == (2, True)
    assert not (tmp_path / "none").exists()


def test_a_plan_for_something_else_is_one_error(original: Carried, recording: Path, tmp_path: Path) -> None:
    other = changed_plan(tmp_path, ("split: 5%", "split: 7%"), ("split: 50%", "split: 60%"))
    done = original.run("backtest", str(other), str(recording))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "users had the splits 5 %; 50 %, and the plan wants 7 %; 60 %; 100 %" in done.stderr
    facts = changed_plan(
        tmp_path,
        ('  failure_rate: {baseline: 0.5%, target: "<= 2%", guard: "> 2% and worse than v1 -> rollback"}\n', ""),
        ("fact: flights", "fact: trains"),
        ("failure_rate on target", "stable for 5m"),
    )
    done = original.run("backtest", str(facts), str(recording))
    assert (done.exit_code, "no metric of the plan (flights_available)" in done.stderr) == (2, True)


def test_on_a_terminal_a_long_command_counts_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress("ticks") as progress:
        assert sum(progress.over(range(1001))) == 500_500
    assert terminal.getvalue().split("\r") == ["", "500 ticks", "1,000 ticks", " " * 11, ""]

"""A rollout is carried out and replayed, as somebody at a shell would."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.simulation.test_controller_faults import V1, V2, World

from crossfade.adapters.store import SqlStore
from crossfade.app.cli import main
from crossfade.app.control import note_plan
from crossfade.app.planfile import load_plan
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

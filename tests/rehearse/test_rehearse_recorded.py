"""A report handed over to the controller: what is taken, what is refused, and the plan that asks for one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.app.serving import BASE, PLAN, TOKEN, Asked, asked
from tests.rehearse.test_rehearse_parts import plan_in

from crossfade.app.cli import main
from crossfade.app.planfile import digest, load_plan
from crossfade.app.rehearse.kept import Kept
from crossfade.core.access import Role
from crossfade.core.plan import GateKind
from crossfade.core.rehearsal.report import Criterion, Part, PartName, Report, as_data
from crossfade.core.verdict import Verdict
from crossfade.errors import PlanError

SHIPPED = Path(__file__).parents[2] / "plans" / "trips-v2.yaml"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Asked]:
    async with asked(tmp_path) as client:
        yield client


def report(ended: float, outcome: Verdict = Verdict.PASS, **more: Any) -> Report:
    criterion = Criterion(name="opens", outcome=outcome, figure="at 12 failures", limit="at 10")
    parts = tuple(Part(name=name, criteria=(criterion,), began=1.0, ended=ended) for name in PartName)
    whole = Report(plan=PLAN.name, digest=PLAN.rehearsal_digest, began=1.0, ended=ended, parts=parts)
    return replace(whole, **more)


async def recorded(api: Asked, kind: str = "RehearsalRecorded") -> list[dict[str, Any]]:
    events = (await api.get(BASE + "/events"))[1]["items"]
    return [event["data"] for event in events if event["kind"] == kind]


async def test_an_operator_hands_it_over_and_its_outcome_is_found_anew(api: Asked) -> None:
    one = report(api.carried.clock.now() - 60, Verdict.FAIL, versions={"v1": "a" * 64})
    body = {"report": as_data(one) | {"outcome": "PASS", "sentence": "all is well"}, "reason": "week 1"}
    viewer = await api.token("vic", Role.VIEWER)
    assert (await api.post("rehearse", body, Authorization=viewer))[0] == 403
    operator = await api.token("ada", Role.OPERATOR)
    assert (await api.post("rehearse", body, Authorization=operator))[0] == 200
    (kept,) = await recorded(api)
    assert (kept["by"], kept["reason"], kept["outcome"]) == ("ada", "week 1", "FAIL")
    assert kept["sentence"] == "contract: opens: at 12 failures; and 4 more"
    assert (kept["ended"], kept["versions"], kept["report"]) == (one.ended, {"v1": "a" * 64}, one.fingerprint)


def load(ended: float, peak: Verdict, steady: Verdict = Verdict.PASS, partial: str = "") -> Part:
    shown = {"peak: no errors (v2)": peak, "steady: p95 <= 300 ms (v2)": steady}
    criteria = tuple(Criterion(name=name, outcome=one, figure="4 errors", limit="") for name, one in shown.items())
    return Part(name=PartName.LOAD, criteria=criteria, began=1.0, ended=ended, partial=partial)


async def test_a_load_at_the_peak_is_recorded_alone_and_with_the_whole(api: Asked) -> None:
    now = api.carried.clock.now()
    whole = report(now - 60)
    parts = tuple(load(now - 60, Verdict.PASS) if one.name is PartName.LOAD else one for one in whole.parts)
    assert (await api.post("rehearse", {"report": as_data(replace(whole, parts=parts))}))[0] == 200
    for outcome, partial in ((Verdict.FAIL, ""), (Verdict.PASS, "stopped")):
        alone = replace(whole, parts=(load(now - 30, outcome, Verdict.FAIL, partial),))
        assert (await api.post("rehearse", {"report": as_data(alone)}))[0] == 200
    peaks = await recorded(api, "PeakLoadRecorded")
    assert [(one["outcome"], one["ended"], one["sentence"]) for one in peaks] == [
        ("PASS", now - 60, "all 1 criteria pass"),
        ("FAIL", now - 30, "peak: no errors (v2): 4 errors"),
        ("INCONCLUSIVE", now - 30, "ended early: stopped"),
    ]
    assert [one["outcome"] for one in await recorded(api)] == ["PASS"], "what lacks parts leaves the whole one as it is"


async def test_an_end_that_lies_ahead_counts_from_now(api: Asked) -> None:
    now = api.carried.clock.now()
    assert (await api.post("rehearse", {"report": as_data(report(now + 1e6))}))[0] == 200
    assert (await recorded(api))[0]["ended"] == now


REFUSED: dict[str, tuple[Any, int, str]] = {
    "quick": ({"quick": True}, 409, "a quick rehearsal is no evidence"),
    "another plan": ({"digest": "0" * 64}, 409, "rehearse the plan that the controller carries out"),
    "another rollout": ({"plan": "hotels"}, 409, "the report is of hotels"),
    "no parts": ({"parts": 3}, 422, "is no rehearsal's"),
    "no time": ({"ended": 1e300}, 422, "is no rehearsal's"),
    "unknown part": ({"parts": [{"part": "x"}]}, 422, "is no rehearsal's"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_evidence_is_refused_with_the_reason(api: Asked, name: str) -> None:
    changes, status, why = REFUSED[name]
    answer, problem = await api.post("rehearse", {"report": as_data(report(1.0)) | changes})
    assert (answer, why in problem["detail"]) == (status, True)
    assert await recorded(api) == []


async def cli(api: Asked, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "CROSSFADE_TOKEN": TOKEN, "CROSSFADE_URL": api.url}
    command = [str(Path(sys.executable).with_name("crossfade")), "rehearse", *words]
    return await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, timeout=60, check=False
    )


async def test_the_command_records_what_it_came_to(api: Asked, tmp_path: Path) -> None:
    one, kept = report(api.carried.clock.now() - 60), Kept(tmp_path / "out")
    kept.begin(replace(one, parts=()))
    for part in one.parts:
        kept.keep(part)
    words = (str(SHIPPED), "--out", str(kept.folder), "--resume", "--record", "--reason", "week 1")
    done = await cli(api, *words)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        0,
        "trips-v2 has the rehearsal recorded; 0 % of users on V2 (internal 100 %, everyone else 0 %)",
    )
    assert [(one["outcome"], one["reason"]) for one in await recorded(api)] == [("PASS", "week 1")]
    assert (await recorded(api))[0]["ended"] == one.ended, "going on with nothing made it no younger"
    await api.carried.controller.tick()
    gates = {one["gate"]: one for one in (await api.get(BASE))[1]["gates"]}
    assert gates["rehearsal passed"]["verdict"] == "PASS"
    assert "all 5 criteria of 5 parts pass; ended " in gates["rehearsal passed"]["evidence"]
    page = await api.ask("GET", "/rollouts/trips-v2", headers={"Authorization": f"Bearer {TOKEN}"})
    assert "rehearsal passed" in await page.text()


async def test_nothing_is_tried_where_it_could_not_be_recorded(api: Asked, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "out"), "--record")
    quick = CliRunner().invoke(main, ["rehearse", str(SHIPPED), *out, "--quick"])
    assert (quick.exit_code, "a quick rehearsal is no evidence" in quick.stderr) == (2, True)
    done = await cli(api, str(plan_in(tmp_path)), *out)
    assert (done.returncode, done.stdout) == (2, "")
    away = CliRunner().invoke(main, ["rehearse", str(SHIPPED), *out, "--state", str(tmp_path / "state")])
    assert (away.exit_code, "crossfade serve" in away.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_phase_that_asks_for_the_peak_wants_one_in_the_plan(tmp_path: Path) -> None:
    path = plan_in(tmp_path)
    gated = path.read_text().replace("split: 50%, soak: 1d", "split: 50%, soak: 1d, promote when: [peak load passed]")
    path.write_text(gated)
    with pytest.raises(PlanError, match=r"of half ask for `peak load passed`, which can't be without load.peak"):
        load_plan(path)
    path.write_text(gated.replace("load:\n", "load:\n  peak: 9/s\n"))
    assert [gate.kind for gate in load_plan(path).phases[0].gates] == [GateKind.PEAK_LOAD_PASSED]


def test_a_phase_asks_for_one_and_those_after_it_do_not(tmp_path: Path) -> None:
    path = plan_in(tmp_path)
    one = "  - {name: half, split: 50%, soak: 1d}\n"
    two = (
        "  - {name: half, split: 50%, soak: 1d, promote when: [rehearsal passed, stable]}\n"
        "  - {name: full, split: 100%, soak: 1d}\n"
    )
    text = path.read_text().replace(one, two)
    path.write_text(text)
    with pytest.raises(
        PlanError, match=r"of half ask for `rehearsal passed`, which can't be without rehearsal.breaker"
    ):
        load_plan(path)
    section = 'rehearsal: {expires: 3d, breaker: {control: "http://127.0.0.1:9/"}}\n'
    path.write_text(text + section)
    plan = load_plan(path)
    kinds = [[gate.kind for gate in phase.gates] for phase in plan.phases]
    assert kinds == [[GateKind.REHEARSAL_PASSED, GateKind.STABLE], [GateKind.STABLE]]
    assert plan.rehearsal.expires_s == 3 * 86_400
    path.write_text(text + section.replace("127.0.0.1:9", "127.0.0.1:10"))
    assert load_plan(path).digest == plan.digest, "what is rehearsed steers nothing"
    path.write_text(text + section.replace("3d", "4d"))
    assert load_plan(path).digest != plan.digest, "how long it counts does"
    assert digest(plan) == plan.digest

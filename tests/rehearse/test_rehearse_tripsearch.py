"""The reference service rehearsed as real processes: the good V2 passes, planted faults fail for the right reason."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.tripsearch.running import Running, Starter, get, starter

from crossfade.adapters.system import SystemClock
from crossfade.app.planfile import load_plan
from crossfade.app.rehearse.parts import QUICK, Progress, Stage, run_part
from crossfade.core.rehearsal.report import MISSING, OPENS, PartName
from crossfade.core.verdict import Verdict

CROSSFADE = str(Path(sys.executable).with_name("crossfade"))
PLANS = Path(__file__).parents[2] / "plans"
COOLDOWN = ("--breaker-cooldown", "0.4")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    with starter(tmp_path_factory.mktemp("rehearse"), tmp_path_factory.mktemp("data")) as made:
        yield made


@pytest.fixture(scope="module")
def weather(started: Starter) -> Running:
    return started.start("weather-provider")


@pytest.fixture(scope="module")
def v1(started: Starter) -> Running:
    return started.start("v1")


def plan_of(folder: Path, weather: Running, v1: Running, v2: Running) -> Path:
    """Return the shipped plan with other ports, limits that take seconds to show, and none on a machine's haste."""
    text = (PLANS / "trips-v2.yaml").read_text().replace("cohorts/", f"{PLANS}/cohorts/")
    for port, running in ((8101, v1), (8102, v2), (8103, weather)):
        text = text.replace(f"127.0.0.1:{port}", running.url[7:])
    begin = text.index("mirror:")
    text = text[:begin] + text[begin:].replace("limit: 0.1%", "limit: 2%", 1).replace("rate: 100/s", "rate: 300/s", 1)
    for old, new in (
        ('{target: "<= 300ms", guard: "> 300ms -> hold"}', '{target: "<= 30s", guard: "> 30s -> hold"}'),
        ("cooldown: 30s", "cooldown: 0.4s"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "plan.yaml"
    path.write_text(text)
    return path


def rehearsed(plan: Path, *more: str) -> tuple[int, Any]:
    out = plan.parent / "out"
    words = [CROSSFADE, "rehearse", str(plan), "--quick", "--out", str(out), "-o", "json", *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=170, check=False)
    report = json.loads(done.stdout)
    assert json.loads((out / "report.json").read_text()) == report
    return done.returncode, report


def failed(report: Any) -> dict[str, str]:
    return {
        one["name"]: f"{one['figure']} {one['why']}"
        for part in report["parts"]
        for one in part["criteria"]
        if one["outcome"] == "FAIL"
    }


@pytest.mark.slow
def test_the_good_v2_passes_through_a_crash_of_its_dependency_too(
    started: Starter, v1: Running, tmp_path: Path
) -> None:
    weather = started.start("weather-provider")
    v2 = started.start("v2", "--weather", weather.url, *COOLDOWN)
    again = f"echo $$ > {tmp_path}/pid; exec {sys.executable} -m tripsearch weather-provider --port {weather.port}"
    crash = (
        "--end-dependency",
        f"kill -9 {weather.process.pid}",
        "--start-dependency",
        shlex.join(["sh", "-c", again]),
    )
    try:
        code, report = rehearsed(plan_of(tmp_path, weather, v1, v2), *crash)
        assert get(f"{weather.url}/control").json["mode"] == "normal"
    finally:
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    others = {one["name"]: one for part in report["parts"] for one in part["criteria"] if one["outcome"] != "PASS"}
    assert (code, report["outcome"], others) == (0, "PASS", {})
    assert [part["part"] for part in report["parts"]] == ["contract", "calls", "mirror", "load", "breakers"]
    assert "compressed from 30 s" in " ".join(report["parts"][-1]["notes"])
    assert set(report["versions"]) == {"v1", "v2"}
    assert {"crash: the rest", "crash and restart"} <= {one["name"] for one in report["parts"][-1]["criteria"]}
    assert "all " in (tmp_path / "out" / "report.html").read_text()


FAULTS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    # the document still promises a number, so the contract alone can't know
    "text": (
        ("contract", "calls", "mirror"),
        {"v2 GET /v2/trips/search": "is not of type 'integer'", "hotels[].night_usd": ""},
    ),
    "renamed": (
        ("calls", "mirror"),
        {
            "v2 GET /v2/trips/search": "'night_usd' is a required property",
            "hotels[].night_usd": "renamed to hotels[].nightly_usd",
        },
    ),
    "renamed, and the document too": (("contract",), {"V2 keeps V1's contract": "V2 no longer answers night_usd"}),
    "fahrenheit": (("mirror",), {"weather.temperature_c.mean (reference)": "Fahrenheit for Celsius"}),
    "some differ": (("mirror",), {"hotels[].night_usd": "different in "}),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_failed_with_its_reason(
    fault: str, started: Starter, weather: Running, v1: Running, *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULT", fault)
    v2 = started.start("v2", "--weather", weather.url, *COOLDOWN, module="tests.rehearse.faulty_v2")
    plan, (parts, reasons) = plan_of(tmp_path, weather, v1, v2), FAULTS[fault]
    plan.write_text(plan.read_text().replace("limit: 2%", "limit: 0.5%"))
    code, report = rehearsed(plan, *(word for part in parts for word in ("--only", part)))
    missing = [name.value for name in PartName if name not in parts]
    assert (code, report["outcome"], report["missing"]) == (1, "FAIL", missing)
    found = failed(report)
    assert {name: reason in found.get(name, "no such") for name, reason in reasons.items()} == dict.fromkeys(
        reasons, True
    )


@pytest.mark.slow
def test_a_breaker_that_sticks_in_half_open_is_failed(
    started: Starter, weather: Running, v1: Running, tmp_path: Path
) -> None:
    v2 = started.start("v2", "--weather", weather.url, *COOLDOWN, "--breaker-probes", "1000")
    code, report = rehearsed(plan_of(tmp_path, weather, v1, v2), "--only", "breakers")
    found = failed(report)
    assert (code, "stuck in HALF_OPEN" in found["closes"], "stuck in HALF_OPEN" in found["breaker recovers"]) == (
        1,
        True,
        True,
    )


@pytest.mark.slow
async def test_a_breaker_that_never_opens_and_hotels_that_weather_takes_along_are_rollback_triggers(
    started: Starter, weather: Running, v1: Running, tmp_path: Path
) -> None:
    never = ("--breaker-window", "1000", "--breaker-minimum-calls", "1000")
    v2 = started.start("v2", "--weather", weather.url, *never, module="tests.tripsearch.planted_v2")
    path = plan_of(tmp_path, weather, v1, v2)
    hung = asyncio.Event()
    progress = Progress(told=lambda one: hung.set() if one.name == "hang: the rest" else None)
    running = asyncio.create_task(
        run_part(PartName.BREAKERS, Stage(load_plan(path), path, SystemClock(), extent=QUICK), progress)
    )
    async with asyncio.timeout(60):
        await hung.wait()
    running.cancel()  # what was seen so far is judged all the same
    with suppress(asyncio.CancelledError):
        await running
    found = {one.name: one for one in progress.criteria if one.outcome is Verdict.FAIL}
    assert found[OPENS].figure.startswith("never opened")
    assert "hotels missing in" in found[MISSING].figure
    assert '"mode": "hang"' in found[MISSING].reproduce
    assert (await asyncio.to_thread(get, f"{weather.url}/control")).json["mode"] == "normal"


@pytest.mark.slow
def test_an_interrupted_rehearsal_is_partial_leaves_nothing_and_goes_on(
    started: Starter, weather: Running, v1: Running, tmp_path: Path
) -> None:
    v2 = started.start("v2", "--weather", weather.url, *COOLDOWN)
    plan, out = plan_of(tmp_path, weather, v1, v2), tmp_path / "out"
    words = [CROSSFADE, "rehearse", str(plan), "--quick", "--out", str(out), "-o", "json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        while "mirror" not in (line := running.stderr.readline()):
            assert line
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=30)
    report = json.loads(said)
    assert (running.returncode, report["outcome"], report["partial"]) == (5, "INCONCLUSIVE", True)
    assert report["parts"][-1]["partial"] == "stopped by a person"
    assert report["missing"] == ["breakers"]
    (out / "calls.json").unlink()  # as if it had been killed in the midst of it
    code, resumed = rehearsed(plan, "--resume", "--only", "calls")
    kept, again = report["parts"], resumed["parts"]
    assert [part["part"] for part in again] == ["contract", "calls", "mirror"]
    assert (again[0], again[2]) == (kept[0], kept[2])
    assert again[1]["began"] > kept[1]["began"]
    assert (code, resumed["missing"], resumed["began"]) == (5, ["load", "breakers"], report["began"])

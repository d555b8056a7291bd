"""A load through the real proxy, while what lies behind it changes."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from tests.e2e.site import PROGRAM, Site, until

USERS = 300


def _started(site: Site, *words: str) -> subprocess.Popen[str]:
    command = [*PROGRAM, "load", str(site.plan), "--users", str(USERS), "-o", "json", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _ended(process: subprocess.Popen[str]) -> Any:
    output, errors = process.communicate(timeout=120)
    assert "Traceback" not in errors, errors
    return json.loads(output)


@pytest.mark.slow
def test_users_see_no_failure_while_the_split_the_weather_and_v2s_process_change(site: Site) -> None:
    weather, _, _ = site.services.start()
    site.serve()
    process = _started(site, "--for", "10s", "--timeout", "30")
    weather.control(mode="fail")
    site.verb("promote")
    weather.control(mode="normal")
    site.verb("promote")
    site.services.running("v2").stop()
    site.services.start()
    site.program("rollback", "--reason", "unless it was rolled back already", "--state", str(site.state))
    until("everyone is on V1", lambda: site.status()["state"] == "rolled_back")
    site.verb("retry", "--reason", "V2 is there again")
    data = _ended(process)
    assert data["partial"] is False
    assert data["all"]["requests"] >= USERS
    assert data["troubles"] == {}
    assert {one["version"] for one in data["versions"]} == {"v1", "v2"}


@pytest.mark.slow
def test_a_peak_gives_v2_its_quarter_through_the_proxy_by_the_plans_secret(site: Site) -> None:
    (site.folder / "secret").write_text("0123456789abcdef")
    with site.plan.open("a") as plan:
        plan.write("override secret: {file: secret}\n")
    site.services.start()
    site.serve()
    data = _ended(_started(site, "--profile", "peak", "--rate", "80/s", "--for", "5s", "--timeout", "30"))
    assert data["all"]["requests"] == 400
    assert data["troubles"] == {}
    counts = {one["version"]: one["requests"] for one in data["versions"]}
    assert counts["v2"] == pytest.approx(100, abs=8)
    assert [check["verdict"] for check in data["checks"] if "of the peak" in check["text"]] == ["PASS"]


@pytest.mark.slow
def test_a_rehearsals_load_goes_through_the_proxy_at_no_split_by_the_plans_secret(site: Site) -> None:
    (site.folder / "secret").write_text("0123456789abcdef")
    with site.plan.open("a") as plan:
        plan.write("override secret: {file: secret}\n")
    site.services.start()
    site.serve()
    words = ["rehearse", str(site.plan), "--only", "load", "--quick", "--out", str(site.folder / "out"), "-o", "json"]
    done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=120, check=False)
    (part,) = json.loads(done.stdout)["parts"]
    assert any(f"300 users on the proxy at 127.0.0.1:{site.listen}" in note for note in part["notes"])
    outcomes = {one["name"]: one["outcome"] for one in part["criteria"]}
    assert outcomes["steady: failure_rate <= 0.5% (v2)"] == "PASS"

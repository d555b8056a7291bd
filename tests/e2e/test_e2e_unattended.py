"""Nobody looks after the proxy any more: the controller is killed or stopped, and nothing of ours is left to act."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from tests.e2e.site import Clients, Site, until

pytestmark = pytest.mark.slow

AFTER_S = 6.0
OPTIONS = ("--tick", "1", "--lateness", "1", "--lease", "2")


def _plan(site: Site, then: str, after_s: float = AFTER_S) -> None:
    site.plan.write_text(site.plan.read_text() + f"\nunattended: {{after: {after_s:g}s, then: {then}}}\n")


def _rollback_of(site: Site) -> list[tuple[str, str]]:
    return [(e["data"]["trigger"], e["data"]["reason"]) for e in site.events() if e["kind"] == "RolledBack"]


def _alerts(site: Site) -> list[str]:
    return [e["kind"] for e in site.events() if e["data"].get("key") == "unattended"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_proxy_without_a_controller_puts_everyone_on_v1_and_the_next_controller_says_so(
    site: Site, number: signal.Signals
) -> None:
    site.services.start()
    _plan(site, "rollback")
    first = site.serve(*OPTIONS)
    site.promote_to("half")
    with Clients(site) as clients:
        clients.wait_for(100, "v2")
        first.send_signal(number)
        clients.wait_for(20, "v2")
        until("everyone is on V1", lambda: {site.ask(f"u{n:04d}")[1] for n in range(1, 60)} == {"v1"}, 3 * AFTER_S)
        before = clients.counts["v2"]
        clients.wait_for(100)
        assert clients.counts["v2"] <= before + 8  # those that were under way
        if number == signal.SIGSTOP:
            os.kill(first.pid, signal.SIGCONT)  # it finds what happened while it slept
        else:
            site.serve(*OPTIONS)
        until("it is recorded", lambda: site.status()["state"] == "rolled_back", 30)
        clients.wait_for(100)
    assert _rollback_of(site) == [
        ("unattended", "no controller looked after haproxy for 6s: the proxy put everyone on V1 by itself")
    ]
    until("the alert is over", lambda: _alerts(site) == ["AlertRaised", "AlertCleared"], 20)
    assert clients.lost == []
    assert {site.ask(f"u{n:04d}")[1] for n in range(1, 60)} == {"v1"}
    site.verb("retry", "--reason", "somebody is here again")
    until("V2 has users again", lambda: "v2" in {site.ask(f"u{n:04d}")[1] for n in range(1, 60)}, 10)


def test_controllers_that_start_again_in_time_are_not_missed(site: Site) -> None:
    site.services.start()
    _plan(site, "rollback", after_s=20.0)  # a start takes 2 s, or many on a busy machine
    site.serve(*OPTIONS)
    site.promote_to("half")
    with Clients(site) as clients:
        for _ in range(3):
            site.kill()
            clients.wait_for(200, "v2")
            site.serve(*OPTIONS)
            until(
                f"V2 is not missed: {_rollback_of(site)}",
                lambda: "v2" in {site.ask(f"u{n:04d}")[1] for n in range(1, 60)},
            )
    assert (site.status()["state"], _rollback_of(site), _alerts(site), clients.lost) == ("running", [], [], [])


def test_by_default_the_split_stays_and_people_are_told(site: Site) -> None:
    site.services.start()
    _plan(site, "alert")
    site.serve(*OPTIONS)
    site.promote_to("half")
    asked = {f"u{n:04d}": site.ask(f"u{n:04d}") for n in range(1, 40)}
    site.kill()
    log: Path = site.home / "proxy" / "haproxy.log"
    until("the proxy tells", lambda: "Server crossfade/controller is DOWN" in log.read_text(), 3 * AFTER_S)
    assert {user: site.ask(user) for user in asked} == asked
    site.serve(*OPTIONS)
    until("the next one tells as well", lambda: _alerts(site) == ["AlertRaised", "AlertCleared"], 20)
    assert (site.status()["state"], {user: site.ask(user) for user in asked}) == ("running", asked)

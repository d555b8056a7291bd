"""A drill on real parts under load: the switch, the time it takes, and the way back."""

from __future__ import annotations

import pytest
from tests.e2e.site import Clients, Site, until

pytestmark = pytest.mark.slow

USERS = [f"u{n:04d}" for n in range(1, 61)]
FAST = ("--speed", "60", "--tick", "60", "--lateness", "1")
"""A plan minute is a second, so that V1's best minute is soon known."""


def test_a_drill_at_half_costs_no_answer_and_gives_the_same_users_back(site: Site) -> None:
    site.services.start()
    site.serve(*FAST)
    with Clients(site, threads=6) as crowd:
        crowd.wait_for(600)
        until("V1's best minute is known", lambda: site.status()["requests"]["v1"] > 500)
    site.promote_to("half")
    with Clients(site, threads=2) as clients:
        clients.wait_for(300)
        before = {user: site.ask(user)[1] for user in USERS}
        until("the busy minutes are over", lambda: "drilled in half" in _drill(site))
        assert before == {user: site.ask(user)[1] for user in USERS}
        clients.wait_for(100)
    assert set(before.values()) == {"v1", "v2"}
    assert (crowd.lost, clients.lost) == ([], [])
    told = [event for event in site.events() if event["kind"].startswith(("Drill", "RolledBack"))]
    assert [event["kind"] for event in told] == ["DrillStarted", "DrillPassed"]
    figures = told[1]["data"]
    assert figures["took_s"] < 1
    assert figures["last_v2_s"] < 1
    assert (figures["nodes"], figures["lasted_s"] >= 2) == ({"haproxy": "v1"}, True)


def _drill(site: Site) -> str:
    """Ask for a drill; return what came of it, or why it is refused while the crowd's minutes are the present ones."""
    try:
        return site.verb("drill")
    except AssertionError as refused:
        if "V1 is not shown" not in str(refused):
            raise
        return ""

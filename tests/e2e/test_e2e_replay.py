"""What real parts kept is decided again to the same result, beside a running controller and without one."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from tests.e2e.site import Clients, Site, until

pytestmark = pytest.mark.slow

TICKS = ("--tick", "1", "--lateness", "1")


def test_a_rollout_on_real_parts_is_replayed_exported_and_backtested(site: Site, tmp_path: Path) -> None:
    _, _, v2 = site.services.start()
    site.serve(*TICKS)
    with Clients(site) as clients:
        clients.wait_for(300)
        site.promote_to("half")
        clients.wait_for(600, "v2")
        site.kill()
        site.serve(*TICKS)
        clients.wait_for(300, "v2")
        beside = json.loads(site.verb("replay", "-o", "json"))
        v2.process.kill()  # which takes less than a tick to be found
        until("V2 is given up", lambda: site.status()["state"] == "rolled_back")
        clients.wait_for(300)
        # The look that rolled back is kept with the next one.
        until("it is kept", lambda: "ROLL BACK" in site.verb("why", "-n", "1000"))
    site.kill(signal.SIGTERM)
    after = json.loads(site.verb("replay", "-o", "json"))
    for data in (beside, after):
        assert (data["different"], data["blind"]) == ([], [])
    assert after["same"] > beside["same"] >= 5

    recording = tmp_path / "recording.jsonl"
    site.verb("export", "ticks", "--output", str(recording))
    data = json.loads(site.crossfade("backtest", str(site.plan), str(recording), "-o", "json"))
    assert [phase["name"] for phase in data["phases"]][-1] == "half"
    (theirs,) = data["recording"]["rollbacks"]
    assert theirs["trigger"] == "failure_rate"
    assert [r["reason"] for r in data["rollbacks"]] == [theirs["reason"]]
    assert data["rollbacks"][0]["at"] <= theirs["at"]

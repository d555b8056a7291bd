"""Two plans in one `serve`: a process of its own for each proxy, one API, and no one's fault is another's."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest
from tests.e2e.site import Site, alive, until

pytestmark = [pytest.mark.slow, pytest.mark.external]


def _second(site: Site, listen: int) -> Path:
    text = site.plan.read_text().replace("rollout: trips-v2", "rollout: hotels-v2")
    path = site.folder / "hotels.yaml"
    path.write_text(text.replace(f"listen: 127.0.0.1:{site.listen}", f"listen: 127.0.0.1:{listen}"))
    return path


def _control(site: Site, name: str) -> Any:
    return json.loads((site.state / name / "control.json").read_text())


def _ready(site: Site) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(_control(site, "trips-v2")["url"] + "/readyz", timeout=10) as answer:
            return answer.status, ""
    except HTTPError as error:
        return error.code, json.load(error)["detail"]


def _status(site: Site, name: str) -> Any:
    return json.loads(site.verb("status", name, "-o", "json"))


def test_two_rollouts_are_steered_by_name_through_one_api(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = site.serve(str(_second(site, port)), "--stop-proxy")
    until("both have a control file", (site.state / "hotels-v2" / "control.json").exists)
    assert _control(site, "trips-v2")["url"] == _control(site, "hotels-v2")["url"]
    site.verb("promote", "hotels-v2")
    assert [_status(site, name)["phase"]["name"] for name in ("trips-v2", "hotels-v2")] == ["internal", "canary"]
    assert "name one" in site.verb("status", code=2)
    until("ready", lambda: _ready(site)[0] == 200)
    proxies = [int((site.state / name / "proxy" / "haproxy.pid").read_text()) for name in ("trips-v2", "hotels-v2")]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert not any(map(alive, proxies))
    assert not list(site.state.glob("*/control.json"))


def test_a_rollout_that_cannot_begin_leaves_the_other_alone_and_is_tried_again(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = site.serve(str(_second(site, taken.getsockname()[1])), "--stop-proxy")
        site.verb("promote", "trips-v2")
        assert _status(site, "trips-v2")["phase"]["name"] == "canary"
        code, detail = _ready(site)
        assert (code, "hotels-v2: it ended by a fault" in detail) == (503, True)
        assert "it ended by a fault" in _status(site, "hotels-v2")["fenced"]
    until("the other is taken up when its address is free", lambda: _ready(site)[0] == 200, 60)
    assert _status(site, "hotels-v2")["fenced"] is None
    site.verb("promote", "hotels-v2")
    assert _status(site, "hotels-v2")["phase"]["name"] == "canary"
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


def test_when_none_can_begin_the_first_fault_ends_the_process(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.listen)), socket.create_server(("127.0.0.1", 0)) as other:
        process = site.serve(str(_second(site, other.getsockname()[1])), wait=False)
        assert process.wait(60) not in (0, None)
    assert str(site.listen) in site.log().splitlines()[-1]

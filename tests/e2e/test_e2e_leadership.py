"""Two `serve` of one rollout: one leads, one follows, and the one that was stopped wakes up to nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.conftest import postgresql_server as postgresql_server  # noqa: PLC0414 - a fixture
from tests.e2e.site import START_S, Clients, Site, post, until

LEASE_S = 5.0
LONG_S = 120.0
"""A lease that no test waits for: whoever leads within START_S has not."""
pytestmark = [pytest.mark.slow, pytest.mark.external]


class Pair:
    """Two controllers of one site that share a folder and a database."""

    def __init__(self, site: Site, database: str) -> None:
        self.site = site
        self.lease_s = LEASE_S
        self.database = database
        self.processes: list[subprocess.Popen[str]] = []

    def serve(self, *, wait: bool) -> subprocess.Popen[str]:
        options = ("--database", self.database, "--lease", str(self.lease_s), "--lateness", "1", "--tick", "1")
        self.processes.append(self.site.serve(*options, wait=wait))
        return self.processes[-1]

    def follow(self) -> str:
        """Start another one beside the leader; return the URL of its API."""
        apis = self.apis()
        self.serve(wait=False)
        until("the follower answers", lambda: len(self.apis()) > len(apis) and _ready(self.apis()[-1]), 60)
        return self.apis()[-1]

    def apis(self) -> list[str]:
        return re.findall(r"control API at (http://\S+);", self.site.log())

    def get(self, url: str, path: str = "") -> Any:
        token = json.loads((self.site.home / "control.json").read_text())["token"]
        request = urllib.request.Request(
            f"{url}/api/v1/rollouts/trips-v2{path}", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def post(self, url: str, verb: str) -> int:
        token = json.loads((self.site.home / "control.json").read_text())["token"]
        return post(f"{url}/api/v1/rollouts/trips-v2/{verb}", token, {"reason": "for the test"})

    def leader(self) -> int:
        """Return the process whose control file commands find; 0 while there is none."""
        try:
            return int(json.loads((self.site.home / "control.json").read_text())["pid"])
        except FileNotFoundError:
            return 0

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait(20)


@pytest.fixture(params=["postgresql", "sqlite"])
def pair(request: pytest.FixtureRequest, site: Site, tmp_path: Path) -> Iterator[Pair]:
    database = f"sqlite:///{tmp_path}/shared.db"
    if request.param == "postgresql":
        server = request.getfixturevalue("postgresql_server")
        name = f"pair{os.getpid()}_{time.monotonic_ns()}"
        host = server.rpartition("@")[2]
        subprocess.run(
            [_createdb(), "-h", host.split(":")[0], "-p", host.split(":")[1], "-U", "crossfade", name], check=True
        )
        database = f"{server}/{name}"
    site.services.start()
    pair = Pair(site, database)
    yield pair
    pair.end()


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
            return bool(json.load(answer)["status"] == "ready")
    except OSError:
        return False


def _createdb() -> str:
    return str(max(Path("/usr/lib/postgresql").glob("*/bin/createdb")))


def _stop(pair: Pair, process: subprocess.Popen[str]) -> None:
    """Have it stand still, though not within a write to SQLite: nobody can write there until that has ended."""
    while True:
        process.send_signal(signal.SIGSTOP)
        if not pair.database.startswith("sqlite"):
            return
        with closing(sqlite3.connect(pair.database.removeprefix("sqlite:///"), timeout=0.5)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
                continue
            connection.execute("ROLLBACK")
            return


def test_a_stopped_leader_is_followed_when_its_lease_is_over_and_wakes_up_to_nothing(pair: Pair) -> None:
    site, first = pair.site, pair.serve(wait=True)
    with Clients(site) as clients:
        site.promote_to("early")
        url = pair.follow()
        status = pair.get(url)
        assert (status["phase"]["name"], status["state"]) == ("early", "running")
        assert re.search(rf"/{first.pid}/\S+ leads trips-v2 at {pair.apis()[0]}$", status["fenced"])
        assert pair.get(url, "/users/u0001")["phase"] == "early"
        assert [event["kind"] for event in pair.get(url, "/events")["items"]] == [
            event["kind"] for event in site.events()
        ]
        assert pair.post(url, "promote") == 409
        assert pair.leader() == first.pid

        clients.wait_for(50)
        _stop(pair, first)
        until("the follower leads", lambda: pair.leader() == pair.processes[1].pid, 2 * LEASE_S + START_S)
        site.verb("promote", "--reason", "by the new leader")
        before = site.status()
        assert before["phase"]["name"] == "half"

        clients.wait_for(50)
        first.send_signal(signal.SIGCONT)
        until("the old leader follows", lambda: _follows(pair, pair.apis()[0]), 10)
        assert pair.post(pair.apis()[0], "promote") == 409
        clients.wait_for(200)
        after = site.status()
        assert (after["phase"]["name"], after["generation"], after["applied"]) == ("half", before["generation"], True)
        assert [e["kind"] for e in site.events()].count("PhasePromoted") == 3
        assert pair.post(pair.apis()[0], "rollback") == 200
        until("the leader records it", lambda: site.status()["state"] == "rolled_back", 10)
        before_v2 = clients.counts["v2"]
        clients.wait_for(100)
        assert clients.counts["v2"] <= before_v2 + 8  # those that were under way
    assert clients.lost == []
    assert set(clients.counts) <= {"answers", "200", "v1", "v2"}
    starts = [e["data"]["by"].split("/")[1] for e in site.events() if e["kind"].endswith("Started")]
    assert starts == [str(process.pid) for process in pair.processes]


def _follows(pair: Pair, url: str) -> bool:
    return "leads trips-v2" in (pair.get(url)["fenced"] or "")


def test_a_killed_leader_is_followed_at_once_on_its_own_machine_and_back(pair: Pair) -> None:
    """The system says that it lives no more, so that nobody has to wait for its lease."""
    pair.lease_s = LONG_S
    site, first = pair.site, pair.serve(wait=True)
    pair.follow()
    first.kill()
    first.wait(20)
    until("the follower leads", lambda: pair.leader() == pair.processes[1].pid, START_S)
    pair.follow()
    pair.processes[1].send_signal(signal.SIGTERM)
    assert pair.processes[1].wait(20) == 0
    until("the third leads", lambda: pair.leader() == pair.processes[2].pid, START_S)
    assert site.status()["fenced"] is None


def test_a_controller_that_was_killed_starts_again_without_waiting(pair: Pair) -> None:
    pair.lease_s = LONG_S
    pair.serve(wait=True)
    pair.site.kill(signal.SIGKILL)
    pair.serve(wait=True)
    until("it leads", lambda: pair.site.status()["fenced"] is None, START_S)

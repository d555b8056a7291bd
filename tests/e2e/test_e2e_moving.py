"""A rollout moves from SQLite to PostgreSQL while its clients go on asking, and no user changes version."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.conformance.conftest import postgresql_server as postgresql_server  # noqa: PLC0414 - a fixture
from tests.e2e.site import Clients, Site, until

pytestmark = [pytest.mark.slow, pytest.mark.external]
PACE = ("--tick", "1", "--lateness", "1")


class Roll:
    """Asks for the same users again and again; keeps every version that each of them was given."""

    def __init__(self, site: Site, users: int = 60) -> None:
        self._site = site
        self.given: dict[str, set[str]] = {f"u{n:04d}": set() for n in range(1, users + 1)}
        self.rounds = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Roll:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.is_set():
            for user, versions in self.given.items():
                status, version = self._site.ask(user)
                versions.add(version if status == 200 else str(status))
            self.rounds += 1

    def once_more(self) -> None:
        """Wait until everybody was asked anew."""
        seen = self.rounds
        until("everybody was asked", lambda: self.rounds > seen + 1, 60)


@pytest.fixture
def database(postgresql_server: str) -> str:
    """A database of its own."""
    host, port = postgresql_server.rpartition("@")[2].split(":")
    name = f"moved{os.getpid()}_{time.monotonic_ns()}"
    createdb = max(Path("/usr/lib/postgresql").glob("*/bin/createdb"))
    subprocess.run([createdb, "-h", host, "-p", port, "-U", "crossfade", name], check=True)
    return f"{postgresql_server}/{name}"


def test_nobody_notices_that_the_store_has_moved(site: Site, database: str, tmp_path: Path) -> None:
    site.services.start()
    site.serve(*PACE)
    site.promote_to("half")
    proxy = site.proxy_pid()
    with Clients(site) as clients, Roll(site) as roll:
        roll.once_more()
        before = site.events()
        assert site.kill(signal.SIGTERM) == 0
        file = tmp_path / "trips-v2.rollout"
        site.verb("export", "rollout", "trips-v2", "--output", str(file))
        site.verb("import", str(file), "--database", database)
        (site.home / "store.db").rename(tmp_path / "left-behind.db")
        site.serve(*PACE, "--database", database)
        roll.once_more()
        assert site.status()["phase"]["name"] == "half"
        kept = site.events()
        assert kept[: len(before)] == before
        assert len(kept) > len(before)  # and it goes on
        clients.wait_for(50)
    given = {user: tuple(versions) for user, versions in roll.given.items()}
    assert all(len(versions) == 1 for versions in given.values()), given
    assert {("v1",), ("v2",)} == set(given.values())
    assert clients.lost == []
    assert site.proxy_pid() == proxy
    assert not (site.home / "store.db").exists()
    site.verb("rollback", "--reason", "for the test")
    assert {site.ask(user) for user in roll.given} == {(200, "v1")}

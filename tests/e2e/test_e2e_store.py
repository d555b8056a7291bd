"""The store breaks before or while a rollout is carried out: what the command says, and what clients notice."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from benchmarks.chaos import Postgres
from tests.e2e.site import Clients, Site, now, post, until
from tests.tripsearch.running import free_port

pytestmark = [pytest.mark.slow, pytest.mark.external]

PACE = ("--tick", "1", "--lateness", "1", "--lease", "2")


# ── at the start ────────────────────────────────────────────────────────────────────────────────────────────


def _unreachable(_: Path) -> str:
    return f"postgresql://nobody:hunter2@127.0.0.1:{free_port()}/rollouts"


def _no_folder(file: Path) -> str:
    return f"sqlite:///{file.parent}/missing/store.db"


def _read_only(file: Path) -> str:
    return f"sqlite:///file:{file}?mode=ro&uri=true"  # root may write whatever the mode says


def _no_database(file: Path) -> str:
    file.write_text("not a database, but longer than the header of one would be: " * 20)
    return f"sqlite:///{file}"


def _damaged(file: Path) -> str:
    size = file.stat().st_size
    with file.open("r+b") as data:
        data.seek(4096)
        data.write(os.urandom(size - 4096))
    return f"sqlite:///{file}"


def _later(file: Path) -> str:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE crossfade_version SET version_num = '0999'")
    return f"sqlite:///{file}"


BROKEN: dict[str, tuple[Callable[[Path], str], int, str]] = {
    "unreachable": (_unreachable, 4, "does not answer"),
    "no folder": (_no_folder, 1, "run: mkdir -p"),
    "read-only": (_read_only, 1, "is read-only"),
    "no database": (_no_database, 1, "the file is not a SQLite database"),
    "damaged": (_damaged, 1, "the file is damaged"),
    "later": (_later, 1, "was written by a later Crossfade (schema 999, "),
}


def test_a_store_that_is_broken_at_the_start_is_one_clear_error_and_the_proxy_serves_on(site: Site) -> None:
    site.services.start()
    site.serve(*PACE)
    site.promote_to("half")
    site.kill()
    kept = site.folder / "kept.db"
    with closing(sqlite3.connect(site.home / "store.db")) as source, closing(sqlite3.connect(kept)) as copy:
        source.backup(copy)
    asked = {f"u{n:04d}": site.ask(f"u{n:04d}") for n in range(1, 30)}
    for name, (broken, code, said) in BROKEN.items():
        file = site.folder / f"{name.replace(' ', '-')}.db"
        shutil.copy(kept, file)
        began = now()
        assert site.serve(*PACE, "--database", broken(file), wait=False).wait(60) == code, (name, site.log())
        last = site.log().splitlines()[-1]
        assert last.startswith("crossfade: "), (name, last)
        assert said in last, (name, last)
        assert now() - began < 45
    assert "Traceback" not in site.log()
    assert "hunter2" not in site.log()
    assert {user: site.ask(user) for user in asked} == asked
    site.verb("rollback", "--direct")
    assert {site.ask(user)[1] for user in asked} == {"v1"}
    site.serve(*PACE)  # with its own store, which is whole
    until("it is found", lambda: site.status()["state"] == "rolled_back", 20)


# ── while it is carried out ─────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False)
    if mounted.returncode:
        pytest.skip("a small disk can't be mounted here; run the tests as root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def _holds_on_without_its_store(site: Site, clients: Clients, mend: Callable[[], object]) -> None:
    """A lost store moves nobody: it is told, nobody is promoted, and a rollback works and is recorded afterwards."""
    until("it is blind", lambda: _outcome(site) == "BLIND", 40)
    refused = site.program("promote", "--state", str(site.state))
    assert refused.returncode in (1, 3, 4), refused
    assert refused.stderr.startswith("crossfade: ")
    assert "Traceback" not in refused.stderr
    before = clients.counts["v2"]
    clients.wait_for(100)
    assert clients.counts["v2"] > before  # the split is kept
    site.verb("rollback", "--reason", "without a store")
    before = clients.counts["v2"]
    clients.wait_for(100)
    assert clients.counts["v2"] <= before + 8  # those that were under way
    assert site.status()["state"] == "rolled_back"
    mend()
    until("it is written", lambda: _kinds(site)[-2:] == ["RolledBack", "SplitApplied"], 60)
    assert _kinds(site).count("PhasePromoted") == 3
    site.verb("retry", "--reason", "the store is back")
    clients.wait_for(20, "v2")
    assert clients.lost == []


def _outcome(site: Site) -> str:
    decision = site.status()["decision"]
    return str(decision["outcome"]) if decision else ""


def _kinds(site: Site) -> list[str]:
    """Return what has happened to users; alerts and holds come and go."""
    done = site.program("events", "--state", str(site.state), "-o", "json")
    events = json.loads(done.stdout) if done.returncode == 0 else []
    return [e["kind"] for e in events if not e["kind"].startswith(("Hold", "Alert"))]


def test_a_full_disk_holds_and_writing_goes_on_when_there_is_room(site: Site, tmp_path: Path) -> None:
    site.services.start()
    with _small_disk(tmp_path / "small") as disk:
        site.serve(*PACE, "--database", f"sqlite:///{disk}/store.db")
        site.promote_to("half")
        with Clients(site) as clients:
            clients.wait_for(50, "v2")
            filling = disk / "filling"
            with suppress(OSError), filling.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            _holds_on_without_its_store(site, clients, filling.unlink)
        assert "the disk is full" in site.log()


def test_a_database_server_that_goes_away_holds_and_comes_back(site: Site) -> None:
    site.services.start()
    postgres = Postgres()
    try:
        site.serve(*PACE, "--database", postgres.url)
        site.promote_to("half")
        with Clients(site) as clients:
            clients.wait_for(50, "v2")
            postgres.signal(signal.SIGKILL)
            _holds_on_without_its_store(site, clients, postgres.start)
    finally:
        site.end()
        postgres.end()


def test_a_rollback_of_a_follower_works_while_somebody_stopped_in_a_write_holds_the_file(site: Site) -> None:
    """Nobody can write until that process goes on or is killed; the proxy needs no store."""
    site.services.start()
    site.serve(*PACE)
    site.promote_to("half")
    first = site.serving
    assert first is not None
    site.serve(*PACE, wait=False)
    until("the second follows", lambda: site.log().count("control API at") == 2, 40)
    follower = re.findall(r"control API at (http://\S+);", site.log())[-1]
    token = json.loads((site.home / "control.json").read_text())["token"]
    with Clients(site) as clients, closing(sqlite3.connect(site.home / "store.db", isolation_level=None)) as stopped:
        clients.wait_for(50, "v2")
        stopped.execute("BEGIN IMMEDIATE")
        assert post(f"{follower}/api/v1/rollouts/trips-v2/rollback", token, {"reason": "the store hangs"}) == 200
        before = clients.counts["v2"]
        clients.wait_for(100)
        assert clients.counts["v2"] <= before + 8  # those that were under way
        stopped.execute("ROLLBACK")
        until("it is recorded", lambda: "RolledBack" in _kinds(site), 60)
    assert clients.lost == []
    for process in (first, site.serving):
        assert process is not None
        process.kill()
        process.wait(20)

"""The same answers from PostgreSQL as from SQLite, on a temporary server."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tripsearch.running import Starter, free_port, get

pytestmark = [pytest.mark.external, pytest.mark.slow]

QUERIES = ("from=JFK&to=LAX&date=2026-03-05", "from=LGA&to=ORD&date=2024-02-29", "from=CDG&to=BOS&date=2026-12-31")


def _program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    program = str(found[-1]) if found else shutil.which(name)
    if program is None:
        pytest.skip("PostgreSQL is not installed; `apt-get install postgresql` brings it")
    return program


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL of an empty database on a server of our own."""
    initdb, postgres, ctl = _program("initdb"), _program("postgres"), _program("pg_ctl")
    # PostgreSQL refuses to run as root.
    user = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="tripsearch-pg-") as folder:
        if user:
            shutil.chown(folder, "nobody")
        data, port = f"{folder}/data", free_port()
        subprocess.run(
            [*user, initdb, "-D", data, "-U", "trips", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            check=True, capture_output=True, cwd="/",
        )  # fmt: skip
        options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
        control = [*user, ctl, "-D", data, "-p", postgres, "-l", f"{folder}/log", "-w"]
        subprocess.run([*control, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, cwd="/")
        try:
            yield f"postgresql://trips@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")


def test_postgresql_gives_the_same_answers_as_sqlite(start: Starter, postgresql: str) -> None:
    together = [start.start("v1", "--database-url", postgresql, ready=False) for _ in range(2)]
    for each in together:  # both found it empty, one filled it
        each.wait_ready()
    sqlite = start.start("v1")
    v2 = start.start("v2", "--database-url", postgresql, "--weather", "http://127.0.0.1:1")
    for query in QUERIES:
        answers = [get(f"{each.url}/v1/trips/search?{query}") for each in (*together, sqlite)]
        assert {200} == {a.status for a in answers}
        assert len({a.body for a in answers}) == 1
        assert {"miss"} == {a.facts["cache"] for a in answers}
        more = get(f"{v2.url}/v2/trips/search?{query}")
        assert more.body.startswith(answers[0].body[:-1] + b',"weather":{')
        assert (more.facts["cache"], float(more.facts["db"]) > 0) == ("miss", True)

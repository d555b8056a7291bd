from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    program = str(found[-1]) if found else shutil.which(name)
    if program is None:
        pytest.skip(f"PostgreSQL's {name} is not installed; `apt-get install postgresql` brings it")
    return program


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        pytest.skip(f"PostgreSQL can't be started here: {done.stderr or done.stdout}")


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a temporary server, database left out; the server ends with the session."""
    initdb, ctl = _program("initdb"), _program("pg_ctl")
    # PostgreSQL refuses to run as root.
    user = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="crossfade-pg-") as folder:
        if user:
            shutil.chown(folder, "nobody")
        data = f"{folder}/data"
        _run(*user, initdb, "-D", data, "-U", "crossfade", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
        # The server inherits no pipe of ours: reading one would wait for its end.
        control = [*user, ctl, "-D", data, "-l", f"{folder}/log", "-w"]
        subprocess.run([*control, "-o", options, "start"], check=True, stdout=subprocess.DEVNULL, cwd="/")
        try:
            yield f"postgresql://crossfade@127.0.0.1:{port}"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, stdout=subprocess.DEVNULL, cwd="/")

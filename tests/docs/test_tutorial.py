"""The tutorial does what it says: its files and commands, as they stand there, one after the other."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.adapters.haproxy_origin import free_port

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "your-own-api.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WITHIN_S = 400


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, whose processes don't outlive the test."""
    yield tmp_path
    for file in tmp_path.glob("*.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(file.read_text()), signal.SIGKILL)
    subprocess.run([*crossfade(), "proxy", "stop"], cwd=tmp_path, check=False, capture_output=True, timeout=20)


def crossfade() -> list[str]:
    return [str(Path(sys.executable).parent / "crossfade")]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="the tutorial asks by curl: apt-get install curl")
def test_a_reader_who_types_everything_sees_what_the_tutorial_tells(folder: Path) -> None:
    commands: list[str] = []
    tutorial = TUTORIAL.read_text()
    for port in {*re.findall(r"\b9\d{3}\b", tutorial)}:
        tutorial = tutorial.replace(port, str(free_port()))
    for kind, text in BLOCK.findall(tutorial):
        if kind == "sh":
            commands.append(text)
        else:
            (folder / text.split("\n", 1)[0].removeprefix("# ")).write_text(text)
    assert {path.name for path in folder.iterdir()} == {"shop.py", "shop.yaml"}
    told = folder / "told.log"  # a file, because what runs on in the background would keep a pipe open
    with told.open("w") as file:
        done = subprocess.run(
            ["bash", "-c", "set -e\n" + "echo --- part ---\n".join(commands)],
            cwd=folder,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            timeout=WITHIN_S,
            check=False,
        )
    log = told.read_text() + (folder / "serve.log").read_text()
    assert done.returncode == 0, log
    *_, watched, broken, mended, ended = told.read_text().split("--- part ---\n")
    assert "RUNNING" in watched, log
    assert "ROLL BACK" in broken, log
    assert broken.rstrip().endswith("items of v1"), log
    assert mended.rstrip().endswith("items of v2"), log
    assert ended.startswith("items of v2"), log

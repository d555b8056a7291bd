"""`crossfade demo` itself, on real parts: the whole story at a run, and how it ends when it is told to."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="the proxy's wheel is for Linux"),
]

_PROGRAM = [sys.executable, "-c", "from crossfade.app.cli import main; main()", "demo", "--plain"]


async def _demo(tmp_path: Path, *arguments: str) -> asyncio.subprocess.Process:
    """Start a demo whose temporary files, and so all its children's arguments, lie in a folder of the test's."""
    return await asyncio.create_subprocess_exec(
        *_PROGRAM,
        *arguments,
        "--report",
        str(tmp_path / "report.md"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
    )


async def _read_until(demo: asyncio.subprocess.Process, text: str, within_s: float) -> str:
    assert demo.stdout is not None
    said = ""
    async with asyncio.timeout(within_s):
        while text not in said:
            line = await demo.stdout.readline()
            assert line, f"ended before it said {text!r}:\n{said}"
            said += line.decode()
    return said


def _tree(root: int) -> set[int]:
    """Return all descendants of a process, HAProxy under `serve` included."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, waiting = set(), [root]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found.update(children)
        waiting += children
    return found


def _left_behind(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("crossfade-demo-*"))


def _running(pids: set[int]) -> set[int]:
    alive = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            alive.add(pid)
    return alive


async def test_the_whole_story_is_played_and_nobody_loses_a_request(tmp_path: Path) -> None:
    demo = await _demo(tmp_path, "--speed", "110000", "--rate", "1000")
    async with asyncio.timeout(280):
        said = (await demo.communicate())[0].decode()
    report = (tmp_path / "report.md").read_text() if (tmp_path / "report.md").exists() else said
    assert demo.returncode == 0, f"{report}\n{said[-3000:]}"
    assert "The plan was carried to 100 %" in said
    assert said.count("ROLLED BACK") == 1
    assert "**0 lost requests**" in report
    assert "| early (attempt 2) |" in report
    assert "closed -> open" in report
    assert "half_open -> closed" in report
    assert "0 of them lacked flights or hotels" in report
    assert not _left_behind(tmp_path)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_leaves_no_process(tmp_path: Path, number: signal.Signals, code: int) -> None:
    demo = await _demo(tmp_path)
    said = await _read_until(demo, "rollout trips-v2-demo started", 120)
    family = _tree(demo.pid)
    assert len(family) >= 6, said  # weather, V1, V2, serve, its HAProxy, users
    demo.send_signal(number)
    assert demo.stdout is not None
    async with asyncio.timeout(60):
        rest = (await demo.stdout.read()).decode()
        assert await demo.wait() == code, rest
    assert "no process is left" in rest
    assert _running(family) == set()
    assert not _left_behind(tmp_path)


async def test_a_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    demo = await _demo(tmp_path)
    await _read_until(demo, "rollout trips-v2-demo started", 120)
    family = _tree(demo.pid)
    demo.kill()
    await demo.wait()
    for _ in range(300):
        if not _running(family):
            return
        await asyncio.sleep(0.1)
    assert _running(family) == set()

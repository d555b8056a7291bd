"""`crossfade watch`: what a frame shows at any size, and the program itself on a terminal that is resized."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console
from tests.app.lived import Lived
from tests.app.serving import TOKEN, served_with, serving

from crossfade.adapters.system import SystemClock
from crossfade.app.client import Client, Target
from crossfade.app.control import Control
from crossfade.app.terminal.frame import draw, sparks, summary
from crossfade.app.terminal.watch import Looking
from crossfade.app.web.served import Served

WAIT_S = 30.0
SAID_OTHERWISE = ("NO_COLOR", "COLUMNS", "LINES")
"""What an environment says of a terminal that the test has itself; workers of pytest-xdist come with a size."""


@dataclass
class Desk:
    lived: Lived
    served: Served
    url: str
    state: Path

    async def looking(self) -> Looking:
        """Return what has looked once."""
        looking = Looking(lambda: Client(Target(url=self.url, token=TOKEN, rollout="trips-v2")), SystemClock())
        await asyncio.to_thread(looking.look)
        return looking


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    lived = await Lived().begin(hours=2)
    served = served_with(lived.controller, lived.store, lived.telemetry, lived.clock, tmp_path, meters=lived.meters)
    served.rollouts["trips-v2"].trend.note(lived.controller, lived.clock.now(), 0.0)
    async with serving(served) as url:
        folder = tmp_path / "state" / "trips-v2"
        folder.mkdir(parents=True)
        Control(rollout="trips-v2", url=url, token=TOKEN, plan="", pid=1).write(folder)
        yield Desk(lived, served, url, tmp_path / "state")


def _text(looking: Looking, width: int, height: int) -> str:
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    console.print(draw(looking.view, width, height))
    return console.export_text()


async def test_a_frame_tells_phases_gates_metrics_and_decisions(desk: Desk) -> None:
    text = _text(await desk.looking(), 120, 60)
    for part in (
        "✔ internal",
        "● canary",
        "○ full ~",
        "Gates of canary:",
        "failure_rate",
        "V2 over V1",
        "Last decisions",
    ):
        assert part in text
    assert any(bar in text for bar in "▁▂▃▄▅▆▇█")


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (20, 3), (200, 70)])
async def test_a_frame_stays_inside_the_window(desk: Desk, width: int, height: int) -> None:
    lines = _text(await desk.looking(), width, height).splitlines()
    assert len(lines) <= height
    assert max(map(len, lines)) <= width


async def test_blind_and_gone_are_plain_words_at_the_top(desk: Desk) -> None:
    looking = await desk.looking()
    for _ in range(3):
        await desk.lived.hour(heard=False)
    await asyncio.to_thread(looking.look)
    assert "BLIND: " in _text(looking, 80, 24).splitlines()[1]
    assert "BLIND: " in summary(looking.view)
    looking._connect = lambda: Client(Target(url="http://127.0.0.1:1", token=TOKEN, rollout="trips-v2"))
    looking.look()
    text = _text(looking, 80, 24)
    assert "CONTROLLER GONE: no answer since " in text.splitlines()[1]
    assert "● canary" in text
    looking._connect = lambda: Client(Target(url=desk.url, token=TOKEN, rollout="trips-v2"))
    await asyncio.to_thread(looking.look)
    assert "CONTROLLER GONE" not in _text(looking, 80, 24)


async def test_what_a_person_typed_does_not_act_on_the_screen(desk: Desk) -> None:
    await desk.lived.controller.rollback("eve", "all\x1b[2J well")
    looking = await desk.looking()
    assert "all\\x1b[2J well" in _text(looking, 100, 40)


def test_both_versions_are_drawn_on_one_scale_with_gaps() -> None:
    trend = [{"metrics": {"m": {"v1": v1, "v2": v2}}} for v1, v2 in ((0.0, 1.0), (None, 0.5), (0.0, None))]
    first, second = sparks(trend, "m")
    assert (first.lstrip(), second.strip(), len(first), len(second)) == ("▁ ▁", "█▅", 12, 12)
    assert sparks([], "m") == (" " * 12, " " * 12)


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, state: Path, **env: str) -> None:
        self.master, slave = pty.openpty()
        self.resize(80, 12)
        command = [sys.executable, "-c", "from crossfade.app.cli import main; main()", "watch", "--state", str(state)]

        def own() -> None:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            preexec_fn=own,  # noqa: PLW1509 - the terminal becomes the process's own
            env={**{k: v for k, v in os.environ.items() if k not in SAID_OTHERWISE}, "TERM": "xterm-256color", **env},
        )
        os.close(slave)
        self.told = ""

    def resize(self, width: int, height: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def until(self, part: str) -> None:
        def read() -> None:
            clock = SystemClock()
            until = clock.monotonic() + WAIT_S
            while part not in self.told:
                assert clock.monotonic() < until, self.told[-3000:]
                if select.select([self.master], [], [], 0.2)[0]:
                    self.told += os.read(self.master, 65536).decode(errors="replace")

        await asyncio.to_thread(read)

    async def end(self, keys: bytes) -> int:
        os.write(self.master, keys)
        try:
            return await asyncio.to_thread(self.process.wait, WAIT_S)
        finally:
            self.process.kill()
            os.close(self.master)


@pytest.mark.slow
async def test_the_screen_follows_the_window_and_ends_with_q(desk: Desk) -> None:
    terminal = Terminal(desk.state)
    await terminal.until("more lines; make the window taller")
    terminal.told = ""
    terminal.resize(150, 70)
    await terminal.until("Last decisions")
    await desk.lived.controller.pause("ada", "lunch")
    await terminal.until("PAUSED")
    assert await terminal.end(b"q") == 0


@pytest.mark.slow
@pytest.mark.parametrize("env", [{}, {"TERM": "dumb"}, {"NO_COLOR": "1"}])
async def test_ctrl_c_ends_with_130_and_where_no_screen_is_drawn_there_are_lines(
    desk: Desk, env: dict[str, str]
) -> None:
    terminal = Terminal(desk.state, **env)
    await terminal.until("RUNNING")
    if env:
        await terminal.until("gates passed")
        await desk.lived.controller.pause("ada", "lunch")
        await terminal.until("PAUSED")
        await terminal.until("reason=lunch")
        assert "\x1b" not in terminal.told
    assert await terminal.end(b"\x03") == 130


@pytest.mark.slow
async def test_into_a_pipe_go_lines_and_ctrl_c_ends_it(desk: Desk) -> None:
    command = [sys.executable, "-c", "from crossfade.app.cli import main; main()", "watch", "--state", str(desk.state)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)  # noqa: ASYNC220
    assert process.stdout is not None
    try:
        line = await asyncio.to_thread(process.stdout.readline)
        assert "trips-v2: RUNNING in canary" in line
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, WAIT_S) == 130
    finally:
        process.kill()
        process.stdout.close()

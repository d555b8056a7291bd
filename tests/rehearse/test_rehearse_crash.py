"""A crash by the operator's commands: what can't be so is one clear line."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.rehearse.test_rehearse_parts import plan_in

from crossfade.adapters.system import SystemClock
from crossfade.app.cli import main
from crossfade.app.rehearse.crash import Commands, read_commands
from crossfade.errors import UsageError

CONTROL = "http://127.0.0.1:9/control"

WRONG = {
    "ended with another code": (("false",), "`false` ended with 1, and has to end the dependency with 0"),
    "no such program": (("no-such-program", "now"), "`no-such-program now` can't be run: No such file"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_command_that_does_not_end_the_dependency_is_told(name: str) -> None:
    argv, said = WRONG[name]
    with pytest.raises(UsageError, match=said):
        await Commands(argv, ("true",), CONTROL, SystemClock()).kill()


async def test_a_dependency_that_does_not_start_is_told() -> None:
    commands = Commands(("true",), ("sh", "-c", "exit 3"), CONTROL, SystemClock())
    await commands.kill()
    with pytest.raises(UsageError, match="`sh -c 'exit 3'` ended with 3"):
        await commands.start()


async def test_it_waits_until_somebody_listens() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        await Commands(("true",), ("sleep", "1"), f"http://127.0.0.1:{port}/control", SystemClock()).start()


def test_words_that_make_no_sense_are_refused_before_anything_is_tried(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="belong together; give both, or neither"):
        read_commands("kill 1", "", CONTROL, SystemClock())
    with pytest.raises(UsageError, match="can't be read: No closing quotation"):
        read_commands("kill '1", "true", CONTROL, SystemClock())
    words = ["rehearse", str(plan_in(tmp_path)), "--out", str(tmp_path / "out"), "--end-dependency", "true"]
    done = CliRunner().invoke(main, words)
    assert (done.exit_code, "no dependency that could crash" in done.stderr) == (2, True)
    assert not (tmp_path / "out").exists()

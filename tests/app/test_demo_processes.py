"""Children of the demo: none outlives it, however it ends."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from crossfade.adapters.system import SystemClock
from crossfade.app.demo.processes import ChildError, Children, free_ports

_SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
_STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {_SLEEPER}"


def _gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"  # nobody in a container may collect it


async def _until_gone(pid: int, within_s: float = 5.0) -> bool:
    for _ in range(int(within_s / 0.05)):
        if _gone(pid):
            return True
        await asyncio.sleep(0.05)
    return False


@pytest.fixture
def children(tmp_path: Path) -> Children:
    return Children(tmp_path, SystemClock())


async def test_all_are_ended_in_reverse_order_also_those_that_ignore_sigterm(children: Children) -> None:
    children.hurry()
    pids = []
    for number, code in enumerate((_SLEEPER, _STUBBORN, _SLEEPER)):
        child = await children.start(f"c{number}", [sys.executable, "-c", code], piped=True)
        assert child.process.stdout is not None
        assert await child.process.stdout.readline() == b"up\n"
        pids.append(child.process.pid)
    await children.stop_all()
    assert all(_gone(pid) for pid in pids)
    await children.stop_all()


async def test_a_grandchild_left_behind_is_ended_too(children: Children) -> None:
    code = f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {_SLEEPER!r}]).pid, flush=True)"
    child = await children.start("parent", [sys.executable, "-c", code], piped=True)
    assert child.process.stdout is not None
    grandchild = int(await child.process.stdout.readline())
    assert await _until_gone(child.process.pid)
    children.hurry()
    await children.stop_all()
    assert await _until_gone(grandchild)


async def test_a_child_that_ends_early_is_named_with_its_last_words(children: Children) -> None:
    code = "import sys; sys.exit('no such port')"
    child = await children.start("v9", [sys.executable, "-c", code])
    with pytest.raises(ChildError, match="v9 ended with code 1: no such port"):
        await children.healthy(child, f"http://127.0.0.1:{free_ports(1)[0]}/", 20.0)
    assert children.ended() == [child]
    await children.stop_all()


async def test_a_child_that_does_not_answer_in_time_is_named(children: Children) -> None:
    child = await children.start("v9", [sys.executable, "-c", _SLEEPER])
    with pytest.raises(ChildError, match="v9 does not answer"):
        await children.healthy(child, f"http://127.0.0.1:{free_ports(1)[0]}/", 0.2)
    await children.stop_all()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
async def test_a_killed_demo_takes_its_children_along(tmp_path: Path) -> None:
    code = f"""
import asyncio, os, sys
from pathlib import Path
from crossfade.adapters.system import SystemClock
from crossfade.app.demo.processes import Children

async def main():
    children = Children(Path({str(tmp_path)!r}), SystemClock())
    child = await children.start("c", [sys.executable, "-c", {_SLEEPER!r}])
    print(child.process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""
    demo = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert demo.stdout is not None
    child = int(await demo.stdout.readline())
    assert not _gone(child)
    demo.kill()
    await demo.wait()
    assert await _until_gone(child)


def test_free_ports_differ_and_are_free() -> None:
    ports = free_ports(4)
    assert len(set(ports)) == 4
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", ports[0]))
        taken.listen()
        assert ports[0] not in free_ports(4)

"""The demo's child processes: started, waited for, watched, and ended in reverse order within bounds.

A child gets a session of its own, so that Ctrl-C reaches only the demo, which then ends them in order; and it asks the
kernel for SIGTERM when the demo dies without doing so.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossfade.errors import CrossfadeError
from crossfade.ports import Clock

_PR_SET_PDEATHSIG = 1
_FIRST_PORT, _END_PORT = 20_000, 30_000  # below what Linux gives to outgoing connections (32768 and up)
_POLL_S = 0.05


class ChildError(CrossfadeError):
    """A child process did not start, or ended by itself."""


@dataclass(slots=True, kw_only=True)
class Child:
    """One process."""

    name: str
    process: asyncio.subprocess.Process
    log: Path
    """Its stderr."""

    @property
    def running(self) -> bool:
        """Tell whether it has not ended."""
        return self.process.returncode is None

    def last_words(self, lines: int = 3) -> str:
        """Return the end of its log."""
        with contextlib.suppress(OSError):
            return " | ".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])
        return ""


class Children:
    """All of them, in the order in which they were started."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._children: list[Child] = []
        self._patience_s = 15.0

    async def start(self, name: str, command: Sequence[str], *, piped: bool = False) -> Child:
        """Start a process; its stderr is appended to `<name>.log`, its stdin and stdout are pipes if asked."""
        log = self._folder / f"{name}.log"
        pipe = asyncio.subprocess.PIPE if piped else asyncio.subprocess.DEVNULL
        with log.open("ab") as stderr:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=pipe,
                stdout=pipe,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=_dying_with(os.getpid()) if sys.platform == "linux" else None,
            )
        child = Child(name=name, process=process, log=log)
        self._children.append(child)
        return child

    def ended(self) -> list[Child]:
        """Return those that ended though nobody stopped them."""
        return [child for child in self._children if not child.running]

    def hurry(self) -> None:
        """Wait no longer than a moment for each that is ended from now on."""
        self._patience_s = 1.0

    async def stop(self, child: Child) -> None:
        """End one: SIGTERM to it, and SIGKILL to its whole session when it takes too long."""
        self._children.remove(child)
        process = child.process
        if process.stdin is not None:
            process.stdin.close()
        if child.running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), self._patience_s)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what a child has left behind, too
        await process.wait()

    async def stop_all(self) -> None:
        """End all, the last started first; each has its bound."""
        while self._children:
            await self.stop(self._children[-1])

    async def healthy(self, child: Child, url: str, within_s: float = 60.0) -> None:
        """Wait until a URL answers 200; ChildError where the process ends or the time is over."""
        until = self._clock.monotonic() + within_s
        while not await asyncio.to_thread(_answers, url):
            if not child.running:
                raise ChildError(f"{child.name} ended with code {child.process.returncode}: {child.last_words()}")
            if self._clock.monotonic() > until:
                raise ChildError(f"{child.name} does not answer at {url} after {within_s:g} s: {child.last_words()}")
            await self._clock.sleep(_POLL_S)


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on; two demos start looking at different places."""
    found: list[int] = []
    span = _END_PORT - _FIRST_PORT
    for step in range(span):
        port = _FIRST_PORT + (os.getpid() * 17 + step) % span
        if _is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise ChildError(f"no {count} free ports between {_FIRST_PORT} and {_END_PORT} on 127.0.0.1; close something")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2.0) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def _dying_with(parent: int) -> Callable[[], None]:
    """Return what runs in the child before its program does: ask for SIGTERM when the parent dies."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # loaded before the fork: nothing is looked up after it

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask

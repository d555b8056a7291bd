"""How the proxy knows that a controller looks after it: it asks, on a socket in its folder, and counts the silence.

The proxy does the asking and the counting, on its own monotonic clock, so nothing of ours has to be alive for it to
notice: not a process that was killed, stopped or hangs, nor a machine whose wall clock was stepped.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from crossfade.adapters.haproxy.render import ATTENDED, ATTENDED_SOCKET, WATCHED, WATCHER
from crossfade.ports import Clock

_BACKLOG = 4  # a process that was stopped is refused soon, instead of waited for each time


class Attendance:
    """Answers the proxy in a directory."""

    def __init__(self, directory: Path, clock: Clock, after_s: float) -> None:
        """Take the proxy's folder, and how long it may go without an answer."""
        self.attended: Callable[[], bool] = lambda: True
        """Whether the proxy may be told that a controller looks after it."""
        self.alone_s: float | None = None
        """How much longer than that it went without one before the latest answer, or before it was adopted; None
        where it did not. Whoever has told it sets it back."""
        self._clock, self._after_s = clock, after_s
        self._answered = float("inf")
        self._path = directory / ATTENDED_SOCKET
        self._server: asyncio.Server | None = None
        self._inode = 0

    async def start(self) -> None:
        """Begin to answer, in the place of whoever did before; raises OSError."""
        if self._server is not None:
            return
        listener = socket.socket(socket.AF_UNIX)
        try:
            self._path.unlink(missing_ok=True)
            anchor = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)  # a path may be too long for a socket
            try:
                listener.bind(f"/proc/self/fd/{anchor}/{ATTENDED_SOCKET}")
            finally:
                os.close(anchor)
            self._path.chmod(0o600)
            self._inode = self._path.stat().st_ino
            listener.setblocking(False)
            self._server = await asyncio.start_unix_server(self._answer, sock=listener, backlog=_BACKLOG)
        except BaseException:
            listener.close()
            raise

    async def close(self) -> None:
        """Answer no more."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        with suppress(OSError):
            if self._path.stat().st_ino == self._inode:  # else it is another controller's by now
                self._path.unlink()

    def _note_answer(self) -> None:
        now = self._clock.monotonic()
        late = now - self._answered - self._after_s
        self._answered = now
        if late > 0:  # this process was stopped, or could not renew its lease
            self.alone_s = late

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            if self.attended():
                self._note_answer()
                writer.write(ATTENDED.encode() + b"\n")
            writer.close()


def alone_s(states: str) -> float | None:
    """Return for how long the proxy has gone without a controller beyond the plan's time; None where it has not.

    `states` is what HAProxy says to `show servers state`; what it doesn't know counts as attended.
    """
    lines = [line.removeprefix("# ").split() for line in states.splitlines()]
    head = next((line for line in lines if "srv_op_state" in line), [])
    for line in lines:
        row = dict(zip(head, line, strict=False))
        if (row.get("be_name"), row.get("srv_name")) == (WATCHED, WATCHER) and row.get("srv_op_state") == "0":
            return float(row.get("srv_time_since_last_change", 0))
    return None


def died_alone(log: Path) -> bool:
    """Tell whether the last process that wrote this log had found itself without a controller when it ended."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return False
    name = f"Server {WATCHED}/{WATCHER} is "
    return text.rpartition(name)[2].startswith("DOWN") if name in text else False

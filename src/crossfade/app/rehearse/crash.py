"""A crash of the dependency's process, by the commands with which its operator ends and starts it."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from crossfade.errors import UsageError
from crossfade.ports import Clock

PATIENCE_S: Final = 30.0
"""For a command to end, and for the dependency to go or to answer."""
_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Commands:
    """Keeps `breakers.Crash`."""

    end: tuple[str, ...]
    """Program and arguments; no shell reads them. It ends with 0 once the process is gone."""
    begin: tuple[str, ...]
    """The same, to start it: it may stay, as the process itself does, or end with 0, as an init system's does."""
    control: str
    """URL at which the process listens."""
    clock: Clock

    async def kill(self) -> None:
        """End it at once; raises UsageError where that does not come about."""
        process = await _run(self.end)
        try:
            async with asyncio.timeout(PATIENCE_S):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            raise UsageError(f"`{shlex.join(self.end)}` did not end within {PATIENCE_S:g} s") from None
        if code != 0:
            raise UsageError(f"`{shlex.join(self.end)}` ended with {code}, and has to end the dependency with 0")
        await self._until(self._gone, f"the dependency still listens after `{shlex.join(self.end)}`")

    async def start(self) -> None:
        """Start it again and wait until it listens; raises UsageError where it does not."""
        process = await _run(self.begin)

        async def listens() -> bool:
            if process.returncode:
                raise UsageError(f"`{shlex.join(self.begin)}` ended with {process.returncode}")
            return not await self._gone()

        await self._until(listens, f"nothing listens at {self.control} after `{shlex.join(self.begin)}`")

    async def _gone(self) -> bool:
        parts = urlsplit(self.control)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            _, writer = await asyncio.open_connection(parts.hostname, port)
        except OSError:
            return True
        writer.close()
        return False

    async def _until(self, found: Callable[[], Coroutine[Any, Any, bool]], otherwise: str) -> None:
        begun = self.clock.monotonic()
        while not await found():
            if self.clock.monotonic() - begun > PATIENCE_S:
                raise UsageError(f"{otherwise}, for {PATIENCE_S:g} s")
            await self.clock.sleep(_POLL_S)


def read_commands(end: str, begin: str, control: str, clock: Clock) -> Commands:
    """Return the commands as typed; raises UsageError where one is missing or its quotes don't close."""
    if not (end and begin):
        raise UsageError("--end-dependency and --start-dependency belong together; give both, or neither")
    try:
        return Commands(tuple(shlex.split(end)), tuple(shlex.split(begin)), control, clock)
    except ValueError as error:
        raise UsageError(f"--end-dependency or --start-dependency can't be read: {error}") from None


async def _run(argv: tuple[str, ...]) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,  # the dependency outlives the rehearsal
        )
    except OSError as error:
        raise UsageError(f"`{shlex.join(argv)}` can't be run: {error.strerror or error}") from None

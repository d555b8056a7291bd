"""The short way to V1, from nothing but the state directory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from crossfade.adapters.haproxy.render import GENERATION, HEADERS, INT_MAP, KILL, ROLLBACKS, ROLLED_BACK, SPLIT
from crossfade.adapters.haproxy.runtime import Runtime
from crossfade.adapters.haproxy.state import (
    Maps,
    decode,
    read_files,
    read_retired,
    rolled_back,
    share_keys,
    write_files,
)
from crossfade.errors import CrossfadeError, ProxyError, ProxyUnreachableError, ReadBackError
from crossfade.ports import NodeState, ProxyState

_FILE_S = 0.25  # a disk that hangs must not keep users on V2
_RETIRED = "V1 is retired; nothing was changed"
_ATTEMPTS = 5  # against an apply that is raising at the same time


class HaproxyRollback:
    """`ports.RollbackSwitch` for the HAProxy whose state is kept in a directory.

    It has its own connection and needs no plan, no controller and no store. Files first, then memory; a disk
    that is full or hangs is reported and does not stop the memory from being set.
    """

    def __init__(self, directory: Path, *, node: str = "haproxy") -> None:
        self._directory = directory
        self._node = node
        self._runtime = Runtime(directory)

    async def rollback(self, generation: int | None = None) -> Sequence[NodeState]:
        """Put everyone on V1 now and read it back; see `ports.RollbackSwitch`."""
        before = _on_disk(self._directory)
        if before.retired:
            return [NodeState(node=self._node, reachable=True, state=_state(before), error=_RETIRED)]
        file_error = await self._write(rolled_back(before, generation))
        try:
            after = await self._set(generation)
            for _ in range(_ATTEMPTS):
                if not self._runtime.outdated:
                    break
                after = await self._set(generation)  # a process that took over meanwhile may have read the old files
        except CrossfadeError as error:
            if file_error:
                raise ProxyError(f"nothing could be rolled back: {error}; {file_error}") from error
            return [self._unreachable(rolled_back(before, generation), error)]
        # a raise that was under way may have written its file after ours
        file_error = await self._write(after)
        told = _RETIRED if after.retired else file_error
        return [NodeState(node=self._node, reachable=True, state=_state(after), error=told)]

    async def ready(self) -> bool:
        """Tell whether a rollback would be answered now; see `ports.RollbackSwitch`."""
        try:
            await self._runtime.maps()
        except CrossfadeError:
            return False
        return True

    async def close(self) -> None:
        """Let go of the connection."""
        await self._runtime.close()

    def _unreachable(self, written: Maps, error: CrossfadeError) -> NodeState:
        said = str(error)
        text = f"{said}{'' if said.endswith('?') else '.'} Its files are written: it will come back with everyone on V1"
        return NodeState(
            node=self._node,
            reachable=not isinstance(error, ProxyUnreachableError),
            state=None if isinstance(error, ProxyUnreachableError) else _state(written),
            error=text,
        )

    async def _write(self, maps: Maps) -> str:
        """Write the files and return "" or what went wrong."""
        try:
            async with asyncio.timeout(_FILE_S):
                await asyncio.to_thread(write_files, self._directory, maps)
        except TimeoutError:
            return f"the state files in {self._directory} could not be written within {_FILE_S} s"
        except OSError as error:
            return (
                f"the state files in {self._directory} could not be written ({error.strerror or error}): "
                "a restarted proxy would come back with the old split"
            )
        return ""

    async def _set(self, generation: int | None) -> Maps:
        """Set the memory until it reads as rolled back, and return it."""
        # said before anything is asked: this alone puts everyone on V1
        await self._runtime.do(f"set map {INT_MAP} {KILL} 1")
        found = await self._runtime.maps()
        if found.retired:
            return await self._let_go()
        goal = rolled_back(found, generation)
        # counted last: whoever reads the new count, and could not see it change, reads as well whom it outdates
        keys = [ROLLED_BACK, ROLLBACKS, GENERATION, *share_keys(goal.ints)]
        for _ in range(_ATTEMPTS):
            await self._runtime.set([(INT_MAP, key, str(goal.ints[key])) for key in (KILL, *keys)])
            now = await self._runtime.maps()
            if now.retired:
                return await self._let_go()
            if all(now.ints.get(key) == goal.ints[key] for key in (KILL, *keys)):
                return now
        raise ReadBackError(f"the proxy at {self._directory} does not keep the rollback: {dict(now.ints)}")

    async def _let_go(self) -> Maps:
        """End our kill, which moves nobody where V1 has just been retired."""
        await self._runtime.do(f"set map {INT_MAP} {KILL} 0")
        return await self._runtime.maps()


def _state(maps: Maps) -> ProxyState | None:
    try:
        return decode(maps)
    except ReadBackError:
        return None


def _on_disk(directory: Path) -> Maps:
    """Return the maps on disk; where they are damaged, the least a proxy needs to start with everyone on V1."""
    try:
        return read_files(directory)
    except (OSError, ReadBackError):
        retired = False
        with suppress(OSError, ReadBackError):
            retired = read_retired(directory)
        return Maps(ints={GENERATION: 0, HEADERS: 0, SPLIT: 0}, headers={}, retired=retired)

"""HAProxy's runtime API on one connection that stays open.

A connection in prompt mode answers each command with text that ends in a prompt. It is kept because each new one
costs a task in the proxy, and serialized because answers carry no name.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from crossfade.adapters.haproxy.render import EXEMPT_MAP, HEADER_MAP, INT_MAP, RETIRED_MAP, RUNTIME_SOCKET
from crossfade.adapters.haproxy.state import Maps, parse_exempt, parse_ints, parse_pairs, parse_retired
from crossfade.errors import ProxyRefusedError, ProxyUnreachableError, ReadBackError

PID = "haproxy.pid"
"""File that holds the number of the running process, written anew by whoever starts one."""
DEADLINE_S = 1.0
"""How long one command may take: HAProxy answers in well under a millisecond."""
_PROMPT = b"\n> "
_ENTRIES_PER_COMMAND = 100  # of a payload that has to fit HAProxy's 16 KiB buffer
_PAYLOAD_BYTES_MAX = 8000
_REPLY_BYTES_MAX = 4 * 1024 * 1024


class Runtime:
    """Commands to one HAProxy; reconnects by itself, once a command.

    Raises ProxyUnreachableError where nobody answers in time, ProxyRefusedError where a command is refused and
    ReadBackError where the answer makes no sense.
    """

    def __init__(self, directory: Path, *, deadline_s: float = DEADLINE_S) -> None:
        self._directory = directory
        self._deadline_s = deadline_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._asked: tuple[int, int] | None = None
        """Which process the connection is to."""
        self._one_at_a_time = asyncio.Lock()

    async def ask(self, command: str) -> str:
        """Return the answer to one command without its closing blank line."""
        async with self._one_at_a_time:
            if self.outdated:
                self._drop()  # to a process that was replaced and only finishes its clients
            reused = self._streams is not None
            try:
                return await self._exchange(command)
            except (ProxyUnreachableError, ReadBackError):
                self._drop()
                if not reused:
                    raise
            # the proxy may have been restarted since; every command here may be said twice
            try:
                return await self._exchange(command)
            except BaseException:
                self._drop()
                raise

    async def do(self, command: str) -> None:
        """Give a command whose success is an empty answer; raises ProxyRefusedError with the answer otherwise."""
        answer = (await self.ask(command)).strip()
        if answer:
            raise ProxyRefusedError(f"the proxy refused `{command.splitlines()[0]}`: {answer}")

    async def info(self) -> dict[str, str]:
        """Return `show info` as names and values."""
        lines = (await self.ask("show info")).splitlines()
        return {name: value.strip() for name, found, value in (line.partition(":") for line in lines) if found}

    async def maps(self) -> Maps:
        """Return the state maps as the proxy has them in memory."""
        ints = parse_ints(_without_addresses(await self.ask(f"show map {INT_MAP}")), INT_MAP)
        headers = parse_pairs(_without_addresses(await self.ask(f"show map {HEADER_MAP}")), HEADER_MAP)
        answer = await self.ask(f"show map {RETIRED_MAP}")
        known = not answer.startswith("Unknown map")  # to a proxy that an earlier version of ours has started
        retired = known and parse_retired(_without_addresses(answer))
        answer = await self.ask(f"show map {EXEMPT_MAP}")
        known = not answer.startswith("Unknown map")  # the plan exempts nobody
        exempt = parse_exempt(_without_addresses(answer)) if known else frozenset[str]()
        return Maps(ints=ints, headers=headers, retired=retired, exempt=exempt)

    async def set(self, steps: Sequence[tuple[str, str, str]]) -> None:
        """Set map entries one after the other, in order."""
        for name, key, value in steps:
            await self.do(f"set map {name} {key} {value}")

    async def replace(self, name: str, entries: Sequence[tuple[str, str]]) -> None:
        """Replace a whole map at once for all requests: entries of (key, value)."""
        answer = await self.ask(f"prepare map {name}")
        match = re.search(r"version created: (\d+)", answer)
        if match is None:
            raise ProxyRefusedError(f"the proxy refused to prepare a new {name}: {answer.strip()}")
        version = match[1]
        for payload in _payloads(entries):
            await self.do(f"add map @{version} {name} <<\n{payload}")
        await self.do(f"commit map @{version} {name}")

    @property
    def outdated(self) -> bool:
        """Tell whether another process was put in the place of the one that was asked last."""
        return self._asked != self._process()

    async def close(self) -> None:
        """Close the connection; the next command opens another."""
        async with self._one_at_a_time:
            self._drop()

    def _drop(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _exchange(self, command: str) -> str:
        try:
            async with asyncio.timeout(self._deadline_s):
                if self._streams is None:
                    self._streams = await self._connected()
                reader, writer = self._streams
                writer.write(command.encode() + b"\n")
                answer = await reader.readuntil(_PROMPT)
        except TimeoutError as error:
            raise ProxyUnreachableError(
                f"the proxy at {self._directory} did not answer within {self._deadline_s:g} s"
            ) from error
        except (OSError, asyncio.IncompleteReadError) as error:
            raise ProxyUnreachableError(
                f"the proxy at {self._directory} can't be reached ({error}); is it running?"
            ) from error
        except asyncio.LimitOverrunError as error:
            raise ReadBackError(f"the proxy's answer to `{command}` has no end") from error
        try:
            # while it reads a payload, HAProxy prompts for each line with "+ "
            return re.sub(r"\A(\+ )+", "", answer.removesuffix(_PROMPT).decode())
        except UnicodeDecodeError as error:
            raise ReadBackError(f"the proxy's answer to `{command}` is no text") from error

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._asked = self._process()
        connection = connect(self._directory)
        reader, writer = await asyncio.open_unix_connection(sock=connection, limit=_REPLY_BYTES_MAX)
        writer.write(b"prompt\n")
        await reader.readuntil(_PROMPT)
        return reader, writer

    def _process(self) -> tuple[int, int] | None:
        """Tell one proxy process from the next, which takes over even its sockets; None where none was noted."""
        try:
            noted = (self._directory / PID).stat()
        except OSError:
            return None
        return noted.st_ino, noted.st_mtime_ns


def connect(directory: Path) -> socket.socket:
    """Return a connection to the control socket in a directory however long its path is; raises OSError."""
    connection = socket.socket(socket.AF_UNIX)
    try:
        anchor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            connection.connect(f"/proc/self/fd/{anchor}/{RUNTIME_SOCKET}")
        finally:
            os.close(anchor)
    except BaseException:
        connection.close()
        raise
    connection.setblocking(False)
    return connection


def _without_addresses(text: str) -> str:
    """Return `show map` lines without the memory address that each begins with."""
    lines = text.splitlines()
    if any(line and not line.startswith("0x") for line in lines):
        raise ReadBackError(f"the proxy's answer is no map: {text[:200]!r}")
    return "\n".join(line.partition(" ")[2] for line in lines)


def _payloads(entries: Sequence[tuple[str, str]]) -> list[str]:
    """Return the entries as payloads small enough for one command, each closed by an empty line."""
    payloads: list[str] = []
    lines: list[str] = []
    size = 0
    for key, value in entries:
        line = f"{key} {value}\n"
        if lines and (len(lines) == _ENTRIES_PER_COMMAND or size + len(line) > _PAYLOAD_BYTES_MAX):
            payloads.append("".join(lines))
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        payloads.append("".join(lines))
    return payloads

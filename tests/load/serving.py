"""A small server in the test's own loop, told what to answer."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

JSON = b"Content-Type: application/json\r\n"


def answer(body: bytes = b"{}", status: str = "200 OK", more: bytes = JSON) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n".encode() + more + b"\r\n" + body


@dataclass
class Asked:
    """What the server was asked."""

    port: int = 0
    requests: int = 0
    hoped_for: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once there were `hope` requests."""
    hope: int = 0
    users: Counter[str] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)


@asynccontextmanager
async def serving(reply: Callable[[int], bytes | float | None] = lambda _: answer()) -> AsyncIterator[Asked]:
    """Serve; `reply` gets a request's number from 0: bytes are sent, None closes, a number waits before `answer()`."""
    asked = Asked()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                number, asked.requests = asked.requests, asked.requests + 1
                if asked.requests == asked.hope:
                    asked.hoped_for.set()
                if found := re.search(r"^X-User-Id: (\S+)\r$", head, re.MULTILINE):
                    asked.users[found[1]] += 1
                asked.lines.append(head.split("\r\n")[0])
                asked.heads.append(head)
                said = reply(number)
                if said is None:
                    return
                if not isinstance(said, bytes):
                    await asyncio.sleep(said)
                    said = answer()
                writer.write(said)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=2000)
    asked.port = server.sockets[0].getsockname()[1]
    try:
        yield asked
    finally:
        server.close()

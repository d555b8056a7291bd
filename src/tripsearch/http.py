"""ASGI in the few words that the hot paths need; everything else is Starlette's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

Headers = list[tuple[bytes, bytes]]

JSON = b"application/json"


def response_start(status: int, content_type: bytes, length: int, headers: Headers) -> Message:
    """The beginning of an answer whose body has so many bytes."""
    return {
        "type": "http.response.start",
        "status": status,
        "headers": [(b"content-type", content_type), (b"content-length", b"%d" % length), *headers],
    }


async def respond(send: Send, status: int, content_type: bytes, body: bytes, headers: Headers) -> None:
    """One whole answer. A client that has gone is not an error."""
    await send(response_start(status, content_type, len(body), headers))
    await send({"type": "http.response.body", "body": body})


async def unless_gone(wanted: Awaitable[object], receive: Receive) -> bool:
    """Wait for something, or until the client has gone: whether it came. What it raises is raised."""
    tasks = [asyncio.ensure_future(wanted), asyncio.ensure_future(_disconnected(receive))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            await tasks[0]
            return True
        return False
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

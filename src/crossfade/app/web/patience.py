"""How long a client may take to say what it wants: connections that never say it are hung up on.

uvicorn bounds only the idle time between two requests. A client that sends its headers a byte at a time would hold a
connection for ever, and one that sends headers without end would fill the memory.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

HEADERS_S = 10.0
"""From the connection, or the last answer, to the end of a request's headers."""
BODY_S = 60.0
"""From there to the end of its body."""
HEADER_BYTES = 64 * 1024
"""Of a request's headers, its path included."""
CONNECTIONS = 768
"""When there are more, those that have waited longest without a request make room; the usual limit of open files is
1,024, and a rollback must get a connection."""


class Patience(HttpToolsProtocol):
    """uvicorn's protocol with bounds on what it waits for."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._timer: asyncio.TimerHandle | None = None
        self._header_bytes: int | None = 0
        """Received of the headers that are awaited; None while none are."""
        self._in_body = False
        self.waits_since: float | None = None
        """Loop time since which this connection has asked for nothing; None while it does."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Await the first request."""
        super().connection_made(transport)
        self._await_headers()
        if len(self.connections) > CONNECTIONS:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Await nothing any more."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless the headers are too long."""
        if self._header_bytes is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes is not None and self._header_bytes > HEADER_BYTES and not self.transport.is_closing():
            self.transport.write(STATUS_LINE[431] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()

    def on_headers_complete(self) -> None:
        """Await the body."""
        self._header_bytes = self.waits_since = None
        self._in_body = True
        self._arm(BODY_S)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Await nothing until the answer is given."""
        super().on_message_complete()
        self._in_body = False
        self._disarm()
        if self.cycle.response_complete:
            self._await_headers()

    def on_response_complete(self) -> None:
        """Await the next request, unless it is here already, or the rest of a body that was refused."""
        super().on_response_complete()
        if self._in_body:
            self._arm(HEADERS_S)
        elif self.cycle.response_complete:
            self._await_headers()

    def _await_headers(self) -> None:
        self._header_bytes, self.waits_since = 0, self.loop.time()
        self._arm(HEADERS_S)

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self.transport.abort)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _make_room(self) -> None:
        waiting = [one for one in self.connections if isinstance(one, Patience) and one is not self]
        waiting = [one for one in waiting if one.waits_since is not None]
        if waiting:
            min(waiting, key=lambda one: one.waits_since or 0.0).transport.abort()

"""A real mail server on loopback, which keeps what it takes and answers as it is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from threading import Event, Thread
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class Postbox:
    """Keeps aiosmtpd's interface of handlers."""

    port: int = 0
    came: list[Envelope] = field(default_factory=list)
    arrived: Event = field(default_factory=Event)
    recipient: Callable[[str], str] = lambda _: "250 OK"
    data: Callable[[str], str] = lambda _: "250 OK, kept"

    @property
    def mails(self) -> list[EmailMessage]:
        return [message_from_bytes(bytes(one.content or b""), policy=policy.default) for one in self.came]  # type: ignore[arg-type]

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        said = self.recipient(address)
        if said.startswith("250"):
            envelope.rcpt_tos.append(address)
            envelope.rcpt_options.extend(options)
        return said

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        said = self.data(envelope.rcpt_tos[0])
        if said.startswith("250"):
            self.came.append(envelope)
        self.arrived.set()
        return said


def _knows(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"crossfade", b"p@ss:word")
    return AuthResult(success=good, handled=False)


@contextmanager
def postbox(*, tls: ssl.SSLContext | None = None, auth: bool = False) -> Iterator[Postbox]:
    """Serve at a free port; with TLS from the first byte where a context is given."""
    box = Postbox()
    login: dict[str, Any] = {"authenticator": _knows, "auth_required": True, "auth_require_tls": False}  # on loopback
    loop = asyncio.new_event_loop()

    def protocol() -> SMTP:
        return SMTP(box, hostname="localhost", enable_SMTPUTF8=True, loop=loop, **(login if auth else {}))

    thread = Thread(target=loop.run_forever)
    thread.start()
    opening = loop.create_server(protocol, "127.0.0.1", 0, ssl=tls)
    server = asyncio.run_coroutine_threadsafe(opening, loop).result(20)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        asyncio.run_coroutine_threadsafe(_ended(server), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _ended(server: asyncio.Server) -> None:
    server.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

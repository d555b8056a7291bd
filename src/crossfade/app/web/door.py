"""The door: which names it answers to, who comes in, how much they may bring, and what is written down of them."""

from __future__ import annotations

import asyncio
import logging
import math
import re
from dataclasses import replace
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import HTTPException, Request, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crossfade.app.web.access import FAILURES_S, Caller
from crossfade.app.web.ofrep import PREFIX as OFREP
from crossfade.app.web.once import REPLAYED
from crossfade.app.web.problems import note, problem, problem_of
from crossfade.app.web.served import Served
from crossfade.core.access import Act
from crossfade.errors import CrossfadeError, StoreError

log = logging.getLogger("crossfade.api")

BODY_BYTES = 2 * 2**20
"""The largest body that is read."""
STRANGERS = 30
"""Refusals of unknown callers that are written down per minute; the others are counted."""
AUDIT_WAIT_S = 1.0
"""How long an answer waits for its act to be written down; on a disk that hangs the writing goes on without it."""

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:@/\[\]]+)(:\d{1,5})?")
_SAFE = ("GET", "HEAD", "OPTIONS")
_INTENTS = ("x-crossfade-request", "hx-request")
"""Headers that a page of another site can't send without being asked for leave first."""
_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_API = "/api/"
FORM = "/feedback/"
"""Where users give feedback by a link of their own, which no session has a part in."""


class Door:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, served: Served) -> None:
        self._app = app
        self._served = served
        self._strangers: list[float] = []
        self._left_out = 0
        self._writing: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here; write down what was asked for."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request.state.caller, request.state.detail = None, ""
        answered = False

        async def noting(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                if not any(name.lower() == REPLAYED.lower().encode() for name, _ in message["headers"]):
                    await self._note(request, message["status"])
                if request.url.path.startswith((_API, OFREP)):
                    message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        try:
            refusal = await self._refusal(request)
            if refusal is None:
                await self._app(scope, _limited(receive), noting)
            else:
                await note(request, refusal)(scope, receive, noting)
        finally:
            if not answered:
                await self._note(request, 500)

    # ── letting in ──────────────────────────────────────────────────────────────────────────────────────

    async def _refusal(self, request: Request) -> Response | None:
        """Return why a request is not let in; None where it is."""
        host = request.headers.get("host", "")
        if not self._answers_to(host):
            names = " and ".join((*_LOOPBACK, *self._served.exposure.names))
            return problem(400, "Refused", f"the control API answers to {names}, not {host!r}; see --host-name")
        try:
            told = int(request.headers.get("content-length", "0"))
        except ValueError:
            told = BODY_BYTES + 1
        if told > BODY_BYTES:
            return problem_of(_too_large())
        try:
            request.state.caller = await self._caller(request)
        except (HTTPException, CrossfadeError) as error:
            return problem_of(error) if self._wants_caller(request) else None
        if request.state.caller is None and self._wants_caller(request):
            return problem_of(_unauthorized("send a token as `Authorization: Bearer TOKEN`, or log in"))
        return _forged(request)

    def _answers_to(self, host: str) -> bool:
        """Tell whether a Host is one of ours: a page can reach this address under a name of its own (DNS rebinding)."""
        match = _HOST.fullmatch(host)
        name = match[1].lower() if match else ""
        if name in _LOOPBACK or name in self._served.exposure.names:
            return True
        return not self._served.exposure.loopback and _is_address(name)

    def _wants_caller(self, request: Request) -> bool:
        path = request.url.path
        return path.startswith((_API, OFREP)) or (path == "/metrics" and not self._served.exposure.loopback)

    async def _caller(self, request: Request) -> Caller | None:
        """Return who is asking; None where they don't say, HTTPException where what they say is wrong."""
        access, given = self._served.access, request.headers.get("authorization", "")
        if given:
            caller = await access.by_secret(given.removeprefix("Bearer ")) if given.startswith("Bearer ") else None
            if caller is None and self._wants_caller(request):
                raise self._failed(request)
            return caller
        cookie = request.cookies.get(self._served.cookie)
        return None if not cookie else await access.by_session(cookie)

    def _failed(self, request: Request) -> HTTPException:
        """Count a wrong credential. A right one is never refused for it: a rollback can't wait for a stranger."""
        failures, address = self._served.failures, address_of(request)
        if failures.wait_s(address) > 0:
            return too_many(failures.wait_s(address))
        failures.add(address)
        return _unauthorized(
            "this token is unknown, expired or revoked", 'Bearer realm="crossfade", error="invalid_token"'
        )

    # ── writing down ────────────────────────────────────────────────────────────────────────────────────

    async def _note(self, request: Request, status: int) -> None:
        """Write an act down before it is answered, so that whoever has the answer finds it in the record."""
        if self._worth_noting(request, status):
            writing = asyncio.create_task(self._record(request, status))
            self._writing.add(writing)  # or a client that leaves would take the record with it
            writing.add_done_callback(self._writing.discard)
            await asyncio.wait({writing}, timeout=AUDIT_WAIT_S)

    def _worth_noting(self, request: Request, status: int) -> bool:
        if getattr(request.state, "unnoted", False) and status < 400:
            return False
        acts = request.url.path.startswith((_API, OFREP)) or hasattr(request.state, "act")
        return (request.method not in _SAFE and acts) or status in (401, 429)

    async def _record(self, request: Request, status: int) -> None:
        state, caller = request.state, request.state.caller
        parts = request.url.path.split("/")
        # whoever reads a form's link speaks for its user
        path = FORM if request.url.path.startswith(FORM) else request.url.path
        known = parts[1:4] == ["api", "v1", "rollouts"] and len(parts) == 6 and request.method not in _SAFE
        act = Act(
            at=self._served.wall.now(),
            by=str(getattr(state, "by", "")) or ("" if caller is None else caller.name),
            role="" if caller is None else caller.role,
            address=address_of(request),
            act=getattr(state, "act", "") or (parts[5] if known else f"{request.method} {path}")[:200],
            rollout=parts[4][:200] if known else "",
            reason=getattr(state, "reason", ""),
            status=status,
            detail=state.detail[:1000],
        )
        if caller is None and status >= 400 and not self._has_room():
            self._left_out += 1
            return
        left_out, self._left_out = self._left_out, 0
        try:
            await self._served.audit.append(replace(act, left_out=left_out))
        except StoreError as error:  # what was done is done, and a full disk is no reason to refuse a rollback
            self._left_out += left_out
            log.error("an act could not be written down: %s: %s", error, act)

    def _has_room(self) -> bool:
        """Tell whether one more refusal of a stranger may be written down, so that they can't wash the others away."""
        now = self._served.wall.monotonic()
        self._strangers = [at for at in self._strangers if at > now - 60.0]
        if len(self._strangers) >= STRANGERS:
            return False
        self._strangers.append(now)
        return True


def _unauthorized(detail: str, challenge: str = 'Bearer realm="crossfade"') -> HTTPException:
    return HTTPException(401, detail, {"WWW-Authenticate": challenge})


def too_many(wait_s: float) -> HTTPException:
    """Return the refusal of an address that has failed too often."""
    seconds = str(math.ceil(wait_s))
    return HTTPException(
        429,
        f"too many wrong tokens from this address within {FAILURES_S:g} s; wait {seconds} s",
        {"Retry-After": seconds},
    )


def _too_large() -> HTTPException:
    return HTTPException(413, f"a body has at most {BODY_BYTES:,} bytes, and its length in Content-Length is a number")


def _forged(request: Request) -> Response | None:
    """Refuse what another site's page may have sent with a browser's cookie."""
    caller: Caller | None = request.state.caller
    if caller is None or caller.session is None or request.method in _SAFE or request.url.path.startswith(FORM):
        return None
    if not from_our_pages(request) or not any(request.headers.get(name) for name in _INTENTS):
        return problem(
            403,
            "Refused",
            "with a session an act comes from our own pages: send Origin, and X-Crossfade-Request: 1",
        )
    return None


def from_our_pages(request: Request) -> bool:
    """Tell whether the page that sent a request is ours, by its Origin."""
    try:
        origin = urlsplit(request.headers.get("origin", ""))
    except ValueError:
        return False
    return origin.scheme in ("http", "https") and origin.netloc.lower() == request.headers.get("host", "").lower()


def address_of(request: Request) -> str:
    """Return where a request came from."""
    return "" if request.client is None else request.client.host


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def _limited(receive: Receive) -> Receive:
    """Return a `receive` that stops reading a body that is too large."""
    read = 0

    async def limited() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > BODY_BYTES:
            raise _too_large()
        return message

    return limited

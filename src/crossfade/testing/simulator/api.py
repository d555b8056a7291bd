"""How people reach a process: through its control API, called as a server calls it, without a network in between."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from starlette.types import ASGIApp, Message

from crossfade.adapters.outcomes import PostedOutcomes, UserBehaviour
from crossfade.app.api import make_api
from crossfade.app.formkey import FormKey
from crossfade.app.web.access import Access
from crossfade.app.web.served import Carried, Served
from crossfade.core.access import Act, Role, Token, digest_of
from crossfade.errors import ConflictError, UsageError
from crossfade.testing.simulator.current import current

if TYPE_CHECKING:
    from crossfade.testing.simulator.process import Process

LOCAL = "the control file's token"
VIEWER = "a viewer's token"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client got back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def done(self) -> bool:
        """Tell whether what was asked for was done."""
        return self.status < 400

    @property
    def words(self) -> str:
        """Return what it says, for the trace."""
        return "yes" if self.done else f"{self.status} {json.loads(self.body).get('detail', '')}"


class MemoryTokens:
    """Keeps `ports.TokenStore`, until the process ends."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = list(tokens)

    async def tokens(self) -> Sequence[Token]:
        """Return every token."""
        return self._tokens

    async def add(self, token: Token) -> None:
        """Keep a token; ConflictError where there is one of that name."""
        if any(other.name == token.name for other in self._tokens):
            raise ConflictError(f"there is a token {token.name!r} already")
        self._tokens.append(token)

    async def remove(self, name: str) -> Token:
        """Forget a token and return it; UsageError where there is none of that name."""
        for token in self._tokens:
            if token.name == name:
                self._tokens.remove(token)
                return token
        raise UsageError(f"there is no token {name!r}")


class MemoryAudit:
    """Keeps `ports.Audit`, until the process ends."""

    def __init__(self) -> None:
        self._acts: list[Act] = []

    async def append(self, act: Act) -> None:
        """Keep one act."""
        self._acts.append(act)

    async def latest(self, limit: int) -> Sequence[Act]:
        """Return the latest acts, newest first."""
        return self._acts[: -limit - 1 : -1]


def served_by(process: Process) -> Served:
    """Return what the API of a process speaks of, and with."""
    world = process.world
    viewer = Token(
        name="eve", role=Role.VIEWER, digest=digest_of(VIEWER), created_at=world.clock.wall, created_by="ada"
    )
    carried = Carried(
        controller=process.controller,
        store=process.parts.store,
        telemetry=process.telemetry,
        clock=process.clock,
        outcomes=PostedOutcomes(world.plan, Path("nowhere"), key=b"", tick_s=1.0),
        behaviour=UserBehaviour(world.plan, Path("nowhere"), key=b""),
        form_key=FormKey(process.controller, process.parts.store, new=lambda: b"never asked for"),
    )
    return Served(
        rollouts={world.plan.name: carried},
        wall=process.clock,
        access=Access(
            local=LOCAL,
            tokens=MemoryTokens([viewer]),
            now=lambda: world.clock.wall,
            new_secret=lambda: "never asked for",
        ),
        audit=MemoryAudit(),
    )


class _Here:
    """What is served by the process whose code is running."""

    def __getattr__(self, name: str) -> Any:
        return getattr(current.get().served, name)


@cache
def _app() -> ASGIApp:
    """Return the API of every process: to put one together takes as long as a hundred requests."""
    return make_api(cast("Served", _Here()))


async def request(
    path: str, headers: Mapping[str, str], body: Mapping[str, str] | None = None, *, secret: str = LOCAL
) -> Answer:
    """Ask the process whose code is running: a GET, or a POST where there is a body."""
    content = b"" if body is None else json.dumps(body).encode()
    sent = {
        "host": "localhost",
        "authorization": f"Bearer {secret}",
        "content-type": "application/json",
        "content-length": str(len(content)),
        **headers,
    }
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET" if body is None else "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8090),
    }
    answered: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: Message) -> None:
        answered.append(message)

    await _app()(scope, receive, send)
    start = answered[0]
    return Answer(
        start["status"],
        {name.decode().lower(): value.decode() for name, value in start["headers"]},
        b"".join(message.get("body", b"") for message in answered[1:]),
    )

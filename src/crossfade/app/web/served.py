"""What the API speaks of, and with."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from fastapi import HTTPException, Request, Response

from crossfade.adapters.outcomes import PostedOutcomes
from crossfade.app import views
from crossfade.app.meters import Meters
from crossfade.app.trend import Trend
from crossfade.app.web.access import Access, Caller, Failures
from crossfade.app.web.once import Once
from crossfade.app.web.problems import Json
from crossfade.app.web.stream import Feed
from crossfade.core.access import Role
from crossfade.engine.controller import Controller
from crossfade.ports import Audit, Clock, Store, Telemetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """From where the API can be reached."""

    loopback: bool = True
    """From this machine alone."""
    names: tuple[str, ...] = ()
    """Host names it answers to besides those of loopback."""
    tls: bool = False
    """Served with TLS, here or by a trusted proxy in front."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One controller and who may speak to it."""

    controller: Controller
    store: Store
    telemetry: Telemetry
    clock: Clock
    """Plan time."""
    outcomes: PostedOutcomes
    wall: Clock
    """Real time, for tokens, sessions and the record of acts."""
    access: Access
    audit: Audit
    exposure: Exposure = field(default_factory=Exposure)
    feed: Feed = field(default_factory=Feed)
    trend: Trend = field(default_factory=Trend)
    meters: Meters = field(default_factory=Meters)
    failures: Failures = field(init=False)
    once: Once = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "failures", Failures(self.wall.monotonic))
        object.__setattr__(self, "once", Once(self.wall.monotonic))
        self.controller.listen(self.feed.see)

    @property
    def cookie(self) -> str:
        """Return the name of the session's cookie: cookies know no ports, and each controller has its own."""
        return f"crossfade_{sha256(self.controller.plan.name.encode()).hexdigest()[:8]}"

    def status(self) -> Response:
        """Return where the rollout is."""
        return self.answer(views.status_view(self.controller, self.clock.now()))

    def answer(self, content: Any, status: int = 200) -> Response:
        """Return an answer with the revision of the rollout that it speaks of."""
        return Json(content, status, {"ETag": f'"{self.controller.rollout.revision}"'})


def caller_of(request: Request) -> Caller:
    """Return who is asking; HTTPException where nobody has said so."""
    caller: Caller | None = request.state.caller
    if caller is None:
        raise HTTPException(401, "log in, or send a token", {"WWW-Authenticate": 'Bearer realm="crossfade"'})
    return caller


class Needs:
    """A dependency: refuses callers whose role is too low."""

    def __init__(self, role: Role) -> None:
        self.role = role

    async def __call__(self, request: Request) -> Caller:
        """Return the caller, or raise 403 naming the role needed."""
        caller = caller_of(request)
        if not caller.role.covers(self.role):
            raise HTTPException(403, f"this needs the role {self.role}; the token {caller.name} has {caller.role}")
        return caller

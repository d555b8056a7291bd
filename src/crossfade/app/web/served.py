"""What the API speaks of, and with: each rollout's parts by name, and what all of them share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any

from fastapi import Depends, HTTPException, Path, Request, Response

from crossfade.adapters.outcomes import PostedOutcomes, UserBehaviour
from crossfade.app import views
from crossfade.app.formkey import FormKey
from crossfade.app.meters import Meters
from crossfade.app.notices import Outbox
from crossfade.app.owners import OwnerOutbox
from crossfade.app.regions import Regions
from crossfade.app.trend import Trend
from crossfade.app.web.access import Access, Caller, Failures
from crossfade.app.web.once import Once
from crossfade.app.web.problems import Json
from crossfade.app.web.stream import Feed
from crossfade.core.access import Role
from crossfade.engine.controller import Controller
from crossfade.ports import Audit, Clock, Store, Telemetry

SHOWN = 5
"""Names that a refusal tells."""


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
class Carried:
    """One rollout that this process carries out, with its parts."""

    controller: Controller
    store: Store
    telemetry: Telemetry
    clock: Clock
    """Plan time."""
    outcomes: PostedOutcomes
    behaviour: UserBehaviour
    form_key: FormKey
    """Signs links to the feedback form."""
    feed: Feed = field(default_factory=Feed)
    trend: Trend = field(default_factory=Trend)
    meters: Meters = field(default_factory=Meters)
    outbox: Outbox | None = None
    """None where nobody is told anything."""
    owners: OwnerOutbox | None = None
    """None where the plan tells owners of clients nothing."""
    regions: Regions = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "regions", Regions(self.controller.plan, self.meters.region))
        self.controller.listen(self.feed.see)
        self.controller.listen(self.regions.see)
        self.meters.listen(self.regions.closed)

    @property
    def name(self) -> str:
        """Return the rollout's name."""
        return self.controller.plan.name

    def status(self) -> Response:
        """Return where the rollout is."""
        return self.answer(views.status_view(self.controller, self.clock.now()))

    def answer(self, content: Any, status: int = 200) -> Response:
        """Return an answer with the revision of the rollout that it speaks of."""
        return Json(content, status, {"ETag": f'"{self.controller.rollout.revision}"'})


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """All rollouts of one process, and who may speak to them."""

    rollouts: Mapping[str, Carried]
    """By name; at least one."""
    wall: Clock
    """Real time, for tokens, sessions and the record of acts."""
    access: Access
    audit: Audit
    exposure: Exposure = field(default_factory=Exposure)
    failures: Failures = field(init=False)
    once: Once = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "failures", Failures(self.wall.monotonic))
        object.__setattr__(self, "once", Once(self.wall.monotonic))

    @property
    def cookie(self) -> str:
        """Return the name of the session's cookie: cookies know no ports, and each process has its own."""
        return f"crossfade_{sha256(chr(10).join(sorted(self.rollouts)).encode()).hexdigest()[:8]}"

    @property
    def revision(self) -> int:
        """Return what rises whenever something happens to any of the rollouts; of a single one, its revision."""
        return sum(carried.controller.rollout.revision for carried in self.rollouts.values())

    @property
    def streams(self) -> int:
        """Return how many streams of events are open."""
        return sum(carried.feed.open for carried in self.rollouts.values())

    def end_streams(self) -> None:
        """End every stream at once."""
        for carried in self.rollouts.values():
            carried.feed.close()

    async def kept(self) -> Sequence[str]:
        """Return the names of all rollouts in the store, those that others carry out included.

        Where each rollout has a store of its own there is nobody else's in them.
        """
        first, *more = {id(carried.store): carried.store for carried in self.rollouts.values()}.values()
        return list(self.rollouts) if more else await first.rollouts()


async def carried_by(request: Request, name: Annotated[str, Path(max_length=200)]) -> Carried:
    """Return the rollout that a path names; HTTPException where this process carries out no such one."""
    rollouts = request.app.state.served.rollouts
    found: Carried | None = rollouts.get(name)
    if found is None:
        shown = ", ".join(list(rollouts)[:SHOWN]) + (
            f" and {len(rollouts) - SHOWN} more" if len(rollouts) > SHOWN else ""
        )
        raise HTTPException(404, f"this controller runs {shown}, not {name}")
    return found


Named = Annotated[Carried, Depends(carried_by)]
"""A parameter: the rollout that the path names."""


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

"""What can be seen of the rollouts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse

from crossfade.app import views
from crossfade.app.web import schemas
from crossfade.app.web.problems import Json
from crossfade.app.web.served import Carried, Named, Served, caller_of
from crossfade.app.web.stream import STREAMS

_Count = Annotated[int, Query(ge=0, le=2**53)]
_Limit = Annotated[int, Query(ge=1, le=1000)]


def add_list(router: APIRouter, served: Served) -> None:
    """Add what speaks of no single rollout."""

    @router.get("/rollouts", tags=["rollouts"], response_model=list[schemas.RolloutLine])
    async def rollouts() -> Response:
        """List the rollouts that this process carries out, and the others in its stores."""
        controllers = [carried.controller for carried in served.rollouts.values()]
        lines = views.rollouts_view(controllers, await served.kept())
        return Json(lines, 200, {"ETag": f'"{served.revision}"'})

    @router.get("/me", tags=["access"], response_model=schemas.Me)
    async def me(request: Request) -> Response:
        """Tell who is asking."""
        caller = caller_of(request)
        return Json({"name": caller.name, "role": caller.role, "local": caller.local})


def add_reads(router: APIRouter) -> None:
    """Add what can be seen of one rollout."""

    @router.get("", tags=["rollouts"], response_model=schemas.Status)
    async def status(carried: Named) -> Response:
        """Tell where the rollout is, why, and what comes next."""
        return carried.status()

    @router.get("/plan", tags=["rollouts"], response_model=schemas.PlanView)
    async def plan(carried: Named) -> Response:
        """Give the plan's outline."""
        return carried.answer(views.plan_view(carried.controller.plan))

    @router.get("/phases", tags=["rollouts"], response_model=list[schemas.Phase])
    async def phases(carried: Named) -> Response:
        """Give the plan's phases with their gates; those of the present one with verdict, evidence and time left."""
        return carried.answer(views.phases_view(carried.controller))

    @router.get("/metrics", tags=["rollouts"], response_model=list[schemas.Metric])
    async def metrics(carried: Named) -> Response:
        """Give every metric: target, guardrail, values, ratio with its band, evidence beside what it takes, regions."""
        return carried.answer(views.metrics_view(carried.controller, carried.regions))

    @router.get("/trend", tags=["rollouts"], response_model=list[schemas.TrendPoint])
    async def trend(carried: Named, points: Annotated[int, Query(ge=1, le=2000)] = 240) -> Response:
        """Give how split and metrics have gone, oldest first, thinned to so many points at most."""
        return carried.answer(views.trend_view(carried.trend.points, points))

    @router.get("/nodes", tags=["rollouts"], response_model=list[schemas.Node])
    async def nodes(carried: Named) -> Response:
        """Give what every node of the proxy reports of itself."""
        return carried.answer([views.asdict_node(node) for node in carried.controller.nodes])

    @router.get("/users/{user:path}", tags=["rollouts"], response_model=schemas.Whois)
    async def whois(request: Request, carried: Named, user: str) -> Response:  # noqa: ARG001 - read from the raw path
        """Tell which version a user gets now, and why."""
        # The decoded path has lost what is no UTF-8; the proxy hashes bytes as they are.
        raw = request.scope["raw_path"].partition(b"/users/")[2]
        key = unquote_to_bytes(raw).decode(errors="surrogateescape")
        controller, rollout = carried.controller, carried.controller.rollout
        split, phase = rollout.wanted_split(controller.plan), controller.plan.phases[rollout.phase].name
        told = views.whois_view(
            controller.plan, key, split, killed=rollout.wanted_killed, phase=phase, members=controller.members
        )
        return carried.answer(told)


def add_history(router: APIRouter, served: Served) -> None:
    """Add what happened, in pages and as a stream."""

    @router.get("/events", tags=["history"], response_model=schemas.EventPage)
    async def events(request: Request, carried: Named, after: _Count = 0, limit: _Limit = 100) -> Response:
        """Give a page of what happened, oldest first."""
        found = await carried.store.events(carried.name, after)
        items = [{"revision": e.revision, "at": e.at, "kind": e.kind, "data": e.data} for e in found[:limit]]
        more = _next(request, after=items[-1]["revision"], limit=limit) if len(found) > limit else None
        return carried.answer({"items": items, "next": more})

    @router.get("/decisions", tags=["history"], response_model=schemas.DecisionPage)
    async def decisions(request: Request, carried: Named, before: _Count | None = None, limit: _Limit = 50) -> Response:
        """Give a page of decisions with what they rested on, newest first."""
        found = list(await carried.store.decisions(carried.name, limit + 1, before))
        items = found[:limit]
        more = _next(request, before=items[-1]["number"], limit=limit) if len(found) > limit else None
        return carried.answer({"items": items, "next": more})

    @router.get(
        "/events/stream",
        tags=["history"],
        response_class=StreamingResponse,
        responses={200: {"description": "Events as they happen.", "content": {"text/event-stream": _STREAM}}},
    )
    async def stream(
        request: Request,
        carried: Named,
        after: Annotated[_Count | None, Query(description="Begin after this revision; default: now.")] = None,
        last_event_id: Annotated[str | None, Header(pattern=r"^\d{1,15}$", description="Beats `after`.")] = None,
    ) -> Response:
        """Follow events as they happen: `id` is the revision, `event` the kind, `data` the event as JSON."""
        if served.streams >= STREAMS:
            raise HTTPException(503, f"{STREAMS} streams are open already; close some", {"Retry-After": "10"})
        begin = carried.controller.rollout.revision if after is None else after
        if last_event_id is not None:
            begin = int(last_event_id)
        return StreamingResponse(_follow(request, served, carried, begin), media_type="text/event-stream")


_STREAM: dict[str, Any] = {
    "schema": {"type": "string"},
    "example": "id: 18\nevent: Paused\n"
    'data: {"revision":18,"at":1790000000.0,"kind":"Paused","data":{"by":"ada","reason":"lunch"}}\n\n',
}


def _follow(request: Request, served: Served, carried: Carried, begin: int) -> AsyncIterator[bytes]:
    caller = caller_of(request)
    return carried.feed.messages(carried.store, carried.name, begin, lambda: served.access.still(caller))


def _next(request: Request, **query: object) -> str:
    asked = "&".join(f"{key}={value}" for key, value in query.items())
    return f"{request.url.path}?{asked}"

"""What can be seen of a rollout."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse

from crossfade.app import views
from crossfade.app.web import schemas
from crossfade.app.web.problems import Json
from crossfade.app.web.served import Served, caller_of
from crossfade.app.web.stream import STREAMS

_Count = Annotated[int, Query(ge=0, le=2**53)]
_Limit = Annotated[int, Query(ge=1, le=1000)]


def add_list(router: APIRouter, served: Served) -> None:
    """Add what speaks of no single rollout."""

    @router.get("/rollouts", tags=["rollouts"], response_model=list[schemas.RolloutLine])
    async def rollouts() -> Response:
        """List the rollouts of this controller's store; it carries out one of them."""
        return served.answer(views.rollouts_view(served.controller, await served.store.rollouts()))

    @router.get("/me", tags=["access"], response_model=schemas.Me)
    async def me(request: Request) -> Response:
        """Tell who is asking."""
        caller = caller_of(request)
        return Json({"name": caller.name, "role": caller.role, "local": caller.local})


def add_reads(router: APIRouter, served: Served) -> None:
    """Add what can be seen of one rollout."""
    controller = served.controller

    @router.get("", tags=["rollouts"], response_model=schemas.Status)
    async def status() -> Response:
        """Tell where the rollout is, why, and what comes next."""
        return served.status()

    @router.get("/plan", tags=["rollouts"], response_model=schemas.PlanView)
    async def plan() -> Response:
        """Give the plan's outline."""
        return served.answer(views.plan_view(controller.plan))

    @router.get("/phases", tags=["rollouts"], response_model=list[schemas.Phase])
    async def phases() -> Response:
        """Give the plan's phases with their gates; those of the present one with verdict, evidence and time left."""
        return served.answer(views.phases_view(controller))

    @router.get("/metrics", tags=["rollouts"], response_model=list[schemas.Metric])
    async def metrics() -> Response:
        """Give every metric: target, guardrail, values, ratio with its band, evidence beside what is needed."""
        return served.answer(views.metrics_view(controller))

    @router.get("/nodes", tags=["rollouts"], response_model=list[schemas.Node])
    async def nodes() -> Response:
        """Give what every node of the proxy reports of itself."""
        return served.answer([views.asdict_node(node) for node in controller.nodes])

    @router.get("/users/{user:path}", tags=["rollouts"], response_model=schemas.Whois)
    async def whois(request: Request, user: str) -> Response:  # noqa: ARG001 - read from the raw path
        """Tell which version a user gets now, and why."""
        # The decoded path has lost what is no UTF-8; the proxy hashes bytes as they are.
        raw = request.scope["raw_path"].partition(b"/users/")[2]
        key = unquote_to_bytes(raw).decode(errors="surrogateescape")
        rollout = controller.rollout
        split, phase = rollout.wanted_split(controller.plan), controller.plan.phases[rollout.phase].name
        return served.answer(views.whois_view(controller.plan, key, split, killed=rollout.wanted_killed, phase=phase))


def add_history(router: APIRouter, served: Served) -> None:
    """Add what happened, in pages and as a stream."""

    @router.get("/events", tags=["history"], response_model=schemas.EventPage)
    async def events(request: Request, name: str, after: _Count = 0, limit: _Limit = 100) -> Response:
        """Give a page of what happened, oldest first."""
        found = await served.store.events(name, after)
        items = [{"revision": e.revision, "at": e.at, "kind": e.kind, "data": e.data} for e in found[:limit]]
        more = _next(request, after=items[-1]["revision"], limit=limit) if len(found) > limit else None
        return served.answer({"items": items, "next": more})

    @router.get("/decisions", tags=["history"], response_model=schemas.DecisionPage)
    async def decisions(request: Request, name: str, before: _Count | None = None, limit: _Limit = 50) -> Response:
        """Give a page of decisions with what they rested on, newest first."""
        found = list(await served.store.decisions(name, limit + 1, before))
        items = found[:limit]
        more = _next(request, before=items[-1]["number"], limit=limit) if len(found) > limit else None
        return served.answer({"items": items, "next": more})

    @router.get(
        "/events/stream",
        tags=["history"],
        response_class=StreamingResponse,
        responses={200: {"description": "Events as they happen.", "content": {"text/event-stream": _STREAM}}},
    )
    async def stream(
        request: Request,
        name: str,
        after: Annotated[_Count | None, Query(description="Begin after this revision; default: now.")] = None,
        last_event_id: Annotated[str | None, Header(pattern=r"^\d{1,15}$", description="Beats `after`.")] = None,
    ) -> Response:
        """Follow events as they happen: `id` is the revision, `event` the kind, `data` the event as JSON."""
        if served.feed.open >= STREAMS:
            raise HTTPException(503, f"{STREAMS} streams are open already; close some", {"Retry-After": "10"})
        begin = served.controller.rollout.revision if after is None else after
        if last_event_id is not None:
            begin = int(last_event_id)
        return StreamingResponse(_follow(request, served, name, begin), media_type="text/event-stream")


_STREAM: dict[str, Any] = {
    "schema": {"type": "string"},
    "example": "id: 18\nevent: Paused\n"
    'data: {"revision":18,"at":1790000000.0,"kind":"Paused","data":{"by":"ada","reason":"lunch"}}\n\n',
}


def _follow(request: Request, served: Served, name: str, begin: int) -> AsyncIterator[bytes]:
    caller = caller_of(request)
    return served.feed.messages(served.store, name, begin, lambda: served.access.still(caller))


def _next(request: Request, **query: object) -> str:
    asked = "&".join(f"{key}={value}" for key, value in query.items())
    return f"{request.url.path}?{asked}"

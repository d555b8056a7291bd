"""Routes of the pages, their fragments, files and data. They only show: acts go to the API, and are checked there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

from crossfade.app.clients import client_lines, read_ledger, trend_of
from crossfade.app.dashboard import model, reference
from crossfade.app.dashboard.fragment import Fragments
from crossfade.app.views import brownouts_view
from crossfade.app.web.access import Caller
from crossfade.app.web.served import Carried, Named, Served
from crossfade.core.access import Role
from crossfade.core.words import duration, moment, percent
from crossfade.errors import CrossfadeError

_EVENTS = 30
_DECISIONS = 1000
"""Latest records that the report is made from."""
_POINTS = 240
_EVERY_S = 0.5
_CLIENTS = 500
_SAID = 100
_DAYS = 60
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@lru_cache(maxsize=1)
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("crossfade.app.dashboard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(duration=duration, moment=moment, percent=percent)
    return environment


async def _somebody(request: Request) -> Caller:
    """Return who looks; strangers are sent to the login page and come back from it."""
    caller: Caller | None = request.state.caller
    if caller is None:
        raise HTTPException(303, "log in first", {"Location": f"/login?next={quote(request.url.path)}"})
    return caller


Looking = Annotated[Caller, Depends(_somebody)]


def _show(template: str, caller: Caller, **values: Any) -> HTMLResponse:
    """Return a page."""
    text = _templates().get_template(template).render(who=caller.name, **values)
    return HTMLResponse(text, headers=_SECURITY)


def _show_one(carried: Carried, template: str, caller: Caller, **values: Any) -> HTMLResponse:
    """Return a page of a rollout."""
    head = model.head(carried.controller, carried.clock.now())
    admin = caller.role.covers(Role.ADMIN)
    retires = admin and carried.controller.plan.retires
    may = {"act": caller.role.covers(Role.OPERATOR), "abort": admin, "retire": retires}
    return _show(template, caller, head=head, may=may, **values)


async def _live(carried: Carried) -> dict[str, Any]:
    """Return what changes while one looks."""
    controller, plan = carried.controller, carried.controller.plan
    events = await carried.store.events(plan.name)
    gates = () if controller.decision is None else controller.decision.gates
    points = carried.trend.points[:: max(1, len(carried.trend.points) // _POINTS)]
    left = model.left_in_phase(gates)
    return {
        "stops": model.phases_line(plan, controller.rollout, events, carried.clock.now(), left),
        "gates": model.gate_lines(gates),
        "tiles": model.tiles(plan, controller, points, carried.regions),
        "breakers": model.breakers(plan, controller, points),
        "events": [model.row_of(event) for event in reversed(events[-_EVENTS:])],
    }


async def _draw_live(carried: Carried) -> str:
    """Return what changes as HTML: the same for whoever looks."""
    head = model.head(carried.controller, carried.clock.now())
    return _templates().get_template("live.html").render(head=head, **await _live(carried))


async def _changes(carried: Carried) -> AsyncIterator[str]:
    """Yield a server-sent event whenever the history or the evidence has changed, until the server ends."""
    last: object = None
    yield "retry: 2000\n\n"
    while not carried.feed.closed:
        present = (carried.controller.rollout.revision, carried.controller.seen)
        if present != last:
            last = present
            yield "event: changed\ndata: \n\n"
        await asyncio.sleep(_EVERY_S)


def add_dashboard(app: FastAPI, served: Served) -> None:
    """Add the pages of all rollouts."""
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")), name="static")
    router = APIRouter(include_in_schema=False)
    _add_login(router)
    _add_reference(router, app)
    _add_list(router, served)
    _add_pages(router)
    _add_rollout(router)
    app.include_router(router)


def _add_login(router: APIRouter) -> None:
    @router.get("/login")
    async def login() -> Response:
        return HTMLResponse(_templates().get_template("login.html").render(), headers=_SECURITY)


def _add_reference(router: APIRouter, app: FastAPI) -> None:
    @router.get("/docs")
    async def docs() -> Response:
        document = app.openapi()
        parts = {"operations": reference.operations(document), "schemas": reference.schemas(document)}
        text = _templates().get_template("reference.html").render(text=document["info"]["description"], **parts)
        return HTMLResponse(text, headers=_SECURITY)


def _add_list(router: APIRouter, served: Served) -> None:
    @router.get("/")
    async def rollouts(caller: Looking) -> Response:
        lines = [model.line(carried.controller) for carried in served.rollouts.values()]
        others = [name for name in await served.kept() if name not in served.rollouts]
        return _show("rollouts.html", caller, lines=lines, others=others)


async def _said(carried: Carried, caller: Caller) -> dict[str, Any]:
    """Return what users said in this phase, by version and topic, and for operators the latest words."""
    store, controller = carried.store, carried.controller
    try:
        counts = await store.feedback_counts(carried.name, controller.rollout.phase_since)
        words = await store.feedback(carried.name, limit=_SAID) if caller.role.covers(Role.OPERATOR) else []
    except CrossfadeError as error:
        return {"topics": [], "words": [], "unread": str(error)}
    return {"topics": model.topic_rows(counts), "words": [one for _, one in words if one.complaint], "unread": ""}


def _add_pages(router: APIRouter) -> None:
    @router.get("/rollouts/{name}/compare")
    async def compare(caller: Looking, carried: Named) -> Response:
        controller, plan = carried.controller, carried.controller.plan
        rows, users = model.compare_rows(plan, controller), model.behaviour(plan)
        when, half = model.at_half(plan, controller, carried.trend.points)
        parts = {
            "rows": [row for row in rows if row["name"] not in users],
            "users": [row for row in rows if row["name"] in users],
            "regions": {metric.name: model.region_lines(metric, carried.regions) for metric in plan.metrics},
            "mismatch": model.mismatch(controller.seen),
            **await _said(carried, caller),
        }
        return _show_one(carried, "compare.html", caller, **parts, when=when, half=half)

    @router.get("/rollouts/{name}/clients")
    async def clients(caller: Looking, carried: Named) -> Response:
        controller, now = carried.controller, carried.clock.now()
        ledger = await read_ledger(controller, carried.store)
        register = await carried.store.register(carried.name)
        beside: dict[str, Any] = {
            "brownouts": [model.brownout_row(one) for one in brownouts_view(controller.plan, controller.rollout)],
            "exempts": controller.plan.exempts,
            "exempt": model.exempt_rows(register, now),
            "cohorts": model.cohort_rows(controller.members),
            "left": sum(not one.cohort for one in controller.members.enrolments.values()),
            "most": _CLIENTS,
        }
        if ledger is None:
            return _show_one(carried, "clients.html", caller, trend=None, **beside)
        lines = client_lines(controller.plan, ledger, register, now)
        trend = trend_of(ledger)
        rows = [model.client_row(line) for line in lines[:_CLIENTS]]
        days = [model.client_day(day) for day in reversed(trend["days"][-_DAYS:])]
        more = max(0, len(lines) - _CLIENTS)
        return _show_one(carried, "clients.html", caller, trend=trend, rows=rows, days=days, more=more, **beside)

    @router.get("/rollouts/{name}/report")
    async def report(caller: Looking, carried: Named) -> Response:
        rows = model.compare_rows(carried.controller.plan, carried.controller)
        events = await carried.store.events(carried.name)
        decided = model.decisions(await carried.store.decisions(carried.name, _DECISIONS))
        told: dict[str, Any] = {"rows": rows, "lines": [model.row_of(event) for event in events], "decided": decided}
        when, half = model.at_half(carried.controller.plan, carried.controller, carried.trend.points)
        told |= {"incidents": model.incidents(events), "when": when, "half": half}
        return _show_one(carried, "report.html", caller, **told, **await _live(carried))


def _add_rollout(router: APIRouter) -> None:
    @router.get("/rollouts/{name}")
    async def rollout(caller: Looking, carried: Named) -> Response:
        phases = [phase.name for phase in carried.controller.plan.phases]
        return _show_one(carried, "rollout.html", caller, phases=phases, **await _live(carried))

    fragments = Fragments(_draw_live)

    @router.get("/rollouts/{name}/live", dependencies=[Depends(_somebody)])
    async def live(request: Request, carried: Named) -> Response:
        fragment, headers = await fragments.get(carried), _SECURITY | {"Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return HTMLResponse(fragment.packed, headers=headers | {"Content-Encoding": "gzip"})
        return HTMLResponse(fragment.plain, headers=headers)

    @router.get("/rollouts/{name}/changes", dependencies=[Depends(_somebody)])
    async def changes(carried: Named) -> Response:
        return StreamingResponse(_changes(carried), media_type="text/event-stream", headers=_SECURITY)

    @router.get("/rollouts/{name}/trend.json", dependencies=[Depends(_somebody)])
    async def trend(carried: Named) -> Response:
        return JSONResponse(model.trend_data(carried.trend.points), headers=_SECURITY)

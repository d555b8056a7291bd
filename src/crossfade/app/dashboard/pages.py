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

from crossfade.app.dashboard import model
from crossfade.app.web.access import Caller
from crossfade.app.web.served import Served
from crossfade.core.access import Role
from crossfade.core.words import duration, moment, percent

_EVENTS = 30
_POINTS = 240
_EVERY_S = 0.5
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


class _Pages:
    def __init__(self, served: Served) -> None:
        self.served, self.trend = served, served.trend
        self.plan = served.controller.plan

    def show(self, template: str, caller: Caller, **values: Any) -> HTMLResponse:
        """Return a page."""
        head = model.head(self.served.controller, self.served.clock.now())
        may = {"act": caller.role.covers(Role.OPERATOR), "abort": caller.role.covers(Role.ADMIN)}
        text = _templates().get_template(template).render(head=head, who=caller.name, may=may, **values)
        return HTMLResponse(text, headers=_SECURITY)

    async def live(self) -> dict[str, Any]:
        """Return what changes while one looks."""
        controller, now = self.served.controller, self.served.clock.now()
        events = await self.served.store.events(self.plan.name)
        gates = () if controller.decision is None else controller.decision.gates
        points = self.trend.points[:: max(1, len(self.trend.points) // _POINTS)]
        return {
            "stops": model.phases_line(self.plan, controller.rollout, events, now, model.left_in_phase(gates)),
            "gates": model.gate_lines(gates),
            "tiles": model.tiles(self.plan, controller, points),
            "breakers": model.breakers(self.plan, controller, points),
            "events": [model.row_of(event) for event in reversed(events[-_EVENTS:])],
        }

    async def changes(self) -> AsyncIterator[str]:
        """Yield a server-sent event whenever the history or the evidence has changed, until the server ends."""
        last: object = None
        yield "retry: 2000\n\n"
        while not self.served.feed.closed:
            present = (self.served.controller.rollout.revision, self.served.controller.seen)
            if present != last:
                last = present
                yield "event: changed\ndata: \n\n"
            await asyncio.sleep(_EVERY_S)

    def check(self, name: str) -> None:
        """Raise HTTPException where a rollout isn't this controller's."""
        if name != self.plan.name:
            raise HTTPException(404, f"this controller runs {self.plan.name}, not {name}")


def add_dashboard(app: FastAPI, served: Served) -> None:
    """Add the pages of one controller."""
    pages = _Pages(served)
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")), name="static")
    router = APIRouter(include_in_schema=False)
    _add_login(router)
    _add_lists(router, pages)
    _add_rollout(router, pages)
    app.include_router(router)


def _add_login(router: APIRouter) -> None:
    @router.get("/login")
    async def login() -> Response:
        return HTMLResponse(_templates().get_template("login.html").render(), headers=_SECURITY)


def _add_lists(router: APIRouter, pages: _Pages) -> None:
    @router.get("/")
    async def rollouts(caller: Looking) -> Response:
        others = [name for name in await pages.served.store.rollouts() if name != pages.plan.name]
        return pages.show("rollouts.html", caller, others=others)

    @router.get("/rollouts/{name}/compare")
    async def compare(name: str, caller: Looking) -> Response:
        pages.check(name)
        return pages.show("compare.html", caller, rows=model.compare_rows(pages.plan, pages.served.controller))

    @router.get("/rollouts/{name}/report")
    async def report(name: str, caller: Looking) -> Response:
        pages.check(name)
        rows = model.compare_rows(pages.plan, pages.served.controller)
        lines = [model.row_of(event) for event in await pages.served.store.events(name)]
        return pages.show("report.html", caller, rows=rows, lines=lines, **await pages.live())


def _add_rollout(router: APIRouter, pages: _Pages) -> None:
    @router.get("/rollouts/{name}")
    async def rollout(name: str, caller: Looking) -> Response:
        pages.check(name)
        phases = [phase.name for phase in pages.plan.phases]
        return pages.show("rollout.html", caller, phases=phases, **await pages.live())

    @router.get("/rollouts/{name}/live")
    async def live(name: str, caller: Looking) -> Response:
        pages.check(name)
        return pages.show("live.html", caller, **await pages.live())

    @router.get("/rollouts/{name}/changes", dependencies=[Depends(_somebody)])
    async def changes(name: str) -> Response:
        pages.check(name)
        return StreamingResponse(pages.changes(), media_type="text/event-stream", headers=_SECURITY)

    @router.get("/rollouts/{name}/trend.json", dependencies=[Depends(_somebody)])
    async def trend(name: str) -> Response:
        pages.check(name)
        return JSONResponse(model.trend_data(pages.trend.points), headers=_SECURITY)

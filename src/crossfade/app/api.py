"""The control API of one process, put together. Verbs are those of the CLI and of the events."""

from __future__ import annotations

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

from crossfade.app.dashboard import add_dashboard
from crossfade.app.telemetry import Scraped, exposition
from crossfade.app.web.clients import add_clients
from crossfade.app.web.describe import describe
from crossfade.app.web.door import Door
from crossfade.app.web.enrolments import add_enrolments
from crossfade.app.web.feedback import Flood, add_feedback
from crossfade.app.web.form import add_form
from crossfade.app.web.login import add_codes, add_login
from crossfade.app.web.ofrep import PREFIX as OFREP
from crossfade.app.web.ofrep import add_ofrep
from crossfade.app.web.outcomes import add_outcomes
from crossfade.app.web.problems import Json, add_problems, problem
from crossfade.app.web.reads import add_history, add_list, add_reads
from crossfade.app.web.served import Carried, Needs, Served, carried_by
from crossfade.app.web.tokens import add_tokens
from crossfade.app.web.verbs import add_verbs
from crossfade.core.access import Role


def make_api(served: Served) -> FastAPI:
    """Return the API and the pages of all rollouts of a process; every path below /api wants a token or a session."""
    app = FastAPI(title="Crossfade", version="1", docs_url=None, redoc_url=None)
    app.state.served = served
    add_problems(app)
    add_login(app, served)
    _add_health(app, served)
    viewer = Depends(Needs(Role.VIEWER))
    general = APIRouter(prefix="/api/v1", dependencies=[viewer])
    add_list(general, served)
    add_tokens(general, served)
    add_codes(general, served)
    one = APIRouter(prefix="/api/v1/rollouts/{name}", dependencies=[viewer, Depends(carried_by)])
    add_history(one, served)
    add_reads(one)
    add_verbs(one, served)
    add_outcomes(one, served)
    flood = Flood(served.wall.monotonic)
    add_feedback(one, served, flood)
    add_form(app, one, served, flood)
    add_clients(one, served)
    add_enrolments(one, served)
    flags = APIRouter(prefix=f"{OFREP}v1", dependencies=[viewer])
    add_ofrep(flags, served)
    app.include_router(general)
    app.include_router(flags)
    app.include_router(one)
    add_dashboard(app, served)
    app.add_middleware(Door, served=served)
    describe(app, served.cookie)
    return app


def _add_health(app: FastAPI, served: Served) -> None:
    @app.get("/healthz", tags=["health"], response_model=dict[str, str])
    async def healthz() -> Response:
        """Tell that the process answers."""
        return Json({"status": "ok"})

    @app.get("/readyz", tags=["health"], response_model=dict[str, str])
    async def readyz(request: Request) -> Response:
        """Tell whether every rollout can be acted on, and beside it which notices nobody takes.

        Strangers from elsewhere are not told why one can't.
        """
        several = len(served.rollouts) > 1
        reasons, follows, untold = [], [], []
        for name, carried in served.rollouts.items():
            controller = carried.controller
            if controller.lease is None or controller.lease.leads:  # the logbooks of one who follows are old
                untold += [f"{name}: {text}" if several else text for text in _untold(carried)]
            if controller.following and controller.fenced is not None:
                follows.append(controller.fenced)
            else:
                reasons += [f"{name}: {reason}" if several else reason for reason in _hindrances(carried)]
        told = served.exposure.loopback or request.state.caller is not None
        if reasons:
            return problem(503, "Not ready", "; ".join(reasons) if told else "ask with a token for the reasons")
        more = {"follows": follows, "notices": untold if told else []}
        return Json({"status": "ready"} | {key: "; ".join(texts) for key, texts in more.items() if texts})

    @app.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Give what Prometheus scrapes; reached from elsewhere than this machine it wants a token."""
        scraped = [
            Scraped(
                controller=c.controller,
                telemetry=c.telemetry,
                meters=c.meters,
                now=c.clock.now(),
                tellings=c.outbox.tellings if c.outbox else (),
                owners=c.owners.telling if c.owners else None,
                monotonic=c.clock.monotonic(),
            )
            for c in served.rollouts.values()
        ]
        return Response(exposition(scraped), media_type="text/plain; version=0.0.4")


def _hindrances(carried: Carried) -> list[str]:
    """Return why the controller of a rollout can't act; none where it can."""
    controller = carried.controller
    reasons = [f"{n.node}: {n.error}" for n in controller.nodes if not n.reachable]
    if controller.fenced is not None:
        reasons.append(controller.fenced)
    if not controller.nodes and not reasons:
        reasons.append("the proxy has not been asked yet")
    return reasons


def _untold(carried: Carried) -> list[str]:
    """Return which rules' latest notices were not taken, and what owners were not told; a rollout goes on without."""
    tellings = carried.outbox.tellings if carried.outbox is not None else ()
    untold = [
        f"rule {t.rule.name}: {len(t.logbook.waiting)} waiting, {t.given_up} given up; {t.trouble}"
        for t in tellings
        if t.trouble
    ]
    owners = carried.owners.telling.trouble if carried.owners is not None else ""
    return [*untold, owners] if owners else untold

"""The control API of one controller, put together. Verbs are those of the CLI and of the events."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Request, Response
from fastapi.responses import PlainTextResponse

from crossfade.app.dashboard import add_dashboard
from crossfade.app.telemetry import Scraped, exposition
from crossfade.app.web.describe import describe
from crossfade.app.web.door import Door
from crossfade.app.web.login import add_codes, add_login
from crossfade.app.web.outcomes import add_outcomes
from crossfade.app.web.problems import Json, add_problems, problem
from crossfade.app.web.reads import add_history, add_list, add_reads
from crossfade.app.web.served import Needs, Served
from crossfade.app.web.tokens import add_tokens
from crossfade.app.web.verbs import add_verbs
from crossfade.core.access import Role


def make_api(served: Served) -> FastAPI:
    """Return the API and the pages of one controller; every path below /api wants a token or a session."""
    app = FastAPI(title="Crossfade", version="1", docs_url="/docs", redoc_url=None)
    add_problems(app)
    add_login(app, served)
    _add_health(app, served)
    viewer = Depends(Needs(Role.VIEWER))
    general = APIRouter(prefix="/api/v1", dependencies=[viewer])
    add_list(general, served)
    add_tokens(general, served)
    add_codes(general, served)
    one = APIRouter(prefix="/api/v1/rollouts/{name}", dependencies=[viewer, Depends(_Name(served))])
    add_history(one, served)
    add_reads(one, served)
    add_verbs(one, served)
    add_outcomes(one, served)
    app.include_router(general)
    app.include_router(one)
    add_dashboard(app, served)
    app.add_middleware(Door, served=served)
    describe(app, served.cookie)
    return app


class _Name:
    """A dependency: refuses names of rollouts that this controller does not carry out."""

    def __init__(self, served: Served) -> None:
        self._name = served.controller.plan.name

    async def __call__(self, name: Annotated[str, Path(max_length=200)]) -> None:
        if name != self._name:
            raise HTTPException(404, f"this controller runs {self._name}, not {name}")


def _add_health(app: FastAPI, served: Served) -> None:
    controller = served.controller

    @app.get("/healthz", tags=["health"], response_model=dict[str, str])
    async def healthz() -> Response:
        """Tell that the process answers."""
        return Json({"status": "ok"})

    @app.get("/readyz", tags=["health"], response_model=dict[str, str])
    async def readyz(request: Request) -> Response:
        """Tell whether the controller can act; strangers from elsewhere are not told why it can't."""
        reasons = [f"{n.node}: {n.error}" for n in controller.nodes if not n.reachable]
        if controller.following and controller.fenced is not None:
            return Json({"status": "ready", "follows": controller.fenced})
        if controller.fenced is not None:
            reasons.append(controller.fenced)
        if reasons or not controller.nodes:
            told = served.exposure.loopback or request.state.caller is not None
            detail = "; ".join(reasons) or "the proxy has not been asked yet"
            return problem(503, "Not ready", detail if told else "ask with a token for the reasons")
        return Json({"status": "ready"})

    @app.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Give what Prometheus scrapes; reached from elsewhere than this machine it wants a token."""
        scraped = Scraped(
            controller=controller, telemetry=served.telemetry, meters=served.meters, now=served.clock.now()
        )
        return Response(exposition([scraped]), media_type="text/plain; version=0.0.4")

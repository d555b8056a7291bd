"""The control API: loopback, one token, problem+json. Verbs are those of the CLI and of the events."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

import orjson
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.base import RequestResponseEndpoint

from crossfade.adapters.outcomes import Posted, PostedOutcomes
from crossfade.app import views
from crossfade.app.telemetry import exposition
from crossfade.core.rollout import Rollout
from crossfade.engine.controller import Controller
from crossfade.errors import ConflictError, CrossfadeError, ProxyError, StoreError, UnreachableError, UsageError
from crossfade.ports import Clock, Store, Telemetry

_STATUS: tuple[tuple[type[CrossfadeError], int], ...] = (
    (UsageError, 422),
    (ConflictError, 409),
    (UnreachableError, 503),
    (ProxyError, 502),
    (StoreError, 503),
)

_AHEAD_S = 60.0
"""Plan seconds that a poster's clock may be ahead of ours."""

_LOOPBACK = ("127.0.0.1", "localhost")

_Count = Annotated[int, Query(ge=0, le=2**53)]


class Ask(BaseModel):
    """What a person says with a verb."""

    model_config = ConfigDict(extra="forbid")

    by: str = Field(default="", max_length=200)
    reason: str = Field(default="", max_length=2000)


class AskRetry(Ask):
    """A retry may name its phase."""

    phase: str | None = Field(default=None, max_length=200)


class PostedOutcome(BaseModel):
    """One outcome of one user."""

    model_config = ConfigDict(extra="forbid", strict=True)

    metric: str = Field(max_length=64)
    user: str = Field(min_length=1, max_length=512)
    value: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
    at: Annotated[AwareDatetime | None, Field(strict=False)] = None
    region: str = Field(default="", max_length=256)
    id: str = Field(default="", max_length=200)


class AskOutcomes(BaseModel):
    """A batch: all of it is taken, or nothing."""

    model_config = ConfigDict(extra="forbid")

    outcomes: Annotated[list[PostedOutcome], Field(min_length=1, max_length=1000)]


class ProblemResponse(JSONResponse):
    """RFC 9457."""

    media_type = "application/problem+json"


def _problem(status: int, title: str, detail: str) -> ProblemResponse:
    return ProblemResponse({"title": title, "status": status, "detail": detail}, status_code=status)


class Json(Response):
    """JSON by orjson: numbers that are not finite become null instead of breaking the answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS, default=_plain)


def _plain(value: object) -> object:
    """Return what orjson can write of read-only mappings and sets."""
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return dict(value)  # type: ignore[call-overload]  # anything else here is a mapping, or a fault worth seeing


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What the API speaks of."""

    controller: Controller
    store: Store
    telemetry: Telemetry
    clock: Clock
    outcomes: PostedOutcomes
    token: str

    def status(self) -> Response:
        """Return where the rollout is."""
        return Json(views.status_view(self.controller, self.clock.now()))

    async def check(self, request: Request, name: str) -> None:
        """Raise HTTPException unless the request has the token and speaks of this controller's rollout."""
        given = request.headers.get("authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            raise HTTPException(401, "send the token of control.json as `Authorization: Bearer ...`")
        if name != self.controller.plan.name:
            raise HTTPException(404, f"this controller runs {self.controller.plan.name}, not {name}")


def make_api(served: Served) -> FastAPI:
    """Return the API of one controller; every path but health and metrics wants the token."""
    app = FastAPI(title="Crossfade", version="1", docs_url="/docs", redoc_url=None)
    _add_errors(app)
    _add_host_check(app)
    _add_health(app, served.controller, served.telemetry)
    router = APIRouter(prefix="/api/v1/rollouts/{name}", dependencies=[Depends(served.check)])
    _add_reads(router, served)
    _add_verbs(router, served)
    _add_outcomes(router, served)
    app.include_router(router)
    return app


def _add_reads(router: APIRouter, served: Served) -> None:
    controller = served.controller

    @router.get("")
    async def status() -> Response:
        return served.status()

    @router.get("/phases")
    async def phases() -> Response:
        return Json(views.phases_view(controller))

    @router.get("/events")
    async def events(name: str, after: _Count = 0, limit: _Count = 1000) -> Response:
        found = await served.store.events(name, after)
        return Json([{"revision": e.revision, "at": e.at, "kind": e.kind, "data": e.data} for e in found[:limit]])

    @router.get("/decisions")
    async def decisions(name: str, limit: _Count = 50) -> Response:
        return Json(list(await served.store.decisions(name, min(limit, 1000))))

    @router.get("/users/{user:path}")
    async def whois(request: Request) -> Response:
        # The decoded path has lost what is no UTF-8; the proxy hashes bytes as they are.
        raw = request.scope["raw_path"].partition(b"/users/")[2]
        user = unquote_to_bytes(raw).decode(errors="surrogateescape")
        rollout, plan = controller.rollout, controller.plan
        phase = plan.phases[rollout.phase].name
        split = rollout.wanted_split(plan)
        return Json(views.whois_view(plan, user, split, killed=rollout.wanted_killed, phase=phase))


def _add_verbs(router: APIRouter, served: Served) -> None:
    controller = served.controller

    def verb(path: str, act: Callable[[str, str], Awaitable[Rollout]]) -> None:
        async def handler(ask: Ask) -> Response:
            await act(ask.by, ask.reason)
            return served.status()

        router.post(f"/{path}", name=path)(handler)

    verb("promote", controller.promote)
    verb("pause", controller.pause)
    verb("resume", controller.resume)
    verb("approve", controller.approve)
    verb("rollback", controller.rollback)
    verb("abort", controller.abort)

    @router.post("/retry")
    async def retry(ask: AskRetry) -> Response:
        await controller.retry(ask.phase, ask.by, ask.reason)
        return served.status()


def _add_outcomes(router: APIRouter, served: Served) -> None:
    controller = served.controller

    @router.post("/outcomes")
    async def outcomes(ask: AskOutcomes) -> Response:
        now, rollout = served.clock.now(), controller.rollout
        posted = [_read_outcome(index, one, served, now) for index, one in enumerate(ask.outcomes)]
        if wrong := [problem for _, problem in posted if problem]:
            raise UsageError("; ".join(wrong))
        fates = served.outcomes.take(
            [one for one, _ in posted],
            split=rollout.wanted_split(controller.plan),
            killed=rollout.wanted_killed,
            phase_since=rollout.phase_since,
            now=now,
        )
        return Json({fate.value: count for fate, count in fates.items()})


def _read_outcome(index: int, one: PostedOutcome, served: Served, now: float) -> tuple[Posted, str]:
    """Return an outcome as it is counted, and what is wrong with it; nothing where nothing is."""
    names, problem = served.outcomes.names, ""
    at = None if one.at is None else served.clock.plan_time(one.at.timestamp())
    if one.metric not in names:
        known = f"it has {', '.join(names)}" if names else "it has none"
        problem = f"outcomes.{index}.metric: {one.metric!r} is no posted outcome of the plan; {known}"
    elif not one.user.strip():
        problem = f"outcomes.{index}.user: is blank; write the key by which the proxy knows the user"
    elif at is not None and at > now + _AHEAD_S:
        problem = f"outcomes.{index}.at: lies in the future; leave it out for now"
    return Posted(outcome=one.metric, user=one.user, value=one.value, at=at, region=one.region, id=one.id), problem


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(CrossfadeError)
    async def ours(_: Request, error: CrossfadeError) -> Response:
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        return _problem(status, type(error).__name__, str(error))

    @app.exception_handler(StarletteHTTPException)
    async def http(_: Request, error: StarletteHTTPException) -> Response:
        return _problem(error.status_code, "Refused", str(error.detail))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        parts = [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
        return _problem(422, "Invalid", "; ".join(parts))


def _add_host_check(app: FastAPI) -> None:
    @app.middleware("http")
    async def by_a_name_of_loopback(request: Request, call_next: RequestResponseEndpoint) -> Response:
        # A page in somebody's browser can reach loopback under a name of its own (DNS rebinding).
        host = request.headers.get("host", "")
        if host.partition(":")[0].lower() not in _LOOPBACK:
            return _problem(400, "Refused", f"the control API answers to {' and '.join(_LOOPBACK)}, not {host!r}")
        return await call_next(request)


def _add_health(app: FastAPI, controller: Controller, telemetry: Telemetry) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        return Json({"status": "ok"})

    @app.get("/readyz")
    async def readyz() -> Response:
        reasons = [f"{n.node}: {n.error}" for n in controller.nodes if not n.reachable]
        if controller.fenced is not None:
            reasons.append(controller.fenced)
        if reasons or not controller.nodes:
            return _problem(503, "Not ready", "; ".join(reasons) or "the proxy has not been asked yet")
        return Json({"status": "ready"})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(exposition(controller, telemetry), media_type="text/plain; version=0.0.4")

"""The shell of V1 and V2: one hot path written against ASGI itself, and health, metrics and control beside it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tripsearch import facts as facts_header
from tripsearch import openapi, problem
from tripsearch.control import control_route
from tripsearch.facts import Facts
from tripsearch.faults import FaultSwitch
from tripsearch.http import JSON, App, Headers, Receive, Scope, Send, respond, unless_gone
from tripsearch.metrics import CONTENT_TYPE, Metrics
from tripsearch.problem import ProblemError
from tripsearch.query import Search, parse
from tripsearch.search import without
from tripsearch.system import seconds

_log = logging.getLogger(__name__)

_METHODS = ("GET", "HEAD")
_API_VERSION = b"api-version"


class Version(Protocol):
    """V1 or V2: how a valid question is answered."""

    path: str
    """Where it answers."""
    number: str
    """What it says of itself in API-Version."""

    async def answer(self, search: Search, facts: Facts) -> bytes:
        """The JSON object of the answer; fills the facts also when it raises. Raises ProblemError."""
        ...

    async def ready(self) -> bool:
        """Whether it can answer now."""
        ...


class TripApp:
    """An ASGI application for one version."""

    def __init__(
        self, version: Version, *, metrics: Metrics, faults: FaultSwitch, allow_faults: bool, floor_s: float
    ) -> None:
        self._version = version
        self._metrics = metrics
        self._faults = faults
        self._floor_s = floor_s
        self._number = version.number.encode()
        described = openapi.document(version.number, version.path)

        async def promised(_: Request) -> Response:
            return Response(described, media_type="application/json")

        more: list[BaseRoute] = [Route("/openapi.json", promised)]
        if allow_faults:
            more.append(control_route(faults.show, faults.change))
        self._rest = common_app(version.ready, metrics, more)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: a search, or what common_app serves."""
        if scope["type"] == "http" and scope["path"] == self._version.path:
            await self._search(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    def stopping(self) -> None:
        """The process is about to end: let go of what hangs."""
        self._faults.release()

    async def _search(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = seconds()
        facts = Facts()
        status, content_type = 200, JSON
        headers: Headers = [(_API_VERSION, self._number)]
        try:
            if scope["method"] not in _METHODS:
                headers.append((b"allow", b"GET, HEAD"))
                raise ProblemError(405, f"{scope['method']} is not offered; ask with GET")
            body = await self._answer(parse(scope["query_string"]), facts, receive)
            if body is None:
                return  # the client has gone
        except ProblemError as error:
            status, content_type, body = error.status, problem.CONTENT_TYPE, error.body()
        except Exception:  # noqa: BLE001 -- one answer's trouble must leave the process serving
            _log.exception("a search failed unexpectedly", extra={"query": repr(scope["query_string"][:200])})
            status, content_type = 500, problem.CONTENT_TYPE
            body = problem.document(500, "an unexpected error, which is in the log")
        if self._floor_s:
            await asyncio.sleep(max(0.0, self._floor_s - (seconds() - begun)))
        elapsed_s = seconds() - begun
        said = facts.header()
        if said:
            headers.append((facts_header.HEADER, said))
            headers.append((b"server-timing", facts.server_timing(elapsed_s * 1000)))
        await respond(send, status, content_type, body, headers)
        self._metrics.answered(status, elapsed_s)
        self._metrics.searched(facts.cache, facts.database_ms)

    async def _answer(self, search: Search, facts: Facts, receive: Receive) -> bytes | None:
        drawn = self._faults.draw()
        if drawn.hang:
            if not await unless_gone(self._faults.suffer(drawn), receive):
                return None
        elif drawn.fail or drawn.delay_s:
            await self._faults.suffer(drawn)
        body = await self._version.answer(search, facts)
        if drawn.omit is not None:
            setattr(facts, drawn.omit, False)
            body = without(body, drawn.omit)
        return body


def common_app(ready: Callable[[], Awaitable[bool]], metrics: Metrics, more: Sequence[BaseRoute]) -> App:
    """Health, readiness, metrics, and problem documents for everything else."""

    async def healthz(_: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    async def readyz(_: Request) -> Response:
        if await ready():
            return Response(b'{"status":"ready"}', media_type="application/json")
        return _problem(503, "the database does not answer")

    async def metrics_page(_: Request) -> Response:
        return Response(metrics.page(), headers={"content-type": CONTENT_TYPE})

    async def as_problem(_: Request, error: Exception) -> Response:
        if isinstance(error, ProblemError):
            return _problem(error.status, error.detail, error.fields)
        if isinstance(error, HTTPException):
            return _problem(error.status_code, str(error.detail), headers=error.headers)
        return _problem(500, "an unexpected error, which is in the log")

    routes: list[BaseRoute] = [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics_page),
        *more,
    ]
    handlers = {ProblemError: as_problem, HTTPException: as_problem, Exception: as_problem}
    return Starlette(routes=routes, exception_handlers=handlers)


def _problem(
    status: int,
    detail: str,
    fields: tuple[problem.FieldProblem, ...] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    return Response(problem.document(status, detail, fields), status, headers, media_type=problem.CONTENT_TYPE.decode())

"""The switch at run time, PUT and GET /control: who may use it, and how its JSON is read."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tripsearch.problem import FieldProblem, ProblemError

_BODY_BYTES_MAX = 16 * 1024
_FORWARDED = ("forwarded", "x-forwarded-for", "via")


def control_route(show: Callable[[], Mapping[str, Any]], change: Callable[[Mapping[str, Any]], None]) -> Route:
    """GET shows the state, PUT changes it and shows it.

    Only for direct requests from this machine: not through a proxy, which is on this machine too, nor from a browser
    that was led here by a name (PUT with JSON is preflighted, and the Host must be the machine's own).
    """

    async def control(request: Request) -> Response:
        _refuse_others(request)
        if request.method == "PUT":
            change(await _object(request))
        return Response(orjson.dumps(dict(show())), media_type="application/json")

    return Route("/control", control, methods=["GET", "PUT"])


def read_numbers(
    given: Mapping[str, Any], known: Mapping[str, tuple[float, float]], texts: Mapping[str, tuple[str, ...]]
) -> dict[str, Any]:
    """The given fields, checked: numbers within bounds, texts among choices (null allowed).

    Raises ProblemError 400 that names every wrong field and what would be right.
    """
    problems = []
    for name, value in given.items():
        if name in texts:
            if value is not None and value not in texts[name]:
                problems.append(_problem(name, value, f"give one of {', '.join(texts[name])}"))
        elif name in known:
            low, high = known[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                problems.append(_problem(name, value, f"give a number from {low:g} to {high:g}"))
        else:
            problems.append(_problem(name, value, f"unknown; known are {', '.join([*texts, *known])}"))
    if problems:
        raise ProblemError(400, "; ".join(f"{p.field}: {p.message}" for p in problems), tuple(problems))
    return dict(given)


def _problem(name: str, value: object, message: str) -> FieldProblem:
    return FieldProblem(field=name[:64], value=str(value)[:64], message=message)


def _refuse_others(request: Request) -> None:
    peer = request.client.host if request.client else ""
    if not _is_loopback(peer) or any(name in request.headers for name in _FORWARDED):
        raise ProblemError(403, "/control answers only direct requests from this machine")
    host = request.headers.get("host", "").rsplit(":", 1)[0].strip("[]")
    if host != "localhost" and not _is_loopback(host):
        raise ProblemError(403, "/control answers only under the name localhost or a loopback address")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def _object(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise ProblemError(415, "send the new state as application/json")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_BYTES_MAX:
            raise ProblemError(413, f"the body is longer than {_BODY_BYTES_MAX} bytes")
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProblemError(400, f"the body is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise ProblemError(400, "the body is no JSON object")
    return given

"""Everything that goes wrong is answered as problem+json (RFC 9457): what, and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException

from crossfade.core.jsonable import to_json
from crossfade.errors import (
    ChangedError,
    ConflictError,
    CrossfadeError,
    ProxyError,
    StoreError,
    UnreachableError,
    UsageError,
)

_STATUS: tuple[tuple[type[CrossfadeError], int], ...] = (
    (UsageError, 422),
    (ChangedError, 412),
    (ConflictError, 409),
    (UnreachableError, 503),
    (ProxyError, 502),
    (StoreError, 503),
)

MEDIA_TYPE = "application/problem+json"


class Json(Response):
    """JSON that every reader takes: numbers that are not finite become null."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return to_json(content)


class ProblemResponse(Json):
    """RFC 9457."""

    media_type = MEDIA_TYPE
    detail = ""


def problem(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> ProblemResponse:
    """Return a problem; `detail` names the thing, its value and the next action."""
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    answer = ProblemResponse(content, status_code=status, headers=None if headers is None else dict(headers))
    answer.detail = detail
    return answer


def problem_of(error: CrossfadeError | HTTPException) -> ProblemResponse:
    """Return the problem that an error stands for."""
    if isinstance(error, CrossfadeError):
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        return problem(status, type(error).__name__, str(error))
    return problem(error.status_code, HTTPStatus(error.status_code).phrase, str(error.detail), error.headers)


def note(request: Request, answer: Response) -> Response:
    """Return an answer, and leave what it refuses to the record of acts."""
    if isinstance(answer, ProblemResponse):
        request.state.detail = answer.detail
    return answer


def add_problems(app: FastAPI) -> None:
    """Have every error of the application answered as a problem."""

    @app.exception_handler(CrossfadeError)
    async def ours(request: Request, error: CrossfadeError) -> Response:
        return note(request, problem_of(error))

    @app.exception_handler(StarletteHTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return note(request, problem_of(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        detail = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors())
        return note(request, problem(422, "Invalid", detail))

    @app.exception_handler(Exception)
    async def fault(_: Request, __: Exception) -> Response:
        return problem(500, "Fault", "the controller met a fault of its own; its log says which")

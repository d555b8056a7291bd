"""The OpenAPI description: what FastAPI knows of the routes, and what holds for all of them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from crossfade.app.web.ofrep import PREFIX as OFREP
from crossfade.app.web.problems import MEDIA_TYPE
from crossfade.app.web.schemas import Problem

_TEXT = """\
Steers the rollouts of one process. Every error is problem+json. Reads carry the rollout's revision as `ETag`; a verb
sent with `If-Match` is refused with 412 where the rollout has changed since. A POST sent again with the same
`Idempotency-Key` gets the first answer again.
"""
_REFUSED = {
    "4XX": "Refused: 401 no valid token, 403 role too low, 404 not here, 409 not in this state, 412 it has changed, "
    "413 too large, 422 not what can be meant, 429 too many wrong tokens.",
    "5XX": "Not done, or not known to be: 502 the proxy did not confirm, 503 proxy or store did not answer.",
}
_ETAG = {
    "description": "Revision of the rollout's history; figures change without it.",
    "schema": {"type": "string"},
    "example": '"17"',
}
_SCHEMES = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token of `crossfade token create`."},
    "session": {"type": "apiKey", "in": "cookie", "name": "crossfade_session", "description": "Set by POST /login."},
}


def describe(app: FastAPI, cookie: str) -> None:
    """Have the application describe itself with its problems, credentials and revisions."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app, cookie)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation says


def _described(app: FastAPI, cookie: str) -> dict[str, Any]:
    found = get_openapi(title=app.title, version=app.version, description=_TEXT, routes=app.routes)
    components = found.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
    components["securitySchemes"] = {**_SCHEMES, "session": {**_SCHEMES["session"], "name": cookie}}
    for path, operations in found["paths"].items():
        for operation in operations.values():
            _complete(path, operation)
    return found


def _complete(path: str, operation: dict[str, Any]) -> None:
    """Add to an operation what holds for all: its problems, who may, and the revision."""
    responses = operation["responses"]
    responses.pop("422", None)  # FastAPI's own form of it is never answered
    for status, text in _REFUSED.items():
        content = responses.setdefault(status, {"description": text}).setdefault("content", {})
        content[MEDIA_TYPE] = {"schema": {"$ref": "#/components/schemas/Problem"}}
    if path.startswith(("/api/", OFREP)):
        operation["security"] = [{"token": []}, {"session": []}]
    if "/rollouts" in path and not path.endswith("/stream") and "200" in responses:
        responses["200"]["headers"] = {"ETag": _ETAG}

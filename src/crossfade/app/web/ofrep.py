"""OpenFeature Remote Evaluation Protocol: any OpenFeature client can ask which version a user has.

Each rollout is two flags: its name, with the value `v1` or `v2`, and its name with `.v2`, which is true or false.
The user is the `targetingKey` of the evaluation context: what the plan's `assignment.user` reads from a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from crossfade.app.web.problems import Json
from crossfade.app.web.served import Served
from crossfade.core.jsonable import to_json
from crossfade.core.split import Version, assign
from crossfade.engine.controller import Controller

PREFIX = "/ofrep/"
BOOLEAN = ".v2"
_KEY_BYTES = 512
_CONTEXT = {
    "type": "object",
    "required": ["context"],
    "properties": {
        "context": {
            "type": "object",
            "required": ["targetingKey"],
            "properties": {"targetingKey": {"type": "string", "minLength": 1, "maxLength": _KEY_BYTES}},
        }
    },
}
_ASKED = {"requestBody": {"required": True, "content": {"application/json": {"schema": _CONTEXT}}}}
_FLAG = {
    "type": "object",
    "required": ["key", "value", "variant", "reason", "metadata"],
    "properties": {
        "key": {"type": "string"},
        "value": {"type": ["string", "boolean"]},
        "variant": {"enum": ["v1", "v2"]},
        "reason": {"enum": ["SPLIT", "TARGETING_MATCH", "DISABLED"]},
        "metadata": {"type": "object"},
    },
}
_FLAGS = {
    "type": "object",
    "required": ["flags", "metadata"],
    "properties": {"flags": {"type": "array", "items": _FLAG}, "metadata": {"type": "object"}},
}
_FAILURE = {
    "type": "object",
    "required": ["errorCode", "errorDetails"],
    "properties": {"key": {"type": "string"}, "errorCode": {"type": "string"}, "errorDetails": {"type": "string"}},
}


_Answers = dict[int | str, dict[str, Any]]


def _described(schema: dict[str, Any], what: str) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": schema}}}


_BAD = _described(_FAILURE, "What is wrong with the context.")
_ONE: _Answers = {
    200: _described(_FLAG, "The version that the user has."),
    400: _BAD,
    404: _described(_FAILURE, "No rollout of that name is carried out here."),
}
_MANY: _Answers = {
    200: _described(_FLAGS, "All flags, with an ETag."),
    304: {"description": "Nothing has changed since the answer that If-None-Match names."},
    400: _BAD,
}


class _RefusedError(Exception):
    """Why nothing was evaluated, in the protocol's words."""

    def __init__(self, code: str, details: str, status: int = 400) -> None:
        self.content = {"errorCode": code, "errorDetails": details}
        self.status = status


def add_ofrep(router: APIRouter, served: Served) -> None:
    """Add evaluation of one flag and of all. It needs nothing but what is in memory, so a follower answers too."""

    @router.post(
        "/evaluate/flags/{key}",
        tags=["openfeature"],
        openapi_extra=_ASKED,
        response_class=Json,
        responses=_ONE,
    )
    async def evaluate(request: Request, key: str) -> Response:
        """Tell which version a user has, as an OpenFeature flag."""
        request.state.unnoted = True  # nothing is changed, and programs ask thousands of times
        try:
            user = await _user(request)
            return Json(_evaluated(_found(served, key), key, user))
        except _RefusedError as refusal:
            return Json({"key": key} | refusal.content, refusal.status)

    @router.post(
        "/evaluate/flags",
        tags=["openfeature"],
        openapi_extra=_ASKED,
        response_class=Json,
        responses=_MANY,
    )
    async def evaluate_all(request: Request) -> Response:
        """Tell which version a user has in every rollout that is carried out here."""
        request.state.unnoted = True
        try:
            user = await _user(request)
        except _RefusedError as refusal:
            return Json(refusal.content, refusal.status)
        content = {"flags": list(_all(served, user)), "metadata": {}}
        tag = f'"{blake2b(to_json(content), digest_size=12).hexdigest()}"'
        if tag in (known.strip() for known in request.headers.get("if-none-match", "").split(",")):
            return Response(status_code=304, headers={"ETag": tag})
        return Json(content, headers={"ETag": tag})


async def _user(request: Request) -> str:
    """Return the targeting key; _RefusedError where the body has none."""
    try:
        body = orjson.loads(await request.body())
    except orjson.JSONDecodeError as error:
        raise _RefusedError("PARSE_ERROR", f"the body is no JSON: {error}") from None
    context = body.get("context") if isinstance(body, dict) else None
    if not isinstance(context, dict):
        raise _RefusedError("INVALID_CONTEXT", 'send {"context": {"targetingKey": "the user\'s key"}}')
    user = context.get("targetingKey")
    if user is None or user == "":
        raise _RefusedError(
            "TARGETING_KEY_MISSING", "context.targetingKey is the user's key, as clients send it to the API"
        )
    if not isinstance(user, str) or len(user.encode(errors="surrogatepass")) > _KEY_BYTES:
        raise _RefusedError("INVALID_CONTEXT", f"context.targetingKey is text of at most {_KEY_BYTES} bytes")
    return user


def _found(served: Served, key: str) -> Controller:
    """Return who carries out a flag's rollout; a rollout whose own name ends so is the one that is meant."""
    carried = served.rollouts.get(key) or served.rollouts.get(key.removesuffix(BOOLEAN))
    if carried is None:
        raise _RefusedError(
            "FLAG_NOT_FOUND", f"{key!r} is no rollout of this controller, nor one's name with {BOOLEAN}", 404
        )
    return carried.controller


def _all(served: Served, user: str) -> Iterator[dict[str, Any]]:
    keys = dict.fromkeys(key for name in served.rollouts for key in (name, name + BOOLEAN))
    for key in keys:
        yield _evaluated(_found(served, key), key, user)


def _evaluated(controller: Controller, key: str, user: str) -> dict[str, Any]:
    plan, rollout = controller.plan, controller.rollout
    cohort, killed = controller.members.cohort_of(user), rollout.wanted_killed
    found = assign(user, salt=plan.assignment.salt, split=rollout.wanted_split(plan), cohort=cohort, killed=killed)
    return {
        "key": key,
        "value": found.version.value if key == plan.name else found.version is Version.V2,
        "variant": found.version.value,
        "reason": "DISABLED" if killed else "SPLIT" if cohort is None else "TARGETING_MATCH",
        "metadata": {"rollout": plan.name, "phase": plan.phases[rollout.phase].name, "bucket": found.bucket},
    }

"""Logging in with a browser: a token for a cookie that scripts can't read and other sites can't use."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from pydantic import ValidationError

from crossfade.app.web.access import CODE_S, SESSION_S
from crossfade.app.web.door import address_of, from_our_pages, too_many
from crossfade.app.web.problems import Json
from crossfade.app.web.schemas import AskLogin, LoginCode, Me
from crossfade.app.web.served import Served, caller_of

_FORM = "application/x-www-form-urlencoded"
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": AskLogin.model_json_schema()},
            _FORM: {"schema": AskLogin.model_json_schema()},
        },
    }
}


def add_login(app: FastAPI, served: Served) -> None:
    """Add /login and /logout."""

    @app.post("/login", tags=["access"], response_model=Me, openapi_extra=_BODY)
    async def login(request: Request) -> Response:
        """Log in with a token, as JSON or as a form; the answer sets the session's cookie."""
        request.state.act = "login"
        if "origin" in request.headers and not from_our_pages(request):
            raise HTTPException(403, "log in from our own pages")
        address = address_of(request)
        if served.failures.wait_s(address) > 0:
            raise too_many(served.failures.wait_s(address))
        given = await _token(request)
        caller = await served.access.by_code(given) or await served.access.by_secret(given)
        if caller is None:
            served.failures.add(address)
            raise HTTPException(
                401, "this token is unknown, expired or revoked", {"WWW-Authenticate": 'Bearer realm="crossfade"'}
            )
        request.state.caller = caller
        answer = Json({"name": caller.name, "role": caller.role, "local": caller.local})
        answer.set_cookie(
            served.cookie,
            served.access.open_session(caller),
            max_age=int(SESSION_S),
            httponly=True,
            samesite="strict",
            secure=served.exposure.tls or request.url.scheme == "https",
        )
        return answer

    @app.post("/logout", tags=["access"], status_code=204)
    async def logout(request: Request) -> Response:
        """End the session."""
        request.state.act = "logout"
        if request.state.caller is None:
            request.state.unnoted = True
        else:
            served.access.close_session(request.state.caller)
        answer = Response(status_code=204)
        answer.delete_cookie(served.cookie, httponly=True, samesite="strict")
        return answer


def add_codes(router: APIRouter, served: Served) -> None:
    """Add what gives a browser the caller's own session without showing it the token."""

    @router.post("/login-codes", tags=["access"], status_code=201, response_model=LoginCode)
    async def code(request: Request) -> Response:
        """Give a code that /login takes instead of the token, once and within a minute."""
        request.state.act = "login code"
        return Json({"code": served.access.offer_code(caller_of(request)), "expires_s": CODE_S}, 201)


async def _token(request: Request) -> str:
    """Return the token of a login; HTTPException where there is none. What was sent is never repeated."""
    body = await request.body()
    try:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
            return AskLogin(token=parse_qs(body.decode(), strict_parsing=True)["token"][0]).token.strip()
        return AskLogin.model_validate_json(body).token.strip()
    except (ValidationError, ValueError, KeyError):
        raise HTTPException(422, 'send {"token": "..."} as JSON, or a form with the field token') from None

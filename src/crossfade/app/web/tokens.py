"""Tokens and the record of acts, for admins."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from crossfade.app.views import token_view
from crossfade.app.web import schemas
from crossfade.app.web.access import Caller
from crossfade.app.web.problems import Json
from crossfade.app.web.served import Needs, Served
from crossfade.app.web.verbs import IdempotencyKey, once
from crossfade.core.access import PREFIX, Role, issue

_Admin = Annotated[Caller, Depends(Needs(Role.ADMIN))]


def add_tokens(router: APIRouter, served: Served) -> None:
    """Add what admins do about who may do what."""
    tokens, access = served.access.tokens, served.access

    @router.get("/tokens", tags=["access"], response_model=list[schemas.TokenView])
    async def listed(_: _Admin) -> Response:
        """List the tokens; their secrets are not kept."""
        now = served.wall.now()
        return Json([token_view(token, now) for token in await tokens.tokens()])

    @router.post("/tokens", tags=["access"], status_code=201, response_model=schemas.NewToken)
    async def create(
        request: Request, ask: schemas.AskToken, caller: _Admin, idempotency_key: IdempotencyKey = None
    ) -> Response:
        """Make a token; its secret is in this answer and nowhere else."""
        request.state.act, request.state.reason = "token create", f"{ask.name}, {ask.role}"

        async def act() -> Response:
            secret, now = PREFIX + access.new_secret(), served.wall.now()
            token = issue(ask.name, ask.role, secret, now=now, by=caller.name, expires_s=ask.expires_s)
            await tokens.add(token)
            return Json({**token_view(token, now), "token": secret}, 201)

        return await once(request, served, caller, idempotency_key, act)

    @router.delete("/tokens/{token}", tags=["access"], response_model=schemas.TokenView)
    async def revoke(request: Request, token: Annotated[str, Path(max_length=200)], _: _Admin) -> Response:
        """Revoke a token; it holds no longer, nor do the sessions and streams that were opened with it."""
        request.state.act, request.state.reason = "token revoke", token
        return Json(token_view(await tokens.remove(token), served.wall.now()))

    @router.get("/audit", tags=["access"], response_model=list[schemas.ActView])
    async def audit(_: _Admin, limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> Response:
        """Give the latest acts, newest first: who asked for what, done or refused."""
        found: list[dict[str, Any]] = [asdict(act) for act in await served.audit.latest(limit)]
        return Json(found)

"""Users who join a cohort, the beta programme, or leave one."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field

from crossfade.app.web.access import Caller
from crossfade.app.web.schemas import Ask, Said
from crossfade.app.web.served import Carried, Named, Needs, Served
from crossfade.app.web.verbs import IdempotencyKey, once, said_by
from crossfade.core.access import Role
from crossfade.core.enrolment import KEY_BYTES, USERS_AT_ONCE, Change
from crossfade.errors import UsageError

LEAVING_AT_ONCE = 100
_AHEAD_S = 60.0
"""Real seconds that another's clock may be ahead of ours."""
_EARLIEST_S = 946_684_800.0
"""Of a consent: the year 2000. What lies before was given in other units."""


class JoiningUser(Said):
    """A user who joins."""

    model_config = ConfigDict(strict=True)

    user: str = Field(min_length=1, max_length=KEY_BYTES, examples=["u0042"])
    """The key by which the proxy knows the user."""
    consented_at: Annotated[AwareDatetime | None, Field(strict=False)] = None
    """When they agreed; null: now."""


class AskEnrol(Ask):
    """Users who join a cohort: all of them, or nobody."""

    cohort: str = Field(max_length=64, examples=["beta"])
    users: Annotated[list[JoiningUser], Field(min_length=1, max_length=USERS_AT_ONCE)]


class Enrolled(Said):
    """What became of it."""

    cohort: str
    """Empty where nobody left one."""
    changed: int
    """Users who joined, or left."""
    unchanged: int
    """Users who were in, or out, before."""


class EnrolmentView(Said):
    """One user's own say in which cohort they are."""

    user: str = Field(examples=["-5312345678901234567"])
    """Hash of the key under the plan's salt: the key itself is not kept."""
    cohort: str
    """Empty: has left the one that the plan names them in."""
    consented_at: float
    """Real seconds since the epoch."""
    at: float
    """Plan time from which it holds."""
    by: str


class EnrolmentPage(Said):
    """Enrolments, in the order of their hashes."""

    members: dict[str, int]
    """How many users each cohort has joined to it by enrolment; `""`: how many have left one that the plan names."""
    items: list[EnrolmentView]
    next: str | None = Field(examples=["/api/v1/rollouts/trips-v2/enrolments?after=-5312345678901234567&limit=100"])
    """Path of the next page; null where there is none."""


def add_enrolments(router: APIRouter, served: Served) -> None:
    """Add joining, leaving, and who has."""

    @router.get("/enrolments", tags=["enrolments"], response_model=EnrolmentPage)
    async def enrolments(
        carried: Named,
        _: Annotated[Caller, Depends(Needs(Role.OPERATOR))],
        after: Annotated[int, Query(ge=-(2**63), lt=2**63)] = -(2**63),
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Give a page of who joined a cohort or left one, beside those that the plan names. Needs the role operator."""
        kept = carried.controller.members.enrolments
        users = sorted(user for user in kept if user > after)
        items = [_view(carried, user) for user in users[:limit]]
        path = f"/api/v1/rollouts/{carried.name}/enrolments?after={items[-1]['user']}&limit={limit}" if items else None
        members = dict(sorted(Counter(one.cohort for one in kept.values()).items()))
        return carried.answer({"members": members, "items": items, "next": path if len(users) > limit else None})

    @router.post("/enrolments", tags=["enrolments"], response_model=Enrolled)
    async def enrol(
        request: Request,
        carried: Named,
        ask: AskEnrol,
        caller: Annotated[Caller, Depends(Needs(Role.OPERATOR))],
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Have users join a cohort, all of them or nobody. Needs the role operator."""
        by, request.state.act = said_by(request, caller, ask), "enrol"

        async def act() -> Response:
            users = _consents(ask.users, served.wall.now())
            return _told(carried, await carried.controller.enrol(ask.cohort, users, by, ask.reason))

        return await once(request, served, caller, idempotency_key, act)

    @router.delete("/enrolments", tags=["enrolments"], response_model=Enrolled)
    async def leave(
        request: Request,
        *,
        carried: Named,
        caller: Annotated[Caller, Depends(Needs(Role.OPERATOR))],
        user: Annotated[list[str], Query(min_length=1, max_length=LEAVING_AT_ONCE, examples=[["u0042"]])],
        by: Annotated[str, Query(max_length=200)] = "",
        reason: Annotated[str, Query(max_length=2000)] = "",
    ) -> Response:
        """Have users leave their cohorts: at once they are as everyone else. Needs the role operator."""
        said, request.state.act = said_by(request, caller, Ask(by=by, reason=reason)), "leave"
        return _told(carried, await carried.controller.leave(user, served.wall.now(), said, reason))


def _consents(users: list[JoiningUser], now: float) -> dict[str, float]:
    """Return the time of consent by user; UsageError with all that can't be meant."""
    found: dict[str, float] = {}
    wrong: list[str] = []
    for index, one in enumerate(users):
        at = now if one.consented_at is None else one.consented_at.timestamp()
        if one.user in found:
            wrong.append(f"users.{index}.user: {one.user!r} is named twice; once is enough")
        if at > now + _AHEAD_S:
            wrong.append(f"users.{index}.consented_at: lies in the future; nobody has agreed by then")
        elif at < _EARLIEST_S:
            wrong.append(f"users.{index}.consented_at: lies before 2000; write it as 2026-12-31T10:00:00Z")
        found[one.user] = at
    if wrong:
        raise UsageError("; ".join(wrong[:10]))
    return found


def _view(carried: Carried, user: int) -> dict[str, Any]:
    one = carried.controller.members.enrolments[user]
    return {
        "user": str(user),  # JavaScript's numbers would round it
        "cohort": one.cohort,
        "consented_at": one.consented_at,
        "at": one.at,
        "by": one.by,
    }


def _told(carried: Carried, change: Change) -> Response:
    return carried.answer({"cohort": change.cohort, "changed": change.size, "unchanged": change.unchanged})

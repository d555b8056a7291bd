"""Outcomes that programs post for users."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field

from crossfade.adapters.outcomes import Posted
from crossfade.app.web.access import Caller
from crossfade.app.web.problems import Json
from crossfade.app.web.schemas import Said
from crossfade.app.web.served import Carried, Named, Needs, Served
from crossfade.app.web.verbs import IdempotencyKey, once
from crossfade.core.access import Role
from crossfade.errors import ConflictError, UsageError

_AHEAD_S = 60.0
"""Plan seconds that a poster's clock may be ahead of ours."""


class PostedOutcome(Said):
    """One outcome of one user."""

    model_config = ConfigDict(strict=True)

    metric: str = Field(max_length=64, examples=["satisfaction"])
    user: str = Field(min_length=1, max_length=512, examples=["u0042"])
    value: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = Field(examples=[1.0])
    at: Annotated[AwareDatetime | None, Field(strict=False)] = None
    """When it happened; null: now."""
    region: str = Field(default="", max_length=256)
    id: str = Field(default="", max_length=200)
    """The same id is counted once."""


class AskOutcomes(Said):
    """A batch: all of it is taken, or nothing."""

    outcomes: Annotated[list[PostedOutcome], Field(min_length=1, max_length=1000)]


def add_outcomes(router: APIRouter, served: Served) -> None:
    """Add where programs post outcomes."""

    @router.post("/outcomes", tags=["outcomes"], response_model=dict[str, int])
    async def outcomes(
        request: Request,
        carried: Named,
        ask: AskOutcomes,
        caller: Annotated[Caller, Depends(Needs(Role.OPERATOR))],
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Take a batch of outcomes, and tell how many were counted and how many not, by reason."""
        request.state.unnoted = True  # programs post thousands; only what was refused is worth a line

        async def act() -> Response:
            controller = carried.controller
            if controller.fenced is not None:  # its ticks are not kept, and outcomes would be lost with them
                raise ConflictError(controller.fenced)
            now, rollout = carried.clock.now(), controller.rollout
            posted = [_read_outcome(index, one, carried, now) for index, one in enumerate(ask.outcomes)]
            if wrong := [problem for _, problem in posted if problem]:
                raise UsageError("; ".join(wrong))
            fates = carried.outcomes.take(
                [one for one, _ in posted],
                assigned=partial(rollout.assigned_at, controller.plan),
                phase_since=rollout.phase_since,
                now=now,
                members=controller.members,
            )
            return Json({fate.value: count for fate, count in fates.items()})

        return await once(request, served, caller, idempotency_key, act)


def _read_outcome(index: int, one: PostedOutcome, carried: Carried, now: float) -> tuple[Posted, str]:
    """Return an outcome as it is counted, and what is wrong with it; nothing where nothing is."""
    names, problem = carried.outcomes.names, ""
    at = None if one.at is None else carried.clock.plan_time(one.at.timestamp())
    if one.metric not in names:
        known = f"it has {', '.join(names)}" if names else "it has none"
        problem = f"outcomes.{index}.metric: {one.metric!r} is no posted outcome of the plan; {known}"
    elif not one.user.strip():
        problem = f"outcomes.{index}.user: is blank; write the key by which the proxy knows the user"
    elif at is not None and at > now + _AHEAD_S:
        problem = f"outcomes.{index}.at: lies in the future; leave it out for now"
    return Posted(outcome=one.metric, user=one.user, value=one.value, at=at, region=one.region, id=one.id), problem

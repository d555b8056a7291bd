"""Outcomes that programs post for users."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field

from crossfade.adapters.outcomes import Fate, Posted, PostedEvent
from crossfade.app.web.access import Caller
from crossfade.app.web.problems import Json
from crossfade.app.web.schemas import Said
from crossfade.app.web.served import Carried, Named, Needs, Served
from crossfade.app.web.verbs import IdempotencyKey, once
from crossfade.core.access import Role
from crossfade.errors import ConflictError, UsageError

_VALUE_MAX = 1e12
_AHEAD_S = 60.0
"""Plan seconds that a poster's clock may be ahead of ours."""


class PostedOutcome(Said):
    """One outcome of one user (`metric`), or one thing that they did (`event`)."""

    model_config = ConfigDict(strict=True)

    metric: str | None = Field(default=None, max_length=64, examples=["satisfaction"])
    event: str | None = Field(default=None, max_length=64, examples=["book"])
    user: str = Field(min_length=1, max_length=512, examples=["u0042"])
    value: Annotated[float, Field(ge=0, le=_VALUE_MAX, allow_inf_nan=False)] | None = Field(
        default=None, examples=[1.0]
    )
    """Of a metric 0 to 1; of an event what is added up, 1 where it is left out."""
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
            problems = [
                problem for index, one in enumerate(ask.outcomes) if (problem := _fault(index, one, carried, now))
            ]
            if problems:
                raise UsageError("; ".join(problems))
            fates = carried.outcomes.take(
                [_outcome(one, name, carried) for one in ask.outcomes if (name := one.metric)],
                assigned=partial(rollout.assigned_at, controller.plan),
                phase_since=rollout.phase_since,
                now=now,
                members=controller.members,
            )
            done = carried.behaviour.take(
                [_event(one, name, carried) for one in ask.outcomes if (name := one.event)], now
            )
            return Json({fate.value: fates[fate] + done[fate] for fate in Fate})

        return await once(request, served, caller, idempotency_key, act)


def _fault(index: int, one: PostedOutcome, carried: Carried, now: float) -> str:
    """Return what is wrong with an outcome; nothing where nothing is."""
    at = _plan_time(one, carried)
    if (one.metric is None) == (one.event is None):
        what = "metric: is missing" if one.metric is None else "event: is said beside a metric"
        return f"outcomes.{index}.{what}; write a metric of the plan, or an event, of each one"
    if one.metric is not None and one.metric not in carried.outcomes.names:
        known = _known(carried.outcomes.names)
        return f"outcomes.{index}.metric: {one.metric!r} is no posted outcome of the plan; {known}"
    if one.event is not None and one.event not in carried.behaviour.names:
        return (
            f"outcomes.{index}.event: {one.event!r} is no posted event of the plan; {_known(carried.behaviour.names)}"
        )
    if one.metric is not None and (one.value is None or one.value > 1):
        return f"outcomes.{index}.value: {'is missing' if one.value is None else 'is above 1'}; write 0 to 1"
    if not one.user.strip():
        return f"outcomes.{index}.user: is blank; write the key by which the proxy knows the user"
    if at is not None and at > now + _AHEAD_S:
        return f"outcomes.{index}.at: lies in the future; leave it out for now"
    if one.event is not None and not one.id and at is None and carried.behaviour.adds_up(one.event):
        return f"outcomes.{index}.id: is missing; {one.event} is added up, and posted again it would count twice"
    return ""


def _known(names: Sequence[str]) -> str:
    return f"it has {', '.join(names)}" if names else "it has none"


def _plan_time(one: PostedOutcome, carried: Carried) -> float | None:
    return None if one.at is None else carried.clock.plan_time(one.at.timestamp())


def _outcome(one: PostedOutcome, name: str, carried: Carried) -> Posted:
    at, value = _plan_time(one, carried), one.value or 0.0
    return Posted(outcome=name, user=one.user, value=value, at=at, region=one.region, id=one.id)


def _event(one: PostedOutcome, name: str, carried: Carried) -> PostedEvent:
    at, value = _plan_time(one, carried), 1.0 if one.value is None else one.value
    return PostedEvent(event=name, user=one.user, value=value, at=at, region=one.region, id=one.id)

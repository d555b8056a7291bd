"""What users say of the version they have: taken, read, and forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field

from crossfade.app.feedback import Fate, Given, ask, faults, take
from crossfade.app.web.access import Caller
from crossfade.app.web.problems import Json
from crossfade.app.web.schemas import Said
from crossfade.app.web.served import Carried, Named, Needs, Served
from crossfade.app.web.verbs import IdempotencyKey, once
from crossfade.core.access import Role
from crossfade.core.enrolment import KEY_BYTES
from crossfade.core.feedback import COMPLAINT_MAX, TOPIC_MAX, Feedback, plain
from crossfade.core.split import user_hash
from crossfade.errors import ConflictError, UsageError

PER_MINUTE = 1000
"""Things said that are taken in a minute, of all users of a rollout."""
PER_USER_MINUTE = 20
"""Of these, of one user: nobody takes the room of all others."""
_WINDOW_S = 60.0
_HAPPY, _UNHAPPY = 5, 1


class AskFeedback(Said):
    """One thing that a user says: a rating, a complaint, or both."""

    model_config = ConfigDict(strict=True)

    user: str = Field(min_length=1, max_length=KEY_BYTES, examples=["u0042"])
    """The key by which the proxy knows the user."""
    rating: Annotated[int | None, Field(ge=1, le=5)] = None
    """1 to 5; 4 and 5 are satisfied."""
    happy: bool | None = None
    """In the place of a rating: true is 5, false is 1."""
    complaint: str = Field(default="", max_length=COMPLAINT_MAX, examples=["The weather is yesterday's."])
    topic: str = Field(default="", max_length=TOPIC_MAX, examples=["weather"])
    region: str = Field(default="", max_length=256)
    at: Annotated[AwareDatetime | None, Field(strict=False)] = None
    """When it was said; null: now."""
    id: str = Field(default="", max_length=200)
    """The same id of a user is kept once; without one, the same words of a user on one day are."""


class AskWhether(Said):
    """Whom somebody may ask."""

    user: str = Field(min_length=1, max_length=KEY_BYTES, examples=["u0042"])


class FeedbackFate(Said):
    """What became of it."""

    fate: Literal["taken", "repeated", "outdated"]
    """repeated: kept before. outdated: kept, and counted for no version."""


class FeedbackLine(Said):
    """One thing that a user said."""

    number: int
    user: str = Field(examples=["-5312345678901234567"])
    """Hash of the key under the plan's salt: the key itself is not kept."""
    version: Literal["v1", "v2", ""]
    """Which one the user had; empty: nobody could tell any more."""
    at: float
    """Plan time."""
    rating: int | None
    complaint: str
    topic: str
    region: str


class FeedbackPage(Said):
    """What users said, newest first."""

    items: list[FeedbackLine]
    next: str | None
    """Path of the next page; null where there is none."""


class FeedbackSums(Said):
    """How much was said of a version, a topic and in a region, since the phase began."""

    version: Literal["v1", "v2", ""]
    topic: str
    region: str
    said: int
    complaints: int
    ratings: int
    happy: int
    """Ratings of 4 and 5."""


class AskLink(Said):
    """Whose link, and for how long."""

    user: str = Field(min_length=1, max_length=KEY_BYTES, examples=["u0042"])
    for_s: float = Field(default=7 * 86_400.0, gt=0, le=90 * 86_400.0)
    """Real seconds."""


class FormLink(Said):
    """A link to the form."""

    path: str = Field(examples=["/feedback/trips-v2/yJ0cmlwcy12MiIs..."])
    until: float
    """Real seconds since the epoch."""


class Flood:
    """How much is taken in a minute, of one user and of all users of a rollout."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._minute = 0
        self._taken: Counter[tuple[str, str]] = Counter()

    def take(self, rollout: str, user: str) -> None:
        """Count one; HTTPException 429 where that is too many."""
        minute = int(self._monotonic() // _WINDOW_S)
        if minute != self._minute:
            self._minute, self._taken = minute, Counter()
        whole, own = (rollout, ""), (rollout, user)
        for key, most, whose in ((own, PER_USER_MINUTE, "this user"), (whole, PER_MINUTE, "all users")):
            if self._taken[key] >= most:
                detail = f"more than {most} of {whose} within a minute; give it again later"
                raise HTTPException(429, detail, {"Retry-After": "60"})
        self._taken.update([own, whole])


def add_feedback(router: APIRouter, served: Served, flood: Flood) -> None:
    """Add giving feedback, reading it, and forgetting a user's."""

    @router.post("/feedback", tags=["feedback"], response_model=FeedbackFate)
    async def give(
        request: Request,
        carried: Named,
        said: AskFeedback,
        caller: Annotated[Caller, Depends(Needs(Role.OPERATOR))],
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Take what a user says of the version they have. Needs the role operator: a program gives it for its users."""
        request.state.unnoted = True  # programs give thousands; only what was refused is worth a line

        async def act() -> Response:
            flood.take(carried.name, said.user)
            return Json({"fate": (await given_to(carried, _given(carried, said))).value})

        return await once(request, served, caller, idempotency_key, act)

    @router.get("/feedback", tags=["feedback"], response_model=FeedbackPage)
    async def lines(
        carried: Named,
        _: Annotated[Caller, Depends(Needs(Role.OPERATOR))],
        version: Annotated[Literal["v1", "v2"] | None, Query(description="Of users that had this one.")] = None,
        topic: Annotated[str | None, Query(max_length=TOPIC_MAX, description="About this alone.")] = None,
        before: Annotated[int | None, Query(ge=0, lt=2**62)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> Response:
        """Give a page of what users said, newest first. Needs the role operator."""
        topic = None if topic is None else plain(topic)
        found = await carried.store.feedback(
            carried.name, before=before, limit=limit + 1, version=version or "", topic=topic
        )
        items = [_line(number, one) for number, one in found[:limit]]
        more = {"version": version, "topic": topic, "before": items[-1]["number"] if items else None, "limit": limit}
        query = urlencode({name: value for name, value in more.items() if value is not None})
        path = f"/api/v1/rollouts/{carried.name}/feedback?{query}" if len(found) > limit else None
        return carried.answer({"items": items, "next": path})

    @router.get("/feedback/sums", tags=["feedback"], response_model=list[FeedbackSums])
    async def sums(carried: Named) -> Response:
        """Tell how much was said in this phase, by version, topic and region."""
        since = carried.controller.rollout.phase_since
        return carried.answer(list(await carried.store.feedback_counts(carried.name, since)))

    @router.post("/feedback/ask", tags=["feedback"], response_model=dict[str, bool])
    async def whether(
        request: Request, carried: Named, about: AskWhether, _: Annotated[Caller, Depends(Needs(Role.OPERATOR))]
    ) -> Response:
        """Tell whether to ask a user now, and note that they are: each is asked once a phase at most."""
        request.state.unnoted = True
        return Json({"ask": await ask(carried.controller, carried.store, about.user, carried.clock.now())})

    @router.delete("/feedback", tags=["feedback"], response_model=dict[str, int])
    async def forget(
        request: Request,
        carried: Named,
        _: Annotated[Caller, Depends(Needs(Role.OPERATOR))],
        user: Annotated[str, Query(min_length=1, max_length=KEY_BYTES)],
    ) -> Response:
        """Forget what a user said and that they were asked; what it counted stays, as numbers.

        Needs the role operator.
        """
        request.state.act = "forget feedback"
        controller = carried.controller
        if controller.fenced is not None:
            raise ConflictError(controller.fenced)
        generation = 0 if controller.lease is None else controller.lease.generation
        hashed = user_hash(user, controller.plan.assignment.salt)
        gone = await carried.store.forget_feedback(carried.name, user=hashed, generation=generation)
        return carried.answer({"forgotten": gone})


async def given_to(carried: Carried, given: Given) -> Fate:
    """Take a thing said; UsageError where it can't be meant, HTTPException 429 where its user has said too much."""
    now = carried.clock.now()
    if wrong := faults(carried.controller.plan, given, now):
        raise UsageError("; ".join(wrong))
    try:
        return await take(carried.controller, carried.store, carried.outcomes, given, now)
    except UsageError as error:
        raise HTTPException(429, str(error), {"Retry-After": "86400"}) from None


def _given(carried: Carried, said: AskFeedback) -> Given:
    if said.happy is not None and said.rating is not None:
        raise UsageError("happy: is given beside a rating; keep one of them")
    rating = said.rating if said.happy is None else _HAPPY if said.happy else _UNHAPPY
    at = None if said.at is None else carried.clock.plan_time(said.at.timestamp())
    return Given(
        user=said.user,
        rating=rating,
        complaint=said.complaint,
        topic=said.topic,
        region=said.region,
        at=at,
        id=said.id,
    )


def _line(number: int, one: Feedback) -> dict[str, Any]:
    return {
        "number": number,
        "user": str(one.user),  # JavaScript's numbers would round it
        "version": one.version,
        "at": one.at,
        "rating": one.rating,
        "complaint": one.complaint,
        "topic": one.topic,
        "region": one.region,
    }

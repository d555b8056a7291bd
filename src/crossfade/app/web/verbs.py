"""What people can ask of a rollout: one line per verb, the same in the CLI, here and in the history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response

from crossfade.app.web.access import Caller
from crossfade.app.web.problems import note
from crossfade.app.web.schemas import Ask, AskRehearse, AskRetire, AskRetry, AskStopBrownout, Status
from crossfade.app.web.served import Named, Needs, Served
from crossfade.core.access import Role
from crossfade.core.rehearsal.report import Report, from_data
from crossfade.core.rollout import Rollout
from crossfade.engine.controller import Controller
from crossfade.errors import ChangedError, UsageError


@dataclass(frozen=True, slots=True)
class Who:
    """Whoever acts."""

    by: str
    """As the history tells it."""
    person: str
    """Name of the token: whoever has the same one is the same person."""


Act = Callable[[Controller, Any, Who, int | None], Awaitable[Rollout]]
"""(controller, what was said, who says it, the revision that must still be the present one) -> the rollout after it."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb."""

    name: str
    role: Role
    text: str
    act: Act
    ask: type[Ask] = Ask
    repeats: bool = False
    """Whether doing it twice does no harm, so that it is tried again whatever has come of the first time."""


VERBS: tuple[Verb, ...] = (
    Verb(
        "promote",
        Role.OPERATOR,
        "Enter the next phase now, whatever its gates say; only an approval by several people can't be passed over.",
        lambda c, ask, who, at: c.promote(who.by, ask.reason, person=who.person, revision=at),
    ),
    Verb(
        "pause",
        Role.OPERATOR,
        "Stop promotions; the split stays and guardrails are watched.",
        lambda c, ask, who, at: c.pause(who.by, ask.reason, revision=at),
    ),
    Verb(
        "resume",
        Role.OPERATOR,
        "Allow promotions again.",
        lambda c, ask, who, at: c.resume(who.by, ask.reason, revision=at),
    ),
    Verb(
        "approve",
        Role.OPERATOR,
        "Approve leaving the present phase.",
        lambda c, ask, who, at: c.approve(who.by, ask.reason, person=who.person, revision=at),
    ),
    Verb(
        "rehearse",
        Role.OPERATOR,
        "Record a rehearsal's report, on which `rehearsal passed` and `peak load passed` rest. The latest counts.",
        lambda c, ask, who, at: c.rehearse(who.by, ask.reason, report_in(ask.report), revision=at),
        AskRehearse,
    ),
    Verb(
        "rollback",
        Role.OPERATOR,
        "Put every user on V1 now.",
        lambda c, ask, who, at: c.rollback(who.by, ask.reason, revision=at),
        repeats=True,
    ),
    Verb(
        "stop-brownout",
        Role.OPERATOR,
        "End the brownout that goes on, or call off one that is planned. It does not come again.",
        lambda c, ask, who, at: c.stop_brownout(ask.brownout, who.by, ask.reason, revision=at),
        AskStopBrownout,
    ),
    Verb(
        "drill",
        Role.OPERATOR,
        "Roll back on purpose, and return to the split once it is shown to have worked.",
        lambda c, ask, who, at: c.drill(who.by, ask.reason, revision=at),
    ),
    Verb(
        "retry",
        Role.OPERATOR,
        "Start again after a rollback, with the same assignment and new evidence.",
        lambda c, ask, who, at: c.retry(ask.phase, who.by, ask.reason, revision=at),
        AskRetry,
    ),
    Verb(
        "retire",
        Role.ADMIN,
        "Take V1 out of the proxy for good, where the plan says `then: retire v1` and every gate of its last phase "
        "passes. The one step that no rollback undoes.",
        lambda c, ask, who, at: c.retire(who.by, ask.reason, archive=ask.archive, revision=at),
        AskRetire,
    ),
    Verb(
        "abort",
        Role.ADMIN,
        "Put every user on V1 and end the rollout for good.",
        lambda c, ask, who, at: c.abort(who.by, ask.reason, revision=at),
        repeats=True,
    ),
)


def report_in(data: Mapping[str, Any]) -> Report:
    """Return the report that was handed over; UsageError where it is none."""
    try:
        return from_data(data)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise UsageError("`report` is no rehearsal's; hand over what `crossfade rehearse -o json` prints") from None


IfMatch = Annotated[
    str | None,
    Header(
        max_length=1000,
        description='The ETag that the caller has seen, `"17"`; 412 where the rollout has changed since. Left out: '
        "whatever it is.",
    ),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=200,
        description="Sent again with the same body, it gets the first answer again; with another, 422. Kept for a day. "
        "After an answer of 500 and above it is tried again, but for rollback and abort with 412 where the rollout has "
        "changed since.",
    ),
]


def add_verbs(router: APIRouter, served: Served) -> None:
    """Add one POST per verb."""
    for verb in VERBS:
        _add(router, served, verb)


def _add(router: APIRouter, served: Served, verb: Verb) -> None:
    async def handler(
        request: Request,
        *,
        carried: Named,
        ask: Ask,
        caller: Annotated[Caller, Depends(Needs(verb.role))],
        if_match: IfMatch = None,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        who = Who(said_by(request, caller, ask), caller.name)
        present = carried.controller.rollout.revision
        revision = wanted_revision(if_match, present)
        if revision is None and idempotency_key is not None and not verb.repeats:
            revision = served.once.first_seen(caller.digest, idempotency_key, present)

        async def act() -> Response:
            await verb.act(carried.controller, ask, who, revision)
            return carried.status()

        return await once(request, served, caller, idempotency_key, act)

    handler.__annotations__["ask"] = verb.ask
    handler.__annotations__["caller"] = Annotated[Caller, Depends(Needs(verb.role))]
    router.post(
        f"/{verb.name}",
        name=verb.name,
        summary=verb.text,
        description=f"Needs the role {verb.role}.",
        tags=["verbs"],
        response_model=Status,
    )(handler)


def said_by(request: Request, caller: Caller, ask: Ask) -> str:
    """Return who acts, and leave it to the record of acts: a token's name, or whoever this machine's user says."""
    by = (ask.by or caller.name) if caller.local else caller.name
    request.state.by, request.state.reason = by, ask.reason
    return by


def wanted_revision(if_match: str | None, present: int) -> int | None:
    """Return the revision that must still be the present one; None for any.

    Raises ChangedError where the caller has seen another. A `W/` is passed over: proxies that compress add one.
    """
    if if_match is None:
        return None
    tags = [tag.strip().removeprefix("W/") for tag in if_match.split(",")]
    if "*" in tags:
        return None
    if f'"{present}"' not in tags:
        raise ChangedError(f"the rollout is at revision {present}, not {if_match}; look again, and ask again")
    return present


async def once(
    request: Request, served: Served, caller: Caller, key: str | None, act: Callable[[], Awaitable[Response]]
) -> Response:
    """Answer a POST, or answer again what was answered to the same key before."""
    fingerprint = sha256(request.url.path.encode() + b"\n" + await request.body()).digest()
    return note(request, await served.once.answer(caller.digest, key, fingerprint, act))

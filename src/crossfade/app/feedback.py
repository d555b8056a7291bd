"""Takes what users say: keeps it once, joined to the version that the user had, and counts it as outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from crossfade.adapters.outcomes import Fate as Counted
from crossfade.adapters.outcomes import Posted, PostedOutcomes
from crossfade.core.feedback import (
    COMPLAINT_MAX,
    PER_USER_DAY,
    TOPIC_MAX,
    Feedback,
    asking_in,
    key_of,
    outcomes_of,
    plain,
)
from crossfade.core.plan import Plan
from crossfade.core.split import Version, assign, user_hash
from crossfade.engine.controller import Controller
from crossfade.errors import ConflictError, UsageError
from crossfade.ports import Store

_AHEAD_S = 60.0
"""Plan seconds that another's clock may be ahead of ours."""
_DRAWS = 10_000


class Fate(StrEnum):
    """What became of a thing said."""

    TAKEN = "taken"
    REPEATED = "repeated"
    """It was kept before."""
    OUTDATED = "outdated"
    """Kept, and counted for no version: of an earlier phase, or too long ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What somebody hands over."""

    user: str
    """The key by which the proxy knows the user."""
    rating: int | None = None
    complaint: str = ""
    topic: str = ""
    region: str = ""
    at: float | None = None
    """Plan time; None: now."""
    id: str = ""
    """The giver's own; what has the same one is the same thing, of one user."""


def faults(plan: Plan, given: Given, now: float) -> list[str]:
    """Return what is wrong with a thing said, each with its field; empty where nothing is."""
    wrong = []
    topics = plan.feedback.topics
    if not given.user.strip():
        wrong.append("user: is blank; write the key by which the proxy knows the user")
    if given.rating is None and not plain(given.complaint):
        wrong.append("rating: is missing, and so is a complaint; give one of them, or happy: true or false")
    if given.topic and topics and given.topic not in topics:
        wrong.append(f"topic: {given.topic!r} is none of the plan's; it has {', '.join(topics)}")
    if given.at is not None and given.at > now + _AHEAD_S:
        wrong.append("at: lies in the future; leave it out for now")
    return wrong


async def take(controller: Controller, store: Store, outcomes: PostedOutcomes, given: Given, now: float) -> Fate:
    """Keep a thing said, and count it.

    UsageError where it can't be meant, or the user said too much; ConflictError where this controller follows;
    StoreError where it can't be kept. It was not taken then, and may be given again: what was kept counts once.
    """
    plan, rollout, members = controller.plan, controller.rollout, controller.members
    if controller.fenced is not None:
        raise ConflictError(controller.fenced)
    if wrong := faults(plan, given, now):
        raise UsageError("; ".join(wrong))
    at = now if given.at is None else min(given.at, now)
    user = user_hash(given.user, plan.assignment.salt)
    version = version_at(controller, given.user, at)
    complaint, topic = plain(given.complaint)[:COMPLAINT_MAX], plain(given.topic)[:TOPIC_MAX]
    said = Feedback(
        key=key_of(user, at, given.rating, complaint, topic, own=given.id),
        user=user,
        version="" if version is None else version.value,
        at=at,
        rating=given.rating,
        complaint=complaint,
        topic=topic,
        region=plain(given.region)[:TOPIC_MAX],
    )
    generation = 0 if controller.lease is None else controller.lease.generation
    new = await store.add_feedback(plan.name, said, at_most=PER_USER_DAY, generation=generation)
    # also where it was kept before: whoever was not told so gives it again, and each counts once a user and day
    counted = outcomes.take(
        [
            Posted(outcome=name, user=given.user, value=value, at=at, region=said.region)
            for name, value in outcomes_of(given.rating, complaint, topic, outcomes.names).items()
        ],
        assigned=partial(rollout.assigned_at, plan),
        phase_since=rollout.phase_since,
        now=now,
        members=members,
    )
    if not new:
        return Fate.REPEATED
    if phase := asking_in(rollout, plan.feedback.keep_s, now):
        await store.ask_once(plan.name, phase, user, generation=generation)
    return Fate.OUTDATED if counted[Counted.OUTDATED] else Fate.TAKEN


def version_at(controller: Controller, user_key: str, at: float) -> Version | None:
    """Return the version that a user had at a plan time; None where nobody can tell any more."""
    plan, members = controller.plan, controller.members
    enrolment, then = members.enrolment_of(user_key), controller.rollout.assigned_at(plan, at)
    if then is None or (enrolment is not None and at < enrolment.at):
        return None
    cohort = members.cohort_of(user_key)
    return assign(user_key, salt=plan.assignment.salt, split=then[0], cohort=cohort, killed=then[1]).version


async def ask(controller: Controller, store: Store, user_key: str, now: float) -> bool:
    """Tell whether a user is to be asked now: the plan's share of them is, once a phase, who said nothing in it yet.

    ConflictError where this controller follows, StoreError where nobody can tell who was asked: then nobody is.
    """
    plan = controller.plan
    if controller.fenced is not None:
        raise ConflictError(controller.fenced)
    user = user_hash(user_key, plan.assignment.salt)
    phase = asking_in(controller.rollout, plan.feedback.keep_s, now)
    drawn = user_hash(f"{phase}\0{user_key}", plan.assignment.salt ^ 1) % _DRAWS
    if not phase or drawn >= plan.feedback.ask * _DRAWS:
        return False
    generation = 0 if controller.lease is None else controller.lease.generation
    return await store.ask_once(plan.name, phase, user, generation=generation)

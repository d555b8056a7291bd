"""Notices to the owners of clients: which step is due, whom it concerns, and the text that they get.

An owner is a contact of the register: whoever has several clients gets one notice of each step that names them all. It
concerns clients that ask for V1's own paths; those that come by the entry move with the split.

The same step makes the same id for the same contact, on whatever machine and however often.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import blake2b
from string import Template

from crossfade.core.brownout import calendar, meets, salt_of
from crossfade.core.clients.ledger import ASKED, Ledger
from crossfade.core.clients.register import Registered
from crossfade.core.machine import State
from crossfade.core.plan import DAY, WEEK, Brownout, Deprecation, OwnerStep, Plan
from crossfade.core.rollout import Rollout
from crossfade.core.words import one_line, percent

WATCHED_S = DAY
"""Plan seconds for which the ledger has been kept before anyone is told: who calls once a day is in it then."""
NAMED_MAX = 50
"""Clients that one text names."""
VALUE_MAX = 300
"""Characters of a value in a text."""
_GOING_ON = (State.RUNNING, State.PAUSED, State.DRILLING, State.COMPLETED, State.RETIRING)
_ID_BYTES = 16

FIELDS = ("rollout", "owner", "clients", "since", "successor")
"""What every template may name."""
_OF_BROWNOUT = ("brownout", "begins", "ends", "share")


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """A step and, for one of these, the brownout that it is about."""

    step: OwnerStep
    brownout: Brownout | None = None

    @property
    def name(self) -> str:
        """Return the brownout's name; empty where it is about none."""
        return "" if self.brownout is None else self.brownout.name


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerNotice:
    """One message to one owner."""

    id: str
    """The same however often it is sent: receivers know by it what they have had."""
    occasion: Occasion
    at: float
    """Plan time at which it was made."""
    rollout: str
    owner: str
    contact: str
    clients: tuple[str, ...]
    subject: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of clients and their owners."""

    ledger: Ledger
    register: Mapping[str, Registered]
    told: Collection[str]
    """Ids of the notices that owners have had."""


# ── templates ────────────────────────────────────────────────────────────────────────────────────────────────


def fields_of(step: OwnerStep, said: Deprecation) -> tuple[str, ...]:
    """Return the names that a template of a step may use under a plan's `deprecation`."""
    return (
        *FIELDS,
        *(["sunset"] if said.sunset is not None else []),
        *(["page"] if said.notice else []),
        *(_OF_BROWNOUT if step is OwnerStep.BROWNOUT else []),
    )


def fault_of(text: str, known: Sequence[str]) -> tuple[int, str] | None:
    """Return the first line (from 1) of a template that can't be meant, and why; None where all of it can.

    `$name` and `${name}` stand for a field, `$$` for a dollar; nothing else is carried out.
    """
    for found in Template.pattern.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        if found["invalid"] is not None:
            return line, "`$` stands before the name of a field, such as $clients; a dollar itself is `$$`"
        name = found["named"] or found["braced"]
        if name and name not in known:
            return line, f"there is no field ${name} here; there are {', '.join(f'${one}' for one in known)}"
    subject, _, rest = text.partition("\n")
    if not subject.startswith("Subject:") or not subject.removeprefix("Subject:").strip():
        return 1, "begins without a subject; write `Subject: ...` in its first line, and a blank line after it"
    if "clients" in Template(subject).get_identifiers():
        return 1, "$clients has several lines and stands below the subject"
    body, _, below = rest.partition("\n")
    if body.strip():
        return 2, "the line after the subject is to be blank"
    return None if below.strip() else (1, "has no text below the subject")


def default_template(step: OwnerStep, said: Deprecation) -> str:
    """Return the text of a step that a plan gives none for."""
    page = ["What changes, and how to move: $page"] if said.notice else []
    sunset = said.sunset is not None
    subject, begin, end = {
        OwnerStep.PREPARED: (
            "V2 of the API that you call is being rolled out",
            "V2 of the API is being rolled out step by step, and V1 is deprecated as of $since. These of your clients "
            "call V1:",
            ["Please plan their move." + (" V1 may be gone from $sunset on." if sunset else "")],
        ),
        OwnerStep.ANNOUNCED: (
            "V1 of the API that you call is deprecated" + (", and may be gone from $sunset on" if sunset else ""),
            "V1 of the API is deprecated as of $since. These of your clients still call it:",
            ["Please move them to V2." + (" From $sunset on, V1 may answer 410 Gone for good." if sunset else "")],
        ),
        OwnerStep.BROWNOUT: (
            "V1 answers 410 from $begins to $ends",
            "from $begins to $ends V1 will answer 410 Gone to $share of its clients, on purpose, so that nobody learns "
            "of its end only when it has come. These of your clients call V1 and are among them:",
            ["After that V1 is back for them. The brownout is called $brownout. Clients that call V2 notice nothing."],
        ),
        OwnerStep.LAST_WEEK: (
            "V1 of the API that you call may be gone from $sunset on",
            "V1 of the API may be gone from $sunset on, and will answer 410 Gone then, for good. These of your clients "
            "still call it:",
            ["Please move them to V2 before that day."],
        ),
        OwnerStep.RETIRED: (
            "V1 of the API is gone",
            "V1 of the API was retired: its paths answer 410 Gone from now on, and nothing brings them back. These of "
            "your clients called it:",
            [],
        ),
    }[step]
    lines = [f"Subject: $rollout: {subject}", "", "Hello $owner,", "", begin, "", "$clients", "", *end]
    return "\n".join([*lines, "V2 is at $successor", *page, ""])


# ── when ─────────────────────────────────────────────────────────────────────────────────────────────────────


def occasions(plan: Plan, rollout: Rollout, now: float) -> tuple[Occasion, ...]:
    """Return what is due at plan time `now` of the steps that the plan tells, whoever has been told of it.

    Of prepared, announced and last week only the latest is due: nobody gets all of them at once.
    """
    rule, said = plan.owner_notices, plan.deprecation
    if rule is None or said is None:
        return ()
    if rollout.state is State.RETIRED:
        return (Occasion(step=OwnerStep.RETIRED),) if OwnerStep.RETIRED in rule.templates else ()
    if rollout.state not in _GOING_ON:
        return ()
    announced = rollout.phase >= said.from_phase
    reached = [
        OwnerStep.PREPARED,
        *([OwnerStep.ANNOUNCED] if announced else []),
        *([OwnerStep.LAST_WEEK] if announced and said.sunset is not None and now >= said.sunset - WEEK else []),
    ]
    latest = [Occasion(step=step) for step in reached if step in rule.templates][-1:]
    near = [
        Occasion(step=OwnerStep.BROWNOUT, brownout=one)
        for one in calendar(plan)
        if announced and OwnerStep.BROWNOUT in rule.templates
        if one.name not in rollout.brownouts_over and one.at - WEEK <= now < one.at
    ]
    return (*latest, *near)


def planned(plan: Plan, rollout: Rollout, step: OwnerStep) -> Occasion | None:
    """Return the next occasion of a step, due or not; None where the plan tells none, or its brownouts are over."""
    rule = plan.owner_notices
    if rule is None or step not in rule.templates:
        return None
    if step is not OwnerStep.BROWNOUT:
        return Occasion(step=step)
    ahead = (one for one in calendar(plan) if one.name not in rollout.brownouts_over and one.name != rollout.brownout)
    return next((Occasion(step=step, brownout=one) for one in ahead), None)


# ── whom ─────────────────────────────────────────────────────────────────────────────────────────────────────


def unowned(known: Known) -> tuple[str, ...]:
    """Return the clients that ask for V1's own paths and for which nobody can be told: no contact is registered."""
    return tuple(
        f"{client.name} (agent)" if client.agent else client.name
        for client, entry in known.ledger
        if known.ledger.still_asks(entry) and (client.agent or not _contact(known.register.get(client.name)))
    )


def due(
    plan: Plan,
    rollout: Rollout,
    known: Known,
    now: float,
) -> tuple[OwnerNotice, ...]:
    """Return the notices that are due at plan time `now` and whose ids are not among those told."""
    since = known.ledger.since
    if since is None or now - since < WATCHED_S:
        return ()
    return tuple(
        _notice(plan, occasion, contact, entries, now)
        for occasion in occasions(plan, rollout, now)
        for contact, entries in _concerned(plan, occasion, known)
        if _id(plan.name, occasion, contact) not in known.told
    )


def preview(
    plan: Plan,
    occasion: Occasion,
    known: Known,
    now: float,
) -> tuple[OwnerNotice, ...]:
    """Return the notices that an occasion would make at plan time `now`, those told as well, by contact."""
    concerned = _concerned(plan, occasion, known)
    return tuple(_notice(plan, occasion, contact, entries, now) for contact, entries in concerned)


def _concerned(plan: Plan, occasion: Occasion, known: Known) -> Iterator[tuple[str, Sequence[Registered]]]:
    """Yield the contacts whom an occasion concerns, in their order, each with its clients.

    That V1 was retired concerns whoever was told of a step before as well.
    """
    seen = [(client.name, entry) for client, entry in known.ledger if not client.agent]
    asking = {name for name, entry in seen if known.ledger.still_asks(entry)}
    asked = {name for name, entry in seen if entry.last_by(ASKED) is not None}
    theirs: dict[str, list[Registered]] = {}
    for entry in known.register.values():
        if entry.contact:
            theirs.setdefault(entry.contact, []).append(entry)
    for contact, entries in sorted(theirs.items()):
        about = [one for one in entries if one.client in asking and _concerns(plan, occasion, one)]
        if not about and occasion.step is OwnerStep.RETIRED and _told_before(plan, contact, known.told):
            about = [one for one in entries if one.client in asked] or entries
        if about:
            yield contact, about


def _contact(entry: Registered | None) -> str:
    return "" if entry is None else entry.contact


def _concerns(plan: Plan, occasion: Occasion, entry: Registered) -> bool:
    one = occasion.brownout
    if one is None:
        return True
    return not entry.is_exempt(one.at) and meets(entry.client, one.share, salt_of(plan.name, one.name))


def _told_before(plan: Plan, contact: str, told: Collection[str]) -> bool:
    steps = [Occasion(step=step) for step in OwnerStep if step is not OwnerStep.BROWNOUT]
    brownouts = [Occasion(step=OwnerStep.BROWNOUT, brownout=one) for one in calendar(plan)]
    return any(_id(plan.name, occasion, contact) in told for occasion in (*steps, *brownouts))


def _id(rollout: str, occasion: Occasion, contact: str) -> str:
    text = f"{rollout}\nowner\n{occasion.step}\n{occasion.name}\n{contact}"
    return "notice_" + blake2b(text.encode(errors="surrogatepass"), digest_size=_ID_BYTES).hexdigest()


# ── what ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _notice(plan: Plan, occasion: Occasion, contact: str, entries: Sequence[Registered], now: float) -> OwnerNotice:
    rule, said = plan.owner_notices, plan.deprecation
    if rule is None or said is None:
        raise ValueError(f"the plan {plan.name} tells owners nothing")
    template = rule.templates[occasion.step]
    names = tuple(entry.client for entry in entries)
    owner = one_line(next((entry.owner for entry in entries if entry.owner), ""), VALUE_MAX)
    values = {
        "rollout": plan.name,
        "owner": owner or f"owner of {one_line(names[0], VALUE_MAX)}",
        "since": _told_date(said.since),
        "successor": said.successor,
        "sunset": "" if said.sunset is None else _told_date(said.sunset),
        "page": said.notice,
    }
    if occasion.brownout is not None:
        one = occasion.brownout
        values |= {"brownout": one.name, "begins": _told_time(one.at), "ends": _told_time(one.until)}
        values |= {"share": percent(one.share)}
    values = {name: one_line(value, VALUE_MAX) for name, value in values.items()}
    subject, _, body = template.partition("\n")
    listed = "\n".join([_line(entry, now) for entry in entries[:NAMED_MAX]] + _rest(len(entries) - NAMED_MAX))
    return OwnerNotice(
        id=_id(plan.name, occasion, contact),
        occasion=occasion,
        at=now,
        rollout=plan.name,
        owner=owner,
        contact=contact,
        clients=names,
        subject=one_line(Template(subject.removeprefix("Subject:")).substitute(values), VALUE_MAX),
        text=Template(body.lstrip("\n")).substitute(values | {"clients": listed}),
    )


def _line(entry: Registered, now: float) -> str:
    name = one_line(entry.client, VALUE_MAX)
    until: date | None = entry.exempt_until if entry.is_exempt(now) else None
    exempt = "" if until is None else f" (exempt: V1 is not taken from it up to and including {until.isoformat()})"
    return f"  - {name}{exempt}"


def _rest(count: int) -> list[str]:
    return [f"  - and {count} more"] if count > 0 else []


def _told_date(seconds: int) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{at:%Y-%m-%d}" if seconds % int(DAY) == 0 else _told_time(seconds)


def _told_time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"

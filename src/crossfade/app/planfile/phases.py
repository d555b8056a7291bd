"""The `phases` section: splits, soaks and gates, and whether each phase can be entered and left at all."""

from __future__ import annotations

from crossfade.app.planfile import quantities, shares
from crossfade.app.planfile.context import Context
from crossfade.app.planfile.fields import Field, Section, suggest
from crossfade.app.planfile.gates import inherit, read_gates
from crossfade.app.planfile.shares import EVERYONE_ELSE
from crossfade.app.planfile.source import Entries
from crossfade.core.plan import DRILL_WITHIN_S, DrillStep, Gate, GateKind, Phase
from crossfade.core.split import BUCKETS, Split
from crossfade.core.words import duration, percent

PHASE_KEYS = ("name", "split", "cohort", "users", "soak", "margin", "drill", "promote when", "then")
DRILL_KEYS = ("after", "within", "v1 capacity")
_DRILL_EXAMPLE = "{after: 1d, within: 60s}"
_EXAMPLE = "{name: canary, split: 5%, soak: 1w}"
DEFAULT_MARGIN = 1.25
RETIRE = "retire v1"
ARCHIVE = f"archive and {RETIRE}"
_WANTED = {GateKind.NO_V1_REQUESTS: "no v1 requests for 1d", GateKind.APPROVED: "approved by a person"}
"""Gates of a phase after which V1 may be retired, each with an example."""
_ROOM = 0.25
"""By how much `users: about 100` may differ from what the split makes."""


def read_phases(field_: Field | None, context: Context) -> tuple[Phase, ...]:
    """Return the phases, those with mistakes left out, in the order written."""
    found: list[tuple[Phase, Section]] = []
    seen: dict[str, int] = {}
    for item in field_.items(_EXAMPLE) if field_ else ():
        section = item.section(PHASE_KEYS, _EXAMPLE)
        if section is None:
            continue
        phase = _read_phase(section, context, seen)
        if phase is not None:
            found.append((phase, section))
    _check_retirement(found)
    return tuple(phase for phase, _ in found)


def _read_phase(section: Section, context: Context, seen: dict[str, int]) -> Phase | None:
    name = _name(section, seen)
    split = _split(section, context)
    aimed, target = split or (None, context.target)
    margin = section.parse("margin", quantities.margin, DEFAULT_MARGIN)
    users = 0 if aimed is None else _users(section, context, target)
    own = read_gates(section, context, aimed)
    gates = inherit(context.inherited, own)
    soak = _soak(section, gates, context, own)
    drill = _drill(section, aimed, soak)
    then = _then(section)
    for gate in own:
        context.given_by.setdefault(gate.text, name or "?")
    context.inherited = gates
    if aimed is not None:
        context.split, context.target, context.name = aimed, target, name or "?"
    if name is None or soak is None or aimed is None:
        return None
    return Phase(
        name=name,
        split=aimed,
        target=target,
        soak_s=soak,
        gates=gates,
        own_gates=own,
        margin=margin,
        drill=drill,
        users=users,
        retires=then is not None,
        archives=then == ARCHIVE,
    )


def _name(section: Section, seen: dict[str, int]) -> str | None:
    value = section.require("name", "canary")
    name = value.parse(quantities.group_name) if value else None
    if name is None or value is None:
        return None
    if name in seen:
        value.problem(f"a phase called {name!r} is already on line {seen[name]}; name this one otherwise")
    seen.setdefault(name, value.node.line)
    return name


def _split(section: Section, context: Context) -> tuple[Split, int] | None:
    """Return the split as applied and the target as meant; None, with a problem noted, where there is none."""
    value = section.require("split", "5%")
    if value is None:
        return None
    if isinstance(value.node, Entries):
        return _explicit_split(value, section, context)
    target = value.parse(quantities.basis_points)
    cohort = _cohort(section, context)
    if target is None:
        return None
    if target < context.target:
        value.problem(
            f"{percent(target)} falls below the {percent(context.target)} of phase {context.name}; "
            "a split only rises, so write more or order the phases anew"
        )
        return None
    if section.get("cohort") is None:
        return shares.level(target, context.split, context.people), target
    if cohort is None:
        return None
    return _cohort_split(section, context, cohort, target)


def _cohort(section: Section, context: Context) -> str | None:
    value = section.get("cohort")
    cohort = value.text() if value else None
    if value is None or cohort is None:
        return None
    if cohort not in context.cohort_names:
        value.problem(f"there is no cohort {cohort!r} in assignment.cohorts{suggest(cohort, context.cohort_names)}")
        return None
    return cohort if cohort in context.people.sizes else None  # its file has a problem of its own


def _cohort_split(section: Section, context: Context, cohort: str, target: int) -> tuple[Split, int] | None:
    value = section.values["cohort"]
    if target == 0:
        context.people = context.people.with_staff(cohort)
        return shares.staff_split(context.split, cohort), 0
    if cohort in context.people.staff:
        value.problem(
            f"all of {cohort} are on V2 since a phase at 0%; draw the users from another cohort, or remove it"
        )
        return None
    if context.people.users == 0 and context.users_unread:
        return None
    if context.people.users == 0:
        value.problem(
            f"how much of {cohort} makes {percent(target)} of all users can't be told; "
            "write how many users there are: `users: 2000` in assignment"
        )
        return None
    if not context.people.sizes[cohort]:
        value.problem(f"all members of {cohort} belong to cohorts before it; order assignment.cohorts anew")
        return None
    return shares.cohort_first(target, context.split, context.people, cohort), target


def _explicit_split(value: Field, section: Section, context: Context) -> tuple[Split, int] | None:
    """Return a split written as {beta: 50%, everyone else: 0%}."""
    if cohort := section.get("cohort"):
        cohort.problem("a split by cohort already says who; remove one of the two")
    given = _explicit_shares(value, context)
    if given is None:
        return None
    if context.people.users == 0 and context.users_unread:
        return None
    if context.people.users == 0:
        value.problem("what share of all users this makes can't be told; write `users: 2000` in assignment")
        return None
    split = shares.explicit(given, context.split)
    for name in (None, *split.cohorts):
        if split.share_of(name) < context.split.share_of(name):
            value.problem(
                f"{name or EVERYONE_ELSE} falls from {percent(context.split.share_of(name))} (phase {context.name}) "
                f"to {percent(split.share_of(name))}; a split only rises"
            )
            return None
    target = round(context.people.weight(split))
    if target == 0 and shares.anyone_on_v2(split):
        value.problem("makes less than 0.01% of all users; for a staff cohort write split: 0% and cohort: its name")
        return None
    return split, target


def _explicit_shares(value: Field, context: Context) -> dict[str, int] | None:
    given: dict[str, int] = {}
    entries = value.named("{beta: 50%, everyone else: 0%}")
    for name, key, share in entries:
        points = share.parse(quantities.basis_points)
        if name != EVERYONE_ELSE and name not in context.cohort_names:
            key.problem(f"there is no cohort {name!r}{suggest(name, [*context.cohort_names, EVERYONE_ELSE])}")
        elif points is not None and (name == EVERYONE_ELSE or name in context.people.sizes):
            given[name] = points
    if all(name != EVERYONE_ELSE for name, _, _ in entries):
        value.problem(f"says nothing of the others; add `{EVERYONE_ELSE}: 0%`")
        return None
    return given if len(given) == len(entries) else None


def _users(section: Section, context: Context, target: int) -> int:
    """Return the number of users that the author expects, 0 for none; note where it isn't what the split makes."""
    value = section.get("users")
    said = value.parse(quantities.users) if value else None
    made = target * context.people.users / BUCKETS
    if value and said is not None and context.people.users and abs(said - made) > _ROOM * max(said, made):
        value.problem(
            f"{said:,} users don't go with the split; {percent(target)} of {context.people.users:,} are {made:,.0f}"
        )
    return said or 0


def _soak(section: Section, gates: tuple[Gate, ...], context: Context, own: tuple[Gate, ...]) -> float | None:
    """Return the soak in seconds; where it is left out, the longest time a gate asks for."""
    longest = max(gates, key=lambda gate: gate.for_s, default=None)
    value = section.get("soak")
    if value is None:
        if longest is not None and longest.for_s > 0:
            return longest.for_s
        section.require("soak", "1w")
        return None
    soak = value.parse(quantities.positive_duration)
    if soak is not None and longest is not None and longest.for_s > soak:
        whose = "" if longest in own else f", inherited from phase {context.given_by.get(longest.text, '?')},"
        value.problem(
            f"gate `{longest.text}`{whose} can't be met within a soak of {duration(soak)}; "
            f"write soak: {duration(longest.for_s)} or more"
        )
    return soak


def _drill(section: Section, split: Split | None, soak: float | None) -> DrillStep | None:
    """Return the phase's drill, noting where nobody could be drilled with or it would come after the soak."""
    value = section.get("drill")
    inner = value.section(DRILL_KEYS, _DRILL_EXAMPLE) if value else None
    if value is None or inner is None:
        return None
    after_field = inner.require("after", "1d")
    after = after_field.parse(quantities.positive_duration) if after_field else None
    within = inner.parse("within", quantities.positive_duration, DRILL_WITHIN_S)
    capacity = inner.parse("v1 capacity", quantities.rate, None)
    if split is not None and not shares.anyone_on_v2(split):
        value.problem(
            "nobody is on V2 in this phase, so a rollback would move nobody; put the drill into a later phase"
        )
    if after_field is None or after is None:
        return None
    if soak is not None and after >= soak:
        after_field.problem(f"the drill would begin after the soak of {duration(soak)}; write less, such as 1d")
    return DrillStep(after_s=after, within_s=within, v1_capacity=capacity)


def _then(section: Section) -> str | None:
    """Return what may be done after this phase; None where nothing."""
    value = section.get("then")
    text = value.text() if value else None
    if value is None or text is None:
        return None
    said = " ".join(text.lower().split())
    if said not in {RETIRE, ARCHIVE}:
        value.problem(
            f"{text!r} is nothing that can follow a phase; write `then: {RETIRE}` or `then: {ARCHIVE}`, or leave it out"
        )
        return None
    return said


def _check_retirement(phases: list[tuple[Phase, Section]]) -> None:
    """Note where V1 would be retired before the last phase, or without the gates that it wants."""
    for phase, section in phases:
        if not phase.retires:
            continue
        value = section.values["then"]
        if phase is not phases[-1][0]:
            value.problem(f"V1 is retired after the last phase, which {phase.name} is not")
            continue
        for kind, example in _WANTED.items():
            if all(gate.kind is not kind for gate in phase.gates):
                value.problem(f"no rollback undoes it, so this phase wants the gate `{example}` too")

"""`clients: notices`: which steps the owners of clients are told, in which words, and how it gets to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crossfade.app.planfile.fields import Field, suggest
from crossfade.app.planfile.notices import read_kept_place
from crossfade.app.planfile.source import read_text
from crossfade.core.clients.owners import default_template, fault_of, fields_of
from crossfade.core.places import mail_address, mail_server, signing_key
from crossfade.core.plan import Deprecation, OwnerNotices, OwnerStep
from crossfade.errors import PlanError, Problem

OWNER_NOTICES_KEYS = ("steps", "from", "mail", "secret", "templates")
STEPS = tuple(step.value for step in OwnerStep)
_EXAMPLE = "{from: api-team@example.org, mail: {env: CROSSFADE_MAIL}}"
_BYTES = 64 * 1024


def read_owner_notices(field: Field, said: Deprecation, folder: Path, *, retires: bool) -> OwnerNotices | None:
    """Return the section; None, with problems noted, where it is wrong.

    Templates are looked for beside the plan and read now: a rollout goes on with them as they are.
    """
    section = field.section(OWNER_NOTICES_KEYS, _EXAMPLE)
    if section is None:
        return None
    lacks = _lacks(said, retires=retires)
    steps = _steps(section.get("steps"), lacks)
    templates = _templates(section.get("templates"), steps, said, folder)
    mail = read_kept_place(section.get("mail"), folder, mail_server, "mail-url")
    secret = read_kept_place(section.get("secret"), folder, signing_key, "webhook-secret")
    sender = section.parse("from", mail_address, "")
    if section.get("mail") is not None and section.get("from") is None:
        section.require("from", "api-team@example.org")
        return None
    return OwnerNotices(
        templates={step: templates.get(step) or default_template(step, said) for step in steps},
        sender=sender,
        mail=mail,
        secret=secret,
    )


def _lacks(said: Deprecation, *, retires: bool) -> dict[OwnerStep, str]:
    """Return the steps that can't come in a plan, and what it lacks."""
    return {
        **({} if said.brownouts else {OwnerStep.BROWNOUT: "the plan has no `deprecation: brownouts`"}),
        **({} if said.sunset is not None else {OwnerStep.LAST_WEEK: "the plan has no `deprecation: sunset`"}),
        **({} if retires else {OwnerStep.RETIRED: "the last phase doesn't end with `then: retire v1`"}),
    }


def _steps(field: Field | None, lacks: dict[OwnerStep, str]) -> tuple[OwnerStep, ...]:
    if field is None:
        return tuple(step for step in OwnerStep if step not in lacks)
    found = set()
    for item in field.items("[announced, brownout, last week, retired]"):
        step = item.parse(_step)
        if step is None:
            continue
        if step in found:
            item.problem(f"`{step}` is listed twice; keep one")
        if step in lacks:
            item.problem(f"never comes: {lacks[step]}")
        found.add(step)
    return tuple(step for step in OwnerStep if step in found)


def _templates(
    field: Field | None, steps: Sequence[OwnerStep], said: Deprecation, folder: Path
) -> dict[OwnerStep, str]:
    section = field.section(STEPS, "{announced: notices/announced.txt}") if field else None
    found: dict[OwnerStep, str] = {}
    for name, value in section.values.items() if section else ():
        step = OwnerStep(name)
        if step not in steps:
            value.problem(f"is the text of a step that is not told; told are {', '.join(steps) or 'none'}")
        elif (text := _template(value, step, said, folder)) is not None:
            found[step] = text
    return found


def _template(field: Field, step: OwnerStep, said: Deprecation, folder: Path) -> str | None:
    name = field.text()
    if name is None:
        return None
    path = folder / name
    try:
        text = read_text(path, limit=_BYTES).replace("\r\n", "\n")
    except PlanError as error:
        field.problem("; ".join(f"{path} {problem.message}" for problem in error.problems))
        return None
    fault = fault_of(text, fields_of(step, said))
    if fault is None:
        return text
    line, message = fault
    field.report.problems.append(Problem(str(path), line, 1, "", message))
    return None


def _step(text: str) -> OwnerStep:
    if text not in STEPS:
        raise ValueError(f"{text!r} is no step{suggest(text, STEPS)}")
    return OwnerStep(text)

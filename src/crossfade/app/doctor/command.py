"""`crossfade doctor`: which rollouts are meant, and how what was found is printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from crossfade.app.commands import say
from crossfade.app.control import CONTROL_FILE, noted_plan, read_control
from crossfade.app.doctor.finding import Installation, Status, Subject
from crossfade.app.doctor.run import Line, examine, failed
from crossfade.app.planfile import load_plan
from crossfade.app.settings import Settings
from crossfade.app.terminal.escaped import escaped
from crossfade.app.terminal.looks import table
from crossfade.errors import CrossfadeError, UnreachableError, UsageError


def run_doctor(plan: Path | None, rollout: str | None, state: Path, database: str, output: str) -> int:
    """Print what all checks find; return the exit code: 1 where something fails, else 0."""
    try:
        settings = Settings(state=state, database=database)
    except ValidationError as error:
        fault = error.errors()[0]
        name = f"CROSSFADE_{'_'.join(map(str, fault['loc'])).upper()}"
        raise UsageError(f"{name}: {fault['msg']}, not {fault['input']!r}") from None
    try:
        lines = list(examine(Installation(settings=settings, subjects=_subjects(plan, rollout, settings))))
    except PermissionError as error:
        raise UsageError(
            f"{error.filename} may not be looked into; run this as the user that `serve` runs as"
        ) from None
    say(output, as_data(lines), _wide(lines) if output == "wide" else as_text(lines))
    return 1 if failed(lines) else 0


def _subjects(plan: Path | None, rollout: str | None, settings: Settings) -> tuple[Subject, ...]:
    if plan is not None:
        if not plan.is_file():
            load_plan(plan)  # tells what is wrong with it
        return (_subject(rollout, plan.resolve(), settings),)
    if rollout is not None:
        if not settings.folder(rollout).is_dir():
            raise UsageError(f"there is no rollout {rollout!r} in {settings.state}; name its plan instead")
        return (_subject(rollout, None, settings),)
    kept = sorted(path for path in settings.state.glob("*") if path.is_dir())
    return tuple(_subject(folder.name, None, settings) for folder in kept)


def _subject(name: str | None, path: Path | None, settings: Settings) -> Subject:
    """Gather what files say of a rollout, given its name, its plan or both."""
    path = path or noted_plan(settings.folder(name or ""))
    plan, wrong = None, "it was not written down which plan this was carried out from"
    if path is not None:
        try:
            plan, wrong = load_plan(path), ""
        except CrossfadeError as error:
            wrong = str(error)
            if name is None:
                name = _served_from(path, settings) or path.name
    name = name or (plan.name if plan is not None else "")
    if plan is not None and plan.name != name:
        raise UsageError(f"{path} is of the rollout {plan.name}, not of {name}")
    control, unread, folder = None, "", settings.folder(name)
    try:
        control = read_control(folder)
    except UnreachableError as error:
        unread = str(error) if (folder / CONTROL_FILE).exists() else ""
    return Subject(name=name, settings=settings, plan=plan, wrong=wrong, path=path, control=control, unread=unread)


def _served_from(path: Path, settings: Settings) -> str | None:
    """Return the rollout that was last carried out from a plan file."""
    folders = (folder for folder in settings.state.glob("*") if folder.is_dir())
    return next((folder.name for folder in folders if noted_plan(folder) == path), None)


def as_data(lines: Sequence[Line]) -> dict[str, Any]:
    """Return the findings for programs."""
    count = Counter(line.finding.status for line in lines)
    return {
        "counts": {status.value: count[status] for status in Status},
        "findings": [
            {
                "rollout": line.rollout or None,
                "check": line.check,
                "status": line.finding.status.value,
                "found": line.finding.found,
                "mend": line.finding.mend or None,
            }
            for line in lines
        ],
    }


def as_text(lines: Sequence[Line]) -> str:
    """Return one line for each finding, and what they add up to."""
    told = [
        f"{line.finding.status:<4}  {line.rollout}{'/' if line.rollout else ''}{line.check}: {_said(line)}"
        for line in lines
    ]
    count = Counter(line.finding.status for line in lines)
    return "\n".join([*told, ", ".join(f"{count[status]} {status}" for status in Status)])


def _said(line: Line) -> str:
    mend = f"; {line.finding.mend}" if line.finding.mend else ""
    return escaped(f"{line.finding.found}{mend}")


def _wide(lines: Sequence[Line]) -> str:
    rows = [["STATUS", "ROLLOUT", "CHECK", "FOUND", "WHAT MENDS IT"]]
    for line in lines:
        finding = line.finding
        rows.append(
            [
                finding.status.value,
                line.rollout or "-",
                line.check,
                escaped(finding.found),
                escaped(finding.mend) or "-",
            ]
        )
    return table(rows)

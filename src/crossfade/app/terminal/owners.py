"""`crossfade clients notices`: what the owners of clients were told, and what they would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

from crossfade.app.commands import client_of, say
from crossfade.app.terminal.escaped import escaped, escaped_all
from crossfade.app.terminal.looks import table
from crossfade.core.words import moment
from crossfade.errors import UsageError

_ALL = 1_000_000
_STEPS = ("prepared", "announced", "brownout", "last week", "retired")
_NAMED = 3


def notices(rollout: str | None, state: Path, output: str, step: str | None, *, dry_run: bool) -> None:
    """Print what owners were told, or would be, of all steps or of one; UsageError where there is no such step."""
    if step is not None and step not in _STEPS:
        raise UsageError(f"{escaped(step)!r} is no step; there are {', '.join(_STEPS)}")
    client = client_of(rollout, state)
    if dry_run:
        data = client.get(f"/clients/notices/ahead{f'?step={quote(step)}' if step else ''}")
        say(output, data, _ahead(data, whole=output == "wide"))
        return
    lines = [one for one in client.pages("/clients/notices?limit=1000", _ALL) if step in (None, one["step"])]
    say(output, lines, _told(escaped_all(lines)))


def _told(lines: list[dict[str, Any]]) -> str:
    if not lines:
        return "no owner of a client was told anything yet"
    rows = [["WHEN (UTC)", "STEP", "OWNER", "CONTACT", "CLIENTS", "CAME BACK"]]
    rows += [
        [
            moment(one["at"])[:16],
            _step(one),
            one["owner"] or "-",
            one["contact"],
            _clients(one["clients"], one["count"]),
            one["said"] if one["taken"] else f"GIVEN UP: {one['said']}",
        ]
        for one in lines
    ]
    return table(rows)


def _ahead(data: dict[str, Any], *, whole: bool) -> str:
    lines = escaped_all(data["notices"])
    unowned = escaped_all(data["unowned"])
    rows = [["STEP", "OWNER", "CONTACT", "CLIENTS", "BY", "IS"]]
    rows += [
        [
            _step(one),
            one["owner"] or "-",
            one["contact"],
            _clients(one["clients"], len(one["clients"])),
            one["way"] or "NOBODY",
            "told" if one["told"] else "due" if one["due"] else "ahead",
        ]
        for one in lines
    ]
    blocks = [table(rows) if lines else "nobody would be told anything"]
    if whole:
        texts = (escaped(f"Subject: {one['subject']}\n\n{one['text']}", keep="\n") for one in data["notices"])
        blocks += [f"── {one['contact']}\n{text}" for one, text in zip(lines, texts, strict=True)]
    if any(one["way"] is None for one in lines):
        blocks.append("✖ owners by NOBODY have a mail address; write `mail:` and `from:` into the plan's notices")
    if unowned:
        blocks.append(
            f"✖ {len(unowned)} still ask for V1 and nobody is told, for the register has no contact: "
            f"{', '.join(unowned)}; write one with `crossfade clients register FILE`"
        )
    return "\n\n".join(blocks)


def _step(one: dict[str, Any]) -> str:
    return f"{one['step']} {one['brownout']}" if one["brownout"] else str(one["step"])


def _clients(names: list[str], count: int) -> str:
    more = f" and {count - _NAMED} more" if count > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more

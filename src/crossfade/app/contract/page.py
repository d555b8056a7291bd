"""The page for V1's clients: what they find when they move, as HTML without script and as Markdown."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from crossfade.core.contract.migration import Migration, Move
from crossfade.core.plan import Deprecation

EXAMPLE_MAX = 4000
"""Characters of an example."""


def as_html(found: Migration, title: str, said: Deprecation | None) -> str:
    """Return the page; every text goes through the template's escaping."""
    folder = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=folder, autoescape=True, undefined=StrictUndefined).get_template("page.html")
    moves = [(move, _said(move), _examples(move)) for move in found.moves]
    return page.render(title=title, dates=_dates(said), moves=moves, new=found.new)


def as_markdown(found: Migration, title: str, said: Deprecation | None) -> str:
    """Return the same as Markdown, in which nothing from a document is markup."""
    lines = [f"# {_plain(title)}: from V1 to V2", "", *(f"- {date}" for date in _dates(said))]
    for move in found.moves:
        lines += ["", f"## {_code(f'{move.method} {move.v1}')}", ""]
        if move.v2 is None:
            lines.append("V2 has nothing in its place.")
            continue
        lines += [f"Now: {_code(f'{move.method} {move.v2}')}", ""]
        if move.changes:
            lines += ["| part | field | V1 | V2 |", "|---|---|---|---|"]
            rows = [(_code(one.part), _code(one.field), _cell(one.v1), _cell(one.v2)) for one in move.changes]
            lines += [f"| {' | '.join(row)} |" for row in rows]
        else:
            lines.append("Nothing else changes.")
        for version, text in _examples(move):
            fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
            lines += ["", f"{version} {_plain(_said(move))}", "", f"{fence}json", text, fence]
    if found.new:
        lines += ["", "## New in V2", "", *(f"- {_code(f'{method} {path}')}" for method, path in found.new)]
    return "\n".join(lines)


def _dates(said: Deprecation | None) -> list[str]:
    if said is None:
        return []
    dates = [f"V1 is deprecated since {_day(said.since)}."]
    if said.sunset is not None:
        dates.append(f"From {_day(said.sunset)} on V1 may be gone.")
    dates += [
        f"From {_day(one.at)} to {_day(one.until)} V1 is away for {one.share / 100:g} % of its clients."
        for one in said.brownouts
    ]
    return dates


def _day(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"


def _said(move: Move) -> str:
    return f"answered GET {move.asked} with:" if move.asked else "answers, for example:"


def _examples(move: Move) -> list[tuple[str, str]]:
    given: list[tuple[str, Any]] = [("V1", move.v1_example), ("V2", move.v2_example)]
    return [
        (version, _cut(json.dumps(one, indent=2, ensure_ascii=False, default=str)))
        for version, one in given
        if one is not None
    ]


def _cut(text: str) -> str:
    return text if len(text) <= EXAMPLE_MAX else text[:EXAMPLE_MAX] + "\n..."


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>()#+!|-])", r"\\\1", " ".join(text.split()))


def _cell(text: str) -> str:
    return _plain(text) or "-"


def _code(text: str) -> str:
    """Return text as code, also in a table's cell; empty for none."""
    clean = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{clean}`" if clean else ""

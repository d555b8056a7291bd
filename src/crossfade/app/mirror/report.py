"""A mirror's report, for programs and for people."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Any

from crossfade.app.mirror.run import MirrorReport
from crossfade.core.mirror.judge import Line
from crossfade.core.mirror.mask import MASKED
from crossfade.core.words import duration

_SHOWN_MAX = 40
"""Rows without a difference that people are shown."""


def as_data(report: MirrorReport, name: str = "") -> dict[str, Any]:
    """Return the report for programs; shares are of 1."""
    return {
        "plan": name,
        "verdict": report.verdict.value,
        "sentence": report.sentence,
        "partial": report.partial or None,
        "v1": list(report.places.v1),
        "v2": list(report.places.v2),
        "limit": report.rules.limit,
        "asked": report.asked,
        "compared": report.compared,
        "not_compared": dict(report.not_compared),
        "left_out": dict(report.left_out),
        "lasted_s": round(report.lasted_s, 3),
        "lines": [{**_line(line), "reproduce": _reproduce(report, line)} for line in report.lines],
    }


def _line(line: Line) -> dict[str, Any]:
    low, high = line.excess
    return {
        "path": line.path,
        "of": line.of,
        "verdict": line.verdict.value if line.verdict else None,
        "said": line.said,
        "asked": line.asked,
        "differing": line.differing,
        "v1_differing_from_itself": line.noise,
        "excess": {"low": low, "high": high},
        "kinds": dict(line.kinds),
        "examples": [asdict(example) for example in line.examples],
    }


def _reproduce(report: MirrorReport, line: Line) -> str | None:
    """Return commands that show the first example again; None where there is none, or part of it is masked."""
    question = next((one.question for one in line.examples if MASKED not in one.question), None)
    if question is None:
        return None
    rest = question[len(report.entry) :]
    urls = [places[0] + rest for places in (report.places.v1, report.places.v2)]
    return "; ".join(shlex.join(["curl", "-s", url]) for url in urls)


def as_text(data: dict[str, Any]) -> str:
    """Return the report for people: what differs with examples, then the rest as a table."""
    lines = [f"V1 at {', '.join(data['v1'])}", f"V2 at {', '.join(data['v2'])}"]
    if data["partial"]:
        lines.append(f"PARTIAL: {data['partial']}")
    lines.append(f"{data['asked']:,} questions in {duration(data['lasted_s'])}, {data['compared']:,} compared")
    lines += [f"  not compared: {times:,}: V1: {why}" for why, times in data["not_compared"].items()]
    lines += [f"  left out: {times:,}: {why}" for why, times in data["left_out"].items()]
    told = [one for one in data["lines"] if _is_told(one)]
    for one in told:
        lines += ["", f"{one['verdict'] or 'not judged'}: {_named(one)}: {one['said']}"]
        for example in one["examples"]:
            lines += [f"    {example['question']}", f"      {example['kind']}: {_told(one, example)}"]
        if one["verdict"] == "FAIL" and one["reproduce"]:
            lines.append(f"    again: {one['reproduce']}")
    rest = [one for one in data["lines"] if one not in told]
    if rest:
        width = max(len(_named(one)) for one in rest[:_SHOWN_MAX])
        lines.append("")
        lines += [f"{_named(one):{width}}  {one['verdict'] or '-':12}  {one['said']}" for one in rest[:_SHOWN_MAX]]
        if len(rest) > _SHOWN_MAX:
            lines.append(f"and {len(rest) - _SHOWN_MAX} more")
    return "\n".join([*lines, "", f"{data['verdict']}: {data['sentence']}"])


def _is_told(one: dict[str, Any]) -> bool:
    """Tell whether a line is more than a row of the table; fields that V2 adds are none of anybody's trouble."""
    return one["verdict"] in ("FAIL", "BLIND") or (one["differing"] > 0 and set(one["kinds"]) != {"added"})


def _named(one: dict[str, Any]) -> str:
    path: str = one["path"]
    return path if one["of"] == "fields" else f"{path} ({one['of']})"


def _told(one: dict[str, Any], example: dict[str, str]) -> str:
    right = {"fields": "V1", "bounds": "right", "reference": "reference"}[one["of"]]
    return f"{right} {example['v1']}, V2 {example['v2']}"

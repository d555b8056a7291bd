"""The report for people: text, and one HTML page without script or anything from elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from crossfade.core.rehearsal.report import Criterion, Report
from crossfade.core.verdict import Verdict
from crossfade.core.words import duration

_ORDER = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}


def as_text(report: Report) -> str:
    """Return the report for a terminal, what is worst first in each part."""
    lines = [f"{report.plan}: rehearsed {_when(report.began)} UTC, {duration(report.ended - report.began)}"]
    if report.quick:
        lines.append(QUICK)
    if report.partial:
        lines.append(f"PARTIAL: {_partial(report)}")
    for part in report.parts:
        lines += ["", f"{part.name}: {part.outcome}, {duration(part.ended - part.began)}"]
        for one in _sorted(part.criteria):
            why = f"; {one.why}" if one.why else ""
            limit = f" ({one.limit})" if one.limit else ""
            lines.append(f"  {one.outcome:12}  {one.name}: {one.figure}{why}{limit}")
            if one.outcome is not Verdict.PASS and one.reproduce:
                lines.append(f"    {one.reproduce}")
        lines += [f"  {note}" for note in part.notes]
    return "\n".join([*lines, "", f"{report.outcome}: {report.sentence}"])


def as_html(report: Report) -> str:
    """Return the report as a page; every text goes through the template's escaping."""
    folder = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=folder, autoescape=True, undefined=StrictUndefined).get_template("page.html")
    return page.render(
        report=report,
        when=_when(report.began),
        lasted=duration(report.ended - report.began),
        partial=_partial(report) if report.partial else "",
        quick=QUICK if report.quick else "",
        parts=[(part, _sorted(part.criteria), duration(part.ended - part.began)) for part in report.parts],
    )


QUICK = "Quick: fewer users and shorter times than the plan's. It shows faults, and is no evidence for a gate."


def _partial(report: Report) -> str:
    said = [f"{part.name} ended early, {part.partial}" for part in report.parts if part.partial]
    return "; ".join([*said, *([f"not run: {', '.join(report.missing)}"] if report.missing else [])])


def _sorted(criteria: tuple[Criterion, ...]) -> list[Criterion]:
    return sorted(criteria, key=lambda one: _ORDER[one.outcome])


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M")

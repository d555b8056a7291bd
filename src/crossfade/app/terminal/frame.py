"""One frame of `crossfade watch`, and its lines where no screen is drawn. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group
from rich.text import Text

from crossfade.app import values
from crossfade.app.terminal import looks
from crossfade.core.words import duration, moment, percent

_STYLES = {"PASS": "green", "FAIL": "bold red", "INCONCLUSIVE": "yellow", "BLIND": "bold magenta"}
_BARS = "▁▂▃▄▅▆▇█"
_SPARK = 12
_LATEST = 3
"""Decisions that are shown."""
_WORD_LINES = 3


@dataclass(slots=True, kw_only=True)
class View:
    """What is known of a rollout; all texts are escaped already."""

    status: dict[str, Any] = field(default_factory=dict)
    """Empty before the first answer."""
    phases: list[dict[str, Any]] = field(default_factory=list)
    metrics: list[dict[str, Any]] = field(default_factory=list)
    trend: list[dict[str, Any]] = field(default_factory=list)
    decisions: list[dict[str, Any]] = field(default_factory=list)
    gone: str = ""
    """Why nobody answers, and since when; empty while somebody does."""


def word(view: View) -> str:
    """Return the big plain word of what is most wrong; empty where nothing is."""
    if view.gone:
        return f"CONTROLLER GONE: {view.gone}"
    return looks.state(view.status) if view.status else ""


def draw(view: View, width: int, height: int) -> Group:
    """Return a frame of at most `height` lines; what does not fit is left out from the end, and that is said."""
    lines = [_line((f" crossfade watch  {view.status.get('rollout', '')}  {_now(view)}   q quits", "reverse"))]
    if told := word(view):
        style = "bold white on red" if view.gone or view.status.get("state") in ("rolled_back", "aborted") else ""
        style = style or "bold black on yellow"
        lines += [_line((f" {part}", style)) for part in textwrap.wrap(told, max(10, width - 2))[:_WORD_LINES]]
    if view.status:
        lines += [_phases(view), _line(f" {looks.split(view.status)}"), *_gates(view), *_alerts(view)]
        lines += [*_metrics(view), *_decisions(view)]
    if len(lines) > height:
        left_out = len(lines) - height + 1
        lines = [*lines[: height - 1], _line((f" ... {left_out} more lines; make the window taller", "dim"))]
    return Group(*lines)


def summary(view: View) -> str:
    """Return one line of where the rollout is; it is the same as long as nothing of weight has changed."""
    status = view.status
    if not status:
        return word(view)
    passed = sum(gate["verdict"] == "PASS" for gate in status["gates"])
    decision = status["decision"]
    parts = [
        f"{status['rollout']}: {status['state'].upper().replace('_', ' ')} in {status['phase']['name']}",
        "everyone on V1" if status["killed"] else f"{percent(status['weight'])} of users on V2",
        f"{passed} of {len(status['gates'])} gates passed",
        decision["outcome"] if decision else "nothing decided yet",
        *([word(view)] if word(view) else []),
    ]
    return ", ".join(parts)


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _title(text: str) -> Text:
    return _line((f"── {text} ──", "bold"))


def _now(view: View) -> str:
    status = view.status
    if not status:
        return "waiting for a first answer"
    held = f", HOLDING: {status['held_kind']}" if status["held"] else ""
    return f"{status['state'].upper().replace('_', ' ')}{held}  {moment(status['now'])} UTC"


def _phases(view: View) -> Text:
    """Return the phases that are over, the present one, and when those ahead are to be expected by their soaks."""
    status = view.status
    left = max((gate["left_s"] or 0.0 for gate in status["gates"]), default=0.0)
    ahead = status["now"] + left
    told: list[str | tuple[str, str]] = [" "]
    for phase in view.phases:
        if phase["place"] == "past" or status["state"] in ("completed", "retiring", "retired"):
            told.append((f"✔ {phase['name']}  ", "green"))
        elif phase["place"] == "now":
            rest = f", about {duration(left)} left" if left else ""
            told.append((f"● {phase['name']} {percent(phase['target'])}{rest}  ", "bold cyan"))
        else:
            told.append((f"○ {phase['name']} ~{moment(ahead)[5:10]}  ", "dim"))
            ahead += phase["soak_s"]
    return _line(*told)


def _gates(view: View) -> list[Text]:
    gates = view.status["gates"] if view.status["state"] in ("running", "paused") else []
    passed = sum(gate["verdict"] == "PASS" for gate in gates)
    lines = [_title(f"Gates of {view.status['phase']['name']}: {passed} of {len(gates)} passed")]
    for gate in gates:
        left = f" ({duration(gate['left_s'])} left)" if gate["left_s"] else ""
        evidence = gate["evidence"].removeprefix(f"{gate['gate'].split(' ')[0]}: ")  # the gate has named its metric
        mark = f" {looks.MARKS[gate['verdict']]} {gate['gate']}{left}: "
        lines.append(_line((mark, _STYLES[gate["verdict"]]), evidence))
    return lines


def _alerts(view: View) -> list[Text]:
    alerts = view.status["alerts"]
    told = [_line((f" ! {key}: {text}", "yellow")) for key, text in alerts.items()]
    return [_title("Alerts"), *told] if told else []


def _metrics(view: View) -> list[Text]:
    size = max((len(metric["name"]) for metric in view.metrics), default=0)
    return [
        _title("Metrics of this phase: V1, V2, and V2 over V1"),
        *(_metric(m, view.trend, size) for m in view.metrics),
    ]


def _metric(metric: dict[str, Any], trend: list[dict[str, Any]], size: int) -> Text:
    verdict, reading, kind = looks.verdict(metric), metric["reading"], metric["kind"]
    head = (f" {looks.MARKS[verdict]} {metric['name']:<{size}}  ", _STYLES[verdict])
    if reading is None:
        return _line(head, "not looked at yet")
    first, second = sparks(trend, metric["name"])
    v1, v2 = (values.value(kind, reading[version]) for version in ("v1", "v2"))
    ratio = "" if reading["ratio"] is None else f"  {looks.band(reading)}"
    return _line(head, f"{v1:>9} ", (first, "blue"), f"  {v2:>9} ", (second, "cyan"), ratio)


def sparks(trend: Sequence[dict[str, Any]], name: str) -> tuple[str, str]:
    """Return how V1 and V2 of a metric have gone lately, on one scale; a gap where nothing was seen."""
    points = [point["metrics"].get(name, {}) for point in trend[-_SPARK:]]
    known = [p[v] for p in points for v in ("v1", "v2") if p.get(v) is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    first, second = ("".join(_bar(p.get(v), low, high) for p in points).rjust(_SPARK) for v in ("v1", "v2"))
    return first, second


def _bar(value: float | None, low: float, high: float) -> str:
    if value is None:
        return " "
    return _BARS[0 if high <= low else round((value - low) / (high - low) * (len(_BARS) - 1))]


def _decisions(view: View) -> list[Text]:
    lines = [_title("Last decisions")]
    lines += [_line(f" {d['number']} {moment(d['at'])[5:]}  {d['sentence']}") for d in view.decisions[:_LATEST]]
    return lines

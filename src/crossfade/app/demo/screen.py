"""The demo on a terminal: one frame from the board, laid out for 80 columns and 24 lines and up. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from rich.console import Group
from rich.text import Text

from crossfade.app.demo.board import Board, Mark, Note
from crossfade.app.demo.tally import V1, V2
from crossfade.core.plan import DAY
from crossfade.core.words import duration, percent

_GATE_MARKS = {"PASS": ("✔", "green"), "FAIL": ("✖", "red"), "INCONCLUSIVE": ("◌", "yellow"), "BLIND": ("?", "magenta")}
_NOTE_STYLES = {
    Mark.PLAIN: "dim",
    Mark.DEMO: "bold cyan",
    Mark.GOOD: "green",
    Mark.BAD: "bold red",
    Mark.ALERT: "yellow",
}
_BREAKER_STYLES = {"closed": "green", "open": "bold red", "half_open": "yellow"}
_WRAPPED = 3
"""Lines that one note may take."""
_BAR = 24
_NOTES_MIN = 5


def draw(board: Board, elapsed: float, width: int, height: int) -> Group:
    """Return one frame of at most `height` lines."""
    top = [_title(board, elapsed, width), _phases(board, width), Text(), *_traffic(board, width)]
    gates = _gates(board, width, max(2, height - len(top) - _NOTES_MIN - 2))
    notes = _notes(board, width, height - len(top) - len(gates) - 1)
    return Group(*top, *gates, _rule("What happened", width), *notes)


def _line(*parts: str | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")


def _rule(title: str, width: int) -> Text:
    return _line(("── ", "dim"), (title, "bold"), (" " + "─" * max(0, width - len(title) - 4), "dim"))


def _title(board: Board, elapsed: float, width: int) -> Text:
    days = sum(phase.soak_s for phase in board.plan.phases) / DAY
    left = f" crossfade demo  {board.plan.name}"
    right = f"day {board.day(board.now):.1f}, planned {days:.0f}   {board.speed:,.0f} x   {clock(elapsed)} "
    return _line((left + " " * max(1, width - len(left) - len(right)) + right, "bold white on blue"))


def clock(seconds: float) -> str:
    """Return real seconds as minutes and seconds."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


def _phases(board: Board, width: int) -> Text:
    status = board.status
    if not status:
        return _line((" starting ...", "dim"))
    now, state = status["phase"]["index"], status["state"]
    parts: list[str | tuple[str, str]] = [" "]
    for index, phase in enumerate(board.plan.phases):
        if index < now or state == "completed":
            mark, style = "✔", "green"
        elif index == now:
            mark, style = ("✖", "bold red") if state == "rolled_back" else ("●", "bold cyan")
        else:
            mark, style = "○", "dim"
        share = f" {phase.target / 100:g} %" if index == now or width >= 110 else ""
        parts += [(f"{mark} {phase.name}{share}", style), "  "]
    word = status["held_kind"] or state
    parts.append((word.replace("_", " ").upper(), "bold red" if state == "rolled_back" else "bold"))
    return _line(*parts)


def _traffic(board: Board, width: int) -> list[Text]:
    return [
        _share("wanted", _wanted(board), board, width),
        _share("seen", board.status.get("weight_seen"), board, width),
        Text(),
        *(_side(board, version) for version in (V1, V2)),
        _users(board),
        Text(),
    ]


def _wanted(board: Board) -> float | None:
    return 0.0 if board.status.get("killed") else board.status.get("weight")


def _share(name: str, weight: float | None, board: Board, width: int) -> Text:
    size = _BAR + max(0, min(40, width - 80))
    if weight is None:
        return _line(f" V2 {name:<7}", ("·" * size, "dim"), "  nothing yet")
    filled = round(size * weight / 10_000)
    cohorts = board.status["split"]["cohorts"] if name == "wanted" and not board.status["killed"] else {}
    # Cohorts are told only where they are treated apart.
    apart = {c: share for c, share in cohorts.items() if share != board.status["split"]["everyone"]}
    told = "".join(f", {cohort} {percent(share)}" for cohort, share in apart.items())
    bar = ("█" * filled, "cyan"), ("░" * (size - filled), "dim")
    return _line(f" V2 {name:<7}", *bar, f"  {percent(weight)}{' of users' if told else ''}{told}")


def _side(board: Board, version: str) -> Text:
    lately = board.failing(version)
    phase = board.reading("failure_rate", version)
    p95 = board.reading("latency_p95", version)
    bad = lately is not None and lately > 0.03
    parts: list[str | tuple[str, str]] = [
        (f" {version.upper()} ", "bold"),
        f"{board.rate(version):5.0f}/s",
        "  failing ",
        (f"{'-' if lately is None else f'{lately:.1%}':>5}", "bold red" if bad else "green"),
        f" now, {'-' if phase is None else f'{phase:.2%}'} in this phase",
        f"  p95 {'-' if p95 is None else f'{p95:.0f} ms'}",
    ]
    return _line(*parts)


def _users(board: Board) -> Text:
    breaker = board.breaker_state
    last: Mapping[str, Any] = board.lines[-1] if board.lines else {}
    lost = last.get("lost", 0)
    return _line(
        " Breaker ",
        (breaker.upper().replace("_", "-"), _BREAKER_STYLES.get(breaker, "bold")),
        f"   weather {_weather(board)}",
        f"   answers {last.get('answered', 0):,}",
        "   lost ",
        (f"{lost}", "bold red" if lost else "green"),
    )


def _weather(board: Board) -> str:
    if len(board.lines) < 2:
        return "-"
    first, last = board.lines[0][V2], board.lines[-1][V2]
    good, bad = (last[name] - first[name] for name in ("weather_ok", "weather_unavailable"))
    return f"{good / (good + bad):.0%}" if good + bad else "-"


def _gates(board: Board, width: int, room: int) -> list[Text]:
    gates = board.status.get("gates", []) if board.status.get("state") in ("running", "paused") else []
    if not gates:
        return [_rule("Gates", width), _line(("  none is looked at now", "dim"))]
    passed = [gate for gate in gates if gate["verdict"] == "PASS"]
    title = f"Gates of {board.status['phase']['name']}: {len(passed)} of {len(gates)} passed"
    for lines in (2, 1):
        told = [line for gate in gates for line in _gate(gate, width, lines)]
        if room > len(told):
            return [_rule(title, width), *told]
    waiting = [line for gate in gates if gate["verdict"] != "PASS" for line in _gate(gate, width, 1)]
    short = _wrap("  ✔ " + ", ".join(gate["gate"] for gate in passed), width, "green") if passed else []
    return [_rule(title, width), *[*short, *waiting][: max(1, room - 1)]]


def _gate(gate: Mapping[str, Any], width: int, lines: int) -> list[Text]:
    mark, style = _GATE_MARKS[gate["verdict"]]
    left = f" ({duration(gate['left_s'])} left)" if gate["left_s"] else ""
    evidence = gate["evidence"].removeprefix(f"{gate['gate'].split(' ')[0]}: ")  # the gate has named its metric
    name = f"  {mark} {gate['gate']}"
    if lines == 1:
        return [_line((name, style), (f"{left}: {evidence}", "dim"))]
    told = _wrap(f"{name}{left}: {evidence}", width, "dim")[:lines]
    told[0].stylize(style, 0, len(name))
    return told


def _notes(board: Board, width: int, room: int) -> list[Text]:
    lines: list[Text] = []
    for note in reversed(board.notes):
        wrapped = _note(note, width)
        if len(lines) + len(wrapped) > room:
            break
        lines = [*wrapped, *lines]
    return lines


def _note(note: Note, width: int) -> list[Text]:
    told = f" {clock(max(0.0, note.elapsed)):>5} {note.mark} {note.text}"
    lines = _wrap(told, width, _NOTE_STYLES[note.mark], indent=9)
    if len(lines) > _WRAPPED:
        lines = lines[:_WRAPPED]
        lines[-1].append(" ...")
    return lines


def _wrap(text: str, width: int, style: str, indent: int = 4) -> list[Text]:
    folded = textwrap.wrap(text, width - 1, subsequent_indent=" " * indent)
    return [Text(line, style=style, no_wrap=True, overflow="ellipsis") for line in folded]

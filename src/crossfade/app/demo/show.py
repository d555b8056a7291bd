"""How the demo is told: live on a terminal, or a line per event where stdout is a pipe or a log."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Protocol

import click
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from crossfade.app.demo.board import Board
from crossfade.app.demo.screen import clock, draw
from crossfade.core.words import percent

STATUS_S = 5.0


class Show(Protocol):
    """Who tells it."""

    def say(self, text: str) -> None:
        """Tell something before there is a rollout to look at."""

    def draw(self, board: Board, elapsed: float) -> None:
        """Show the present moment."""

    def end(self, headline: str, path: Path, report: str) -> None:
        """Tell how it ended and where the report is."""

    def close(self) -> None:
        """Give the terminal back; harmless when called again."""


class LiveShow:
    """A full screen that is drawn anew at each look."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live: Live | None = None

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(f"· {text}", highlight=False, markup=False)

    def draw(self, board: Board, elapsed: float) -> None:
        """Draw a frame."""
        if self._live is None:
            self._live = Live(console=self._console, screen=True, auto_refresh=False)
            self._live.start()
        size = self._console.size
        self._live.update(draw(board, elapsed, size.width, size.height), refresh=True)

    def end(self, headline: str, path: Path, report: str) -> None:
        """Print the report as a page."""
        self._console.print(Markdown(report))
        self._console.print(f"\n{headline}\nThe report is in {path}", highlight=False, markup=False)

    def close(self) -> None:
        """Leave the full screen."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()


class PlainShow:
    """A line per note, and one on where the rollout is every few seconds."""

    def __init__(self) -> None:
        self._told = 0
        self._status_at = 0.0

    def say(self, text: str) -> None:
        """Print a line."""
        self._print(f"· {text}")

    def draw(self, board: Board, elapsed: float) -> None:
        """Print what is new."""
        for note in board.notes[self._told :]:
            self._print(f"{clock(max(0.0, note.elapsed)):>5} {note.mark} {note.text}")
        self._told = len(board.notes)
        if elapsed - self._status_at >= STATUS_S and board.status:
            self._status_at = elapsed
            self._print(f"{clock(elapsed):>5}   {status_line(board)}")

    def end(self, headline: str, path: Path, report: str) -> None:
        """Print the report as it is."""
        self._print(f"\n{report}\n{headline}\nThe report is in {path}")

    def close(self) -> None:
        """Nothing to give back."""

    @staticmethod
    def _print(text: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            click.echo(text)


def status_line(board: Board) -> str:
    """Return where the rollout is, in one line."""
    status = board.status
    gates = status["gates"]
    passed = sum(gate["verdict"] == "PASS" for gate in gates)
    wanted = 0.0 if status["killed"] else status["weight"]
    seen = "-" if status["weight_seen"] is None else percent(status["weight_seen"])
    last = board.lines[-1] if board.lines else {}
    return (
        f"day {board.day(board.now):.1f}, {status['phase']['name']}, {status['state'].replace('_', ' ')}: "
        f"{percent(wanted)} wanted, {seen} seen, "
        f"V1 {board.rate('v1'):.0f}/s, V2 {board.rate('v2'):.0f}/s, gates {passed} of {len(gates)}, "
        f"breaker {board.breaker_state}, {last.get('answered', 0):,} answers, {last.get('lost', 0)} lost"
    )

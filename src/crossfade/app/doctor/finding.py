"""What a check finds, and what it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

from crossfade.app.control import STORE_FILE, Control
from crossfade.app.settings import Settings
from crossfade.core.plan import Plan

Seen = TypeVar("Seen")


class Status(StrEnum):
    """How a check came out."""

    OK = "OK"
    WARN = "WARN"
    """It works, and may not for long, or not for everybody."""
    FAIL = "FAIL"
    SKIP = "SKIP"
    """Not looked at: there is nothing to look at, or it could not be."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, and what would mend it (empty: nothing to mend)."""

    status: Status
    found: str
    mend: str = ""


def ok(found: str) -> Finding:
    """Return that something is as it should be."""
    return Finding(Status.OK, found)


def warn(found: str, mend: str) -> Finding:
    """Return that something ought to be looked after."""
    return Finding(Status.WARN, found, mend)


def fail(found: str, mend: str) -> Finding:
    """Return that something is wrong."""
    return Finding(Status.FAIL, found, mend)


def skip(found: str, mend: str = "") -> Finding:
    """Return that there was nothing to look at, or no way to look."""
    return Finding(Status.SKIP, found, mend)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One rollout of an installation, as its files say it."""

    name: str
    """Its rollout's, or the plan file's where that can't be read."""
    settings: Settings
    plan: Plan | None = None
    wrong: str = ""
    """Why there is no plan."""
    path: Path | None = None
    """Of the plan file."""
    control: Control | None = None
    """None where nobody has left one, or it can't be read."""
    unread: str = ""
    """Why a control file that is there can't be read."""

    @property
    def folder(self) -> Path:
        """Return where it is kept; it need not exist."""
        return self.settings.folder(self.name)

    @property
    def database(self) -> str:
        """Return the URL of its store."""
        return self.settings.database or f"sqlite:///{(self.folder / STORE_FILE).resolve()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A machine's state folder, and the rollouts that are to be looked at."""

    settings: Settings
    subjects: tuple[Subject, ...]


@dataclass(frozen=True, slots=True)
class Check(Generic[Seen]):
    """A look at one thing; it may raise whatever it likes."""

    name: str
    look: Callable[[Seen], Iterable[Finding]]
    timeout_s: float = 10.0

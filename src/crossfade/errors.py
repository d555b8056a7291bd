"""The error tree. A message names the thing, its value and the next action.

CrossfadeError
├── PlanError             the plan can't be what was meant; carries every Problem        exit code 2
├── UsageError            the command can't be carried out as typed                      exit code 2
├── ConflictError         the rollout is in another state or revision than assumed       exit code 3
│   └── ChangedError      it has changed since the caller looked; look again
├── UnreachableError      nobody answered: controller, proxy or store                    exit code 4
│   └── ProxyUnreachableError
├── NotReachedError       what was waited for has not come in time                  exit code 5
├── OutOfReachError       what was waited for can't come any more                   exit code 6
├── ProxyError            the proxy answered, and not as asked
│   ├── ProxyRefusedError its configuration or a value was refused; retrying won't help
│   ├── ReadBackError     what was read back differs from what was set
│   └── StaleGenerationError   someone with a later generation has acted since
├── NoticeRefusedError    a notice can't be handed over; retrying won't help
├── NotTakenError         a notice was not taken; trying again may help
└── StoreError            the store can't keep or give what was asked
"""

from __future__ import annotations

from dataclasses import dataclass


class CrossfadeError(Exception):
    """The root; `exit_code` is what the CLI ends with."""

    exit_code = 1


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One mistake in a file: where it is, what is wrong, what would be right."""

    file: str
    line: int
    """Counted from 1."""
    column: int
    """Counted from 1."""
    field: str
    """Dotted path inside the plan, `phases[1].split`; empty for the whole file."""
    message: str
    """What is wrong, with the value, and what would be right."""

    def __str__(self) -> str:
        where = f" {self.field}:" if self.field else ""
        return f"{self.file}:{self.line}:{self.column}:{where} {self.message}"


class PlanError(CrossfadeError):
    """A plan that can't be constructed; `problems` holds every mistake found."""

    exit_code = 2

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(p) for p in problems))
        self.problems = problems


class UsageError(CrossfadeError):
    """The command can't be carried out as typed."""

    exit_code = 2


class ConflictError(CrossfadeError):
    """The rollout is in another state or at another revision than the caller assumed."""

    exit_code = 3


class ChangedError(ConflictError):
    """The rollout is at another revision than the caller has seen."""


class UnreachableError(CrossfadeError):
    """Nobody answered. Trying again may help."""

    exit_code = 4


class ProxyUnreachableError(UnreachableError):
    """The proxy's control socket did not answer."""


class NotReachedError(CrossfadeError):
    """What was waited for has not come in time; it still may."""

    exit_code = 5


class OutOfReachError(CrossfadeError):
    """What was waited for can't come any more, unless a person begins anew."""

    exit_code = 6


class ProxyError(CrossfadeError):
    """The proxy answered, and not as asked."""


class ProxyRefusedError(ProxyError):
    """The proxy refused a configuration or a value; the same again will be refused again."""


class ReadBackError(ProxyError):
    """What was read back differs from what was set."""


class StaleGenerationError(ProxyError):
    """Someone with a later generation has acted since; this actor must stop acting."""


class NoticeRefusedError(CrossfadeError):
    """A notice can't be handed over; the same again will be refused again."""


class NotTakenError(CrossfadeError):
    """A notice was not taken. Trying again may help, after `after_s` real seconds where the receiver said so."""

    def __init__(self, message: str, after_s: float | None = None) -> None:
        super().__init__(message)
        self.after_s = after_s


class StoreError(CrossfadeError):
    """The store can't keep or give what was asked."""

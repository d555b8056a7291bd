"""A count on the terminal while something takes long; nothing where standard error is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Self, TypeVar

_T = TypeVar("_T")
_EVERY = 500


class Progress:
    """Counts in place on one line, and takes the line back at the end."""

    def __init__(self, what: str) -> None:
        """Count `what`, a plural."""
        self._what, self._count, self._shown = what, 0, ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            sys.stderr.write("\r" + " " * len(self._shown) + "\r")

    def step(self) -> None:
        """Count one more."""
        self._count += 1
        if self._count % _EVERY == 0 and sys.stderr.isatty():
            self._shown = f"{self._count:,} {self._what}"
            sys.stderr.write("\r" + self._shown)
            sys.stderr.flush()

    def over(self, things: Iterable[_T]) -> Iterator[_T]:
        """Yield things and count them."""
        for thing in things:
            yield thing
            self.step()

"""Losses: how far a proxy process has numbered its lines, less how many of them came."""

from __future__ import annotations

from collections.abc import Sequence

REORDER = 64
"""Lines of several proxy threads may overtake each other by about this many numbers."""


class Losses:
    """Counts the lines of one proxy process that did not come; `lost` is their number so far.

    Threads of one process overtake each other, and may give two lines one number and none the next. So losses
    are counted rather than found: what is still missing at every look over REORDER lines won't come any more.
    """

    def __init__(self) -> None:
        self.highest = -1
        self._lowest = -1
        self._missing = 0
        """Numbers passed over, less lines that came without taking a new one."""
        self._least = 0
        self._lines = 0

    def take(self, numbers: Sequence[int]) -> int:
        """Take the numbers of some lines in order of arrival; return how many lines are newly known to be lost."""
        last = numbers[-1]
        if self._missing == 0 and self.highest >= 0 and last - self.highest == len(numbers):
            self.highest = last  # the rule: nothing was missing, and as many numbers as lines have passed
            self._lines = self._least = 0
            return 0
        return sum(map(self._take, numbers))

    def _take(self, number: int) -> int:
        if self.highest < 0:
            return self._begin(number)
        gap = number - self.highest - 1
        if gap > REORDER:
            self.highest = number
            return gap
        if gap < -REORDER or number == 0:
            return self._begin(number)
        if gap >= 0:
            self.highest = number
            self._missing += gap
        elif number < self._lowest:  # overtaken by the first line that came
            self._missing += self._lowest - number - 1
            self._lowest = number
        else:
            self._missing = max(self._missing - 1, -REORDER)
        return self._look()

    def _begin(self, number: int) -> int:
        """Count a process from its first line; what its predecessor still missed is lost."""
        lost = max(self._missing, 0)
        self.highest, self._lowest, self._missing, self._least, self._lines = number, number, 0, 0, 0
        return lost

    def _look(self) -> int:
        self._least = self._missing if self._lines == 0 else min(self._least, self._missing)
        self._lines += 1
        if self._lines < REORDER:
            return 0
        lost, self._lines = max(self._least, 0), 0
        self._missing -= lost
        return lost


def follow(known: list[Losses], first: int) -> Losses | None:
    """Return, and take out of `known`, the numbering that a new connection's first line goes on with; None for none.

    A proxy that connects again goes on where it was; the one that was nearest below is taken for it.
    """
    below = [losses for losses in known if losses.highest < first]
    if not below or first == 0:
        return None
    nearest = max(below, key=lambda losses: losses.highest)
    known.remove(nearest)
    return nearest

"""Simulated users who failed, in arrays: what `core.evidence.users` keeps in dictionaries, for millions of failures.

Counts are those of `users.count`, whose rules stand there; a test holds the two together. A tick may be hours long
here: each failure carries its own time, so that a long tick counts what its short ones would.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from crossfade.core.evidence import users
from crossfade.core.evidence.sums import Arm, Cell
from crossfade.core.split import Version
from crossfade.simulation.people import Floats, Ints


class Named(set[int]):
    """The users behind a cell's failures, with each failure's user and time as arrays."""

    def __init__(self, ids: Ints, times: Floats) -> None:
        super().__init__(ids.tolist())
        self.ids = ids
        """(k,): the user of each failure, 0 .. users - 1."""
        self.times = times
        """(k,): plan time."""


class _Change(NamedTuple):
    seen: tuple[Ints, Ints]
    last: tuple[Ints, Ints]
    hurt: tuple[Ints, Ints]
    """Indices into the array of that name, and what stood there before."""


class Register:
    """The arrays. They change in place and can go back: a slice that is told again is counted again."""

    def __init__(self, users_total: int) -> None:
        self.seen = np.zeros(users_total, dtype=np.int32)
        self.last = np.full(2 * users_total, -1, dtype=np.int32)
        """The ten minutes each user was last counted in, on V1 and on V2."""
        self.hurt = np.zeros(users_total, dtype=np.int32)
        """The number of the phase in which V2 last failed each user."""
        self.size = users_total
        self.version = 0
        self.firsts: list[tuple[Arm, Floats]] = []
        """By arm, when users failed for the first time, in the ticks counted since this was last emptied."""
        self._changes: list[_Change] = []

    def set(self, change: dict[str, tuple[Ints, Ints]]) -> None:
        """Set values by array and indices, and remember those before."""
        self._changes.append(_Change(**{name: (at, getattr(self, name)[at]) for name, (at, _) in change.items()}))
        for name, (at, values) in change.items():
            getattr(self, name)[at] = values
        self.version += 1

    def back_to(self, version: int) -> None:
        """Undo all changes since a version."""
        while self.version > version:
            change = self._changes.pop()
            for name, (at, before) in change._asdict().items():
                getattr(self, name)[at] = before
            self.version -= 1

    def keep(self) -> None:
        """Forget how to undo what was counted so far."""
        self._changes.clear()


@dataclass(frozen=True, slots=True)
class Headcount(users.Counter):
    """How many users V2 has failed in a phase; who they are stands in the register."""

    total: int = 0
    phase: int = 1

    def __len__(self) -> int:
        return self.total


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked(users.Failing):
    """What `Failing` is, as a version of a register."""

    register: Register
    version: int = 0
    phase: int = 1

    def count(
        self, start: float, cells: Sequence[tuple[Arm, Cell]], compared: Sequence[bool]
    ) -> tuple[Marked, list[users.Units]]:
        """Count a tick's failures by unit; each failure has a user, who is on one version within the tick."""
        register, hurt = self.register, self.hurt
        register.back_to(self.version)
        if not isinstance(hurt, Headcount):  # the book has emptied it for a new phase
            hurt = Headcount(phase=self.phase + 1)
        named = [(index, arm.version, cell.failing_users) for index, (arm, cell) in enumerate(cells)]
        failures = [(index, side, who) for index, side, who in named if isinstance(who, Named)]
        if not failures:
            return replace(self, hurt=hurt, phase=hurt.phase), [users.Units(0, 0, 0)] * len(cells)
        ids = np.concatenate([who.ids for _, _, who in failures])
        times = np.concatenate([who.times for _, _, who in failures])
        blocks = (times // users.BLOCK_S).astype(np.int64)
        lengths = [len(who.ids) for _, _, who in failures]
        arm = np.repeat([index for index, _, _ in failures], lengths)
        where = ids + register.size * np.repeat([side is Version.V2 for _, side, _ in failures], lengths)

        once = _first_of(blocks * (2 * register.size) + where)
        once = once[register.last[where[once]] != blocks[once]]
        each = once[_first_of(where[once])]
        number, week = register.seen[ids[each]], int(start // users.WEEK_S)
        chosen = np.array(compared)[arm[each]]
        known = ids[each[chosen]]
        hit = ids[each[where[each] >= register.size]]
        fresh = hit[register.hurt[hit] != hurt.phase]
        register.set(
            {
                "seen": (known, np.full(len(known), 1 + week)),
                "last": (where[once], blocks[once]),
                "hurt": (fresh, np.full(len(fresh), hurt.phase)),
            }
        )
        first = each[chosen & (number == 0)]
        register.firsts += [(cells[index][0], times[first[arm[first] == index]]) for index, _, _ in failures]
        hurt = replace(hurt, total=hurt.total + len(fresh))
        units = zip(
            _by_arm(arm[first], len(cells)),
            _by_arm(arm[each[chosen & (number != 1 + week)]], len(cells)),
            _by_arm(arm[once], len(cells)),
            strict=True,
        )
        moved = replace(self, hurt=hurt, phase=hurt.phase, version=register.version)
        return moved, [users.Units(*unit) for unit in units]


def _first_of(keys: Ints) -> Ints:
    """Return where each different key (0 or more) first stands, in the order of the keys, faster than `np.unique`."""
    order = np.argsort(keys)
    rising = keys[order]
    begins = np.flatnonzero(np.diff(rising, prepend=-1))
    return np.asarray(np.minimum.reduceat(order, begins))


def _by_arm(arms: Ints, count: int) -> Iterable[int]:
    found: list[int] = np.bincount(arms, minlength=count).tolist()
    return found

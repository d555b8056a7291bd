"""Behaviour: what users do, as units that can be compared: one user and window, counted once, when it is over.

A user who does the event `of` opens a window, at most one a UTC day and one at a time. What they do until its end
counts for it, and it for the version they were on when it opened; windows last alike on both versions, so the same is
missed of each. Windows that were open when users were assigned anew count for nobody: within one, a user had both.

Rows are kept in runs of one day, in arrays: 13 bytes a window (16 where values are added up), 8 once it is over (users
are known until midnight, so that a day has one window of each).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfade.core.evidence.sums import Arm
from crossfade.core.plan import DAY, Behaviour, Counted

GRACE_S = 60.0
"""Plan seconds after its end that a window waits for what is told late."""
STEP_S = 2
"""Plan seconds to which a window's begin is kept: a day of such steps fits 16 bits."""
_OVER = np.uint16(1 << 15)
"""Mark beside the number of an arm."""
_RUN_MAX = 1 << 17
"""Rows of a run: so much is copied when runs are joined."""

Users = NDArray[np.uint64]
"""The bits of `split.user_hash`."""
Times = NDArray[np.float64]
"""Plan seconds."""
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Windows that were opened by users of one arm, (k,) each."""

    arm: Arm
    users: Users
    at: Times


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """What was done in open windows, (k,) each; values are parts of `Behaviour.most`."""

    users: Users
    at: Times
    values: Values


@dataclass(slots=True)
class _Run:
    """Windows that were opened on one day, in the order of users."""

    day: int
    users: Users
    step: NDArray[np.uint16]
    """When they began, in steps of the day."""
    arm: NDArray[np.uint16]
    """Numbers of arms, marked where the window is over."""
    total: NDArray[Any]
    """What was done in them: whether anything was, or the sum of values."""

    @classmethod
    def of(cls, day: int, users: Users, at: Times, arm: int, total: type[np.generic]) -> _Run:
        order = np.argsort(users)
        steps = ((at[order] - day * DAY) // STEP_S).astype(np.uint16)
        return cls(
            day, users[order], steps, np.full(len(users), arm, dtype=np.uint16), np.zeros(len(users), dtype=total)
        )

    @property
    def at(self) -> Times:
        """Return when the windows began."""
        return self.day * DAY + STEP_S * self.step.astype(np.float64)

    @property
    def over(self) -> NDArray[np.bool_]:
        """Tell which windows are over."""
        return self.arm >= _OVER

    def __len__(self) -> int:
        return len(self.users)

    @property
    def is_over(self) -> bool:
        """Tell whether only its users are kept."""
        return len(self.step) == 0

    def rows(self, users: Users) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return where each user would stand, (k,), and whether they do."""
        at = np.minimum(np.searchsorted(self.users, users), len(self.users) - 1)
        return at, self.users[at] == users

    def joined(self, other: _Run) -> _Run:
        """Return one run of both, of the same day."""
        users = np.concatenate([self.users, other.users])
        order = np.argsort(users, kind="stable")
        return _Run(
            self.day,
            users[order],
            np.concatenate([self.step, other.step])[order],
            np.concatenate([self.arm, other.arm])[order],
            np.concatenate([self.total, other.total])[order],
        )

    def forget(self) -> None:
        """Keep the users alone."""
        self.step, self.arm, self.total = self.step[:0].copy(), self.arm[:0].copy(), self.total[:0].copy()


class Windows:
    """The windows of one metric."""

    def __init__(self, rule: Behaviour) -> None:
        """Keep windows as the rule says."""
        self._rule = rule
        self._runs: list[_Run] = []
        self._arms: list[Arm] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    @property
    def size(self) -> int:
        """Return the bytes that the windows take."""
        parts = (part for run in self._runs for part in (run.users, run.step, run.arm, run.total))
        return sum(part.nbytes for part in parts)

    def begin_anew(self) -> None:
        """Have no window: users were assigned anew."""
        self._runs, self._arms = [], []

    # ── what happens ────────────────────────────────────────────────────────────────────────────────────

    def opens(self, arm: Arm, users: Users, at: Times) -> Opened:
        """Return the windows that open when users of an arm do `of` at some times, (k,) each; nothing changes.

        Times of a day before that of the latest `close` may open a second window of that day.
        """
        order = np.lexsort((at, users))
        users, at = users[order], at[order]
        first = np.ones(len(users), dtype=np.bool_)
        first[1:] = (users[1:] != users[:-1]) | (at[1:] // DAY != at[:-1] // DAY)
        users, at = users[first], at[first]
        free = np.ones(len(users), dtype=np.bool_)
        for run in self._runs:
            rows, there = run.rows(users)
            free &= ~(there & (at // DAY == run.day))
            if not run.is_over:
                free &= ~(there & self._within(run, rows, at))
        # of one user's several days the first: the others may lie in its window
        users, at = users[free], at[free]
        alone = np.ones(len(users), dtype=np.bool_)
        alone[1:] = users[1:] != users[:-1]
        return Opened(arm=arm, users=users[alone], at=at[alone])

    def hits(self, users: Users, at: Times, values: Values) -> Hit:
        """Return what counts of what users did at some times, (k,) each, `of` itself for RETURNS; nothing changes."""
        counts = np.zeros(len(users), dtype=np.bool_)
        for run, rows, there in self._open(users, at):
            new = there
            if self._rule.counted is Counted.RETURNS:
                new = new & (at // DAY > run.day)
            if self._rule.counted is not Counted.SUMS:
                new = new & (run.total[rows] == 0)
            counts |= new
        parts = values / self._rule.most if self._rule.counted is Counted.SUMS else np.ones(len(users))
        return Hit(users=users[counts], at=at[counts], values=parts[counts])

    def add(self, new: Opened | Hit) -> None:
        """Note what `opens` or `hits` has returned."""
        if isinstance(new, Hit):
            for run, rows, there in self._open(new.users, new.at):
                if self._rule.counted is Counted.SUMS:
                    np.add.at(run.total, rows[there], new.values[there].astype(np.float32))
                else:
                    run.total[rows[there]] = 1
            return
        if new.arm not in self._arms:
            self._arms.append(new.arm)
        days = new.at // DAY
        for day in np.unique(days).tolist():
            of_day = days == day
            arm, total = self._arms.index(new.arm), np.float32 if self._rule.counted is Counted.SUMS else np.uint8
            self._insert(_Run.of(int(day), new.users[of_day], new.at[of_day], arm, total))

    def _insert(self, fresh: _Run) -> None:
        while self._runs:
            last = next((run for run in reversed(self._runs) if run.day == fresh.day and not run.is_over), None)
            if last is None or len(last) > 2 * len(fresh) or len(last) + len(fresh) > _RUN_MAX:
                break
            self._runs = [run for run in self._runs if run is not last]
            fresh = last.joined(fresh)
        self._runs.append(fresh)

    def _open(self, users: Users, at: Times) -> Iterator[tuple[_Run, NDArray[np.int64], NDArray[np.bool_]]]:
        for run in self._runs:
            if not run.is_over:
                rows, there = run.rows(users)
                there &= self._within(run, rows, at)
                there &= run.arm[rows] < _OVER
                if there.any():
                    yield run, rows, there

    def _within(self, run: _Run, rows: NDArray[np.int64], at: Times) -> NDArray[np.bool_]:
        since = at - run.day * DAY - STEP_S * run.step[rows].astype(np.float64)
        return (since >= 0) & (since < self._rule.within_s + STEP_S)  # it began within the step

    # ── what is over ────────────────────────────────────────────────────────────────────────────────────

    def due(self, until: float) -> bool:
        """Tell whether `close` would return anything."""
        return any(not run.is_over and bool(self._due(run, until).any()) for run in self._runs)

    def _due(self, run: _Run, until: float) -> NDArray[np.bool_]:
        last = (until - GRACE_S - self._rule.within_s - run.day * DAY) // STEP_S
        return ~run.over & (run.step <= last)

    def close(self, until: float, moved: Sequence[tuple[int, float]] = ()) -> dict[Arm, tuple[int, float]]:
        """Return number and sum of values of the windows that are over at a plan time, by arm, each once.

        moved: users (as `Users` has them) and when they joined or left a cohort: windows that began before don't count.
        """
        sums: Counter[Arm] = Counter()
        totals: dict[Arm, float] = {}
        for run in self._runs:
            if run.is_over:
                continue
            due = self._due(run, until)
            if due.any():
                counted = due & ~self._crossed(run, moved)
                for index, arm in enumerate(self._arms):
                    mine = counted & (run.arm == index)
                    if mine.any():
                        sums[arm] += int(np.count_nonzero(mine))
                        capped = np.minimum(run.total[mine], 1).sum(dtype=np.float64)
                        totals[arm] = totals.get(arm, 0.0) + float(capped)
                run.arm[due] |= _OVER
            if run.over.all():
                run.forget()
        today = int(until // DAY)
        self._runs = [run for run in self._runs if run.day >= today or not run.is_over]
        return {arm: (count, totals[arm]) for arm, count in sums.items()}

    def _crossed(self, run: _Run, moved: Sequence[tuple[int, float]]) -> NDArray[np.bool_]:
        crossed = np.zeros(len(run), dtype=np.bool_)
        late = [(user, at) for user, at in moved if at > run.at.min()]
        if late:
            rows, there = run.rows(np.array([user for user, _ in late], dtype=np.uint64))
            there &= np.array([at for _, at in late]) > run.at[rows]
            crossed[rows[there]] = True
        return crossed

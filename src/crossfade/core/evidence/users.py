"""Units of counting. Which unit is counted decides whether a test is valid (EVIDENCE 1.5).

`first`: a user's first failure in the rollout, while compared. `weekly`: a user's first failure of the week, so that a
defect is still found when most users have failed before. `distinct`: one failure per user and ten minutes; `acute` is
the same for evidence that begins anew every ten minutes, as `weekly` does every week. A failure whose user is unknown
counts as a user of its own.

Who fails where nobody is compared (staff, a cohort wholly on one version) is not remembered: all are on one version
there, and the hash still puts whoever next fails for the first time on V2 with probability s. Remembered, a week before
the first comparison would use up the first failures of many.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crossfade.core.evidence.sums import Arm, Cell
from crossfade.core.split import Version

BLOCK_S = 600.0
WEEK_S = 604_800.0
_RECENT_MAX = 512


@dataclass(frozen=True, slots=True)
class Counter:
    """One number per user: a value that grows cheaply, because old entries are shared, not copied."""

    old: Mapping[int, int] = field(default_factory=dict)
    recent: Mapping[int, int] = field(default_factory=dict)

    def get(self, user: int) -> int:
        """Return a user's number, 0 for one never seen."""
        found = self.recent.get(user)
        return self.old.get(user, 0) if found is None else found

    def updated(self, changes: Mapping[int, int]) -> Counter:
        """Return this with some users' numbers replaced."""
        if not changes:
            return self
        recent = {**self.recent, **changes}
        if len(recent) > _RECENT_MAX:
            return Counter({**self.old, **recent}, {})
        return Counter(self.old, recent)

    def items(self) -> list[tuple[int, int]]:
        """Return users and numbers, in the order of the users."""
        return sorted({**self.old, **self.recent}.items())

    def __len__(self) -> int:
        return len(self.old) + sum(user not in self.old for user in self.recent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """The users who failed: all that must be remembered of them."""

    seen: Counter = Counter()
    """Users who failed in this attempt while they were compared: 1 + the number of the week in which they last did."""
    hurt: Counter = Counter()
    """Users with a failure on V2 in this phase."""
    block: int = -1
    block_v1: frozenset[int] = frozenset()
    block_v2: frozenset[int] = frozenset()
    """Users already counted in the present block, by version."""
    hurt_unknown: int = 0
    """Failures on V2 in this phase without a user."""

    def count(
        self, start: float, cells: Sequence[tuple[Arm, Cell]], compared: Sequence[bool]
    ) -> tuple[Failing, list[Units]]:
        """Count a tick's failures; the simulator keeps its users in arrays and overrides this."""
        return _count(self, start, cells, compared)


@dataclass(frozen=True, slots=True)
class Units:
    """One arm's failures in one tick, by unit."""

    first: int
    weekly: int
    distinct: int


def count(
    failing: Failing, start: float, cells: Sequence[tuple[Arm, Cell]], compared: Sequence[bool] | None = None
) -> tuple[Failing, list[Units]]:
    """Count a tick's failures by unit; cells in a fixed order, overrides left out by the caller.

    compared: by cell, whether its users are compared; the others are neither first nor weekly. None where all are.
    A user who fails on both versions within one tick (a promotion moved them) is no first failure of either, nor a
    weekly one.
    """
    return failing.count(start, cells, [True] * len(cells) if compared is None else compared)


def _count(
    failing: Failing, start: float, cells: Sequence[tuple[Arm, Cell]], compared: Sequence[bool]
) -> tuple[Failing, list[Units]]:
    block = int(start // BLOCK_S)
    done = {Version.V1: failing.block_v1, Version.V2: failing.block_v2}
    if block != failing.block:
        done = {Version.V1: frozenset(), Version.V2: frozenset()}
    if not any(cell.failures for _, cell in cells):
        same = block == failing.block
        return (failing if same else _with(failing, block, done, changes={}, hurt=(), unknown=0)), [
            Units(0, 0, 0)
        ] * len(cells)
    both = _users(cells, Version.V1) & _users(cells, Version.V2)
    fresh: dict[Version, set[int]] = {Version.V1: set(), Version.V2: set()}
    units: list[Units] = []
    unknown, week, changes = 0, int(start // WEEK_S), {}
    for (arm, cell), remembered in zip(cells, compared, strict=True):
        if not cell.failing_users:
            first = cell.failures if remembered else 0
            units.append(Units(first, first, cell.failures))
            unknown += cell.failures * (arm.version is Version.V2)
            continue
        new = cell.failing_users - done[arm.version] - fresh[arm.version]
        known = {user: failing.seen.get(user) for user in new}
        alone = [number for user, number in known.items() if user not in both]
        if remembered:
            units.append(Units(alone.count(0), sum(number != 1 + week for number in alone), len(new)))
            changes.update(dict.fromkeys(known, 1 + week))
        else:
            units.append(Units(0, 0, len(new)))
        fresh[arm.version] |= new
    merged = {version: done[version] | fresh[version] for version in done}
    moved = _with(
        failing,
        block,
        merged,
        changes=changes,
        hurt=fresh[Version.V2],
        unknown=unknown,
    )
    return moved, units


def _users(cells: Sequence[tuple[Arm, Cell]], version: Version) -> set[int]:
    return set().union(*(cell.failing_users for arm, cell in cells if arm.version is version))


def _with(
    failing: Failing,
    block: int,
    done: Mapping[Version, frozenset[int]],
    *,
    changes: Mapping[int, int],
    hurt: Iterable[int],
    unknown: int,
) -> Failing:
    return Failing(
        seen=failing.seen.updated(changes),
        hurt=failing.hurt.updated(dict.fromkeys(hurt, 1)),
        block=block,
        block_v1=done[Version.V1],
        block_v2=done[Version.V2],
        hurt_unknown=failing.hurt_unknown + unknown,
    )

"""From a phase's target, a share of all users, to absolute shares per cohort.

Pure arithmetic: shares are basis points, sizes numbers of users. Staff cohorts (wholly on V2 by a 0 % phase) stay on
V2 and count as nobody. A share never falls below what an earlier phase gave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from crossfade.core.split import BUCKETS, Split

EVERYONE_ELSE = "everyone else"


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Who there is: all users, and how many of them each cohort holds."""

    users: int
    """In all, staff aside; 0 where the plan doesn't say."""
    sizes: Mapping[str, int]
    staff: frozenset[str] = frozenset()

    def with_staff(self, cohort: str) -> Population:
        """Return the population with a cohort taken out of the count."""
        return replace(self, staff=self.staff | {cohort})

    def groups(self) -> dict[str | None, int]:
        """Return the number of users by cohort, staff left out; None is everyone else."""
        groups: dict[str | None, int] = {name: size for name, size in self.sizes.items() if name not in self.staff}
        groups[None] = max(0, self.users - sum(groups.values()))
        return groups

    def weight(self, split: Split) -> float:
        """Return V2's share of all users in basis points."""
        return split.weight({name: size for name, size in self.sizes.items() if name not in self.staff}, self.users)


def staff_split(earlier: Split, cohort: str) -> Split:
    """Return the split of a 0 % phase: the whole cohort on V2, everyone else as before."""
    return Split(everyone=earlier.everyone, cohorts={**earlier.cohorts, cohort: BUCKETS})


def level(target: int, earlier: Split, people: Population, *, keep: Split | None = None) -> Split:
    """Return the split in which everyone has one share, except where an earlier share (or `keep`) is higher.

    That share is the one that makes `target` basis points of all users.
    """
    floor = keep or earlier
    groups = people.groups()
    if people.users <= 0 or target >= BUCKETS:
        share = target
    else:
        share = _solve(target * people.users, [(floor.share_of(name), size) for name, size in groups.items()])
    cohorts = {name: BUCKETS if name in people.staff else max(floor.share_of(name), share) for name in floor.cohorts}
    return Split(everyone=max(floor.everyone, share), cohorts=cohorts)


def cohort_first(target: int, earlier: Split, people: Population, cohort: str) -> Split:
    """Return the split that takes the users it lacks from a cohort first, from all others when that is used up."""
    size = people.sizes[cohort]
    lacking = max(0.0, target - people.weight(earlier)) * people.users  # below 0 where an earlier phase was rounded up
    share = min(BUCKETS, round(earlier.share_of(cohort) + lacking / size))
    drawn = Split(everyone=earlier.everyone, cohorts={**earlier.cohorts, cohort: share})
    return drawn if share < BUCKETS else level(target, earlier, people, keep=drawn)


def explicit(shares: Mapping[str, int], earlier: Split) -> Split:
    """Return a split written out by cohort; cohorts that aren't named keep theirs or get everyone else's."""
    everyone = shares[EVERYONE_ELSE]
    kept = {name: max(share, everyone) for name, share in earlier.cohorts.items()}
    named = {name: share for name, share in shares.items() if name != EVERYONE_ELSE}
    return Split(everyone=everyone, cohorts={**kept, **named})


def has_control(split: Split, people: Population) -> bool:
    """Tell whether in some group the hash put users on both versions, so that they can be compared."""
    return any(size > 0 and 0 < split.share_of(name) < BUCKETS for name, size in _groups_or_everyone(people).items())


def anyone_on_v2(split: Split) -> bool:
    """Tell whether a split puts anybody at all on V2."""
    return split.everyone > 0 or any(split.cohorts.values())


def _groups_or_everyone(people: Population) -> dict[str | None, int]:
    groups = people.groups()
    return groups if people.users > 0 else {**groups, None: 1}


def _solve(wanted: int, groups: list[tuple[int, int]]) -> int:
    """Return the level (basis points) at which sum(max(floor, level) * size) is nearest to `wanted`."""
    low, high = 0, BUCKETS
    while low < high:
        middle = (low + high) // 2
        if sum(max(floor, middle) * size for floor, size in groups) < wanted:
            low = middle + 1
        else:
            high = middle
    above = sum(max(floor, low) * size for floor, size in groups)
    below = sum(max(floor, low - 1) * size for floor, size in groups)
    return low - 1 if low > 0 and wanted - below < above - wanted else low

"""The simulated users: who is in which cohort and region, on which side of the split, and how active.

Users lie in one row, group (cohort x region) by group, and sorted by bucket within a group: those on V2 are the first
ones of each group and those on V1 the rest, whatever the split. Buckets are drawn, not hashed: a new salt for each run.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from crossfade.core.split import BUCKETS, Split
from crossfade.simulation.model import Scenario

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_GUIDE = 65_536


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crowd:
    """Some users: group by group, and by bucket within a group."""

    ids: Ints
    """(n,): places among all users, rising."""
    buckets: Floats
    """(n,): 0..10000, rising within a group."""
    begins: Ints
    """(groups + 1,): where each group begins, and where the last one ends."""
    upto: Floats
    """(n + 1,): share of all users' activity of the first 0, 1, ... n."""
    guide: Ints
    """The user at each of many equal steps of `upto`."""

    def sides(self, split: Split, groups: tuple[Group, ...]) -> Ints:
        """Return the ranges of users that a split puts on V2 and on V1, shape (2 * groups, 2): V2, V1, V2, V1, ..."""
        found = np.empty((2 * len(groups), 2), dtype=np.int64)
        for index, group in enumerate(groups):
            begin, end = self.begins[index], self.begins[index + 1]
            share = split.share_of(group.cohort or None)
            cut = begin + int(np.searchsorted(self.buckets[begin:end], share, side="left"))
            found[2 * index], found[2 * index + 1] = (begin, cut), (cut, end)
        return found

    def weights(self, spans: Ints) -> Floats:
        """Return the share of all users' activity that ranges of users have."""
        return np.asarray(self.upto[spans[:, 1]] - self.upto[spans[:, 0]])

    def pick(self, spans: Ints, counts: Ints, rng: np.random.Generator) -> Ints:
        """Return so many users of each range, one range after the other, the active ones more often."""
        low = np.repeat(self.upto[spans[:, 0]], counts)
        high = np.repeat(self.upto[spans[:, 1]], counts)
        wanted = np.sort(low + rng.random(len(low)) * (high - low))  # ranges rise, so sorting keeps them apart
        found = self._find(wanted)
        first, last = np.repeat(spans[:, 0], counts), np.repeat(spans[:, 1], counts) - 1
        return np.asarray(self.ids[np.clip(found, first, last)])

    def _find(self, wanted: Floats) -> Ints:
        """Return the last user up to whom there is no more activity than wanted: bisection from a guide table."""
        cell = np.minimum((wanted * (len(self.guide) - 2) / self.upto[-1]).astype(np.int64), len(self.guide) - 2)
        low, high = self.guide[cell], self.guide[cell + 1] + 1
        while len(low) and (high - low).max() > 1:
            middle = (low + high) >> 1
            right = self.upto[middle] <= wanted
            low, high = np.where(right, middle, low), np.where(right, high, middle)
        return np.asarray(low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The users of one cohort in one region."""

    cohort: str
    region: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class People:
    """All simulated users."""

    groups: tuple[Group, ...]
    everyone: Crowd
    chronic: Crowd
    """Those who are always in trouble."""
    chronic_total: float
    """Share of all activity that they have, staff left out."""


def make_people(scenario: Scenario, rng: np.random.Generator) -> People:
    """Return all users by cohort and region; staff come on top of `scenario.users`.

    Cohorts other than staff keep the share of the users that they have in the plan. Activity is lognormal: a tenth of
    the people make about a third of the requests.
    """
    rule, staff = scenario.plan.assignment, scenario.plan.staff_cohorts()
    sizes = {name: size for name, size in rule.cohort_sizes().items() if size}
    scale = scenario.users / rule.users if rule.users else 1.0
    inside = {name: size if name in staff else max(1, round(size * scale)) for name, size in sizes.items()}
    others = scenario.users - sum(size for name, size in inside.items() if name not in staff)
    inside[""] = max(0, others)
    names = list(inside)
    cohort = np.repeat(np.arange(len(names)), list(inside.values()))
    total = len(cohort)
    users = ~np.isin(cohort, [names.index(name) for name in names if name in staff])
    activity = rng.lognormal(0.0, 0.8, total)
    activity /= activity[users].sum()
    shares = np.array([region.share for region in scenario.regions])
    region = rng.choice(len(shares), total, p=shares / shares.sum())
    group = cohort * len(shares) + region
    order = np.argsort(group, kind="stable")
    group, activity, users = group[order], activity[order], users[order]
    present, begins = np.unique(group, return_index=True)
    ends: Ints = np.append(begins, total)
    buckets = rng.random(total) * BUCKETS
    for begin, end in pairwise(ends.tolist()):
        buckets[begin:end].sort()
    chronic = rng.random(total) < scenario.chronic
    return People(
        groups=tuple(
            Group(cohort=names[key // len(shares)], region=int(key % len(shares))) for key in present.tolist()
        ),
        everyone=_crowd(np.arange(total), buckets, activity, ends),
        chronic=_crowd(np.flatnonzero(chronic), buckets, activity, ends),
        chronic_total=float(activity[chronic & users].sum()),
    )


def _crowd(ids: Ints, buckets: Floats, activity: Floats, ends: Ints) -> Crowd:
    upto = np.concatenate([[0.0], np.cumsum(activity[ids])])
    steps = np.linspace(0.0, upto[-1], min(len(upto), _GUIDE) + 1)
    return Crowd(
        ids=ids,
        buckets=buckets[ids],
        begins=np.searchsorted(ids, ends),
        upto=upto,
        guide=np.clip(np.searchsorted(upto, np.append(steps, steps[-1]), side="right") - 1, 0, max(0, len(ids) - 1)),
    )

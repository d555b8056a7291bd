"""The simulated users: who is in which cohort and region, on which side of the split, and how active.

Inside a group (cohort x region) users are sorted by bucket, so those on V2 are the first ones and those on V1 the rest,
whatever the split. Buckets are drawn, not hashed: a fresh salt for each run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crossfade.core.split import BUCKETS, Version
from crossfade.simulation.model import Scenario

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crowd:
    """Some users, sorted by bucket."""

    buckets: Floats
    """(n,): 0..10000, rising."""
    ids: Ints
    """(n,): unique among all users."""
    upto: Floats
    """(n + 1,): share of all users' activity of the first 0, 1, ... n."""

    def side(self, version: Version, share: int) -> tuple[int, int]:
        """Return the range of users that a share (basis points) puts on a version."""
        cut = int(np.searchsorted(self.buckets, share, side="left"))
        return (0, cut) if version is Version.V2 else (cut, len(self.ids))

    def weight(self, span: tuple[int, int]) -> float:
        """Return the share of all users' activity that a range of users has."""
        return float(self.upto[span[1]] - self.upto[span[0]])

    def pick(self, span: tuple[int, int], draws: Floats) -> Ints:
        """Return a user of a range for each draw from [0, 1), the active ones more often."""
        low, high = self.upto[span[0]], self.upto[span[1]]
        found = np.searchsorted(self.upto, low + draws * (high - low), side="right") - 1
        return np.asarray(self.ids[np.clip(found, span[0], span[1] - 1)])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """The users of one cohort in one region."""

    cohort: str
    region: int
    everyone: Crowd
    chronic: Crowd
    """Those of them who are always in trouble."""
    chronic_total: float
    """Share of all activity that all chronic users of all groups have."""


def make_groups(scenario: Scenario, rng: np.random.Generator) -> tuple[Group, ...]:
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
    total = sum(inside.values())
    activity = rng.lognormal(0.0, 0.8, total)
    users = np.ones(total, dtype=bool)
    first = 0
    for name, size in inside.items():
        users[first : first + size] = name not in staff
        first += size
    activity /= activity[users].sum()
    buckets = rng.random(total) * BUCKETS
    shares = np.array([region.share for region in scenario.regions])
    places = rng.choice(len(shares), total, p=shares / shares.sum())
    chronic = rng.random(total) < scenario.chronic
    weight = float(activity[chronic & users].sum())
    return tuple(_groups(inside, places, activity=activity, buckets=buckets, chronic=chronic, weight=weight))


def _groups(
    inside: dict[str, int],
    places: Ints,
    *,
    activity: Floats,
    buckets: Floats,
    chronic: NDArray[np.bool_],
    weight: float,
) -> Iterator[Group]:
    first = 0
    for name, size in inside.items():
        members = np.arange(first, first + size)
        first += size
        for region in range(int(places.max()) + 1):
            here = members[places[members] == region]
            if len(here):
                yield Group(
                    cohort=name,
                    region=region,
                    everyone=_crowd(here, activity, buckets),
                    chronic=_crowd(here[chronic[here]], activity, buckets),
                    chronic_total=weight,
                )


def _crowd(members: Ints, activity: Floats, buckets: Floats) -> Crowd:
    order = members[np.argsort(buckets[members], kind="stable")]
    return Crowd(
        buckets=buckets[order],
        ids=order.astype(np.int64) + 1,
        upto=np.concatenate([[0.0], np.cumsum(activity[order])]),
    )

"""Who searches for what, and when: a seeded model of users, regions and the day's curve, in plan time.

The model has no clock and no socket. Time is cut into slices of equal length; each slice draws from a generator of
its own, seeded by the model's seed and the slice's number, so any slice can be had alone and twice the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S

HOMES = ("JFK", "EWR", "LGA")
"""The reference service's schedule departs from New York, so that is where journeys begin."""
DESTINATIONS = ("LAX", "ORD", "ATL", "BOS", "MCO", "SFO", "MIA", "DEN", "LAS", "SEA", "DFW", "PHX")
"""The most wanted first."""
DAYS_AHEAD_MAX = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Where users live: it shifts their day."""

    name: str
    share: float
    """Of all users."""
    offset_h: float
    """Local time minus UTC, in hours."""


REGIONS = (
    Region(name="eu", share=0.40, offset_h=1),
    Region(name="us", share=0.35, offset_h=-5),
    Region(name="asia", share=0.25, offset_h=8),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """One simulated person."""

    key: str
    """What the proxy assigns by."""
    client: str
    """The application they call with."""
    region: int
    """Index into the model's regions."""
    home: str
    """Airport their journeys begin at."""
    activity: float
    """How often they search, beside others."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One search: when, by whom, for what."""

    at: float
    """Plan time, seconds since the epoch."""
    user: int
    """Index into the model's users."""
    destination: str
    day: str
    """ISO date of the journey."""


def diurnal(hour: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the day's curve at a local hour: mean 1 over a day, lowest about 3 h, highest about 17 h."""
    angle = 2 * math.pi * (np.asarray(hour, dtype=np.float64) - 16.0) / 24.0
    curve: NDArray[np.float64] = 1.0 + 0.5 * np.cos(angle) + 0.12 * np.cos(2 * angle - 1.0)
    return curve


def make_users(keys: Sequence[str], seed: int, regions: Sequence[Region] = REGIONS) -> tuple[User, ...]:
    """Return a user for each key. Activity is lognormal: a tenth of the people make about a third of the searches."""
    rng = np.random.default_rng((seed, 0))
    count = len(keys)
    shares = np.array([region.share for region in regions])
    places = rng.choice(len(regions), count, p=shares / shares.sum())
    homes = rng.choice(len(HOMES), count, p=(0.5, 0.3, 0.2))
    clients = rng.choice(3, count, p=(0.55, 0.35, 0.10))
    activity = rng.lognormal(0.0, 0.8, count)
    names = ("app", "web", "partner")
    return tuple(
        User(
            key=keys[i],
            client=names[clients[i]],
            region=int(places[i]),
            home=HOMES[homes[i]],
            activity=float(activity[i]),
        )
        for i in range(count)
    )


class Traffic:
    """Draws the searches of some users, at a mean rate that the hour of their day bends."""

    def __init__(
        self, users: Sequence[User], *, mean_rate: float, seed: int, regions: Sequence[Region] = REGIONS
    ) -> None:
        """`mean_rate` is all users' searches per plan second, over a whole day."""
        if not users or mean_rate <= 0:
            raise ValueError(f"traffic needs users and a rate above 0, not {len(users)} users and {mean_rate}/s")
        self.users = tuple(users)
        self.regions = tuple(regions)
        self._rate = mean_rate
        self._seed = seed
        self._groups = [np.array([i for i, u in enumerate(users) if u.region == r]) for r in range(len(regions))]
        activity = np.array([user.activity for user in users])
        weights = [activity[group] if len(group) else np.zeros(0) for group in self._groups]
        self._shares = np.array([w.sum() for w in weights]) / activity.sum()
        self._cumulative = [np.cumsum(w) / w.sum() if len(w) else w for w in weights]
        popularity = 1.0 / np.arange(1, len(DESTINATIONS) + 1)
        self._wanted = np.cumsum(popularity / popularity.sum())

    def rates(self, at: float) -> NDArray[np.float64]:
        """Return each region's searches per plan second at a plan time."""
        hours = np.array([(at / HOUR_S + region.offset_h) % 24 for region in self.regions])
        rates: NDArray[np.float64] = self._rate * self._shares * diurnal(hours)
        return rates

    def slice(self, number: int, begin: float, seconds: float) -> list[Arrival]:
        """Return the searches of slice `number`, which lasts plan `seconds` from `begin`, in order of time."""
        rng = np.random.default_rng((self._seed, 1, number))
        counts = rng.poisson(self.rates(begin + seconds / 2) * seconds)
        found: list[Arrival] = []
        for group, cumulative, count in zip(self._groups, self._cumulative, counts, strict=True):
            if not count or not len(group):
                continue
            users = group[_pick(cumulative, rng.random(count))]
            wanted = _pick(self._wanted, rng.random(count))
            times = begin + rng.random(count) * seconds
            ahead = rng.integers(1, DAYS_AHEAD_MAX + 1, count)
            found += [
                Arrival(float(at), int(user), DESTINATIONS[place], _day(float(at), int(days)))
                for at, user, place, days in zip(times, users, wanted, ahead, strict=True)
            ]
        found.sort(key=lambda arrival: arrival.at)
        return found


def _pick(cumulative: NDArray[np.float64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return an index for each draw from [0, 1); rounding may leave the last sum just below 1."""
    return np.minimum(np.searchsorted(cumulative, draws, side="right"), len(cumulative) - 1).astype(np.int64)


def _day(at: float, ahead: int) -> str:
    return (datetime.fromtimestamp(at, tz=UTC) + timedelta(days=ahead)).date().isoformat()

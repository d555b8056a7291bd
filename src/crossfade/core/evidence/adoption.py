"""V2's share of all requests by UTC day, and whether it rises: what the gate `v2 share rises continuously` rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from crossfade.core.plan import DAY

COMPLETE = 0.99
"""Share of a day that must have been watched for it to count."""
TOLERANCE = 0.05
"""Relative: less than that is no fall, for weekdays and weekends have other users."""
SIGMAS = 3.0
WHOLE = 0.995
"""Share of the requests from which on nothing is left to rise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """The present day, and the run of complete days in which the share did not fall."""

    day: int | None = None
    """Days since 1970-01-01 of the present one; None before the first."""
    v1: int = 0
    v2: int = 0
    """Its requests by who answered."""
    watched_s: float = 0.0
    run: int = 0
    """Complete days since the share last fell."""
    first: float | None = None
    """Share (0..1) of the run's first day."""
    last: float | None = None
    """Share of the latest complete day."""
    last_requests: int = 0
    fell: int | None = None
    """The latest day whose share had fallen; None for none."""

    @property
    def rises(self) -> bool:
        """Tell whether the share has risen over a run of days without a fall, or has nothing left to rise."""
        if self.run < 2 or self.first is None or self.last is None:
            return False
        return self.last > self.first or self.last >= WHOLE


def see(adoption: Adoption, *, start: float, length: float, v1: int, v2: int) -> Adoption:
    """Return it after a watched tick that begins at `start` and has so many requests by who answered."""
    day = int(start // DAY)
    if adoption.day != day:
        adoption = replace(_ended(adoption), day=day, v1=0, v2=0, watched_s=0.0)
    return replace(adoption, v1=adoption.v1 + v1, v2=adoption.v2 + v2, watched_s=adoption.watched_s + length)


def _ended(adoption: Adoption) -> Adoption:
    """Return it with the present day in the run, where it was watched and had requests."""
    requests = adoption.v1 + adoption.v2
    if adoption.watched_s < COMPLETE * DAY or not requests:
        return adoption
    share = adoption.v2 / requests
    if _has_fallen(adoption, share, requests):
        return replace(adoption, run=1, first=share, last=share, last_requests=requests, fell=adoption.day)
    first = share if adoption.first is None else adoption.first
    return replace(adoption, run=adoption.run + 1, first=first, last=share, last_requests=requests)


def _has_fallen(adoption: Adoption, share: float, requests: int) -> bool:
    """Tell whether a day's share is lower than that before by more than TOLERANCE, and by more than chance."""
    if adoption.last is None or share >= adoption.last * (1 - TOLERANCE):
        return False
    both = (adoption.last * adoption.last_requests + share * requests) / (adoption.last_requests + requests)
    error = math.sqrt(both * (1 - both) * (1 / adoption.last_requests + 1 / requests))
    return adoption.last - share > SIGMAS * error

"""What came of a load: requests, troubles and latencies by version, region and scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from crossfade.core.load.latency import Latencies
from crossfade.core.split import Version


class Trouble(StrEnum):
    """The ways in which a request can fail."""

    REFUSED = "refused"
    """Nobody listens at the address."""
    UNREACHABLE = "unreachable"
    """The address can't be connected to for another reason."""
    RESET = "reset"
    """The connection ended before the answer was complete."""
    TIMEOUT = "timeout"
    """No complete answer in time."""
    STATUS = "wrong status"
    """An answer with status 400 or above."""
    INVALID = "invalid"
    """No HTTP, a body beyond all bounds, or one that says JSON and is none."""
    UNSENT = "not sent"
    """Meant to be sent and never sent, because too many were under way."""


class Part(NamedTuple):
    """Whose requests are summed together."""

    version: Version | None
    """Who answered; None where the answer doesn't tell or there was none."""
    region: str
    scenario: str


@dataclass(slots=True)
class Sums:
    """One part's sums."""

    requests: int = 0
    troubles: Counter[Trouble] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    latency: Latencies = field(default_factory=Latencies)
    """From the intended start to the last byte, or to the moment at which it was given up."""
    service: Latencies = field(default_factory=Latencies)
    """From the real start to the last byte: what a driver reports that leaves out the requests it holds back."""

    @property
    def failures(self) -> int:
        """How many got no good answer."""
        return self.troubles.total()

    def merge(self, other: Sums) -> None:
        """Add another part's sums."""
        self.requests += other.requests
        self.troubles.update(other.troubles)
        self.statuses.update(other.statuses)
        self.latency.merge(other.latency)
        self.service.merge(other.service)


class Tally:
    """Everything counted about one load. Its size depends on how many parts there are, never on how many requests."""

    def __init__(self) -> None:
        self.parts: dict[Part, Sums] = {}
        self.examples: dict[Trouble, str] = {}
        """The first of each kind, in words."""
        self.retried = 0
        """Asked twice, because a kept connection had been closed meanwhile."""
        self.abandoned = 0
        """Under way when the run was stopped; they count nowhere else."""
        self.overdue = 0
        """Still to be sent when the time was over, by users who waited; they count in the latencies alone."""
        self.late = Latencies()
        """How long after the intended start requests were sent whose user was free: the driver's own doing."""

    def good(self, part: Part, status: int, latency_s: float, service_s: float) -> None:
        """Count a good answer."""
        sums = self._sums(part)
        sums.requests += 1
        sums.statuses[status] += 1
        sums.latency.add(latency_s)
        sums.service.add(service_s)

    def bad(self, part: Part, trouble: Trouble, why: str, latency_s: float, status: int | None = None) -> None:
        """Count a request that failed."""
        sums = self._sums(part)
        sums.requests += 1
        sums.troubles[trouble] += 1
        sums.latency.add(latency_s)
        if status is not None:
            sums.statuses[status] += 1
        self.examples.setdefault(trouble, why)

    def still_waits(self, part: Part, waited_s: float) -> None:
        """Count how long a request has waited, at the end, for its user to be free: it would take longer still."""
        self.overdue += 1
        self._sums(part).latency.add(waited_s)

    def total(self, wanted: Callable[[Part], bool] = lambda _: True) -> Sums:
        """Return the sums of the parts that are wanted."""
        result = Sums()
        for part, sums in self.parts.items():
            if wanted(part):
                result.merge(sums)
        return result

    def by(self, key: Callable[[Part], tuple[str, ...]]) -> Mapping[tuple[str, ...], Sums]:
        """Return the sums of the parts that have the same key, in the keys' order."""
        result: dict[tuple[str, ...], Sums] = {}
        for part in sorted(self.parts, key=key):
            result.setdefault(key(part), Sums()).merge(self.parts[part])
        return result

    def _sums(self, part: Part) -> Sums:
        found = self.parts.get(part)
        if found is None:
            found = self.parts[part] = Sums()
        return found

"""What a process is told at its start, and the two profiles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Where a process listens."""

    host: str = "127.0.0.1"
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TripSettings:
    """What V1 and V2 have in common."""

    database: str | Path
    """A database URL, or a SQLite file."""
    cache_size: int = 4096
    """Answers kept in the process."""
    cache_ttl_s: float = 300.0
    search_timeout_s: float = 2.0
    """Deadline of flights and hotels; missed, the answer is 503."""
    floor_s: float = 0.0
    """No answer is faster; only the profile as-written sets it."""
    failure_rate: float = 0.0
    """Share of requests that fail with 500, for a baseline as the plan has it."""
    allow_faults: bool = False
    """Whether /control exists."""
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WeatherSettings:
    """V2's weather and its breaker; the breaker's defaults are the plan's (R4, R5)."""

    url: str = "http://127.0.0.1:8103"
    timeout_s: float = 0.25
    """V2 waits no longer: its p95 has to stay under the plan's 300 ms."""
    keep_s: float = 0.0
    """Good weather is shown again for so long without asking."""
    stale_s: float = 0.0
    """And for so long after that, while it is asked for anew in the background."""
    busy: float = 1000.0
    """Requests a second from which on good weather a second old at most is shown again; 0: never."""
    connections: int = 256
    """Questions under way; a hang must not take all of the process. The breaker opens long before they are full."""
    window: int = 20
    minimum_calls: int = 20
    failure_rate: float = 0.5
    cooldown_s: float = 30.0
    probes: int = 5
    probe_lease_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Profile:
    """Figures that belong together."""

    weather_timeout_s: float
    floor_s: float
    provider_delay_s: float
    """How long the provider process takes at its start."""


PROFILES: Final = {
    "default": Profile(weather_timeout_s=0.25, floor_s=0.0, provider_delay_s=0.0),
    # The plan's table (R7): weather answers in 2 s, the deadline is 2.1 s, an answer without weather takes 75 ms.
    "as-written": Profile(weather_timeout_s=2.1, floor_s=0.075, provider_delay_s=2.0),
}

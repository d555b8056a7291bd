"""What an answer says about itself: Crossfade-Facts (an RFC 9651 dictionary), and Server-Timing for people."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

HEADER = b"crossfade-facts"


@dataclass(slots=True)
class Facts:
    """The facts of one answer; what is not known is None and left out."""

    flights: bool | None = None
    """The flights provider answered; an empty list for a route nobody flies is an answer."""
    hotels: bool | None = None
    """The hotels provider answered."""
    weather: str | None = None
    """"ok" or "fallback"; V2 only."""
    cache: str | None = None
    """"hit" when this request asked the database nothing, otherwise "miss"."""
    database_ms: float | None = None
    """Milliseconds of database time, summed over the queries of this request."""
    weather_breaker: str | None = None
    """"closed", "open" or "half_open" after the answer was made; V2 only."""
    weather_ms: float | None = None
    """Milliseconds until weather or its fallback was there; in Server-Timing only."""

    def header(self) -> bytes:
        """The dictionary, for example `flights=1, hotels=1, weather=ok, cache=miss, db=3.1, weather-breaker=closed`."""
        tenths = None if self.database_ms is None else round(10 * self.database_ms)
        return _header(self.flights, self.hotels, self.weather, self.cache, tenths, self.weather_breaker)

    def server_timing(self, total_ms: float) -> bytes:
        """The value of Server-Timing, durations in milliseconds."""
        database = None if self.database_ms is None else round(10 * self.database_ms)
        weather = None if self.weather_ms is None else round(10 * self.weather_ms)
        return _server_timing(round(10 * total_ms), database, weather, self.weather, self.cache)


@lru_cache(maxsize=4096)
def _server_timing(
    total_tenths_ms: int,
    database_tenths_ms: int | None,
    weather_tenths_ms: int | None,
    weather: str | None,
    cache: str | None,
) -> bytes:
    parts = [f"total;dur={total_tenths_ms / 10:.1f}"]
    if database_tenths_ms is not None:
        parts.append(f"db;dur={database_tenths_ms / 10:.1f}")
    if weather_tenths_ms is not None:
        parts.append(f'weather;dur={weather_tenths_ms / 10:.1f};desc="{weather}"')
    if cache is not None:
        parts.append(f'cache;desc="{cache}"')
    return ", ".join(parts).encode("ascii")


@lru_cache(maxsize=4096)
def _header(  # noqa: PLR0917 - a key of the cache, called at one place
    flights: bool | None,
    hotels: bool | None,
    weather: str | None,
    cache: str | None,
    database_tenths_ms: int | None,
    weather_breaker: str | None,
) -> bytes:
    parts = []
    if flights is not None:
        parts.append("flights=1" if flights else "flights=0")
    if hotels is not None:
        parts.append("hotels=1" if hotels else "hotels=0")
    if weather is not None:
        parts.append(f"weather={weather}")
    if cache is not None:
        parts.append(f"cache={cache}")
    if database_tenths_ms is not None:
        parts.append(f"db={database_tenths_ms / 10:.1f}")
    if weather_breaker is not None:
        parts.append(f"weather-breaker={weather_breaker}")
    return ", ".join(parts).encode("ascii")

"""What an answer says about itself: Crossfade-Facts (an RFC 9651 dictionary), and Server-Timing for people."""

from __future__ import annotations

from dataclasses import dataclass

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
        parts = []
        if self.flights is not None:
            parts.append("flights=1" if self.flights else "flights=0")
        if self.hotels is not None:
            parts.append("hotels=1" if self.hotels else "hotels=0")
        if self.weather is not None:
            parts.append(f"weather={self.weather}")
        if self.cache is not None:
            parts.append(f"cache={self.cache}")
        if self.database_ms is not None:
            parts.append(f"db={self.database_ms:.1f}")
        if self.weather_breaker is not None:
            parts.append(f"weather-breaker={self.weather_breaker}")
        return ", ".join(parts).encode("ascii")

    def server_timing(self, total_ms: float) -> bytes:
        """The value of Server-Timing, durations in milliseconds."""
        parts = [f"total;dur={total_ms:.1f}"]
        if self.database_ms is not None:
            parts.append(f"db;dur={self.database_ms:.1f}")
        if self.weather_ms is not None:
            parts.append(f'weather;dur={self.weather_ms:.1f};desc="{self.weather}"')
        if self.cache is not None:
            parts.append(f'cache;desc="{self.cache}"')
        return ", ".join(parts).encode("ascii")

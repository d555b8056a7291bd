"""Weather behind the circuit breaker: an answer within the budget, always."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Final, Protocol

from crossfade.breaker import CircuitBreaker
from tripsearch.airports import Airport
from tripsearch.cache import Cache
from tripsearch.facts import Facts
from tripsearch.system import seconds
from tripsearch.weather.values import Weather, WeatherNotOfferedError

_UNAVAILABLE: Final = {
    "open": b'{"status":"unavailable","reason":"breaker_open"}',
    "timeout": b'{"status":"unavailable","reason":"timeout"}',
    "error": b'{"status":"unavailable","reason":"error"}',
    "busy": b'{"status":"unavailable","reason":"busy"}',
}

_Key = tuple[str, date]


class _NotRefreshedError(Exception):
    """Stale weather could not be asked for anew; it stays."""


class Forecasts(Protocol):
    """A weather provider: `OpenMeteo`."""

    async def fetch(self, place: Airport, day: date) -> Weather:
        """The weather of a place on a day; raises where there is none to be believed."""
        ...


class GuardedWeather:
    """Asks the provider through the breaker; whatever happens there, the caller gets JSON to show, and no exception."""

    def __init__(
        self,
        client: Forecasts,
        breaker: CircuitBreaker,
        *,
        timeout_s: float,
        keep_s: float,
        stale_s: float,
        connections: int,
        counted: Callable[[str], None],
        clock: Callable[[], float] = seconds,
    ) -> None:
        """A good answer is shown again for `keep_s` seconds, and for `stale_s` more while it is asked for anew.

        0 for both asks every time. No more than `connections` questions are under way; `counted` is told each outcome.
        """
        self._client = client
        self._timeout_s = timeout_s
        self._counted = counted
        self._keep_s = keep_s
        self._kept: Cache[_Key, tuple[float, bytes]] = Cache(
            size=4096 if keep_s + stale_s > 0 else 0, ttl_s=keep_s + stale_s, clock=clock
        )
        self._free = connections
        self._clock = clock
        self.breaker = breaker

    async def on(self, place: Airport, day: date, facts: Facts) -> bytes:
        """The `weather` of an answer as bytes of JSON; fills the facts."""
        key = (place.iata, day)
        kept = self._kept.get(key)
        if kept is None:
            outcome, body = await self._ask(place, day)
            if outcome == "ok":
                self._kept.put(key, (self._clock(), body))
        else:
            made_at, body = kept
            outcome = "kept" if self._clock() - made_at < self._keep_s else "stale"
            if outcome == "stale":
                self._kept.load(key, lambda: self._anew(place, day))
        facts.weather = "ok" if outcome in ("ok", "kept", "stale") else "fallback"
        self._counted(outcome)
        return body

    async def close(self) -> None:
        """End what is asked anew in the background."""
        await self._kept.close()

    async def _anew(self, place: Airport, day: date) -> tuple[float, bytes]:
        """Through the breaker like every question, so that it finds out about an outage behind what is kept."""
        outcome, body = await self._ask(place, day)
        if outcome != "ok":
            raise _NotRefreshedError(outcome)
        return self._clock(), body

    async def _ask(self, place: Airport, day: date) -> tuple[str, bytes]:
        if not self._free:
            # Waiting for a place would look like a slow provider, and be V2's own doing.
            return "busy", _UNAVAILABLE["busy"]
        self._free -= 1
        try:
            # The deadline is the breaker's: one around it would make a hang look like a caller who left.
            answer = await self.breaker.call(
                lambda: self._client.fetch(place, day), timeout_s=self._timeout_s, fallback=_reason
            )
        except WeatherNotOfferedError:
            return "not_offered", _UNAVAILABLE["error"]
        finally:
            self._free += 1
        if isinstance(answer, str):
            return ("breaker_open" if answer == "open" else answer), _UNAVAILABLE[answer]
        return "ok", answer.as_json()


def _reason(reason: str) -> str:
    return reason

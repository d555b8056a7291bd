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

BUSY_KEEP_S: Final = 1.0
"""How old weather may be that is shown because so many ask."""
BUSY_ANEW_S: Final = 0.75
"""From this age on it is asked for anew meanwhile: the rest is longer than a provider takes that is not slow."""
_BUSY_OVER_S: Final = 0.1
"""Time over which requests are counted."""

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
        busy: float = 0.0,
        connections: int,
        counted: Callable[[str], None],
        clock: Callable[[], float] = seconds,
    ) -> None:
        """A good answer is shown again for `keep_s` seconds, and for `stale_s` more while it is asked for anew.

        0 for both asks every time, but where `busy` requests a second come (0: however many): they are shown what is
        a second old at most. No more than `connections` questions are under way; `counted` is told each outcome.
        """
        self._client = client
        self._timeout_s = timeout_s
        self._counted = counted
        self._keep_s, self._shown_s = keep_s, keep_s + stale_s
        self._busy = busy
        self._came, self._since, self._rate = 0, clock(), 0.0
        longest_s = max(self._shown_s, BUSY_KEEP_S if busy else 0.0)
        self._kept: Cache[_Key, tuple[float, bytes]] = Cache(
            size=4096 if longest_s > 0 else 0, ttl_s=longest_s, clock=clock
        )
        self._free = connections
        self._clock = clock
        self.breaker = breaker

    def kept(self, place: Airport, day: date, facts: Facts) -> bytes | None:
        """The `weather` of an answer as bytes of JSON where it is there already, else None; fills the facts."""
        key, now = (place.iata, day), self._clock()
        keep_s, shown_s = self._keep_s, self._shown_s
        if self._is_busy(now):
            keep_s, shown_s = max(keep_s, BUSY_ANEW_S), max(shown_s, BUSY_KEEP_S)
        kept = self._kept.get(key) if shown_s else None
        if kept is None:
            return None
        age_s = now - kept[0]
        if age_s >= shown_s:
            return None
        if age_s >= keep_s:
            self._kept.load(key, lambda: self._anew(place, day))
        facts.weather = "ok"
        self._counted("kept" if age_s < keep_s else "stale")
        return kept[1]

    async def asked(self, place: Airport, day: date, facts: Facts) -> bytes:
        """The same, asked for now."""
        outcome, body = await self._ask(place, day)
        if outcome == "ok":
            self._kept.put((place.iata, day), (self._clock(), body))
        facts.weather = "ok" if outcome == "ok" else "fallback"
        self._counted(outcome)
        return body

    async def close(self) -> None:
        """End what is asked anew in the background."""
        await self._kept.close()

    def _is_busy(self, now: float) -> bool:
        """Count a request; tell whether as many come as make it busy."""
        if not self._busy:
            return False
        if now - self._since >= _BUSY_OVER_S:
            self._rate, self._came, self._since = self._came / (now - self._since), 0, now
        self._came += 1
        return self._rate >= self._busy or self._came >= self._busy * _BUSY_OVER_S

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

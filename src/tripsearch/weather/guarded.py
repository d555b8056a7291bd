"""Weather behind the circuit breaker: an answer within the budget, always."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Final

from crossfade.breaker import CircuitBreaker
from tripsearch.airports import Airport
from tripsearch.cache import Cache
from tripsearch.facts import Facts
from tripsearch.system import seconds
from tripsearch.weather.openmeteo import OpenMeteo
from tripsearch.weather.values import WeatherNotOfferedError

_UNAVAILABLE: Final = {
    "open": b'{"status":"unavailable","reason":"breaker_open"}',
    "timeout": b'{"status":"unavailable","reason":"timeout"}',
    "error": b'{"status":"unavailable","reason":"error"}',
}

_Key = tuple[str, date]


class GuardedWeather:
    """Asks the provider through the breaker; whatever happens there, the caller gets JSON to show, and no exception."""

    def __init__(
        self,
        client: OpenMeteo,
        breaker: CircuitBreaker,
        *,
        timeout_s: float,
        keep_s: float,
        counted: Callable[[str], None],
    ) -> None:
        """A good answer is shown again for `keep_s` seconds, 0 asks every time; `counted` is told each outcome."""
        self._client = client
        self._timeout_s = timeout_s
        self._counted = counted
        self._kept: Cache[_Key, bytes] | None = Cache(size=4096, ttl_s=keep_s, clock=seconds) if keep_s > 0 else None
        self.breaker = breaker

    async def on(self, place: Airport, day: date, facts: Facts) -> bytes:
        """The `weather` of an answer as bytes of JSON; fills the facts."""
        key = (place.iata, day)
        kept = self._kept.get(key) if self._kept is not None else None
        if kept is not None:
            outcome, body = "kept", kept
        else:
            outcome, body = await self._ask(place, day)
            if outcome == "ok" and self._kept is not None:
                self._kept.put(key, body)
        facts.weather = "ok" if outcome in ("ok", "kept") else "fallback"
        self._counted(outcome)
        return body

    async def _ask(self, place: Airport, day: date) -> tuple[str, bytes]:
        try:
            # The deadline is the breaker's: one around it would make a hang look like a caller who left.
            answer = await self.breaker.call(
                lambda: self._client.fetch(place, day), timeout_s=self._timeout_s, fallback=_reason
            )
        except WeatherNotOfferedError:
            return "not_offered", _UNAVAILABLE["error"]
        if isinstance(answer, str):
            return ("breaker_open" if answer == "open" else answer), _UNAVAILABLE[answer]
        return "ok", answer.as_json()


def _reason(reason: str) -> str:
    return reason

"""V2: everything V1 answers, and weather at the destination, which can fail, hang or lie without harm to the rest."""

from __future__ import annotations

from tripsearch.facts import Facts
from tripsearch.providers.database import Database
from tripsearch.query import Search
from tripsearch.search import TripSearch
from tripsearch.system import seconds
from tripsearch.weather.guarded import GuardedWeather


class V2:
    """GET /v2/trips/search."""

    path = "/v2/trips/search"
    number = "2"

    def __init__(self, database: Database, trips: TripSearch, weather: GuardedWeather) -> None:
        self._database = database
        self._trips = trips
        self._weather = weather

    async def answer(self, search: Search, facts: Facts) -> bytes:
        """Flights, hotels and weather. Raises ProblemError 503 when flights or hotels can't be had."""
        begun = seconds()
        pending = self._trips.begin(search)  # runs while weather is asked
        weather = self._weather.kept(search.destination, search.date, facts)
        if weather is None:
            weather = await self._weather.asked(search.destination, search.date, facts)
        facts.weather_ms = (seconds() - begun) * 1000
        facts.weather_breaker = self._weather.breaker.state.value
        shared = await self._trips.finish(pending, facts)
        # Spliced, not parsed: V1's part stays equal to the byte, and costs nothing.
        return b'%b,"weather":%b}' % (shared[:-1], weather)

    async def ready(self) -> bool:
        """Whether the database answers. Weather does not matter: V2 is ready without it."""
        return await self._database.ready()

"""V1: flights and hotels."""

from __future__ import annotations

from tripsearch.facts import Facts
from tripsearch.providers.database import Database
from tripsearch.query import Search
from tripsearch.search import TripSearch


class V1:
    """GET /v1/trips/search."""

    path = "/v1/trips/search"
    number = "1"

    def __init__(self, database: Database, trips: TripSearch) -> None:
        self._database = database
        self._trips = trips

    async def answer(self, search: Search, facts: Facts) -> bytes:
        """Flights and hotels. Raises ProblemError 503 when either can't be had."""
        return await self._trips.finish(self._trips.begin(search), facts)

    async def ready(self) -> bool:
        """Whether the database answers."""
        return await self._database.ready()

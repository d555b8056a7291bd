"""Flights: the schedule of 2013 out of New York, served for every year by month and day."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, func, select

from tripsearch.providers.database import Database
from tripsearch.providers.schema import flights
from tripsearch.query import Search

_ON_A_DAY = (
    select(flights.c.carrier, flights.c.carrier_name, flights.c.number, flights.c.departs, flights.c.arrives)
    .where(
        flights.c.origin == bindparam("origin"),
        flights.c.destination == bindparam("destination"),
        func.substr(flights.c.days, bindparam("day"), 1) == "1",
    )
    .order_by(flights.c.departs, flights.c.carrier, flights.c.number)
)


async def find_flights(database: Database, search: Search) -> list[dict[str, Any]]:
    """Flights on the day, in order of departure; empty where nobody flies. Times are local, HH:MM.

    Raises SQLAlchemyError or OSError when the database does not answer.
    """
    asked = {"origin": search.origin.iata, "destination": search.destination.iata, "day": search.schedule_day}
    async with database.engine.connect() as connection:
        found = (await connection.execute(_ON_A_DAY, asked)).all()
    return [
        {
            "carrier": carrier,
            "carrier_name": carrier_name,
            "flight": f"{carrier}{number}",
            "departs": departs,
            "arrives": arrives,
            "arrives_next_day": arrives < departs,
        }
        for carrier, carrier_name, number, departs, arrives in found
    ]

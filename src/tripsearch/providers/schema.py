"""The tables, and the rows they are filled with on first start."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, Index, Integer, MetaData, String, Table

from tripsearch import data
from tripsearch.airports import Airport, airports

VERSION = "1"
"""Changes with tables or rows, so that an older file is never taken for a newer one."""

_HOTELS_MIN, _HOTELS_MAX = 3, 8
_KINDS = (
    "Grand Hotel {}",
    "{} Station Hotel",
    "The {} Arms",
    "{} Garden Inn",
    "Hotel Central {}",
    "{} Riverside Suites",
    "Old Town House {}",
    "{} Airport Lodge",
)

metadata = MetaData()

meta = Table(
    "tripsearch_meta", metadata, Column("name", String, primary_key=True), Column("value", String, nullable=False)
)

flights = Table(
    "tripsearch_flights",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("origin", String(3), nullable=False),
    Column("destination", String(3), nullable=False),
    Column("carrier", String(2), nullable=False),
    Column("carrier_name", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("departs", String(5), nullable=False),  # local time at the origin, HH:MM
    Column("arrives", String(5), nullable=False),  # local time at the destination, HH:MM
    Column("days", String(365), nullable=False),  # '1' at each day of 2013 with this service, 1 January first
    Index("tripsearch_flights_route", "origin", "destination"),
)

hotels = Table(
    "tripsearch_hotels",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("city_key", String, nullable=False),
    Column("name", String, nullable=False),
    Column("stars", Integer, nullable=False),
    Column("night_usd", Integer, nullable=False),
    Index("tripsearch_hotels_city", "city_key"),
)


def flight_rows() -> Iterator[dict[str, Any]]:
    """Every scheduled service of the data set."""
    carriers = dict(data.rows("carriers.csv.gz"))
    lines = data.rows("flights.csv.gz")
    next(lines)
    for number, (origin, destination, carrier, flight, departs, arrives, days) in enumerate(lines, 1):
        yield {
            "id": number,
            "origin": origin,
            "destination": destination,
            "carrier": carrier,
            "carrier_name": carriers[carrier],
            "number": int(flight),
            "departs": departs,
            "arrives": arrives,
            "days": f"{int(days, 16):0365b}",
        }


def hotel_rows() -> Iterator[dict[str, Any]]:
    """Invented hotels for every real city, the same ones on every machine."""
    cities: dict[str, Airport] = {}
    for airport in airports().values():
        cities.setdefault(airport.city_key, airport)
    number = 0
    for key, airport in sorted(cities.items()):
        seed = hashlib.blake2b(key.encode(), digest_size=32).digest()
        first = seed[0] % len(_KINDS)
        for i in range(_HOTELS_MIN + seed[1] % (_HOTELS_MAX - _HOTELS_MIN + 1)):
            number += 1
            stars = 2 + seed[2 + i] % 4
            yield {
                "id": number,
                "city_key": key,
                "name": _KINDS[(first + i) % len(_KINDS)].format(airport.city or airport.name),
                "stars": stars,
                "night_usd": 30 * stars + seed[16 + i] % 60,
            }

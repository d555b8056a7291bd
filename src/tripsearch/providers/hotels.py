"""Hotels: invented for real cities, always the same ones."""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam, select

from tripsearch.providers.database import Database
from tripsearch.providers.schema import hotels
from tripsearch.query import Search

_IN_A_CITY = (
    select(hotels.c.name, hotels.c.stars, hotels.c.night_usd)
    .where(hotels.c.city_key == bindparam("city"))
    .order_by(hotels.c.id)
)


async def find_hotels(database: Database, search: Search) -> list[dict[str, Any]]:
    """Hotels in the destination's city, with the price of a night in US dollars.

    Raises SQLAlchemyError or OSError when the database does not answer.
    """
    async with database.engine.connect() as connection:
        found = (await connection.execute(_IN_A_CITY, {"city": search.destination.city_key})).all()
    return [{"name": name, "stars": stars, "night_usd": night_usd} for name, stars, night_usd in found]

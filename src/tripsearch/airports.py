"""Airports and their cities, from the airportsdata package."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import airportsdata


@dataclass(frozen=True, slots=True)
class Airport:
    """One airport with a IATA code."""

    iata: str
    name: str
    city: str
    """May be empty: some airfields lie in no city."""
    region: str
    country: str
    """ISO 3166 two-letter code."""
    latitude: float
    """Degrees, north positive."""
    longitude: float
    """Degrees, east positive."""

    @property
    def city_key(self) -> str:
        """What airports of one city share; hotels are kept under it."""
        return "|".join((self.country, self.region, self.city or self.iata))

    def as_json(self) -> dict[str, Any]:
        """The airport as answers show it."""
        return {"iata": self.iata, "name": self.name, "city": self.city, "country": self.country}


@cache
def airports() -> dict[str, Airport]:
    """Every airport, by IATA code in capitals. Reads a file on first use, about 100 ms."""
    return {
        code: Airport(
            iata=code,
            name=row["name"],
            city=row["city"],
            region=row["subd"],
            country=row["country"],
            latitude=row["lat"],
            longitude=row["lon"],
        )
        for code, row in airportsdata.load("IATA").items()
    }

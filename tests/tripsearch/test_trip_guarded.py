"""Weather behind the breaker: what is kept, what is stale, and how many may ask at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from tests.tripsearch.test_trip_weather import DAY, QUERY, RECORDED

from crossfade.breaker import CircuitBreaker
from tripsearch.airports import Airport, airports
from tripsearch.facts import Facts
from tripsearch.weather.guarded import GuardedWeather
from tripsearch.weather.openmeteo import OpenMeteo
from tripsearch.weather.provider import forecast
from tripsearch.weather.values import Weather, WeatherError, read_answer

JFK, LAX = airports()["JFK"], airports()["LAX"]
WEATHER = read_answer(orjson.loads(forecast(QUERY, DAY)), latitude=LAX.latitude, longitude=LAX.longitude, day=DAY)


class Provider:
    """Answers with the number of times it was asked as the wind; can fail, and be held."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False
        self.open = asyncio.Event()
        self.open.set()

    async def fetch(self, place: Airport, day: date) -> Weather:
        self.asked += 1
        number = self.asked
        await self.open.wait()
        if self.fails:
            raise WeatherError("told to fail")
        return replace(WEATHER, wind_kmh=float(number))


class Rig:
    def __init__(self, **settings: Any) -> None:
        self.now = 0.0
        self.provider = Provider()
        self.outcomes: list[str] = []
        self.breaker = CircuitBreaker("weather", window=4, minimum_calls=4, cooldown_s=60)
        given = {"timeout_s": 30.0, "keep_s": 10.0, "stale_s": 60.0, "connections": 3} | settings
        self.weather = GuardedWeather(
            self.provider, self.breaker, counted=self.outcomes.append, clock=lambda: self.now, **given
        )

    async def ask(self, place: Airport = LAX) -> Any:
        facts = Facts()
        body = self.weather.kept(place, DAY, facts)
        answer = orjson.loads(await self.weather.asked(place, DAY, facts) if body is None else body)
        assert facts.weather == ("ok" if answer["status"] == "ok" else "fallback")
        return answer.get("wind_kmh", answer.get("reason"))

    def kept_at(self, place: Airport) -> float | None:
        kept = self.weather._kept.get((place.iata, DAY))
        return kept and kept[0]

    async def settled(self, done: Callable[[], bool]) -> None:
        for _ in range(10_000):
            if done():
                return
            await asyncio.sleep(0)
        raise AssertionError("it did not come to that")


async def test_fresh_weather_is_shown_again_without_asking() -> None:
    rig = Rig()
    assert [await rig.ask(), await rig.ask(), await rig.ask(JFK)] == [1.0, 1.0, 2.0]
    assert rig.outcomes == ["ok", "kept", "ok"]


async def test_stale_weather_is_shown_while_one_asks_anew() -> None:
    rig = Rig()
    await rig.ask()
    rig.now = 10.0
    rig.provider.open.clear()
    assert [await rig.ask() for _ in range(5)] == [1.0] * 5
    await rig.settled(lambda: rig.provider.asked == 2)
    assert rig.outcomes[1:] == ["stale"] * 5
    rig.provider.open.set()
    await rig.settled(lambda: rig.kept_at(LAX) == 10.0)
    assert (await rig.ask(), rig.outcomes[-1], rig.provider.asked) == (2.0, "kept", 2)


async def test_what_cannot_be_had_anew_stays_and_opens_the_breaker_then_its_time_is_over() -> None:
    rig = Rig()
    await rig.ask()
    rig.provider.fails, rig.now = True, 10.0

    async def until_open() -> None:
        while rig.breaker.state != "open":
            assert await rig.ask() == 1.0
            await asyncio.sleep(0)

    await asyncio.wait_for(until_open(), 10)
    assert await rig.ask() == 1.0
    rig.now = 70.0
    assert await rig.ask() == "breaker_open"


async def test_without_keeping_every_question_is_asked() -> None:
    rig = Rig(keep_s=0.0, stale_s=0.0)
    assert [await rig.ask(), await rig.ask()] == [1.0, 2.0]


async def test_while_many_ask_what_is_a_second_old_at_most_is_shown_and_an_outage_behind_it_is_found() -> None:
    rig = Rig(keep_s=0.0, stale_s=0.0, busy=100.0)

    async def at(now: float, asked: int) -> list[Any]:
        rig.now = now
        return [await rig.ask() for _ in range(asked)]

    assert await at(0.0, 9) == [1, 2, 3, 4, 5, 6, 7, 8, 9], "fewer than 100/s: each asks"
    assert await at(0.0, 3) == [9, 9, 9]
    assert await at(0.1, 2) == [9, 9], "over the last tenth there were as many"
    assert rig.outcomes[9:] == ["kept"] * 5
    assert await at(0.5, 2) == [10, 11], "then there were not"
    assert await at(5.0, 9) == [12, 13, 14, 15, 16, 17, 18, 19, 20]
    rig.provider.fails = True
    assert await at(5.05, 1) == [20]
    assert await at(5.9, 20) == ["error"] * 2 + ["breaker_open"] * 7 + [20] * 11, "until it is busy again"
    assert rig.outcomes[-1] == "stale"
    assert await at(7.0, 20) == ["breaker_open"] * 20, "a second is over"


async def test_who_finds_no_place_is_answered_at_once_and_does_not_count() -> None:
    rig = Rig(keep_s=0.0, stale_s=0.0)
    rig.provider.open.clear()
    asking = [asyncio.ensure_future(rig.ask()) for _ in range(3)]
    await rig.settled(lambda: rig.provider.asked == 3)
    assert [await rig.ask() for _ in range(20)] == ["busy"] * 20
    rig.provider.open.set()
    await asyncio.gather(*asking)
    assert await rig.ask() == 4.0
    assert (rig.breaker.counts["success"], rig.breaker.counts["error"]) == (4, 0)


async def test_a_place_is_given_back_whatever_happens() -> None:
    rig = Rig(keep_s=0.0, stale_s=0.0, timeout_s=0.01)
    rig.provider.open.clear()
    leaver = asyncio.ensure_future(rig.ask())
    await rig.settled(lambda: rig.provider.asked == 1)
    leaver.cancel()
    assert [await rig.ask() for _ in range(3)] == ["timeout"] * 3
    rig.provider.open.set()
    rig.breaker.reset()
    assert len({await rig.ask() for _ in range(5)} - {"busy"}) == 5


async def test_closing_ends_what_is_asked_anew() -> None:
    rig = Rig()
    await rig.ask()
    rig.now = 10.0
    rig.provider.open.clear()
    await rig.ask()
    await rig.settled(lambda: rig.provider.asked == 2)
    await asyncio.wait_for(rig.weather.close(), 10)


@pytest.mark.parametrize(("broken", "asked", "good"), [(0, 1, True), (1, 2, True), (2, 2, False), (9, 2, False)])
async def test_a_connection_that_breaks_is_tried_once_more(broken: int, asked: int, good: bool) -> None:
    requests = 0

    async def handler(request: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        if requests <= broken and request.transport is not None:
            request.transport.abort()
        return web.json_response(RECORDED)

    app = web.Application()
    app.router.add_get("/v1/forecast", handler)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        client = OpenMeteo(str(server.make_url("/")), session)
        if good:
            assert (await client.fetch(LAX, DAY)).source == "open-meteo"
        else:
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.fetch(LAX, DAY)
    assert asked == requests


async def test_an_answer_that_is_an_error_is_not_asked_for_again() -> None:
    requests = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal requests
        requests += 1
        return web.Response(status=503)

    app = web.Application()
    app.router.add_get("/v1/forecast", handler)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        with pytest.raises(WeatherError):
            await OpenMeteo(str(server.make_url("/")), session).fetch(LAX, DAY)
    assert requests == 1

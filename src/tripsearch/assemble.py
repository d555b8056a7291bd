"""The one place where the parts of V1 and V2 meet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from crossfade.breaker import CircuitBreaker
from tripsearch.airports import airports
from tripsearch.app import TripApp, Version
from tripsearch.faults import FaultSwitch
from tripsearch.metrics import Metrics
from tripsearch.providers.database import Database
from tripsearch.search import TripSearch
from tripsearch.settings import TripSettings, WeatherSettings
from tripsearch.v1 import V1
from tripsearch.v2 import V2
from tripsearch.weather.guarded import GuardedWeather
from tripsearch.weather.openmeteo import OpenMeteo
from tripsearch.weather.values import WeatherNotOfferedError


@asynccontextmanager
async def trips(settings: TripSettings, weather: WeatherSettings | None) -> AsyncIterator[TripApp]:
    """V1, or V2 when there are weather settings. Raises DatabaseUnusableError."""
    airports()  # read now rather than in the first request
    async with AsyncExitStack() as stack:
        database = await Database.open(settings.database)
        stack.push_async_callback(database.close)
        search = TripSearch(
            database,
            cache_size=settings.cache_size,
            cache_ttl_s=settings.cache_ttl_s,
            deadline_s=settings.search_timeout_s,
        )
        stack.push_async_callback(search.close)
        metrics = Metrics("v1" if weather is None else "v2")
        version: Version
        if weather is None:
            version = V1(database, search)
        else:
            connector = aiohttp.TCPConnector(limit=weather.connections, keepalive_timeout=60)
            session = await stack.enter_async_context(
                # The breaker has the deadline; a cookie jar would only cost time.
                aiohttp.ClientSession(
                    connector=connector, timeout=aiohttp.ClientTimeout(total=None), cookie_jar=aiohttp.DummyCookieJar()
                )
            )
            guarded = _guarded(weather, session, metrics)
            stack.push_async_callback(guarded.close)
            version = V2(database, search, guarded)
        yield TripApp(
            version,
            metrics=metrics,
            faults=FaultSwitch(failure_rate=settings.failure_rate, seed=settings.seed),
            allow_faults=settings.allow_faults,
            floor_s=settings.floor_s,
        )


def _guarded(settings: WeatherSettings, session: aiohttp.ClientSession, metrics: Metrics) -> GuardedWeather:
    breaker = CircuitBreaker(
        "weather",
        window=settings.window,
        failure_rate=settings.failure_rate,
        minimum_calls=settings.minimum_calls,
        cooldown_s=settings.cooldown_s,
        probes=settings.probes,
        probe_lease_s=settings.probe_lease_s,
        ignore=(WeatherNotOfferedError,),
    )
    metrics.watch(breaker)
    return GuardedWeather(
        OpenMeteo(settings.url, session),
        breaker,
        timeout_s=settings.timeout_s,
        keep_s=settings.keep_s,
        stale_s=settings.stale_s,
        busy=settings.busy,
        connections=settings.connections,
        counted=metrics.weather,
    )

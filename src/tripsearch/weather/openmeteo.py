"""The adapter for a weather API of Open-Meteo's shape: the public one, or the provider process beside us."""

from __future__ import annotations

from datetime import date
from urllib.parse import urlsplit

import aiohttp
import orjson
from yarl import URL

from tripsearch.airports import Airport
from tripsearch.weather.values import ALL_SERIES, Weather, WeatherError, WeatherNotOfferedError, read_answer

_PATH = "/v1/forecast"
_HOURLY = ",".join(series.name for series in ALL_SERIES)
_ANSWER_BYTES_MAX = 256 * 1024
# Open-Meteo's words for a day too far ahead or too long ago, and no others: any 400 must not pass for good health.
_NOT_OFFERED = b"out of allowed range"


class OpenMeteo:
    """Asks for a day's weather over one shared session with kept-alive connections."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._base = forecast_url(url)
        self._session = session

    async def fetch(self, place: Airport, day: date) -> Weather:
        """The weather of a place on a day of its local calendar.

        Takes as long as the provider does: the caller has the deadline. Raises WeatherError when the answer is an error
        or can't be right, WeatherNotOfferedError when the provider has no weather that far away in time, and
        aiohttp.ClientError or OSError when it can't be reached: a connection that ends before an answer has begun is
        tried once more, by aiohttp. An answer that is an error is an answer, and is not asked for again: with half of
        them failing that would hide it from the breaker.
        """
        url = URL(
            f"{self._base}?latitude={place.latitude}&longitude={place.longitude}&hourly={_HOURLY}"
            f"&start_date={day}&end_date={day}&timezone=auto",
            encoded=True,  # nothing in it needs escaping, and parsing it costs more than the request
        )
        async with self._session.get(url, allow_redirects=False) as answer:
            body = await answer.content.read(_ANSWER_BYTES_MAX)
            # One read gives what has come so far; nearly always it is everything.
            while not answer.content.at_eof() and len(body) < _ANSWER_BYTES_MAX:
                body += await answer.content.read(_ANSWER_BYTES_MAX - len(body))
            status = answer.status
        if status == 400 and _NOT_OFFERED in body:
            raise WeatherNotOfferedError(f"no weather is offered for {day}")
        if status != 200:
            raise WeatherError(f"the provider answered {status}")
        if len(body) >= _ANSWER_BYTES_MAX:
            raise WeatherError(f"the answer is longer than {_ANSWER_BYTES_MAX} bytes")
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError:  # NaN is no JSON either
            raise WeatherError("the answer is no JSON") from None
        return read_answer(parsed, latitude=place.latitude, longitude=place.longitude, day=day)


def forecast_url(url: str) -> str:
    """The address asked: an origin gets Open-Meteo's path, an address with a path is kept.

    Raises ValueError if it is no HTTP URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is no weather URL; give one such as http://127.0.0.1:8103")
    return url if parts.path not in ("", "/") else url.rstrip("/") + _PATH

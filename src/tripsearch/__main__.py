"""The command line: `tripsearch v1`, `tripsearch v2`, `tripsearch weather-provider`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tripsearch.settings import PROFILES, ServeSettings, TripSettings, WeatherSettings

F = TypeVar("F", bound=Callable[..., Any])

_RATE = click.FloatRange(0, 1)
_COUNT = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0, min_open=True)


def _listening(command: F) -> F:
    for option in (
        click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
        click.option("--port", type=click.IntRange(1, 65535), required=True, help="Port to listen on."),
        click.option(
            "--profile",
            type=click.Choice(list(PROFILES)),
            default="default",
            show_default=True,
            help="as-written reproduces the plan's slow figures.",
        ),
        click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws the faults."),
    ):
        command = option(command)
    return command


def _searching(command: F) -> F:
    for option in (
        click.option(
            "--database-url",
            envvar="TRIPSEARCH_DATABASE_URL",
            help="sqlite:///PATH or postgresql://USER@HOST/NAME; default: a file in the data dir.",
        ),
        click.option(
            "--data-dir",
            envvar="TRIPSEARCH_DATA_DIR",
            type=click.Path(file_okay=False, path_type=Path),
            default=Path.home() / ".cache" / "tripsearch",
            help="Where the SQLite file is made on first start; default: ~/.cache/tripsearch.",
        ),
        click.option("--cache-size", type=click.IntRange(min=0), default=4096, show_default=True, help="Answers kept."),
        click.option("--cache-ttl", type=_SECONDS, default=300.0, show_default=True, help="Seconds they are kept."),
        click.option(
            "--search-timeout-ms",
            type=_SECONDS,
            default=2000.0,
            show_default=True,
            help="Deadline of flights and hotels; missed, the answer is 503.",
        ),
        click.option(
            "--failure-rate", type=_RATE, default=0.0, show_default=True, help="Share of requests failed on purpose."
        ),
        click.option("--allow-faults", is_flag=True, help="Offer PUT /control, to plant defects at run time."),
    ):
        command = option(command)
    return command


@click.group(context_settings={"auto_envvar_prefix": "TRIPSEARCH", "help_option_names": ["-h", "--help"]})
def cli() -> None:
    """The reference service: a trip search in two versions, and its weather.

    Every option can be given as TRIPSEARCH_<COMMAND>_<OPTION>; the database also as TRIPSEARCH_DATABASE_URL and
    TRIPSEARCH_DATA_DIR for both versions. A flag wins.
    """


@cli.command("v1")
@_listening
@_searching
def v1(host: str, port: int, profile: str, seed: int, **searching: Any) -> None:
    """Serve GET /v1/trips/search: flights and hotels."""
    from tripsearch.assemble import trips  # noqa: PLC0415 -- --help must not load servers and drivers
    from tripsearch.server import run  # noqa: PLC0415

    settings = _trip_settings(profile, seed, searching)
    sys.exit(run("v1", ServeSettings(host=host, port=port), lambda: trips(settings, None)))


@cli.command("v2")
@_listening
@_searching
@click.option("--weather", "url", default="http://127.0.0.1:8103", show_default=True, help="URL of the weather API.")
@click.option("--weather-timeout-ms", type=_SECONDS, help="Weather's deadline; default by profile: 250 or 2100.")
@click.option(
    "--weather-keep",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Seconds good weather is shown again without asking.",
)
@click.option(
    "--weather-stale",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Seconds it is shown after that while it is asked for anew.",
)
@click.option(
    "--weather-busy",
    type=click.FloatRange(min=0),
    default=1000.0,
    show_default=True,
    help="Requests/s from which on weather up to 1 s old is shown again; 0: never.",
)
@click.option("--weather-connections", type=_COUNT, default=256, show_default=True, help="Questions under way at most.")
@click.option("--breaker-window", type=_COUNT, default=20, show_default=True, help="Calls looked back at.")
@click.option("--breaker-minimum-calls", type=_COUNT, default=20, show_default=True, help="Calls before it may open.")
@click.option("--breaker-failure-rate", type=_RATE, default=0.5, show_default=True, help="Share that opens it.")
@click.option("--breaker-cooldown", type=_SECONDS, default=30.0, show_default=True, help="Seconds until it probes.")
@click.option("--breaker-probes", type=_COUNT, default=5, show_default=True, help="Successes that close it.")
@click.option("--breaker-probe-lease", type=_SECONDS, default=10.0, show_default=True, help="Seconds a probe has.")
def v2(host: str, port: int, profile: str, seed: int, **rest: Any) -> None:
    """Serve GET /v2/trips/search: everything of V1, and weather."""
    from tripsearch.assemble import trips  # noqa: PLC0415
    from tripsearch.server import run  # noqa: PLC0415
    from tripsearch.weather.openmeteo import forecast_url  # noqa: PLC0415

    url, timeout_ms, keep_s = rest.pop("url"), rest.pop("weather_timeout_ms"), rest.pop("weather_keep")
    try:
        forecast_url(url)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--weather") from None
    stale_s, busy, connections = (rest.pop(f"weather_{name}") for name in ("stale", "busy", "connections"))
    breaker = {name.removeprefix("breaker_"): rest.pop(name) for name in list(rest) if name.startswith("breaker_")}
    if breaker["minimum_calls"] > breaker["window"]:
        raise click.BadParameter("is more than --breaker-window", param_hint="--breaker-minimum-calls")
    weather = WeatherSettings(
        url=url,
        timeout_s=timeout_ms / 1000 if timeout_ms is not None else PROFILES[profile].weather_timeout_s,
        keep_s=keep_s,
        stale_s=stale_s,
        busy=busy,
        connections=connections,
        window=breaker["window"],
        minimum_calls=breaker["minimum_calls"],
        failure_rate=breaker["failure_rate"],
        cooldown_s=breaker["cooldown"],
        probes=breaker["probes"],
        probe_lease_s=breaker["probe_lease"],
    )
    settings = _trip_settings(profile, seed, rest)
    sys.exit(run("v2", ServeSettings(host=host, port=port), lambda: trips(settings, weather)))


@cli.command("weather-provider")
@_listening
def weather_provider(host: str, port: int, profile: str, seed: int) -> None:
    """Serve weather of Open-Meteo's shape at /v1/forecast; PUT /control makes it slow, fail, hang, lie or flaky."""
    from tripsearch.server import nothing_to_open, run  # noqa: PLC0415
    from tripsearch.weather.provider import Behaviour, Provider  # noqa: PLC0415

    delay_ms = PROFILES[profile].provider_delay_s * 1000
    behaviour = Behaviour(mode="slow", delay_ms=delay_ms, seed=seed) if delay_ms else Behaviour(seed=seed)
    settings = ServeSettings(host=host, port=port)
    sys.exit(run("weather-provider", settings, lambda: nothing_to_open(Provider(behaviour))))


def _trip_settings(profile: str, seed: int, given: dict[str, Any]) -> TripSettings:
    from tripsearch.providers.database import default_file  # noqa: PLC0415

    return TripSettings(
        database=given["database_url"] or default_file(given["data_dir"]),
        cache_size=given["cache_size"],
        cache_ttl_s=given["cache_ttl"],
        search_timeout_s=given["search_timeout_ms"] / 1000,
        floor_s=PROFILES[profile].floor_s,
        failure_rate=given["failure_rate"],
        allow_faults=given["allow_faults"],
        seed=seed,
    )


def main() -> None:
    """The entry point of the command `tripsearch`."""
    cli(prog_name="tripsearch")


if __name__ == "__main__":
    main()

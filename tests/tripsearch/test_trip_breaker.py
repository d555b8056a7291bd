"""The breaker scenarios of phase 1 against real processes: the good V2 keeps them all, each planted fault is found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tests.tripsearch.running import Running, Starter, get

from crossfade.adapters.misbehaviour import Misbehaviour
from crossfade.adapters.system import SystemClock
from crossfade.app.rehearse.breakers import (
    MISBEHAVIOURS,
    BreakerRig,
    as_written_scenario,
    breaker_scenarios,
)
from crossfade.core.rehearsal.breakers import BreakerRules, Finding
from crossfade.core.verdict import Verdict
from crossfade.errors import UnreachableError, UsageError

QUERY = "from=JFK&to=LAX&date=2026-03-05"
# The machine's haste is not tested here: what counts are states and answers.
RULES = BreakerRules(cooldown_s=0.4, late_s=1.5, latency_ms=30_000)
COOLDOWN = ("--breaker-cooldown", "0.4")


@dataclass
class Killer:
    """The provider's process."""

    start_one: Starter
    running: Running

    async def kill(self) -> None:
        self.running.process.kill()
        self.running.process.wait()

    async def start(self) -> None:
        self.running = await asyncio.to_thread(self.start_one.start, "weather-provider", port=self.running.port)


def rig_of(weather: Running, v2: Running, **more: Any) -> BreakerRig:
    return BreakerRig(
        v2=f"{v2.url}/v2/trips/search?{QUERY}",
        control=weather.url,
        rules=RULES,
        **{"users": 200, "users_within_s": 0.6, "rest_rate": 50, "rest_s": 0.6, **more},
    )


def findings(scenarios: AsyncIterator[Finding]) -> dict[str, Finding]:
    async def collect() -> dict[str, Finding]:
        return {finding.name: finding async for finding in scenarios}

    return asyncio.run(collect())


@pytest.mark.slow
def test_the_good_v2_passes_every_scenario(start: Starter) -> None:
    weather, v1 = start.start("weather-provider", ready=False), start.start("v1", ready=False)
    v2 = start.start("v2", "--weather", weather.url, *COOLDOWN)
    for each in (weather, v1):
        each.wait_ready()
    others = (f"{v1.url}/v1/trips/search?{QUERY}", f"{v2.url}/openapi.json")
    rig = rig_of(weather, v2, others=others, crash=Killer(start, weather))
    found = findings(breaker_scenarios(rig, SystemClock()))
    assert {name: f for name, f in found.items() if f.verdict is not Verdict.PASS} == {}
    assert {"opens", "HALF_OPEN after the cooldown", "closes", "one bad probe reopens"} <= set(found)
    assert {f"{mode}: the rest" for mode in (*MISBEHAVIOURS, "crash")} <= set(found)
    assert {f"200 users, breaker {state}: the rest" for state in ("closed", "open", "half_open")} <= set(found)
    assert {"clients that leave", "no cascade: /v1/trips/search", "no cascade: /openapi.json"} <= set(found)
    assert found["opens"].figure == "opened at 10 failures"
    assert "compressed from 30 s" in found["HALF_OPEN after the cooldown"].limit
    assert found["hang: the rest"].reproduce.startswith("curl -X PUT")
    assert get(f"{weather.url}/control").json["mode"] == "normal"


PLANTED = {
    "never opens": (("--breaker-window", "1000", "--breaker-minimum-calls", "1000"), "opens", "never opened"),
    "stuck open": (("--breaker-cooldown", "3600"), "HALF_OPEN after the cooldown", "stuck in OPEN"),
    "stuck half-open": ((*COOLDOWN, "--breaker-probes", "1000"), "closes", "stuck in HALF_OPEN"),
}


@pytest.fixture(scope="module")
def weather(start_once: Starter) -> Running:
    return start_once.start("weather-provider")


@pytest.mark.slow
@pytest.mark.parametrize("planted", PLANTED)
def test_a_planted_fault_of_the_breaker_is_found(weather: Running, start: Starter, planted: str) -> None:
    options, name, figure = PLANTED[planted]
    v2 = start.start("v2", "--weather", weather.url, *options)

    async def until_it_is_judged() -> Finding:
        scenarios = breaker_scenarios(rig_of(weather, v2), SystemClock())
        try:
            return await anext(f async for f in scenarios if f.name == name)
        finally:
            await scenarios.aclose()  # type: ignore[attr-defined]

    found = asyncio.run(until_it_is_judged())
    assert found.verdict is Verdict.FAIL
    assert found.figure.startswith(figure)
    assert get(f"{weather.url}/control").json["mode"] == "normal"  # also of a run that was interrupted


@pytest.mark.slow
def test_hotels_that_bad_weather_takes_along_are_found(weather: Running, start: Starter) -> None:
    v2 = start.start("v2", "--weather", weather.url, *COOLDOWN, module="tests.tripsearch.planted_v2")

    async def until_it_hangs() -> Finding:
        scenarios = breaker_scenarios(rig_of(weather, v2), SystemClock())
        try:
            return await anext(f async for f in scenarios if f.name == "hang: the rest")
        finally:
            await scenarios.aclose()  # type: ignore[attr-defined]

    found = asyncio.run(until_it_hangs())
    assert found.verdict is Verdict.FAIL
    assert "hotels missing in " in found.figure
    assert '"mode": "hang"' in found.reproduce


@pytest.mark.slow
def test_the_profile_as_written_has_the_plans_average(start: Starter) -> None:
    weather = start.start("weather-provider", "--profile", "as-written", ready=False)
    v2 = start.start("v2", "--weather", weather.url, "--profile", "as-written")
    weather.wait_ready()
    rig = rig_of(weather, v2)
    found = findings(as_written_scenario(rig, SystemClock()))
    measured = {name: float(f.figure.removesuffix(" ms")) for name, f in found.items()}
    assert set(measured) == {f"as-written {name}" for name in ("timeout", "open", "recovery", "average")}
    # No answer can be faster than this; how much slower a busy machine makes them is not tested here.
    assert measured["as-written timeout"] >= 2100
    assert measured["as-written open"] >= 75
    assert measured["as-written recovery"] >= 2000
    assert measured["as-written average"] >= 1087


def test_what_is_not_set_up_is_inconclusive(start: Starter, weather: Running) -> None:
    """Without a control, with one that is away or of another kind, and with a V2 that has no breaker."""
    v1 = start.start("v1")
    no_breaker = replace(rig_of(weather, v1), v2=f"{v1.url}/v1/trips/search?{QUERY}")
    away = replace(no_breaker, control="http://127.0.0.1:1")
    for rig, why in (
        (replace(no_breaker, control=None), "name the control"),
        (away, "can't be told to misbehave"),
        (replace(no_breaker, control=v1.url), "answered 404 to mode normal"),
        (no_breaker, "not with the fact weather-breaker"),
        (replace(no_breaker, v2="http://127.0.0.1:1/"), "V2 answers not at"),
    ):
        (found,) = findings(breaker_scenarios(rig, SystemClock())).values()
        assert (found.verdict, why in found.figure) == (Verdict.INCONCLUSIVE, True), found


@pytest.mark.parametrize("url", ["nowhere", "ftp://127.0.0.1/", "http://127.0.0.1:x/", "http://me@127.0.0.1/"])
def test_a_wrong_address_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError, match="write such as"):
        findings(breaker_scenarios(BreakerRig(v2=url, control="http://127.0.0.1:1"), SystemClock()))


async def test_a_switch_that_was_never_opened_says_so() -> None:
    with pytest.raises(UsageError, match="no address of a control"):
        Misbehaviour("nowhere")
    with pytest.raises(UnreachableError, match="has not been opened"):
        await Misbehaviour("http://127.0.0.1:1").tell("normal")

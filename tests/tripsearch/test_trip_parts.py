"""Cache, facts, faults and data, each by itself."""

from __future__ import annotations

import asyncio

import pytest

from tripsearch.cache import Cache
from tripsearch.facts import Facts
from tripsearch.faults import FaultSwitch
from tripsearch.problem import ProblemError
from tripsearch.providers.schema import flight_rows, hotel_rows
from tripsearch.search import without


class ManualClock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_many_who_miss_at_once_load_once() -> None:
    cache: Cache[str, int] = Cache(size=10, ttl_s=60, clock=ManualClock())
    gate, loads = asyncio.Event(), 0

    async def loader() -> int:
        nonlocal loads
        loads += 1
        await gate.wait()
        return 7

    asked = [cache.load("a", loader) for _ in range(50)]
    gate.set()
    assert await asyncio.gather(*(asyncio.shield(task) for task, _ in asked)) == [7] * 50
    assert (loads, sum(started for _, started in asked)) == (1, 1)
    assert cache.get("a") == 7


async def test_who_leaves_does_not_take_the_load_with_them() -> None:
    cache: Cache[str, int] = Cache(size=10, ttl_s=60, clock=ManualClock())
    gate = asyncio.Event()

    async def loader() -> int:
        await gate.wait()
        return 7

    async def ask() -> int:
        return await asyncio.shield(cache.load("a", loader)[0])

    leaver, stayer = asyncio.ensure_future(ask()), asyncio.ensure_future(ask())
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.sleep(0)
    gate.set()
    assert await stayer == 7


async def test_a_failed_load_is_not_kept() -> None:
    cache: Cache[str, int] = Cache(size=10, ttl_s=60, clock=ManualClock())

    async def fails() -> int:
        raise OSError("gone")

    async def works() -> int:
        return 1

    with pytest.raises(OSError, match="gone"):
        await cache.load("a", fails)[0]
    assert await cache.load("a", works)[0] == 1


async def test_entries_age_and_the_least_recently_used_goes_first() -> None:
    clock = ManualClock()
    cache: Cache[str, int] = Cache(size=2, ttl_s=60, clock=clock)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert [cache.get(k) for k in "abc"] == [1, None, 3]
    clock.now = 60.0
    assert [cache.get(k) for k in "ac"] == [None, None]


def test_facts_are_the_documented_dictionary() -> None:
    facts = Facts(
        flights=True, hotels=False, weather="fallback", cache="miss", database_ms=3.14159, weather_breaker="half_open"
    )
    assert facts.header() == b"flights=1, hotels=0, weather=fallback, cache=miss, db=3.1, weather-breaker=half_open"
    assert Facts().header() == b""


def test_faults_are_drawn_alike_for_a_seed_and_at_their_rate() -> None:
    def draws(seed: int) -> list[bool]:
        switch = FaultSwitch()
        switch.change({"fail_rate": 0.2, "seed": seed})
        return [switch.draw().fail for _ in range(5000)]

    assert draws(1) == draws(1) != draws(2)
    assert 0.17 < sum(draws(1)) / 5000 < 0.23


def test_turning_one_fault_on_does_not_shift_another() -> None:
    one, both = FaultSwitch(), FaultSwitch()
    one.change({"fail_rate": 0.1})
    both.change({"fail_rate": 0.1, "delay_ms": 5, "rate": 0.5})
    assert [one.draw().fail for _ in range(500)] == [both.draw().fail for _ in range(500)]


@pytest.mark.parametrize(
    "wrong", [{"fail_rate": 2}, {"fail_rate": True}, {"omit": "weather"}, {"delay_ms": "5"}, {"fail": 1}, {"rate": -1}]
)
def test_a_wrong_fault_is_refused_and_changes_nothing(wrong: dict[str, object]) -> None:
    switch = FaultSwitch()
    before = switch.show()
    with pytest.raises(ProblemError):
        switch.change(wrong)
    assert before == switch.show()


def test_a_baseline_of_failures_survives_every_turn_of_the_switch() -> None:
    switch = FaultSwitch(failure_rate=1.0)
    switch.change({})
    assert switch.draw().fail


def test_omitting_empties_one_list_only() -> None:
    assert without(b'{"flights":[1],"hotels":[2]}', "flights") == b'{"flights":[],"hotels":[2]}'


def test_the_data_are_those_described() -> None:
    rows = list(flight_rows())
    assert len(rows) == 32_414
    assert {"EWR", "JFK", "LGA"} == {row["origin"] for row in rows}
    assert sum(row["days"].count("1") for row in rows) == 336_776  # every flight of the set, once
    assert all(len(row["days"]) == 365 for row in rows)


def test_hotels_are_the_same_ones_every_time() -> None:
    assert list(hotel_rows()) == list(hotel_rows())
    assert all(1 <= row["stars"] <= 5 and row["night_usd"] > 0 for row in hotel_rows())

"""The driver against small servers that misbehave on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.load.serving import answer, serving

from crossfade.adapters.system import SystemClock
from crossfade.app.load.options import LoadOptions, work_of
from crossfade.app.load.report import Ran, as_data
from crossfade.app.load.run import Driver
from crossfade.core.load.tally import Part, Sums, Trouble
from crossfade.errors import UsageError

Plan = Callable[..., Path]


def versioned(version: int) -> bytes:
    return answer(more=b"Content-Type: application/json\r\nAPI-Version: %d\r\n" % version)


async def run(path: Path, **options: Any) -> Driver:
    driver = Driver(work_of(LoadOptions(plan=path, **options)), SystemClock())
    await asyncio.wait_for(driver.run(), 30)
    return driver


async def test_a_rate_sends_exactly_what_it_says_and_counts_what_the_server_counted(plan: Plan) -> None:
    async with serving(lambda number: versioned(1 + number % 2)) as asked:
        driver = await run(plan(port=asked.port), rate="300/s", for_="1s", users=20)
    assert asked.requests == 300
    assert driver.tally.total().requests == 300
    assert driver.tally.total().failures == 0
    versions = {key[0]: sums.requests for key, sums in driver.tally.by(lambda part: (str(part.version),)).items()}
    assert versions == {"v1": 150, "v2": 150}


async def test_users_keep_their_keys_and_take_turns(plan: Plan) -> None:
    async with serving() as asked:
        await run(plan(port=asked.port), rate="200/s", for_="0.5s", users=20)
    assert len(asked.users) == 20
    assert set(asked.users.values()) == {5}


async def test_waiting_users_have_one_request_under_way_each(plan: Plan) -> None:
    async with serving() as asked:
        driver = await run(plan(port=asked.port), users=5, think="20ms", for_="1s")
    assert driver.tally.total().requests == asked.requests
    assert driver.tally.total().failures == 0
    assert len(asked.users) == 5


async def test_a_stall_is_charged_for_all_that_was_to_be_sent_in_it(plan: Plan) -> None:
    """One answer is slow; a driver that only timed what it sent would report one slow request."""
    async with serving(lambda number: 0.6 if number == 0 else answer()) as asked:
        driver = await run(plan(port=asked.port), users=1, think="10ms", for_="1.5s")
    total = driver.tally.total()
    latency, service = total.latency.quantile_ms(0.9), total.service.quantile_ms(0.9)
    assert latency is not None
    assert service is not None
    assert latency > 100
    assert latency > 5 * service


@pytest.mark.parametrize(
    ("reply", "trouble"),
    [
        (None, Trouble.RESET),
        (b"who is there?\r\n\r\n", Trouble.INVALID),
        (answer(b"{broken"), Trouble.INVALID),
        (answer(b"no", "500 Internal Server Error"), Trouble.STATUS),
        (answer(b"no", "404 Not Found"), Trouble.STATUS),
        (5.0, Trouble.TIMEOUT),
    ],
)
async def test_failures_are_told_apart(plan: Plan, reply: bytes | float | None, trouble: Trouble) -> None:
    async with serving(lambda _: reply) as asked:
        timeout_s = 0.2 if trouble is Trouble.TIMEOUT else 20.0
        driver = await run(plan(port=asked.port), rate="20/s", for_="0.5s", users=2, timeout_s=timeout_s)
    assert dict(driver.tally.total().troubles) == {trouble: 10}
    assert driver.tally.examples[trouble]


async def test_nobody_listening_is_refused(plan: Plan) -> None:
    async with serving() as asked:
        pass
    driver = await run(plan(port=asked.port), rate="20/s", for_="0.5s", users=2)
    assert dict(driver.tally.total().troubles) == {Trouble.REFUSED: 10}


async def test_what_a_hanging_service_keeps_under_way_is_bounded(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossfade.app.load.run.IN_FLIGHT_MAX", 5)
    async with serving(lambda _: 60.0) as asked:
        driver = await run(plan(port=asked.port), rate="40/s", for_="0.5s", users=10, timeout_s=1.5)
    assert dict(driver.tally.total().troubles) == {Trouble.TIMEOUT: 5, Trouble.UNSENT: 15}


async def test_a_run_that_is_stopped_is_partial_and_leaves_nothing_running(plan: Plan) -> None:
    async with serving(lambda number: 30.0 if number >= 5 else answer()) as asked:
        work = work_of(LoadOptions(plan=plan(port=asked.port), users=10, think="10ms", for_="5m"))
        driver = Driver(work, SystemClock())
        asked.hope = 5 + 10
        running = asyncio.create_task(driver.run())
        await asyncio.wait_for(asked.hoped_for.wait(), 30)
        driver.stop()
        await asyncio.wait_for(running, 10)
    assert driver.partial
    assert driver.tally.total().requests == 5
    assert driver.tally.abandoned == 10
    assert driver.in_flight == 0
    ran = Ran(work=work, tally=driver.tally, lasted_s=driver.lasted_s, partial=True, cpu_s=0.1)
    assert as_data(ran)["verdict"] == "INCONCLUSIVE"


async def test_failures_are_put_down_to_the_version_their_user_had_last(plan: Plan) -> None:
    def reply(number: int) -> bytes:
        return versioned(2) if number < 10 else answer(b"no", "503 No", b"")

    async with serving(reply) as asked:
        driver = await run(plan(port=asked.port), rate="40/s", for_="0.5s", users=10)
    parts = {str(part.version): (sums.requests, sums.failures) for part, sums in _by_version(driver).items()}
    assert parts == {"v2": (20, 10)}


async def test_failures_of_users_who_chose_are_their_choices(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("0123456789abcdef")
    async with serving(lambda _: None) as asked:
        path = plan("override secret: {file: secret}\n", port=asked.port)
        driver = await run(path, rate="40/s", for_="0.5s", users=10, v2="30%")
    parts = {str(part.version): (sums.requests, sums.failures) for part, sums in _by_version(driver).items()}
    assert parts == {"v1": (14, 14), "v2": (6, 6)}


def _by_version(driver: Driver) -> dict[Part, Sums]:
    found: dict[Part, Sums] = {}
    for part, sums in driver.tally.parts.items():
        found.setdefault(Part(part.version, "", ""), Sums()).merge(sums)
    return found


async def test_scenarios_are_drawn_by_weight_with_values_of_their_own(plan: Plan) -> None:
    load = """load:
  scenarios:
    - {name: search, get: "/trips?from={from}&date={date}&u={user}", weight: 3}
    - {name: again, get: /trips/again}
  values: {from: [JFK, EWR]}
"""
    async with serving() as asked:
        driver = await run(plan(load, port=asked.port), rate="400/s", for_="1s", users=3)
    counts = {key[0]: sums.requests for key, sums in driver.tally.by(lambda part: (part.scenario,)).items()}
    assert counts["search"] == pytest.approx(300, abs=60)
    assert any(line.startswith("GET /trips?from=EWR&date=20") for line in asked.lines)
    assert any("&u=load-1-2 HTTP/1.1" in line for line in asked.lines)
    assert sum(line == "GET /trips/again HTTP/1.1" for line in asked.lines) == counts["again"]


async def test_direct_users_ask_their_version_at_its_own_path(plan: Plan) -> None:
    async with serving() as first, serving() as second:
        path = plan(v1=first.port, v2=second.port)
        driver = await run(path, rate="200/s", for_="1s", users=40, direct=True, v2="25%")
    assert (first.requests, second.requests) == (150, 50)
    assert set(first.lines) == {"GET /v1/trips HTTP/1.1"}
    assert set(second.lines) == {"GET /v2/trips HTTP/1.1"}
    versions = {key[0]: sums.requests for key, sums in driver.tally.by(lambda part: (str(part.version),)).items()}
    assert versions == {"v1": 150, "v2": 50}
    assert not set(first.users) & set(second.users)


async def test_a_share_through_the_proxy_is_asked_for_with_the_secret(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("0123456789abcdef")
    async with serving() as asked:
        path = plan("override secret: {file: secret}\nload: {peak: 100/s}\n", port=asked.port)
        await run(path, profile="peak", for_="1s", users=8)
    assert sum("X-Crossfade-Version: v2\r\n" in head for head in asked.heads) == 25
    assert all("X-Crossfade-Secret: 0123456789abcdef\r\n" in head for head in asked.heads)


def with_staff(path: Path) -> Path:
    """Return the plan with a phase at 0 % for two people before the first user."""
    (path.parent / "internal.txt").write_text("ada\nbob\n")
    text = path.read_text().replace("users: 100}", "users: 100, cohorts: {internal: internal.txt}}")
    path.write_text(text.replace("phases:\n", "phases:\n  - {name: internal, split: 0%, cohort: internal, soak: 1d}\n"))
    return path


async def test_v2_is_asked_for_as_the_plans_staff_in_turns(plan: Plan) -> None:
    async with serving() as asked:
        await run(with_staff(plan(port=asked.port)), rate="40/s", for_="1s", users=8, staff=True)
    assert asked.requests == 40
    assert (asked.users["ada"], asked.users["bob"]) == (10, 10)
    assert len(asked.users) == 2 + 4
    assert not any("X-Crossfade" in head for head in asked.heads)
    assert set(asked.lines) == {"GET /trips HTTP/1.1"}


def test_staff_takes_a_plan_that_has_some_and_the_proxy(plan: Plan) -> None:
    with pytest.raises(UsageError, match="the plan has none, so give --direct"):
        work_of(LoadOptions(plan=plan(), staff=True))
    with pytest.raises(UsageError, match="leave --direct out"):
        work_of(LoadOptions(plan=with_staff(plan()), staff=True, direct=True))
    assert work_of(LoadOptions(plan=with_staff(plan()), staff=True)).on_v2 == 0.5

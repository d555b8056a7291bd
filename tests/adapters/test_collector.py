"""The collector: what becomes of a line, however it arrives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.adapters.collector import MAX_REGIONS, Collector
from crossfade.core.evidence.sums import Arm, Cell, Tick, latency_bin, merge_ticks, sum_cells
from crossfade.core.split import Version

NOW = 1_000_000.0
V1 = Arm(Version.V1, "eu", "")
V2 = Arm(Version.V2, "eu", "")


class Clock:
    """Stands still until told."""

    speed = 1.0

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def plan_time(self, wall: float) -> float:
        return wall

    async def sleep(self, real_seconds: float) -> None:
        raise NotImplementedError


def line(sequence: object = 1, at: Any = NOW, **fields: object) -> bytes:
    values: dict[str, object] = {
        "sequence": sequence,
        "start_us": int(at * 1e6),
        "version": "v1",
        "status": 200,
        "headers_us": 5000,
        "total_ms": 5,
        "cohort": "-",
        "override": 0,
        "asked": "-",
        "user": -5,
        "region": "eu",
        "client": "-",
        "termination": "----",
        "retries": 0,
        "server": "v1a",
        "facts": "-",
        "event": "-",
    } | fields
    return ",".join(str(v) for v in values.values()).encode()


def collector(clock: Clock | None = None) -> Collector:
    return Collector(clock=clock or Clock(), tick_s=10.0, lateness_s=5.0, key=b"k")


def summed(*lines: bytes) -> dict[Arm, Cell]:
    """Feed lines and return the cells of the tick that closes over them."""
    clock = Clock()
    fed = collector(clock)
    fed.feed(b"\n".join(lines))
    clock.at += 15
    return dict(fed.closed_ticks()[0].cells)


def test_a_line_becomes_a_request_with_latency_and_facts() -> None:
    cell = summed(line(facts="flights%3D1%2C%20cache%3Dmiss%2C%20db%3D3.1"))[V1]
    assert (1, 0, {latency_bin(5.0): 1}) == (cell.requests, cell.failures, dict(cell.latency))
    assert {name: dict(c) for name, c in cell.facts.items()} == {"flights": {"1": 1}, "cache": {"miss": 1}}
    assert cell.timings == {"db": (1, 3.1)}


def test_a_cached_answer_is_of_a_stratum_of_its_own() -> None:
    cell = summed(line(facts="cache%3Dhit"))[V1]
    assert (cell.cached, cell.latency.total(), cell.latency_cached.total()) == (1, 0, 1)


def test_who_asks_for_v1s_own_paths_is_counted_whoever_answers() -> None:
    cells = summed(
        line(1, asked="v1"),
        line(2, version="v2", server="v2-1", asked="v1"),
        line(3, version="v2", server="v2-1"),
        line(4, asked="v1", status=-1, total_ms=3, termination="CH--"),
        line(5, asked="v1", termination="CR--"),
    )
    counted = {arm.version: (cell.requests, cell.asked_v1) for arm, cell in cells.items()}
    assert counted == {Version.V1: (1, 2), Version.V2: (2, 1)}


def test_a_brownouts_410s_are_nobodys_and_v1_was_asked_for_all_the_same() -> None:
    """No request, no failure, no user hurt; but a V1 that is silent is another thing."""
    away = {"version": "brownout", "status": 410, "termination": "LR--", "server": "<NOSRV>", "headers_us": "-"}
    (cell,) = summed(line(1, asked="v1", **away), line(2, asked="v1", **away), line(3, asked="-", **away)).values()
    assert (cell.asked_v1, cell.requests, cell.failures, cell.failing_users) == (2, 0, 0, set())
    assert sum(cell.latency) == sum(cell.hundredths) == 0


@pytest.mark.parametrize(
    ("fields", "failures", "critical", "fallbacks"),
    [
        ({"status": 200}, 0, 0, 0),
        ({"status": 404}, 0, 0, 0),
        ({"status": 500}, 1, 0, 0),
        ({"status": 503, "termination": "SC--", "server": "v2a"}, 1, 1, 0),
        ({"status": 504, "termination": "sH--", "headers_us": "-"}, 1, 1, 0),
        ({"status": 200, "termination": "SD--"}, 1, 0, 0),
        ({"status": 200, "server": "fallback", "version": "v2"}, 1, 1, 1),
        ({"status": -1, "termination": "CH--", "headers_us": "-", "total_ms": 1000}, 1, 0, 0),
        ({"status": 200, "termination": "CD--"}, 0, 0, 0),
    ],
)
def test_what_is_a_failure(fields: dict[str, object], failures: int, critical: int, fallbacks: int) -> None:
    cell = sum_cells(summed(line(**fields)).values())
    assert (1, failures, critical, fallbacks) == (cell.requests, cell.failures, cell.critical, cell.fallbacks)
    assert len(cell.failing_users) == failures


@pytest.mark.parametrize(
    "fields",
    [
        {"termination": "CR--", "status": 400},
        {"termination": "CH--", "status": -1, "headers_us": "-", "total_ms": 999},
        {"version": "stats"},
    ],
)
def test_a_client_that_only_left_is_nobodys_request(fields: dict[str, object]) -> None:
    assert summed(line(**fields)) == {}


def test_a_client_that_gave_up_waiting_counts_as_slow() -> None:
    cell = summed(line(termination="CH--", status=-1, headers_us="-", total_ms=5000))[V1]
    assert {latency_bin(5000): 1} == dict(cell.latency)


def test_a_user_is_kept_as_a_keyed_hash_and_once() -> None:
    cell = summed(line(status=500, user=7), line(2, status=500, user=7), line(3, status=500, user=8))[V1]
    assert len(cell.failing_users) == 2
    assert not cell.failing_users & {7, 8}


def test_requests_belong_to_the_tick_in_which_they_started() -> None:
    clock = Clock()
    fed = collector(clock)
    clock.at += 12
    fed.feed(line(at=NOW + 9) + b"\n" + line(2, at=NOW + 11))
    clock.at += 15
    assert [tick.total(Version.V1).requests for tick in fed.closed_ticks()] == [1, 1]


def test_a_tick_waits_for_its_slowest_requests() -> None:
    clock = Clock()
    fed = collector(clock)
    clock.at += 14.9
    assert fed.closed_ticks() == []
    clock.at += 0.1
    assert [tick.number for tick in fed.closed_ticks()] == [100_000]
    assert fed.closed_ticks() == []


def test_a_row_that_comes_after_its_tick_closed_is_counted_as_late() -> None:
    clock = Clock()
    fed = collector(clock)
    clock.at += 15
    fed.closed_ticks()
    fed.feed(line())
    assert fed.counters()["late"] == 1


def test_a_late_failure_still_counts_by_arrival() -> None:
    clock = Clock()
    fed = collector(clock)
    clock.at += 15
    fed.closed_ticks()
    fed.feed(line(version="v2", status=504, termination="sH--", headers_us="-"))
    assert fed.recent(1.0).total(Version.V2).failures == 1


def test_what_ended_lately_is_seen_at_once_and_forgotten() -> None:
    clock = Clock()
    fed = collector(clock)
    fed.feed(line(version="v2", status=500))
    assert fed.recent(1.0).cells[V2].failures == 1
    clock.at += 2
    assert fed.recent(1.0).cells == {}


def test_a_failure_of_v2_asks_for_a_look_and_one_of_v1_does_not() -> None:
    asked: list[int] = []
    fed = Collector(clock=Clock(), tick_s=10, lateness_s=5, key=b"k", on_failure=lambda: asked.append(1))
    fed.feed(line(status=500))
    assert asked == []
    fed.feed(line(2, status=500, version="v2"))
    assert asked == [1]


@pytest.mark.parametrize(
    ("numbers", "lost"),
    [
        ([1, 2, 3], 0),
        ([5, 6, 9, *range(10, 400)], 2),
        ([1, 3, 2, 4, *range(5, 400)], 0),
        ([1, 2, 90_000], 89_997),
        ([500, 501, 0, 1, 2], 0),
        ([5000, 5001, 1, 2, 3], 0),
    ],
)
def test_a_gap_in_the_numbers_is_a_loss_and_a_restart_is_none(numbers: list[int], lost: int) -> None:
    fed = collector()
    for number in numbers:
        fed.feed(line(number))
    assert (lost, len(numbers)) == (fed.counters()["lost"], fed.counters()["received"])


HOSTILE = [
    b"",
    b"garbage",
    b",,,,,,,,,,,,,,",
    b"\x00" * 5000,
    b"x" * 20_000,
    line()[:-20],
    line(start_us="soon"),
    line(start_us=10**30),
    line(start_us=-1),
    line(sequence="a,b"),
    line(status="a"),
    line(at=NOW + 10**7),
    line(region="%FF%00%0A" * 30),
    line(facts="%22%3D%2C" * 20),
    "é,ü".encode(),
]


@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_line_harms_nothing_around_it(hostile: bytes) -> None:
    """The good rows before and after it are counted."""
    clock = Clock()
    fed = collector(clock)
    fed.feed(line(1) + b"\n" + hostile + b"\n" + line(2))
    clock.at += 15
    assert fed.closed_ticks()[0].cells[V1].requests >= 2


@given(st.binary(max_size=600))
@settings(max_examples=200)
def test_no_bytes_stop_the_collector(data: bytes) -> None:
    fed = collector()
    fed.feed(data)
    fed.feed(line())
    assert fed.counters()["received"] >= 1


def test_regions_beyond_the_bound_are_pooled() -> None:
    cells = summed(*(line(i, region=f"r{i}") for i in range(200)))
    assert len(cells) <= MAX_REGIONS + 1
    assert sum_cells(cells.values()).requests == 200


def test_fact_values_beyond_the_bound_are_pooled() -> None:
    cell = summed(*(line(i, facts=f"flights%3D{i}") for i in range(100)))[V1]
    assert cell.facts["flights"].total() == 100
    assert len(cell.facts["flights"]) <= 17


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 10))
@settings(max_examples=50)
def test_two_collectors_add_up_to_one(kinds: list[int], cut: int) -> None:
    rows = [
        line(i, version=f"v{1 + kind % 2}", status=500 if kind > 1 else 200, user=i) for i, kind in enumerate(kinds)
    ]
    parts = [rows[::cut], [row for i, row in enumerate(rows) if i % cut]]
    assert _plain(_tick(rows)) == _plain(merge_ticks(_tick(parts[0]), _tick(parts[1])))


def _tick(rows: list[bytes]) -> Tick:
    clock = Clock()
    fed = collector(clock)
    if rows:
        fed.feed(b"\n".join(rows))
    clock.at += 15
    return fed.closed_ticks()[0]


def _plain(tick: Tick) -> dict[Arm, tuple[int, int, frozenset[int], tuple[tuple[int, int], ...]]]:
    return {
        arm: (c.requests, c.failures, frozenset(c.failing_users), tuple(sorted(c.latency.items())))
        for arm, c in tick.cells.items()
    }


# ── over TCP ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def listening() -> AsyncIterator[tuple[Collector, Clock]]:
    """A collector that listens."""
    clock = Clock()
    fed = collector(clock)
    await fed.start()
    yield fed, clock
    await fed.close()


async def _until(fed: Collector, received: int) -> None:
    async with asyncio.timeout(5):
        while fed.counters()["received"] < received:  # noqa: ASYNC110 - a socket tells nobody
            await asyncio.sleep(0.01)


async def test_lines_arrive_whole_however_tcp_cuts_them(listening: tuple[Collector, Clock]) -> None:
    fed, clock = listening
    _, writer = await asyncio.open_connection(*fed.address)
    data = b"".join(line(i) + b"\n" for i in range(50))
    for start in range(0, len(data), 37):
        writer.write(data[start : start + 37])
        await writer.drain()
    await _until(fed, 50)
    clock.at += 15
    tick = fed.closed_ticks()[0]
    assert (50, 0, frozenset({"collector"})) == (tick.cells[V1].requests, fed.counters()["malformed"], tick.sources)
    writer.close()


async def test_an_interval_without_any_proxy_is_blind(listening: tuple[Collector, Clock]) -> None:
    fed, clock = listening
    clock.at += 30
    assert [frozenset()] * 2 == [tick.sources for tick in fed.closed_ticks()]


async def test_a_silent_connection_is_sight_of_no_traffic(listening: tuple[Collector, Clock]) -> None:
    fed, clock = listening
    _, writer = await asyncio.open_connection(*fed.address)
    writer.write(line() + b"\n")
    await _until(fed, 1)
    clock.at += 30
    assert [{"collector"}] * 2 == [tick.sources for tick in fed.closed_ticks()]
    writer.close()


async def test_loss_while_disconnected_is_seen_in_the_numbers(listening: tuple[Collector, Clock]) -> None:
    fed, _ = listening
    for number in (10, 500):
        _, writer = await asyncio.open_connection(*fed.address)
        writer.write(line(number) + b"\n")
        await _until(fed, 1 if number == 10 else 2)
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.05)
    assert fed.counters()["lost"] == 489


async def test_a_taken_port_says_so(listening: tuple[Collector, Clock]) -> None:
    fed, _ = listening
    other = Collector(clock=Clock(), tick_s=1, lateness_s=1, key=b"k", port=fed.address[1])
    with pytest.raises(Exception, match=rf"can't listen on 127.0.0.1:{fed.address[1]}"):
        await other.start()


def test_different_users_are_counted_by_version_and_cohort_without_overrides_and_who_is_nobody() -> None:
    clock = Clock()
    fed = collector(clock)
    users = (-5, -5, 7, 2**63 - 1, "-")
    lines = [line(n, user=user) for n, user in enumerate(users, start=1)]
    lines += [line(6, version="v2", cohort="beta", server="v2a", user=7), line(7, override=1, user=99)]
    for batch in (lines[:2], lines[2:]):
        fed.feed(b"\n".join(batch) + b"\n")
    clock.at += 15
    seen = fed.closed_ticks()[0].users
    assert {key: sketch.count() for key, sketch in seen.items()} == {(Version.V1, ""): 3, (Version.V2, "beta"): 1}


def doings(*lines: bytes) -> dict[tuple[str, str, str], list[tuple[int, int]]]:
    """Return users and how often they did what, by event, region and cohort."""
    clock = Clock()
    fed = collector(clock)
    fed.feed(b"\n".join(lines))
    clock.at += 15
    found = fed.closed_ticks()[0].doings
    return {
        (one.event, one.region, one.cohort): list(zip(one.users.tolist(), one.times.tolist(), strict=True))
        for one in found
    }


def test_what_users_do_is_told_by_event_region_and_cohort() -> None:
    assert doings(
        line(1, event="search", user=5),
        line(2, event="search", user=-1),
        line(3, event="search", user=5, version="v2"),
        line(4, event="book", user=5, version="beside", cohort="beta", region="-"),
        line(5, user=5),
    ) == {("search", "eu", ""): [(5, 2), (2**64 - 1, 1)], ("book", "", "beta"): [(5, 1)]}


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 404},
        {"status": 500},
        {"status": -1},
        {"user": "-"},
        {"user": "x"},
        {"override": 1},
        {"start_us": int((NOW - 60) * 1e6)},
        {"event": "-"},
    ],
    ids=str,
)
def test_what_was_not_done_or_by_nobody_known_is_not_told(fields: dict[str, object]) -> None:
    assert doings(line(1, **({"event": "search"} | fields)), line(2)) == {}


def test_requests_beside_the_api_are_nobodys() -> None:
    cells = summed(line(1, event="book", version="beside", status=500), line(2))
    assert [(arm, cell.requests, cell.failures) for arm, cell in cells.items()] == [(V1, 1, 0)]

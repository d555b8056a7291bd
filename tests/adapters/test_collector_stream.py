"""The collector as a reader of streams: chunks, restarts, faults, bounds, and a failure's way to the controller."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from itertools import pairwise
from unittest.mock import Mock
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.adapters.collector import Collector
from crossfade.adapters.collector import ticks as ticks_module
from crossfade.adapters.collector.server import MAX_LINE, _Connection
from crossfade.core.evidence.codec import encode_tick
from crossfade.core.evidence.sums import Arm, Cell, latency_bin
from crossfade.core.facts import parse_facts
from crossfade.core.split import Version
from crossfade.testing.clock import ManualClock

NOW = 1_700_000_000.0
V1 = Arm(Version.V1, "eu", "")
V2 = Arm(Version.V2, "eu", "")

FIELDS: Mapping[str, object] = {
    "sequence": 0,
    "start_us": int(NOW * 1e6),
    "version": "v2",
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
    "server": "v2a",
    "facts": "-",
    "event": "-",
}


def line(sequence: int = 0, **fields: object) -> bytes:
    return ",".join(str(v) for v in {**FIELDS, "sequence": sequence, **fields}.values()).encode()


def collector(
    clock: ManualClock, *, lateness_s: float = 5.0, on_failure: Callable[[], None] | None = None
) -> Collector:
    return Collector(clock=clock, tick_s=10.0, lateness_s=lateness_s, key=b"k", on_failure=on_failure)


def connection(to: Collector) -> _Connection:
    made = _Connection(to)
    made.connection_made(Mock(spec=asyncio.Transport))
    return made


def summed(data: bytes, cuts: list[int]) -> tuple[list[bytes], Mapping[str, int]]:
    """Send bytes cut at these places; return the ticks that close over them, and the counters."""
    clock = ManualClock(NOW)
    fed = collector(clock)
    stream = connection(fed)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in pairwise(places):
        stream.data_received(data[start:end])
        fed.flush()
    stream.connection_lost(None)
    clock.move(15)
    return [encode_tick(tick) for tick in fed.closed_ticks()], fed.counters()


ROWS: st.SearchStrategy[dict[str, object]] = st.builds(
    dict,
    start_us=st.sampled_from([int((NOW + s) * 1e6) for s in (-20, -1, 0, 1, 9, 40)]),
    version=st.sampled_from(["v1", "v2", "beside", "outside"]),
    status=st.sampled_from([200, 404, 500, 503, -1, "x"]),
    headers_us=st.sampled_from(["-", 0, 999, 1050, 70_000_000]),
    total_ms=st.sampled_from([-1, 3, 2000]),
    cohort=st.sampled_from(["-", "beta"]),
    override=st.sampled_from([0, 1]),
    asked=st.sampled_from(["-", "v1"]),
    user=st.sampled_from(["-", -5, 6]),
    region=st.sampled_from(["-", "eu", "a%2Cb"]),
    termination=st.sampled_from(["----", "SC--", "sH--", "CH--", "CR--", "SD--"]),
    server=st.sampled_from(["v2a", "fallback"]),
    facts=st.sampled_from(["-", "cache%3Dhit", "flights%3D1%2C%20db%3D3.1", "%22", ""]),
    event=st.sampled_from(["-", "search"]),
)
LINES = st.one_of(ROWS, st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"")))


@given(st.lists(LINES, max_size=30), st.lists(st.integers(0, 10_000), max_size=20), st.booleans())
@settings(max_examples=150, deadline=None)
async def test_the_ticks_are_the_same_however_the_stream_is_cut(
    rows: list[dict[str, object] | bytes], cuts: list[int], ended: bool
) -> None:
    lines = [row if isinstance(row, bytes) else line(i, **row) for i, row in enumerate(rows)]
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    assert summed(data, []) == summed(data, cuts)


async def test_a_line_longer_than_any_is_skipped_to_its_end() -> None:
    data = line(1) + b"\n" + b"x" * (3 * MAX_LINE) + line(2) + b"\n" + line(3) + b"\n"
    ticks, counters = summed(data, list(range(0, len(data), 1000)))
    assert len(ticks) == 1
    assert (counters["received"], counters["malformed"]) == (3, 1)


async def test_half_a_line_at_the_end_of_a_connection_is_malformed() -> None:
    assert summed(line(1) + b"\n" + line(2)[:30], [])[1]["malformed"] == 1


async def test_lines_that_cant_be_read_are_told_by_the_tick_in_which_they_came() -> None:
    clock = ManualClock(NOW)
    fed = collector(clock)
    fed.feed(b"garbage\n" + line(1, status="x") + b"\n" + line(2))
    clock.move(15)
    assert fed.closed_ticks()[0].malformed == 2


# ── what is whose ───────────────────────────────────────────────────────────────────────────────────────────


def cell(*rows: bytes) -> Cell:
    clock = ManualClock(NOW)
    fed = collector(clock)
    fed.feed(b"\n".join(rows))
    clock.move(15)
    return fed.closed_ticks()[0].total(Version.V2)


def test_v1s_answer_in_v2s_place_says_nothing_of_v2() -> None:
    found = cell(line(server="fallback", facts="flights%3D1%2C%20db%3D3.1"))
    assert (found.requests, found.fallbacks, found.facts, found.timings, found.latency.total()) == (1, 1, {}, {}, 0)


def test_a_request_that_timed_out_was_at_least_that_slow() -> None:
    found = cell(line(status=504, termination="sH--", headers_us="-", total_ms=10_000))
    assert {latency_bin(10_000): 1} == dict(found.latency)


def test_a_refused_connection_is_no_fast_answer() -> None:
    assert dict(cell(line(status=503, termination="SC--", headers_us=300)).latency) == {}


def test_who_leaves_the_queue_at_once_was_not_failed() -> None:
    assert cell(line(status=503, termination="CC--", total_ms=20)).requests == 0
    gave_up = cell(line(status=503, termination="CC--", total_ms=1000))
    assert (gave_up.requests, gave_up.failures, gave_up.critical) == (1, 1, 0)


def test_decimals_are_summed_and_the_rest_is_counted() -> None:
    found = cell(*(line(i, facts=f"db%3D{i}.5%2C%20cache%3Dmiss%2C%20w%3D0.25") for i in range(40)))
    assert {"db": (40, sum(range(40)) + 20.0), "w": (40, 10.0)} == found.timings
    assert {name: dict(values) for name, values in found.facts.items()} == {"cache": {"miss": 40}}


def test_a_region_is_decoded_for_reading_and_cut() -> None:
    clock = ManualClock(NOW)
    fed = collector(clock)
    fed.feed(line(region="a%0Ab%2C%C3%A9" + "x" * 100))
    clock.move(15)
    (arm,) = fed.closed_ticks()[0].cells
    assert arm.region == ("ab,é" + "x" * 100)[:64]


# ── bounds ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_whoever_sends_new_regions_fills_the_table_for_one_tick_only() -> None:
    clock = ManualClock(NOW)
    fed = collector(clock)
    fed.feed(b"\n".join(line(i, region=f"r{i}") for i in range(500)))
    fed.feed(line(500, region="eu"))
    clock.move(15)
    fed.closed_ticks()
    fed.feed(line(501, region="eu", start_us=int((NOW + 12) * 1e6)))
    clock.move(10)
    assert list(fed.closed_ticks()[0].cells) == [V2]


def test_failing_users_are_bounded_per_tick_and_those_beyond_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ticks_module, "MAX_FAILING_USERS", 5)
    clock = ManualClock(NOW)
    fed = collector(clock)
    fed.feed(b"\n".join(line(i, status=500, user=i % 8) for i in range(16)))
    clock.move(15)
    found = fed.closed_ticks()[0].cells[V2]
    assert (found.failures, len(found.failing_users), fed.counters()["users_not_kept"]) == (16, 5, 6)


def test_the_tables_of_what_rows_share_are_bounded() -> None:
    clock = ManualClock(NOW)
    fed = collector(clock)
    for part in range(6):
        numbers = range(part * 5000, part * 5000 + 5000)
        fed.feed(b"\n".join(line(i, facts=f"db%3D{i}.5", region=f"r{i}") for i in numbers))
    clock.move(15)
    found = fed.closed_ticks()[0].total(Version.V2)
    assert (found.requests, found.timings["db"][0]) == (30_000, 30_000)
    assert len(fed._ticks._headers) <= 25_000
    assert len(fed._ticks._groups) <= 25_000


# ── late, early, lost ───────────────────────────────────────────────────────────────────────────────────────


def test_what_comes_too_late_or_from_the_future_is_lost_to_the_ticks_and_said_so() -> None:
    clock = ManualClock(NOW)
    fed = collector(clock)
    clock.move(15)
    fed.closed_ticks()
    fed.feed(line(0) + b"\n" + line(1, start_us=int((NOW + 3600) * 1e6)))
    clock.move(10)
    (tick,) = fed.closed_ticks()
    assert (tick.lost, fed.counters()["late"], dict(tick.cells)) == (2, 2, {})


def test_losses_are_told_by_the_tick_in_which_they_are_noticed() -> None:
    clock = ManualClock(NOW)
    fed = collector(clock)
    fed.feed(b"\n".join(line(i) for i in (0, 1, 5000)))
    clock.move(15)
    assert [tick.lost for tick in fed.closed_ticks()] == [4998]


def test_a_clock_that_jumps_for_years_does_not_make_years_of_ticks() -> None:
    clock = ManualClock(NOW)
    fed = collector(clock)
    clock.step(10 * 365 * 86_400)
    assert fed.closed_ticks() == []
    clock.move(10)
    assert len(fed.closed_ticks()) == 1


def test_a_scaled_clock_maps_starts_to_plan_time_and_waits_in_real_time() -> None:
    clock = ManualClock(NOW, speed=100.0)
    fed = collector(clock)
    fed.feed(line(0, start_us=int((NOW + 0.05) * 1e6)) + b"\n" + line(1, start_us=int((NOW + 0.15) * 1e6)))
    clock.move(0.15)
    fed.feed(line(2, start_us=int((NOW + 0.15) * 1e6)))
    clock.move(4.9)
    assert fed.closed_ticks() == []
    clock.move(0.2)
    assert [tick.total(Version.V2).requests for tick in fed.closed_ticks()][:2] == [1, 2]


# ── a collector that starts again ───────────────────────────────────────────────────────────────────────────


def test_what_the_ring_kept_lands_in_ticks_that_are_still_open() -> None:
    """The first line tells when others stopped listening: what started earlier was seen by them in part."""
    clock = ManualClock(NOW)
    fed = collector(clock)
    ago = [int((NOW - s) * 1e6) for s in (5, 5, 4, 2, 0)]
    rows = [
        line(700, start_us=ago[0], total_ms=500),
        line(701, start_us=ago[1], total_ms=900),
        *(line(702 + i, start_us=at) for i, at in enumerate(ago[2:])),
    ]
    fed.feed(b"\n".join(rows))
    clock.move(15)
    ticks = fed.closed_ticks()
    assert [tick.total(Version.V2).requests for tick in ticks] == [2, 1]
    assert (fed.counters()["late"], fed.counters()["lost"]) == (2, 0)


def test_before_the_first_listening_there_is_nothing_to_be_blind_to() -> None:
    clock = ManualClock(NOW)
    fed = collector(clock, lateness_s=60.0)
    clock.move(70)
    assert [(NOW // 10, frozenset())] == [(tick.number, tick.sources) for tick in fed.closed_ticks()]


async def test_a_tick_is_sighted_while_any_proxy_is_connected() -> None:
    clock = ManualClock(NOW)
    fed = collector(clock)
    stream = connection(fed)
    clock.move(12)
    stream.connection_lost(None)
    clock.move(20)
    connection(fed)
    clock.move(20)
    assert [bool(tick.sources) for tick in fed.closed_ticks()] == [True, True, False, True]


async def test_the_sums_of_two_proxies_are_in_one_tick_and_their_numbers_apart() -> None:
    clock = ManualClock(NOW)
    fed = collector(clock)
    one, two = connection(fed), connection(fed)
    for i in range(5):
        one.data_received(line(i) + b"\n")
        two.data_received(line(i) + b"\n")
        fed.flush()
    clock.move(15)
    assert (fed.closed_ticks()[0].total(Version.V2).requests, fed.counters()["lost"]) == (10, 0)


# ── the way to the controller ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def woken() -> AsyncIterator[tuple[Collector, asyncio.Event]]:
    """A collector that listens, and what it sets when V2 has failed."""
    event = asyncio.Event()
    fed = collector(ManualClock(NOW), on_failure=event.set)
    await fed.start()
    yield fed, event
    await fed.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 500},
        {"status": -1, "termination": "SH--", "headers_us": "-"},
        {"server": "fallback"},
        {"status": -1, "termination": "CH--", "headers_us": "-", "total_ms": 1500},
    ],
    ids=["status", "no answer", "fallback", "gave up"],
)
async def test_a_failure_of_v2_reaches_the_controller_within_milliseconds(
    woken: tuple[Collector, asyncio.Event], fields: dict[str, object]
) -> None:
    """Sooner than the next flush, or the look by arrival would be what finds it."""
    fed, event = woken
    loop = asyncio.get_running_loop()
    _, writer = await asyncio.open_connection(*fed.address)
    begun = loop.time()
    writer.write(line(0, **fields) + b"\n")
    async with asyncio.timeout(5):
        await event.wait()
    assert loop.time() - begun < 0.09
    assert fed.recent(1.0).total(Version.V2).failures == 1
    writer.close()


async def test_a_flood_of_lines_is_summed_and_nothing_is_lost(woken: tuple[Collector, asyncio.Event]) -> None:
    fed, event = woken
    _, writer = await asyncio.open_connection(*fed.address)
    writer.write(b"".join(line(i, status=500 if i % 2 else 200) + b"\n" for i in range(20_000)))
    await writer.drain()
    writer.close()
    async with asyncio.timeout(10):
        while fed.counters()["received"] < 20_000:
            event.clear()
            await event.wait()
    assert fed.recent(10.0).total(Version.V2).failures == 10_000
    assert {k: v for k, v in fed.counters().items() if k in ("lost", "malformed", "late")} == {
        "lost": 0,
        "malformed": 0,
        "late": 0,
    }


HEADERS = st.one_of(
    st.lists(
        st.builds(
            "{}={}".format,
            st.sampled_from(["db", "w", "cache"]),
            st.sampled_from(["1.5", "0.0", "-2.25", "hit", "7", '"a=1.5"', '"0.0"', "1.2345", "3.5;q=0.5", "?1"]),
        ),
        max_size=4,
    ).map(", ".join),
    st.text(alphabet='db=0.15,;" ?', max_size=20),
)


@given(st.lists(HEADERS, min_size=1, max_size=12))
@settings(deadline=None)
def test_headers_that_share_a_shape_are_read_as_if_each_were_alone(headers: list[str]) -> None:
    together = cell(*(line(i, facts=quote(header, safe="") or "-") for i, header in enumerate(headers)))
    alone = Cell()
    for header in headers:
        facts = parse_facts(header)
        alone.add(
            Cell(
                facts={name: Counter({value: 1}) for name, value in facts.values},
                timings={name: (1, value) for name, value in facts.timings},
            )
        )
    assert together.facts == alone.facts
    assert {n: count for n, (count, _) in together.timings.items()} == {n: c for n, (c, _) in alone.timings.items()}
    sums = {name: total for name, (_, total) in alone.timings.items()}
    assert {name: total for name, (_, total) in together.timings.items()} == pytest.approx(sums)

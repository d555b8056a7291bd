"""The collector behind a real HAProxy: what clients do, and what becomes of it in the sums."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import dropwhile
from pathlib import Path

import pytest
from tests.adapters.haproxy_origin import Client, Origin, free_port, make_plan, origins

from crossfade.adapters.collector import Collector
from crossfade.adapters.haproxy import HaproxyProxy
from crossfade.adapters.system import SystemClock
from crossfade.core.evidence.sums import Cell, Tick, sum_cells
from crossfade.core.plan import Plan, UserEvent
from crossfade.core.split import Split, Version, user_hash
from crossfade.ports import ProxyState

HOSTILE: list[str | bytes] = ["eu,west;x", "a\tb", "é".encode(), b"\xff\xfe", "x" * 5000, "%0A", '"', "-"]


@dataclass(slots=True)
class World:
    """One proxy, its services, and who listens to it."""

    plan: Plan
    proxy: HaproxyProxy
    services: list[Origin]
    collector: Collector
    failed: asyncio.Event

    @property
    def port(self) -> int:
        return int(self.plan.api.listen.split(":")[1])

    async def put_on_v2(self, share: int = 10_000) -> None:
        await self.proxy.apply(ProxyState(generation=1, split=Split(everyone=share)))

    async def heard(self, lines: int) -> Tick:
        """Return what arrived once so many lines have."""
        async with asyncio.timeout(20):
            while self.collector.counters()["received"] < lines:  # noqa: ASYNC110 - a socket tells nobody
                await asyncio.sleep(0.02)
        return self.collector.recent(10.0)


def make_collector(port: int, failed: asyncio.Event) -> Collector:
    return Collector(clock=SystemClock(), tick_s=0.5, lateness_s=3.0, key=b"k", port=port, on_failure=failed.set)


@asynccontextmanager
async def world(
    directory: Path, services: list[Origin], v2: str | None = None, events: tuple[UserEvent, ...] = ()
) -> AsyncIterator[World]:
    failed = asyncio.Event()
    collector = make_collector(0, failed)
    await collector.start()
    plan = replace(make_plan([services[0].address], [v2 or services[1].address]), events=events)
    proxy = HaproxyProxy(
        plan, directory, collector="{}:{}".format(*collector.address), clock=SystemClock(), grace_s=0.2
    )
    made = World(plan, proxy, services, collector, failed)
    try:
        await proxy.start()
        yield made
    finally:
        await proxy.stop()
        await made.collector.close()


async def closed(collector: Collector, requests: int) -> list[Tick]:
    """Return the ticks once those that hold so many requests have closed."""
    ticks: list[Tick] = []
    async with asyncio.timeout(20):
        while sum(cell.requests for tick in ticks for cell in tick.cells.values()) < requests:
            await asyncio.sleep(0.05)
            ticks += collector.closed_ticks()
    return ticks


def address_of(server: asyncio.Server) -> str:
    return "{}:{}".format(*server.sockets[0].getsockname())


def both(ticks: list[Tick]) -> Cell:
    return sum_cells(cell for tick in ticks for cell in tick.cells.values())


async def test_every_request_is_in_a_tick_once_whatever_its_headers_say(tmp_path: Path) -> None:
    async with origins("v1", "v2") as services, world(tmp_path, services) as at:
        await at.put_on_v2(5000)
        client = Client(at.port)
        for n, value in enumerate(HOSTILE):
            await client.get("/search", ("X-User-Id", f"u{n}"), ("X-Region", value), ("X-Client-Id", value))
            await client.get("/search", ("X-User-Id", value), ("X-User-Id", "other"), ("X-Region", "eu"))
        sent = 2 * len(HOSTILE)
        ticks = await closed(at.collector, sent)
        counters = at.collector.counters()
    assert (sent, 0) == (both(ticks).requests, both(ticks).failures)
    assert sent == both(ticks).latency.total()
    assert {"flights": {"1": sent}, "weather": {"fallback": sent}} == both(ticks).facts
    assert {k: counters[k] for k in ("malformed", "lost", "late")} == {"malformed": 0, "lost": 0, "late": 0}
    # A proxy that took its time to start leaves ticks before it, which nobody reported on.
    since_start = list(dropwhile(lambda tick: not tick.sources, ticks))
    assert {tick.sources for tick in since_start} == {frozenset({"collector"})}
    assert both(since_start).requests == sent
    assert [tick.number for tick in ticks] == list(range(ticks[0].number, ticks[0].number + len(ticks)))


async def test_v2_that_cant_be_reached_wakes_the_controller_and_is_critical(tmp_path: Path) -> None:
    async with origins("v1") as services, world(tmp_path, services, v2=f"127.0.0.1:{free_port()}") as at:
        await at.put_on_v2()
        assert (await Client(at.port).get("/search", ("X-User-Id", "u"))).status == 200
        async with asyncio.timeout(5):
            await at.failed.wait()
        found = (await at.heard(1)).total(Version.V2)
    assert (found.requests, found.failures, found.critical, found.fallbacks) == (1, 1, 1, 1)


async def test_a_service_that_hangs_up_instead_of_answering_is_critical(tmp_path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    rude = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    address = address_of(rude)
    async with origins("v1") as services, world(tmp_path, services, v2=address) as at:
        await at.put_on_v2()
        assert (await Client(at.port).get("/search", ("X-User-Id", "u"), method="POST")).status == 502
        found = (await at.heard(1)).total(Version.V2)
    rude.close()
    assert (found.requests, found.failures, found.critical, found.fallbacks) == (1, 1, 1, 0)


async def test_an_answer_broken_off_is_a_failure_but_not_critical(tmp_path: Path) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    rude = await asyncio.start_server(break_off, "127.0.0.1", 0)
    address = address_of(rude)
    async with origins("v1") as services, world(tmp_path, services, v2=address) as at:
        await at.put_on_v2()
        with pytest.raises(asyncio.IncompleteReadError):
            await Client(at.port).get("/search", ("X-User-Id", "u"))
        found = (await at.heard(1)).total(Version.V2)
    rude.close()
    assert (found.requests, found.failures, found.critical) == (1, 1, 0)


async def test_a_collector_that_was_away_gets_what_the_ring_kept(tmp_path: Path) -> None:
    """Requests served while nobody listened are in ticks that were still open."""
    async with origins("v1", "v2") as services, world(tmp_path, services) as at:
        client = Client(at.port)
        for _ in range(5):
            await client.get("/search")
        await at.heard(5)
        port = at.collector.address[1]
        await at.collector.close()
        for _ in range(20):
            await client.get("/search")
        at.collector = make_collector(port, at.failed)
        await at.collector.start()
        for _ in range(20):
            await client.get("/search")
        await at.heard(35)
        ticks = await closed(at.collector, 30)
        counters = at.collector.counters()
    assert counters["late"] + both(ticks).requests + counters["lost"] >= 35
    assert counters["malformed"] == 0


EVENTS = (
    UserEvent(name="search", method="GET", paths=("/search", "/v1/trips/search")),
    UserEvent(name="book", method="POST", paths=("/bookings", "/trips/*/book", "/shop/**")),
    UserEvent(name="posted"),
    UserEvent(name="never", method="GET", paths=("/search",)),
)


async def test_what_users_do_is_told_beside_the_api_too(tmp_path: Path) -> None:
    asked = [
        *(("GET", path, f"s{n}") for n, path in enumerate(["/search", "/search?q=1", "/v1/trips/search"])),
        *(("POST", path, f"b{n}") for n, path in enumerate(["/bookings?x=1", "/trips/7/book", "/shop/a/b"])),
        *(("GET", path, "n") for path in ("/bookings", "/search/more", "/v2/trips/search", "/shop/a", "/other")),
        *(("POST", path, "n") for path in ("/search", "/trips/7/8/book", "/trips//book", "/shop/", "/shop")),
        *(("POST", path, "n") for path in ("/bookings/1", "/BOOKINGS", "/tripsX7/book")),
    ]
    async with origins("v1", "v2") as services, world(tmp_path, services, events=EVENTS) as at:
        await at.put_on_v2(5000)
        client, answers = Client(at.port), []
        for method, path, user in asked:
            answers.append(await client.get(path, ("X-User-Id", user), method=method))
        ticks = await closed(at.collector, 6)
        counters = at.collector.counters()
    found: dict[str, set[int]] = {}
    for one in (one for tick in ticks for one in tick.doings):
        found.setdefault(one.event, set()).update(one.users.tolist())
    salt = at.plan.assignment.salt
    hashed = {user: user_hash(user, salt) & (2**64 - 1) for _, _, user in asked}
    assert found == {name: {hashed[f"{name[0]}{n}"] for n in range(3)} for name in ("search", "book")}
    beside = [answer for (_, path, _), answer in zip(asked, answers, strict=True) if "search" not in path]
    assert ({answer.version for answer in beside}, {answer.status for answer in answers}) == ({"v1"}, {200})
    assert [answer.target for answer in beside[:3]] == ["/bookings?x=1", "/trips/7/book", "/shop/a/b"]
    assert both(ticks).requests == 6  # what is beside the API is nobody's
    assert {k: counters[k] for k in ("malformed", "lost", "late")} == {"malformed": 0, "lost": 0, "late": 0}


@pytest.mark.parametrize("share", [0, 10_000])
async def test_what_users_do_is_told_when_all_are_on_one_side(tmp_path: Path, share: int) -> None:
    async with origins("v1", "v2") as services, world(tmp_path, services, events=EVENTS) as at:
        await at.put_on_v2(share)
        answer = await Client(at.port).get("/search", ("X-User-Id", "ann"))
        ticks = await closed(at.collector, 1)
    assert answer.version == ("v2" if share else "v1")
    assert [(one.event, one.users.tolist()) for tick in ticks for one in tick.doings] == [
        ("search", [user_hash("ann", at.plan.assignment.salt) & (2**64 - 1)])
    ]

"""A proxy that no controller looks after: it says so, and where the plan wants it puts everyone on V1 by itself."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.adapters.haproxy_origin import Client, make_plan, map_lines, origins

from crossfade.adapters.haproxy import HaproxyProxy, HaproxyRollback
from crossfade.adapters.haproxy.attendance import died_alone
from crossfade.adapters.haproxy.render import ATTENDED_SOCKET
from crossfade.adapters.system import SystemClock
from crossfade.core.plan import Plan, Unattended
from crossfade.core.split import Split
from crossfade.errors import StaleGenerationError
from crossfade.ports import NodeState, ProxyState

HALF = ProxyState(generation=3, split=Split(everyone=10_000))
AFTER_S = 0.5


class Site:
    """A running proxy with everyone on V2, and what its controller says of itself."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan, self.directory = plan, directory
        self.attended = True
        self.kept: list[socket.socket] = []
        self.proxy = self.controller()

    def controller(self) -> HaproxyProxy:
        proxy = HaproxyProxy(self.plan, self.directory, collector="127.0.0.1:1", clock=SystemClock(), grace_s=0.2)
        proxy.attendance.attended = lambda: self.attended
        return proxy

    async def version(self) -> str:
        client = Client(int(self.plan.api.listen.split(":")[1]))
        try:
            return (await client.get("/search", ("X-User-Id", "u1"))).version
        finally:
            client.close()

    async def node(self) -> NodeState:
        (node,) = await self.proxy.observe()
        return node

    async def until(self, what: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(20):
            while not await what():  # noqa: ASYNC110 - another process tells nobody
                await asyncio.sleep(0.02)

    async def until_on_v1(self) -> None:
        async def on_v1() -> bool:
            return await self.version() == "v1"

        await self.until(on_v1)

    async def until_alone(self) -> None:
        async def alone() -> bool:
            return (await self.node()).unattended_s is not None

        await self.until(alone)


@asynccontextmanager
async def on_v2(directory: Path, *, then_rollback: bool = True) -> AsyncIterator[Site]:
    async with origins("v1", "v2") as (v1, v2):
        plan = make_plan([v1.address], [v2.address])
        site = Site(replace(plan, unattended=Unattended(after_s=AFTER_S, rollback=then_rollback)), directory)
        await site.proxy.start()
        try:
            await site.proxy.apply(HALF)
            assert await site.version() == "v2"
            yield site
        finally:
            await site.proxy.stop()
            for listener in site.kept:
                listener.close()


async def silent(site: Site) -> None:
    site.attended = False


async def gone(site: Site) -> None:
    await site.proxy.close()


async def stopped(site: Site) -> None:
    """Hear and say nothing, as a process does that was stopped: the system takes its connections."""
    await site.proxy.close()
    path = site.directory / ATTENDED_SOCKET
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(4)
        site.kept.append(listener.dup())


@pytest.mark.parametrize("way", [silent, gone, stopped])
async def test_a_proxy_left_alone_puts_everyone_on_v1_and_leaves_the_mark(
    tmp_path: Path, way: Callable[[Site], Awaitable[None]]
) -> None:
    async with on_v2(tmp_path) as site:
        await way(site)
        await site.until_on_v1()
        site.attended = True
        await site.proxy.close()  # else it would bring back what the next one stops
        site.proxy = site.controller()
        await site.proxy.start()
        node = await site.node()
        assert node.by_itself
        assert (node.rolled_back, node.unattended_s is not None) == (4, True)
        assert node.state is not None
        assert (node.state.killed, node.state.generation) == (True, 3)

        async def attended() -> bool:
            return (await site.node()).unattended_s is None

        await site.until(attended)
        assert await site.version() == "v1"  # for good: who was away does not know what happened meanwhile
        with pytest.raises(StaleGenerationError):
            await site.proxy.apply(replace(HALF, generation=4))
        await site.proxy.apply(replace(HALF, generation=5))
        assert await site.version() == "v2"
        assert not died_alone(tmp_path / "haproxy.log")


async def test_a_controller_that_starts_again_within_the_time_changes_nothing(tmp_path: Path) -> None:
    async with on_v2(tmp_path) as site:
        for _ in range(4):
            await site.proxy.close()
            await asyncio.sleep(AFTER_S / 2)
            site.proxy = site.controller()
            await site.proxy.start()
            assert (await site.node()).unattended_s is None
            assert await site.version() == "v2"
            await asyncio.sleep(AFTER_S / 2)
        node = await site.node()
        assert (node.rolled_back, node.by_itself) == (-1, False)


async def test_where_the_plan_says_alert_the_node_tells_and_the_split_stays(tmp_path: Path) -> None:
    async with on_v2(tmp_path, then_rollback=False) as site:
        site.attended = False
        await site.until_alone()
        assert await site.version() == "v2"
        assert "Server crossfade/controller is DOWN" in (tmp_path / "haproxy.log").read_text()
        assert (await site.node()).rolled_back == -1
        await site.proxy.close()
        site.attended, site.proxy = True, site.controller()
        await site.proxy.start()
        assert (await site.node()).unattended_s is not None  # the next one hears of it, once
        assert await site.version() == "v2"


async def test_a_proxy_that_dies_after_it_was_left_alone_comes_back_with_everyone_on_v1(tmp_path: Path) -> None:
    """It could not write its files; what it wrote into its log is read instead."""
    async with on_v2(tmp_path) as site:
        site.attended = False
        await site.until_on_v1()
        pid = site.proxy._process
        assert pid is not None
        await site.proxy._stop_watching()
        pid.send(9)
        await pid.ended()
        await site.proxy.close()
        assert map_lines(tmp_path)["kill"] == "0"
        site.attended, site.proxy = True, site.controller()
        await site.proxy.start()
        assert await site.version() == "v1"
        assert (await site.node()).by_itself


async def test_another_configuration_does_not_bring_back_who_was_put_on_v1(tmp_path: Path) -> None:
    """A new process reads the files, which a proxy that was left alone could not write."""
    async with on_v2(tmp_path) as site:
        site.attended = False
        await site.until_on_v1()
        await site.proxy.close()
        site.plan = replace(site.plan, unattended=Unattended(after_s=1.0, rollback=True))
        site.attended, site.proxy = True, site.controller()
        await site.proxy.start()
        assert await site.version() == "v1"
        assert (await site.node()).by_itself


async def test_a_rollback_between_the_reading_of_the_files_and_the_first_answer_is_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A starting process has read the old files, and its socket isn't there yet: only its starter can tell it."""
    async with on_v2(tmp_path) as site:
        old = (tmp_path / "int.map").read_text()
        switch = HaproxyRollback(tmp_path)
        await switch.rollback()
        await switch.close()
        new = (tmp_path / "int.map").read_text()
        process = site.proxy._process
        assert process is not None
        await site.proxy._stop_watching()
        process.send(9)
        await process.ended()
        running = site.proxy._running

        async def answers() -> tuple[int, str] | None:
            answer = await running()
            if answer is not None:  # it has read the old ones by now
                (tmp_path / "int.map").write_text(new)
            return answer

        monkeypatch.setattr(site.proxy, "_prepare", lambda *_: (tmp_path / "int.map").write_text(old))
        monkeypatch.setattr(site.proxy, "_running", answers)
        assert await site.proxy.ensure_running()
        assert await site.version() == "v1"
        assert (await site.node()).rolled_back == 4

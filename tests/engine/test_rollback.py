"""The short path: all switches at once, nobody raises, everything is reported."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from crossfade.adapters.system import SystemClock
from crossfade.core.split import Split
from crossfade.engine.rollback import roll_back
from crossfade.errors import ProxyError
from crossfade.ports import NodeState, ProxyState
from crossfade.testing.proxy import FakeProxy, FakeRollback


class Failing:
    async def rollback(self, generation: int | None = None) -> Sequence[NodeState]:
        raise ProxyError("the disk is full and the proxy is gone")

    async def ready(self) -> bool:
        return False


class Hanging:
    async def rollback(self, generation: int | None = None) -> Sequence[NodeState]:
        await asyncio.Event().wait()
        raise AssertionError

    async def ready(self) -> bool:
        return True


async def raised(everyone: int = 5000) -> FakeProxy:
    proxy = FakeProxy()
    await proxy.start()
    await proxy.apply(ProxyState(generation=3, split=Split(everyone=everyone)))
    return proxy


async def test_every_node_is_put_on_v1() -> None:
    proxies = [await raised() for _ in range(3)]
    report = await roll_back([FakeRollback(proxy) for proxy in proxies], 8, SystemClock())
    assert report.complete
    assert report.errors == ()
    assert [(p.memory.generation, p.memory.killed, p.memory.split.everyone) for p in proxies] == [(8, True, 0)] * 3
    assert report.took_s >= 0


async def test_a_switch_that_fails_or_hangs_does_not_keep_the_others() -> None:
    proxy = await raised()
    report = await roll_back([Failing(), Hanging(), FakeRollback(proxy)], None, SystemClock(), deadline_s=0.05)
    assert proxy.memory.killed
    assert not report.complete
    assert len(report.errors) == 2
    assert "disk is full" in report.errors[0]
    assert "0.05 s" in report.errors[1]


async def test_a_node_that_is_down_is_reported_and_makes_it_incomplete() -> None:
    up, down = await raised(), await raised()
    down.faults.unreachable = True
    report = await roll_back([FakeRollback(up), FakeRollback(down)], None, SystemClock())
    assert up.memory.killed
    assert down.file.killed
    assert not report.complete
    assert report.errors == ()
    assert set(report.outcomes()) == {"fake"}


async def test_nothing_to_roll_back_is_no_success() -> None:
    report = await roll_back([], None, SystemClock())
    assert not report.complete

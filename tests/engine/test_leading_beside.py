"""What is done beside acting is done by whoever leads, and by nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crossfade.adapters.system import SystemClock
from crossfade.engine.controller import Controller, Parts
from crossfade.engine.leadership import Leading
from crossfade.engine.lease import LeaseKeeper
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.simulator.plan import PLAN
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry


class Alone(Leading):
    """Opens nothing."""

    def predecessor(self) -> str:
        return ""

    async def open(self) -> None:
        pass

    async def shut(self) -> None:
        pass


def leading(holder: str, store: MemoryStore, proxy: FakeProxy, running: set[str]) -> Alone:
    clock = SystemClock()
    lease = LeaseKeeper(store, clock, rollout=PLAN.name, holder=holder, address="", lasts_s=60.0)
    parts = Parts(
        store=store, proxy=proxy, switch=FakeRollback(proxy), telemetry=FakeTelemetry(), clock=clock, lease=lease
    )

    async def beside() -> None:
        running.add(holder)
        try:
            await asyncio.Event().wait()
        finally:
            running.discard(holder)

    return Alone(controller=Controller(PLAN, parts), lease=lease, store=store, clock=clock, keep_s=1e9, beside=beside)


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110 - whatever it is, it has no event
            await asyncio.sleep(0.01)


async def test_only_the_leader_does_what_is_done_beside_acting() -> None:
    store, proxy, running = MemoryStore(), FakeProxy(cohorts=("beta",)), set[str]()
    await store.open()
    first, second = (leading(name, store, proxy, running) for name in "ab")
    await first.begin()
    await second.begin()
    lives = [asyncio.create_task(one.run()) for one in (first, second)]
    await until(lambda: running == {"a"})
    looked = store.calls.count("lease")
    await until(lambda: store.calls.count("lease") > looked + 1)
    assert running == {"a"}, "the other has looked, and still follows"
    lives[0].cancel()
    await asyncio.gather(lives[0], return_exceptions=True)
    assert running == set()
    await first.release()
    await until(lambda: running == {"b"})
    lives[1].cancel()
    await asyncio.gather(lives[1], return_exceptions=True)
    await second.release()

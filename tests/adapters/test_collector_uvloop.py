"""`serve` runs on uvloop, whose transports inherit from nothing of asyncio's."""

from __future__ import annotations

import asyncio

import uvloop

from crossfade.adapters.collector import Collector
from crossfade.adapters.system import SystemClock


async def _reported() -> bool:
    collector = Collector(clock=SystemClock(), tick_s=10, lateness_s=5, key=b"k")
    await collector.start()
    _, writer = await asyncio.open_connection(*collector.address)
    writer.write(b"no line of ours\n")
    async with asyncio.timeout(5):
        while not collector.counters()["malformed"]:
            await asyncio.sleep(0.01)
            collector.flush()
    writer.close()
    await collector.close()
    return True


def test_a_proxy_is_heard_on_uvloop_too() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(_reported())

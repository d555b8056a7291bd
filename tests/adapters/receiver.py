"""A receiver of notices on loopback, which answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from aiohttp import web


@dataclass
class Receiver:
    """What came, and what is answered: statuses in turn, the last one for good; None hangs."""

    url: str = ""
    answers: list[int | None] = field(default_factory=lambda: [200])
    headers: dict[str, str] = field(default_factory=dict)
    came: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.came]

    def answer(self, *statuses: int | None) -> None:
        self.answers = list(statuses)

    async def wait(self, count: int, within_s: float = 20.0) -> None:
        """Wait until so many have come."""
        async with asyncio.timeout(within_s):
            while len(self.came) < count:
                self.arrived.clear()
                await self.arrived.wait()

    async def handle(self, request: web.Request) -> web.Response:
        self.came.append(({key.lower(): value for key, value in request.headers.items()}, await request.read()))
        self.arrived.set()
        status = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if status is None:
            await asyncio.Event().wait()
            raise AssertionError
        return web.Response(status=status, headers=self.headers, text="thanks")


@asynccontextmanager
async def receiving(answers: Sequence[int | None] = (200,)) -> AsyncIterator[Receiver]:
    """Give a receiver at a free port."""
    receiver = Receiver(answers=list(answers))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    receiver.url = f"http://127.0.0.1:{port}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@contextmanager
def receiving_beside(*answers: int | None) -> Iterator[Receiver]:
    """Give a receiver in a thread of its own, for what has a loop or a process of its own."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    context = receiving(answers)
    try:
        yield asyncio.run_coroutine_threadsafe(context.__aenter__(), loop).result(20)
    finally:
        asyncio.run_coroutine_threadsafe(context.__aexit__(None, None, None), loop).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

"""Two small versions of an API in the test's own loop, told what to answer, and a plan that names them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

PLAN = """\
crossfade: 1
rollout: trips
api:
  entry: /trips
  v1: {{path: /v1/trips, upstreams: [127.0.0.1:{v1}]}}
  v2: {{path: /v2/trips, upstreams: [127.0.0.1:{v2}]}}
assignment: {{user: [header X-User-Id, address], region: header X-Region, users: 100}}
metrics: {{failure_rate: {{guard: "> 1% -> rollback"}}}}
phases:
  - {{name: half, split: 50%, soak: 1d}}
"""
TRIP = {"flights": [{"flight": "UA1"}], "hotels": [{"name": "A", "night_usd": 76}]}

Reply = Callable[[int], Any]


@dataclass
class Version:
    """One version; `reply` gets the number of a question from 0 and gives a body, or what sends it."""

    port: int = 0
    asked: list[web.BaseRequest] = field(default_factory=list)


@asynccontextmanager
async def serving(reply: Reply = lambda _: TRIP) -> AsyncIterator[Version]:
    version = Version()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "HEAD" and not request.query_string:  # whether anybody is there
            return web.Response()
        version.asked.append(request)
        said = reply(len(version.asked) - 1)
        if isinstance(said, Awaitable):
            said = await said
        if isinstance(said, web.StreamResponse):
            return said
        if said is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.Response(body=json.dumps(said), content_type="application/json")

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        version.port = runner.addresses[0][1]
        yield version
    finally:
        await runner.cleanup()


def write_plan(folder: Path, v1: int, v2: int, mirror: str = "") -> Path:
    path = folder / "plan.yaml"
    path.write_text(PLAN.format(v1=v1, v2=v2) + mirror)
    return path

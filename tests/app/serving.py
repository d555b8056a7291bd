"""The control API of a controller on the shipped fakes, behind a real server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn

from crossfade.adapters.access import FileAudit, FileTokens
from crossfade.adapters.outcomes import PostedOutcomes, UserBehaviour
from crossfade.adapters.system import new_token
from crossfade.app.api import make_api
from crossfade.app.formkey import FormKey
from crossfade.app.meters import Meters
from crossfade.app.planfile import load_plan
from crossfade.app.web.access import Access
from crossfade.app.web.patience import Patience
from crossfade.app.web.served import Carried, Exposure, Served
from crossfade.core.access import Role, Token, digest_of
from crossfade.core.plan import Plan
from crossfade.engine.controller import Controller, Parts
from crossfade.ports import Clock
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

PLAN = load_plan(Path(__file__).parents[2] / "plans" / "trips-v2.yaml")
BASE = "/api/v1/rollouts/trips-v2"
TOKEN = "not a secret"


def served_with(
    controller: Controller,
    store: MemoryStore,
    telemetry: FakeTelemetry,
    clock: Clock,
    folder: Path,
    *,
    outcomes: PostedOutcomes | None = None,
    behaviour: UserBehaviour | None = None,
    wall: Clock | None = None,
    exposure: Exposure | None = None,
    plan: Plan = PLAN,
    meters: Meters | None = None,
    form_key: FormKey | None = None,
) -> Served:
    """Return what an API is made from; tokens and audit are files in the folder."""
    if folder.is_dir():
        (folder / "outcomes").mkdir(exist_ok=True)
    real = wall or ManualClock()
    carried = Carried(
        controller=controller,
        store=store,
        telemetry=telemetry,
        clock=clock,
        outcomes=outcomes or PostedOutcomes(plan, folder / "outcomes", key=b"", tick_s=10),
        behaviour=behaviour or UserBehaviour(plan, folder / "events", key=b""),
        meters=meters or Meters(),
        form_key=form_key or FormKey(controller, store, new=lambda: bytes(range(32))),
    )
    return Served(
        rollouts={plan.name: carried},
        wall=real,
        access=Access(local=TOKEN, tokens=FileTokens(folder / "tokens.json"), now=real.now, new_secret=new_token),
        audit=FileAudit(folder / "audit.jsonl"),
        exposure=exposure or Exposure(),
    )


@asynccontextmanager
async def serving(served: Served) -> AsyncIterator[str]:
    """Serve an API on a free port and give its URL."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # whoever comes before the server runs waits for it
    config = uvicorn.Config(
        make_api(served), log_level="critical", lifespan="off", timeout_graceful_shutdown=5, http=Patience
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        served.end_streams()
        server.should_exit = True
        await task


@dataclass
class Asked:
    """A client of the API under test, and what stands behind it."""

    session: aiohttp.ClientSession
    url: str
    served: Served
    proxy: FakeProxy
    store: MemoryStore
    wall: ManualClock
    secrets: dict[str, str] = field(default_factory=dict)

    @property
    def carried(self) -> Carried:
        return self.served.rollouts[PLAN.name]

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {TOKEN}"} | headers
        async with self.session.get(self.url + path, headers=sent) as answer:
            return answer.status, await answer.json(content_type=None)

    async def post(self, verb: str, body: object = None, **headers: str) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {TOKEN}"} | headers
        async with self.session.post(f"{self.url}{BASE}/{verb}", json=body or {}, headers=sent) as answer:
            return answer.status, await answer.json()

    async def ask(self, method: str, path: str, **options: Any) -> aiohttp.ClientResponse:
        """Ask for anything, with no credentials but those given; return the answer, read."""
        answer = await self.session.request(method, self.url + path, **options)
        await answer.read()
        return answer

    async def token(self, name: str, role: Role, lasts_s: float | None = None) -> str:
        """Make a token, and return what a request is sent with."""
        secret, now = new_token(), self.wall.now()
        until = None if lasts_s is None else now + lasts_s
        await self.served.access.tokens.add(
            Token(name=name, role=role, digest=digest_of(secret), created_at=now, created_by="ada", expires_at=until)
        )
        self.secrets[name] = secret
        return f"Bearer {secret}"


@asynccontextmanager
async def asked(folder: Path, exposure: Exposure | None = None) -> AsyncIterator[Asked]:
    """Give a client of an API whose rollout has just begun."""
    clock, store, telemetry, wall = ManualClock(), MemoryStore(), FakeTelemetry(), ManualClock()
    proxy = FakeProxy(cohorts=tuple(PLAN.assignment.cohorts), rule=PLAN.assignment)
    await store.open()
    parts = Parts(store=store, proxy=proxy, switch=FakeRollback(proxy), telemetry=telemetry, clock=clock)
    controller = Controller(PLAN, parts)
    await controller.start()
    served = served_with(controller, store, telemetry, clock, folder, wall=wall, exposure=exposure)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session, serving(served) as url:
        yield Asked(session, url, served, proxy, store, wall)

"""Looking at 200 rollouts: pages, commands and API beside running controllers, and 100 open dashboards.

One process carries 200 rollouts out as `controller.py` does, each with a SQLite file. The one that is looked at has
lived for eight weeks: 483,840 rows of ticks in its store, 2,000 events, and a full trend for its charts. The rows are
short: no page and no command reads them, and what they hold would fill five gigabytes. Another process asks.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter  # noqa: TID251 - a benchmark is about time

import aiohttp
import click
import numpy as np
import sqlalchemy as sa
import uvicorn
import uvloop

from controller import (  # type: ignore[import-not-found]
    TICK_S,
    Carried,
    Watch,
    plan_of,
    some_ticks,
    sqlite_stores,
)
from crossfade.adapters.access import FileAudit, FileTokens
from crossfade.adapters.outcomes import PostedOutcomes, UserBehaviour
from crossfade.adapters.system import SystemClock, collect_cycles_seldom, new_key, new_token
from crossfade.app import views
from crossfade.app.api import make_api
from crossfade.app.control import Control
from crossfade.app.formkey import FormKey
from crossfade.app.trend import MOST, Trend
from crossfade.app.web import served as web
from crossfade.app.web.access import Access
from crossfade.app.web.patience import Patience

TOKEN = "of a benchmark"
WEEKS_S = 8 * 7 * 86_400.0
EVENTS = 2000
READERS = 100
RATE = 50.0
ONE = plan_of(0).name


# ── the process that is asked ───────────────────────────────────────────────────────────────────────────────


def grow_old(path: Path) -> None:
    """Give a rollout's store eight weeks of ticks."""
    count = int(WEEKS_S / TICK_S)
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < :count) "
                "INSERT INTO crossfade_ticks (rollout, number, data) SELECT :rollout, i, zeroblob(64) FROM n"
            ),
            {"count": count, "rollout": ONE},
        )
    engine.dispose()


async def live_through(carried: Carried, trend: Trend) -> None:
    """Give a rollout a history, and its charts all the points that they keep."""
    controller, plan = carried.controller, carried.plan
    for number in range((EVENTS - controller.rollout.revision) // 2):
        await controller.pause("bench", f"number {number}")
        await controller.resume("bench", "")
    await controller.tick()
    weight = views.weight(plan, controller.rollout.wanted_split(plan))
    for number in range(MOST):
        trend.note(controller, carried.clock.now() - WEEKS_S * (1 - number / MOST), weight)


async def serve(folder: Path, rollouts: int, told: Connection) -> None:
    """Carry rollouts out behind one API; answer each message with the times of the ticks since the one before."""
    ticks, watch, wall = some_ticks(), Watch(), SystemClock()
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with sqlite_stores(rollouts, folder) as stores:
        await asyncio.to_thread(grow_old, folder / "0.db")
        running = [Carried(plan_of(n), store, watch) for n, store in enumerate(stores)]
        shown = {}
        for one in running:
            await one.begin()
            name, trend = one.plan.name, Trend(folder / f"{one.plan.name}.jsonl")
            if name == ONE:
                await live_through(one, trend)
            outcomes = PostedOutcomes(one.plan, folder / name / "outcomes", key=b"", tick_s=TICK_S)
            shown[name] = web.Carried(
                controller=one.controller,
                store=one.store,
                telemetry=one.telemetry,
                clock=wall,
                outcomes=outcomes,
                behaviour=UserBehaviour(one.plan, folder / name / "events", key=b""),
                form_key=FormKey(one.controller, one.store, new=new_key),
                trend=trend,
            )
        access = Access(local=TOKEN, tokens=FileTokens(folder / "tokens.json"), now=wall.now, new_secret=new_token)
        served = web.Served(rollouts=shown, wall=wall, access=access, audit=FileAudit(folder / "audit.jsonl"))
        config = uvicorn.Config(make_api(served), log_level="warning", access_log=False, lifespan="off", http=Patience)
        server = uvicorn.Server(config)
        api = asyncio.create_task(server.serve(sockets=[listener]))
        collect_cycles_seldom()
        lives = [asyncio.create_task(one.live(ticks, TICK_S * n / rollouts)) for n, one in enumerate(running)]
        (folder / ONE).mkdir(exist_ok=True)
        Control(rollout=ONE, url=url, token=TOKEN, plan="", pid=os.getpid()).write(folder / ONE)
        told.send(url)
        while await asyncio.to_thread(told.recv):
            told.send(watch.with_news[:])
            watch.with_news.clear()
        served.end_streams()
        server.should_exit = True
        for task in lives:
            task.cancel()
        await asyncio.gather(api, *lives, return_exceptions=True)


def begin(folder: Path, rollouts: int, told: Connection) -> None:
    """Be the process that is asked."""
    uvloop.run(serve(folder, rollouts, told))


# ── the process that asks ───────────────────────────────────────────────────────────────────────────────────


async def times(what: Callable[[], Awaitable[object]], count: int, pause_s: float = 0.0) -> list[float]:
    """Return how long each of `count` runs took, in ms."""
    found = []
    for _ in range(count):
        began = perf_counter()
        await what()
        found.append((perf_counter() - began) * 1e3)
        await asyncio.sleep(pause_s)
    return found


async def at_rate(what: Callable[[], Awaitable[object]], rate: float, seconds: float) -> list[float]:
    """Return how long runs took that began evenly, each timed from when it was meant to begin, in ms."""
    start, found = perf_counter(), list[float]()

    async def one(due: float) -> None:
        await asyncio.sleep(max(0.0, due - perf_counter()))
        await what()
        found.append((perf_counter() - due) * 1e3)

    await asyncio.gather(*(one(start + number / rate) for number in range(int(rate * seconds))))
    return found


async def read_on(session: aiohttp.ClientSession, seen: list[int]) -> None:
    """Be an open dashboard: follow the changes, and fetch what has changed."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with session.get(f"/rollouts/{ONE}/changes", timeout=timeout) as stream:
        assert stream.status == 200
        async for line in stream.content:
            if line.startswith(b"event:"):
                async with session.get(f"/rollouts/{ONE}/live") as answer:
                    seen.append(len(await answer.read()))


async def status(folder: Path) -> None:
    """Run `crossfade status` as a person does."""
    command = [str(Path(sys.executable).with_name("crossfade")), "status", ONE, "--state", str(folder)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    assert await process.wait() == 0


def row(what: str, found: list[float], goal: str) -> None:
    """Print one line."""
    p50, p99 = np.percentile(found, [50, 99])
    print(f"| {what} | {p50:.1f} | {p99:.1f} | {goal} |", flush=True)


async def ask(url: str, folder: Path, told: Connection, seconds: float) -> None:
    """Measure, and print the table."""

    def ticks() -> list[float]:
        told.send(True)
        return [1e3 * value for value in told.recv()]

    connector = aiohttp.TCPConnector(limit=0)
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(url, connector=connector, cookie_jar=jar) as session:
        async with session.post("/login", json={"token": TOKEN}) as answer:
            assert answer.status == 200

        async def get(path: str) -> int:
            async with session.get(path) as answer:
                assert answer.status == 200, path
                return len(await answer.read())

        await asyncio.sleep(2 * TICK_S)  # until each rollout has had a tick
        print("| | p50, ms | p99 | goal |\n|---|---:|---:|---|")
        row("list of rollouts", await times(lambda: get("/"), 50, 0.05), "< 300 ms")
        row("page of a rollout", await times(lambda: get(f"/rollouts/{ONE}"), 50, 0.05), "< 500 ms")
        row("its chart's data", await times(lambda: get(f"/rollouts/{ONE}/trend.json"), 50, 0.05), "")
        row("`crossfade status`", await times(lambda: status(folder), 15), "< 300 ms")
        asked = await at_rate(lambda: get(f"/api/v1/rollouts/{ONE}"), RATE, seconds)
        row(f"API at {RATE:g} requests/s", asked, "p99 < 50 ms")
        ticks()
        await asyncio.sleep(seconds)
        row("tick, nobody looks", ticks(), "")
        seen = list[int]()
        readers = [asyncio.create_task(read_on(session, seen)) for _ in range(READERS)]
        await asyncio.sleep(TICK_S)
        ticks()
        await asyncio.sleep(seconds)
        row(f"tick, {READERS} open dashboards", ticks(), "as without")
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        assert len(seen) >= READERS, f"{len(seen)} fragments for {READERS} dashboards"
        print(f"\nThe open dashboards have fetched {len(seen)} fragments of the page.")


@click.command()
@click.option("--rollouts", default=200, show_default=True)
@click.option("--seconds", default=30.0, show_default=True)
def main(rollouts: int, seconds: float) -> None:
    """Look at many rollouts, and print a table."""
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = multiprocessing.get_context("spawn").Process(target=begin, args=(folder, rollouts, theirs))
        process.start()
        assert ours.poll(300), "the rollouts did not begin"
        try:
            asyncio.run(ask(ours.recv(), folder, ours, seconds))
        finally:
            ours.send(False)
            process.join(60)


if __name__ == "__main__":
    main()

"""200 rollouts in one process: how long ticks take, and what they cost, on SQLite and PostgreSQL.

Controllers, leases, stores and the clock are the real ones, and time is not compressed: each rollout gets a tick of
1,000 requests every 10 s, looks for gross breaches four times a second, and reads its proxy back and decides every
second. Proxies and collectors are the shipped doubles, whose answers cost next to nothing; `collector.py` and
`rollback.py` measure the real ones. The ticks are a real collector's.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter, process_time, time  # noqa: TID251 - a benchmark is about time
from types import TracebackType

import asyncpg
import click
import numpy as np
import uvloop

from collector import lines  # type: ignore[import-not-found]
from crossfade.adapters.collector import Collector
from crossfade.adapters.store import SqlStore
from crossfade.adapters.system import SystemClock, collect_cycles_seldom
from crossfade.app.planfile import load_plan
from crossfade.core.evidence.sums import Tick
from crossfade.core.plan import Plan
from crossfade.engine.controller import Controller, Parts
from crossfade.engine.lease import LeaseKeeper
from crossfade.engine.probe import Unwatched
from crossfade.ports import Fact, Span
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.telemetry import FakeTelemetry

PLAN = load_plan(Path(__file__).parents[1] / "plans" / "trips-v2.yaml")
TICK_S = 10.0
REQUESTS = 1000
"""In a tick: 100 requests/s."""
KINDS = 20
"""Different ticks, dealt out in turn."""
WARM_UP_S = 20.0
GOAL = 0.5
"""Of one core."""
WEEK_TICKS = 7 * 86_400 / TICK_S
SIZED = 1000
"""Ticks from which a week's size is told."""


class Watch(Unwatched):
    """Notes how long ticks took."""

    def __init__(self) -> None:
        self.with_news: list[float] = []
        self.without: list[float] = []

    def span(self, name: str, **facts: Fact) -> AbstractContextManager[Span]:
        """Time a tick; nothing else."""
        if name != "tick":
            return super().span(name, **facts)
        return _Timed(self.with_news if facts["ticks"] else self.without)


@dataclass
class _Timed:
    into: list[float]
    began: float = 0.0

    def __enter__(self) -> _Timed:
        self.began = perf_counter()
        return self

    def tell(self, **facts: Fact) -> None:
        """Ignore facts."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.into.append(perf_counter() - self.began)


@dataclass
class Carried:
    """One rollout on doubles and a real store."""

    plan: Plan
    store: SqlStore
    watch: Watch
    clock: SystemClock | ManualClock = field(default_factory=SystemClock)
    lasts_s: float = 10.0
    """Of the lease, real seconds."""
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    controller: Controller = field(init=False)
    lease: LeaseKeeper = field(init=False)

    def __post_init__(self) -> None:
        proxy = FakeProxy(cohorts=tuple(self.plan.assignment.cohorts))
        name = self.plan.name
        self.lease = LeaseKeeper(
            self.store, self.clock, rollout=name, holder=name, address="http://127.0.0.1", lasts_s=self.lasts_s
        )
        parts = Parts(
            store=self.store,
            proxy=proxy,
            switch=FakeRollback(proxy),
            telemetry=self.telemetry,
            clock=self.clock,
            lease=self.lease,
            probe=self.watch,
        )
        self.controller = Controller(self.plan, parts)

    async def begin(self) -> None:
        """Lead, start, and go to the phase in which half the users are on V2."""
        assert await self.lease.look()
        await self.controller.start()
        while self.controller.plan.phases[self.controller.rollout.phase].name != "half":
            await self.controller.promote("bench", "to the phase that is measured")

    async def live(self, ticks: Sequence[Tick], after_s: float) -> None:
        """Be fed and look until cancelled."""
        await asyncio.sleep(after_s)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.controller.run())
            group.create_task(self.lease.keep())
            group.create_task(self._fed(ticks))

    async def _fed(self, ticks: Sequence[Tick]) -> None:
        number = int(self.clock.now() // TICK_S)
        while True:
            self.feed(ticks, number)
            number += 1
            await asyncio.sleep(TICK_S)

    def feed(self, ticks: Sequence[Tick], number: int) -> None:
        """Close a tick."""
        self.telemetry.feed(replace(ticks[number % KINDS], number=number, start=number * TICK_S))


def plan_of(number: int) -> Plan:
    """Return the plan of one of many rollouts."""
    return replace(PLAN, name=f"trips-{number}")


def some_ticks() -> list[Tick]:
    """Return ticks as a collector makes them of the reference service's lines: 5 regions, facts, timings, a cohort."""
    clock = ManualClock(time() // TICK_S * TICK_S)
    collector = Collector(clock=clock, tick_s=TICK_S, lateness_s=0.0, key=b"k")
    found = []
    every = lines(REQUESTS * KINDS)
    for kind in range(KINDS):
        at = int(clock.now() * 1e6)
        for line in every[kind * REQUESTS : (kind + 1) * REQUESTS]:
            number, _, rest = line.split(b",", 2)
            collector.feed(b"%b,%d,%b" % (number, at, rest))
        clock.move(TICK_S)
        found += [tick for tick in collector.closed_ticks() if tick.cells]
    assert len(found) == KINDS, len(found)
    return found


# ── stores ──────────────────────────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def sqlite_stores(count: int, folder: Path) -> AsyncIterator[list[SqlStore]]:
    """Open one SQLite file for each rollout, as `serve` does."""
    first = SqlStore(f"sqlite:///{folder}/first.db")
    await first.open()  # the migrations are carried out once, and copied
    await first.close()
    stores = []
    for number in range(count):
        shutil.copy(folder / "first.db", folder / f"{number}.db")
        stores.append(SqlStore(f"sqlite:///{folder}/{number}.db"))
        await stores[-1].open()
    try:
        yield stores
    finally:
        for store in stores:
            await store.close()


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a server that ends with the benchmark; its files are synced, as they are in production."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    user = ["runuser", "-u", "nobody", "--"] if os.getuid() == 0 else []
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="crossfade-pg-") as folder:
        if user:
            shutil.chown(folder, "nobody")
        ctl, data = str(programs[-1]), f"{folder}/data"
        initdb = [str(programs[-1].with_name("initdb")), "-D", data, "-U", "crossfade", "-A", "trust", "-E", "UTF8"]
        control = [*user, ctl, "-D", data, "-l", f"{folder}/log", "-w"]
        _run(*user, *initdb, "--locale=C")
        _run(*control, "-o", f"-h 127.0.0.1 -p {port} -k {folder}", "start")
        try:
            yield f"postgresql://crossfade@127.0.0.1:{port}/postgres"
        finally:
            _run(*control, "-m", "immediate", "stop")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


@asynccontextmanager
async def postgresql_stores(count: int, url: str) -> AsyncIterator[list[SqlStore]]:
    """Open one store for all rollouts, as `serve --database` does."""
    store = SqlStore(url)
    await store.open()
    try:
        yield [store] * count
    finally:
        await store.close()


# ── measuring ───────────────────────────────────────────────────────────────────────────────────────────────


def memory() -> float:
    """Return this process's resident memory in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measure(stores: Sequence[SqlStore], ticks: Sequence[Tick], seconds: float) -> str:
    """Carry one rollout out for each of the stores; return their line of the table."""
    watch, count = Watch(), len(stores)
    rollouts = [Carried(plan_of(n), store, watch) for n, store in enumerate(stores)]
    for rollout in rollouts:
        await rollout.begin()
    collect_cycles_seldom()
    tasks = [asyncio.create_task(one.live(ticks, TICK_S * n / count)) for n, one in enumerate(rollouts)]
    try:
        await asyncio.sleep(WARM_UP_S)
        watch.with_news.clear()
        watch.without.clear()
        spent, began = process_time(), perf_counter()
        await asyncio.sleep(seconds)
        share = (process_time() - spent) / (perf_counter() - began)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    expected = count * seconds / TICK_S
    assert len(watch.with_news) > 0.9 * expected, f"{len(watch.with_news)} ticks of {expected:.0f}"
    held = [rollout for rollout in rollouts if rollout.controller.rollout.held_kind == "blind"]
    assert not held, f"{len(held)} rollouts were blind"
    cells = [f"{np.percentile(watch.with_news, q) * 1e3:.1f}" for q in (50, 99)]
    cells += [f"{np.percentile(watch.without, q) * 1e3:.2f}" for q in (50, 99)]
    return " | ".join([f"{count}", *cells, f"{share:.0%}", f"{memory():.0f}"])


async def live_through(store: SqlStore, ticks: Sequence[Tick], count: int) -> None:
    """Have one rollout live through ticks as fast as it can, on a clock of its own."""
    clock = ManualClock()
    one = Carried(replace(PLAN, name="sized"), store, Watch(), clock=clock, lasts_s=1e9)
    await one.begin()
    first = int(clock.now() // TICK_S) + 1
    for number in range(first, first + count):
        one.feed(ticks, number)
        clock.move(TICK_S)
        await one.controller.tick()


async def week_in_sqlite(ticks: Sequence[Tick], folder: Path) -> float:
    """Return the MB that a rollout-week takes in a SQLite file."""
    path = folder / "sized.db"
    sizes = []
    for count in (1, SIZED):
        path.unlink(missing_ok=True)
        store = SqlStore(f"sqlite:///{path}")
        await store.open()
        await live_through(store, ticks, count)
        await store.close()
        sizes.append(path.stat().st_size)
    return (sizes[1] - sizes[0]) / SIZED * WEEK_TICKS / 2**20


async def week_in_postgresql(ticks: Sequence[Tick], url: str) -> float:
    """Return the MB that a rollout-week takes in PostgreSQL, indexes included."""
    store = SqlStore(url)
    await store.open()
    before = await _size(url)
    await live_through(store, ticks, SIZED)
    await store.close()
    return (await _size(url) - before) / SIZED * WEEK_TICKS / 2**20


async def _size(url: str) -> int:
    connection = await asyncpg.connect(url)
    query = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'crossfade%'"
    # What an update leaves behind is used again in time, and is no growth; this run is too short for that.
    await connection.execute("VACUUM FULL crossfade_evidence")
    size = int(await connection.fetchval(query))
    await connection.close()
    return size


def sync_ms(folder: Path) -> float:
    """Return the median ms that a write to the disk takes: no commit is shorter, and a tick has two."""
    found = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(50):
            began = perf_counter()
            file.write(b"x")
            os.fsync(file.fileno())
            found.append((perf_counter() - began) * 1e3)
    return float(np.median(found))


async def run(rollouts: int, seconds: float) -> None:
    """Measure on both kinds of store, one after the other, and print a table."""
    ticks = some_ticks()
    with tempfile.TemporaryDirectory() as name:
        sync = sync_ms(Path(name))
    print(
        f"{rollouts} rollouts on doubles of proxy and collector, {seconds:g} s of real time, ticks of {TICK_S:g} s; "
        f"a synced write takes {sync:.1f} ms on this disk\n"
    )
    print(
        "| store | rollouts | tick p50, ms | p99 | look without a tick p50, ms | p99 | CPU, of a core | memory, MB "
        "| MB per rollout-week |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with sqlite_stores(rollouts, folder) as stores:
            line = await measure(stores, ticks, seconds)
        print(f"| SQLite, a file each | {line} | {await week_in_sqlite(ticks, folder):.0f} |", flush=True)
    with postgresql() as url:
        async with postgresql_stores(rollouts, url) as stores:
            line = await measure(stores, ticks, seconds)
        print(f"| PostgreSQL, shared | {line} | {await week_in_postgresql(ticks, url):.0f} |")
    print(f"\nGoal: 200 rollouts at less than {GOAL:.0%} of one core. The database server's own work is not in it.")


@click.command()
@click.option("--rollouts", default=200, show_default=True)
@click.option("--seconds", default=60.0, show_default=True)
def main(rollouts: int, seconds: float) -> None:
    """Carry many rollouts out, and print a table."""
    uvloop.run(run(rollouts, seconds))


if __name__ == "__main__":
    main()

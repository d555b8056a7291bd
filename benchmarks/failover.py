"""How long what has been decided takes until it is applied, a restart until its first look, and a takeover.

    python benchmarks/failover.py [--rounds N]

The first table is the engine with its real parts in this process: controller, store, HAProxy, rollback switch; without
users. `promote` is intent, proxy, read-back and fact. The second is `crossfade serve` at its defaults, V1 and V2 behind
its proxy: killed and started again, until its first decision can be read; and stopped beside a second one, until that
has made its first decision as leader. Bytecode is cached, as `pip install` leaves it. PostgreSQL is our own server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.chaos import Postgres
from tests.adapters.haproxy_origin import make_plan
from tests.e2e.site import Services, Site, now, until
from tests.tripsearch.running import starter

from crossfade.adapters.haproxy import HaproxyProxy, HaproxyRollback
from crossfade.adapters.store import SqlStore
from crossfade.adapters.system import SystemClock
from crossfade.app.client import Client, local_target
from crossfade.app.control import read_control
from crossfade.core.plan import HOUR, Phase
from crossfade.core.split import Split
from crossfade.engine.controller import Controller, Parts
from crossfade.errors import CrossfadeError
from crossfade.testing.telemetry import FakeTelemetry

SHARES = (500, 5000, 10_000)


def _row(what: str, seconds: list[float]) -> str:
    p50, p99 = np.quantile(seconds, [0.5, 0.99]) * 1000
    return f"| {what} | {len(seconds)} | {p50:,.1f} | {p99:,.1f} | {max(seconds) * 1000:,.1f} |"


async def _timed(seconds: list[float], act: Callable[[], Awaitable[object]]) -> None:
    began = time.perf_counter()  # noqa: TID251 - this is about real time
    await act()
    seconds.append(time.perf_counter() - began)  # noqa: TID251 - the same


async def decided_to_applied(folder: Path, database: str, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of promotions and of rollbacks, each until it is applied and recorded."""
    phases = tuple(
        Phase(name=f"p{share}", split=Split(everyone=share), target=share, soak_s=HOUR, gates=()) for share in SHARES
    )
    plan = replace(make_plan(["127.0.0.1:1"], ["127.0.0.1:2"]), phases=phases, digest="one")
    store, clock = SqlStore(database), SystemClock()
    proxy, switch = HaproxyProxy(plan, folder, collector="127.0.0.1:1", clock=clock), HaproxyRollback(folder)
    parts = Parts(store=store, proxy=proxy, switch=switch, telemetry=FakeTelemetry(), clock=clock)
    promotions: list[float] = []
    rollbacks: list[float] = []
    try:
        await store.open()
        controller = Controller(plan, parts)
        await controller.start()
        for _ in range(rounds):
            for _ in SHARES[1:]:
                await _timed(promotions, lambda: controller.promote("bench", ""))
            await _timed(rollbacks, lambda: controller.rollback("bench", ""))
            await controller.retry("p500", "bench", "")
    finally:
        await switch.close()
        await proxy.stop()
        await store.close()
    return promotions, rollbacks


class Defaults:
    """`crossfade serve` at its defaults, and a second one."""

    def __init__(self, site: Site, database: str) -> None:
        self.site = site
        self._options = ("--database", database)
        self._env = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(site.folder / "bytecode")}
        self.serving: list[subprocess.Popen[str]] = []

    def restart(self) -> float:
        """Kill the only one and start it; return the seconds until its first decision."""
        self.end()
        began = now()
        self.serving = [self.site.serve(*self._options, wait=False, **self._env)]
        until("the first decision", self.decides, 60)
        return now() - began

    def take_over(self) -> float:
        """Stop the leader beside a second one; return the seconds until that decides. The first follows then."""
        while len(self.serving) < 2:
            self.serving.append(self.site.serve(*self._options, wait=False, **self._env))
            known = self.site.log().count("control API at")
            until("the second follows", lambda known=known: self.site.log().count("control API at") > known, 60)  # type: ignore[misc]
        leader = self.serving.pop(0)
        began = now()
        leader.send_signal(signal.SIGSTOP)
        try:
            until("the takeover", self.decides, 60)
            return now() - began
        finally:
            leader.send_signal(signal.SIGCONT)
            self.serving.append(leader)
            until("the old one follows", lambda: self.site.log().rstrip().endswith("it follows"), 60)

    def decides(self) -> bool:
        """Tell whether the first of ours leads and has decided something."""
        assert self.serving[0].poll() is None, self.site.log()[-2000:]
        with suppress(CrossfadeError):
            control = read_control(self.site.home)
            if control.pid != self.serving[0].pid:
                return False
            status = Client(local_target(control), timeout_s=1.0).get("")
            return status["fenced"] is None and bool(status["decision"])
        return False

    def end(self) -> None:
        for process in self.serving:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(20)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=10)
    options = parser.parse_args()
    applied, lived = [], []
    with tempfile.TemporaryDirectory(prefix="crossfade-failover-") as name:
        folder = Path(name)
        (folder / "data").mkdir()
        postgres = Postgres()
        try:
            stores = (("SQLite", f"sqlite:///{folder}/one.db"), ("PostgreSQL", postgres.url))
            for store, url in stores:
                times = asyncio.run(decided_to_applied(folder / f"proxy-{store}", url, options.rounds))
                applied += [_row(f"{store}: {what}", s) for what, s in zip(("promote", "rollback"), times, strict=True)]
            with starter(folder, folder / "data") as made:
                services = Services(made)
                services.start()
                for store, url in stores:
                    (folder / store).mkdir()
                    site = Site(folder / store, services)
                    pair = Defaults(site, url)
                    try:
                        pair.restart()  # compiles
                        lived.append(_row(f"{store}: restart", [pair.restart() for _ in range(options.restarts)]))
                        lived.append(_row(f"{store}: takeover", [pair.take_over() for _ in range(options.restarts)]))
                    finally:
                        pair.end()
                        site.end()
        finally:
            postgres.end()
    head = ("| | times | p50 ms | p99 ms | worst ms |", "|---|---:|---:|---:|---:|")
    print(f"Decided to applied and recorded, load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print("\n".join((*head, *applied, "", *head, *lived)))


if __name__ == "__main__":
    main()

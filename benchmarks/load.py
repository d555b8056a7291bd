"""The load driver beside wrk: the same target, as many connections, as many requests a second.

The target takes 20 to 80 ms for each answer, in the same order for everyone, so that what is measured is how well
each of the two tells that, and not who is faster. 50 connections that ask again at once are 1,000 requests a second.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import uvloop

from crossfade.adapters.system import SystemClock, cpu_seconds
from crossfade.app.load.options import LoadOptions, work_of
from crossfade.app.load.run import Driver

ROUNDS, SECONDS, CONNECTIONS = 5, 10, 50
DELAYS = [0.02 + 0.06 * (n * 37 % 100) / 100 for n in range(100)]
PLAN = """\
crossfade: 1
rollout: load
api:
  entry: /
  listen: 127.0.0.1:{port}
  v1: {{path: /v1, upstreams: [127.0.0.1:1]}}
  v2: {{path: /v2, upstreams: [127.0.0.1:2]}}
assignment: {{user: [header X-User-Id], users: 100}}
metrics: {{failure_rate: {{target: "<= 1%"}}}}
phases:
  - {{name: half, split: 50%, soak: 1d}}
"""
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Target(asyncio.Protocol):
    """Answers each request after the next of the delays."""

    number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport, self._held = transport, b""

    def data_received(self, data: bytes) -> None:
        self._held += data
        while b"\r\n\r\n" in self._held:
            _, _, self._held = self._held.partition(b"\r\n\r\n")
            Target.number += 1
            asyncio.get_running_loop().call_later(DELAYS[Target.number % len(DELAYS)], self._say)

    def _say(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(REPLY)  # type: ignore[attr-defined]


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Target, "127.0.0.1", 0, backlog=2000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


Result = tuple[int, int, float, float, float]
"""Requests, failures, p50 and p99 in milliseconds, share of a core."""


def drive(plan: Path, **options: object) -> Result:
    """Return what a run of the driver came to."""

    async def run() -> Driver:
        driver = Driver(work_of(LoadOptions(plan=plan, for_=f"{SECONDS}s", **options)), SystemClock())  # type: ignore[arg-type]
        await driver.run()
        return driver

    before = cpu_seconds()
    driver = uvloop.run(run())
    total = driver.tally.total()
    p50, p99 = total.latency.quantile_ms(0.5), total.latency.quantile_ms(0.99)
    return total.requests, total.failures, p50 or 0.0, p99 or 0.0, (cpu_seconds() - before) / SECONDS


def wrk(port: int) -> Result:
    """Return the same of wrk; its share of a core is not told."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    quantiles = [float(re.findall(rf"{q}%\s+([0-9.]+)ms", said)[0]) for q in (50, 99)]
    requests = re.search(r"(\d+) requests in", said)
    assert requests
    return int(requests[1]), 0, quantiles[0], quantiles[1], float("nan")


def main() -> None:
    if "serve" in sys.argv:
        uvloop.run(serve())
        return
    if shutil.which("wrk") is None:
        print("needs wrk: apt-get install wrk")
        return
    target = subprocess.Popen([sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True)
    assert target.stdout is not None
    port = int(target.stdout.readline())
    found: dict[str, list[Result]] = {}
    try:
        with TemporaryDirectory() as folder:
            plan = Path(folder) / "plan.yaml"
            plan.write_text(PLAN.format(port=port))
            for _ in range(ROUNDS):
                runs: dict[str, Callable[[], Result]] = {
                    f"wrk, {CONNECTIONS} connections": partial(wrk, port),
                    f"**crossfade load**, {CONNECTIONS} users without a pause": partial(
                        drive, plan, users=CONNECTIONS, think="0s"
                    ),
                    "**crossfade load**, 1,000 users thinking 1 s": partial(drive, plan, users=1000, think="1s"),
                    "**crossfade load**, 1,000/s": partial(drive, plan, users=1000, rate="1000/s"),
                }
                for name, run in runs.items():
                    found.setdefault(name, []).append(run())
    finally:
        target.kill()
        target.wait(10)
    report(found)


def report(found: dict[str, list[Result]]) -> None:
    print(f"{ROUNDS} interleaved rounds of {SECONDS} s, medians; the target takes 20 to 80 ms, p99 of that 79.4\n")
    print("| driver | requests/s | p50 ms | p99 ms | p99 beside wrk's | of a core | failed |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    base = 0.0
    for name, runs in found.items():
        requests, _, p50, p99, core = (statistics.median(column) for column in zip(*runs, strict=True))
        base = base or p99
        used = "" if core != core else f"{core:.1%}"  # noqa: PLR0124 - NaN: not told
        failed = sum(run[1] for run in runs)
        print(f"| {name} | {requests / SECONDS:,.0f} | {p50:.1f} | {p99:.1f} | {p99 / base:.3f} | {used} | {failed} |")


if __name__ == "__main__":
    main()

"""How long V2 goes on receiving requests after a rollback is commanded, under load, and whether any request fails.

    python benchmarks/rollback.py [--rollbacks N]

HAProxy as Crossfade runs it, wrk on 32 keep-alive connections. Each round raises V2 to 100 %, waits until V2 receives,
and calls `engine.rollback.roll_back` (state files, kill, splits, read-back). V2's origin keeps the time of its last
request in shared memory; both clocks are the machine's monotonic one. Needs wrk (Debian: `apt-get install wrk`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import mmap
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from crossfade.adapters.haproxy import HaproxyProxy, HaproxyRollback
from crossfade.adapters.system import SystemClock
from crossfade.core.plan import Api, AssignmentRule, Key, KeySource, Phase, Plan, Upstream
from crossfade.core.split import Split
from crossfade.engine.rollback import roll_back
from crossfade.ports import ProxyState

SETTLE_S = 0.06
RAISED_S = 5.0

ORIGIN = """
import asyncio, mmap, struct, sys, time
port, path = int(sys.argv[1]), sys.argv[2]
with open(path, "r+b") as file:
    shared = mmap.mmap(file.fileno(), 16)
count = 0
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Length: 2\\r\\n\\r\\n{}"

class Origin(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        global count
        requests = data.count(b"\\r\\n\\r\\n")
        if requests:
            count += requests
            struct.pack_into("dq", shared, 0, time.monotonic(), count)
            self.transport.write(ANSWER * requests)

async def main():
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()

asyncio.run(main())
"""
LOAD = """
local n = 0
function request()
  n = n % 2000 + 1
  return wrk.format("GET", "/trips/search", {["X-User-Id"] = "user-" .. n})
end
"""


class Last:
    """When V2 received its last request, and how many it had by then."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(16))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 16)

    def read(self) -> tuple[float, int]:
        """Return (monotonic seconds, requests)."""
        at, count = struct.unpack_from("dq", self._shared, 0)
        return float(at), int(count)


def make_plan(v1: int, v2: int, listen: int) -> Plan:
    """Return a plan with the shipped one's keys."""
    return Plan(
        name="benchmark",
        api=Api(
            entry="/trips/search",
            v1=Upstream(path="/v1/trips/search", upstreams=(f"127.0.0.1:{v1}",)),
            v2=Upstream(path="/v2/trips/search", upstreams=(f"127.0.0.1:{v2}",)),
            listen=f"127.0.0.1:{listen}",
        ),
        assignment=AssignmentRule(
            user=(Key(KeySource.HEADER, "X-User-Id"), Key(KeySource.ADDRESS)),
            salt=1,
            cohorts={"beta": frozenset(f"user-{n}" for n in range(500))},
        ),
        metrics=(),
        phases=(Phase(name="all", split=Split(), target=0, soak_s=0, gates=()),),
    )


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def wait_for_port(port: int) -> None:
    """Return once somebody listens."""
    for _ in range(500):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await SystemClock().sleep(0.01)
    raise RuntimeError(f"nothing came up at port {port}")


def start_origin(port: int, times: Path) -> subprocess.Popen[bytes]:
    """Start a service that notes in `times` when it received its last request."""
    return subprocess.Popen([sys.executable, "-c", ORIGIN, str(port), str(times)])


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def one(proxy: HaproxyProxy, switch: HaproxyRollback, last: Last, generation: int) -> tuple[float, float]:
    """Raise and roll back once; return seconds to the report and to V2's last request (negative: before)."""
    clock = SystemClock()
    _, before = last.read()
    await proxy.apply(ProxyState(generation=generation, split=Split(everyone=10_000)))
    deadline = clock.monotonic() + RAISED_S
    while last.read()[1] < before + 200:
        if clock.monotonic() > deadline:
            raise RuntimeError("V2 receives nothing after a raise to 100 %")
        await clock.sleep(0.002)
    commanded = clock.monotonic()
    report = await roll_back([switch], generation + 1, clock)
    reported = clock.monotonic()
    if not report.complete:
        raise RuntimeError(report.sentence)
    await clock.sleep(SETTLE_S)
    return reported - commanded, last.read()[0] - commanded


async def measure(directory: Path, rollbacks: int) -> None:
    """Run the rounds and print the table."""
    v1, v2, listen = free_port(), free_port(), free_port()
    times = {version: Last(directory / version) for version in ("v1", "v2")}
    origins = [start_origin(port, directory / name) for name, port in (("v1", v1), ("v2", v2))]
    await asyncio.gather(wait_for_port(v1), wait_for_port(v2))
    (directory / "load.lua").write_text(LOAD)
    proxy = HaproxyProxy(make_plan(v1, v2, listen), directory / "proxy", collector="127.0.0.1:1", clock=SystemClock())
    switch = HaproxyRollback(directory / "proxy")
    await proxy.start()
    load = await asyncio.create_subprocess_exec(
        "wrk", "-t1", "-c32", "-d3600s", "-s", str(directory / "load.lua"), f"http://127.0.0.1:{listen}/",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        results = [await one(proxy, switch, times["v2"], 2 * number + 1) for number in range(rollbacks)]
        load.send_signal(2)
        output = (await load.communicate())[0].decode()
    finally:
        await switch.close()
        await proxy.stop()
        for origin in origins:
            origin.terminate()
            origin.wait()
    failed = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", output))
    failed += sum(int(n) for n in re.findall(r"(?:connect|read|write|timeout) (\d+)", output))
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    total = re.search(r"(\d+) requests in", output)
    print(f"\n{rollbacks} raises to 100 % and {rollbacks} rollbacks under load on {os.cpu_count()} cores")
    print("\n| | p50 | p99 | worst |\n|---|---:|---:|---:|")
    for name, values in (
        ("rollback commanded to reported (files, memory, read-back), ms", [report for report, _ in results]),
        ("rollback commanded to V2's last request, ms", [max(0.0, at) for _, at in results]),
    ):
        row = " | ".join(
            f"{value * 1000:.1f}" for value in (percentile(values, 0.5), percentile(values, 0.99), max(values))
        )
        print(f"| {name} | {row} |")
    print(f"\n{total[1] if total else '?'} requests, {rate[1] if rate else '?'} requests/s, failed: {failed}")
    if failed:
        raise RuntimeError(output)


def main() -> None:
    """Read the options and measure."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rollbacks", type=int, default=60)
    chosen = options.parse_args()
    if shutil.which("wrk") is None:
        print("skipped: wrk is missing; `apt-get install wrk` enables this benchmark")
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        try:
            asyncio.run(measure(Path(name), chosen.rollbacks))
        except RuntimeError as error:
            raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()

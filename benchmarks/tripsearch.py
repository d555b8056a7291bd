"""V2 beside V1, one worker each: requests a second at saturation, in interleaved rounds of wrk.

Every worker is pinned to one core, wrk and the weather provider to the other. The questions are 60, so that after the
warm-up flights and hotels come from the cache in both versions and what is left is what V2 does more.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

CONNECTIONS = 32
QUERIES = [f"from=JFK&to={to}&date=2026-03-{day:02d}" for to in ("LAX", "SFO", "BOS") for day in range(1, 21)]
KEPT = ("--weather-keep", "5", "--weather-stale", "60")


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def serving(core: int, folder: str, service: str, *options: str) -> Iterator[int]:
    """Run a process on a core until the end; its port."""
    port = free_port()
    command = [sys.executable, "-m", "tripsearch", service, "--port", str(port), *options]
    process = subprocess.Popen(
        command,
        env={**os.environ, "TRIPSEARCH_DATA_DIR": folder},
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),  # noqa: PLW1509 - no threads yet
    )
    try:
        for _ in range(600):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                break
            time.sleep(0.05)  # noqa: TID251 - a benchmark waits for its processes
        yield port
    finally:
        process.terminate()
        process.wait(10)


def wrk(folder: str, port: int, path: str, seconds: int, core: int) -> tuple[float, float]:
    """Return good answers per second and p99 in milliseconds."""
    script = Path(folder) / "ask.lua"
    script.write_text(
        f"local queries = {{{','.join(json.dumps(q) for q in QUERIES)}}}\nlocal n = 0\n"
        f'request = function() n = n + 1; return wrk.format("GET", "{path}?" .. queries[n % #queries + 1]) end\n'
    )
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency"]
    command += ["-s", str(script), f"http://127.0.0.1:{port}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + 60).stdout
    if "Non-2xx" in said:
        raise SystemExit(f"not every answer was good:\n{said}")
    number, unit = re.findall(r"99%\s+([0-9.]+)(us|ms|s)", said)[0]
    rate = float(re.findall(r"Requests/sec:\s+([0-9.]+)", said)[0])
    return rate, float(number) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def main() -> None:
    """Interleave the rounds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("needs wrk: apt-get install wrk")
    worker, rest = sorted(os.sched_getaffinity(0))[:2]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        weather = stack.enter_context(serving(rest, folder, "weather-provider"))
        url = ("--weather", f"http://127.0.0.1:{weather}")
        ports = {
            "V1": (stack.enter_context(serving(worker, folder, "v1")), "/v1/trips/search"),
            "V2 (default)": (stack.enter_context(serving(worker, folder, "v2", *url)), "/v2/trips/search"),
            "V2, `--weather-busy 0`: asked each time": (
                stack.enter_context(serving(worker, folder, "v2", *url, "--weather-busy", "0")),
                "/v2/trips/search",
            ),
            f"V2, `{' '.join(KEPT)}`": (
                stack.enter_context(serving(worker, folder, "v2", *url, *KEPT)),
                "/v2/trips/search",
            ),
        }
        for port, path in ports.values():
            wrk(folder, port, path, 1, rest)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ports}
        for _ in range(options.rounds):
            for name, (port, path) in ports.items():
                found[name].append(wrk(folder, port, path, options.seconds, rest))
    report(found, options.rounds, options.seconds)


def report(found: dict[str, list[tuple[float, float]]], rounds: int, seconds: int) -> None:
    """Print medians, and ratios within each round."""
    base = next(iter(found.values()))
    print(f"{rounds} interleaved rounds of {seconds} s, {CONNECTIONS} connections, one worker on one core\n")
    print("| | requests/s | beside V1 | p99, ms |\n|---|---:|---:|---:|")
    for name, runs in found.items():
        ratio = statistics.median(run[0] / peer[0] for run, peer in zip(runs, base, strict=True))
        rate, p99 = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"| {name} | {rate:,.0f} | {ratio:.2f} | {p99:.1f} |")


if __name__ == "__main__":
    main()

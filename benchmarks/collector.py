"""CPU seconds per million telemetry lines: the collector against the obvious loop, in one run."""

from __future__ import annotations

import asyncio
import csv
import io
import multiprocessing
import socket
import time
from collections.abc import Callable
from urllib.parse import quote, unquote

import numpy as np
import uvloop

from crossfade.adapters.collector import Collector
from crossfade.adapters.system import SystemClock
from crossfade.core.evidence.sums import latency_bin
from crossfade.core.facts import parse_facts
from crossfade.core.outcome import outcome_of

LINES = 200_000
BATCH = 1000
"""Lines summed together: a tenth of a second at 10,000 requests/s."""
ROUNDS = 5


def lines(count: int, *, decimals: int = 1) -> list[bytes]:
    """Return lines as the proxy writes them of the reference service: a quarter on V2, half cached, 0.5 % failed."""
    draw = np.random.default_rng(1)
    now = int(time.time() * 1e6)  # noqa: TID251 - the collector drops what is not of now
    result = []
    for i in range(count):
        version = "v2" if draw.random() < 0.25 else "v1"
        status = 500 if draw.random() < 0.005 else 200
        facts = "flights=1, hotels=1"
        if version == "v2":
            facts += f", weather={'fallback' if draw.random() < 0.1 else 'ok'}"
        if draw.random() < 0.5:
            facts += ", cache=hit"
        else:
            facts += f", cache=miss, db={draw.gamma(2.0, 2.0):.{decimals}f}"
        if version == "v2":
            facts += ", weather-breaker=closed"
        region = ("eu-west", "us-east", "us-west", "asia", "africa")[int(draw.integers(5))]
        cohort = "beta" if draw.random() < 0.1 else "-"
        client = f"app-{int(draw.integers(12))}"
        microseconds = int(draw.gamma(2.0, 2000.0))
        user = int(draw.integers(-(2**63), 2**63))
        result.append(
            f"{i},{now + i // 100},{version},{status},{microseconds},{microseconds // 1000},{cohort},0,-,{user},"
            f"{region},{client},----,0,{version}-1,{quote(facts, safe='')},-".encode()
        )
    return result


def ours(batches: list[bytes]) -> float:
    """Feed a collector; return CPU seconds."""
    collector = Collector(clock=SystemClock(), tick_s=10.0, lateness_s=3600.0, key=b"k")
    before = time.process_time()
    for batch in batches:
        collector.feed(batch)
    spent = time.process_time() - before
    _check(collector)
    return spent


def over_tcp(batches: list[bytes]) -> float:
    """Have another process send the same through a socket, as fast as it can; return this process's CPU seconds."""

    async def receive() -> float:
        done = asyncio.Event()
        collector = Collector(clock=SystemClock(), tick_s=10.0, lateness_s=3600.0, key=b"k", on_failure=done.set)
        await collector.start()
        sender = multiprocessing.get_context("fork").Process(target=_send, args=(collector.address, batches))
        before = time.process_time()
        sender.start()
        while collector.counters()["received"] < LINES:
            done.clear()
            await done.wait()
        spent = time.process_time() - before
        sender.join()
        _check(collector)
        await collector.close()
        return spent

    return uvloop.run(receive())


def _send(address: tuple[str, int], batches: list[bytes]) -> None:
    with socket.create_connection(address) as stream:
        for batch in batches:
            stream.sendall(batch + b"\n")


def _check(collector: Collector) -> None:
    counters = collector.counters()
    expected = {"received": LINES, "lost": 0, "malformed": 0, "late": 0}
    assert {name: counters[name] for name in expected} == expected, counters


def obvious(batches: list[bytes]) -> float:
    """Do the same sums with csv and dictionaries, a row at a time; return CPU seconds."""
    before = time.process_time()
    cells: dict[tuple[str, str, str], dict[str, float]] = {}
    for batch in batches:
        for row in csv.reader(io.StringIO(batch.decode())):
            cell = cells.setdefault((row[2], row[10], row[6]), {})
            cell["requests"] = cell.get("requests", 0) + 1
            if outcome_of(int(row[3]), row[12], row[14]).is_failure:
                cell["failures"] = cell.get("failures", 0) + 1
            latency = f"latency {latency_bin(int(row[4]) / 1000)}"
            cell[latency] = cell.get(latency, 0) + 1
            facts = parse_facts(unquote(row[15]))
            for name, value in facts.values:
                cell[f"{name}={value}"] = cell.get(f"{name}={value}", 0) + 1
            for name, timing in facts.timings:
                cell[name] = cell.get(name, 0.0) + timing
    return time.process_time() - before


def cut(data: list[bytes]) -> list[bytes]:
    """Join lines to batches."""
    return [b"\n".join(data[i : i + BATCH]) for i in range(0, LINES, BATCH)]


def main() -> None:
    """Interleave the rounds and print a table."""
    batches, precise = cut([*lines(LINES - 1), _failure()]), cut(lines(LINES, decimals=3))
    work: dict[str, Callable[[], float]] = {
        "crossfade collector, over TCP": lambda: over_tcp(batches),
        "crossfade collector, fed directly": lambda: ours(batches),
        "the same, timings of three decimals": lambda: ours(precise),
        "csv and dictionaries": lambda: obvious(batches),
    }
    spent: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, run in work.items():
            spent[name].append(run() * 1e6 / LINES)
    median = {name: float(np.median(values)) for name, values in spent.items()}
    first = next(iter(median.values()))
    print(f"| {LINES:,} lines, {ROUNDS} interleaved rounds, median | CPU s per million | ratio |\n|---|---:|---:|")
    for name, seconds in median.items():
        print(f"| {name} | {seconds:.2f} | {seconds / first:.2f} |")
    print("\nGoal: at most 3 CPU seconds per million requests.")


def _failure() -> bytes:
    """Return a last line that is a failure of V2: it wakes who waits for the end."""
    now = int(time.time() * 1e6)  # noqa: TID251 - as above
    return f"{LINES - 1},{now},v2,500,100,1,-,0,-,5,eu-west,app-1,----,0,v2-1,-,-".encode()


if __name__ == "__main__":
    main()

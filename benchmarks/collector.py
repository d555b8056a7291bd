"""CPU seconds per million telemetry lines: the collector against the obvious loop, in one run."""

from __future__ import annotations

import csv
import io
import time
from urllib.parse import unquote

import numpy as np

from crossfade.adapters.collector import Collector
from crossfade.adapters.system import SystemClock
from crossfade.core.evidence.sums import latency_bin
from crossfade.core.facts import parse_facts

LINES = 200_000
BATCH = 4096
ROUNDS = 5


def lines(count: int) -> list[bytes]:
    """Return lines as the proxy writes them, 5 % to V2, 0.5 % failures, half of the answers from a cache."""
    draw = np.random.default_rng(1)
    now = int(time.time() * 1e6)  # noqa: TID251 - the collector drops what is not of now
    result = []
    for i in range(count):
        version = "v2" if draw.random() < 0.05 else "v1"
        status = 500 if draw.random() < 0.005 else 200
        hit = draw.random() < 0.5
        facts = f"flights%3D1%2C%20hotels%3D1%2C%20cache%3D{'hit' if hit else 'miss'}"
        if not hit:
            facts += f"%2C%20db%3D{draw.gamma(2.0, 2.0):.1f}"
        region = ("eu", "us", "asia")[int(draw.integers(3))]
        microseconds = int(draw.gamma(2.0, 2000.0))
        user = int(draw.integers(-(2**63), 2**63))
        result.append(
            f"{i},{now + i // 100},{version},{status},{microseconds},{microseconds // 1000},-,0,{user},{region},app-1,"
            f"----,0,{version}a,{facts}".encode()
        )
    return result


def ours(batches: list[bytes]) -> None:
    """Feed a collector."""
    collector = Collector(clock=SystemClock(), tick_s=10.0, lateness_s=15.0, key=b"k")
    for batch in batches:
        collector.feed(batch)
    assert collector.counters()["received"] == LINES, collector.counters()
    assert collector.counters()["malformed"] == 0, collector.counters()


def obvious(batches: list[bytes]) -> None:
    """Do the same sums with csv and dictionaries, a row at a time."""
    cells: dict[tuple[str, str], dict[str, int]] = {}
    for batch in batches:
        for row in csv.reader(io.StringIO(batch.decode())):
            cell = cells.setdefault((row[2], row[9]), {})
            cell["requests"] = cell.get("requests", 0) + 1
            if int(row[3]) >= 500:
                cell["failures"] = cell.get("failures", 0) + 1
            latency = f"latency {latency_bin(int(row[4]) / 1000)}"
            cell[latency] = cell.get(latency, 0) + 1
            for name, value in parse_facts(unquote(row[14])).values:
                cell[f"{name}={value}"] = cell.get(f"{name}={value}", 0) + 1


def main() -> None:
    """Interleave the rounds and print a table."""
    data = lines(LINES)
    batches = [b"\n".join(data[i : i + BATCH]) for i in range(0, LINES, BATCH)]
    spent: dict[str, list[float]] = {"crossfade collector": [], "csv and dictionaries": []}
    for _ in range(ROUNDS):
        for name, work in zip(spent, (ours, obvious), strict=True):
            before = time.process_time()
            work(batches)
            spent[name].append((time.process_time() - before) * 1e6 / LINES)
    best = {name: float(np.median(values)) for name, values in spent.items()}
    print(f"| {LINES:,} lines, {ROUNDS} interleaved rounds, median | CPU s per million | ratio |\n|---|---:|---:|")
    for name, seconds in best.items():
        print(f"| {name} | {seconds:.2f} | {seconds / best['crossfade collector']:.2f} |")


if __name__ == "__main__":
    main()

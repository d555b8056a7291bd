"""What mirroring costs the proxy's clients: proxy CPU per request and latency, with and without, in interleaved rounds.

    python benchmarks/mirror.py [--rounds N] [--seconds S] [--rate R]

`crossfade load` asks HAProxy as Crossfade configures it for the shipped plan at 50 %, R requests/s by an even schedule.
Rows: nothing else; the same once more, which shows what the machine does to the figures; `crossfade mirror` asking a
tenth of R, each question twice of V1 and once of V2, beside it. The origin is nginx. Where there are two cores the
proxy has one for itself, and load, mirror and origin share the other. A row's ratio is the median of its ratios to the
first row of the same round. Needs nginx (Debian: `apt-get install nginx`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.proxy import USERS, Bench, Row, bench, pinned, wait_for_port

from crossfade.core.split import Split

PLAN = """\
crossfade: 1
rollout: benchmark
api:
  entry: /trips/search
  listen: 127.0.0.1:{listen}
  v1: {{path: /v1/trips/search, upstreams: [127.0.0.1:{v1}]}}
  v2: {{path: /v2/trips/search, upstreams: [127.0.0.1:{v2}]}}
assignment: {{user: [header X-User-Id, address], region: header X-Region, users: {users}}}
metrics: {{failure_rate: {{guard: monitor}}}}
load:
  users: {users}
  scenarios: [{{name: search, get: "/trips/search?from=EWR&to=LAX&date={{date}}"}}]
phases:
  - {{name: all, split: 50%, soak: 1d}}
"""
CROSSFADE = str(Path(sys.executable).with_name("crossfade"))


@dataclass(slots=True)
class Way:
    """One way to run, and what was measured of it, round by round."""

    name: str
    mirrored: bool
    cpu_us: list[float] = field(default_factory=list)
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    failures: int = 0
    questions: int = 0
    verdicts: set[str] = field(default_factory=set)


def measure(run: Bench, proxy: Row, way: Way, *, seconds: int, rate: int) -> None:
    """Load the proxy once, with the mirror beside it or without."""
    plan = run.directory / "plan.yaml"
    with pinned(run.load_core):
        mirroring = mirror_beside(plan, rate / 10) if way.mirrored else None
        before = cpu_us(proxy.pid)
        command = [CROSSFADE, "load", str(plan), "--rate", f"{rate}/s", "--for", f"{seconds}s", "-o", "json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        spent = cpu_us(proxy.pid) - before
        if mirroring is not None:
            mirroring.send_signal(signal.SIGINT)
            report = json.loads(mirroring.communicate()[0])
            way.questions += report["compared"]
            way.verdicts.add(report["verdict"])
    loaded = json.loads(done.stdout)["all"]
    way.cpu_us.append(spent / loaded["requests"])
    way.p50_ms.append(loaded["latency_ms"]["p50"])
    way.p99_ms.append(loaded["latency_ms"]["p99"])
    way.failures += loaded["failures"]


def cpu_us(pid: int) -> float:
    """Return the CPU microseconds of a process: the kernel's own count, as its clock ticks are too coarse here."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000


def mirror_beside(plan: Path, rate: float) -> subprocess.Popen[str]:
    """Start a mirror that goes on until it is interrupted."""
    command = [CROSSFADE, "mirror", str(plan), "--rate", f"{rate:g}/s", "--for", "1h", "-o", "json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def ratio(values: list[float], base: list[float]) -> float:
    """Return the median of the ratios, round by round."""
    return statistics.median(a / b for a, b in zip(values, base, strict=True))


def main() -> None:
    """Measure and print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--seconds", type=int, default=8)
    options.add_argument("--rate", type=int, default=1000)
    chosen = options.parse_args()
    if shutil.which("nginx") is None:
        print("skipped: nginx is missing; `apt-get install nginx` enables this benchmark")
        return
    ways = [Way("nothing else", False), Way("nothing else, again", False), Way("mirror at 10 %", True)]
    with bench() as run:
        run.origin()
        proxy = run.canary("HAProxy, full canary + telemetry, 50 %", Split(everyone=5000))
        wait_for_port(proxy.port)
        wait_for_port(run.v1)
        (run.directory / "plan.yaml").write_text(PLAN.format(listen=proxy.port, v1=run.v1, v2=run.v2, users=USERS))
        for number in range(chosen.rounds):
            for way in ways if number % 2 == 0 else reversed(ways):
                measure(run, proxy, way, seconds=chosen.seconds, rate=chosen.rate)
    base = ways[0]
    print(f"\n{chosen.rounds} interleaved rounds of {chosen.seconds} s, {chosen.rate:,} requests/s through the proxy\n")
    print("| beside the load | proxy CPU µs/request | ratio | p50, ms | ratio | p99, ms | ratio | failed |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for way in ways:
        cells = "".join(
            f" {statistics.median(values):.2f} | {ratio(values, first):.2f} |"
            for values, first in ((way.cpu_us, base.cpu_us), (way.p50_ms, base.p50_ms), (way.p99_ms, base.p99_ms))
        )
        print(f"| {way.name} |{cells} {way.failures} |")
    mirrored = ways[-1]
    print(f"\n{mirrored.questions:,} questions were mirrored: {', '.join(sorted(mirrored.verdicts))}")


if __name__ == "__main__":
    main()

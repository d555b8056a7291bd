"""What the ledger of clients costs on top of the collector, and how large it gets with a million clients."""

from __future__ import annotations

import resource
import time
import tracemalloc

import numpy as np

from crossfade.adapters.collector import Collector
from crossfade.adapters.system import collect_cycles_seldom
from crossfade.core.clients.gathering import FEW, Gathering
from crossfade.core.clients.ledger import Calls, Client, Ledger, load

LINES = 600_000
BATCH = 1000
TICKS = 60
"""Of 10 s with 10,000 requests each: 1,000 requests/s."""
ROUNDS = 3
MILLION = 1_000_000
START = 1_800_000_000.0


class Clock:
    """Stands where it is put."""

    speed = 1.0
    at = START

    def now(self) -> float:
        """Return the time."""
        return self.at

    def monotonic(self) -> float:
        """Return it, too."""
        return self.at

    def plan_time(self, wall: float) -> float:
        """Return it."""
        return wall

    async def sleep(self, real_seconds: float) -> None:
        """Sleep for no time."""


def batches(clients: int) -> list[bytes]:
    """Return lines of so many clients, drawn evenly: a quarter on V2, a quarter for V1's own paths."""
    draw = np.random.default_rng(1)
    names, sides, asked = draw.integers(0, clients, LINES), draw.random(LINES), draw.random(LINES)
    lines = [
        f"{i},{int((START + i * 10 * TICKS / LINES) * 1e6)},{'v2' if sides[i] < 0.25 else 'v1'},200,4000,4,-,0,"
        f"{'v1' if asked[i] < 0.25 else '-'},{i},eu-west,client-{names[i]},----,0,a-1,-,-".encode()
        for i in range(LINES)
    ]
    return [b"\n".join(lines[i : i + BATCH]) for i in range(0, LINES, BATCH)]


def run(data: list[bytes], *, ledger: bool) -> float:
    """Feed a collector, and all its ticks to a ledger, kept as the controller does; return CPU seconds per million."""
    clock = Clock()
    collector = Collector(clock=clock, tick_s=10.0, lateness_s=15.0, key=b"k", clients=ledger)
    kept, dumped, before = Ledger(), 0.0, time.process_time()
    gathering = Gathering(kept)
    for number, batch in enumerate([*data, b""]):
        clock.at = START + number * 10 * TICKS / len(data)
        if batch:
            collector.feed(batch)
        else:
            clock.at += 30.0  # closes the last ticks: all that was fed is absorbed
        for tick in collector.closed_ticks():
            if ledger:
                gathering.add(tick.start, tick.length, tick.calls)
                waits = 2 if gathering.waits else 1
                if len(kept) <= FEW or tick.start - dumped >= 60 * waits:  # as the controller keeps it
                    gathering.settle()
                    kept.dump()
                    dumped = tick.start
    if ledger:
        gathering.settle()
        absorbed = sum(sum(day.requests) for day in kept.days)
        if absorbed != LINES:
            raise AssertionError(f"the ledger has {absorbed:,} of {LINES:,} requests")
    return (time.process_time() - before) * 1e6 / LINES


def million() -> None:
    """Print what a ledger holds once a million clients have called."""
    tracemalloc.start()
    ledger, each = Ledger(), 10_000
    for number in range(MILLION // each):
        names = range(number * each, (number + 1) * each)
        ledger.absorb(START + number * 10, 10.0, Calls({Client(f"client-{n}"): [1, 0, 0, 0] for n in names}))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    before = time.process_time()
    data = ledger.dump()
    dumped = time.process_time()
    load(data)
    loaded, today = time.process_time(), ledger.days[-1]
    print(f"\nA ledger of {MILLION:,} clients that called once: {held / 1e6:.1f} MB, {peak / 1e6:.1f} MB at its peak;")
    print(f"{len(data) / 1e6:.2f} MB in the store, dumped in {1e3 * (dumped - before):.0f} ms,", end=" ")
    print(f"loaded in {1e3 * (loaded - dumped):.0f} ms; it counts {today.asking_v1:,} of them.")


def main() -> None:
    """Interleave the rounds and print a table."""
    work = {clients: batches(clients) for clients in (12, 1000, 10_000, MILLION)}
    collect_cycles_seldom()  # as `serve` does
    spent: dict[tuple[int, bool], list[float]] = {(clients, on): [] for clients in work for on in (False, True)}
    for _ in range(ROUNDS):
        for (clients, on), times in spent.items():
            times.append(run(work[clients], ledger=on))
    print(f"{LINES:,} lines in {TICKS} ticks, {ROUNDS} interleaved rounds, median, CPU seconds per million requests\n")
    print("| clients | without | with ledger | ledger |")
    print("|---|---:|---:|---:|")
    for clients in work:
        without, counted = (float(np.median(spent[clients, on])) for on in (False, True))
        print(f"| {clients:,} | {without:.2f} | {counted:.2f} | {counted - without:.2f} |")
    million()
    print(f"The whole benchmark took {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB.")
    print("\nGoal: at most 1 CPU second per million requests, and 300 MB with a million clients.")


if __name__ == "__main__":
    main()

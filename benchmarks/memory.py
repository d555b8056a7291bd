"""What ten million users' outcomes and a ledger of a million clients take in memory, each kind in its own process."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import crossfade.app.bootstrap  # noqa: F401 - what `serve` has loaded before anybody comes
from crossfade.adapters.outcomes.units import HASH_BYTES, Units
from crossfade.core.behaviour import Windows
from crossfade.core.clients.ledger import Calls, Client, Ledger
from crossfade.core.evidence.sums import Arm
from crossfade.core.plan import DAY, Behaviour, Counted
from crossfade.core.split import Version

USERS, CLIENTS, EACH = 10_000_000, 1_000_000, 10_000
START = 20_000 * DAY


def peak() -> float:
    """Return the most that this process has had, MB."""
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1e3 if found else float("nan")


def ledger() -> Ledger:
    """Return a ledger of a million clients that called once."""
    made = Ledger()
    for number in range(CLIENTS // EACH):
        names = range(number * EACH, (number + 1) * EACH)
        made.absorb(START + number * 10, 10.0, Calls({Client(f"client-{n}"): [1, 0, 0, 0] for n in names}))
    return made


def posted() -> None:
    """Take ten million users' outcomes of one day, and read them back."""
    draw, units = np.random.default_rng(1), Units()
    for _ in range(USERS // EACH):
        raw = draw.integers(0, 2**63, EACH, dtype=np.uint64).tobytes()
        units.add(raw[at : at + HASH_BYTES] for at in range(0, len(raw), HASH_BYTES))
    del units
    Units(draw.integers(0, 2**63, USERS, dtype=np.uint64))


def windows() -> None:
    """Open ten million users' windows of one day, one in seven with what is looked for in it, and close them."""
    draw = np.random.default_rng(1)
    held = Windows(Behaviour(of="search", counted=Counted.REACHES, event="book", within_s=DAY))
    worst = 0.0
    for number in range(USERS // EACH):
        begun = time.process_time()
        users, at = draw.integers(0, 2**63, EACH, dtype=np.uint64), np.full(EACH, START + number * 10)
        for side, version in enumerate(Version):
            held.add(held.opens(Arm(version, "", ""), users[side::2], at[side::2]))
        held.add(held.hits(users[::7], at[::7], np.ones(len(users[::7]))))
        held.close(float(at[0]) + 10)
        worst = max(worst, time.process_time() - begun)
    held.close(START + 2 * DAY)
    print(f"windows: {1e3 * worst:.0f} ms CPU for the dearest tick of {EACH:,} users")


KINDS = {"posted": posted, "windows": windows}


def main() -> None:
    """Run each kind by itself and print what it took."""
    if len(sys.argv) > 1:
        base = peak()
        held = ledger()
        KINDS[sys.argv[1]]()
        print(f"{sys.argv[1]}: {peak():.0f} MB at the peak with {len(held):,} listed clients, {base:.0f} MB before it")
        return
    for kind in KINDS:
        subprocess.run([sys.executable, "-m", "benchmarks.memory", kind], check=True)
    print(f"{USERS:,} users and {CLIENTS:,} clients. Goal: below 300 MB.")


if __name__ == "__main__":
    main()

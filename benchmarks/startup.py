"""How long `crossfade --help` takes, against the floor: importing click in a new interpreter, in the same run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 30
PYTHON = sys.executable
COMMANDS = {
    '`python -c "import click"`': [PYTHON, "-c", "import click"],
    "`crossfade --help`": [str(Path(PYTHON).with_name("crossfade")), "--help"],
    "`crossfade check plans/trips-v2.yaml`": [
        str(Path(PYTHON).with_name("crossfade")),
        "check",
        str(Path(__file__).parents[1] / "plans" / "trips-v2.yaml"),
    ],
}


def main() -> None:
    """Interleave the rounds and print a table."""
    spent: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():
            began = time.perf_counter()  # noqa: TID251 - a benchmark measures time
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            spent[name].append(time.perf_counter() - began)  # noqa: TID251 - the same
    medians = {name: statistics.median(values) for name, values in spent.items()}
    floor = next(iter(medians.values()))
    print(f"| {ROUNDS} interleaved rounds, median | ms | ratio |\n|---|---:|---:|")
    for name, seconds in medians.items():
        print(f"| {name} | {seconds * 1000:.0f} | {seconds / floor:.2f} |")


if __name__ == "__main__":
    main()

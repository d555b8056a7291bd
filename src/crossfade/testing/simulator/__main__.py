"""`python -m crossfade.testing.simulator --first 0 --seeds 1000`: run seeds, and print each that breaks a rule."""

from __future__ import annotations

import argparse
import sys

from crossfade.testing.simulator.run import simulate, simulate_all


def main() -> int:
    """Run the seeds asked for; return 1 where one broke a rule."""
    parser = argparse.ArgumentParser(prog="python -m crossfade.testing.simulator", description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=100, help="how many, one after the other")
    parser.add_argument("--trace", action="store_true", help="print everything that happens in the first seed, alone")
    asked = parser.parse_args()
    if asked.trace:
        outcome = simulate(asked.first, trace=0)
        sys.stdout.write("\n".join([*outcome.last, str(outcome).partition("\n")[0], outcome.digest, ""]))
        return int(bool(outcome.rule))
    broken = 0
    for outcome in simulate_all(range(asked.first, asked.first + asked.seeds)):
        if outcome.rule:
            broken += 1
            sys.stdout.write(f"{outcome}\n\n")
    sys.stdout.write(f"{asked.seeds} seeds from {asked.first}: {broken} broke a rule\n")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())

"""What the service takes from the machine: clock and seeded chance. No other module reads them."""

from __future__ import annotations

import random  # noqa: TID251 -- the one place; everyone else is handed a seeded source
import time
from datetime import UTC, date, datetime

Chance = random.Random
"""A seeded source of chance: the same seed draws the same faults."""


def seconds() -> float:
    """Seconds on a clock that never goes back; only differences mean something."""
    return time.perf_counter()  # noqa: TID251 -- the one place that reads the clock


def now_utc() -> datetime:
    """The wall clock, for log lines."""
    return datetime.now(UTC)  # noqa: TID251 -- the one place that reads the clock


def today_utc() -> date:
    """The date in Greenwich."""
    return now_utc().date()


def chance(seed: int) -> Chance:
    """A source of chance that draws the same numbers for the same seed."""
    return Chance(seed)  # faults, not secrets

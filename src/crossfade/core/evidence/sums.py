"""Ticks: the sums of one interval, by who answered whom. They add up across collectors and proxy nodes.

A request belongs to the tick in which it *started*, so that a slow failure lies in the same tick as the
requests it competes with (EVIDENCE 1.12). Latency is kept as counts in log-spaced bins of ratio 1.05.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crossfade.core.clients.ledger import Calls
from crossfade.core.clients.sketch import Sketch
from crossfade.core.split import Version

BIN_RATIO = 1.05
BIN_FLOOR_MS = 1.0
BINS = 226
"""1 ms .. 60 s; bin 0 also holds everything faster, the last bin everything slower."""

HUNDREDTHS = 100
"""Parts of the users by bucket, each drawn by the hash as a whole."""

_LOG_RATIO = math.log(BIN_RATIO)


def latency_bin(milliseconds: float) -> int:
    """Return the bin (0..225) of a latency; bin b holds (1.05**(b-1), 1.05**b] ms."""
    if milliseconds <= BIN_FLOOR_MS:
        return 0
    return min(BINS - 1, math.ceil(math.log(milliseconds) / _LOG_RATIO - 1e-9))


def bin_upper_ms(index: int) -> float:
    """Return the upper edge of a latency bin in milliseconds."""
    return BIN_FLOOR_MS * BIN_RATIO**index


class Arm(NamedTuple):
    """Whose requests a cell sums: version, region, cohort and whether a client's override chose the version."""

    version: Version
    region: str
    """As the client's header said, escaped and cut to 64 characters; empty where none was sent."""
    cohort: str
    """Cohort name; empty for everyone else."""
    override: bool = False
    """Such requests are kept out of the comparison: who overrides has chosen themselves (EVIDENCE 0.11)."""


@dataclass(slots=True, kw_only=True)
class Cell:
    """Sums of one arm in one tick. Mutable while a tick is being filled; treated as a value afterwards."""

    requests: int = 0
    failures: int = 0
    """Answers with status >= 500, fallbacks to V1 that V2's refusal caused, clients that gave up waiting."""
    critical: int = 0
    """Of the failures: the version gave no answer at all."""
    fallbacks: int = 0
    """Of the failures: V1 answered in V2's place, so the client saw no error."""
    asked_v1: int = 0
    """Requests for one of V1's own paths, whoever answered, clients that left included."""
    cached: int = 0
    """Answers that the fact cache=hit says came from a cache."""
    failing_users: set[int] = field(default_factory=set)
    """Keyed hashes (64 bit) of the users behind the failures."""
    hundredths: Counter[int] = field(default_factory=Counter)
    """Requests by hundredth of the users (bucket // 100), where the hash decided and the proxy said so."""
    latency: Counter[int] = field(default_factory=Counter)
    """Answers by latency bin, not from a cache."""
    latency_cached: Counter[int] = field(default_factory=Counter)
    """Answers by latency bin, from a cache: a stratum of its own."""
    facts: dict[str, Counter[str]] = field(default_factory=dict)
    """Answers by fact and value, for facts that are tokens, integers or booleans."""
    timings: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Count and sum by fact, for facts that are decimals."""
    outcomes: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Units (users, user-days, requests) and the sum of their values, each within 0..1, by outcome."""

    def add(self, other: Cell) -> None:
        """Add another cell's sums to this one."""
        self.requests += other.requests
        self.failures += other.failures
        self.critical += other.critical
        self.fallbacks += other.fallbacks
        self.asked_v1 += other.asked_v1
        self.cached += other.cached
        self.failing_users |= other.failing_users
        self.hundredths.update(other.hundredths)
        self.latency.update(other.latency)
        self.latency_cached.update(other.latency_cached)
        for name, values in other.facts.items():
            self.facts.setdefault(name, Counter()).update(values)
        for sums, more in ((self.timings, other.timings), (self.outcomes, other.outcomes)):
            for name, (count, total) in more.items():
                have_count, have_total = sums.get(name, (0, 0.0))
                sums[name] = (have_count + count, have_total + total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """Users of a region and cohort who did one thing in a tick, in requests that were answered with 2xx or 3xx."""

    event: str
    """As the plan calls it."""
    region: str
    cohort: str
    users: NDArray[np.uint64]
    """The bits of `split.user_hash`, each once, in order."""
    times: NDArray[np.int64]
    """How often, by user."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """The sums of one interval [start, start + length) of plan time, in seconds."""

    number: int
    """floor(start / length): the same interval has the same number everywhere."""
    start: float
    length: float
    cells: Mapping[Arm, Cell]
    lost: int = 0
    """Requests known to have been served but not reported (gaps in the sequence)."""
    malformed: int = 0
    """Lines that could not be read."""
    sources: frozenset[str] = frozenset()
    """Collectors (or nodes) that reported; empty means that nobody could look: BLIND."""
    unanswered: Mapping[str, str] = field(default_factory=dict)
    """Metrics whose source was asked since the tick before and gave no counts, each with the reason."""
    calls: Calls | None = field(default=None, compare=False)
    """Requests by client, for the ledger, which is kept instead of them; None where nobody counted."""
    users: Mapping[tuple[Version, str], Sketch] = field(default_factory=dict, compare=False)
    """Different users by version and cohort, overrides left out; not kept."""

    doings: Sequence[Doing] = field(default=(), compare=False)
    """What users did; not kept."""

    def total(self, version: Version) -> Cell:
        """Return the sum over all arms of a version, overrides included."""
        return sum_cells(cell for arm, cell in self.cells.items() if arm.version is version)

    def counts(self, version: Version) -> Cell:
        """Return the same without users, facts and histograms."""
        cells = [cell for arm, cell in self.cells.items() if arm.version is version]
        return Cell(
            requests=sum(cell.requests for cell in cells),
            failures=sum(cell.failures for cell in cells),
            critical=sum(cell.critical for cell in cells),
            fallbacks=sum(cell.fallbacks for cell in cells),
            asked_v1=sum(cell.asked_v1 for cell in cells),
            cached=sum(cell.cached for cell in cells),
        )


def sum_cells(cells: Iterable[Cell]) -> Cell:
    """Return a new cell with the sums of the given ones."""
    result = Cell()
    for cell in cells:
        result.add(cell)
    return result


def _merged(
    one: Mapping[tuple[Version, str], Sketch], other: Mapping[tuple[Version, str], Sketch]
) -> dict[tuple[Version, str], Sketch]:
    merged: dict[tuple[Version, str], Sketch] = {}
    for part in (one, other):
        for key, sketch in part.items():
            merged.setdefault(key, Sketch()).merge(sketch)
    return merged


def merge_ticks(one: Tick, other: Tick) -> Tick:
    """Return the sum of two collectors' ticks of the same number; ValueError where the numbers differ."""
    if one.number != other.number or one.length != other.length:
        raise ValueError(f"ticks {one.number} and {other.number} are different intervals")
    cells = {arm: sum_cells([cell]) for arm, cell in one.cells.items()}
    for arm, cell in other.cells.items():
        cells.setdefault(arm, Cell()).add(cell)
    return Tick(
        number=one.number,
        start=one.start,
        length=one.length,
        cells=cells,
        lost=one.lost + other.lost,
        malformed=one.malformed + other.malformed,
        sources=one.sources | other.sources,
        unanswered={**one.unanswered, **other.unanswered},
        calls=other.calls if one.calls is None else one.calls if other.calls is None else one.calls.plus(other.calls),
        users=_merged(one.users, other.users),
        doings=(*one.doings, *other.doings),
    )

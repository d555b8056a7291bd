"""Counters and histograms of one rollout: what its traffic was, and how long the engine's own work took.

They only rise, whatever phase, attempt or lease the rollout is in, and begin anew with the process, as Prometheus
expects of counters. Their label sets are bounded: regions are what clients send.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from types import TracebackType

from crossfade.core.decide import Decision
from crossfade.core.evidence.sums import BIN_RATIO, BINS, Cell, Tick, bin_upper_ms
from crossfade.ports import Fact, Span

log = logging.getLogger("crossfade.meters")

MAX_REGIONS = 10
"""Regions with series of their own, the first to come; the others share one."""
OTHER = "other"
LATENCY_STEP = 14
"""Bins of the evidence per bucket: 1.05**14 is about 2, from 1 ms to 56 s."""
WORK_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper edges in seconds, for the engine's own work."""

LATENCY_EDGES = tuple(bin_upper_ms(index) / 1000 for index in range(0, BINS, LATENCY_STEP))
"""Upper edges in seconds: edges of the evidence's bins, so that no count is guessed."""

Arm = tuple[str, str]
"""Version and region."""


@dataclass(slots=True)
class Histogram:
    """Counts by bucket, the last one for what lies above all edges, and their sum in seconds."""

    edges: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.edges) + 1)

    def add(self, seconds: float, count: int = 1) -> None:
        """Count a value, `count` times."""
        self.counts[bisect_left(self.edges, seconds)] += count
        self.total += seconds * count

    def cumulative(self) -> list[tuple[str, float]]:
        """Return upper edges as text, each with the count up to it."""
        rows, so_far = [], 0
        for edge, count in zip((*self.edges, float("inf")), self.counts, strict=True):
            so_far += count
            rows.append(("+Inf" if edge == float("inf") else f"{edge:.6g}", float(so_far)))
        return rows


class Meters:
    """Keeps `ports.Probe`, and hands spans on to a tracer where there is one."""

    def __init__(
        self,
        monotonic: Callable[[], float] = lambda: 0.0,
        trace: Callable[..., AbstractContextManager[Span]] | None = None,
    ) -> None:
        """`monotonic` gives real seconds (left out: none pass); `trace(name, **facts)` opens a span elsewhere."""
        self.now = monotonic
        self._trace = trace
        self._regions: set[str] = set()
        self._listeners: list[Callable[[Sequence[Tick]], None]] = []
        self.requests: Counter[Arm] = Counter()
        self.failures: Counter[Arm] = Counter()
        self.latency: dict[Arm, Histogram] = {}
        self.decisions: Counter[str] = Counter()
        """By outcome."""
        self.ticks = 0
        self.ticks_lost = 0
        """Of the ticks: intervals in which no proxy was heard."""
        self.work: dict[str, Histogram] = {}
        """The engine's own, by name of the span."""

    def span(self, name: str, **facts: Fact) -> AbstractContextManager[Span]:
        """Return a context that is timed, and traced where somebody traces."""
        context = None
        if self._trace is not None:
            with _whatever_happens():
                context = self._trace(name, **facts)
        return _Timed(self, name, context)

    def listen(self, listener: Callable[[Sequence[Tick]], None]) -> None:
        """Have a listener told of closed ticks, from now on."""
        self._listeners.append(listener)

    def closed(self, ticks: Sequence[Tick]) -> None:
        """Count what the ticks hold."""
        for listener in self._listeners:
            listener(ticks)
        for tick in ticks:
            self.ticks += 1
            self.ticks_lost += not tick.sources
            for arm, cell in tick.cells.items():
                self._count((arm.version.value, self.region(arm.region)), cell)

    def decided(self, decision: Decision) -> None:
        """Count a decision."""
        self.decisions[decision.outcome.value] += 1

    def _count(self, arm: Arm, cell: Cell) -> None:
        self.requests[arm] += cell.requests
        self.failures[arm] += cell.failures
        latency = self.latency.get(arm)
        if latency is None:
            latency = self.latency[arm] = Histogram(LATENCY_EDGES)
        for bins in (cell.latency, cell.latency_cached):
            for index, count in bins.items():
                latency.add(_middle_s(index), count)

    def region(self, name: str) -> str:
        """Return the name under which a region is told: its own, or that of all that came after the first ten."""
        if name not in self._regions:
            if len(self._regions) >= MAX_REGIONS and name:
                return OTHER
            self._regions.add(name)
        return name

    def ended(self, name: str, began: float) -> None:
        """Count how long a piece of work took."""
        found = self.work.get(name)
        if found is None:
            found = self.work[name] = Histogram(WORK_BUCKETS)
        found.add(self.now() - began)


def _middle_s(index: int) -> float:
    """Return the middle of a bin, in seconds: within 2.5 % of what was measured, from 1 ms to a minute."""
    return bin_upper_ms(index) / math.sqrt(BIN_RATIO) / 1000


class _Timed:
    """One piece of work. Whatever a tracer does, the work goes on."""

    __slots__ = ("_began", "_context", "_meters", "_name", "_span")

    def __init__(self, meters: Meters, name: str, context: AbstractContextManager[Span] | None) -> None:
        self._meters, self._name, self._context = meters, name, context
        self._span: Span | None = None
        self._began = 0.0

    def __enter__(self) -> _Timed:
        self._began = self._meters.now()
        if self._context is not None:
            with _whatever_happens():
                self._span = self._context.__enter__()
        return self

    def tell(self, **facts: Fact) -> None:
        """Add facts to the trace."""
        if self._span is not None:
            with _whatever_happens():
                self._span.tell(**facts)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._meters.ended(self._name, self._began)
        if self._context is not None and self._span is not None:
            with _whatever_happens():
                self._context.__exit__(kind, error, trace)


@contextmanager
def _whatever_happens() -> Iterator[None]:
    try:
        yield
    except Exception:  # a trace is worth no rollback
        log.exception("a trace could not be written")

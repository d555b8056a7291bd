"""A collector that reports what it was told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from crossfade.core.evidence.sums import Tick
from crossfade.core.split import Version
from crossfade.errors import CrossfadeError

_KINDS = ("received", "lost", "malformed", "late")


class FakeTelemetry:
    """Keeps `ports.Telemetry`: `feed` it ticks, and set `recent_tick` to what ended just now."""

    def __init__(self) -> None:
        self.lateness_s = 0.0
        self.recent_tick: Tick | None = None
        """What `recent` returns; None: nobody sent anything."""
        self.given: dict[Version, float] = {}
        """Plan time of the latest request that each version was given, as a proxy would have told."""
        self.start_error: CrossfadeError | None = None
        """Raised by `start`, as where the address is taken."""
        self.started = False
        self._closed: list[Tick] = []
        self.last: int | None = None
        """Number of the last tick that was closed."""
        self._lines: Counter[str] = Counter(dict.fromkeys(_KINDS, 0))

    async def start(self) -> None:
        """Begin to listen; raises `start_error` where one is set."""
        if self.start_error is not None:
            raise self.start_error
        self.started = True

    def feed(self, *ticks: Tick) -> None:
        """Close ticks, in order. Numbers left out become ticks without sources: nobody reported.

        Raises ValueError where a tick's number is not above the last one's.
        """
        for tick in ticks:
            if self.last is not None and tick.number <= self.last:
                raise ValueError(f"tick {tick.number} comes after tick {self.last}; ticks are closed in order")
            first = tick.number if self.last is None else self.last + 1
            self._closed.extend(_unreported(number, tick.length) for number in range(first, tick.number))
            self._closed.append(tick)
            self.last = tick.number
            self._count(tick)

    def count(self, kind: str, lines: int = 1) -> None:
        """Count lines of a kind: received, lost, malformed, late."""
        self._lines[kind] += lines

    def closed_ticks(self) -> Sequence[Tick]:
        """Return the ticks fed since the last call, oldest first."""
        closed, self._closed = self._closed, []
        return closed

    def recent(self, seconds: float) -> Tick:
        """Return `recent_tick`, whatever the seconds; an empty one where none is set."""
        return self.recent_tick or Tick(number=0, start=0.0, length=seconds, cells={})

    def last_given(self) -> Mapping[Version, float]:
        """Return `given`."""
        return dict(self.given)

    def counters(self) -> Mapping[str, int]:
        """Return lines by kind."""
        return dict(self._lines)

    async def close(self) -> None:
        """Stop listening."""
        self.started = False

    def _count(self, tick: Tick) -> None:
        self._lines["received"] += sum(cell.requests for cell in tick.cells.values())
        self._lines["lost"] += tick.lost
        self._lines["malformed"] += tick.malformed


def _unreported(number: int, length: float) -> Tick:
    return Tick(number=number, start=number * length, length=length, cells={})

"""Calls on their way into the ledger: tick by tick while few clients call, a minute at once where many do.

A ledger costs as much for a client that calls once in a minute as for one that calls in every tick, so gathered calls
are several times cheaper. What they cost is time: clients are then known by up to a minute late, and their first and
last calls are told to the minute, later rather than earlier.
"""

from __future__ import annotations

from crossfade.core.clients.ledger import DAY, Calls, Ledger

FEW = 1000
"""Clients up to which each tick is absorbed at once."""
GATHERED_S = 60.0
"""Plan seconds whose ticks are absorbed together beyond that."""
ROWS_MAX = 200_000
"""Calls that wait at most."""


class Gathering:
    """What waits to be absorbed by one ledger. The same ticks are always gathered in the same way."""

    def __init__(self, ledger: Ledger) -> None:
        """Gather for a ledger."""
        self.ledger = ledger
        self.kept_at = float("-inf")
        """When the ledger was kept last, real seconds, as whoever keeps it says."""
        self._calls: Calls | None = None
        self._start = self._end = self._last = 0.0
        self._waiting = 0

    def add(self, start: float, length: float, calls: Calls | None) -> None:
        """Add the calls of a tick, [start, start + length) of plan time; `calls` is None where nobody watched."""
        if self._calls is not None and (calls is None or not self._fits(start, length)):
            self.settle()
        if calls is None or length >= GATHERED_S or (self._calls is None and len(self.ledger) <= FEW):
            self.ledger.absorb(start, length, calls)
            return
        if self._calls is None:
            self._calls, self._start, self._waiting = calls, start, 0
        else:
            self._calls = self._calls.plus(calls)
        self._last, self._end = start, start + length
        self._waiting += sum(len(rows.keys) for rows in calls.rows)
        if self._waiting > ROWS_MAX or self._end // GATHERED_S != start // GATHERED_S:
            self.settle()

    @property
    def waits(self) -> bool:
        """Tell whether the ledger lacks calls that were added."""
        return self._calls is not None

    def settle(self) -> None:
        """Have the ledger absorb what waits."""
        if self._calls is not None:
            self.ledger.absorb(self._start, self._end - self._start, self._calls, at=self._last)
            self._calls = None

    def _fits(self, start: float, length: float) -> bool:
        """Tell whether a tick follows those that wait, in the same minute."""
        follows = abs(start - self._end) < length / 2
        return follows and start // GATHERED_S == self._start // GATHERED_S and start // DAY == self._start // DAY

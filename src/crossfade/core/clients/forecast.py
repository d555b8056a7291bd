"""When nobody will ask for V1's own paths any more, from how the clients have moved so far.

Each client that asks for V1 is taken to move on a given day with the same chance. The rate is known from the moves
seen so far, d in E client-days: Gamma(d + 1/2, E), Jeffreys' prior. Of n clients that are left the last has moved by t
with probability (1 - exp(-rate t))**n, averaged over the rate. Clients that wait for a date move in a crowd before it,
and are forecast too late.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from crossfade.core.clients.ledger import ASKED, DAY, Day, Entry, Ledger
from crossfade.core.words import moment

DAYS_MIN = 3
"""Complete days without which nothing is forecast."""
MOVES_MIN = 3
QUANTILES = (0.1, 0.5, 0.9)
_GRID = 400
_FAR_DAYS = 36_500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What can be said of the day on which V1 falls silent."""

    sentence: str
    asking: int
    """Clients that ask for V1 and have not moved, those that are silent included."""
    moved: int
    """Clients that asked for V1 and have moved."""
    at: tuple[float, float, float] | None = None
    """Plan time by which the last one has moved with probability 10, 50 and 90 %; None: unknown."""
    silent_since: float | None = None
    """Plan time of the last request for V1 where nobody is left; None where somebody is."""


def forecast(ledger: Ledger) -> Forecast:
    """Return the forecast as of the ledger's last tick. Rates are measured over complete days only."""
    asked = [entry for _, entry in ledger if entry.first_by(ASKED) is not None]
    gone = [entry for entry in asked if not ledger.still_asks(entry)]
    left = len(asked) - len(gone)
    if ledger.until is None:
        return Forecast(sentence="unknown: nobody has watched yet", asking=0, moved=0)
    if not left and asked:
        last = max(entry.last_by(ASKED) or 0.0 for entry in asked)
        sentence = f"silent since {moment(last)} UTC: the last client that asked for V1 has moved"
        return Forecast(sentence=sentence, asking=0, moved=len(gone), silent_since=last)
    if not left:
        return Forecast(sentence="no client has asked for V1's own paths", asking=0, moved=0)
    days = ledger.complete_days
    if len(days) < DAYS_MIN:
        why = f"complete days watched: {len(days)} of the {DAYS_MIN} that it takes"
        return Forecast(sentence=f"unknown: {why}", asking=left, moved=len(gone))
    moves, client_days = _exposure(days, asked, gone)
    if moves < MOVES_MIN:
        why = f"moves on complete days: {moves} of the {MOVES_MIN} that it takes"
        return Forecast(sentence=f"unknown: {why}", asking=left, moved=len(gone))
    low, middle, high = (ledger.until + t * DAY for t in _last_of(left, moves, client_days))
    sentence = f"about {moment(middle)[:10]}, between {moment(low)[:10]} and {moment(high)[:10]} with 80 %"
    return Forecast(sentence=sentence, asking=left, moved=len(gone), at=(low, middle, high))


def _exposure(days: Sequence[Day], asked: Sequence[Entry], gone: Sequence[Entry]) -> tuple[int, float]:
    """Return (moves, client-days) on complete days: how often clients could have moved, and did."""
    numbers = np.array([day.number for day in days], dtype=np.float64)
    edges = np.column_stack((numbers, numbers + 1)).ravel()
    lived = np.column_stack((np.arange(len(days)), np.arange(len(days)) + 1)).ravel()
    has_moved = {id(entry) for entry in gone}
    moves, total = 0, 0.0
    for entry in asked:
        first, last = (entry.first_by(ASKED) or 0.0) / DAY, (entry.last_by(ASKED) or 0.0) / DAY
        end = last if id(entry) in has_moved else float(edges[-1])
        began, ended = np.interp((first, max(first, end)), edges, lived).tolist()
        total += ended - began
        moves += id(entry) in has_moved and any(day.number <= last < day.number + 1 for day in days)
    return moves, total


def _last_of(left: int, moves: int, client_days: float) -> tuple[float, ...]:
    """Return the days by which the last of `left` clients has moved, at the QUANTILES."""
    shape = moves + 0.5
    spread = 8 / math.sqrt(shape)
    rates = shape / max(client_days, 1e-9) * np.exp(np.linspace(-spread, spread / 2, _GRID))
    weights = shape * np.log(rates) - rates * client_days  # of the density by log rate
    weights = np.exp(weights - weights.max())
    weights /= weights.sum()

    def chance(days: float) -> float:
        return float(weights @ np.exp(left * np.log1p(-np.exp(-rates * days))))

    def quantile(wanted: float) -> float:
        low, high = 0.0, _FAR_DAYS
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if chance(middle) >= wanted else (middle, high)
        return high

    return tuple(quantile(wanted) for wanted in QUANTILES)

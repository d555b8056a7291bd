"""How strong a load is at each moment: straight pieces of a level between 0 and 1 or above."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

SPIKE_REST = 0.2
"""What a spike rises from and falls back to."""


class Profile(StrEnum):
    """The shapes a load can have."""

    STEADY = "steady"
    PEAK = "peak"
    RAMP = "ramp"
    SPIKE = "spike"


@dataclass(frozen=True, slots=True)
class Piece:
    """A time in which the level moves evenly."""

    seconds: float
    begin: float
    end: float

    @property
    def area(self) -> float:
        """The level's integral over the piece."""
        return self.seconds * (self.begin + self.end) / 2


class Curve:
    """The level over time, from 0 to `seconds`."""

    def __init__(self, pieces: Sequence[Piece]) -> None:
        """ValueError where the pieces have no time or no level above 0 in all."""
        self.pieces = tuple(pieces)
        self.seconds = sum(piece.seconds for piece in pieces)
        self.area = sum(piece.area for piece in pieces)
        if not self.seconds > 0 or not self.area > 0:
            raise ValueError("a load lasts some time and asks something in it")

    def level(self, at: float) -> float:
        """Return the level at a moment; 0 outside of the curve."""
        if at < 0:
            return 0.0
        for piece in self.pieces:
            if at < piece.seconds:
                return piece.begin + (piece.end - piece.begin) * at / piece.seconds
            at -= piece.seconds
        return 0.0

    def starts(self, rate: float) -> Iterator[float]:
        """Yield the moments at which requests start, evenly spread at `rate` times the level a second.

        The n-th (from 0) starts where the area under rate x level reaches n.
        """
        begun, passed, number = 0.0, 0.0, 0
        for piece in self.pieces:
            while number < passed + rate * piece.area - 1e-9:
                yield begun + _where(piece, (number - passed) / rate)
                number += 1
            begun += piece.seconds
            passed += rate * piece.area

    def count(self, rate: float) -> int:
        """Return how many starts there are."""
        return max(1, math.ceil(rate * self.area - 1e-6))


def _where(piece: Piece, area: float) -> float:
    """Return how far into a piece its area so far is `area`.

    With slope s the area up to t is begin t + s t^2 / 2; this is the root in the form that does not cancel.
    """
    slope = (piece.end - piece.begin) / piece.seconds
    root = math.sqrt(max(0.0, piece.begin**2 + 2 * slope * area))
    return 0.0 if area <= 0 else min(piece.seconds, 2 * area / (piece.begin + root))


def curve_of(profile: Profile, seconds: float) -> Curve:
    """Return the curve of a profile whose highest level is 1; a peak without a recording is steady.

    A ramp rises from 0 to 1 evenly. A spike rests for two fifths of the time, is there for one, and rests again.
    """
    match profile:
        case Profile.RAMP:
            return Curve([Piece(seconds, 0.0, 1.0)])
        case Profile.SPIKE:
            rest = Piece(seconds * 0.4, SPIKE_REST, SPIKE_REST)
            return Curve([rest, Piece(seconds * 0.2, 1.0, 1.0), rest])
        case _:
            return Curve([Piece(seconds, 1.0, 1.0)])


def replayed(counts: Sequence[float], seconds: float) -> Curve:
    """Return a curve whose pieces are as high as counts of equal intervals, beside the highest; squeezed to `seconds`.

    ValueError where there is no count above 0.
    """
    most = max(counts, default=0.0)
    if not most > 0:
        raise ValueError("nothing was asked in it")
    return Curve([Piece(seconds / len(counts), count / most, count / most) for count in counts])

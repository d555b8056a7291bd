"""The busiest hour of a recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crossfade.app.progress import Progress
from crossfade.core.words import duration, moment
from crossfade.errors import UsageError
from crossfade.simulation.recording import read_recording

HOUR_S = 3600.0
_PIECES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """What is replayed."""

    counts: tuple[float, ...]
    """Requests in equal intervals."""
    rate: float
    """Requests per second in the busiest of them."""
    said: str
    """Where it comes from, for people."""


def read_peak(path: Path) -> Peak:
    """Return the busiest hour of a recording, or all of a shorter one; UsageError where the file can't be used."""
    try:
        with path.open("rb") as file, Progress("ticks") as progress:
            header, ticks = read_recording(str(path), file)
            asked = {
                one.kept.tick.number: sum(cell.requests for cell in one.kept.tick.cells.values())
                for one in progress.over(ticks)
            }
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from None
    if not any(asked.values()):
        raise UsageError(f"{path} has no request in it; export a rollout that had users")
    first, last = min(asked), max(asked)
    length = min(max(1, round(HOUR_S / header.tick_s)), last - first + 1)
    begin = _busiest(asked, first, last, length)
    per_piece = max(1, -(-length // _PIECES))
    counts = [
        sum(asked.get(number, 0) for number in range(at, min(at + per_piece, begin + length)))
        for at in range(begin, begin + length, per_piece)
    ]
    if length % per_piece:
        counts[-1] = round(counts[-1] * per_piece / (length % per_piece))  # the last interval is shorter
    return Peak(
        counts=tuple(counts),
        rate=max(counts) / (per_piece * header.tick_s),
        said=f"{duration(length * header.tick_s)} of {header.rollout} from {moment(begin * header.tick_s)}, "
        f"{sum(counts):,.0f} requests",
    )


def _busiest(asked: dict[int, int], first: int, last: int, length: int) -> int:
    """Return the first tick of the `length` ticks with most requests; ticks that are missing had none."""
    numbers = sorted(asked)
    best, most, window, end = first, -1, 0, 0
    for begin in numbers:
        while end < len(numbers) and numbers[end] < begin + length:
            window += asked[numbers[end]]
            end += 1
        if window > most:
            best, most = begin, window
        window -= asked[begin]
    return min(best, last - length + 1)

"""How numbers are said to people: durations, shares, times."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime

_UNITS = ((7 * 86400, "w"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s"))

_NARROW = 0.2
"""Width of an interval around 1 that two digits would swallow."""


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: `3d 4h`, `12m`, `0.4s`."""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 10:
        return f"{seconds:.1f}s".replace(".0s", "s")
    left = round(seconds)
    parts: list[str] = []
    for size, unit in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break
        if len(parts) == 2:
            break
    return " ".join(parts)


def percent(basis_points: float) -> str:
    """Return a share of basis points as a percentage: `22.22 %`, `5 %`."""
    return f"{round(basis_points / 100, 2):g} %"


def ratio_words(middle: float, low: float | None, high: float | None) -> tuple[str, str]:
    """Return a ratio and its interval, as finely as the interval is narrow: `1.02`, `0.9..1.2`; `?` for no end."""
    if low is not None and high is not None and high - low < _NARROW:
        digits = 2 + (high - low < _NARROW / 2) + (high - low < _NARROW / 20)
        return f"{middle:.{digits}f}", f"{low:.{digits}f}..{high:.{digits}f}"
    ends = [f"{low or 0.0:.2g}", "?" if high is None or math.isinf(high) else f"{high:.2g}"]
    return f"{middle:.2f}", "..".join(ends)


def moment(at: float | None) -> str:
    """Return a plan time as UTC, to the second; `-` for none."""
    if at is None:
        return "-"
    return datetime.fromtimestamp(at, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")


def one_line(text: str, most: int) -> str:
    """Return text from outside as one line of at most so many characters, without controls and directions."""
    plain = "".join(" " if unicodedata.category(char) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else char for char in text)
    words = " ".join(plain.split())
    return words if len(words) <= most else f"{words[: most - 1]}…"

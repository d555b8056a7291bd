"""How numbers are said to people: durations, shares, times."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime

_UNITS = ((7 * 86400, "w"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s"))

_MANY_TIMES = 2.0
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


def difference(low: float | None, high: float | None) -> str:
    """Say where a ratio of V2 to V1 may lie, as people speak of a difference: `2 % to 5 % lower`."""
    low, high = low or 0.0, math.inf if high is None else high
    if low >= _MANY_TIMES and high < math.inf:
        return f"{low:.2g} to {high:.2g} times as high"
    if low > 1:
        return f"at least {_apart(low)} higher" if math.isinf(high) else f"{_apart(low)} to {_apart(high)} higher"
    if high < 1:
        return f"{_apart(high)} to {_apart(low)} lower"
    if math.isinf(high):
        return "not told apart yet"
    return f"not told apart: from {_apart(low)} lower to {_apart(high)} higher"


def _apart(ratio: float) -> str:
    percents = 100 * abs(ratio - 1)
    return f"{percents:.0f} %" if percents >= 10 else f"{percents:.2g} %"


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

"""How numbers are said to people: durations, shares, times."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

_UNITS = ((7 * 86400, "w"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


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

"""The small drawings of the pages, which need no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup


def part(log_e: float | None, needed: float | None) -> int:
    """Return how far evidence has come, 0..100, on the scale of its logarithm from 1:1 on."""
    if log_e is None or not needed or not math.isfinite(log_e):
        return 0
    return round(100 * min(1.0, max(0.0, log_e / needed)))


_WIDTH, _HEIGHT = 240, 40
_LOW, _HIGH = math.log(0.25), math.log(4.0)


def sparkline(points: Sequence[dict[str, Any]], metric: str, title: str) -> Markup:
    """Return V1's and V2's values over time as an SVG; empty where there are none."""
    rows = [(p["at"], *p["metrics"][metric][:2]) for p in points if metric in p.get("metrics", {})]
    known = [v for row in rows for v in row[1:] if v is not None]
    if len(rows) < 2 or not known:
        return Markup("")
    first, last = rows[0][0], rows[-1][0]
    low, high = min(known), max(known)
    room = (high - low) or abs(high) or 1.0

    def line(column: int) -> str:
        where = [
            f"{_WIDTH * (row[0] - first) / ((last - first) or 1):.1f},"
            f"{_HEIGHT - 3 - (_HEIGHT - 6) * (row[column] - low) / room:.1f}"
            for row in rows
            if row[column] is not None
        ]
        return " ".join(where)

    return Markup(
        '<svg class="spark" viewBox="0 0 {w} {h}" role="img" aria-label="{title}" preserveAspectRatio="none">'
        '<polyline class="v1" points="{one}"/><polyline class="v2" points="{two}"/></svg>'
    ).format(w=_WIDTH, h=_HEIGHT, title=title, one=line(1), two=line(2))


def ratio_band(low: float | None, middle: float | None, high: float | None, margin: float) -> Markup:
    """Return the ratio's confidence band between a quarter and four times V1, with V1 itself and the margin."""
    if low is None or middle is None or high is None:
        return Markup("")

    def x(ratio: float) -> float:
        inside = min(_HIGH, max(_LOW, math.log(max(ratio, 1e-9)))) if math.isfinite(ratio) else _HIGH
        return _WIDTH * (inside - _LOW) / (_HIGH - _LOW)

    left, right = x(low), x(high)
    said = f"V2 is {middle:.2f} times V1, between {low:.2g} and {'?' if math.isinf(high) else f'{high:.2g}'}"
    return Markup(
        '<svg class="band" viewBox="0 0 {w} 22" role="img" aria-label="{said}" preserveAspectRatio="none">'
        '<line class="equal" x1="{one:.1f}" x2="{one:.1f}" y1="0" y2="22"/>'
        '<line class="margin" x1="{margin:.1f}" x2="{margin:.1f}" y1="0" y2="22"/>'
        '<rect x="{left:.1f}" y="7" width="{width:.1f}" height="8" rx="4"/>'
        '<circle cx="{middle:.1f}" cy="11" r="5"/></svg>'
    ).format(
        w=_WIDTH,
        said=said,
        one=x(1.0),
        margin=x(margin),
        left=left,
        width=max(2.0, right - left),
        middle=x(middle),
    )


def openings(points: Sequence[dict[str, Any]], breaker: str) -> Markup:
    """Return when a breaker was open, as a strip over the time that the points span."""
    rows = [(p["at"], p["breakers"][breaker]) for p in points if breaker in p.get("breakers", {})]
    if len(rows) < 2:
        return Markup("")
    first, span = rows[0][0], (rows[-1][0] - rows[0][0]) or 1.0
    pieces = [
        Markup('<rect class="open" x="{x:.1f}" y="0" width="{w:.1f}" height="14"/>').format(
            x=_WIDTH * (at - first) / span, w=max(1.0, _WIDTH * (following - at) / span)
        )
        for (at, is_open), (following, _) in pairwise(rows)
        if is_open
    ]
    opened = sum(is_open for _, is_open in rows) / len(rows)
    return Markup(
        '<svg class="strip" viewBox="0 0 {w} 14" role="img" aria-label="{breaker}: open in {opened:.0%} of the time" '
        'preserveAspectRatio="none"><rect class="closed" x="0" y="0" width="{w}" height="14"/>{pieces}</svg>'
    ).format(w=_WIDTH, breaker=breaker, opened=opened, pieces=Markup("").join(pieces))

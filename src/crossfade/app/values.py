"""How a metric's values, bounds and evidence are said, on pages and in the terminal. Pure."""

from __future__ import annotations

import math

from crossfade.core.plan import MetricKind

_TIMES = (MetricKind.LATENCY, MetricKind.TIMING, MetricKind.LATENCY_MEAN)


def value(kind: str, number: float | None) -> str:
    """Return a metric's value in the unit of its kind; `-` for none."""
    if number is None:
        return "-"
    if kind in _TIMES:
        return f"{number:.0f} ms" if number >= 10 else f"{number:.1f} ms"
    if kind == MetricKind.VALUE:
        return f"{number:,.2f}"
    if kind in (MetricKind.CRITICAL_ERRORS, MetricKind.COMPLAINTS):
        return f"{number:,.0f}"
    return f"{100 * number:.2f}".rstrip("0").rstrip(".") + " %"


def bound(kind: str, comparison: str, number: float, *, of_v1: bool) -> str:
    """Return a bound as the plan says it; `of_v1`: so many times V1's value."""
    return f"{comparison} {f'{number:g} times V1' if of_v1 else value(kind, number)}"


def odds(log_e: float | None) -> str:
    """Return evidence, a natural logarithm, as odds: `12:1`; `-` for none."""
    if log_e is None or math.isnan(log_e):
        return "-"
    if log_e > math.log(1e6):
        return "over 1,000,000:1"
    number = math.exp(log_e)
    return f"{number:,.0f}:1" if number >= 10 else f"{number:.1f}:1" if number >= 0.05 else "0:1"

"""The same report as one HTML page: no script, nothing from elsewhere, plots drawn as SVG.

Every text goes through the template's escaping; this module only measures bars and steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from crossfade.app.simulate.options import SimulateOptions
from crossfade.app.simulate.pool import Outcome
from crossfade.app.simulate.report import as_text
from crossfade.core.words import duration
from crossfade.simulation.model import Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of a plot; `length` and `mark` lie between 0 and 1."""

    label: str
    text: str
    length: float
    mark: float | None = None
    """Where the 90th percentile lies."""
    style: str = "a"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """Bars below each other."""

    title: str
    note: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How many of the runs had a value at most: a rising staircase."""

    title: str
    note: str
    points: tuple[tuple[float, float], ...]
    """Both from 0 to 1."""
    low: str
    high: str


def as_html(
    options: SimulateOptions,
    scenario: Scenario,
    data: dict[str, Any],
    outcomes: Sequence[Outcome],
    rivals: Sequence[str],
) -> str:
    """Return the page."""
    results = [outcome.result for outcome in outcomes]
    found = [result for result in results if result.seconds_to_rollback is not None]
    steps = [
        _steps("Time from the defect to the rollback", [r.seconds_to_rollback or 0.0 for r in found], duration),
        _steps("V2 requests from the defect to the rollback", [r.v2_requests for r in found], _number),
    ]
    folder = FileSystemLoader(Path(__file__).parent)
    page = Environment(loader=folder, autoescape=True, undefined=StrictUndefined).get_template("page.html")
    return page.render(
        name=scenario.plan.name,
        runs=data["runs"],
        seed=options.seed,
        plots=[plot for plot in (_phases(scenario, data), _prices(data), *_rivals(data, rivals)) if plot.bars],
        steps=[one for one in steps if one is not None],
        text=as_text(options, scenario, data, rivals),
    )


def _phases(scenario: Scenario, data: dict[str, Any]) -> Plot:
    rows = list(zip(scenario.plan.phases, data["phases"], strict=True))
    soaks = [phase.soak_s / 3600 for phase in scenario.plan.phases]
    most = max([*soaks, *(row["hours_p90"] or 0.0 for _, row in rows)]) or 1.0
    bars = []
    for phase, row in rows:
        p50, p90 = row["hours_p50"], row["hours_p90"]
        waits = ", ".join(f"{gate} {duration(hours * 3600)}" for gate, hours in row["held_for"].items() if hours >= 0.1)
        told = "no run left it" if p50 is None else f"{duration(p50 * 3600)}, in nine of ten {duration(p90 * 3600)}"
        bars += [
            Bar(
                label=phase.name,
                text=told + (f"; waited for {waits}" if waits else ""),
                length=(p50 or 0.0) / most,
                mark=None if p90 is None else p90 / most,
            ),
            Bar(label="", text=f"soak {duration(phase.soak_s)}", length=phase.soak_s / 3600 / most, style="quiet"),
        ]
    return Plot(title="Time in each phase", note="Median; the line is the 90th percentile.", bars=tuple(bars))


def _prices(data: dict[str, Any]) -> Plot:
    rows = data["estimates"]
    scale = _log_scale([row["users_hurt"] for row in rows])
    last = ""
    bars = []
    for row in rows:
        label = row["phase"] if row["phase"] != last else ""
        last = row["phase"]
        text = (
            f"{row['failure_rate']:.0%} fail: {row['users_hurt']:,} users, rolled back after {duration(row['seconds'])}"
        )
        bars.append(Bar(label=label, text=text, length=scale(row["users_hurt"])))
    return Plot(
        title="Users whom a defect would hurt, if it began with the phase",
        note="Estimated; each bar's length is logarithmic.",
        bars=tuple(bars),
    )


def _rivals(data: dict[str, Any], rivals: Sequence[str]) -> list[Plot]:
    if not rivals:
        return []
    rows = [("crossfade", data), *((name, data[name]) for name in rivals)]
    failed = {name: row["v2_failed_to_rollback"]["p50"] for name, row in rows}
    scale = _log_scale([value for value in failed.values() if value is not None])
    wrong = {name: row["rolled_back_before_defect"]["rate"] for name, row in rows}
    return [
        Plot(
            title="Rolled back falsely",
            note="Share of the runs in which V2 was rolled back before it had a defect, or without one.",
            bars=tuple(
                Bar(label=name, text=f"{rate:.1%}", length=rate, style=_style(name)) for name, rate in wrong.items()
            ),
        ),
        Plot(
            title="V2's failed requests until the rollback",
            note="Median of the runs that were rolled back after the defect began; lengths are logarithmic.",
            bars=tuple(
                Bar(
                    label=name,
                    text="no such run" if value is None else f"{value:,.0f}",
                    length=0.0 if value is None else scale(value),
                    style=_style(name),
                )
                for name, value in failed.items()
            ),
        ),
    ]


def _style(name: str) -> str:
    return "a" if name == "crossfade" else "b"


def _steps(title: str, values: Sequence[float], tell: Callable[[float], str]) -> Steps | None:
    if not values:
        return None
    rising = sorted(values)
    most = rising[-1] or 1.0
    points = [(0.0, 0.0)]
    for index, value in enumerate(rising):
        points += [(value / most, index / len(rising)), (value / most, (index + 1) / len(rising))]
    median = rising[(len(rising) - 1) // 2]
    return Steps(
        title=title,
        note=f"Share of {len(rising)} runs that were rolled back in so much at most; half took {tell(median)} at most.",
        points=tuple(points),
        low=tell(0),
        high=tell(most),
    )


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _log_scale(values: Sequence[float]) -> Callable[[float], float]:
    most = math.log1p(max(values, default=1.0)) or 1.0
    return lambda value: math.log1p(value) / most

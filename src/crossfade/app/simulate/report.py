"""From outcomes to what is printed: a document for programs, and a page of 80 columns for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from crossfade.app.planfile.lint import Finding, lint
from crossfade.app.simulate.options import SimulateOptions
from crossfade.app.simulate.pool import Outcome
from crossfade.core.plan import MetricKind, Phase
from crossfade.core.split import BUCKETS
from crossfade.core.words import duration, percent
from crossfade.simulation.draws import latency_bins
from crossfade.simulation.floors import lai, wald
from crossfade.simulation.model import (
    Defect,
    Effect,
    Scenario,
    fact_baseline,
    failure_baseline,
    latency_median_ms,
)
from crossfade.simulation.rivals import RivalRun
from crossfade.simulation.run import Ending, is_beyond
from crossfade.simulation.summary import Spread, Summary, spread, summarise

_DAY_S = 86_400.0
_SIZES = (0.02, 0.05, 0.2)
"""Failure rates of V2 whose price is told for each phase."""
_OVER_FLOOR = 2.5
"""How many times Lai's floor the product needs, about: 1.5 to 3 with many users, more with few."""
WIDTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a defect that begins with a phase would cost, estimated from the floor."""

    phase: str
    failing: float
    v2_requests: float
    seconds: float
    users_hurt: int


def summary_of(scenario: Scenario, outcomes: Sequence[Outcome]) -> Summary:
    """Return the summary of the runs."""
    return summarise([outcome.result for outcome in outcomes], [phase.name for phase in scenario.plan.phases])


# ── bounds and estimates ─────────────────────────────────────────────────────────────────────────────────────


def shares(scenario: Scenario, phase: Phase) -> tuple[float, float]:
    """Return (share of all users in groups where V2 has a control, V2's share among them), both 0..1."""
    rule, staff = scenario.plan.assignment, scenario.plan.staff_cohorts()
    sizes: dict[str | None, int] = {n: s for n, s in rule.cohort_sizes().items() if n not in staff}
    total = rule.users or scenario.users
    sizes[None] = max(0, total - sum(sizes.values()))
    compared = {name: size for name, size in sizes.items() if 0 < phase.split.share_of(name) < BUCKETS}
    inside = sum(compared.values())
    if not inside:
        return 0.0, 0.0
    on_v2 = sum(size * phase.split.share_of(name) / BUCKETS for name, size in compared.items())
    return inside / total, on_v2 / inside


def floors(scenario: Scenario) -> dict[str, float | None]:
    """Return Wald's and Lai's floors, in V2 requests, for the first defect; None where there is no such bound.

    Lai's is of a defect that may begin at any request of V2 in the whole plan, over which the plan's error probability
    is promised.
    """
    if not scenario.defects:
        return {"wald": None, "lai": None}
    defect = scenario.defects[0]
    phases, alpha = scenario.plan.phases, scenario.plan.confidence.false_rollback
    share = shares(scenario, phases[defect.phase])[1]
    region = next((r.share for r in scenario.regions if r.name == defect.region), 1.0)
    planned = sum(phase.soak_s * phase.target / BUCKETS for phase in phases) * scenario.rate
    pairs = list(_rates(scenario, defect))
    found = [value for pair in pairs if (value := wald(*pair, share, alpha)) is not None]
    late = [value for pair in pairs if (value := lai(*pair, share, alpha, planned * region)) is not None]
    return {
        "wald": min(found) / region if found else None,
        "lai": min(late) / region if late else None,
    }


def _rates(scenario: Scenario, defect: Defect) -> Iterator[tuple[float, float]]:
    """Yield V1's and V2's rate of bad outcomes; for latency at each threshold that could be looked at."""
    kinds = {metric.name: metric for metric in scenario.plan.metrics}
    metric = kinds.get(defect.metric)
    if defect.effect is not Effect.RATE:
        median = latency_median_ms(scenario.plan)
        slow = (defect.value, 1.0) if defect.effect is Effect.FACTOR else (1.0, defect.value)
        one, two = 1 - latency_bins(median, 1, 1).cumsum(), 1 - latency_bins(median, *slow).cumsum()
        yield from ((float(a), float(b)) for a, b in zip(one, two, strict=True) if 1e-4 < a < 1 - 1e-4)
    elif metric is not None and metric.kind in (MetricKind.AVAILABILITY, MetricKind.RATIO):
        yield fact_baseline(metric), 1 - defect.value
    elif metric is not None and metric.kind is MetricKind.CRITICAL_ERRORS:
        yield failure_baseline(scenario.plan), failure_baseline(scenario.plan) + defect.value
    else:
        yield failure_baseline(scenario.plan), defect.value


def prices(scenario: Scenario) -> list[Price]:
    """Return what failures of several sizes would cost in each phase that compares, estimated."""
    result = []
    alpha, base = scenario.plan.confidence.false_rollback, failure_baseline(scenario.plan)
    before = 0.0
    for phase in scenario.plan.phases:
        inside, share = shares(scenario, phase)
        v2_rate = scenario.rate * inside * share
        for size in _SIZES:
            least = lai(base, size, share, alpha, before) if v2_rate else None
            if least is None or size <= base:
                continue
            needed = _OVER_FLOOR * least
            people = scenario.users * phase.target / BUCKETS
            failures = needed * size
            hurt = people * (1 - math.exp(-failures / people)) if people else failures
            result.append(
                Price(
                    phase=phase.name,
                    failing=size,
                    v2_requests=needed,
                    seconds=needed / v2_rate,
                    users_hurt=max(1, round(hurt)),
                )
            )
        before += v2_rate * phase.soak_s
    return result


def findings(scenario: Scenario) -> tuple[Finding, ...]:
    """Return the gates that this traffic can't be expected to decide within their phase's soak."""
    plan = scenario.plan
    if not plan.assignment.users:
        plan = replace(plan, assignment=replace(plan.assignment, users=scenario.users))
    return lint(plan, scenario.rate * _DAY_S / plan.assignment.users)


# ── for programs ─────────────────────────────────────────────────────────────────────────────────────────────


def as_data(
    options: SimulateOptions, scenario: Scenario, outcomes: Sequence[Outcome], rivals: Sequence[str]
) -> dict[str, Any]:
    """Return the document that `-o json` prints."""
    found = summary_of(scenario, outcomes)
    lasted = [o.result.at / 3600 for o in outcomes if o.result.ending is Ending.COMPLETED]
    document: dict[str, Any] = {
        "plan": scenario.plan.name,
        "scenario": {
            "rate": scenario.rate,
            "users": scenario.users,
            "traffic": scenario.curve.value,
            "shared_bursts": scenario.shared_bursts,
            "clustered": scenario.clustered,
            "chronic": scenario.chronic,
            "defects": [defect.text for defect in scenario.defects],
            "seed": options.seed,
        },
        "runs": found.runs,
        "rolled_back": {"rate": found.rolled_back / found.runs, "by": found.triggers},
        "rolled_back_before_defect": {"rate": found.too_soon / found.runs},
        "v2_requests_to_rollback": _spread(found.requests),
        "v2_failed_to_rollback": _spread(found.failed),
        "seconds_to_rollback": _spread(found.seconds),
        "completed": {"rate": found.completed / found.runs},
        "false_promotion": {"rate": found.promoted_ill / found.runs},
        "duration_hours": _spread(spread(lasted)),
        "phases": [
            {
                "name": phase.name,
                "entered": phase.entered,
                "left": phase.left,
                "hours_p50": phase.hours.p50,
                "hours_p90": phase.hours.p90,
                "held_for": phase.held_for,
            }
            for phase in found.phases
        ],
        "floor": floors(scenario),
        "undecidable": [
            {
                "phase": finding.phase,
                "gate": finding.gate,
                "needed_v2_requests": finding.needed_requests if math.isfinite(finding.needed_requests) else None,
                "expected_v2_requests": finding.expected_requests,
                "message": finding.message,
            }
            for finding in findings(scenario)
        ],
        "estimates": [
            {
                "phase": price.phase,
                "failure_rate": price.failing,
                "v2_requests": round(price.v2_requests),
                "seconds": round(price.seconds),
                "users_hurt": price.users_hurt,
            }
            for price in prices(scenario)
        ],
    }
    for name in rivals:
        document[name] = _rival(scenario, [outcome.rivals[name] for outcome in outcomes])
    return document


def _spread(values: Spread) -> dict[str, float | None]:
    return {"p50": values.p50, "p90": values.p90}


def _rival(scenario: Scenario, runs: Sequence[RivalRun]) -> dict[str, Any]:
    """Return a rival's block: its phases go by the plan's soaks, so all that ends a run is its rollback."""
    hits = [run for run in runs if run.seconds is not None and not run.too_soon]
    plan = scenario.plan
    ends = list(accumulate(phase.soak_s for phase in plan.phases))
    phases, promoted_ill = [], 0
    for phase, end in zip(plan.phases, ends, strict=True):
        left = sum(run.at is None or run.at > end for run in runs)
        hours = phase.soak_s / 3600 if left else None
        phases.append(
            {
                "name": phase.name,
                "entered": sum(run.at is None or run.at > end - phase.soak_s for run in runs),
                "left": left,
                "hours_p50": hours,
                "hours_p90": hours,
                "held_for": {},
            }
        )
    ill = [d.phase for d in scenario.defects if is_beyond(plan, d, plan.phases[d.phase].margin)]
    if ill:
        promoted_ill = sum(run.at is None or run.at > ends[min(ill)] for run in runs)
    return {
        "runs": len(runs),
        "rolled_back": {"rate": sum(run.seconds is not None for run in runs) / len(runs)},
        "rolled_back_before_defect": {"rate": sum(run.too_soon for run in runs) / len(runs)},
        "v2_requests_to_rollback": _spread(spread([run.v2_requests for run in hits])),
        "v2_failed_to_rollback": _spread(spread([run.v2_failed for run in hits])),
        "seconds_to_rollback": _spread(spread([run.seconds or 0.0 for run in hits])),
        "completed": {"rate": sum(run.seconds is None for run in runs) / len(runs)},
        "false_promotion": {"rate": promoted_ill / len(runs)},
        "phases": phases,
        "floor": floors(scenario),
    }


# ── for people ───────────────────────────────────────────────────────────────────────────────────────────────


def as_text(options: SimulateOptions, scenario: Scenario, data: dict[str, Any], rivals: Sequence[str]) -> str:
    """Return the page for people, at most 80 columns wide."""
    lines = [
        *_head(options, scenario, data),
        "",
        *_outcome(scenario, data),
        "",
        *_phases(scenario, data),
        "",
        *_gates(data),
        "",
        *_prices(data),
    ]
    if rivals:
        lines += ["", *_rivals(data, rivals)]
    return "\n".join(lines)


def _head(options: SimulateOptions, scenario: Scenario, data: dict[str, Any]) -> list[str]:
    extras = [
        scenario.curve.value,
        "outages of both versions" if scenario.shared_bursts else "",
        f"failures in clusters of {scenario.clustered}" if scenario.clustered > 1 else "",
        f"{scenario.chronic:.3g} of the users always in trouble" if scenario.chronic else "",
    ]
    lines = [f"{scenario.plan.name}: {data['runs']} simulated rollouts, seed {options.seed}"]
    about = ", ".join(filter(None, extras))
    lines += _wrap(f"Traffic: {scenario.rate:.3g} requests/s of {scenario.users:,} users, {about}")
    for defect in scenario.defects:
        lines += _wrap(f"Defect:  {defect.text}")
    return lines if scenario.defects else [*lines, "Defect:  none, V2 is as good as V1"]


def _outcome(scenario: Scenario, data: dict[str, Any]) -> list[str]:
    runs = data["runs"]

    def of(rate: float) -> str:
        return f"{round(rate * runs)} of {runs} ({rate:.1%})"

    lines = [f"Completed       {of(data['completed']['rate'])}{_lasting(data)}"]
    back = f"Rolled back     {of(data['rolled_back']['rate'])}"
    causes = ", ".join(f"{name} {count}" for name, count in data["rolled_back"]["by"].items())
    lines += _wrap(f"{back}{': ' + causes if causes else ''}")
    wrong = data["rolled_back_before_defect"]["rate"]
    if wrong or not scenario.defects:
        allowed = scenario.plan.confidence.false_rollback
        lines.append(f"  falsely       {of(wrong)}; the plan allows {allowed:.3g}")
    left = 1 - data["completed"]["rate"] - data["rolled_back"]["rate"]
    if left > 1e-9:
        lines.append(f"Still waiting   {of(left)} after {duration(scenario.horizon_s)}, twice the plan's soaks")
    seconds, requests, failed = (data[f"{key}_to_rollback"] for key in ("seconds", "v2_requests", "v2_failed"))
    if seconds["p50"] is not None:
        lines += [
            "From the defect to the rollback (median; 90 % within)",
            f"  time          {duration(seconds['p50'])}; {duration(seconds['p90'])}",
            f"  V2 requests   {requests['p50']:,.0f}; {requests['p90']:,.0f}{_against_floor(data)}",
            f"  failed        {failed['p50']:,.0f}; {failed['p90']:,.0f}",
        ]
    if scenario.defects:
        lines.append(f"Promoted ill    {of(data['false_promotion']['rate'])}: a phase left with V2 beyond its margin")
    return lines


def _lasting(data: dict[str, Any]) -> str:
    hours = data["duration_hours"]
    if hours["p50"] is None:
        return ""
    return f"; the plan takes {duration(hours['p50'] * 3600)}, in nine of ten {duration(hours['p90'] * 3600)}"


def _against_floor(data: dict[str, Any]) -> str:
    best = data["floor"]["lai"] or data["floor"]["wald"]
    return "" if best is None else f" (no test needs less than {best:,.0f})"


def _phases(scenario: Scenario, data: dict[str, Any]) -> list[str]:
    lines = [f"{'Phase':<10} {'V2':>6} {'runs':>5} {'median':>9} {'90 %':>9}  waited after its soak for"]
    for phase, row in zip(scenario.plan.phases, data["phases"], strict=True):
        hours = [row["hours_p50"], row["hours_p90"]]
        p50, p90 = ("-" if value is None else duration(value * 3600) for value in hours)
        waits = [f"{gate} {duration(late * 3600)}" for gate, late in row["held_for"].items() if late >= 0.1]
        start = f"{phase.name[:10]:<10} {percent(phase.target):>6} {row['entered']:>5} {p50:>9} {p90:>9}  "
        lines += _wrap(start + (", ".join(waits) or "nothing"), indent=len(start))
    return lines


def _gates(data: dict[str, Any]) -> list[str]:
    if not data["undecidable"]:
        return ["Gates: each can decide within its phase's soak at this traffic"]
    lines = ["Gates that this traffic can't be expected to decide in time"]
    for found in data["undecidable"]:
        lines += _wrap("  " + found["message"], indent=4)
    return lines


def _prices(data: dict[str, Any]) -> list[str]:
    if not data["estimates"]:
        return ["No phase compares V2 with V1 by chance, so no defect's price can be told"]
    lines = [
        "What a V2 that fails this often would cost, if it began with the phase",
        "(estimated: time until the rollback, users who see a failure)",
        f"{'':<10}" + "".join(f"{size:>20.0%}" for size in _SIZES),
    ]
    names = dict.fromkeys(row["phase"] for row in data["estimates"])
    for name in names:
        cells = []
        for size in _SIZES:
            row = next((r for r in data["estimates"] if r["phase"] == name and r["failure_rate"] == size), None)
            text = "-" if row is None else f"{duration(row['seconds'])}, {row['users_hurt']:,} users"
            cells.append(f"{text:>20}")
        lines.append(f"{name[:10]:<10}" + "".join(cells))
    return lines


def _rivals(data: dict[str, Any], rivals: Sequence[str]) -> list[str]:
    lines = [
        "Other tools' rules on the same scenario, phases by the plan's soaks",
        f"{'':<11} {'rolled back':>12} {'falsely':>9} {'median time':>12} {'V2 requests':>12} {'failed':>10}",
    ]
    for name in ("crossfade", *rivals):
        row = data if name == "crossfade" else data[name]
        seconds, requests, failed = (
            row[f"{key}_to_rollback"]["p50"] for key in ("seconds", "v2_requests", "v2_failed")
        )
        lines.append(
            f"{name:<11} {row['rolled_back']['rate']:>12.1%} {row['rolled_back_before_defect']['rate']:>9.1%} "
            f"{_or_dash(None if seconds is None else duration(seconds)):>12} "
            f"{_or_dash(None if requests is None else f'{requests:,.0f}'):>12} "
            f"{_or_dash(None if failed is None else f'{failed:,.0f}'):>10}"
        )
    return lines


def _or_dash(text: str | None) -> str:
    return text or "-"


def _wrap(text: str, indent: int = 9) -> list[str]:
    """Return a text as lines of at most 80 columns; those after the first are indented."""
    lines, rest = [], text
    while len(rest) > WIDTH:
        cut = rest.rfind(" ", 0, WIDTH + 1)
        cut = WIDTH if cut <= indent else cut
        lines.append(rest[:cut].rstrip())
        rest = " " * indent + rest[cut:].lstrip()
    return [*lines, rest]

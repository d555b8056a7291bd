"""What was asked of `crossfade simulate`, and the scenario that it makes of a plan."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from crossfade.app.planfile import load_plan, quantities
from crossfade.app.simulate.defects import parse_defect
from crossfade.core.plan import Plan
from crossfade.errors import UsageError
from crossfade.simulation.model import SEARCHES_PER_DAY, Curve, Scenario, plan_regions
from crossfade.simulation.rivals import RULES

_USUAL_RATE = 10.0
_DAY_S = 86_400.0
_RATE_MAX = 10_000
_USERS_MAX = 2_000_000
"""Each of them is an individual in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """The command's options as typed; everything picklable, for the worker processes."""

    plan: Path
    rate: float | None = None
    users: int | None = None
    runs: int = 20
    seed: int = 1
    traffic: str = Curve.STEADY.value
    shared_bursts: bool = False
    clustered: int = 1
    chronic: str = "0%"
    defects: tuple[str, ...] = ()
    regions: int | None = None
    against: str = ""
    tick_s: float = 10.0
    processes: int | None = None


def rivals_of(options: SimulateOptions) -> tuple[str, ...]:
    """Return the rivals asked for; UsageError for one that isn't known."""
    names = tuple(name.strip().lower() for name in options.against.split(",") if name.strip())
    for name in names:
        if name not in RULES:
            raise UsageError(f"--against {name!r}: there are {', '.join(RULES)}")
    return names


def scenario_of(options: SimulateOptions) -> Scenario:
    """Return what is to be simulated; PlanError or UsageError where that can't be."""
    plan = load_plan(options.plan)
    rate, users = _size(options, plan)
    regions = plan_regions(plan, options.regions)
    try:
        return Scenario(
            plan=plan,
            rate=rate,
            users=users,
            curve=Curve(options.traffic),
            shared_bursts=options.shared_bursts,
            clustered=options.clustered,
            chronic=quantities.share(options.chronic),
            defects=tuple(parse_defect(text, plan, regions) for text in options.defects),
            regions=regions,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _size(options: SimulateOptions, plan: Plan) -> tuple[float, int]:
    """Return requests per second and users; either follows from the other at ten requests per user and day."""
    rate, users = options.rate, options.users
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise UsageError(f"--rate {rate:g}: without requests nothing can be seen; give requests per second, above 0")
    if rate is not None and rate > _RATE_MAX:
        raise UsageError(f"--rate {rate:g}: at most {_RATE_MAX:,} requests per second can be simulated")
    if users is not None and users > _USERS_MAX:
        raise UsageError(f"--users {users}: at most {_USERS_MAX:,} can be simulated")
    if users is None:
        users = round(rate * _DAY_S / SEARCHES_PER_DAY) if rate is not None else plan.assignment.users or 0
        users = min(users, _USERS_MAX)
    if rate is None:
        rate = users * SEARCHES_PER_DAY / _DAY_S if users else _USUAL_RATE
    return rate, max(2, users or round(rate * _DAY_S / SEARCHES_PER_DAY))

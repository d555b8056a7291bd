"""Runs, spread over the cores. A run's result depends on the scenario, the seed and its number, so not on where it ran.

Workers are spawned and load the plan themselves: a plan holds read-only mappings, which don't travel.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache

from crossfade.app.simulate.options import SimulateOptions, scenario_of
from crossfade.simulation.model import Scenario
from crossfade.simulation.rivals import RivalRun, judge, minutes
from crossfade.simulation.run import Looking, RunResult, run_once


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run, with what the rivals would have done on the same scenario."""

    result: RunResult
    rivals: dict[str, RivalRun]


def simulate(
    options: SimulateOptions, rivals: Sequence[str], *, told: Callable[[int], None] | None = None
) -> list[Outcome]:
    """Return the outcomes of all runs, in their order; `told` hears of each one as it is done."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(options.runs, options.processes or cores)
    jobs = [(options, tuple(rivals), run) for run in range(options.runs)]
    found: list[Outcome] = []
    if workers <= 1:
        for job in jobs:
            found.append(_one(job))
            _tell(told, len(found))
        return found
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts) as pool:
        try:
            for outcome in pool.map(_one, jobs):
                found.append(outcome)
                _tell(told, len(found))
        except BaseException:  # an interrupt must not wait for the runs that haven't begun
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _leave_interrupts() -> None:
    """Let the parent alone be interrupted; it ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _tell(told: Callable[[int], None] | None, done: int) -> None:
    if told is not None:
        told(done)


@lru_cache(maxsize=1)
def _scenario(options: SimulateOptions) -> Scenario:
    return scenario_of(options)


def _one(job: tuple[SimulateOptions, tuple[str, ...], int]) -> Outcome:
    options, rivals, run = job
    scenario = _scenario(options)
    result = replace(run_once(scenario, options.seed, run, Looking(fine_s=options.tick_s)), events=())
    seen = minutes(scenario, options.seed, run) if rivals else None
    return Outcome(result=result, rivals={name: judge(name, seen) for name in rivals} if seen else {})

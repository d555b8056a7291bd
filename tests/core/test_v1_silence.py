"""Since when V1 is silent: what breaks the silence, and what is no silence."""

from __future__ import annotations

import pytest

from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.evidence.watch import Watch, see
from crossfade.core.split import Version
from crossfade.testing.simulator.plan import PLAN

V1, V2 = Arm(Version.V1, "", ""), Arm(Version.V2, "", "")
QUIET = {V2: Cell(requests=100)}


def silent_since(*cells: dict[Arm, Cell] | None) -> float | None:
    """Return it after ticks of 10 s; None stands for one in which nobody looked."""
    watch = Watch(begun_at=0.0)
    for number, held in enumerate(cells):
        sources = frozenset() if held is None else frozenset({"c"})
        tick = Tick(number=number, start=10.0 * number, length=10.0, cells=held or {}, sources=sources)
        watch = see(PLAN, watch, tick, phase=len(PLAN.phases) - 1, in_phase=True)
    return watch.v1_silent_since


def test_it_is_counted_from_the_first_tick_in_which_nobody_wanted_v1() -> None:
    assert silent_since({V1: Cell(requests=1)}, QUIET, QUIET) == 10.0


@pytest.mark.parametrize(
    "wanted",
    [
        {V1: Cell(requests=1)},
        {V2: Cell(requests=100, asked_v1=1)},
        {V2: Cell(requests=100, failures=1, critical=1, fallbacks=1)},
    ],
    ids=["answered by V1", "asked for V1's own path", "answered by V1 in V2's place"],
)
def test_one_request_ends_it(wanted: dict[Arm, Cell]) -> None:
    assert silent_since(QUIET, wanted) is None
    assert silent_since(QUIET, wanted, QUIET) == 20.0


def test_what_nobody_looked_at_was_not_silent() -> None:
    assert silent_since(QUIET, None) is None
    assert silent_since(QUIET, None, QUIET) == 20.0

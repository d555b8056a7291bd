"""Simulated rollouts: reproducible, the same however closely they are looked at, and seen to be able to fail."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crossfade.app.planfile import load_plan
from crossfade.core import events as e
from crossfade.core.evidence import book, users
from crossfade.core.evidence.pace import log_e_slower
from crossfade.core.evidence.streams import evidence_now
from crossfade.core.evidence.sums import Tick
from crossfade.core.plan import DAY, HOUR, Plan
from crossfade.core.split import Split, Version
from crossfade.simulation import draws, run
from crossfade.simulation.draws import World, latency_bins, tick
from crossfade.simulation.model import BEGIN, Curve, Defect, Effect, Scenario
from crossfade.simulation.run import Ending, Looking, run_once

SHIPPED = load_plan(Path("plans/trips-v2.yaml"))
FAILING = Defect(metric="failure_rate", effect=Effect.RATE, value=0.05, phase=1, after_s=DAY)


def shorter(plan: Plan, soak_s: float) -> Plan:
    """The same plan with short soaks and without the gates that need days."""
    phases = tuple(
        replace(
            phase,
            soak_s=soak_s,
            gates=tuple(replace(gate, for_s=min(gate.for_s, HOUR)) for gate in phase.gates),
        )
        for phase in plan.phases[:4]
    )
    return replace(plan, phases=phases)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario(plan=shorter(SHIPPED, 2 * DAY), rate=2.0, users=17_280)


def test_a_seed_and_a_run_number_give_the_same_run(scenario: Scenario) -> None:
    ill = replace(scenario, defects=(FAILING,))
    assert run_once(ill, 7, 3) == run_once(ill, 7, 3)
    assert run_once(ill, 7, 3) != run_once(ill, 7, 4)


def test_a_v2_that_is_as_good_completes_phase_by_phase(scenario: Scenario) -> None:
    result = run_once(scenario, 1, 0)
    assert result.ending is Ending.COMPLETED
    assert [phase.name for phase in result.phases] == ["internal", "canary", "early", "half"]
    assert not result.too_soon
    assert result.onset is None


def test_outages_of_both_versions_roll_nothing_back_and_end(scenario: Scenario) -> None:
    """They spoil the target, so the plan waits; time goes on past each of them to the end of the simulation."""
    for number in range(2):
        result = run_once(replace(scenario, shared_bursts=True), 5, number)
        assert result.ending is Ending.UNFINISHED
        assert result.at == scenario.horizon_s


def test_a_v2_that_fails_is_rolled_back_and_its_price_counted(scenario: Scenario) -> None:
    result = run_once(replace(scenario, defects=(FAILING,)), 1, 0)
    assert result.ending is Ending.ROLLED_BACK
    assert result.trigger == "failure_rate"
    assert result.onset == pytest.approx(result.phases[1].entered + DAY)
    assert result.seconds_to_rollback is not None
    assert 0.02 < result.v2_failed / result.v2_requests < 0.1
    assert result.v2_requests < 2000
    assert not result.promoted_ill


@pytest.mark.parametrize(
    "defect",
    [
        Defect(metric="flights_available", effect=Effect.RATE, value=0.9, phase=1, after_s=HOUR),
        Defect(metric="failure_rate", effect=Effect.RATE, value=1.0, phase=1, after_s=HOUR),
        Defect(metric="failure_rate", effect=Effect.RATE, value=0.3, phase=1, after_s=HOUR, region="us"),
    ],
    ids=["flights missing", "every answer fails", "one region fails"],
)
def test_each_kind_of_defect_is_found(scenario: Scenario, defect: Defect) -> None:
    result = run_once(replace(scenario, defects=(defect,)), 2, 0)
    assert (result.ending, result.trigger) == (Ending.ROLLED_BACK, defect.metric)
    assert result.v2_requests < 2500


def test_a_slow_tail_holds_the_phase_where_the_plan_says_so(scenario: Scenario) -> None:
    slow = Defect(metric="latency_p95", effect=Effect.FACTOR, value=2.0, phase=1, after_s=0)
    result = run_once(replace(scenario, defects=(slow,), weeks_max=1.0), 2, 0)
    assert result.ending is Ending.UNFINISHED
    assert len(result.phases) == 2
    assert any("latency_p95" in reason or reason == "HOLD" for reason in result.phases[1].held)


def _acts(events: tuple[e.Event, ...]) -> list[tuple[str, float]]:
    kinds = (e.PhasePromoted, e.RolledBack, e.RolloutCompleted)
    return [(type(event).__name__, event.at) for event in events if isinstance(event, kinds)]


SHORT = shorter(SHIPPED, 6 * HOUR)
SHORT = replace(SHORT, phases=SHORT.phases[:3])
SOMEHOW = [
    (),
    (Defect(metric="failure_rate", effect=Effect.RATE, value=0.03, phase=2, after_s=HOUR),),
    (Defect(metric="hotels_available", effect=Effect.RATE, value=0.9, phase=1, after_s=0, region="eu"),),
]


@pytest.mark.parametrize("defects", SOMEHOW, ids=["healthy", "failing", "hotels"])
def test_looking_only_where_a_verdict_can_change_decides_as_looking_after_each_tick(defects: tuple[Defect]) -> None:
    """On the same ticks the same phases, the same rollback, at the same times, for the same reasons."""
    scenario = Scenario(plan=SHORT, rate=5.0, users=43_200, defects=defects)
    often = run_once(scenario, 3, 0, Looking(coarse_s=600.0, fine_s=600.0, every_tick=True))
    seldom = run_once(scenario, 3, 0, Looking(coarse_s=600.0, calm_s=600.0, fine_s=600.0))
    assert _acts(often.events) == _acts(seldom.events)
    assert (often.reason, often.v2_requests) == (seldom.reason, seldom.v2_requests)


@pytest.mark.slow
@pytest.mark.parametrize("defects", SOMEHOW, ids=["healthy", "failing", "hotels"])
def test_hours_where_nothing_happens_and_minutes_where_it_does_decide_as_minutes_all_along(
    defects: tuple[Defect],
) -> None:
    """Sums of an hour weigh a little differently from sixty of a minute: same decisions, at nearly the same time."""
    scenario = Scenario(plan=SHORT, rate=5.0, users=43_200, defects=defects)
    often = run_once(scenario, 3, 0, Looking(fine_s=60.0, every_tick=True))
    seldom = run_once(scenario, 3, 0, Looking(fine_s=60.0))
    assert [name for name, _ in _acts(often.events)] == [name for name, _ in _acts(seldom.events)]
    for (name, one), (_, other) in zip(_acts(often.events), _acts(seldom.events), strict=True):
        assert abs(one - other) <= 900.0, name


def test_coarse_and_fine_ticks_tell_of_the_same_requests(scenario: Scenario) -> None:
    world = World(replace(scenario, curve=Curve.DIURNAL, clustered=3, chronic=0.01), 1, 0)
    split = Split(everyone=2500, cohorts={"internal": 10_000, "beta": 2500})
    part = world.draw(1, BEGIN, BEGIN + HOUR, begun=BEGIN, split=split, ill=(FAILING,))
    whole, pieces = world.whole([part]), world.cut(part, 10.0)
    assert len(pieces) == 360
    for arm, cell in whole.items():
        mine = [cells[arm] for cells in pieces if arm in cells]
        assert sum(piece.requests for piece in mine) == cell.requests
        assert sum(piece.failures for piece in mine) == cell.failures
        assert set().union(*(piece.failing_users for piece in mine)) == cell.failing_users
        assert sum((piece.latency for piece in mine[1:]), mine[0].latency) == cell.latency
        assert sum(piece.facts["flights"]["0"] for piece in mine) == cell.facts["flights"]["0"]


def test_the_draws_have_the_rates_that_were_asked_for() -> None:
    scenario = Scenario(plan=SHIPPED, rate=50.0, users=100_000)
    world = World(scenario, 5, 0)
    split = SHIPPED.phases[2].split
    part = world.draw(1, BEGIN, BEGIN + DAY, begun=BEGIN, split=split, ill=(replace(FAILING, region="eu"),))
    cells = {arm: cell for arm, cell in world.whole([part]).items() if arm.cohort != "internal"}
    v2 = {arm: cell for arm, cell in cells.items() if arm.version is Version.V2}
    total = sum(cell.requests for cell in cells.values())
    assert total == pytest.approx(50 * DAY, rel=0.01)
    assert sum(cell.requests for cell in v2.values()) / total == pytest.approx(0.25, abs=0.01)
    assert world.seen(part, ()) == (
        sum(cell.requests for cell in v2.values()),
        sum(cell.failures for cell in v2.values()),
    )
    for region, rate in (("eu", 0.05), ("us", 0.005)):
        here = [cell for arm, cell in v2.items() if arm.region == region]
        failed = sum(cell.failures for cell in here) / sum(cell.requests for cell in here)
        assert failed == pytest.approx(rate, rel=0.1)


@pytest.mark.parametrize(("shift", "tail", "p50", "p95"), [(1, 1, 1, 1), (1.25, 1, 1.25, 1.25), (1, 1.5, 1, 1.5)])
def test_a_defect_moves_the_quantiles_it_says(shift: float, tail: float, p50: float, p95: float) -> None:
    def quantile(bins: np.ndarray[tuple[int], np.dtype[np.float64]], q: float) -> float:
        return float(np.searchsorted(bins.cumsum(), q))

    healthy, ill = latency_bins(100.0, 1.0, 1.0), latency_bins(100.0, shift, tail)
    for q, factor in ((0.5, p50), (0.95, p95)):
        moved = quantile(ill, q) - quantile(healthy, q)
        assert moved == pytest.approx(np.log(factor) / np.log(1.05), abs=1.01)


@pytest.mark.parametrize(
    ("change", "words"),
    [({"rate": 0.0}, "above 0"), ({"users": 1}, "two users"), ({"clustered": 0}, "clusters"), ({"chronic": 1.0}, "1")],
)
def test_a_scenario_that_cannot_be_is_refused(scenario: Scenario, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(scenario, **change)


def test_a_restart_at_every_tick_and_users_kept_one_by_one_change_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    """The evidence goes through its stored form again and again, with the core's own register of users."""
    scenario = Scenario(plan=SHORT, rate=5.0, users=43_200, defects=SOMEHOW[1])
    looking = Looking(coarse_s=600.0, fine_s=600.0, every_tick=True)
    through = run_once(scenario, 3, 0, looking)
    absorb = book.absorb

    def restarted(plan: Plan, state: book.EvidenceState, ticks: Sequence[Tick]) -> book.EvidenceState:
        return book.load(plan, book.dump(absorb(plan, state, ticks)))

    monkeypatch.setattr(book, "absorb", restarted)
    monkeypatch.setattr(run, "Marked", lambda **_: users.Failing())
    assert run_once(scenario, 3, 0, looking) == through


def test_a_total_outage_of_both_versions_rolls_nothing_back(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draws, "bursts_of", lambda *_: ((4 * DAY, 4 * DAY + 2 * HOUR, 1.0),))
    result = run_once(scenario, 1, 0)
    assert not result.too_soon
    assert any(isinstance(event, e.HoldBegan) for event in result.events) or result.ending is Ending.UNFINISHED


def test_two_hours_without_v2_traffic_change_no_evidence() -> None:
    plan, split = SHIPPED, SHIPPED.phases[2].split
    world = World(Scenario(plan=plan, rate=20.0, users=172_800), 1, 0)
    state = book.enter_phase(plan, book.enter_phase(plan, book.begin(plan, BEGIN), 1, BEGIN), 2, BEGIN)
    parts = [
        world.draw(n, BEGIN + n * HOUR, BEGIN + (n + 1) * HOUR, begun=BEGIN, split=split, ill=()) for n in range(8)
    ]
    pieces = [cells for part in parts for cells in world.cut(part, 60.0)]
    ticks = [tick(n, BEGIN + 60.0 * n, 60.0, cells) for n, cells in enumerate(pieces)]
    before = book.absorb(plan, state, ticks[:360])
    alone = [replace(one, cells={arm: c for arm, c in one.cells.items() if arm.version is Version.V1}) for one in ticks]
    after = book.absorb(plan, before, alone[360:])
    slower = log_e_slower(before.pace)
    told = evidence_now(before.layout, before.streams, slower)
    assert told == evidence_now(after.layout, after.streams, log_e_slower(after.pace))
    assert told["failure_rate"][0] > -math.inf
    assert (before.streams.promote == after.streams.promote).all()
    assert before.streams.promote.any()

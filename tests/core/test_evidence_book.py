"""The book of evidence as its callers see it."""

from __future__ import annotations

import math
import timeit
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from itertools import pairwise

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossfade.core.evidence import book, streams
from crossfade.core.evidence.sums import Arm, Cell, Tick, merge_ticks
from crossfade.core.plan import (
    WEEK,
    Action,
    Api,
    AssignmentRule,
    Comparison,
    Confidence,
    Guardrail,
    Key,
    KeySource,
    Limit,
    Metric,
    MetricKind,
    Phase,
    Plan,
    Upstream,
)
from crossfade.core.split import Split, Version
from crossfade.core.verdict import Verdict

SIDE = Upstream(path="/", upstreams=("127.0.0.1:1",))
MANY = 2**60


def guard(action: Action, comparison: Comparison, value: float, *, worse: bool = False) -> Guardrail:
    return Guardrail(action=action, breach=Limit(comparison=comparison, value=value), worse_than_v1=worse)


FAILURE_RATE = Metric(
    name="failure_rate",
    kind=MetricKind.FAILURE_RATE,
    baseline=0.005,
    target=Limit(comparison=Comparison.LE, value=0.005),
    guard=guard(Action.ROLLBACK, Comparison.GT, 0.01, worse=True),
)
METRICS = (
    FAILURE_RATE,
    Metric(name="critical_errors", kind=MetricKind.CRITICAL_ERRORS, guard=Guardrail(action=Action.MONITOR)),
    Metric(
        name="flights_available",
        kind=MetricKind.AVAILABILITY,
        fact="flights",
        target=Limit(comparison=Comparison.EQ, value=1.0),
        guard=guard(Action.ROLLBACK, Comparison.LT, 0.99),
    ),
    Metric(
        name="weather_available",
        kind=MetricKind.AVAILABILITY,
        fact="weather",
        target=Limit(comparison=Comparison.GE, value=0.4),
        guard=Guardrail(action=Action.MONITOR),
    ),
    Metric(
        name="latency_p95",
        kind=MetricKind.LATENCY,
        quantile=0.95,
        guard=guard(Action.HOLD, Comparison.GT, 300.0),
    ),
    Metric(
        name="breaker_open",
        kind=MetricKind.BREAKER,
        fact="weather-breaker",
        guard=Guardrail(action=Action.ALERT, open_longer_than_s=300.0),
    ),
)


def phase(name: str, share: int, *, margin: float = 2.0, cohorts: dict[str, int] | None = None) -> Phase:
    split = Split(everyone=share, cohorts=cohorts or {})
    return Phase(name=name, split=split, target=share, soak_s=WEEK, gates=(), margin=margin)


def plan_of(*, metrics: tuple[Metric, ...] = METRICS, regions: bool = False) -> Plan:
    staff = {"internal": 10_000}
    return Plan(
        name="trips",
        api=Api(entry="/", v1=SIDE, v2=SIDE),
        assignment=AssignmentRule(
            user=(Key(KeySource.ADDRESS),),
            salt=1,
            region=Key(KeySource.HEADER, "X-Region") if regions else None,
            cohorts={"internal": frozenset({"staff"})},
        ),
        metrics=metrics,
        phases=(
            phase("internal", 0, cohorts=staff),
            phase("canary", 500, cohorts=staff),
            phase("early", 2500, cohorts=staff),
            phase("half", 5000, cohorts=staff),
            phase("full", 10_000),
        ),
        confidence=Confidence(),
    )


PLAN = plan_of()


def cell(
    rng: np.random.Generator,
    requests: int,
    rate: float,
    *,
    version: Version,
    unavailable: float = 0.0,
    ms: float = 80.0,
) -> Cell:
    failures = int(rng.binomial(requests, rate))
    missing = int(rng.binomial(requests, unavailable))
    result = Cell(requests=requests, failures=failures)
    result.failing_users = {int(user) for user in rng.integers(0, MANY, failures)}
    if requests:
        result.facts["flights"] = Counter({"1": requests - missing, "missing": missing})
        result.latency = Counter({int(np.log(ms) / np.log(1.05)): requests})
        if version is Version.V2:
            result.facts["weather"] = Counter({"fresh": requests})
            result.facts["weather-breaker"] = Counter({"closed": requests})
    return result


def tick_of(number: int, cells: dict[Arm, Cell], *, length: float = 10.0, sources: Sequence[str] = ("a",)) -> Tick:
    return Tick(number=number, start=number * length, length=length, cells=cells, sources=frozenset(sources))


def traffic(
    rng: np.random.Generator,
    numbers: range,
    *,
    share: float = 0.05,
    requests: float = 1000,
    p1: float = 0.005,
    p2: float = 0.005,
    regions: Sequence[str] = ("",),
    ms: float = 80.0,
    unavailable: float = 0.0,
) -> list[Tick]:
    ticks = []
    for number in numbers:
        cells = {}
        for region in regions:
            n1 = int(rng.poisson(requests * (1 - share) / len(regions)))
            n2 = int(rng.poisson(requests * share / len(regions)))
            cells[Arm(Version.V1, region, "")] = cell(rng, n1, p1, version=Version.V1)
            cells[Arm(Version.V2, region, "")] = cell(rng, n2, p2, version=Version.V2, ms=ms, unavailable=unavailable)
        ticks.append(tick_of(number, cells))
    return ticks


def canary(plan: Plan = PLAN) -> book.EvidenceState:
    return book.enter_phase(plan, book.begin(plan, 0.0), 1, 0.0)


def test_one_tick_at_a_time_and_all_at_once_give_the_same_bits() -> None:
    """A simulator that absorbs weeks decides as the live engine does."""
    plan = plan_of(regions=True)
    ticks = traffic(np.random.default_rng(1), range(400), p2=0.01, regions=("eu", "us"))
    single = canary(plan)
    for tick in ticks:
        single = book.absorb(plan, single, [tick])
    assert book.dump(single) == book.dump(book.absorb(plan, canary(plan), ticks))


def test_a_restart_in_the_middle_changes_no_bit() -> None:
    """dump and load midway give the book that would have been without a restart."""
    ticks = traffic(np.random.default_rng(2), range(120), p2=0.02)
    through = book.absorb(PLAN, canary(), ticks)
    stored = book.dump(book.absorb(PLAN, canary(), ticks[:57]))
    assert book.dump(through) == book.dump(book.absorb(PLAN, book.load(PLAN, stored), ticks[57:]))


def test_evidence_stored_before_promotion_bet_on_parity_goes_on_without_what_its_bets_had_won() -> None:
    ticks = traffic(np.random.default_rng(2), range(120))
    document = orjson.loads(book.dump(book.absorb(PLAN, canary(), ticks[:57])))
    metrics = len(document["streams"]["promote"])
    document |= {"format": 2, "streams": {**document["streams"], "promote": [[3.0] * 11] * metrics}}
    state = book.load(PLAN, orjson.dumps(document))
    assert not state.streams.promote.any()
    assert book.absorb(PLAN, state, ticks[57:]).streams.promote.any()
    document["format"] = 1
    with pytest.raises(ValueError, match="format 1"):
        book.load(PLAN, orjson.dumps(document))


def test_a_tick_given_twice_changes_nothing() -> None:
    ticks = traffic(np.random.default_rng(3), range(30))
    once = book.absorb(PLAN, canary(), ticks)
    assert book.dump(once) == book.dump(book.absorb(PLAN, once, ticks[10:]))


def test_absorbing_leaves_the_state_given_as_it_was() -> None:
    state = book.absorb(PLAN, canary(), traffic(np.random.default_rng(4), range(20)))
    before = book.dump(state)
    book.absorb(PLAN, state, traffic(np.random.default_rng(5), range(20, 60), p2=0.5))
    assert before == book.dump(state)


def test_two_hours_without_v2_traffic_change_no_evidence_and_are_blind() -> None:
    rng = np.random.default_rng(6)
    state = book.absorb(PLAN, canary(), traffic(rng, range(60), p2=0.008))
    before = book.read(PLAN, state, 600.0)
    state = book.absorb(PLAN, state, traffic(rng, range(60, 780), share=0.0))
    after = book.read(PLAN, state, 7800.0)
    for name in ("failure_rate", "flights_available"):
        assert before.readings[name].harm_log_e == after.readings[name].harm_log_e
        assert before.readings[name].promote_log_e == after.readings[name].promote_log_e
        assert Verdict.BLIND is after.readings[name].guard
    assert [item.what for item in after.blind if item.matters] == ["v2 traffic"]
    assert after.stable_since is None


def test_a_quiet_night_is_not_blind() -> None:
    """A few V1 requests in an hour, of which V2's share would be one or two."""
    state = book.absorb(PLAN, canary(), traffic(np.random.default_rng(19), range(360), requests=1))
    night = [
        tick_of(number, {Arm(Version.V1, "", ""): Cell(requests=int(number % 12 == 0))}) for number in range(360, 720)
    ]
    assert book.read(PLAN, book.absorb(PLAN, state, night), 7200.0).blind == ()


def test_a_defect_is_found_with_its_onset_and_the_users_it_hurt() -> None:
    rng = np.random.default_rng(7)
    state = book.absorb(PLAN, canary(), traffic(rng, range(500)))
    assert Verdict.FAIL is not book.read(PLAN, state, 5000.0).readings["failure_rate"].guard
    state = book.absorb(PLAN, state, traffic(rng, range(500, 600), p2=0.05))
    reading = book.read(PLAN, state, 6000.0).readings["failure_rate"]
    assert Verdict.FAIL is reading.guard
    assert reading.onset == pytest.approx(5000.0, abs=120.0)
    assert reading.users_hurt == reading.k2 > 200
    assert "breach shown" in reading.sentence


def test_unavailable_flights_are_found() -> None:
    rng = np.random.default_rng(8)
    state = book.absorb(PLAN, canary(), traffic(rng, range(100), unavailable=0.05))
    assert Verdict.FAIL is book.read(PLAN, state, 1000.0).readings["flights_available"].guard


@pytest.mark.parametrize(("baseline", "shown"), [(1.0, True), (None, True), (0.99, False)])
def test_three_answers_without_flights_are_enough_where_v1_lacks_none(baseline: float | None, shown: bool) -> None:
    """All on V2 at a share of 5 %; a plan that expects V1 to lack some as well wants to see more."""
    metric = next(metric for metric in PLAN.metrics if metric.kind is MetricKind.AVAILABILITY)
    other = next(metric for metric in PLAN.metrics if metric.kind is MetricKind.FAILURE_RATE)
    target = Limit(comparison=Comparison.GE, value=1.0)
    plan = replace(PLAN, metrics=(other, replace(metric, baseline=baseline, target=target)))
    layout = streams.layout_of(plan, 1)
    counts = np.zeros((1, len(layout.measures), 4))
    counts[0, layout.measure_of(metric.name)] = (1900, 0, 100, 3)
    ends, place = np.array([10.0]), np.zeros(1, dtype=np.int64)
    entries = streams.Entries(tick=place, slot=place - 1, counts=counts, in_phase=place == 0)
    none = np.zeros((1, len(layout.measures), 2))
    begun = streams.begin_streams(layout, 0.0)
    _, harm = streams.advance(layout, begun, starts=ends - 10, ends=ends, entries=entries, wide=none)
    value, bar = streams.against_bars(layout, harm)[metric.name]
    assert (value >= bar).tolist() == [shown]


def test_a_metrics_evidence_is_never_weighted_by_more_than_one() -> None:
    layout = streams.layout_of(PLAN, 1)
    for name in layout.budgets[0].weights:
        parts = [part.weight for part in layout.parts[name]]
        assert sum(parts) + sum(part.weight for part in layout.regional_parts.get(name, ())) == pytest.approx(1.0)
    assert all(sum(budget.weights.values()) == pytest.approx(1.0) for budget in layout.budgets if budget.weights)


def test_slow_answers_breach_the_latency_guardrail_and_fast_ones_pass_it() -> None:
    rng = np.random.default_rng(9)
    slow = book.absorb(PLAN, canary(), traffic(rng, range(100), ms=400.0))
    fast = book.absorb(PLAN, canary(), traffic(rng, range(100), ms=250.0))
    assert Verdict.FAIL is book.read(PLAN, slow, 1000.0).readings["latency_p95"].guard
    reading = book.read(PLAN, fast, 1000.0).readings["latency_p95"]
    assert (reading.guard, reading.target) == (Verdict.PASS, Verdict.PASS)


def test_an_outage_of_both_versions_is_a_shared_incident_and_no_breach() -> None:
    rng = np.random.default_rng(10)
    state = book.absorb(PLAN, canary(), traffic(rng, range(200)))
    state = book.absorb(PLAN, state, traffic(rng, range(200, 400), p1=0.6, p2=0.6))
    reading = book.read(PLAN, state, 4000.0).readings["failure_rate"]
    assert Verdict.FAIL is not reading.guard
    assert reading.both_bad


def test_a_total_outage_of_both_versions_never_rolls_back() -> None:
    """Ten minutes in which nobody gets an answer: neither path takes it for V2's fault, nor when it's over."""
    plan, rng = plan_of(regions=True), np.random.default_rng(31)
    state = book.absorb(plan, canary(plan), traffic(rng, range(100), regions=("eu", "us")))
    dead = traffic(rng, range(100, 160), p1=1.0, p2=1.0, regions=("eu", "us"))
    for one in dead:  # who gives no answer tells no fact
        for cell_of in one.cells.values():
            cell_of.facts = {}
    state = book.absorb(plan, state, dead)
    assert state.shown_at == {}
    assert not any(book.gross(plan, tick) for tick in dead)
    after = book.absorb(plan, state, traffic(rng, range(160, 400), regions=("eu", "us")))
    assert after.shown_at == {}


@pytest.mark.parametrize("seed", range(5))
def test_an_improvement_never_rolls_back(seed: int) -> None:
    rng = np.random.default_rng(seed)
    state = book.absorb(PLAN, canary(), traffic(rng, range(400), p1=0.02, p2=0.005))
    assert state.shown_at == {}
    assert state.breached_since == {}


def test_the_cells_of_a_tick_may_come_in_any_order() -> None:
    plan = plan_of(regions=True)
    ticks = traffic(np.random.default_rng(32), range(40), p2=0.05, regions=("eu", "us", ""))
    mixed = [replace(tick, cells=dict(reversed(list(tick.cells.items())))) for tick in ticks]
    assert book.dump(book.absorb(plan, canary(plan), ticks)) == book.dump(book.absorb(plan, canary(plan), mixed))


def test_no_ticks_are_blind_and_never_a_verdict() -> None:
    observation = book.read(PLAN, canary(), 86_400.0)
    assert "telemetry" in [item.what for item in observation.blind]
    tested = [reading for name, reading in observation.readings.items() if name != "critical_errors"]
    assert {Verdict.BLIND} == {reading.guard for reading in tested}
    assert {Verdict.BLIND} == {reading.target for reading in tested}


def test_a_phase_of_staff_only_has_no_control() -> None:
    rng = np.random.default_rng(11)
    ticks = []
    for number in range(200):
        cells = {
            Arm(Version.V1, "", ""): cell(rng, 900, 0.005, version=Version.V1),
            Arm(Version.V2, "", "internal"): cell(rng, 50, 0.0, version=Version.V2),
        }
        ticks.append(tick_of(number, cells))
    state = book.absorb(PLAN, book.begin(PLAN, 0.0), ticks)
    reading = book.read(PLAN, state, 2000.0).readings["failure_rate"]
    assert Verdict.INCONCLUSIVE is reading.target
    assert "no control" in reading.sentence


def test_good_evidence_promotes() -> None:
    rng = np.random.default_rng(12)
    state = book.absorb(PLAN, canary(), traffic(rng, range(400)))
    reading = book.read(PLAN, state, 4000.0).readings["failure_rate"]
    assert (reading.guard, reading.target) == (Verdict.PASS, Verdict.PASS)
    assert (reading.ratio_low or 0) < 1 < (reading.ratio_high or 0)


def test_not_enough_yet_comes_with_a_forecast() -> None:
    state = book.absorb(PLAN, canary(), traffic(np.random.default_rng(13), range(12)))
    reading = book.read(PLAN, state, 120.0).readings["failure_rate"]
    assert Verdict.INCONCLUSIVE is reading.target
    assert reading.forecast_s is not None
    assert 0 < reading.forecast_s[0] <= reading.forecast_s[1] <= reading.forecast_s[2]


def test_a_retry_asks_anew() -> None:
    rng = np.random.default_rng(14)
    bad = book.absorb(PLAN, canary(), traffic(rng, range(100), p2=0.5))
    again = book.enter_phase(PLAN, bad, 1, 1000.0)
    assert Verdict.FAIL is not book.read(PLAN, again, 1000.0).readings["failure_rate"].guard
    found = book.absorb(PLAN, again, traffic(rng, range(100, 130), p2=0.5))
    assert Verdict.FAIL is book.read(PLAN, found, 1300.0).readings["failure_rate"].guard


def test_regions_named_by_clients_do_not_grow_the_state() -> None:
    plan = plan_of(regions=True)
    state = canary(plan)
    for number in range(50):
        regions = [f"r{number}-{i}" for i in range(40)]
        state = book.absorb(
            plan, state, traffic(np.random.default_rng(number), range(number, number + 1), regions=regions)
        )
    assert len(state.regions.slots) <= 20
    assert len(state.regions.candidates) <= 64


def test_one_broken_region_is_found_and_named() -> None:
    plan, names = plan_of(regions=True), [f"r{i}" for i in range(10)]
    rng, state = np.random.default_rng(15), canary(plan)
    for number in range(150):
        (good,) = traffic(rng, range(number, number + 1), regions=names, requests=2000)
        broken = Arm(Version.V2, "r3", "")
        requests = good.cells[broken].requests
        cells = {**good.cells, broken: cell(rng, requests, 0.08, version=Version.V2)}
        state = book.absorb(plan, state, [tick_of(number, cells)])
    reading = book.read(plan, state, 1500.0).readings["failure_rate"]
    assert reading.guard is Verdict.FAIL
    assert "shown in r3;" in reading.sentence


@given(order=st.permutations(list(range(4))))
@settings(max_examples=10, deadline=None)
def test_collectors_may_be_merged_in_any_order(order: list[int]) -> None:
    """Sums of the same interval add up before anything is tested."""
    parts = [traffic(np.random.default_rng(seed), range(8), requests=100, p2=0.05) for seed in range(4)]
    straight = [reduce(merge_ticks, column) for column in zip(*parts, strict=True)]
    mixed = [reduce(merge_ticks, (column[i] for i in order)) for column in zip(*parts, strict=True)]
    assert book.dump(book.absorb(PLAN, canary(), straight)) == book.dump(book.absorb(PLAN, canary(), mixed))


@given(cuts=st.lists(st.integers(0, 60), max_size=5), patient=st.booleans())
@settings(max_examples=10, deadline=None)
def test_batches_and_restarts_anywhere_change_no_bit(cuts: list[int], patient: bool) -> None:
    """Over a block of ten minutes, and with bursts tolerated over blocks of two."""
    plan = replace(plan_of(regions=True), confidence=Confidence(burst_tolerance_s=120.0 if patient else 0.0))
    ticks = traffic(np.random.default_rng(16), range(30, 90), requests=200, p2=0.02, regions=("eu", "us"))
    state, edges = canary(plan), [0, *sorted(cuts), 60]
    for first, last in pairwise(edges):
        state = book.load(plan, book.dump(book.absorb(plan, state, ticks[first:last])))
    assert book.dump(book.absorb(plan, canary(plan), ticks)) == book.dump(state)


def test_a_gap_or_a_dark_tick_is_blind_and_ends_what_was_stable() -> None:
    ticks = traffic(np.random.default_rng(17), range(40))
    state = book.absorb(PLAN, canary(), ticks[:20])
    assert book.read(PLAN, state, 200.0).stable_since == 0.0
    gap = book.read(PLAN, book.absorb(PLAN, state, ticks[30:31]), 310.0)
    assert [item.what for item in gap.blind] == ["telemetry"]
    assert gap.stable_since is None
    dark = book.absorb(PLAN, state, [tick_of(20, {}, sources=())])
    seen = book.read(PLAN, dark, 210.0)
    assert seen.no_critical_since is None
    assert {reading.guard for name, reading in seen.readings.items()} == {Verdict.BLIND}
    again = book.read(PLAN, book.absorb(PLAN, dark, ticks[21:30]), 300.0)
    assert again.stable_since == 210.0
    assert again.blind == ()


def test_twenty_streams_take_less_than_a_millisecond_a_tick() -> None:
    """Measured with a margin for a busy machine; the streams alone take a quarter of it."""
    plan = plan_of(regions=True)
    ticks = traffic(np.random.default_rng(18), range(120), regions=("eu", "us"))
    state = book.absorb(plan, canary(plan), ticks[:20])
    assert len(state.streams.harm) >= 10
    took = min(timeit.repeat(lambda: book.absorb(plan, state, ticks[20:]), number=1, repeat=3)) / 100
    assert took < 0.003


def test_a_breaker_that_stays_open_is_seen() -> None:
    cells = {
        Arm(Version.V1, "", ""): Cell(requests=100),
        Arm(Version.V2, "", ""): Cell(requests=10, facts={"weather-breaker": Counter({"open": 9, "closed": 1})}),
    }
    state = book.absorb(PLAN, canary(), [tick_of(number, cells) for number in range(40)])
    observation = book.read(PLAN, state, 400.0)
    assert Verdict.FAIL is observation.readings["breaker_open"].guard
    assert observation.breakers["breaker_open"].open_since == 0.0
    assert observation.breakers["breaker_open"].name == "weather"
    assert observation.stable_since is None


@pytest.mark.parametrize(
    ("cells", "fires"),
    [
        pytest.param(((95, 0), (5, 5)), True, id="every V2 answer fails"),
        pytest.param(((95, 0), (4, 4)), False, id="too few to tell"),
        pytest.param(((95, 0), (60, 2)), False, id="stray failures"),
        pytest.param(((95, 95), (5, 5)), False, id="both fail alike"),
        pytest.param(((95, 50), (5, 5)), False, id="both fail, V2 by chance more"),
        pytest.param(((0, 0), (50, 50)), False, id="no V1 answer to compare with"),
    ],
)
def test_gross_breach(cells: tuple[tuple[int, int], tuple[int, int]], fires: bool) -> None:
    (n1, k1), (n2, k2) = cells
    recent = tick_of(
        1,
        {
            Arm(Version.V1, "", ""): Cell(requests=n1, failures=k1, failing_users=set(range(1000, 1000 + k1))),
            Arm(Version.V2, "", ""): Cell(requests=n2, failures=k2, failing_users=set(range(k2))),
        },
    )
    assert fires is (book.gross(PLAN, recent) is not None)


def test_one_user_who_fails_again_and_again_is_no_gross_breach() -> None:
    recent = tick_of(
        1,
        {
            Arm(Version.V1, "", ""): Cell(requests=95),
            Arm(Version.V2, "", ""): Cell(requests=9, failures=9, failing_users={7}),
        },
    )
    assert book.gross(PLAN, recent) is None


def test_v1_answering_in_v2s_place_is_the_control() -> None:
    """V2 is gone in the last phase, where V1 has no traffic of its own."""
    two = Cell(requests=20, failures=20, fallbacks=20, critical=20, failing_users=set(range(20)))
    assert book.gross(PLAN, tick_of(1, {Arm(Version.V2, "", ""): two})) is not None


@pytest.mark.parametrize(("n2", "fires"), [(19, False), (20, True)])
def test_with_everyone_on_v2_its_own_limit_decides(n2: int, fires: bool) -> None:
    """Nobody can say how V1 would do, and a V2 that answers nobody can only be left."""
    two = Cell(requests=n2, failures=n2, failing_users=set(range(n2)))
    recent = tick_of(1, {Arm(Version.V2, "", ""): two})
    assert fires is (book.gross(PLAN, recent, phase=len(PLAN.phases) - 1) is not None)
    assert book.gross(PLAN, recent, phase=1) is None


@pytest.mark.parametrize(("part", "breached"), [(0.49, False), (0.51, True)])
def test_guardrails_are_judged_by_their_weighted_total(part: float, breached: bool) -> None:
    """Two that show half of what is needed are a breach together, and the stronger one is named."""
    layout = canary().layout
    budget = layout.budgets[0]
    stronger, weaker = budget.weights
    shown = {name: np.array([np.log(part) + budget.bar(name)]) for name in budget.weights}
    shown[stronger] += 1e-3
    others = {name: np.array([-np.inf]) for name in layout.budgets[1].weights}
    found = streams.against_bars(layout, streams.Harm(shown | others, {}))
    total = sum(weight * np.exp(shown[name]) for name, weight in budget.weights.items())
    assert breached is bool(total >= np.exp(budget.needed))
    assert breached is bool(found[stronger][0] >= found[stronger][1])
    assert found[weaker][1] == budget.bar(weaker) > found[weaker][0]
    assert all(not (value >= needed) for value, needed in (found[name] for name in others))


def test_what_stands_alone_is_never_added_to_the_total() -> None:
    """Weekly evidence knows nothing of earlier failures, which other evidence does: their sum would prove nothing."""
    layout = canary().layout
    budget = layout.budgets[0]
    half = {name: np.array([np.log(0.45) + budget.bar(name)]) for name in budget.weights}
    silent = {name: np.array([-np.inf]) for name in layout.budgets[1].weights}
    alone = {"failure_rate": half["failure_rate"] + 0.5}
    value, needed = streams.against_bars(layout, streams.Harm(half | silent, alone))["failure_rate"]
    assert value < needed
    enough = {"failure_rate": np.array([budget.bar("failure_rate")])}
    value, needed = streams.against_bars(layout, streams.Harm(half | silent, enough))["failure_rate"]
    assert value >= needed


def test_weekly_evidence_begins_anew_each_week() -> None:
    rng, day = np.random.default_rng(30), 8640
    week = 7 * day
    state = book.absorb(PLAN, canary(), traffic(rng, range(week - 60, week), p2=0.03))
    weekly = [math.isfinite(period) for period in state.layout.periods(0)]
    rows = state.streams.harm[weekly].max(axis=1), state.streams.harm[[not row for row in weekly]].max()
    assert rows[0][0] > 10
    turned = book.absorb(PLAN, state, traffic(rng, range(week, week + 1), p2=0.0))
    assert turned.streams.harm[weekly].max() < 0.01
    assert turned.streams.harm[[not row for row in weekly]].max() > 0.1 * rows[1]

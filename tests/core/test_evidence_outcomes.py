"""Outcomes that come apart from requests: what is shown, what is not, and that nothing is taken for something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from crossfade.core.evidence import book
from crossfade.core.evidence.codec import decode_tick, encode_tick
from crossfade.core.evidence.outcomes import ENOUGH
from crossfade.core.evidence.ratio import FINE_GRID, log_e_ratio
from crossfade.core.evidence.sums import Arm, Cell, Tick, latency_bin
from crossfade.core.observation import Observation, Reading
from crossfade.core.plan import (
    DAY,
    WEEK,
    Action,
    Api,
    AssignmentRule,
    Comparison,
    Guardrail,
    Key,
    KeySource,
    Limit,
    Metric,
    MetricKind,
    Phase,
    Plan,
    Query,
    Source,
    Upstream,
)
from crossfade.core.split import Split, Version
from crossfade.core.verdict import Verdict

SIDE = Upstream(path="/", upstreams=("127.0.0.1:1",))
V1, V2 = Arm(Version.V1, "", ""), Arm(Version.V2, "", "")
HOUR = 3600.0


def below(value: float) -> Limit:
    return Limit(comparison=Comparison.LT, value=value)


def of_v1(comparison: Comparison, value: float) -> Limit:
    return Limit(comparison=comparison, value=value, of_v1=True)


def hold(breach: Limit, *, worse: bool = False, action: Action = Action.HOLD) -> Guardrail:
    return Guardrail(action=action, breach=breach, worse_than_v1=worse)


CONVERSION = Metric(
    name="conversion",
    kind=MetricKind.OUTCOME,
    outcome="conversion",
    baseline=0.12,
    target=of_v1(Comparison.GE, 0.95),
    guard=hold(of_v1(Comparison.LT, 0.95)),
)
SATISFACTION = Metric(
    name="satisfaction",
    kind=MetricKind.OUTCOME,
    outcome="satisfaction",
    target=Limit(comparison=Comparison.GE, value=0.9),
    guard=hold(below(0.85)),
)
UNHAPPY = Metric(name="unhappy", kind=MetricKind.OUTCOME, outcome="unhappy", guard=hold(of_v1(Comparison.GT, 1.2)))
CHECKOUT = Metric(
    name="checkout_errors",
    kind=MetricKind.QUERIED,
    outcome="checkout_errors",
    query=Query(source="prometheus", bad="$version$interval", total="$version$interval"),
    guard=hold(Limit(comparison=Comparison.GT, value=0.02), worse=True),
)
MEAN = Metric(name="latency_mean", kind=MetricKind.LATENCY_MEAN, guard=hold(of_v1(Comparison.GT, 1.25)))
METRICS = (CONVERSION, SATISFACTION, UNHAPPY, CHECKOUT, MEAN)


def plan_of(*metrics: Metric, share: int = 2500) -> Plan:
    phase = Phase(name="early", split=Split(everyone=share), target=share, soak_s=2 * WEEK, gates=())
    return Plan(
        name="trips",
        api=Api(entry="/", v1=SIDE, v2=SIDE),
        assignment=AssignmentRule(user=(Key(KeySource.ADDRESS),), salt=1),
        metrics=metrics,
        phases=(phase, replace(phase, name="full", split=Split(everyone=10_000), target=10_000)),
        sources=(Source(name="prometheus", url="http://127.0.0.1:9090"),),
    )


def ticks(
    values: dict[str, tuple[float, float]],
    *,
    hours: int = 24,
    units: float = 40,
    share: float = 0.25,
    seed: int = 1,
    unanswered: dict[str, str] | None = None,
    first: int = 0,
) -> Iterator[Tick]:
    """Yield hours in which both versions have units whose values are 1 with the probabilities given."""
    rng = np.random.default_rng(seed)
    for number in range(first, first + hours):
        cells = {}
        for arm, side, part in ((V1, 0, 1 - share), (V2, 1, share)):
            outcomes = {}
            for name, p in values.items():
                n = int(rng.poisson(units * part))
                if n:
                    outcomes[name] = (n, float(rng.binomial(n, p[side])))
            answers = int(1000 * part)
            cells[arm] = Cell(requests=answers, latency=Counter({90: answers}), outcomes=outcomes)
        yield tick(number, cells, unanswered)


def tick(number: int, cells: dict[Arm, Cell], unanswered: dict[str, str] | None = None) -> Tick:
    return Tick(
        number=number,
        start=number * HOUR,
        length=HOUR,
        cells=cells,
        sources=frozenset({"a"}),
        unanswered=unanswered or {},
    )


def look(plan: Plan, seen: Sequence[Tick]) -> Observation:
    state = book.absorb(plan, book.begin(plan, 0.0, HOUR), seen)
    return book.read(plan, state, seen[-1].start + seen[-1].length)


def reading(metric: Metric, p1: float, p2: float, **how: float) -> Reading:
    plan = plan_of(metric)
    return look(plan, list(ticks({metric.outcome: (p1, p2)}, hours=int(how.pop("hours", 24 * 14)), **how))).readings[  # type: ignore[arg-type]
        metric.name
    ]


@pytest.mark.parametrize(
    ("metric", "p1", "p2"),
    [(CONVERSION, 0.12, 0.08), (UNHAPPY, 0.05, 0.1), (SATISFACTION, 0.9, 0.75), (CHECKOUT, 0.01, 0.05)],
)
def test_a_worse_v2_breaches_its_guardrail(metric: Metric, p1: float, p2: float) -> None:
    found = reading(metric, p1, p2)
    assert (found.guard, found.target) == (Verdict.FAIL, Verdict.FAIL)
    assert "breach shown" in found.sentence
    assert found.v1 == pytest.approx(p1, rel=0.25)
    assert found.v2 == pytest.approx(p2, rel=0.25)


@pytest.mark.parametrize(
    ("metric", "p1", "p2"),
    [(CONVERSION, 0.12, 0.12), (UNHAPPY, 0.05, 0.04), (SATISFACTION, 0.93, 0.93), (CHECKOUT, 0.05, 0.05)],
)
def test_a_v2_that_is_no_worse_does_not(metric: Metric, p1: float, p2: float) -> None:
    assert reading(metric, p1, p2).guard in (Verdict.PASS, Verdict.INCONCLUSIVE)


def test_a_relative_target_is_met_when_shown_and_not_before() -> None:
    early, late = (reading(CONVERSION, 0.12, 0.13, hours=hours, units=800) for hours in (4, 24 * 14))
    assert (early.target, late.target) == (Verdict.INCONCLUSIVE, Verdict.PASS)
    assert "not shown yet to be >= 0.95 times V1" in early.sentence
    assert late.ratio == pytest.approx(0.13 / 0.12, rel=0.05)
    assert "guardrail < 0.95 times V1" in late.sentence


def test_an_absolute_target_asks_what_an_availability_asks() -> None:
    assert Verdict.PASS is reading(SATISFACTION, 0.93, 0.96).target
    assert Verdict.FAIL is reading(SATISFACTION, 0.93, 0.87).target


def test_values_between_0_and_1_count_as_what_they_are() -> None:
    cells = {V1: Cell(outcomes={"satisfaction": (10, 8.5)}), V2: Cell(outcomes={"satisfaction": (10, 7.25)})}
    found = look(plan_of(SATISFACTION), [tick(0, cells)]).readings["satisfaction"]
    assert (found.v1, found.v2, found.n2, found.k2) == (0.85, 0.725, 10, 2.75)


def test_units_of_one_version_wait_for_the_other_and_lose_nothing() -> None:
    """Seven versions' worth of ticks with units of one side only compare as the one tick they add up to."""
    plan = plan_of(CONVERSION)
    lone = [tick(n, {V1: Cell(outcomes={"conversion": (2, 1.0)})}) for n in range(ENOUGH)]
    apart = [*lone, tick(ENOUGH, {V2: Cell(outcomes={"conversion": (ENOUGH, 0.0)})})]
    sums = {V1: (2 * ENOUGH, float(ENOUGH)), V2: (ENOUGH, 0.0)}
    once = [tick(n, {}) for n in range(ENOUGH)]
    once.append(tick(ENOUGH, {arm: Cell(outcomes={"conversion": both}) for arm, both in sums.items()}))
    first, second = (look(plan, seen).readings["conversion"] for seen in (apart, once))
    assert first.harm_log_e == pytest.approx(second.harm_log_e)
    assert first.ratio_high == pytest.approx(second.ratio_high)


def test_units_wait_for_a_day_at_most() -> None:
    plan = plan_of(CONVERSION)
    state = book.begin(plan, 0.0, HOUR)
    state = book.absorb(plan, state, [tick(0, {V1: Cell(outcomes={"conversion": (9, 1.0)})})])
    assert len(state.outcomes) == 1
    assert len(book.absorb(plan, state, [tick(n, {}) for n in range(1, 23)]).outcomes) == 1
    assert len(book.absorb(plan, state, [tick(n, {}) for n in range(1, 24)]).outcomes) == 0


def test_a_restart_and_any_batching_change_no_bit() -> None:
    plan = plan_of(*METRICS)
    values = {"conversion": (0.1, 0.1), "satisfaction": (0.9, 0.9), "unhappy": (0.1, 0.2), "checkout_errors": (0, 0.1)}
    seen = list(ticks(values, units=6, share=0.1, hours=72, unanswered={"checkout_errors": "NaN"}))
    through = book.absorb(plan, book.begin(plan, 0.0), seen)
    single = book.begin(plan, 0.0)
    for part in seen:
        single = book.load(plan, book.dump(book.absorb(plan, single, [part])))
    assert book.dump(through) == book.dump(single)


def test_ticks_that_were_kept_and_read_back_give_the_same_bits() -> None:
    """Sums of times and values don't depend on the order in which a tick holds them."""
    plan = plan_of(*METRICS)
    rng = np.random.default_rng(4)
    seen = []
    for number in range(30):
        cells = {}
        for arm, n in ((V2, 100), (V1, 300)):
            bins = Counter(rng.integers(60, 130, n).tolist())
            outcomes = {"unhappy": (3, 0.7), "conversion": (5, 0.1 + 0.2)}
            cells[arm] = Cell(requests=n, latency=bins, latency_cached=Counter(bins), outcomes=outcomes)
        seen.append(tick(number, cells))
    back = [decode_tick(encode_tick(one)) for one in seen]
    live, replayed = (book.absorb(plan, book.begin(plan, 0.0), ticks) for ticks in (seen, back))
    assert book.dump(live) == book.dump(replayed)


# ── nobody tells ────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_posted_is_blind_and_never_pass() -> None:
    plan = plan_of(CONVERSION, SATISFACTION)
    first = look(plan, list(ticks({}, hours=2)))
    assert first.blind == ()
    assert {Verdict.BLIND} == {verdict for r in first.readings.values() for verdict in (r.guard, r.target)}
    later = look(plan, list(ticks({}, hours=26)))
    assert [(b.what, b.matters) for b in later.blind] == [("outcome conversion", True), ("outcome satisfaction", True)]
    assert later.blind[0].reason == "nobody posted conversion for V1's users for 1d 2h"
    assert later.stable_since is None


def test_what_is_posted_for_v2_alone_can_not_be_compared() -> None:
    posted = {"conversion": (9, 9.0), "satisfaction": (9, 9.0)}
    cells = {V1: Cell(requests=30), V2: Cell(requests=10, outcomes=posted)}
    seen = [tick(n, cells) for n in range(30)]
    assert [b.what for b in look(plan_of(CONVERSION, SATISFACTION), seen).blind] == ["outcome conversion"]


def test_what_is_only_monitored_holds_nothing_when_nobody_posts() -> None:
    plan = plan_of(replace(CONVERSION, guard=Guardrail(action=Action.MONITOR)))
    found = look(plan, list(ticks({}, hours=26)))
    assert [(b.what, b.matters) for b in found.blind] == [("outcome conversion", False)]
    assert Verdict.BLIND is found.readings["conversion"].target


def test_a_source_that_does_not_answer_is_blind_after_three_intervals_with_its_reason() -> None:
    plan = plan_of(CHECKOUT)
    told = {arm: Cell(outcomes={"checkout_errors": (100, 1.0)}) for arm in (V1, V2)}
    silent = {arm: Cell(requests=30) for arm in (V1, V2)}

    def at(second: int, cells: dict[Arm, Cell]) -> Tick:
        return Tick(
            number=second // 10,
            start=second,
            length=10.0,
            cells=cells,
            sources=frozenset({"a"}),
            unanswered={} if cells is told else {"checkout_errors": "HTTP 503"},
        )

    seen = [at(0, told), *(at(second, silent) for second in range(10, 200, 10))]
    assert look(plan, seen[:-1]).blind == ()
    state = book.absorb(plan, book.begin(plan, 0.0), seen)
    (blind,) = book.read(plan, state, 200.0).blind
    assert (blind.what, blind.since, blind.matters) == ("outcome checkout_errors", 10.0, True)
    assert blind.reason == "prometheus gave no checkout_errors for V1's users for 3m 10s: HTTP 503"
    back = book.absorb(plan, state, [at(200, told)])
    assert book.read(plan, back, 210.0).blind == ()
    seldom = {V1: Cell(requests=1), V2: Cell(requests=1)}
    quiet = [at(0, told), *(at(second, seldom if second % 100 == 0 else {}) for second in range(10, 600, 10))]
    assert look(plan, quiet).blind == (), "where nobody asks, there is nothing to count"


# ── formulae ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("p1", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("split", [(9.0, 1.0), (1.0, 9.0)])
def test_turned_signs_keep_e_below_one_in_expectation(p1: float, split: tuple[float, float]) -> None:
    """(R) with theta < theta0: its exact mean at the null's edge p2 = 0.95 p1, and for a V2 that is worse."""
    n1, n2 = split
    theta0 = 0.95
    theta = theta0 / FINE_GRID

    def mean_e(p2: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        expected = np.zeros(len(theta))
        for x1 in range(int(n1) + 1):
            for x2 in range(int(n2) + 1):
                counts = np.array([[n1, x1, n2, x2]], dtype=np.float64)
                e = np.exp(log_e_ratio(counts, theta, np.full(len(theta), theta0))[0])
                expected += binomial(int(n1), x1, p1) * binomial(int(n2), x2, p2) * e
        return expected

    expected = mean_e(theta0 * p1)
    assert (expected <= 1 + 1e-12).all()
    assert (expected[:4] > 0.9).all()
    assert (mean_e(0.6 * p1) > 1).any()


def binomial(n: int, k: int, p: float) -> float:
    return float(np.prod([(n - i) / (k - i) for i in range(k)])) * p**k * (1 - p) ** (n - k)


def test_a_slower_mean_is_shown_and_an_equal_one_is_not() -> None:
    def seen(slower_bins: int) -> list[Tick]:
        rng = np.random.default_rng(3)
        found = []
        for number in range(72):
            cells = {}
            for arm, n, shift in ((V1, 750, 0), (V2, 250, slower_bins)):
                bins = np.clip(rng.normal(100, 9, n).astype(int) + shift, 0, 225)
                cells[arm] = Cell(requests=n, latency=Counter(bins.tolist()))
            found.append(tick(number, cells))
        return found

    plan = plan_of(MEAN)
    equal, slow = (look(plan, seen(shift)).readings["latency_mean"] for shift in (0, 10))
    assert Verdict.FAIL is slow.guard
    assert Verdict.FAIL is not equal.guard
    assert (slow.v2 or 0) / (slow.v1 or 1) == pytest.approx(1.05**10, rel=0.02)
    assert slow.sentence.startswith("latency_mean: V2 ")
    assert " ms against V1 " in slow.sentence


def test_counts_of_a_source_are_compared_though_nobody_knows_whose_they_are() -> None:
    """In a canary that draws from one cohort, everyone else is on V1: the source's counts have no cohort."""
    plan = plan_of(CHECKOUT)
    canary = Phase(name="canary", split=Split(cohorts={"beta": 2000}), target=500, soak_s=WEEK, gates=())
    plan = replace(plan, phases=(canary, *plan.phases))
    found = look(plan, list(ticks({"checkout_errors": (0.01, 0.08)}, hours=48, share=0.05, units=400)))
    assert Verdict.FAIL is found.readings["checkout_errors"].guard


def test_a_plan_can_not_roll_back_on_counts_of_a_source() -> None:
    rolling = replace(CHECKOUT, guard=hold(Limit(comparison=Comparison.GT, value=0.02), action=Action.ROLLBACK))
    with pytest.raises(ValueError, match="nobody knows which requests the hash drew"):
        plan_of(rolling)


def test_a_posted_outcome_rolls_back_where_the_plan_says_so() -> None:
    rolling = replace(UNHAPPY, guard=hold(of_v1(Comparison.GT, 1.2), action=Action.ROLLBACK))
    found = reading(rolling, 0.05, 0.15)
    assert Verdict.FAIL is found.guard
    assert found.harm_needed == pytest.approx(-np.log(0.01 * 0.75))


def test_the_mean_is_cut_at_twice_the_99th_percentile_of_the_answers_before() -> None:
    plan = plan_of(MEAN)
    state = book.begin(plan, 0.0, HOUR)
    seen = list(ticks({}, hours=26))
    state = book.absorb(plan, state, seen)
    tally = state.tallies["latency_mean"]
    assert tally.n1 == 26 * 750
    assert tally.k1 == pytest.approx(2 * 750 * 1.05**90 / 10_000 + 24 * 750 / 2)


# ── how often wrongly, how soon rightly ─────────────────────────────────────────────────────────────────────


def user_days(seed: int, *, rate: float, ratio: float, users: int = 2000, days: int = 56) -> Iterator[list[Tick]]:
    """Yield days in which each of 2,000 users (a quarter on V2) has an outcome, at rates that swing within the day."""
    rng = np.random.default_rng(seed)
    on_v2 = rng.random(users) < 0.25
    for day in range(days):
        quarters = []
        for quarter in range(4):
            there = rng.random(users) < 0.25
            hit = rng.random(users) < rate * (1 + 0.3 * np.sin(np.pi / 2 * quarter)) * np.where(on_v2, ratio, 1)
            cells = {
                arm: Cell(requests=10, outcomes={"x": (int(mine.sum()), float(hit[mine].sum()))})
                for arm, mine in ((V1, there & ~on_v2), (V2, there & on_v2))
            }
            number = 4 * day + quarter
            start = number * DAY / 4
            quarters.append(Tick(number=number, start=start, length=DAY / 4, cells=cells, sources=frozenset({"a"})))
        yield quarters


def day_of_breach(metric: Metric, seed: int, *, rate: float, ratio: float) -> int | None:
    plan = plan_of(replace(metric, name="x", outcome="x"))
    state = book.begin(plan, 0.0, DAY / 4)
    for day, quarters in enumerate(user_days(seed, rate=rate, ratio=ratio), start=1):
        state = book.absorb(plan, state, quarters)
        if book.read(plan, state, day * DAY).readings["x"].guard is Verdict.FAIL:
            return day
    return None


@pytest.mark.parametrize(
    ("metric", "rate", "ratio"), [(CONVERSION, 0.12, 1.0), (CONVERSION, 0.12, 0.95), (UNHAPPY, 0.05, 1.2)]
)
def test_eight_weeks_of_a_v2_inside_its_bound_hold_nothing(metric: Metric, rate: float, ratio: float) -> None:
    assert [day_of_breach(metric, seed, rate=rate, ratio=ratio) for seed in range(12)] == [None] * 12


@pytest.mark.parametrize(
    ("metric", "rate", "ratio", "days"),
    [(CONVERSION, 0.12, 0.8, 8), (CONVERSION, 0.12, 0.7, 4), (UNHAPPY, 0.05, 1.5, 15), (UNHAPPY, 0.05, 2.0, 3)],
)
def test_a_v2_beyond_its_bound_is_found_in_days(metric: Metric, rate: float, ratio: float, days: int) -> None:
    found = [day_of_breach(metric, seed, rate=rate, ratio=ratio) or 99 for seed in range(9)]
    assert float(np.median(found)) <= days


CLOSE = replace(CONVERSION, target=of_v1(Comparison.GE, 0.99), guard=hold(of_v1(Comparison.LT, 0.99)))
"""A plan that wants to know of a loss of 1 %."""


def days_of(rate2: float, seed: int) -> Iterator[Reading]:
    """Yield the reading at the end of each of seven days, with 720,000 users a day, half of them on V2."""
    plan = plan_of(CLOSE, share=5000)
    state = book.begin(plan, 0.0, HOUR)
    hours = list(ticks({"conversion": (0.12, rate2)}, hours=7 * 24, units=3e4, share=0.5, seed=seed))
    for day in range(1, 8):
        state = book.absorb(plan, state, hours[(day - 1) * 24 : day * 24])
        yield book.read(plan, state, day * DAY).readings["conversion"]


def test_a_loss_of_three_percent_at_half_is_found_in_days() -> None:
    found = []
    for seed in range(15):
        days = enumerate(days_of(0.12 * 0.97, seed), start=1)
        found.append(next((day for day, read in days if read.guard is Verdict.FAIL), 99))
    assert (float(np.median(found)), max(found)) <= (2, 5)


def test_no_loss_is_found_where_there_is_none() -> None:
    """And the interval, looked at each day, holds the truth: at 5 %, at most 4 of 20 runs may ever leave it out."""
    missed = 0
    for seed in range(20):
        week = list(days_of(0.12, seed))
        assert all(read.guard is not Verdict.FAIL for read in week)
        missed += not all((read.ratio_low or 0) <= 1 <= (read.ratio_high or 0) for read in week)
        assert (week[-1].ratio_high or 9) - (week[-1].ratio_low or 0) < 0.03
    assert missed <= 4


@pytest.mark.parametrize(("slower", "answers"), [(2.0, 900), (1.5, 2500), (1.4, 6000)])
def test_a_slower_mean_is_found_in_thousands_of_answers(slower: float, answers: int) -> None:
    plan = plan_of(MEAN)
    found = []
    for seed in range(5):
        rng, state, n2 = np.random.default_rng(seed), book.begin(plan, 0.0, 600.0), 0
        for number in range(60):
            cells = {}
            for arm, n, median in ((V1, 750, 100.0), (V2, 250, 100.0 * slower)):
                bins = Counter(map(latency_bin, rng.lognormal(np.log(median), 0.5, n).tolist()))
                cells[arm] = Cell(requests=n, latency=bins)
            state = book.absorb(
                plan,
                state,
                [Tick(number=number, start=number * 600.0, length=600.0, cells=cells, sources=frozenset({"a"}))],
            )
            n2 += 250
            if book.read(plan, state, (number + 1) * 600.0).readings["latency_mean"].guard is Verdict.FAIL:
                break
        found.append(n2)
    assert float(np.median(found)) <= answers


# ── a breaker's share of time open ──────────────────────────────────────────────────────────────────────────

BREAKER = Metric(
    name="breaker_time",
    kind=MetricKind.BREAKER,
    fact="weather-breaker",
    guard=hold(Limit(comparison=Comparison.GT, value=0.05)),
)


def breaker_day(open_share: float, length: float, *, answers: int = 100, days: float = 1.0) -> list[Tick]:
    """Return ticks in which the breaker opens once an hour for a share of it."""
    found = []
    for number in range(int(days * DAY / length)):
        start = number * length
        opened = (start % HOUR) / HOUR < open_share if length < HOUR else open_share
        facts = {"weather-breaker": Counter({"open": round(answers * opened), "closed": round(answers * (1 - opened))})}
        cells = {V1: Cell(requests=answers), V2: Cell(requests=answers, facts=facts)}
        found.append(Tick(number=number, start=start, length=length, cells=cells, sources=frozenset({"a"})))
    return found


@pytest.mark.parametrize(
    ("open_share", "verdict"), [(0.0, Verdict.PASS), (0.04, Verdict.PASS), (0.2, Verdict.FAIL), (0.5, Verdict.FAIL)]
)
def test_a_breaker_that_is_open_too_much_of_the_time_breaches(open_share: float, verdict: Verdict) -> None:
    found = look(plan_of(BREAKER), breaker_day(open_share, 60.0)).readings["breaker_time"]
    assert verdict is found.guard
    assert found.v2 == pytest.approx(open_share, abs=0.02)
    assert "guardrail > 5 %" in found.sentence


def test_a_block_of_five_minutes_weighs_the_same_in_any_ticks_and_at_any_traffic() -> None:
    plan = plan_of(BREAKER)
    fine, coarse, busy = (
        look(plan, breaker_day(0.25, length, answers=answers)).readings["breaker_time"].harm_log_e or 0.0
        for length, answers in ((10.0, 100), (300.0, 100), (300.0, 10_000))
    )
    assert coarse == busy
    assert fine == pytest.approx(coarse, rel=0.05)


def test_a_breaker_that_nobody_tells_of_is_blind_and_one_opening_is_no_breach() -> None:
    plan = plan_of(BREAKER)
    silent = [tick(n, {V1: Cell(requests=100), V2: Cell(requests=100)}) for n in range(3)]
    assert Verdict.BLIND is look(plan, silent).readings["breaker_time"].guard
    once = breaker_day(0.0, 60.0)
    opened = Cell(requests=100, facts={"weather-breaker": Counter({"open": 100})})
    once[700] = replace(once[700], cells={V1: Cell(requests=100), V2: opened})
    assert Verdict.PASS is look(plan, once).readings["breaker_time"].guard

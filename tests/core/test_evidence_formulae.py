"""The formulae against oracles, and what must hold of them for any input."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from crossfade.core.evidence import mass, pace, users
from crossfade.core.evidence.absolute import alternatives, log_e_absolute
from crossfade.core.evidence.attribution import blamed
from crossfade.core.evidence.common import classes, log_e_classes
from crossfade.core.evidence.forecast import forecast
from crossfade.core.evidence.gross import _log_binomial_tail, _log_fisher_tail
from crossfade.core.evidence.noninferiority import alternatives as bets_on_promotion
from crossfade.core.evidence.noninferiority import log_e_promote
from crossfade.core.evidence.ratio import HARM_GRID, HARM_PRIOR, RARE_GRID, log_e_ratio, log_mixture, weighted_sr
from crossfade.core.evidence.sequences import RATIO_GRID, quantile_interval, rate_interval, ratio_interval
from crossfade.core.evidence.sums import BINS, Arm, Cell, bin_upper_ms, latency_bin
from crossfade.core.split import Version

COUNTS = st.integers(0, 500)


@given(n1=st.integers(1, 40), n2=st.integers(1, 40), p1=st.floats(0.001, 0.4), theta0=st.sampled_from([1.0, 1.1, 2.0]))
@settings(max_examples=40, deadline=None)
def test_the_ratio_e_value_is_one_at_most_on_average_under_the_null(n1: int, n2: int, p1: float, theta0: float) -> None:
    """Exactly, over all outcomes of two binomials at the edge of the null."""
    p2 = min(1.0, theta0 * p1)
    k1, k2 = np.meshgrid(np.arange(n1 + 1.0), np.arange(n2 + 1.0), indexing="ij")
    counts = np.stack([np.full(k1.size, float(n1)), k1.ravel(), np.full(k1.size, float(n2)), k2.ravel()], axis=1)
    theta = theta0 * np.concatenate([HARM_GRID, RARE_GRID])
    value = np.exp(log_e_ratio(counts, theta, np.full_like(theta, theta0)))
    chance = (stats.binom.pmf(k1, n1, p1) * stats.binom.pmf(k2, n2, p2)).ravel()
    assert (chance @ value <= 1 + 1e-9).all()


CHANCES = st.lists(st.floats(0.02, 1.0), min_size=3, max_size=3).map(lambda w: np.array(w) / sum(w))


@given(n1=st.integers(1, 9), n2=st.integers(1, 9), q=CHANCES, guess=CHANCES, lower=st.floats(0.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_the_classes_e_value_is_one_at_most_on_average_under_the_null(
    n1: int, n2: int, q: np.ndarray, guess: np.ndarray, lower: float
) -> None:
    """Exactly, over all outcomes of two multinomials: whatever V1's chances were guessed to be, with V2 no slower."""
    tilts = np.array([[1.0, 1.0, 4.0], [1.0, 3.0, 3.0], [0.5, 1.0, 9.0]])
    faster = np.array([q[0] + lower * q[1], (1 - lower) * q[1] + lower * q[2], (1 - lower) * q[2]])
    for two in (q, faster):
        mean = np.zeros(len(tilts))
        for x1 in _outcomes(n1):
            chance = np.exp(stats.multinomial.logpmf(x1, n1, q) + stats.multinomial.logpmf(_outcomes(n2), n2, two))
            value = log_e_classes(np.broadcast_to(x1, (len(chance), 3)), _outcomes(n2), guess, tilts)
            mean += chance @ np.exp(value)
        assert (mean <= 1 + 1e-9).all()


def _outcomes(n: int) -> np.ndarray:
    """Return all ways in which n answers may fall into three classes, (N, 3)."""
    return np.array([(a, b, n - a - b) for a in range(n + 1) for b in range(n + 1 - a)], dtype=float)


def test_the_alternatives_of_slowness_rise_with_the_class_and_bet_all_of_their_mass() -> None:
    """What does not rise is no e-value against a V2 that is faster in some answers and slower in none."""
    assert (np.diff(pace.TILTS, axis=1) >= 0).all()
    assert pace.PRIOR.shape == (len(pace.TILTS),)
    assert pace.PRIOR.sum() == pytest.approx(1.0)
    assert classes(np.array([0.5, 0.5, 0.1])) == pytest.approx([0.5, 0.0, 0.4, 0.1], abs=1e-4)


def test_bets_on_what_is_rare_cross_the_bar_as_seldom_as_the_bar_says() -> None:
    """Ville, at the very margin: at most 1 run in 20 ever shows 20 to 1, where V1 lacks nothing and where it does."""
    for base in (1e-4, 5e-3):
        rng, runs, ticks = np.random.default_rng(12), 400, 500
        n = np.tile([950.0, 50.0], (runs * ticks, 1))
        k = rng.binomial(n.astype(int), [base, 1.1 * base])
        counts = np.stack([n[:, 0], k[:, 0], n[:, 1], k[:, 1]], axis=1)
        log_e = log_e_ratio(counts, 1.1 * RARE_GRID, np.full(len(RARE_GRID), 1.1)).reshape(runs, ticks, -1)
        weights = np.full((ticks, runs), 0.4 / ticks)
        weights[0] += 0.6
        path = weighted_sr(np.zeros((runs, len(RARE_GRID))), weights, log_e.transpose(1, 0, 2).copy(), {})
        crossed = (log_mixture(path).max(axis=0) >= math.log(20)).sum()
        assert crossed <= stats.binom.ppf(0.999, runs, 0.05)


@given(n=st.integers(1, 60), limit=st.floats(0.001, 0.6), below=st.floats(0.1, 1.0))
@settings(max_examples=40, deadline=None)
def test_the_absolute_e_value_is_one_at_most_on_average_below_the_limit(n: int, limit: float, below: float) -> None:
    k = np.arange(n + 1.0)
    rates = alternatives(limit)
    value = np.exp(log_e_absolute(np.full(n + 1, float(n)), k, rates, np.full_like(rates, limit)))
    assert (stats.binom.pmf(k, n, limit * below) @ value <= 1 + 1e-9).all()
    assert (rates > limit).all()
    assert (rates < 1).all()


@given(rows=st.lists(st.tuples(COUNTS, COUNTS, COUNTS, COUNTS), min_size=1, max_size=12), cut=st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_the_recursion_takes_the_same_steps_in_any_batches(rows: list[tuple[int, int, int, int]], cut: int) -> None:
    counts = np.array([[n1 + k1, k1, n2 + k2, k2] for n1, k1, n2, k2 in rows], dtype=np.float64)
    log_e = log_e_ratio(counts, HARM_GRID, np.ones(len(HARM_GRID)))[:, None, :]
    weights = np.full((len(rows), 1), 0.01)
    start = np.zeros((1, len(HARM_GRID)))
    whole = weighted_sr(start, weights, log_e.copy(), {})
    first = weighted_sr(start, weights[:cut], log_e[:cut].copy(), {})
    middle = first[-1] if len(first) else start
    rest = weighted_sr(middle, weights[cut:], log_e[cut:].copy(), {})
    assert np.array_equal(whole, np.concatenate([first, rest]))
    assert np.isfinite(whole).all()


def test_the_recursion_is_the_weighted_sum_over_all_onsets() -> None:
    rng = np.random.default_rng(1)
    log_e = rng.normal(0, 1, (20, 1, len(HARM_GRID)))
    weights = rng.random((20, 1)) / 20
    last = weighted_sr(np.zeros((1, len(HARM_GRID))), weights, log_e.copy(), {})[-1, 0]
    by_hand = sum(weights[s, 0] * np.exp(log_e[s:, 0].sum(axis=0)) for s in range(20))
    assert last == pytest.approx(by_hand, rel=1e-12)
    assert log_mixture(last[None])[0] == pytest.approx(math.log(float(last @ HARM_PRIOR)))


def test_onset_mass_never_adds_up_to_more_than_one() -> None:
    promotions = sum(mass.at_promotion(j) for j in range(1, 2000))
    flowed = mass.flowed(np.array([0.0, 1e6, 4e6, 1e9, 1e13]), 4e6)
    assert (np.diff(flowed) >= 0).all()
    assert mass.START + promotions + flowed[-1] <= 1


@pytest.mark.parametrize(("k", "n"), [(0, 100), (3, 600), (31, 5012), (90, 100), (100, 100)])
def test_a_rates_interval_contains_the_fixed_sample_one(k: int, n: int) -> None:
    """It holds at every look, so it is wider than Clopper and Pearson's, but not by much."""
    low, high = rate_interval(k, n, 0.05)
    exact = stats.binomtest(k, n).proportion_ci(0.95)
    assert low <= exact.low + 1e-9
    assert high >= exact.high - 1e-9
    assert high - low <= 2.6 * (exact.high - exact.low)


@pytest.mark.slow
def test_intervals_cover_at_all_looks_at_once() -> None:
    rng, missed_rate, missed_quantile = np.random.default_rng(2), 0, 0
    true_bin = latency_bin(stats.lognorm.ppf(0.95, 0.6, scale=80.0))
    for _ in range(200):
        bad = np.cumsum(rng.random(4000) < 0.02)
        bins = np.array([latency_bin(x) for x in rng.lognormal(math.log(80.0), 0.6, 2000)])
        looks = (50, 100, 200, 500, 1000, 2000, 4000)
        rates = [rate_interval(float(bad[n - 1]), n, 0.05) for n in looks]
        missed_rate += any(not low <= 0.02 <= high for low, high in rates)
        bands = [quantile_interval(np.bincount(bins[:n], minlength=BINS).astype(float), 0.95, 0.05) for n in looks[:6]]
        edge = bin_upper_ms(true_bin)
        missed_quantile += any(band is not None and not band[0] <= edge <= band[2] * 1.05 for band in bands)
    assert missed_rate <= stats.binom.ppf(0.999, 200, 0.05)
    assert missed_quantile <= stats.binom.ppf(0.999, 200, 0.05)


def test_the_ratios_interval_covers_and_shrinks() -> None:
    rng = np.random.default_rng(3)
    missed, widths = 0, []
    for _ in range(200):
        n = np.array([1900.0, 100.0])
        k = rng.poisson(n * np.array([0.005, 0.01]), (300, 2))
        counts = np.stack([np.full(300, n[0]), k[:, 0], np.full(300, n[1]), k[:, 1]], axis=1).astype(float)
        profile = np.cumsum(log_e_ratio(counts, RATIO_GRID, np.ones(len(RATIO_GRID))), axis=0)
        bands = [ratio_interval(profile[look], 0.05) for look in (20, 60, 150, 299)]
        found = [band for band in bands if band is not None]
        missed += any(not low <= 2.0 <= high for low, _, high in found)
        widths.append(found[-1][2] / max(found[-1][0], 1e-3))
    assert missed <= stats.binom.ppf(0.999, 200, 0.05)
    assert np.median(widths) < 3


@pytest.mark.parametrize("failures", [2_000, 100_000, 10_000_000])
@pytest.mark.parametrize("odds", [0.05, 1.0])
def test_the_ratios_interval_is_exact_between_the_grids_points(failures: int, odds: float) -> None:
    """However many there are: the ends are where (R) itself, asked at them, crosses; and the truth lies between."""
    rng = np.random.default_rng(failures)
    for truth in (0.973, 1.0, 1.31):
        k2 = float(rng.binomial(failures, truth * odds / (1 + truth * odds)))
        counts = np.array([[1.0, failures - k2, odds, k2]])
        band = ratio_interval(log_e_ratio(counts, RATIO_GRID, np.ones(len(RATIO_GRID)))[0], 0.05)
        assert band is not None
        low, middle, high = band
        assert middle == pytest.approx(k2 / (failures - k2) / odds, rel=1e-4)
        assert low < truth < high
        sd = math.sqrt(1 / k2 + 1 / (failures - k2))
        assert 2 * sd < math.log(high / low) / 2 < 6 * sd
        at_low, at_high = log_e_ratio(counts, np.array([low, high]), np.ones(2))[0]
        assert at_low == pytest.approx(at_high, abs=0.05 + 2e-7 * failures)


def test_the_ratios_interval_has_no_step_where_its_formula_changes() -> None:
    """The sum over the grid and the integral by Laplace give the same where one takes over from the other."""
    widths = []
    for failures in range(60, 400, 10):
        counts = np.array([[1.0, failures / 2, 1.0, failures / 2]])
        band = ratio_interval(log_e_ratio(counts, RATIO_GRID, np.ones(len(RATIO_GRID)))[0], 0.05)
        assert band is not None
        widths.append(math.log(band[2] / band[0]) * math.sqrt(failures))
    assert np.abs(np.diff(widths)).max() < 0.03 * widths[0]


def test_gross_tails_are_scipys() -> None:
    assert _log_binomial_tail(9, 6, 0.01) == pytest.approx(stats.binom.logsf(5, 9, 0.01))
    assert _log_fisher_tail(95, 2, 9, 6) == pytest.approx(stats.hypergeom.logsf(5, 104, 8, 9))


def test_a_forecast_is_shorter_with_more_traffic_and_never_for_a_v2_beyond_the_margin() -> None:
    def ask(k2: float, rate: float) -> tuple[tuple[float, float, float] | None, float]:
        return forecast(counts=(30_000, 150, 10_000, k2), log_e=1.0, needed=3.0, margin=1.25, v2_per_s=rate)

    slow, fast = ask(50, 1.0)[0], ask(50, 10.0)[0]
    assert slow is not None
    assert fast is not None
    assert slow[1] == pytest.approx(10 * fast[1])
    assert ask(150, 1.0)[1] > 0.95


@given(st.permutations(list(range(6))))
def test_failing_users_are_counted_alike_in_any_order_of_their_cells(order: list[int]) -> None:
    """Collectors and regions come in any order; the book sorts them, and their sums are what counts."""
    arms = [Arm(version, region, "") for version in Version for region in ("a", "b", "c")]
    cells = [(arm, Cell(requests=9, failures=2, failing_users={i, i + 10})) for i, arm in enumerate(arms)]
    given_order = sorted((cells[i] for i in order), key=lambda item: item[0])
    assert users.count(users.Failing(), 0.0, cells) == users.count(users.Failing(), 0.0, given_order)


def test_a_user_counts_first_once_then_weekly_and_distinct_every_ten_minutes() -> None:
    failing, arm = users.Failing(), Arm(Version.V2, "", "")
    totals = Counter[str]()
    for start in range(0, 15 * 86_400, 300):
        failing, (units,) = users.count(failing, start, [(arm, Cell(requests=1, failures=1, failing_users={7}))])
        totals.update(first=units.first, weekly=units.weekly, distinct=units.distinct)
    assert totals == {"first": 1, "weekly": 3, "distinct": 15 * 144}
    assert len(failing.hurt) == 1


def test_a_slower_v2_is_found_and_an_equal_one_is_not() -> None:
    def evidence(factor: float, seed: int) -> float:
        rng, state = np.random.default_rng(seed), pace.Pace()
        for number in range(200):
            one, two = (
                np.stack(
                    [
                        np.bincount(
                            np.minimum(
                                np.ceil(np.log(rng.lognormal(4.4, 0.5, n) * speed) / math.log(1.05)), 225
                            ).astype(int),
                            minlength=BINS,
                        ),
                        np.zeros(BINS),
                    ]
                ).astype(float)
                for n, speed in ((300, 1.0), (100, factor))
            )
            state = pace.step(state, start=number * 864.0, flowed=0.0, one=one, two=two)
        return pace.log_e_slower(state)

    assert evidence(1.25, 1) > math.log(1000)
    assert max(evidence(1.0, seed) for seed in range(10)) < math.log(20)


def test_who_fails_while_nobody_compares_them_still_fails_for_the_first_time_later() -> None:
    """A week of V1 alone before the canary must not use up the first failures that tell the versions apart."""
    one, two = Arm(Version.V1, "", ""), Arm(Version.V2, "", "staff")
    rows = [
        (one, Cell(requests=1, failures=1, failing_users={7})),
        (two, Cell(requests=1, failures=1, failing_users={8})),
    ]
    failing, before = users.count(users.Failing(), 0.0, rows, [False, False])
    assert [(unit.first, unit.weekly, unit.distinct) for unit in before] == [(0, 0, 1), (0, 0, 1)]
    assert len(failing.hurt) == 1
    failing, after = users.count(failing, 86_400.0, rows, [True, False])
    assert [(unit.first, unit.weekly) for unit in after] == [(1, 1), (0, 0)]
    assert [unit.first for unit in users.count(failing, 2 * 86_400.0, rows, [True, False])[1]] == [0, 0]


@pytest.mark.parametrize("cached", [0.0, 0.5])
def test_a_v2_slower_by_the_margin_crosses_the_bar_as_seldom_as_the_bar_says(cached: float) -> None:
    """Ville: at most 1 run in 4 ever shows 4 to 1, in any mix of cached answers and others."""
    crossed, runs = 0, 60
    for seed in range(runs):
        rng, state, highest = np.random.default_rng([11, seed]), pace.Pace(), -math.inf
        for number in range(150):
            sizes = (4000, 0) if number < 2 else (200, 20)
            one, two = (
                np.stack([_answers(rng, round(n * part), later) for part in (1 - cached, cached)])
                for later, n in enumerate(sizes)
            )
            state = pace.step(state, start=number * 43_200.0, flowed=0.002 * number, one=one, two=two)
            highest = max(highest, pace.log_e_slower(state))
        crossed += highest >= math.log(4)
    assert crossed <= stats.binom.ppf(0.999, runs, 0.25)


def _answers(rng: np.random.Generator, n: int, later: int = 0) -> np.ndarray:
    """Draw n answers, as many for each of forty bins from bin 60 on, `later` bins further."""
    found = np.zeros(BINS)
    found[60 + later : 100 + later] = rng.multinomial(n, np.full(40, 1 / 40))
    return found


def test_a_stratum_without_answers_costs_nothing() -> None:
    """All mass goes to the strata that V1 filled the day before."""
    rng, states = np.random.default_rng(5), []
    for cached in (False, True):
        state = pace.Pace()
        for number in range(3):
            answers = _answers(rng, 5000)
            one = np.stack([answers, answers if cached else np.zeros(BINS)])
            state = pace.step(state, start=number * 86_400.0, flowed=0.0, one=one, two=one if number else 0 * one)
        states.append(state)
    assert states[0].harm[1].max() == 0
    assert states[0].waiting == 0
    assert states[1].harm[1].max() > 0


def test_evidence_of_an_earlier_form_goes_on_as_the_same_wealth() -> None:
    stored = pace.Pace(
        day=3,
        harm=np.arange(108.0).reshape(2, 6, 9),
        thresholds=np.full((2, 6), 80.0),
        guess=np.full((2, 6), 0.1),
        spent=0.1,
        waiting=0.0,
    )
    found = pace.reread(stored)
    assert pace.log_e_slower(found) == pytest.approx(math.log(stored.harm.mean()), abs=1e-12)
    assert (found.thresholds == -1).all()
    assert (found.day, found.spent, found.waiting) == (3, 0.1, 0.0)
    assert pace.reread(found) is found


def test_the_streams_to_blame_are_the_strong_ones() -> None:
    found = blamed({"a": math.log(1000), "b": math.log(25), "c": 0.0, "d": -3.0})
    assert found == ("a", "b")
    assert blamed({}) == ()


@pytest.mark.parametrize(
    ("level", "more"), [(1.05, False), (2.5, False), (0.8, False), (1.0, False), (0.95, True), (1.2, True)]
)
def test_promotion_bets_beyond_the_margin_and_most_on_parity_where_that_will_do(level: float, more: bool) -> None:
    bets = bets_on_promotion(level, more=more)
    assert (bets > level).all() if more else (bets < level).all()
    bet_most = log_e_promote(np.where(np.arange(len(bets)) == 1, 0.0, -np.inf))
    assert math.exp(bet_most) > 0.5
    if level < 1 if more else level > 1:
        assert bets[1] == pytest.approx(1.0)
    assert log_e_promote(np.zeros(len(bets))) == pytest.approx(0.0)

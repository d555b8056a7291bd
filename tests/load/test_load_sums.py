"""Curves, latencies and verdicts of a load: values in, values out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.load.curve import Curve, Piece, Profile, curve_of, replayed
from crossfade.core.load.judge import Check, judge, judge_peak
from crossfade.core.load.latency import Latencies
from crossfade.core.load.tally import Part, Tally, Trouble
from crossfade.core.plan import Comparison, Expectation, Limit, MetricKind
from crossfade.core.split import Version
from crossfade.core.verdict import Verdict

V1, V2 = Version.V1, Version.V2


# ── when ──


def test_a_steady_rate_starts_evenly() -> None:
    assert list(curve_of(Profile.STEADY, 1.0).starts(4)) == pytest.approx([0.0, 0.25, 0.5, 0.75])


def test_a_ramp_has_half_the_requests_and_three_quarters_of_them_in_its_second_half() -> None:
    starts = list(curve_of(Profile.RAMP, 10.0).starts(100))
    assert len(starts) == 500
    assert sum(start >= 5.0 for start in starts) == pytest.approx(375, abs=1)


def test_a_spike_is_five_times_its_rest_for_a_fifth_of_the_time() -> None:
    curve = curve_of(Profile.SPIKE, 10.0)
    starts = list(curve.starts(100))
    assert [curve.level(at) for at in (1, 5, 9, 11, -1)] == [0.2, 1.0, 0.2, 0.0, 0.0]
    assert sum(4 <= start < 6 for start in starts) == 200
    assert len(starts) == 200 + 2 * 80


def test_a_replayed_hour_keeps_its_shape() -> None:
    starts = list(replayed([30, 60, 0, 15], 8.0).starts(10))
    assert [sum(low <= start < low + 2 for start in starts) for low in (0, 2, 4, 6)] == [10, 20, 0, 5]
    with pytest.raises(ValueError, match="nothing was asked"):
        replayed([0, 0], 8.0)


pieces = st.lists(
    st.builds(Piece, st.floats(0.01, 100), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6
).filter(lambda found: sum(piece.area for piece in found) > 0.01)


@given(pieces, st.floats(1, 50))
def test_starts_rise_within_the_curve_and_are_as_many_as_counted(found: list[Piece], rate: float) -> None:
    curve = Curve(found)
    starts = list(curve.starts(rate))
    assert starts == sorted(starts)
    assert all(0 <= start <= curve.seconds * (1 + 1e-9) for start in starts)
    assert len(starts) == curve.count(rate)


# ── how long ──


def test_without_answers_there_is_no_quantile() -> None:
    assert Latencies().quantile_ms(0.5) is None
    assert Latencies().mean_ms() is None


@given(st.lists(st.floats(2e-5, 3000), min_size=1, max_size=200), st.sampled_from([0.1, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_right_within_a_bin(values: list[float], quantile: float) -> None:
    latencies, both = Latencies(), Latencies()
    for value in values:
        latencies.add(value)
    both.merge(latencies)
    exact = 1000 * sorted(values)[max(0, -(-round(quantile * 1000) * len(values) // 1000) - 1)]
    for one in (latencies, both):
        got = one.quantile_ms(quantile)
        assert got is not None
        assert exact * 0.999999 <= got <= exact * 1.0101
    assert both.count == len(values)
    assert both.max_s == max(values)


# ── what it shows ──


def _limit(kind: MetricKind, value: float, quantile: float | None = None) -> Expectation:
    return Expectation(text="x", kind=kind, limit=Limit(comparison=Comparison.LE, value=value), quantile=quantile)


FAILURES = _limit(MetricKind.FAILURE_RATE, 0.01)
P99 = _limit(MetricKind.LATENCY, 100.0, 0.99)


def _tally(good: int, bad: int = 0, version: Version | None = V1, seconds: float = 0.05) -> Tally:
    tally = Tally()
    part = Part(version, "eu", "search")
    for _ in range(good):
        tally.good(part, 200, seconds, seconds)
    for _ in range(bad):
        tally.bad(part, Trouble.RESET, "the connection ended", seconds)
    return tally


def _verdicts(checks: tuple[Check, ...]) -> list[tuple[str, Verdict]]:
    return [(check.of, check.verdict) for check in checks]


@pytest.mark.parametrize(
    ("tally", "expected", "verdict"),
    [
        (_tally(1000), FAILURES, Verdict.PASS),
        (_tally(990, 10), FAILURES, Verdict.PASS),
        (_tally(980, 20), FAILURES, Verdict.FAIL),
        (_tally(2, 1), FAILURES, Verdict.FAIL),
        (_tally(299), FAILURES, Verdict.INCONCLUSIVE),
        (_tally(300), FAILURES, Verdict.PASS),
        (_tally(1000), P99, Verdict.PASS),
        (_tally(1000, seconds=0.2), P99, Verdict.FAIL),
        (_tally(999), P99, Verdict.INCONCLUSIVE),
        (_tally(0), FAILURES, Verdict.BLIND),
    ],
)
def test_what_is_expected_is_held_against_what_was_seen(tally: Tally, expected: Expectation, verdict: Verdict) -> None:
    assert _verdicts(judge(tally, [expected], v2_wanted=False)) == [("all", verdict)]


def test_v2_is_judged_by_itself_where_it_answered_or_was_to() -> None:
    assert _verdicts(judge(_tally(1000), [FAILURES], v2_wanted=True)) == [("all", Verdict.PASS), ("v2", Verdict.BLIND)]
    both = _tally(5000)
    for _ in range(30):
        both.bad(Part(V2, "eu", "search"), Trouble.STATUS, "status 500", 0.1, 500)
    assert _verdicts(judge(both, [FAILURES], v2_wanted=False)) == [("all", Verdict.PASS), ("v2", Verdict.FAIL)]


def test_failures_that_told_no_version_may_be_v2s() -> None:
    tally = _tally(1000, version=V2)
    nobodys = Part(None, "eu", "search")
    for _ in range(10):
        tally.bad(nobodys, Trouble.REFUSED, "can't connect", 0.1)
    assert _verdicts(judge(tally, [FAILURES], v2_wanted=False)) == [("all", Verdict.PASS), ("v2", Verdict.PASS)]
    tally.bad(nobodys, Trouble.REFUSED, "can't connect", 0.1)
    all_, v2 = judge(tally, [FAILURES], v2_wanted=False)
    assert (all_.verdict, v2.verdict) == (Verdict.FAIL, Verdict.INCONCLUSIVE)
    assert v2.said.endswith("; 11 failures told no version")


@pytest.mark.parametrize(
    ("given_v2", "verdict"), [(0, Verdict.BLIND), (224, Verdict.FAIL), (225, Verdict.PASS), (250, Verdict.PASS)]
)
def test_a_peak_is_one_for_v2_when_it_is_given_a_quarter(given_v2: int, verdict: Verdict) -> None:
    assert judge_peak(_tally(given_v2, version=V2), 1000).verdict is verdict


def test_parts_add_up() -> None:
    tally = _tally(3, 1)
    tally.good(Part(V2, "us", "search"), 200, 0.1, 0.1)
    assert {key: sums.requests for key, sums in tally.by(lambda part: (part.region,)).items()} == {
        ("eu",): 4,
        ("us",): 1,
    }
    assert tally.total().requests == 5
    assert tally.total().failures == 1

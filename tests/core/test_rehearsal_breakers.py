"""The verdicts on a breaker that was provoked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crossfade.core.rehearsal import breakers as judge
from crossfade.core.rehearsal.breakers import AS_WRITTEN_MS, BreakerRules, Seen
from crossfade.core.verdict import Verdict

PLAN = BreakerRules()
GOOD = Seen(sent_s=0.0, came_s=0.01, status=200, dependency="ok", breaker="closed")
FALLBACK = replace(GOOD, dependency="fallback")
OPEN = replace(FALLBACK, breaker="open")
PROBE = replace(GOOD, breaker="half_open")


def at(seen: Seen, sent_s: float, took_s: float = 0.01) -> Seen:
    return replace(seen, sent_s=sent_s, came_s=sent_s + took_s)


def test_the_plans_rules_are_ten_failures_in_twenty() -> None:
    assert (PLAN.failures, PLAN.cooldown) == (10, "30 s")
    assert BreakerRules(window=10, failure_rate=0.3).failures == 3
    assert BreakerRules(cooldown_s=0.5).cooldown == "0.5 s, compressed from 30 s"


@pytest.mark.parametrize(
    "wrong",
    [{"window": 0}, {"probes": 0}, {"failure_rate": 0.0}, {"failure_rate": 1.1}, {"cooldown_s": 0.0}, {"late_s": -1.0}],
)
def test_rules_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        BreakerRules(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "verdict", "figure"),
    [
        ([FALLBACK] * 9 + [OPEN], Verdict.PASS, "opened at 10 failures"),
        ([FALLBACK] * 8 + [OPEN], Verdict.FAIL, "opened at 9 failures"),
        ([FALLBACK] * 10 + [OPEN], Verdict.FAIL, "opened at 11 failures"),
        ([FALLBACK] * 40, Verdict.FAIL, "never opened in 40 failing requests"),
        ([replace(FALLBACK, breaker=None)] * 40, Verdict.INCONCLUSIVE, "the answers don't tell the breaker's state"),
        ([], Verdict.INCONCLUSIVE, "the answers don't tell the breaker's state"),
    ],
)
def test_it_opens_at_half_of_the_window_and_not_before(seen: list[Seen], verdict: Verdict, figure: str) -> None:
    found = judge.opens(seen, PLAN)
    assert (verdict, figure) == (found.verdict, found.figure)


@pytest.mark.parametrize(
    ("seen", "verdict", "figure"),
    [
        ([at(OPEN, 20), at(PROBE, 30)], Verdict.PASS, "after 30.0 s"),
        ([at(OPEN, 20), at(PROBE, 29)], Verdict.FAIL, "after 29.0 s"),
        ([at(OPEN, 20), at(OPEN, 33)], Verdict.FAIL, "stuck in OPEN: still open after 33.0 s"),
        ([at(OPEN, 33), at(PROBE, 34)], Verdict.FAIL, "stuck in OPEN: still open after 33.0 s"),
        ([at(OPEN, 20)], Verdict.INCONCLUSIVE, "watched for 20.0 s only"),
        ([at(PROBE, 20, took_s=15)], Verdict.PASS, "after 35.0 s"),
        ([at(OPEN, 29, took_s=15), at(PROBE, 44)], Verdict.PASS, "after 44.0 s"),
    ],
    ids=["on time", "early", "stuck", "late", "not watched", "slow machine", "slow answer"],
)
def test_the_cooldown_is_early_or_late_only_where_it_surely_was(
    seen: list[Seen], verdict: Verdict, figure: str
) -> None:
    found = judge.half_opens(at(OPEN, 0), seen, PLAN)
    assert (verdict, figure) == (found.verdict, found.figure)


@pytest.mark.parametrize(
    ("seen", "verdict", "figure"),
    [
        ([PROBE] * 4 + [GOOD], Verdict.PASS, "after 5 good probes"),
        ([PROBE] * 3 + [GOOD], Verdict.FAIL, "after 4 good probes"),
        ([GOOD], Verdict.FAIL, "after 1 good probes"),
        ([PROBE] * 15, Verdict.FAIL, "stuck in HALF_OPEN: 15 good of 15 answers"),
        (
            [PROBE] * 2 + [replace(FALLBACK, breaker="half_open")] * 13,
            Verdict.FAIL,
            "stuck in HALF_OPEN: 2 good of 15 answers",
        ),
        ([PROBE, OPEN], Verdict.INCONCLUSIVE, "it opened again after 1 good probes"),
        ([], Verdict.INCONCLUSIVE, "there was no probe to be seen"),
    ],
)
def test_five_good_probes_close_it(seen: list[Seen], verdict: Verdict, figure: str) -> None:
    found = judge.closes(seen, PLAN)
    assert (verdict, figure) == (found.verdict, found.figure)


def test_one_bad_probe_reopens_it() -> None:
    assert judge.reopens(PROBE, OPEN).verdict is Verdict.PASS
    assert judge.reopens(PROBE, replace(PROBE, dependency="fallback")).verdict is Verdict.FAIL
    assert judge.reopens(GOOD, OPEN).verdict is Verdict.INCONCLUSIVE
    assert judge.reopens(None, OPEN).verdict is Verdict.INCONCLUSIVE


def test_while_open_every_answer_is_a_fast_fallback() -> None:
    assert judge.answers_at_once([OPEN] * 5, PLAN).verdict is Verdict.PASS
    assert judge.answers_at_once([OPEN] * 4 + [replace(OPEN, dependency="ok")], PLAN).verdict is Verdict.FAIL
    assert judge.answers_at_once([at(OPEN, 0, took_s=0.4)], PLAN).verdict is Verdict.FAIL
    assert judge.answers_at_once([GOOD], PLAN).verdict is Verdict.INCONCLUSIVE


def test_what_is_missing_is_told() -> None:
    seen = [GOOD, replace(GOOD, missing=("hotels",)), replace(GOOD, status=503), replace(GOOD, status=0)]
    found = judge.keeps_the_rest("hang: the rest", seen, ("flights", "hotels"))
    assert found.verdict is Verdict.FAIL
    assert found.figure == "1 of 4, hotels missing in 1, 1 x no answer, 1 x status 503"
    assert judge.keeps_the_rest("x", [GOOD], ("flights",)).verdict is Verdict.PASS
    assert judge.keeps_the_rest("x", [], ("flights",)).verdict is Verdict.INCONCLUSIVE


def test_the_95th_percentile_is_of_answers_by_the_nearest_rank() -> None:
    seen = [at(GOOD, 0, took_s=n / 1000) for n in range(1, 101)]
    assert judge.percentile_95_ms(seen) == pytest.approx(95)
    assert judge.stays_fast("x", seen, replace(PLAN, latency_ms=95.5)).verdict is Verdict.PASS
    assert judge.stays_fast("x", seen, replace(PLAN, latency_ms=94.5)).verdict is Verdict.FAIL
    assert judge.stays_fast("x", [replace(GOOD, status=0)], PLAN).verdict is Verdict.INCONCLUSIVE


def test_wrong_weather_that_is_believed_fails() -> None:
    assert judge.believes_nothing_wrong("lie", [FALLBACK, OPEN]).verdict is Verdict.PASS
    assert judge.believes_nothing_wrong("lie", [FALLBACK, GOOD]).verdict is Verdict.FAIL
    assert judge.believes_nothing_wrong("lie", [replace(GOOD, dependency=None)]).verdict is Verdict.INCONCLUSIVE


def test_a_breaker_that_does_not_close_again_is_stuck() -> None:
    assert judge.recovers("x", [OPEN, PROBE, GOOD], PLAN).verdict is Verdict.PASS
    assert judge.recovers("x", [OPEN, PROBE], PLAN).figure.startswith("stuck in HALF_OPEN")
    assert judge.recovers("x", [], PLAN).verdict is Verdict.INCONCLUSIVE


def test_other_paths_keep_95_percent() -> None:
    assert judge.keeps_throughput("x", 1000, 950).verdict is Verdict.PASS
    assert judge.keeps_throughput("x", 1000, 949).verdict is Verdict.FAIL
    assert judge.keeps_throughput("x", 0, 0).verdict is Verdict.INCONCLUSIVE


def test_the_plans_own_figures_hold_within_a_tenth() -> None:
    assert {Verdict.PASS} == {f.verdict for f in judge.as_written(AS_WRITTEN_MS)}
    off = judge.as_written({**AS_WRITTEN_MS, "open": 90.0})
    assert [f.name for f in off if f.verdict is Verdict.FAIL] == ["as-written open"]
    assert {Verdict.INCONCLUSIVE} == {f.verdict for f in judge.as_written({})}

"""Counts become verdicts: beyond noise, beyond the limit, with the error that was allowed."""

from __future__ import annotations

import random  # noqa: TID251 - seeded
from collections.abc import Callable
from typing import Any

import pytest
from tests.mirror.test_mirror_compare import said

from crossfade.core.mirror.compare import Answer
from crossfade.core.mirror.judge import Line, excess_of, judge, needed, verdict_of
from crossfade.core.mirror.rules import Bound, Expected, Mirror, Reference
from crossfade.core.mirror.tally import PATHS_MAX, Tally
from crossfade.core.verdict import Verdict

TRIP = {"flights": [{"flight": "UA1"}], "hotels": [{"name": "A", "night_usd": 76}], "from": "JFK"}
Body = Callable[[int], Any]


def same(_: int) -> Any:
    return TRIP


def with_hotel(**hotel: Any) -> Any:
    return {**TRIP, "hotels": [hotel]}


def judged(
    count: int,
    v2: Body,
    rules: Mirror | None = None,
    *,
    v1: Body = same,
    again: Body | None = None,
    true: Body | None = None,
) -> dict[str, Line]:
    rules = rules or Mirror()
    tally = Tally(rules)
    for n in range(count):
        known = said(true(n)) if true else None
        tally.take(f"/trips?n={n}", said(v1(n)), said((again or v1)(n)), said(v2(n)), known)
    lines = judge(tally, rules)
    return {f"{line.of} {line.path}": line for line in lines} | {
        "": Line(path="", of="", verdict=verdict_of(lines, tally.compared), said="", asked=0, differing=0)
    }


FAULTS: dict[str, tuple[Body, str, str]] = {
    "renamed": (lambda _: with_hotel(name="A", price_usd=76), "hotels[].night_usd", "renamed to hotels[].price_usd"),
    "price as text": (lambda _: with_hotel(name="A", night_usd="76"), "hotels[].night_usd", "type changed in 200"),
    "hotels dropped": (lambda _: {**TRIP, "hotels": []}, "hotels[]", "missing item in 200"),
    "in cents": (lambda _: with_hotel(name="A", night_usd=7600), "hotels[].night_usd", "another unit: a hundredfold"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_every_answer_fails_at_its_field_for_its_reason(fault: str) -> None:
    v2, path, reason = FAULTS[fault]
    lines = judged(200, v2)
    assert {path} == {line.path for line in lines.values() if line.verdict is Verdict.FAIL and line.path}
    assert reason in lines[f"fields {path}"].said
    assert Verdict.FAIL is lines[""].verdict


@pytest.mark.parametrize("seed", range(5))
def test_a_field_that_differs_in_two_answers_of_a_hundred_fails(seed: int) -> None:
    draw = random.Random(seed)
    lines = judged(3000, lambda _: with_hotel(name="A", night_usd=76 + (draw.random() < 0.02)))
    assert Verdict.FAIL is lines["fields hotels[].night_usd"].verdict


def test_the_same_answers_pass_as_soon_as_there_are_enough_and_not_before() -> None:
    rules = Mirror(limit=0.02)
    enough = needed(0.02)
    assert Verdict.INCONCLUSIVE is judged(enough - 1, same, rules)[""].verdict
    assert Verdict.PASS is judged(enough, same, rules)[""].verdict
    assert Verdict.BLIND is judged(0, same, rules)[""].verdict


def test_what_v2_adds_is_no_difference_unless_it_is_named_itself() -> None:
    def v2(_: int) -> Any:
        return {**TRIP, "weather": {"t": 1}}

    rules = Mirror(limit=0.05)
    assert Verdict.PASS is judged(200, v2, rules)[""].verdict
    assert judged(200, v2, rules)["fields weather"].verdict is None
    assert Verdict.FAIL is judged(200, v2, Mirror(limit=0.05, must_match=("weather",)))["fields weather"].verdict


def test_only_named_fields_are_judged_where_some_are_and_the_status_always() -> None:
    rules = Mirror(limit=0.05, must_match=("flights",))
    lines = judged(200, lambda _: with_hotel(name="B", night_usd=76), rules)
    assert (lines[""].verdict, lines["fields hotels[].name"].verdict) == (Verdict.PASS, None)
    assert lines["fields hotels[].name"].differing == 200
    tally = Tally(rules)
    for _ in range(200):
        tally.take("/", said(TRIP), said(TRIP), Answer(trouble="no connection: refused"))
    (worst, *_) = judge(tally, rules)
    assert (worst.path, worst.verdict) == ("status code", Verdict.FAIL)


def noisy(seed: int, share: float) -> Body:
    draw = random.Random(seed)
    return lambda _: with_hotel(name="A", night_usd=76 + (draw.random() < share))


ROOM, PRICE = Mirror(limit=0.02), "fields hotels[].night_usd"


def test_prices_that_move_are_noise_and_more_than_noise_is_not() -> None:
    calm = judged(2000, noisy(1, 0.05), ROOM, v1=noisy(2, 0.05), again=noisy(3, 0.05))[PRICE]
    assert (calm.verdict, calm.noise > 100) == (Verdict.PASS, True)
    worse = judged(2000, noisy(1, 0.25), ROOM, v1=noisy(2, 0.05), again=noisy(3, 0.05))[PRICE]
    assert Verdict.FAIL is worse.verdict


def test_where_v1_never_agrees_with_itself_values_say_nothing_and_the_shape_still_does() -> None:
    def stamped(offset: int) -> Body:
        return lambda n: {**TRIP, "at": 3 * n + offset}

    plain = judged(400, stamped(2), Mirror(limit=0.03), v1=stamped(0), again=stamped(1))
    assert (Verdict.PASS, "can't be compared" in plain["fields at"].said) == (plain[""].verdict, True)
    named = judged(400, stamped(2), Mirror(limit=0.03, must_match=("at",)), v1=stamped(0), again=stamped(1))
    assert Verdict.BLIND is named[""].verdict
    gone = judged(400, same, Mirror(limit=0.03), v1=stamped(0), again=stamped(1))
    assert Verdict.FAIL is gone["fields at"].verdict


def test_v2_that_is_one_more_v1_is_hardly_ever_failed() -> None:
    """Of 200 runs with 20 % noise none fails: the error allowed is 1 % over all fields."""
    failed = 0
    for seed in range(200):
        draw = random.Random(seed)
        only_v2 = sum(draw.random() < 0.16 for _ in range(500))
        only_v1 = sum(draw.random() < 0.16 for _ in range(500))
        failed += excess_of(only_v2, only_v1, 1000, 0.01)[0] > 0.001
    assert failed <= 2


def test_the_interval_of_the_excess_holds_it() -> None:
    missed = 0
    for seed in range(200):
        draw = random.Random(seed)
        kinds = [draw.random() for _ in range(400)]
        low, high = excess_of(sum(k < 0.12 for k in kinds), sum(0.12 <= k < 0.17 for k in kinds), 400, 0.05)
        missed += not low <= 0.07 <= high
    assert missed <= 10


def weather(mean: Any) -> Any:
    return {**TRIP, "weather": {"temperature_c": {"mean": mean}}}


CHECKED = Mirror(
    limit=0.02,
    bounds=(Bound(path="weather.temperature_c", low=-60, high=60),),
    reference=Reference(
        url="http://x", fields=(Expected(path="weather.temperature_c.mean", reference="mean", within=0.5),)
    ),
)
OF_REFERENCE = "reference weather.temperature_c.mean"


def test_fahrenheit_for_celsius_is_told_by_the_reference_though_it_lies_within_the_bounds() -> None:
    lines = judged(
        600,
        lambda n: weather(round((n % 12) * 1.8 + 32, 1)),
        CHECKED,
        true=lambda n: {"mean": n % 12},
    )
    assert Verdict.PASS is lines["bounds weather.temperature_c"].verdict
    assert Verdict.FAIL is lines[OF_REFERENCE].verdict
    assert "another unit: Fahrenheit for Celsius" in lines[OF_REFERENCE].said


def test_bounds_and_reference_pass_fail_and_are_blind() -> None:
    good = judged(600, lambda _: weather(12.3), CHECKED, true=lambda _: {"mean": 12})
    assert Verdict.PASS is good[""].verdict
    hot = judged(600, lambda _: weather("412"), CHECKED, true=lambda _: {"mean": 12})
    assert Verdict.FAIL is hot["bounds weather.temperature_c"].verdict
    silent = judged(600, lambda _: weather(12.3), CHECKED, true=lambda _: {"error": 1})
    assert (silent[OF_REFERENCE].verdict, silent[""].verdict) == (Verdict.BLIND, Verdict.BLIND)
    without = judged(600, same, CHECKED, true=lambda _: {"mean": 12})
    assert Verdict.BLIND is without["bounds weather.temperature_c"].verdict


def test_memory_is_bounded_whatever_is_answered() -> None:
    def wild(n: int) -> Any:
        return {f"key_{n}_{k}": "x" * 500 for k in "abcdefgh"}

    tally = Tally(Mirror())
    for n in range(150):
        tally.take(f"/{n}", said(wild(n)), said(wild(n)), said(wild(n + 1)))
    assert len(tally.fields) <= PATHS_MAX + 3
    examples = [example for sums in tally.fields.values() for example in sums.examples]
    assert all(len(sums.examples) <= 3 for sums in tally.fields.values())
    assert max(len(one.v1) for one in examples) <= 80

"""From targets to shares by cohort, and from own gates to all gates."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.app.planfile import shares
from crossfade.app.planfile.shares import Population
from crossfade.core.plan import DAY, WEEK, GateKind, Plan
from crossfade.core.split import BUCKETS, NOBODY, Split

PHASES = "phases:\n"


def _with_phases(plan_text: str, *phases: str) -> str:
    head = plan_text[: plan_text.index(PHASES)]
    return head + PHASES + "".join(f"  - {{{phase}, soak: 1w}}\n" for phase in phases)


def _splits(plan: Plan) -> list[tuple[int, dict[str, int], int]]:
    return [(phase.target, dict(phase.split.cohorts), phase.split.everyone) for phase in plan.phases]


def test_the_founding_plan(desk: Any, plan_text: str) -> None:
    assert _splits(desk.load(plan_text)) == [
        (0, {"internal": 10_000}, 0),
        (500, {"internal": 10_000, "beta": 2_000}, 0),
        (5_000, {"internal": 10_000, "beta": 5_000}, 5_000),
        (10_000, {"internal": 10_000, "beta": 10_000}, 10_000),
    ]


def test_a_cohort_that_is_used_up_leaves_the_rest_to_everyone_else(desk: Any, plan_text: str) -> None:
    plan = desk.load(_with_phases(plan_text, "name: a, split: 40%, cohort: beta", "name: b, split: 70%"))
    assert _splits(plan) == [(4_000, {"beta": 10_000}, 2_000), (7_000, {"beta": 10_000}, 6_000)]


def test_later_phases_keep_a_cohorts_higher_share(desk: Any, plan_text: str) -> None:
    plan = desk.load(
        _with_phases(plan_text, "name: a, split: 20%, cohort: beta", "name: b, split: 25%", "name: c, split: 90%")
    )
    assert _splits(plan) == [
        (2_000, {"beta": 8_000}, 0),
        (2_500, {"beta": 8_000}, 667),
        (9_000, {"beta": 9_000}, 9_000),
    ]


def test_a_split_by_cohort_is_taken_as_written(desk: Any, plan_text: str) -> None:
    plan = desk.load(
        _with_phases(
            plan_text, "name: a, split: {beta: 50%, everyone else: 0%}", "name: b, split: {everyone else: 60%}"
        )
    )
    assert _splits(plan) == [(1_250, {"beta": 5_000}, 0), (6_000, {"beta": 6_000}, 6_000)]


def test_without_cohorts_the_number_of_users_is_not_needed(desk: Any, plan_text: str) -> None:
    text = _with_phases(plan_text, "name: s, split: 0%, cohort: internal", "name: a, split: 5%", "name: b, split: 100%")
    plan = desk.load(text.replace("  users: 2000\n", ""))
    assert [phase.split.everyone for phase in plan.phases] == [0, 500, 10_000]
    assert {"internal"} == plan.staff_cohorts()


@given(
    targets=st.lists(st.tuples(st.integers(0, BUCKETS), st.sampled_from([None, "a", "b"])), min_size=1, max_size=6),
    sizes=st.tuples(st.integers(1, 900), st.integers(1, 900)),
    rest=st.integers(0, 2_000),
)
def test_any_rising_targets_are_met_and_nobody_falls_back(
    targets: list[tuple[int, str | None]], sizes: tuple[int, int], rest: int
) -> None:
    people = Population(users=sum(sizes) + rest, sizes={"a": sizes[0], "b": sizes[1]})
    split = NOBODY
    for target, cohort in sorted(targets, key=lambda pair: pair[0]):
        if target == 0:
            continue
        earlier, split = (
            split,
            (shares.cohort_first(target, split, people, cohort) if cohort else shares.level(target, split, people)),
        )
        assert split.rises_from(earlier)
        assert target == pytest.approx(people.weight(split), abs=3), "a basis point of rounding in each group"


@pytest.mark.parametrize(
    ("split", "control"),
    [
        (Split(everyone=500), True),
        (Split(everyone=0), False),
        (Split(everyone=10_000), False),
        (Split(everyone=0, cohorts={"a": 2_000}), True),
        (Split(everyone=0, cohorts={"a": 10_000}), False),
        (Split(everyone=2_000, cohorts={"a": 10_000}), True),
    ],
)
def test_there_is_a_control_where_the_hash_decides(split: Split, control: bool) -> None:
    assert control == shares.has_control(split, Population(users=100, sizes={"a": 10}))


def test_gates_are_inherited(desk: Any, plan_text: str) -> None:
    plan = desk.load(plan_text)
    assert [[gate.text for gate in phase.gates] for phase in plan.phases] == [
        [],
        ["failure_rate on target"],
        ["failure_rate on target", "stable for 24h", "no stuck breaker"],
        [
            "failure_rate on target",
            "stable for 24h",
            "no stuck breaker",
            "no v1 requests for 1d",
            "approved by a person",
        ],
    ]
    assert [gate.text for gate in plan.phases[2].own_gates] == ["stable for 24h", "no stuck breaker"]


def test_of_two_gates_of_a_kind_the_longer_time_stands(desk: Any, plan_text: str) -> None:
    text = _with_phases(
        plan_text,
        "name: a, split: 5%, promote when: [stable for 5d]",
        "name: b, split: 10%, promote when: [stable]",
        "name: c, split: 20%, promote when: [stable for 6d]",
    )
    gates = [{gate.kind: gate.for_s for gate in phase.gates} for phase in desk.load(text).phases]
    assert [by_kind[GateKind.STABLE] for by_kind in gates] == [5 * DAY, 5 * DAY, 6 * DAY]
    assert {1} == {len(by_kind) for by_kind in gates}


def test_an_approval_is_for_one_phase(desk: Any, plan_text: str) -> None:
    plan = desk.load(
        _with_phases(plan_text, "name: a, split: 5%, promote when: [approved by a person]", "name: b, split: 10%")
    )
    assert [len(phase.gates) for phase in plan.phases] == [1, 0]


def test_a_soak_that_is_left_out_is_the_longest_time_of_the_gates(desk: Any, plan_text: str) -> None:
    plan = desk.load(plan_text.replace("{name: full, split: 100%, soak: 1w,", "{name: full, split: 100%,"))
    assert plan.phases[-1].soak_s == DAY
    assert [phase.soak_s for phase in plan.phases[:-1]] == [WEEK] * 3


def test_texts_of_gates_are_unique_in_a_phase(desk: Any, plan_text: str) -> None:
    text = plan_text.replace("[stable for 24h, no", "[stable for  24h, failure_rate on target, failure_rate <= 1%, no")
    for phase in desk.load(text).phases:
        assert all(one.text != other.text for one, other in itertools.combinations(phase.gates, 2))

"""What a rehearsal comes to: FAIL outranks everything, and what was not shown is never a PASS."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.rehearsal.breakers import Finding
from crossfade.core.rehearsal.report import (
    MISSING,
    OPENS,
    STUCK,
    Criterion,
    Part,
    PartName,
    Report,
    as_data,
    from_data,
    triggers,
)
from crossfade.core.verdict import Verdict

P, F, U = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def criterion(outcome: Verdict, name: str = "a") -> Criterion:
    return Criterion(name=name, outcome=outcome, figure="3", limit="<= 2", reproduce="curl -i x")


def report(*outcomes: Verdict, partial: str = "") -> Report:
    parts = tuple(
        Part(name=name, criteria=(criterion(outcome),), partial=partial)
        for name, outcome in zip(PartName, outcomes, strict=False)
    )
    return Report(plan="trips", digest="d", began=1.0, ended=2.0, parts=parts)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [((P, P, P, P, P), P), ((P, P, P, P), U), ((), U), ((P, U, P, P, P), U), ((P, U, F, P, P), F), ((F,), F)],
)
def test_any_fail_fails_and_whatever_is_missing_is_inconclusive(
    outcomes: tuple[Verdict, ...], expected: Verdict
) -> None:
    assert report(*outcomes).outcome is expected


def test_a_part_that_was_cut_short_or_shows_nothing_is_no_pass() -> None:
    assert report(P, P, P, P, P, partial="stopped by a person").outcome is U
    assert report(P, F, partial="stopped by a person").outcome is F
    empty = replace(report(P, P, P, P, P), parts=tuple(Part(name=name) for name in PartName))
    assert empty.outcome is U
    assert criterion(Verdict.BLIND).outcome is U


def test_the_sentence_names_what_decided() -> None:
    assert report(P, P, P, P, P).sentence == "all 5 criteria of 5 parts pass"
    assert report(P, F, U).sentence == "calls: a: 3; not run: load, breakers"
    cut = report(P, P, P, P, P, partial="stopped by a person")
    assert cut.sentence.startswith("contract ended early: stopped by a person")


@given(st.lists(st.lists(st.sampled_from([P, F, U])), max_size=5), st.booleans())
def test_a_report_comes_back_from_json_as_it_was(outcomes: list[list[Verdict]], quick: bool) -> None:
    parts = tuple(
        Part(name=name, criteria=tuple(criterion(o) for o in some), began=1.5, ended=2.5, notes=("n",))
        for name, some in zip(PartName, outcomes, strict=False)
    )
    one = Report(plan="p", digest="d", began=1.0, ended=9.0, parts=parts, versions={"v1": "x"}, quick=quick)
    assert from_data(json.loads(json.dumps(as_data(one)))) == one


def test_an_outcome_that_was_written_over_is_not_believed() -> None:
    data = as_data(report(P, F, P, P, P)) | {"outcome": "PASS"}
    assert from_data(data).outcome is F


def finding(name: str, verdict: Verdict, figure: str = "so and so") -> Finding:
    return Finding(name, verdict, figure, "limit", "curl -i x")


GOOD = (finding("opens", P), finding("HALF_OPEN after the cooldown", P), finding("hang: the rest", P))


@pytest.mark.parametrize(
    ("index", "bad", "trigger"),
    [
        (0, finding("opens", F, "never opened in 40 failing requests"), OPENS),
        (1, finding("HALF_OPEN after the cooldown", F, "stuck in OPEN: still open after 33 s"), STUCK),
        (2, finding("hang: the rest", F, "3 of 40, hotels missing in 37"), MISSING),
    ],
)
def test_each_rollback_trigger_fails_by_its_own_finding_alone(index: int, bad: Finding, trigger: str) -> None:
    assert {one.name: one.outcome for one in triggers(GOOD)} == {OPENS: P, STUCK: P, MISSING: P}
    seen = [*GOOD]
    seen[index] = bad
    failed = [one for one in triggers(seen) if one.outcome is F]
    assert [(one.name, one.figure, one.reproduce) for one in failed] == [(trigger, bad.figure, "curl -i x")]


def test_opening_late_is_another_fault_than_not_opening() -> None:
    late = (finding("opens", F, "opened at 12 failures"), *GOOD[1:])
    assert [one.outcome for one in triggers(late)] == [P, P, P]


def test_triggers_that_nobody_looked_at_are_inconclusive() -> None:
    assert [one.outcome for one in triggers([])] == [U, U, U]
    assert [one.outcome for one in triggers([finding("breaker", U)])] == [U, U, U]
    assert [one.outcome for one in triggers([finding("breaker recovers", F, "stuck in OPEN after 9 s")])] == [U, F, U]

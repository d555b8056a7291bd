"""`then: retire v1` in plan files, and the plan that brings V1 back."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.app.planfile import load_plan
from crossfade.app.resurrect import write_resurrection
from crossfade.errors import PlanError, UsageError

PLAN = """\
crossfade: 1
rollout: trips
api:
  entry: /search
  v1: {path: /v1/search, upstreams: ["127.0.0.1:8101"]}
  v2: {path: /v2/search, upstreams: ["127.0.0.1:8102"]}
assignment: {user: [header X-User-Id], users: 2000}
metrics: {failure_rate: {target: "<= 0.5%", guard: "> 1% and worse than v1 -> rollback"}}
phases:
  - {name: canary, split: 5%, soak: 1w}  # at 10:30
  - {name: full, split: 100%, soak: 1w, promote when: [GATES], then: retire v1}
deprecation: {since: 2027-03-01}
"""
GATES = "no v1 requests for 1d, approved by 2 people"


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.replace("GATES", GATES))
    return path


def test_the_last_phase_may_retire_v1(plan: Path) -> None:
    found = load_plan(plan)
    assert (found.retires, [phase.retires for phase in found.phases]) == (True, [False, True])
    without = plan.with_name("without.yaml")
    without.write_text(plan.read_text().replace(", then: retire v1", ""))
    assert not load_plan(without).retires
    assert load_plan(without).digest != found.digest


@pytest.mark.parametrize(
    ("gates", "missing"),
    [("no v1 requests for 1d", "approved by a person"), ("approved by a person", "no v1 requests for 1d")],
)
def test_it_wants_silence_and_an_approval(plan: Path, gates: str, missing: str) -> None:
    plan.write_text(PLAN.replace("GATES", gates))
    with pytest.raises(PlanError) as told:
        load_plan(plan)
    (problem,) = told.value.problems
    assert problem.message == f"no rollback undoes it, so this phase wants the gate `{missing}` too"


def test_the_plan_that_brings_v1_back_is_the_same_the_other_way_round(plan: Path) -> None:
    before = load_plan(plan)
    written = write_resurrection(plan, None)
    after = load_plan(written.path)
    assert (after.name, written.path) == ("trips-resurrected", plan.with_name("trips-resurrected.yaml"))
    assert (after.api.v1, after.api.v2, after.api.entry) == (before.api.v2, before.api.v1, before.api.entry)
    assert [phase.target for phase in after.phases] == [phase.target for phase in before.phases]
    assert (after.retires, after.deprecation) == (False, None)
    assert after.assignment.salt != before.assignment.salt


def test_it_replaces_no_file_and_goes_nowhere_else(plan: Path, tmp_path: Path) -> None:
    write_resurrection(plan, None)
    with pytest.raises(UsageError, match="there already"):
        write_resurrection(plan, None)
    with pytest.raises(UsageError, match="not beside"):
        write_resurrection(plan, tmp_path / "elsewhere" / "plan.yaml")


def test_a_plan_may_want_v1_archived_first(plan: Path) -> None:
    plan.write_text(plan.read_text().replace("then: retire v1", "then: Archive and retire V1"))
    found = load_plan(plan)
    assert (found.retires, [phase.archives for phase in found.phases]) == (True, [False, True])


def test_nobody_is_exempt_from_a_v1_that_comes_back(plan: Path) -> None:
    text = plan.read_text().replace("approved by 2 people", "approved by 2 people, No exempted client left")
    only = text.replace("soak: 1w}", "soak: 1w, promote when: [no exempted client left]}")
    plan.write_text(only.replace("assignment: {", "assignment: {client: header X-Client-Id, "))
    assert [gate.text for gate in load_plan(plan).phases[0].own_gates] == ["no exempted client left"]
    written = load_plan(write_resurrection(plan, None).path)
    assert [len(phase.own_gates) for phase in written.phases] == [0, 2]

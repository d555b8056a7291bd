"""Backtests: what a recording makes of a plan, and what a damaged one may not do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from tests.simulation.test_controller_faults import PLAN, World, _gross, begun, lived
from tests.simulation.test_replay import eventful_life, report_of

from crossfade.app.export import recording_lines
from crossfade.app.simulate.backtest import as_data, as_text
from crossfade.core.plan import Gate, GateKind, Plan
from crossfade.core.rehearsal.report import Criterion, Part, PartName, Report
from crossfade.core.split import Split, Version
from crossfade.core.verdict import Verdict
from crossfade.errors import UsageError
from crossfade.simulation.backtest import Backtested, Came, backtest, same_split
from crossfade.simulation.recording import read_recording


async def recorded(world: World) -> list[bytes]:
    return [line async for line in recording_lines(world.store, "trips", None)]


def judged(lines: list[bytes], plan: Plan = PLAN) -> Backtested:
    header, ticks = read_recording("r.jsonl", lines)
    result = backtest(plan, header, ticks)
    assert as_text(header, result)
    assert as_data(plan, header, result)
    return result


async def short_life() -> list[bytes]:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 6, 0.05)
    await controller.promote("ada", "because I say so")
    await lived(world, controller, 6, 0.5)
    return await recorded(world)


async def test_an_eventful_life_over_its_own_plan_comes_to_the_same() -> None:
    world = World()
    await eventful_life(world)
    result = judged(await recorded(world))
    assert result.rollbacks == [r for r in result.recorded_rollbacks if r.trigger == "failure_rate"]
    assert [(r.phase, r.attempt) for r in result.rollbacks] == [("half", 1), ("canary", 2)]
    assert [(s.name, s.attempt, s.came) for s in result.phases] == [
        ("canary", 1, Came.STARTED),
        ("half", 1, Came.DECIDED),
        ("canary", 2, Came.RETRIED),
        ("canary", 3, Came.RETRIED),
        ("canary", 4, Came.RETRIED),
        ("half", 4, Came.FOLLOWED),
    ]
    assert [s.entered for s in result.phases] == [s.at for s in result.recorded_phases]
    assert sum(s.blind_s for s in result.phases) == 0


async def test_a_gross_breach_between_ticks_is_found_from_its_window() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 3, 0.05)
    world.clock.move(7.0)
    world.telemetry.recent_tick = _gross()
    assert await controller.look_for_gross_breach()
    world.telemetry.recent_tick = None
    await lived(world, controller, 2, 0.0)
    result = judged(await recorded(world))
    assert [(r.at, r.reason) for r in result.rollbacks] == [(r.at, r.reason) for r in result.recorded_rollbacks]


async def test_a_recording_names_no_person_and_no_node() -> None:
    world = World()
    await eventful_life(world)
    text = b"".join(await recorded(world)).decode()
    for word in ("ada", "fixed", "enough", "lunch", "fake"):
        assert f'"{word}"' not in text


async def test_a_rollback_by_hand_is_followed_and_is_not_the_plans() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 3, 0.05)
    await controller.rollback("ada", "")
    await lived(world, controller, 2, 0.0)
    result = judged(await recorded(world))
    assert result.rollbacks == []
    assert [r.trigger for r in result.recorded_rollbacks] == ["person"]
    assert result.phases[-1].went is Came.FOLLOWED


async def test_with_lines_missing_in_the_middle_the_gap_is_blind_and_counted() -> None:
    lines = await short_life()
    result = judged([*lines[:4], *lines[6:]])
    assert (result.ticks, result.holes) == (10, 1)
    assert any(change.outcome == "BLIND" for change in result.changes)


async def test_the_time_of_a_split_that_no_phase_has_is_blind_and_nothing_is_decided_in_it() -> None:
    plan = replace(PLAN, phases=(PLAN.phases[0], replace(PLAN.phases[1], split=Split(everyone=2500))))
    result = judged(await short_life(), plan)
    (stay,) = result.phases
    assert (stay.judged_s, stay.blind_s) == (360.0, 360.0)
    assert stay.blind == "the recording had 50 % where canary wants 5 %"
    assert result.unjudged == [("half", "25 %")]
    assert [change.outcome for change in result.changes] == ["NOT ENOUGH YET", "BLIND"]


def test_splits_are_the_same_where_every_user_gets_the_same_version() -> None:
    assert same_split(Split(everyone=500, cohorts={"beta": 500}), Split(everyone=500))
    assert not same_split(Split(everyone=500, cohorts={"beta": 501}), Split(everyone=500))
    assert not same_split(None, Split())


@pytest.mark.parametrize("rehearsed", [True, False], ids=["rehearsed", "not rehearsed"])
async def test_a_rehearsal_of_the_recording_passes_the_gate_of_a_changed_plan(*, rehearsed: bool) -> None:
    world = World()
    controller = await begun(world)
    if rehearsed:
        criterion = Criterion(name="ada's", outcome=Verdict.PASS, figure="1", limit="1")
        now = world.clock.now()
        parts = tuple(Part(name=name, criteria=(criterion,), ended=now) for name in PartName)
        report = Report(plan=PLAN.name, digest="", began=now, ended=now, parts=parts)
        await controller.rehearse("ada", "week 1", report)
    await lived(world, controller, 70, 0.05, n=7000)
    lines = await recorded(world)
    gate = Gate(kind=GateKind.REHEARSAL_PASSED, text="rehearsal passed")
    first, *others = PLAN.phases
    gated = replace(first, gates=(gate, *first.gates), own_gates=(gate, *first.own_gates))
    result = judged(lines, replace(PLAN, phases=(gated, *others), rehearsal_digest="changed"))
    assert judged(lines).phases[1].came is Came.DECIDED
    assert result.phases[1].came is (Came.DECIDED if rehearsed else Came.FOLLOWED)
    assert b"all 5 criteria" not in b"".join(lines)


@pytest.mark.parametrize("passes", [True, False], ids=["passed", "failed"])
async def test_a_drill_of_the_recording_is_no_blindness_and_changes_no_decision(*, passes: bool) -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 70, 0.05, n=7000)  # so V1 was seen to answer what everyone asks
    await lived(world, controller, 5, 0.5)
    await controller.drill("ada", "")
    for _ in range(4):
        world.tick(world.share / 10_000)
        world.telemetry.given = {Version.V1: world.clock.now() - 0.5} if passes else {}
        await controller.tick()
    await lived(world, controller, 60, world.share / 10_000)
    result = judged(await recorded(world))
    kept = [(look.outcome, look.look.at) for look in await world.store.looks("trips")]
    changes = [look for n, look in enumerate(kept) if n == 0 or look[0] != kept[n - 1][0]]
    assert [(change.outcome, change.at) for change in result.changes] == changes
    assert "DRILL" in {outcome for outcome, _ in changes}
    assert sum(stay.blind_s for stay in result.phases) == 0
    assert [r.trigger for r in result.recorded_rollbacks] == ([] if passes else ["drill"])
    assert result.phases[-1].name == ("full" if passes else "half")
    assert (await report_of(world.store)).sentence == f"{len(kept)} decisions recomputed, all the same"


# ── damage ──────────────────────────────────────────────────────────────────────────────────────────────────


def _in_line(number: int, change: Callable[[dict[str, Any]], object]) -> Callable[[list[bytes]], list[bytes]]:
    def changed(lines: list[bytes]) -> list[bytes]:
        held = orjson.loads(lines[number - 1])
        change(held)
        return [*lines[: number - 1], orjson.dumps(held) + b"\n", *lines[number:]]

    return changed


DAMAGE: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str]] = {
    "empty": (lambda _: [], r"r.jsonl:1: this is not the header"),
    "no json": (lambda _: [b"hello\n"], r"r.jsonl:1: this is not the header"),
    "a plan": (lambda _: [b"crossfade: 1\n", b"rollout: x\n"], r"r.jsonl:1: this is not the header"),
    "binary": (lambda _: [b"\x00\xff" * 50], r"r.jsonl:1: this is not the header"),
    "later format": (_in_line(1, lambda h: h.update(format=2)), r":1: the recording has format 2"),
    "no history": (_in_line(1, lambda h: h.update(history=[])), r":1: the history does not begin"),
    "impossible history": (_in_line(1, lambda h: h["history"].pop(0)), r":1: the history does not begin"),
    "unknown event": (_in_line(1, lambda h: h["history"][1].update(kind="Flew")), r":1: the history has a Flew"),
    "odd header": (_in_line(1, lambda h: h.update(history=7)), r":1: the header is damaged"),
    "odd split": (_in_line(1, lambda h: h["history"][1]["data"].update(everyone=-1)), r":1: no split has"),
    "cut in a line": (lambda lines: [*lines[:5], lines[5][:40]], r":6: .*; the file seems to be cut off"),
    "cut after a line": (lambda lines: lines[:5], r":5: the recording ends with tick .* it was cut off"),
    "header only": (lambda lines: lines[:1], r":1: the recording ends with no tick at all"),
    "twice": (lambda lines: [*lines[:5], *lines[4:]], r":6: tick \d+ comes after tick \d+"),
    "swapped": (lambda lines: [*lines[:4], lines[5], lines[4], *lines[6:]], r":6: tick \d+ comes after"),
    "not a tick": (lambda lines: [*lines[:3], b"{}\n", *lines[3:]], r":4: not a tick"),
    "no place": (_in_line(4, lambda t: t.pop("looked")), r":4: not a recorded tick"),
    "negative": (_in_line(4, lambda t: t["cells"][0][4].update(requests=-1)), r":4: requests are whole numbers"),
    "text": (_in_line(4, lambda t: t["cells"][0][4].update(requests="many")), r":4: requests are whole numbers"),
    "too many failures": (_in_line(4, lambda t: t["cells"][1][4].update(failures=10**6)), r":4: of 300 requests"),
    "elsewhere": (_in_line(4, lambda t: t.update(start=0)), r":4: tick \d+ of 60 s can't start at 0"),
    "in another age": (_in_line(4, lambda t: t.update(looked=[1e15, 1e15])), r":4: 1e\+15 is not a time"),
    "no length": (_in_line(4, lambda t: t.update(length=0)), r":4: a length is above 0"),
    "odd bin": (_in_line(4, lambda t: t["cells"][0][4].update(latency=[999, 1])), r":4: .* has no bin 999"),
}


@pytest.mark.parametrize("what", DAMAGE)
async def test_a_damaged_recording_is_one_error_with_its_line(what: str) -> None:
    damage, message = DAMAGE[what]
    with pytest.raises(UsageError, match=message):
        judged(damage(await short_life()))


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_done_to_a_recording_ends_in_a_result_or_one_error(seed: int) -> None:
    whole, rng, refused = b"".join(await short_life()), np.random.default_rng(seed), 0
    parts = [b"", b"0", b"9", b'"', b"}", b"-", b"null", b"e9", b"\xff\x00"]
    for _ in range(150):
        at, length = rng.integers(len(whole)), rng.choice([1, 1, 1, 5, 300])
        part = parts[rng.integers(len(parts))]
        try:
            judged((whole[:at] + part + whole[at + length :]).splitlines(keepends=True))
        except UsageError:
            refused += 1
    assert refused > 50

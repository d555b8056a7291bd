"""Replay: every decision of a real controller is made again to the same result, and what was changed is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.simulation.test_controller_faults import PLAN, Crash, World, _gross, begun, lived

from crossfade.app.replay import Report, replayed
from crossfade.core.evidence.sums import Arm, Cell
from crossfade.core.look import KeptLook, KeptTick
from crossfade.core.machine import State
from crossfade.core.split import Version
from crossfade.errors import CrossfadeError, StoreError, UnreachableError, UsageError
from crossfade.ports import Store
from crossfade.testing.proxy import FakeRollback


async def report_of(store: Store) -> Report:
    report = Report()
    async for found in replayed(store, PLAN, "trips"):
        report.add(found)
    return report


async def looks_of(store: Store) -> list[KeptLook]:
    return list(await store.looks("trips", limit=100_000))


async def eventful_life(world: World) -> None:
    """Live through promotions, a pause, blindness, rollbacks of every kind, retries, restarts and a store's outage."""
    controller = await begun(world)
    await lived(world, controller, 70, 0.05)
    assert controller.rollout.phase == 1
    await controller.pause("ada", "lunch")
    await lived(world, controller, 3, 0.5)
    await controller.resume("ada", "")
    await lived(world, controller, 5, 0.5, sources=())
    assert controller.rollout.held_kind == "BLIND"
    await lived(world, controller, 10, 0.5)
    controller = world.controller()
    await controller.start()
    world.clock.move(5.0)
    await controller.tick()  # nothing has closed since the start
    await lived(world, controller, 10, 0.5)
    world.proxy.faults.unreachable = True
    await lived(world, controller, 2, 0.5)
    world.proxy.faults.unreachable = False
    await lived(world, controller, 2, 0.5)
    await lived(world, controller, 3, 0.5, failures=2500)
    assert controller.rollout.state is State.ROLLED_BACK
    await lived(world, controller, 2, 0.0)
    await controller.retry("canary", "ada", "fixed")
    controller = world.controller()
    await controller.start()
    await lived(world, controller, 5, 0.05)
    world.store.fail_next(1000, UnreachableError("down"))
    for _ in range(3):
        world.tick(0.05)
        with pytest.raises(CrossfadeError):
            await controller.tick()
    world.store.heal()
    await lived(world, controller, 2, 0.05)
    world.telemetry.recent_tick = _gross()
    assert await controller.look_for_gross_breach()
    world.telemetry.recent_tick = None
    await lived(world, controller, 2, 0.0)
    await controller.retry(None, "ada", "")
    await lived(world, controller, 5, 0.05)
    await FakeRollback(world.proxy).rollback()
    await lived(world, controller, 2, 0.0)
    await controller.retry(None, "ada", "")
    await controller.promote("ada", "")
    await lived(world, controller, 2, 0.5)
    await controller.abort("ada", "enough")


async def test_every_decision_of_an_eventful_life_is_made_again_to_the_same_result() -> None:
    world = World()
    await eventful_life(world)
    report = await report_of(world.store)
    looks = await looks_of(world.store)
    assert (report.different, report.blind) == ([], [])
    assert report.same == len(looks) > 120
    outcomes = {look.outcome for look in looks}
    assert outcomes >= {"ROLL BACK", "BLIND", "PAUSED", "PROMOTE", "NOT ENOUGH YET", "HOLD", "NOTHING TO DO"}
    assert any(look.look.window for look in looks)
    assert any(look.look.unkept for look in looks)


async def test_every_tick_has_a_look_that_saw_it() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 20, 0.05)
    ticks = [kept.tick.number for kept in await world.store.ticks("trips")]
    assert [look.look.tick for look in await looks_of(world.store)] == ticks
    assert [kept.previous for kept in await world.store.ticks("trips")] == [None, *ticks[:-1]]


async def test_looks_at_nothing_new_are_not_kept() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 1, 0.05)
    before = len(await looks_of(world.store))
    for _ in range(20):
        world.clock.move(1.0)
        await controller.tick()
    assert len(await looks_of(world.store)) == before


CALLS = [("store", "append"), ("store", "save_ticks"), ("store", "save_look"), ("proxy", "apply"), ("proxy", "observe")]


@pytest.mark.parametrize(("part", "name"), CALLS, ids=[f"{part}.{name}" for part, name in CALLS])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("nth", range(14))
async def test_killed_between_any_two_steps_nothing_comes_out_differently(
    part: str, name: str, nth: int, *, after: bool
) -> None:
    """What the killed process could not keep any more is BLIND at most, and what comes later is seen again."""
    world = World()
    thing = getattr(world, part)
    original, seen = getattr(thing, name), 0

    async def deadly(*arguments: Any, **more: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == nth + 1 and not after:
            raise Crash
        result = await original(*arguments, **more)
        if seen == nth + 1:
            raise Crash
        return result

    setattr(thing, name, deadly)
    try:
        controller = await begun(world)
        await lived(world, controller, 2, 0.05)
        await controller.promote("ada", "")
        await lived(world, controller, 4, 0.5, failures=2500)
        await controller.retry(None, "ada", "")
        await lived(world, controller, 2, 0.5)
    except (Crash, CrossfadeError):
        pass
    setattr(thing, name, original)
    survivor = await begun(world)
    await lived(world, survivor, 3, world.share / 10_000)
    report = await report_of(world.store)
    assert report.different == []
    assert report.recomputed >= 3
    assert [run.reason for run in report.blind] in ([], ["RolledBack: the look that decided it is not kept"])


async def test_ticks_that_a_killed_process_never_kept_are_no_gap() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 5, 0.05)
    world.store.fail_next(1000, UnreachableError("down"))
    world.tick(0.05)
    with pytest.raises(CrossfadeError):
        await controller.tick()
    world.store.heal()
    survivor = await begun(world)
    await lived(world, survivor, 5, 0.05)
    report = await report_of(world.store)
    assert (report.different, report.blind) == ([], [])


async def test_a_plan_that_is_not_the_rollouts_is_one_error() -> None:
    world = World()
    await begun(world)
    with pytest.raises(UsageError, match="not the plan that rollout trips was started from"):
        async for _ in replayed(world.store, replace(PLAN, digest="two"), "trips"):
            pass


# ── what was changed is found ───────────────────────────────────────────────────────────────────────────────


def _change(world: World, index: int, change: Callable[[KeptLook], KeptLook]) -> None:
    looks = world.store._looks["trips"]
    looks[index] = change(looks[index])


def _look(**fields: Any) -> Callable[[KeptLook], KeptLook]:
    return lambda kept: replace(kept, look=replace(kept.look, **fields))


def _record(**fields: Any) -> Callable[[KeptLook], KeptLook]:
    return lambda kept: replace(kept, record={**(kept.record or {}), **fields})


CHANGES: dict[str, Callable[[KeptLook], KeptLook]] = {
    "outcome": lambda kept: replace(kept, outcome="PROMOTE"),
    "digest": lambda kept: replace(kept, digest=b"12345678"),
    "time": lambda kept: replace(kept, look=replace(kept.look, at=kept.look.at + 600)),
    "what had arrived": lambda kept: replace(kept, look=replace(kept.look, due=kept.look.due + 600)),
    "store": _look(unkept="the disk is full"),
    "sentence": _record(sentence="PROMOTE: all is well"),
    "commands": _record(commands=["Promote"]),
    "gates": _record(gates=[]),
    "readings": _record(seen={}),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_a_changed_decision_is_found(what: str) -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 12, 0.05)
    index = next(i for i, look in enumerate(await looks_of(world.store)) if i > 5 or look.record)
    _change(world, index, CHANGES[what])
    report = await report_of(world.store)
    assert [len(report.different), report.same] == [1, 11]
    assert report.different[0].recomputed.startswith(("NOT ENOUGH YET: ", "BLIND: "))
    assert report.sentence == "12 decisions recomputed, 1 different"


async def test_a_changed_tick_is_found_at_once_and_for_good() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 12, 0.05)
    ticks = world.store._ticks["trips"]
    number = sorted(ticks)[6]
    arm = Arm(Version.V2, "", "")
    cells = {**ticks[number].tick.cells, arm: Cell(requests=300, failures=2, failing_users={1, 2})}
    ticks[number] = replace(ticks[number], tick=replace(ticks[number].tick, cells=cells))
    report = await report_of(world.store)
    assert (report.same, len(report.different), report.blind) == (6, 6, [])


@pytest.mark.parametrize("which", [0, 5, 11], ids=["first", "middle", "last"])
async def test_after_a_missing_tick_nobody_can_say_until_the_evidence_begins_anew(which: int) -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 12, 0.05)
    await controller.rollback("ada", "")
    await controller.retry(None, "ada", "")
    await lived(world, controller, 4, 0.05)
    ticks = world.store._ticks["trips"]
    lost = sorted(ticks)[which]
    del ticks[lost]
    report = await report_of(world.store)
    assert (report.same, report.different) == (which + 4, [])
    assert sum(run.count for run in report.blind) == 12 - which
    assert report.sentence == f"{which + 4} decisions recomputed, all the same; BLIND for {12 - which}, " + (
        "whose inputs were not kept"
    )


async def test_ticks_of_an_older_version_are_blind_and_say_so() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 3, 0.05)
    ticks: dict[int, KeptTick] = world.store._ticks["trips"]
    for number, kept in ticks.items():
        ticks[number] = replace(kept, revision=None)
    report = await report_of(world.store)
    assert (report.recomputed, report.sentence) == (
        0,
        "BLIND: no decision could be recomputed; of 3, whose inputs were not kept",
    )
    assert "older version" in report.blind[0].reason


async def test_a_rollback_whose_look_is_gone_is_blind() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 3, 0.05)
    world.telemetry.recent_tick = _gross()
    await controller.look_for_gross_breach()  # and the process ends here
    report = await report_of(world.store)
    assert (report.same, report.different) == (3, [])
    assert [(run.count, run.reason) for run in report.blind] == [
        (1, "RolledBack: the look that decided it is not kept")
    ]


async def test_a_history_that_cant_be_is_one_error() -> None:
    world = World()
    await begun(world)
    events = world.store._events["trips"]
    events[1] = replace(events[1], kind="Retried", data={"phase": 0, "name": "canary", "by": "", "reason": ""})
    with pytest.raises(StoreError, match="event 2 can't have happened: cannot retry"):
        await report_of(world.store)
    events[1] = replace(events[1], kind="Teleported")
    with pytest.raises(StoreError, match="Teleported, which this version does not know"):
        await report_of(world.store)

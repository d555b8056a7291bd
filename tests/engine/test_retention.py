"""What is let go of, and what a replay of the present attempt still needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from crossfade.core.look import KeptTick
from crossfade.core.plan import DAY
from crossfade.core.rollout import Rollout
from crossfade.engine.retention import let_go
from crossfade.errors import ConflictError
from crossfade.ports import StoredEvent
from crossfade.testing.clock import ManualClock
from crossfade.testing.conformance.store import some_lease, some_look, some_tick
from crossfade.testing.store import MemoryStore

NOW = 100 * DAY


async def kept(beginnings: dict[float, str]) -> MemoryStore:
    """Return a store with a tick and a look a day, and events at the days given."""
    store = MemoryStore()
    await store.open()
    events = [
        StoredEvent(rollout="r", revision=n, at=day * DAY, kind=kind, data={})
        for n, (day, kind) in enumerate(beginnings.items(), start=1)
    ]
    await store.append("r", 0, events)
    for day in range(100):
        at = day * DAY
        tick = some_tick(int(at // 10))
        await store.save_ticks("r", [KeptTick(tick=tick, revision=1, previous=None)], b"")
        await store.save_look("r", some_look(at, {"n": day}))
    return store


async def first_day(store: MemoryStore) -> tuple[float, float, int]:
    """Return the days of the first tick and look that are left, and how many events are."""
    ticks, looks = await store.ticks("r", limit=1), await store.looks("r", limit=1)
    return ticks[0].tick.start / DAY, looks[0].look.at / DAY, len(await store.events("r"))


async def pruned(
    store: MemoryStore, rollout: Rollout | Callable[[], Rollout], keep_days: float, generation: int = 0
) -> int:
    clock, present = ManualClock(NOW), rollout if callable(rollout) else lambda: rollout
    going = asyncio.create_task(let_go(store, present, keep_days * DAY, clock, lambda: generation, feedback_s=90 * DAY))
    while not going.done():
        await clock.advance(1.0)
    return going.result()


@pytest.mark.parametrize(
    ("beginnings", "ended", "keep_days", "left"),
    [
        ({0.0: "RolloutStarted", 50.0: "PhasePromoted"}, None, 30, 0),
        ({0.0: "RolloutStarted", 50.0: "Retried", 60.0: "PhasePromoted"}, None, 30, 50),
        ({0.0: "RolloutStarted", 50.0: "Retried", 90.0: "Retried"}, None, 30, 70),
        ({0.0: "RolloutStarted", 95.0: "Aborted"}, 95.0, 30, 70),
        ({0.0: "RolloutStarted"}, None, 200, 0),
    ],
    ids=["one-attempt", "second-attempt", "not-yet-old", "ended", "young"],
)
async def test_the_present_attempt_and_what_is_young_stay(
    beginnings: dict[float, str], ended: float | None, keep_days: float, left: int
) -> None:
    store = await kept(beginnings)
    rollout = Rollout(name="r", ended_at=None if ended is None else ended * DAY)
    gone = await pruned(store, rollout, keep_days)
    assert await first_day(store) == (left, left, len(beginnings))
    assert (gone > 0) == (left > 0)


async def test_who_lost_the_lease_lets_go_of_nothing() -> None:
    store = await kept({0.0: "RolloutStarted", 50.0: "Retried"})
    await store.acquire(some_lease("b"), None)
    with pytest.raises(ConflictError):
        await pruned(store, Rollout(name="r"), 1.0)
    assert (await first_day(store))[:2] == (0, 0)


@pytest.mark.parametrize(
    ("ended", "left"), [(None, ["2@800"]), (50.0, ["2@800"]), (9.0, [])], ids=["goes-on", "ended", "ended-long-ago"]
)
async def test_who_was_asked_is_kept_for_the_present_phase_alone(ended: float | None, left: list[str]) -> None:
    """Nobody is asked by the rows of a phase that is over, and a rollout that ended long ago asks nobody."""
    store = await kept({0.0: "RolloutStarted"})
    for phase in ("0@5", "1@300", "2@800"):
        for user in range(3):
            await store.ask_once("r", phase, user)
    await store.ask_once("s", "0@5", 1)
    rollout = Rollout(name="r", phase=2, phase_since=800.2, ended_at=None if ended is None else ended * DAY)
    await pruned(store, rollout, 200)
    assert await store.asked_in("r") == left
    assert await store.asked_in("s") == ["0@5"]


async def test_a_phase_that_begins_meanwhile_keeps_whom_it_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    store = await kept({0.0: "RolloutStarted"})
    rollout = Rollout(name="r", phase=1, phase_since=300.0)
    await store.ask_once("r", "1@300", 1)

    def present() -> Rollout:
        return rollout

    async def promoted(of: str) -> Sequence[str]:
        nonlocal rollout
        rollout = Rollout(name="r", phase=2, phase_since=800.0)
        await store.ask_once(of, "2@800", 1)
        return await MemoryStore.asked_in(store, of)

    monkeypatch.setattr(store, "asked_in", promoted)
    await pruned(store, present, 200)
    assert await MemoryStore.asked_in(store, "r") == ["2@800"]

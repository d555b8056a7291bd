"""What is let go of, and what a replay of the present attempt still needs."""

from __future__ import annotations

import asyncio

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


async def pruned(store: MemoryStore, rollout: Rollout, keep_days: float, generation: int = 0) -> int:
    clock = ManualClock(NOW)
    going = asyncio.create_task(let_go(store, rollout, keep_days * DAY, clock, lambda: generation, feedback_s=90 * DAY))
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

"""Letting go of what nobody needs any more: old ticks, looks, records, feedback, and who was asked for it.

Events are kept for good.

The evidence of an attempt is one sum from its beginning on, so that a replay of its last decision needs all of it.
What is let go of is what came before the present attempt, and a rollout that has ended.
"""

from __future__ import annotations

from collections.abc import Callable

from crossfade.core.events import Retried, RolloutStarted
from crossfade.core.feedback import asking_in
from crossfade.core.rollout import Rollout
from crossfade.ports import Clock, Store

PAUSE_S = 0.1
"""Between deletions, so that others can write; real seconds."""

_BEGINNINGS = (RolloutStarted.__name__, Retried.__name__)


async def let_go(
    store: Store,
    rollout: Callable[[], Rollout],
    keep_s: float,
    clock: Clock,
    generation: Callable[[], int],
    *,
    feedback_s: float,
) -> int:
    """Delete what is older than `keep_s` plan seconds and not needed, feedback older than `feedback_s`, and who was
    asked in phases that are over.

    `rollout` returns it as it is now. Returns how much went.

    Raises what `Store.prune` raises; what was deleted by then stays so.
    """
    now = rollout()
    name, before = now.name, clock.now() - keep_s
    if now.ended_at is None:
        begun = [event.at for event in await store.events(name) if event.kind in _BEGINNINGS]
        before = min(before, max(begun, default=before))
    gone = await store.forget_feedback(name, before=clock.now() - feedback_s, generation=generation())
    asked = await store.asked_in(name)  # before the look at the present phase: what is not that one then is over
    present = asking_in(rollout(), feedback_s, clock.now())
    for phase in asked:
        while phase != present and (count := await store.forget_asked(name, phase, generation=generation())):
            gone += count
            await clock.sleep(PAUSE_S)
    while count := await store.prune(name, before, generation=generation()):
        gone += count
        await clock.sleep(PAUSE_S)
    return gone

"""`crossfade export ticks`: a rollout's ticks, and what happened to it, as a recording."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from crossfade.app.kept import History, find_kept, opened
from crossfade.core import events as e
from crossfade.core.look import KeptLook
from crossfade.errors import StoreError, UsageError
from crossfade.ports import Store
from crossfade.simulation.recording import (
    Header,
    RecordedTick,
    Window,
    header_line,
    recorded_history,
    tick_line,
    told,
)

_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What the command was given."""

    rollout: str | None
    state: Path
    database: str
    from_phase: str | None
    output: Path | None


def run_export(options: ExportOptions) -> None:
    """Write the recording to a file or to standard output; memory holds a page of it."""
    kept = find_kept(options.state, options.rollout, options.database)

    async def run() -> None:
        async with opened(kept) as store:
            lines = recording_lines(store, kept.rollout, options.from_phase)
            first = await anext(lines)  # what can't be exported leaves no file behind
            with ExitStack() as stack:
                out = _open(options.output, stack)
                out.write(first)
                async for line in lines:
                    out.write(line)

    asyncio.run(run())


def _open(path: Path | None, stack: ExitStack) -> BinaryIO:
    if path is None:
        return sys.stdout.buffer
    try:
        return stack.enter_context(path.open("wb"))
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror or error}") from None


async def recording_lines(store: Store, rollout: str, from_phase: str | None) -> AsyncIterator[bytes]:
    """Yield a recording's lines, as the store is now; what a controller writes meanwhile is left out.

    Raises UsageError where there are no ticks, or the phase was never entered.
    """
    history = History(store, rollout)
    events = await history.more()
    kept = await store.evidence(rollout)
    first = await store.ticks(rollout, limit=1)
    if history.started is None:
        raise StoreError(f"the history of {rollout} does not begin with its start; restore it from a backup")
    if kept is None or not first:
        raise UsageError(f"no tick of {rollout} has been kept yet")
    since = None if from_phase is None else _entered(from_phase, events)
    looks = _Looks(store, rollout)
    length = first[0].tick.length
    yield header_line(
        Header(
            rollout=rollout,
            plan=history.started.digest,
            tick_s=length,
            lateness_s=await looks.lateness_s(),
            last_tick=kept[0],
            from_phase=from_phase,
            history=told(recorded_history(events)),
        )
    )
    after = None if since is None else int(since // length) - 1  # ticks are numbered by their start
    while page := await store.ticks(rollout, after=after, limit=_PAGE):
        for tick in page:
            if tick.tick.number > kept[0]:
                return
            looked, windows = await looks.at(tick.tick.number)
            yield tick_line(RecordedTick(kept=tick, looked=looked, windows=windows))
        after = page[-1].tick.number


class _Looks:
    """A rollout's looks, read along with its ticks."""

    def __init__(self, store: Store, rollout: str) -> None:
        self._store, self._rollout = store, rollout
        self._page: list[KeptLook] = []
        self._read = 0

    async def lateness_s(self) -> float:
        """Return how long after a tick's end the first look was made on it, plan seconds; 0 where none was kept."""
        first = await self._store.looks(self._rollout, limit=1)
        return first[0].look.at - first[0].look.due if first else 0.0

    async def at(self, number: int) -> tuple[tuple[float, float] | None, tuple[Window, ...]]:
        """Return the first look at a tick, and the windows seen before the next one; numbers only rise."""
        mine = [look.look async for look in self._until(number) if look.look.tick == number]
        looked = next(((look.at, look.due) for look in mine if look.window is None), None)
        windows = tuple(Window(at=look.at, tick=look.window) for look in mine if look.window is not None)
        return looked, windows

    async def _until(self, number: int) -> AsyncIterator[KeptLook]:
        while True:
            if not self._page:
                self._page = list(await self._store.looks(self._rollout, after=self._read, limit=_PAGE))[::-1]
                if not self._page:
                    return
                self._read = self._page[0].number
            tick = self._page[-1].look.tick
            if tick is not None and tick > number:
                return
            yield self._page.pop()


def _entered(phase: str, events: list[e.Event]) -> float:
    entered = [
        (event.phase if isinstance(event, e.RolloutStarted) else event.name, event.at)
        for event in events
        if isinstance(event, (e.RolloutStarted, e.PhasePromoted, e.Retried))
    ]
    for name, at in entered:
        if name == phase:
            return at
    names = ", ".join(dict.fromkeys(name for name, _ in entered if name))
    raise UsageError(f"phase {phase!r} was never entered; entered were {names}")

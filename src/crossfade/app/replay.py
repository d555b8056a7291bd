"""`crossfade replay`: decide again at every look that was kept, and tell where the result is another one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crossfade.app.commands import say
from crossfade.app.kept import History, find_kept, must_be_its_plan, opened
from crossfade.app.progress import Progress
from crossfade.core.look import KeptTick
from crossfade.core.plan import Plan
from crossfade.core.replay import Compared, Finding, Replay
from crossfade.core.words import moment
from crossfade.errors import CrossfadeError, StoreError
from crossfade.ports import Store

_PAGE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """What the command was given."""

    rollout: str | None
    state: Path
    database: str
    plan: Path | None


@dataclass(slots=True)
class Unseen:
    """Decisions in a row that can't be made again, for one reason."""

    first: float
    last: float
    reason: str
    count: int = 1


@dataclass(slots=True)
class Report:
    """What a replay comes to."""

    same: int = 0
    different: list[Compared] = field(default_factory=list)
    blind: list[Unseen] = field(default_factory=list)

    @property
    def recomputed(self) -> int:
        """Return how many decisions were made again."""
        return self.same + len(self.different)

    @property
    def sentence(self) -> str:
        """Return the summary as one line."""
        unseen = sum(run.count for run in self.blind)
        blind = f"; BLIND for {unseen:,}, whose inputs were not kept" if unseen else ""
        if not self.recomputed:
            return f"BLIND: no decision could be recomputed{blind.replace('BLIND for ', 'of ')}"
        agree = f"{len(self.different):,} different" if self.different else "all the same"
        return f"{self.recomputed:,} decisions recomputed, {agree}{blind}"

    def add(self, found: Compared) -> None:
        """Count one finding."""
        match found.finding:
            case Finding.SAME:
                self.same += 1
            case Finding.DIFFERENT:
                self.different.append(found)
            case Finding.BLIND:
                reason = f"{found.kept}: {found.recomputed}" if found.kept else found.recomputed
                if self.blind and self.blind[-1].reason == reason:
                    self.blind[-1].last, self.blind[-1].count = found.at, self.blind[-1].count + 1
                else:
                    self.blind.append(Unseen(found.at, found.at, reason))


def run_replay(options: ReplayOptions, output: str) -> None:
    """Print what a replay comes to; CrossfadeError where a decision differs, or none could be made again."""
    kept = find_kept(options.state, options.rollout, options.database)
    plan = kept.plan(options.plan)

    async def run() -> Report:
        report = Report()
        async with opened(kept) as store:
            with Progress("decisions") as progress:
                async for found in replayed(store, plan, kept.rollout):
                    report.add(found)
                    progress.step()
        return report

    report = asyncio.run(run())
    say(output, _as_data(kept.rollout, plan, report), "\n".join(_as_lines(report)))
    if report.different:
        raise CrossfadeError(f"{len(report.different):,} decisions come out differently than they were kept")
    if not report.recomputed:
        raise CrossfadeError("nothing could be recomputed, so nothing is known")


async def replayed(store: Store, plan: Plan, rollout: str) -> AsyncIterator[Compared]:
    """Yield each look that was kept, decided again, in their order; memory holds a page of them.

    Raises UsageError where the plan is not the rollout's, StoreError where the history can't be read. It may run while
    a controller writes: what is written meanwhile is read, too.
    """
    history, fold = History(store, rollout), Replay(plan)
    fold.extend(await history.more())
    if history.started is None:
        raise StoreError(f"the history of {rollout} does not begin with its start; restore it from a backup")
    must_be_its_plan(plan, history.started)
    ticks: deque[KeptTick] = deque()
    read: int | None = None
    number = 0
    while True:
        told = history.length  # an event is told after the look that asked for it
        looks = await store.looks(rollout, after=number, limit=_PAGE)
        if not looks:
            break
        fold.extend(await history.more())
        for look in looks:
            number, last = look.number, look.look.tick
            while last is not None and (read is None or read < last):
                page = await store.ticks(rollout, after=read, limit=_PAGE)
                if not page:
                    break
                ticks += page
                read = page[-1].tick.number
            while last is not None and ticks and ticks[0].tick.number <= last:
                fold.absorb(ticks.popleft())
            yield fold.compare(look)
            for act in fold.unexplained():
                yield act
    fold.finish(told)
    for act in fold.unexplained():
        yield act


def _as_lines(report: Report) -> Iterator[str]:
    for found in report.different:
        yield f"{moment(found.at)} different: kept {found.kept}; recomputed {found.recomputed}"
    for run in report.blind:
        until = f" to {moment(run.last)}" if run.count > 1 else ""
        yield f"{moment(run.first)}{until} BLIND for {run.count:,}: {run.reason}"
    yield report.sentence


def _as_data(rollout: str, plan: Plan, report: Report) -> dict[str, Any]:
    return {
        "rollout": rollout,
        "plan": plan.digest,
        "recomputed": report.recomputed,
        "same": report.same,
        "different": [{"at": f.at, "kept": f.kept, "recomputed": f.recomputed} for f in report.different],
        "blind": [{"from": r.first, "to": r.last, "count": r.count, "reason": r.reason} for r in report.blind],
        "sentence": report.sentence,
    }

"""The fault simulator: it runs seeds, it reproduces bit for bit, and it can fail."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi import Response

from crossfade.app.web.once import Once
from crossfade.core import events as e
from crossfade.core.decide import RollBack
from crossfade.core.plan import AssignmentRule
from crossfade.core.split import Version, assign
from crossfade.engine import drill
from crossfade.engine.apply import apply, wanted_state
from crossfade.engine.controller import Controller
from crossfade.engine.journal import Journal
from crossfade.engine.lease import LeaseKeeper
from crossfade.engine.rollback import RollbackReport
from crossfade.errors import CrossfadeError
from crossfade.ports import Lease, NodeState, ProxyState
from crossfade.testing.proxy import FakeProxy
from crossfade.testing.simulator import Cast, simulate, watch
from crossfade.testing.store import MemoryStore

FIXED = range(10)
FRESH = 10
"""Seeds from the date, so that CI goes on searching."""
WITHIN = 40
"""Seeds within which a rule that is broken on purpose must be seen."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", FIXED)
def test_nothing_is_broken_in_the_fixed_seeds(seed: int) -> None:
    outcome = simulate(seed)
    assert not outcome.rule, str(outcome)


@pytest.mark.slow
def test_nothing_is_broken_in_todays_seeds() -> None:
    first = datetime.now(UTC).date().toordinal() * 1000  # noqa: TID251 - new ones each day, on purpose
    print(f"seeds {first}..{first + FRESH - 1}")  # noqa: T201 - so that a run can be looked at again
    for seed in range(first, first + FRESH):
        outcome = simulate(seed)
        assert not outcome.rule, str(outcome)


def test_a_seed_reproduces_bit_for_bit_in_another_process_too() -> None:
    here = simulate(3)
    code = "from crossfade.testing.simulator import simulate; print(simulate(3).digest)"
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    there = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (here.lines > 500, there.stdout.strip()) == (True, here.digest)


# ── rules that are broken on purpose ────────────────────────────────────────────────────────────────────────


class AppliesBeforeItRecords(Controller):
    """Sets the proxy to the next phase first, and writes down afterwards that it was decided."""

    async def _enter(self, phase: int, reason: str, by: str) -> None:
        event = e.PhasePromoted(at=self._now(), phase=phase, name=self.plan.phases[phase].name, reason=reason, by=by)
        new, _ = self._journal._folded([event])
        await apply(self._parts.proxy, wanted_state(self.plan, new), self._now())
        await super()._enter(phase, reason, by)


class RecordsRollbacksOnly(Controller):
    """Says that everyone is on V1, and leaves the proxy as it is."""

    async def _throw(self, command: RollBack, *, by: str, generation: int = 0) -> RollbackReport:
        generation = max(generation, self.rollout.generation + 1)
        state = ProxyState(generation=generation, killed=True)
        report = RollbackReport(took_s=0.0, nodes=(NodeState(node="fake", reachable=True, state=state),))
        fact = e.RolledBack(
            at=self._now(), reason=command.reason, trigger=command.trigger, took_s=0.0, nodes=report.outcomes(), by=by,
            generation=generation,
        )  # fmt: skip
        await self._journal.record_done(fact)
        return report


class ForgetsRollbacksAtTheProxy(Controller):
    """Takes a switch that somebody threw for a proxy that forgot its split, and says to know of it."""

    async def _found_rolled_back(self) -> bool:
        if self._drift().killed:
            later = replace(self.rollout, generation=self.rollout.generation + 5)
            await self._parts.proxy.apply(replace(wanted_state(self.plan, later), rollback=None))
        return False


class ForgetsWhatWaits(Journal):
    """Drops what the store did not take at once."""

    async def record_done(self, *events: e.Event) -> Any:
        rollout = await super().record_done(*events)
        self._waiting = []
        return rollout


class WritesTwice(Journal):
    """Writes again what was written and whose reply was lost, without looking."""

    async def _read(self) -> None:
        waiting = [e.from_data(event.kind, event.at, event.data) for event in self._waiting]
        self._waiting = []
        await super()._read()
        for event in waiting:
            self.rollout, stored = self._folded([event])
            self._waiting.extend(stored)


class CountsWithoutReading(Journal):
    """Takes over the number of another's events, not what they say."""

    async def _read(self) -> None:
        before = self.rollout
        await super()._read()
        if before.revision:
            self.rollout = replace(before, revision=self.rollout.revision)


def with_journal(kind: type[Journal]) -> type[Controller]:
    """Return a controller that keeps another journal."""

    class Faulty(Controller):
        def __init__(self, plan: Any, parts: Any, *, pace: Any = None, listeners: Sequence[Any] = ()) -> None:
            super().__init__(plan, parts, pace=pace, listeners=listeners)
            self._journal = kind(parts.store, plan.name, listeners, generation=lambda: self._lease_generation)

    return Faulty


class DrawsUsersAnew(FakeProxy):
    """Hashes users with the generation, so that each change of the split draws others."""

    def version_of(self, user: str) -> Version:
        rule: AssignmentRule = self._rule
        salt = rule.salt + self.memory.generation
        cohort, state = rule.cohort_of(user), self.memory
        return assign(user, salt=salt, split=state.split, cohort=cohort, killed=state.killed).version


class NeverFenced(Controller):
    """Goes on when another controller has taken over, whatever its lease."""

    def _must_not_be_fenced(self, **_: bool) -> None:
        self._journal.taken_over = self.fenced = None

    async def _notice_a_later_one(self) -> None:
        return


class HoldsNobody(MemoryStore):
    """Takes writes from whoever had the lease before."""

    def _must_hold(self, rollout: str, generation: int) -> None:
        return


class SaysYes(Controller):
    """Answers before it has done anything."""

    async def pause(self, by: str, reason: str, *, revision: int | None = None) -> Any:
        try:
            return await super().pause(by, reason, revision=revision)
        except CrossfadeError:
            return self.rollout


class PassesDrillsUnseen(Controller):
    """Takes every drill for one that has passed, and leaves everyone where they are."""

    async def _begin_drill(self, reason: str, by: str) -> None:
        now, load = self._now(), self._evidence.watch.load
        began = drill.started(self.plan, self.rollout, load, now=now, by=by, reason=reason)
        passed = e.DrillPassed(
            at=now, phase=began.phase, name=began.name, took_s=0.0, last_v2_s=0.0, within_s=began.within_s,
            lasted_s=1.0, nodes={"fake": "v1"},
        )  # fmt: skip
        await self._journal.record(began, passed)


class RecordsBeforeItSets(Controller):
    """Writes down that the proxy has confirmed the split, and then sets it."""

    async def _assert_wanted(self) -> None:
        wanted = wanted_state(self.plan, self.rollout)
        if self.rollout.applied_generation != wanted.generation:
            cohorts = dict(wanted.split.cohorts)
            await self._journal.record(
                e.SplitApplied(
                    at=self._now(), generation=wanted.generation, everyone=wanted.split.everyone, cohorts=cohorts,
                    killed=wanted.killed,
                )
            )  # fmt: skip
        await super()._assert_wanted()


class LosesTheLease(LeaseKeeper):
    """Never asks for the lease that another one has let run out."""

    def _can_be_had(self, seen: Lease | None, ended: str) -> bool:
        return seen is None


def with_lease(kind: type[LeaseKeeper]) -> type[Controller]:
    """Return a controller that has another lease keeper's ways."""

    class Faulty(Controller):
        def __init__(self, plan: Any, parts: Any, *, pace: Any = None, listeners: Sequence[Any] = ()) -> None:
            parts.lease.__class__ = kind
            super().__init__(plan, parts, pace=pace, listeners=listeners)

    return Faulty


class ForgetsRetirements(FakeProxy):
    """Comes up again with V1 where it was."""

    def crash(self) -> None:
        super().crash()
        self.file = replace(self.file, retired=False)


class GivesUp(Controller):
    """Does not set again what could not be set."""

    async def _mend_drift(self) -> None:
        return


class Trips(Controller):
    """Has a mistake in code that is only reached when the proxy does not answer."""

    async def _mend_drift(self) -> None:
        for node in self.nodes:
            assert node.state is not None
        await super()._mend_drift()


BREAKS: dict[str, tuple[Cast, set[str]]] = {
    "applies before it records": (Cast(controller=AppliesBeforeItRecords), {watch.RISES}),
    "records rollbacks only": (Cast(controller=RecordsRollbacksOnly), {watch.ROLLED_BACK}),
    "forgets rollbacks at the proxy": (
        Cast(controller=ForgetsRollbacksAtTheProxy),
        {watch.RISES, watch.ROLLED_BACK},
    ),
    "forgets what waits": (Cast(controller=with_journal(ForgetsWhatWaits)), {watch.KEPT}),
    "writes twice": (Cast(controller=with_journal(WritesTwice)), {watch.KEPT}),
    "counts without reading": (Cast(controller=with_journal(CountsWithoutReading)), {watch.FOLDS}),
    "draws users anew": (Cast(proxy=DrawsUsersAnew), {watch.STICKY}),
    "is never fenced": (Cast(controller=NeverFenced, store=HoldsNobody), {watch.FENCED}),
    "never takes the lease over": (Cast(controller=with_lease(LosesTheLease)), {watch.LIVES}),
    "passes drills unseen": (Cast(controller=PassesDrillsUnseen), {watch.DRILLED}),
    "records before it sets": (Cast(controller=RecordsBeforeItSets), {watch.APPLIED}),
    "says yes": (Cast(controller=SaysYes), {watch.HONEST}),
    "forgets retirements": (Cast(proxy=ForgetsRetirements), {watch.RETIRED}),
    "gives up": (Cast(controller=GivesUp), {watch.LIVES}),
    "trips": (Cast(controller=Trips), {watch.THOUGHT_OF}),
}


@pytest.mark.slow
def test_a_key_that_is_forgotten_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgets(_: Once, __: str, ___: str | None, ____: bytes, act: Callable[[], Awaitable[Response]]) -> Any:
        return await act()

    monkeypatch.setattr(Once, "answer", forgets)
    monkeypatch.setattr(Once, "first_seen", lambda *_: None)
    outcome = next((found for seed in range(WITHIN) if (found := simulate(seed)).rule), None)
    assert outcome is not None
    assert outcome.rule == watch.KEPT, str(outcome)


@pytest.mark.slow
@pytest.mark.parametrize("name", BREAKS)
def test_a_rule_that_is_broken_on_purpose_is_seen(name: str) -> None:
    """What breaks one rule may break another one first in some seed, such as that of a single controller that acts."""
    cast, rules = BREAKS[name]
    outcome = next((found for seed in range(WITHIN) if (found := simulate(seed, cast=cast)).rule in rules), None)
    assert outcome is not None
    assert 0 < len(outcome.last) <= 30

"""One simulated rollout: seeded traffic, the real evidence, the real `decide`, events folded by the real `evolve`.

A run goes through a plan in slices of an hour and looks closer only where that can change a verdict:

- Evidence of harm is asked after each slice, or after a day of them while it is far from its bar. What it may have
  risen to meanwhile is followed by the minute (`screen`). Where it comes within one unit of ln of its bar (or passes
  it), the slice is told again in ticks of ten seconds, the same requests at the times at which they were drawn, and the
  rollback comes at the end of the tick that shows it.
- A phase can't be left before its soak is over, so gates are asked at the soak's end and after each slice from then on,
  or after six when they have been waited for for a day; the slice after which they have passed is gone through tick by
  tick, to find when.
- A defect that fails nearly every request is watched by the second for its first minute, with the fast path of `gross`.

So decisions are those of a look after each tick of ten seconds, but for two things. Evidence of other kinds than first
failures that passes its bar and falls back by more than e within one look is missed, and so are gates that pass for a
part of an hour. Approvals are given, and drills that the plan leaves to people are done, as soon as all
else has passed. Every drill passes. A rollback ends a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby

from crossfade.core import events as e
from crossfade.core.decide import (
    Command,
    Complete,
    Decision,
    Drill,
    Outcome,
    Promote,
    RollBack,
    decide,
)
from crossfade.core.evidence import book, gross
from crossfade.core.evidence.pace import log_e_slower
from crossfade.core.evidence.streams import evidence_now
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.gates import Surroundings, approvals_missing
from crossfade.core.machine import State
from crossfade.core.plan import DAY, Action, GateKind, MetricKind, Plan
from crossfade.core.rollout import Rollout, evolve
from crossfade.core.split import Version
from crossfade.core.verdict import Verdict
from crossfade.simulation import screen
from crossfade.simulation.carry import events_of
from crossfade.simulation.draws import Slice, World, tick
from crossfade.simulation.model import BEGIN, Defect, Scenario, failure_baseline
from crossfade.simulation.register import Marked

_AROUND = Surroundings(rollback_ready=True, exempted="")
_BY_PEOPLE = frozenset({GateKind.APPROVED, GateKind.DRILL_PASSED, GateKind.REHEARSAL_PASSED, GateKind.PEAK_LOAD_PASSED})
"""Gates that pass by what people do; simulated ones do it as soon as nothing else is waited for."""
_NEAR = 1.0
"""Distance in ln from a guardrail's bar at which a slice is looked at more closely."""
_CHUNK_MAX = 24
_WAITING_MAX = 6
"""Slices that are gone through at once, and the same after a day's waiting for gates."""
_BATCH = 30
"""Ticks that are told at once where only harm could end them."""
_GROSS_RATE = 0.5
"""Failure rate of a defect from which on the fast path is worth looking with."""
_GROSS_S = 60.0


class Ending(StrEnum):
    """How a run ended."""

    ROLLED_BACK = "rolled back"
    COMPLETED = "completed"
    UNFINISHED = "unfinished"


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """How closely a run is looked at. The defaults give what every tick would give, as the module says."""

    coarse_s: float = 3600.0
    calm_s: float = 86_400.0
    """While nothing is near, slices are told together, in ticks of so long at most; a day is a multiple of it."""
    fine_s: float = 10.0
    every_tick: bool = False
    """Ticks of `fine_s` all along, and a decision after each of them: what a live controller does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseResult:
    """One phase of one run; times are seconds since the rollout's start."""

    name: str
    entered: float
    left: float | None
    """None where the run ended in it."""
    v2_requests: int
    held: Mapping[str, float]
    """Seconds after the soak that each gate, or reason to hold, kept the phase waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One run."""

    run: int
    ending: Ending
    at: float
    """When it ended, seconds since the rollout's start."""
    trigger: str
    reason: str
    onset: float | None
    """When the first defect began; None where none did."""
    v2_requests: int
    """Of users, from the onset (or the rollout's start) to the end."""
    v2_failed: int
    """Of them: failures, and answers without what a defect took away."""
    promoted_ill: bool
    """A phase was left while V2 had a defect beyond the phase's margin."""
    phases: tuple[PhaseResult, ...]
    events: tuple[e.Event, ...] = field(repr=False, default=())

    @property
    def seconds_to_rollback(self) -> float | None:
        """Return how long the defect lasted until it was rolled back; None where that didn't happen."""
        if self.ending is not Ending.ROLLED_BACK or self.onset is None or self.at < self.onset:
            return None
        return self.at - self.onset

    @property
    def too_soon(self) -> bool:
        """Tell whether V2 was rolled back before it had a defect."""
        return self.ending is Ending.ROLLED_BACK and (self.onset is None or self.at < self.onset)


def run_once(scenario: Scenario, seed: int, run: int, looking: Looking | None = None) -> RunResult:
    """Carry the plan out once; the same scenario, seed and run number give the same result."""
    return _Run(scenario, seed, run, looking or Looking()).through()


@dataclass(slots=True)
class _Phase:
    name: str
    entered: float
    v2_requests: int = 0
    held: Counter[str] = field(default_factory=Counter)
    left: float | None = None


class _Run:
    """The loop's state."""

    def __init__(self, scenario: Scenario, seed: int, run: int, looking: Looking) -> None:
        self.scenario, self.plan, self.looking, self.number = scenario, scenario.plan, looking, run
        self.world = World(scenario, seed, run)
        self.events: list[e.Event] = []
        self.rollout = Rollout(name=self.plan.name)
        self.now = BEGIN
        self._record(e.RolloutStarted(at=BEGIN, plan=self.plan.name, digest=self.plan.digest))
        failing = Marked(register=self.world.register)
        self.evidence = replace(book.begin(self.plan, BEGIN, looking.fine_s), failing=failing)
        self.phases = [_Phase(self.plan.phases[0].name, BEGIN)]
        self.staff = self.plan.staff_cohorts()
        self.ticks = self.slices = self.requests = self.failed = 0
        self.chunk = 1
        self.onset: float | None = None
        self.promoted_ill = False
        self.acting = [m for m in self.plan.metrics if m.guard is not None and m.guard.action is Action.ROLLBACK]
        self.taken = {d.metric for d in scenario.defects}

    def through(self) -> RunResult:
        """Run to the rollback, the completion or the horizon."""
        end = BEGIN + self.scenario.horizon_s
        while self.rollout.state is State.RUNNING and self.now < end:
            self._step(end)
        state = self.rollout.state
        ending = {State.ROLLED_BACK: Ending.ROLLED_BACK, State.COMPLETED: Ending.COMPLETED}.get(
            state, Ending.UNFINISHED
        )
        last = self.events[-1]
        rolled = last if isinstance(last, e.RolledBack) else None
        return RunResult(
            run=self.number,
            ending=ending,
            at=self.now - BEGIN,
            trigger=rolled.trigger if rolled else "",
            reason=rolled.reason if rolled else "",
            onset=None if self.onset is None else self.onset - BEGIN,
            v2_requests=self.requests,
            v2_failed=self.failed,
            promoted_ill=self.promoted_ill,
            phases=tuple(
                PhaseResult(
                    name=phase.name,
                    entered=phase.entered - BEGIN,
                    left=None if phase.left is None else phase.left - BEGIN,
                    v2_requests=phase.v2_requests,
                    held=dict(phase.held),
                )
                for phase in self.phases
            ),
            events=tuple(self.events),
        )

    # ── going on ────────────────────────────────────────────────────────────────────────────────────────

    def _step(self, end: float) -> None:
        """Go on by a chunk of slices; by one, closely, where it matters."""
        self.world.register.keep()
        parts = self._draw_chunk(end)
        if self.looking.every_tick:
            for part in parts:
                self._closely(part, look=True)
            return
        if len(parts) > 1:
            after = self._absorb(self._coarse(parts))
            if self._is_quiet(after, parts) and self._is_steady(after, parts[0]) and not self._may_leave(after, parts):
                self._accept(after, parts)
                self.chunk = min(2 * self.chunk, _CHUNK_MAX)
                return
        self.chunk = 1 if len(parts) > 1 else 2
        phase = self.rollout.phase
        for part in parts:
            self._carefully(part)
            if self.rollout.state is not State.RUNNING or self.rollout.phase != phase:
                self.slices = part.number  # those after it are drawn again, under the new split
                return

    def _absorb(self, ticks: Sequence[Tick]) -> book.EvidenceState:
        self.world.register.firsts.clear()
        return book.absorb(self.plan, self.evidence, ticks)

    def _coarse(self, parts: Sequence[Slice]) -> list[Tick]:
        """Return slices as ticks of a quarter of a day at most."""
        by_time = groupby(parts, lambda part: (part.start - BEGIN) // self.looking.calm_s)
        groups = [list(group) for _, group in by_time]
        return [
            tick(self.ticks + offset, group[0].start, group[-1].end - group[0].start, self.world.whole(group))
            for offset, group in enumerate(groups)
        ]

    def _carefully(self, part: Slice) -> None:
        if not self._hopeless(part):
            after = self._absorb(self._coarse([part]))
            if self._is_quiet(after, [part]):
                if self._may_leave(after, [part]):
                    self._closely(part, look=True)
                else:
                    self._accept(after, [part])
                return
        self.chunk = 1
        self._closely(part, look=False)

    def _is_steady(self, after: book.EvidenceState, first: Slice) -> bool:
        """Tell whether nothing has happened since `first` that a gate may ask the time of."""
        before, now = self.evidence.watch, after.watch
        pairs = ((before.stable_since, now.stable_since), (before.no_critical_since, now.no_critical_since))
        return all(new in (old, first.start) for old, new in pairs)

    def _may_leave(self, after: book.EvidenceState, parts: Sequence[Slice]) -> bool:
        """Tell whether slices after the soak end with all gates passed, so that their ticks tell when they did."""
        soaked = self.rollout.phase_since + self.plan.phases[self.rollout.phase].soak_s
        if parts[0].start < soaked:
            return False
        decision = self._decide(after, parts[-1].end)
        return decision.outcome in (Outcome.PROMOTE, Outcome.COMPLETE) or bool(self._waits_only_for_people(decision))

    def _accept(self, after: book.EvidenceState, parts: Sequence[Slice]) -> None:
        self.evidence = after
        self.ticks = (after.watch.last_number or 0) + 1
        for part in parts:
            self._count(part.start, *self.world.seen(part, self.taken))
        self.now = parts[-1].end
        if self._asks_gates():
            self._look(parts[-1].end - parts[0].start)

    def _asks_gates(self) -> bool:
        soaked = self.now >= self.rollout.phase_since + self.plan.phases[self.rollout.phase].soak_s
        return soaked or self.plan.blind_rollback_s is not None

    def _closely(self, part: Slice, *, look: bool) -> None:
        """Go through a slice tick by tick; `look` after each, else after those that show harm."""
        by_second = self._hopeless(part)
        length = 1.0 if by_second else self.looking.fine_s
        pieces = self.world.cut(part, length)
        length = (part.end - part.start) / len(pieces)
        ticks = [tick(self.ticks + i, part.start + i * length, length, cells) for i, cells in enumerate(pieces)]
        phase, done = self.rollout.phase, 0
        while done < len(ticks):
            step = ticks[done : done + (1 if look or by_second else self._until_shown(ticks[done:]))]
            done += len(step)
            self.evidence = self._absorb(step)
            for one in step:
                self._count(one.start, *self._seen(one.cells))
            self.ticks += len(step)
            self.now = part.end if done == len(ticks) else step[-1].start + length
            breach = gross.gross(self.plan, step[-1], phase=phase) if by_second else None
            if breach is not None:
                self._carry_out(RollBack(trigger=breach.metric, reason=breach.sentence))
            elif look or self.evidence.shown_at:
                self._look(length)
            if self.rollout.state is not State.RUNNING or self.rollout.phase != phase:
                return
        if not look and self._asks_gates():
            self._look(part.end - part.start)

    def _until_shown(self, ticks: Sequence[Tick]) -> int:
        """Return how many ticks there are up to the one that shows harm; a batch of them where none does."""
        if self.evidence.shown_at:
            return 1
        batch = ticks[:_BATCH]
        shown = self._absorb(batch).shown_at
        return next((index + 1 for index, one in enumerate(batch) if one.start in shown.values()), len(batch))

    def _is_quiet(self, after: book.EvidenceState, parts: Sequence[Slice]) -> bool:
        """Tell whether harm stayed well away from its bars, at the slices' end and on the way."""
        if after.shown_at:
            return False
        harm = evidence_now(after.layout, after.streams, log_e_slower(after.pace))
        risen = screen.highest(
            after.layout,
            self.evidence.streams,
            split=self.plan.phases[self.rollout.phase].split,
            regions=self.evidence.regions.slots,
            firsts=self.world.register.firsts,
            begin=parts[0].start,
            end=parts[-1].end,
        )
        found = [(metric.name, *harm[metric.name]) for metric in self.acting if metric.name in harm]
        return all(max(value, risen.get(name, value)) <= needed - _NEAR for name, value, needed in found)

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────

    def _begins(self, defect: Defect) -> float | None:
        """Return when a defect begins; None while its phase has not been entered."""
        if defect.phase >= len(self.phases):
            return None
        return self.phases[defect.phase].entered + defect.after_s

    def _ill(self, at: float) -> tuple[Defect, ...]:
        begins = [(defect, self._begins(defect)) for defect in self.scenario.defects]
        return tuple(defect for defect, begin in begins if begin is not None and begin <= at)

    def _hopeless(self, part: Slice) -> bool:
        """Tell whether V2 has just begun to fail nearly every request."""
        if part.end - part.start > _GROSS_S:
            return False
        kinds = {metric.name: metric.kind for metric in self.plan.metrics}
        return any(
            kinds.get(defect.metric) is MetricKind.FAILURE_RATE
            and defect.value >= _GROSS_RATE
            and part.start - (self._begins(defect) or 0.0) < _GROSS_S
            for defect in self._ill(part.start)
        )

    def _draw_chunk(self, end: float) -> list[Slice]:
        """Draw the next slices, up to the next time at which something may change."""
        hard = self._next_change(end)
        parts: list[Slice] = []
        start = self.now
        size = self.chunk
        if self._asks_gates():
            waited = self.now - self.rollout.phase_since - self.plan.phases[self.rollout.phase].soak_s
            size = min(size, _WAITING_MAX) if waited >= DAY else 1
        while start < hard and len(parts) < size:
            stop = min(hard, self._slice_end(start))
            self.slices += 1
            split = self.plan.phases[self.rollout.phase].split
            parts.append(self.world.draw(self.slices, start, stop, begun=BEGIN, split=split, ill=self._ill(start)))
            start = stop
        return parts

    def _next_change(self, end: float) -> float:
        changes = [end, self.rollout.phase_since + self.plan.phases[self.rollout.phase].soak_s]
        for defect in self.scenario.defects:
            begins = self._begins(defect)
            if begins is not None:
                changes += [begins, begins + _GROSS_S]
        return min(at for at in changes if at > self.now)

    def _slice_end(self, start: float) -> float:
        whole = (start - BEGIN) // self.looking.coarse_s + 1
        edges = [edge for a, b, _ in self.world.bursts for edge in (a, b) if edge > start - BEGIN]
        return BEGIN + min([whole * self.looking.coarse_s, *edges])

    def _count(self, start: float, requests: int, failed: int) -> None:
        """Count V2's requests of users: in the phase, and with what failed of them since the onset."""
        begun = [at for d in self.scenario.defects if (at := self._begins(d)) is not None and at <= start]
        if begun and self.onset is None:
            self.onset = min(begun)
            self.requests = self.failed = 0
        self.requests += requests
        self.failed += failed
        self.phases[-1].v2_requests += requests

    def _seen(self, cells: Mapping[Arm, Cell]) -> tuple[int, int]:
        """Return V2's requests of users in a tick, and those that failed or lack what a defect takes away."""
        mine = [c for a, c in cells.items() if a.version is Version.V2 and a.cohort not in self.staff]
        facts = [m.fact for m in self.plan.metrics if m.name in self.taken and m.kind is MetricKind.AVAILABILITY]
        lacking = sum(cell.facts[fact]["0"] for cell in mine for fact in facts if fact in cell.facts)
        return sum(cell.requests for cell in mine), sum(cell.failures for cell in mine) + lacking

    # ── deciding ────────────────────────────────────────────────────────────────────────────────────────

    def _look(self, lasted: float) -> None:
        decision = self._decide(self.evidence, self.now)
        if decision.outcome is Outcome.DRILL:  # it passes in no time
            self._carry_out(decision.commands[-1])
            decision = self._decide(self.evidence, self.now)
        wanted = self._waits_only_for_people(decision)
        if GateKind.APPROVED in wanted:
            for number in range(approvals_missing(self.plan.phases[self.rollout.phase], self.rollout)):
                by = f"simulated person {number + 1}"
                self._record(e.GateApproved(at=self.now, phase=self.rollout.phase, by=by, reason=""))
        if GateKind.REHEARSAL_PASSED in wanted:
            self._record(_rehearsed(e.RehearsalRecorded, self.plan, self.now))
        if GateKind.PEAK_LOAD_PASSED in wanted:
            self._record(_rehearsed(e.PeakLoadRecorded, self.plan, self.now))
        if GateKind.DRILL_PASSED in wanted:
            self._carry_out(Drill(reason=""))
        if wanted:
            decision = self._decide(self.evidence, self.now)
        if decision.outcome not in (Outcome.PROMOTE, Outcome.COMPLETE, Outcome.ROLL_BACK):
            self._note_waiting(decision, lasted)
        for command in decision.commands:
            self._carry_out(command)

    def _decide(self, evidence: book.EvidenceState, now: float) -> Decision:
        return decide(self.plan, self.rollout, book.read(self.plan, evidence, now), _AROUND, now)

    def _waits_only_for_people(self, decision: Decision) -> frozenset[GateKind]:
        """Return what people are waited for to do; nothing where other gates wait too."""
        waiting = frozenset(gate.kind for gate in decision.gates if gate.verdict is not Verdict.PASS)
        mine = waiting <= _BY_PEOPLE and decision.outcome is Outcome.NOT_YET
        return waiting if mine else frozenset()

    def _note_waiting(self, decision: Decision, lasted: float) -> None:
        soaked = self.rollout.phase_since + self.plan.phases[self.rollout.phase].soak_s
        late = min(lasted, self.now - soaked)
        if late < 0:
            return
        waiting = [gate.text for gate in decision.gates if gate.verdict is not Verdict.PASS]
        reasons = (
            waiting if decision.outcome in (Outcome.NOT_YET, Outcome.HOLD) and waiting else [decision.outcome.value]
        )
        for reason in reasons:
            self.phases[-1].held[reason] += late  # type: ignore[assignment]

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, (Promote, Complete)):
            self._leave()
        for event in events_of(self.plan, self.rollout, command, self.now):
            self._record(event)
        if isinstance(command, Promote):
            self.evidence = book.enter_phase(self.plan, self.evidence, command.phase, self.now)
            self.phases.append(_Phase(self.plan.phases[command.phase].name, self.now))
            self.chunk = 1

    def _leave(self) -> None:
        self.phases[-1].left = self.now
        margin = self.plan.phases[self.rollout.phase].margin
        self.promoted_ill |= any(is_beyond(self.plan, defect, margin) for defect in self._ill(self.phases[-1].entered))

    def _record(self, event: e.Event) -> None:
        self.rollout = evolve(self.rollout, event)
        self.events.append(event)


def _rehearsed(kind: type[e.RehearsalRecorded | e.PeakLoadRecorded], plan: Plan, at: float) -> e.Event:
    return kind(
        at=at,
        by="simulated person 1",
        reason="",
        digest=plan.rehearsal_digest,
        outcome=Verdict.PASS.value,
        sentence="taken to pass",
        ended=at,
    )


def is_beyond(plan: Plan, defect: Defect, margin: float) -> bool:
    """Tell whether a defect makes V2's failure rate at least `margin` times V1's; others count as harm always."""
    kind = next((metric.kind for metric in plan.metrics if metric.name == defect.metric), None)
    if kind is MetricKind.FAILURE_RATE:
        return defect.value >= margin * failure_baseline(plan)
    return True

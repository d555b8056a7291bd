"""A plan over recorded ticks: the real evidence and the real `decide`, on what users had on the days of the recording.

The recording fixes the split: a phase of the plan is judged on ticks that were recorded with its split and on no
others. Where the plan wants another one than users had, nobody can say what would have come, and that time is BLIND:
no tick is judged and nothing is decided. Two rules say how plan and recording go on together.

- Where the plan leaves a phase sooner, it waits in the next one, BLIND, until the recording gets there.
- Where the recording leaves a phase sooner, the plan follows it into the phase of the recording's new split, as if a
  person had promoted by hand. A rollback, a retry, an approval, a pause, a drill of the recording is followed, too; a
  drill that the plan wants and the recording has not is taken as passed in no time.

A rollback that the plan decides is its last word until the recording's next retry.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from crossfade.core import events as e
from crossfade.core.decide import Decision, Drill, Outcome
from crossfade.core.evidence import book
from crossfade.core.evidence.sums import Tick
from crossfade.core.gates import Surroundings
from crossfade.core.look import Look, begin_attempt, decide_look, decide_window
from crossfade.core.machine import State, allowed
from crossfade.core.plan import Plan
from crossfade.core.rollout import Rollout, evolve
from crossfade.core.split import Split
from crossfade.core.words import percent
from crossfade.errors import UsageError
from crossfade.simulation.carry import events_of
from crossfade.simulation.recording import Header, RecordedTick, Segment

RECORDING = "the recording"
_AROUND = Surroundings(rollback_ready=True, exempted="")


class Came(StrEnum):
    """How a phase was entered or left."""

    STARTED = "started"
    DECIDED = "decided"
    FOLLOWED = "followed the recording"
    RETRIED = "retried, as the recording was"
    ROLLED_BACK = "rolled back"
    COMPLETED = "completed"


@dataclass(slots=True, kw_only=True)
class JudgedPhase:
    """One stay of the plan in one of its phases. Times are plan seconds since the epoch."""

    name: str
    attempt: int
    entered: float
    came: Came
    left: float | None = None
    """None: the recording ended first."""
    went: Came | None = None
    judged_s: float = 0.0
    """Of its ticks, those recorded with the phase's split."""
    blind_s: float = 0.0
    blind: str = ""
    """Why the others could not be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The verdict became another one."""

    at: float
    phase: str
    outcome: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """Who rolled back when, and why."""

    at: float
    phase: str
    trigger: str
    reason: str
    attempt: int


@dataclass(slots=True, kw_only=True)
class Backtested:
    """What a plan would have done, beside what the recorded rollout did."""

    ticks: int = 0
    begun: float = 0.0
    ended: float = 0.0
    """Start of the first tick and end of the last one."""
    holes: int = 0
    """Ticks that the recorded rollout had and the recording has not."""
    phases: list[JudgedPhase] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    rollbacks: list[Rollback] = field(default_factory=list)
    completed: float | None = None
    unjudged: list[tuple[str, str]] = field(default_factory=list)
    """Phases whose split the recording never had, and that split."""
    recorded_phases: list[Segment] = field(default_factory=list)
    recorded_rollbacks: list[Rollback] = field(default_factory=list)
    recorded_completed: float | None = None


def backtest(plan: Plan, header: Header, ticks: Iterable[RecordedTick]) -> Backtested:
    """Carry a plan out over a recording. Ticks are taken one by one; memory holds none of them.

    Raises UsageError where no phase of the plan has a split that the recording had, or no metric of the plan was ever
    told of in its ticks, and what reading the ticks raises.
    """
    segments = header.segments()
    _must_share_a_split(plan, segments)
    run = _Run(plan, header, segments)
    told = False
    for recorded in ticks:
        told = told or _tells(plan, recorded.kept.tick)
        run.take(recorded)
    if not told:
        names = ", ".join(metric.name for metric in plan.metrics)
        raise UsageError(f"no metric of the plan ({names}) was ever told of in this recording of {header.rollout}")
    return run.ended()


def wording(split: Split | None) -> str:
    """Return a split for people: `5 %`, `0 %, internal 100 %`."""
    if split is None:
        return "everyone on V1"
    return ", ".join([percent(split.everyone), *(f"{name} {percent(s)}" for name, s in sorted(split.cohorts.items()))])


def same_split(one: Split | None, other: Split) -> bool:
    """Tell whether two splits give every user the same version."""
    if one is None:
        return False
    cohorts = {*one.cohorts, *other.cohorts}
    return one.everyone == other.everyone and all(one.share_of(name) == other.share_of(name) for name in cohorts)


def _must_share_a_split(plan: Plan, segments: list[Segment]) -> None:
    if any(same_split(segment.split, phase.split) for segment in segments for phase in plan.phases):
        return
    had = "; ".join(dict.fromkeys(wording(s.split) for s in segments if s.split is not None)) or "none"
    wants = "; ".join(wording(phase.split) for phase in plan.phases)
    raise UsageError(
        f"no phase of the plan can be judged: users had the splits {had}, and the plan wants {wants}; "
        "is it the recording of another API?"
    )


def _tells(plan: Plan, tick: Tick) -> bool:
    """Tell whether a tick holds counts of any metric of the plan."""
    cells = tick.cells.values()
    if any(cell.requests for cell in cells) and any(not (metric.fact or metric.outcome) for metric in plan.metrics):
        return True
    told = {name for cell in cells for name in (*cell.facts, *cell.timings, *cell.outcomes)}
    return any(metric.fact in told or metric.outcome in told for metric in plan.metrics)


class _Run:
    """The loop's state."""

    def __init__(self, plan: Plan, header: Header, segments: list[Segment]) -> None:
        self.plan, self.header, self.segments = plan, header, segments
        self.starts = [segment.at for segment in segments]
        self.rollout = Rollout(name=plan.name)
        self.evidence = begin_attempt(plan, 0, 0.0, 1.0)
        self.speed = 1.0
        self.pending = deque(header.history)
        self.recorded = Rollout(name=header.rollout)
        self.outcome = ""
        self.last: int | None = None
        wanted = [(phase.name, phase.split) for phase in plan.phases]
        had = [segment.split for segment in segments]
        self.result = Backtested(
            unjudged=[(name, wording(split)) for name, split in wanted if not any(same_split(s, split) for s in had)],
            recorded_phases=[segment for segment in segments if segment.phase],
        )

    def take(self, recorded: RecordedTick) -> None:
        """Go on by one tick: what happened before it, the tick, a decision, and what was grossly bad after it."""
        tick, revision = recorded.kept.tick, recorded.kept.revision
        end = tick.start + tick.length
        at, due = recorded.looked or (end + self.header.lateness_s, end)
        self._follow(lambda happened_at, number: number <= revision if revision is not None else happened_at < at)
        self._count(recorded, end)
        had, judged = self._split_of(tick), True
        if self._acts and tick.start >= self._since:
            judged = same_split(had, self._phase_split) or self._is_drilled(tick)
            self._account(tick, had, judged=judged)
        self.evidence = book.stay_away(self.evidence, self.recorded.away)
        if not judged:
            unseen = Tick(number=tick.number, start=tick.start, length=tick.length, cells={})
            self.evidence = book.absorb(self.plan, self.evidence, [unseen])
            return
        self.evidence = book.absorb(self.plan, self.evidence, [tick])
        look = Look(at=at, due=due, revision=self.rollout.revision, tick=tick.number, around=_AROUND)
        _, decision = decide_look(self.plan, self.rollout, self.evidence, look)
        self._note(at, decision.outcome.value, decision.sentence)
        self._carry_out(decision, at)
        for window in recorded.windows:
            self._window(window.at, window.tick)

    def ended(self) -> Backtested:
        """Follow what happened after the last tick, and return the result."""
        self._follow(lambda _at, _number: True)
        return self.result

    def _count(self, recorded: RecordedTick, end: float) -> None:
        result, tick = self.result, recorded.kept.tick
        result.begun = result.begun if result.ticks else tick.start
        result.ticks, result.ended = result.ticks + 1, end
        if self.last is not None and recorded.kept.previous is not None and recorded.kept.previous > self.last:
            result.holes += 1
        self.last = tick.number

    def _window(self, at: float, window: Tick) -> None:
        decision = decide_window(self.plan, self.rollout, window)
        if decision is not None and self._acts:
            self._note(at, decision.outcome.value, decision.sentence)
            self._carry_out(decision, at)

    def _carry_out(self, decision: Decision, at: float) -> None:
        for command in decision.commands:
            if isinstance(command, Drill) and self.pending and isinstance(self.pending[0].event, e.DrillStarted):
                continue  # it was made: the recording tells how it went
            for event in events_of(self.plan, self.rollout, command, at):
                self._record(event, Came.DECIDED)

    # ── splits ──────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _acts(self) -> bool:
        """Tell whether users may be on V2, so that there is something to roll back."""
        state = self.rollout.state
        return state is not State.ROLLED_BACK and allowed(state, e.RolledBack)

    @property
    def _since(self) -> float:
        return self.rollout.phase_since

    @property
    def _phase_split(self) -> Split:
        return self.plan.phases[self.rollout.phase].split

    def _split_of(self, tick: Tick) -> Split | None:
        """Return the split that users had all through a tick; None where it changed meanwhile, or all were on V1."""
        first = bisect_right(self.starts, tick.start)
        if first == 0 or first < bisect_left(self.starts, tick.start + tick.length):
            return None
        return self.segments[first - 1].split

    def _is_drilled(self, tick: Tick) -> bool:
        """Tell whether a drill of the recording lies in a tick: the evidence passes such ticks over by itself."""
        if self.recorded.away is None:
            return False
        since, until = self.recorded.away
        return tick.start + tick.length > since and (until is None or tick.start < until)

    def _account(self, tick: Tick, had: Split | None, *, judged: bool) -> None:
        stay = self.result.phases[-1]
        if judged:
            stay.judged_s += tick.length
            return
        stay.blind_s += tick.length
        reason = f"the recording had {wording(had)} where {stay.name} wants {wording(self._phase_split)}"
        stay.blind = stay.blind or reason
        self._note(tick.start, Outcome.BLIND.value, f"{Outcome.BLIND.value}: {reason}")

    def _phase_with(self, split: Split | None, name: str, first: int) -> int | None:
        """Return the plan's phase from `first` on that has a split, the one of that name if it has."""
        fitting = [i for i, p in enumerate(self.plan.phases) if i >= first and same_split(split, p.split)]
        named = [i for i in fitting if self.plan.phases[i].name == name]
        return next(iter([*named, *fitting]), None)

    # ── the recording's history ─────────────────────────────────────────────────────────────────────────

    def _follow(self, has_come: Callable[[float, int], bool]) -> None:
        while self.pending and has_come(self.pending[0].event.at, self.pending[0].revision):
            happened = self.pending.popleft()
            segment = next((s for s in self.segments if s.revision == happened.revision), None)
            before, self.recorded = self.recorded, evolve(self.recorded, happened.event)
            if isinstance(happened.event, e.RolledBack) and before.state is not State.ROLLED_BACK:
                self._follow_rollback(happened.event, happened.revision, before.attempt)
            self._follow_one(happened.event, segment)

    def _follow_one(self, event: e.Event, segment: Segment | None) -> None:
        match event:
            case e.RolloutStarted():
                self.speed = event.speed
                self._start(event, segment)
            case e.ControllerStarted():
                self.speed = event.speed
                if self.evidence.watch.last_number is None:
                    self.evidence = begin_attempt(self.plan, self.rollout.phase, event.at, self.speed)
            case e.PhasePromoted():
                self._follow_promotion(event.at, segment)
            case e.Retried():
                self._follow_retry(event, segment)
            case e.RolloutCompleted():
                self.result.recorded_completed = event.at
            case e.RehearsalRecorded() | e.PeakLoadRecorded():  # of the recorded plan, and of V2 all the same
                if allowed(self.rollout.state, type(event)):
                    self._record(replace(event, digest=self.plan.rehearsal_digest), Came.FOLLOWED)
            case (
                e.GateApproved()
                | e.Paused()
                | e.Resumed()
                | e.DrillStarted()
                | e.DrillPassed()
                | e.DrillFailed()
                | e.SplitApplied()
                | e.Aborted()
            ):
                if allowed(self.rollout.state, type(event)):
                    here: dict[str, Any] = {"phase": self.rollout.phase} if hasattr(event, "phase") else {}
                    self._record(replace(event, **here), Came.FOLLOWED)
            case _:
                pass

    def _start(self, event: e.RolloutStarted, segment: Segment | None) -> None:
        started = e.RolloutStarted(at=event.at, plan=self.plan.name, digest=self.plan.digest, speed=event.speed)
        self._record(started, Came.STARTED)
        self._follow_promotion(event.at, segment)

    def _follow_promotion(self, at: float, segment: Segment | None) -> None:
        """Enter the phase that has the recording's split, where that lies ahead of the plan's own."""
        if segment is None or self.rollout.state is not State.RUNNING:
            return
        if same_split(segment.split, self._phase_split):
            return
        ahead = self._phase_with(segment.split, segment.phase, self.rollout.phase + 1)
        if ahead is not None:
            name = self.plan.phases[ahead].name
            promoted = e.PhasePromoted(at=at, phase=ahead, name=name, reason="", by=RECORDING)
            self._record(promoted, Came.FOLLOWED)

    def _follow_retry(self, event: e.Retried, segment: Segment | None) -> None:
        if not allowed(self.rollout.state, e.Retried):
            return
        found = self._phase_with(None if segment is None else segment.split, event.name, 0)
        phase = 0 if found is None else found
        name = self.plan.phases[phase].name
        self._record(e.Retried(at=event.at, phase=phase, name=name, by=RECORDING, reason=""), Came.RETRIED)

    def _follow_rollback(self, event: e.RolledBack, revision: int, attempt: int) -> None:
        phase = next((s.phase for s in reversed(self.segments) if s.phase and s.revision < revision), "")
        self.result.recorded_rollbacks.append(
            Rollback(at=event.at, phase=phase, trigger=event.trigger, reason=event.reason, attempt=attempt)
        )
        if self._acts:
            self._record(event, Came.FOLLOWED)

    # ── the plan's own history ──────────────────────────────────────────────────────────────────────────

    def _note(self, at: float, outcome: str, sentence: str) -> None:
        if outcome != self.outcome:
            self.outcome = outcome
            name = self.plan.phases[self.rollout.phase].name
            self.result.changes.append(Change(at=at, phase=name, outcome=outcome, sentence=sentence))

    def _record(self, event: e.Event, came: Came) -> None:
        """Fold an event of the plan's own rollout, and what it does to the evidence."""
        stays = self.result.phases
        phase = self.plan.phases[self.rollout.phase].name
        self.rollout = evolve(self.rollout, event)
        match event:
            case e.RolloutStarted() | e.Retried():
                self.evidence = begin_attempt(self.plan, self.rollout.phase, event.at, self.speed)
                self._enter(event.at, came)
            case e.PhasePromoted():
                stays[-1].left, stays[-1].went = event.at, came
                self.evidence = book.enter_phase(self.plan, self.evidence, event.phase, event.at)
                self._enter(event.at, came)
            case e.RolledBack():
                went = Came.ROLLED_BACK if came is Came.DECIDED else Came.FOLLOWED
                stays[-1].left, stays[-1].went = event.at, went
                if came is Came.DECIDED:
                    self.result.rollbacks.append(
                        Rollback(
                            at=event.at,
                            phase=phase,
                            trigger=event.trigger,
                            reason=event.reason,
                            attempt=self.rollout.attempt,
                        )
                    )
            case e.RolloutCompleted():
                stays[-1].left, stays[-1].went, self.result.completed = event.at, Came.COMPLETED, event.at
            case _:
                pass

    def _enter(self, at: float, came: Came) -> None:
        name = self.plan.phases[self.rollout.phase].name
        self.result.phases.append(JudgedPhase(name=name, attempt=self.rollout.attempt, entered=at, came=came))

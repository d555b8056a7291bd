"""One rollout's controller: observe, decide, record, apply, read back. Everything that acts passes through here.

A promotion is recorded before the proxy is set (intent), and its result after it was read back (fact); a crash
between the two leaves an intent that the next tick carries out. A rollback goes the other way round: the proxy
first, without waiting for a tick, a lock or the store, and the record after.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import date
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from crossfade.core import brownout
from crossfade.core import events as e
from crossfade.core.clients import ledger as clients
from crossfade.core.clients.exempt import exempt, told
from crossfade.core.clients.gathering import FEW, Gathering
from crossfade.core.decide import (
    UNATTENDED,
    BeginHold,
    ClearAlert,
    Command,
    Complete,
    Decision,
    Drill,
    EndHold,
    Promote,
    RaiseAlert,
    RollBack,
    why_not_retire,
)
from crossfade.core.enrolment import Change, Members
from crossfade.core.evidence import book
from crossfade.core.evidence.sums import Tick
from crossfade.core.gates import Surroundings, approvals_missing, drill_due_in_s
from crossfade.core.look import KeptLook, KeptTick, Look, begin_attempt, decide_look, decide_window, digest, record
from crossfade.core.machine import State, allowed, refusal
from crossfade.core.observation import Observation
from crossfade.core.plan import Plan
from crossfade.core.population import Population
from crossfade.core.rehearsal.report import Report
from crossfade.core.rollout import Rollout
from crossfade.core.split import Version
from crossfade.core.words import duration
from crossfade.engine import drill
from crossfade.engine.apply import Drift, apply, compare, wanted_state
from crossfade.engine.journal import Journal
from crossfade.engine.lease import LeaseKeeper
from crossfade.engine.probe import Unwatched
from crossfade.engine.rollback import RollbackReport, roll_back
from crossfade.errors import (
    ChangedError,
    ConflictError,
    CrossfadeError,
    ProxyError,
    StaleGenerationError,
    StoreError,
    UnreachableError,
    UsageError,
)
from crossfade.ports import (
    Clock,
    Fact,
    MetricsSource,
    NodeState,
    Probe,
    Proxy,
    ProxyState,
    RollbackSwitch,
    Span,
    Store,
    StoredEvent,
    Telemetry,
)

log = logging.getLogger("crossfade.controller")

_SENTENCE_MAX = 1000
"""What the history keeps of a report's own words."""
_LEDGER_EVERY_S = 60.0
"""Real seconds between the times at which a ledger of many clients is kept, which takes tens of milliseconds; twice
as much where calls wait all the time. What a kill takes from it is no more than that."""
UNSAVED_TICKS = 10_000
"""Ticks, and looks, kept in memory while the store is down; older ticks are in the evidence all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often the controller looks, in real seconds."""

    look_s: float = 0.25
    """Between looks for gross breaches and closed ticks; a failure on V2 asks for a look at once."""
    observe_s: float = 1.0
    """Between looks at the proxy's own report, and between decisions at least."""
    gross_s: tuple[float, ...] = (0.1, 0.3, 1.0)
    """How far back looks for gross breaches go: the shorter, the sooner under load; the longer, the surer at low."""
    register_s: float = 10.0
    """Between looks into the register of clients."""
    keep_decision_s: float = 60.0
    """Between stored decisions that say the same as the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a controller is made of."""

    store: Store
    proxy: Proxy
    switch: RollbackSwitch
    telemetry: Telemetry
    clock: Clock
    sources: Sequence[MetricsSource] = ()
    lease: LeaseKeeper | None = None
    """None where nobody else can act, as in a simulation."""
    probe: Probe = field(default_factory=Unwatched)


_P = ParamSpec("_P")
_R = TypeVar("_R")
_Verb = Callable[Concatenate["Controller", _P], Awaitable[_R]]


def _traced(verb: _Verb[_P, _R]) -> Callable[Concatenate[Controller, _P], Coroutine[Any, Any, _R]]:
    """Have what a person asked for stand in the trace, with all that was done for it."""

    @wraps(verb)
    async def traced(self: Controller, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self.span(verb.__name__):
            return await verb(self, *args, **kwargs)

    return traced


class Controller:
    """Carries out one plan. `run` is its life; the verbs are what people ask of it."""

    def __init__(
        self,
        plan: Plan,
        parts: Parts,
        *,
        pace: Pace | None = None,
        listeners: Sequence[Callable[[StoredEvent], None]] = (),
    ) -> None:
        self.plan = plan
        self.pace = pace or Pace()
        self.nodes: Sequence[NodeState] = ()
        self.seen = Observation()
        self.around = Surroundings()
        self.decision: Decision | None = None
        self.fenced: str | None = None
        """Why this controller may not act; None while it may."""
        self.following = False
        """Another one leads, and this one looks on."""
        self.wake = asyncio.Event()
        """Set to have a look at once."""
        self._parts = parts
        self._journal = Journal(
            parts.store, plan.name, listeners, generation=lambda: self._lease_generation, probe=parts.probe
        )
        self._evidence = begin_attempt(plan, 0, parts.clock.now(), parts.clock.speed)
        self._reader = book.Reader(plan)
        self.ledger: clients.Ledger | None = None
        """Of clients; None where the plan keeps none."""
        self._gathering: Gathering | None = None
        self.members = Members(plan.assignment)
        """Who is in which cohort."""
        self._unkept_changes: list[Change] = []
        """Of members: carried out, and not taken by the store yet."""
        self._untold = False
        """Whether the proxy was not told of them yet."""
        self._enrolled_at: int | None = None
        """Revision of the history whose members these are."""
        self.population = Population(plan)
        """Users seen in the present phase."""
        self._attempt = self.rollout.attempt
        """Which the evidence is about."""
        self._acting, self._enrolling = asyncio.Lock(), asyncio.Lock()
        self._rollbacks, self._rolling = 0, 0
        """Rollbacks thrown, and those of them that the proxy knows of and the history does not yet."""
        self._unsaved: list[KeptTick] = []
        self._unkept: list[KeptLook] = []
        self._told: tuple[float, str] = (float("-inf"), "")
        """When the last whole record was made, and its outcome."""
        self._looked: int | None = None
        """The last tick at which a look was kept."""
        self._observed_at = float("-inf")
        self._drifted: tuple[tuple[str, str], ...] = ()
        """What differed at the last look: a drift that stays is recorded once."""
        self._exempt: Mapping[str, date] | None = None
        """Which clients are exempt until when, as the register said last; None where it could never be read."""
        self._register_trouble: str | None = None
        """Why it could not be read at the last look; None where it could."""
        self._register_at = float("-inf")
        self._drill: drill.Drill | None = None
        """The one that this controller has begun."""

    @property
    def rollout(self) -> Rollout:
        """Return the rollout as of its latest event."""
        return self._journal.rollout

    @property
    def lease(self) -> LeaseKeeper | None:
        """Return this process's part in the question who may act; None where nobody else can."""
        return self._parts.lease

    async def note_owner_told(self, event: e.OwnerTold) -> None:
        """Note in the history that an owner of clients was told, now or as soon as the store can."""
        await self._journal.record_done(event)

    @property
    def unwritten(self) -> Sequence[StoredEvent]:
        """Return the events of the rollout that the store has not taken yet."""
        return self._journal.waiting

    @property
    def taken_over(self) -> bool:
        """Tell whether another controller was seen to begin after this one."""
        return self._journal.taken_over is not None

    @property
    def last_tick(self) -> int | None:
        """Return the number of the last tick that the evidence includes."""
        return self._evidence.watch.last_number

    def listen(self, listener: Callable[[StoredEvent], None]) -> None:
        """Have a listener told of each event that is recorded, from now on."""
        self._journal.listen(listener)

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────

    async def start(self) -> None:
        """Load or begin the rollout and have the proxy serve what is wanted.

        One that has followed, or has lost its lease before, begins anew. What it could not write then is another's to
        find at the proxy.

        Raises ConflictError where the rollout was started from another plan, StoreError where its history can't
        be read, ProxyError where the proxy refuses to start.
        """
        async with self._acting:  # whoever asks for something meanwhile acts on what has begun then
            fresh = await self._begin()
            await self._parts.proxy.start()
            self.nodes = await self._parts.proxy.observe()
            await self._read_register()
            await self._tell_unattended()
            if not fresh and await self._found_rolled_back():
                return
            try:
                await self._assert_wanted()
            except StaleGenerationError:  # perhaps by a rollback that the proxy had not told of before
                if fresh or not await self._found_rolled_back():
                    raise

    async def _begin(self) -> bool:
        """Load the history and record that we act now, which nobody may before; tell whether the rollout is new."""
        journal, now = self._journal, self._now()
        self._unsaved, self._unkept = [], []
        await journal.load()
        journal.check_digest(self.plan.digest)
        fresh = journal.rollout.state is State.PENDING
        if fresh:
            first, digest = self.plan.phases[0].name, self.plan.digest
            started = e.RolloutStarted(
                at=now, plan=self.plan.name, digest=digest, phase=first, speed=self._speed, by=self._holder
            )
            await journal.record(started)
        else:
            await journal.record(e.ControllerStarted(at=now, speed=self._speed, by=self._holder))
        self.fenced, self.following = None, False
        await self._load_evidence(fresh, now)
        await self._load_ledger()
        await self._load_population()
        await self._load_members()
        try:
            await self._tell_members()
        except (ProxyError, UnreachableError) as error:
            log.error("the proxy could not be told who is in which cohort yet: %s", error)
        return fresh

    async def follow(self, leader: str) -> None:
        """Look on while `leader` acts: read the history and ask the proxy; of the verbs only a rollback does something.

        Raises ConflictError where the rollout was started from another plan, StoreError or UnreachableError where
        its history can't be read.
        """
        self.fenced, self.following = leader, True
        await self._journal.follow()
        self._journal.check_digest(self.plan.digest)
        await self._load_ledger()
        await self._load_population()
        if self._enrolled_at != self.rollout.enrolled:
            await self._load_members()
        self.nodes = await self._parts.proxy.observe()

    async def run(self) -> None:
        """Look until cancelled. What goes wrong in one look is logged, and the next one looks again.

        Gross breaches are looked for beside the ticks: a store that hangs must not delay that rollback.
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="gross breaches")
            group.create_task(self._tick_on(), name="ticks")

    async def _watch(self) -> None:
        while True:
            try:
                await self.look_for_gross_breach()
            except Exception:  # whatever one look meets, the next one looks again
                log.exception("this look for gross breaches failed")
            await self._pause()

    async def _tick_on(self) -> None:
        while True:
            try:
                await self.tick()
            except ConflictError as error:
                log.error("something else was written meanwhile; the history was read anew: %s", error)
                if self._parts.lease is not None:
                    await self._parts.lease.renew()  # it may be another one's by now
            except CrossfadeError as error:
                log.error("this look failed: %s", error)
            except Exception:  # whatever one look meets, the next one looks again
                log.exception("this look failed")
            await self._parts.clock.sleep(self.pace.look_s)

    async def _pause(self) -> None:
        try:
            await asyncio.wait_for(self.wake.wait(), self.pace.look_s)
        except TimeoutError:
            return
        self.wake.clear()

    async def tick(self) -> None:
        """Look once, decide, and carry the decision out."""
        async with self._acting:
            before = self._rollbacks
            self._follow_history()
            if self._asleep:
                return
            ticks = self._closed_ticks()
            due = self._parts.clock.monotonic() - self._observed_at >= self.pace.observe_s
            if not ticks and not due:
                return
            self._observed_at = self._parts.clock.monotonic()
            with self.span("tick", phase=self._phase_name, ticks=len(ticks)):
                await self._tick(ticks, before)

    async def _tick(self, ticks: Sequence[Tick], before: int) -> None:
        with self.span("observe", ticks=len(ticks)):
            self._absorb(ticks)
        stored = None if self.fenced else await self._save_evidence()
        self._follow_history()  # the store may have kept what it did not confirm
        await self._keep_exempt()
        await self._read_back()
        if not self._rolling:
            await self._notice_a_later_one()
        if self._rolling or self.fenced:
            return
        await self._tell_unattended()
        if await self._found_rolled_back():
            return
        await self._settle_members()
        if self._lease_over is None or self._wanted().killed:
            await self._mend_drift()
            if await self._found_rolled_back():  # while it was mended
                return
            await self._keep_calendar()
        decision = await self._look(stored)
        await self._carry_out(decision.commands, before)
        if self.rollout.state is State.DRILLING and self._rollbacks == before:
            await self._go_on_drilling()

    async def _read_back(self) -> None:
        with self.span("read back") as span:
            self.nodes = await self._parts.proxy.observe()
            span.tell(nodes=len(self.nodes), unreachable=sum(not node.reachable for node in self.nodes))

    def span(self, name: str, **facts: Fact) -> AbstractContextManager[Span]:
        """Return a context for a piece of this rollout's work; see `ports.Probe`."""
        return self._parts.probe.span(name, **facts)

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────

    def _now(self) -> float:
        return self._parts.clock.now()

    @property
    def _speed(self) -> float:
        return self._parts.clock.speed

    @property
    def _lease_generation(self) -> int:
        return 0 if self._parts.lease is None else self._parts.lease.generation

    @property
    def _lease_over(self) -> str | None:
        return None if self._parts.lease is None else self._parts.lease.over

    @property
    def _asleep(self) -> bool:
        return self._parts.lease is not None and self._parts.lease.asleep

    @property
    def _holder(self) -> str:
        return "" if self._parts.lease is None else self._parts.lease.holder

    async def _load_evidence(self, fresh: bool, now: float) -> None:
        """Go on with the evidence that was kept, as far as the history has not gone past it since."""
        kept = None if fresh else await self._parts.store.evidence(self.plan.name)
        attempt, _, state = (kept[1] if kept else b"").partition(b"\n")
        rollout = self.rollout
        if kept:
            self._evidence = book.load(self.plan, state)
        if attempt != str(rollout.attempt).encode():
            self._evidence = self._begin_evidence(rollout.phase, now)
            return
        self._attempt = rollout.attempt
        if self._evidence.phase != rollout.phase:
            self._evidence = book.enter_phase(self.plan, self._evidence, rollout.phase, rollout.phase_since)

    def _dumped_ledger(self) -> bytes:
        """Return the ledger as it is to be kept now; nothing where none is, or where a large one was just kept."""
        gathering, now = self._gathering, self._parts.clock.monotonic()
        if gathering is None:
            return b""
        since = now - gathering.kept_at
        if len(gathering.ledger) > FEW and since < (2 if gathering.waits else 1) * _LEDGER_EVERY_S:
            return b""  # it is kept when a minute is over, and nothing waits
        gathering.kept_at = now
        gathering.settle()
        return gathering.ledger.dump()

    async def _load_ledger(self) -> None:
        """Go on with the ledger that was kept with the last ticks; one that can't be read begins anew."""
        if self.plan.clients is None:
            return
        kept = await self._parts.store.ledger(self.plan.name)
        try:
            self.ledger = clients.Ledger() if kept is None else clients.load(kept)
        except ValueError as error:
            log.error("the ledger of clients begins anew: %s", error)
            self.ledger = clients.Ledger()
        self._gathering = Gathering(self.ledger)

    async def _load_population(self) -> None:
        """Go on with the users that were kept with the last ticks; what can't be read begins anew."""
        kept = await self._parts.store.population(self.plan.name) or b""
        if kept == self.population.kept:
            return
        self.population.kept = kept
        try:
            self.population.go_on(kept)
        except ValueError as error:
            log.error("the users of this phase are counted anew: %s", error)

    async def _load_members(self) -> None:
        """Read who joined or left; what was not kept when this controller last acted is another's to know."""
        at = self.rollout.enrolled
        self.members = Members(self.plan.assignment, await self._parts.store.enrolments(self.plan.name))
        self._enrolled_at, self._unkept_changes, self._untold = at, [], False

    def _begin_evidence(self, phase: int, at: float) -> book.EvidenceState:
        self._attempt = self.rollout.attempt
        return book.go_on_loaded(begin_attempt(self.plan, phase, at, self._speed), self._evidence)

    def _closed_ticks(self) -> Sequence[Tick]:
        try:
            ticks = self._parts.telemetry.closed_ticks()
        except Exception:  # without ticks the evidence becomes blind, which is the truth
            log.exception("telemetry failed")
            return ()
        self._parts.probe.closed(ticks)
        if self._gathering is not None:
            for tick in ticks:
                self._gathering.add(tick.start, tick.length, tick.calls if tick.sources else None)
        self.population.absorb(self.rollout, ticks)
        return [replace(self._with_sources(tick), users={}, doings=()) for tick in ticks]

    def _with_sources(self, tick: Tick) -> Tick:
        for source in self._parts.sources:
            try:
                tick = source.add_to(tick)
            except Exception:  # its metrics become blind; the proxy's own are not
                log.exception("a source of metrics failed")
        return tick

    def _absorb(self, ticks: Sequence[Tick]) -> None:
        revision, last = self.rollout.revision, self._evidence.watch.last_number
        for tick in ticks:
            if last is None or tick.number > last:
                self._unsaved.append(KeptTick(tick=tick, revision=revision, previous=last))
                last = tick.number
        del self._unsaved[:-UNSAVED_TICKS]
        self._evidence = book.absorb(self.plan, self._evidence, ticks)

    async def _save_evidence(self) -> str | None:
        """Keep ticks with the evidence that includes them; return why that was not possible."""
        try:
            await self._journal.catch_up()
            if self._unsaved:
                state = b"%d\n%b" % (self._attempt, book.dump(self._evidence))
                generation, store = self._lease_generation, self._parts.store
                ledger, users = self._dumped_ledger(), self.population.dump()
                with self.span("record", what="ticks", ticks=len(self._unsaved)):
                    await store.save_ticks(
                        self.plan.name,
                        self._unsaved,
                        state,
                        ledger=ledger,
                        population=b"" if users == self.population.kept else users,
                        generation=generation,
                    )
                self._unsaved, self.population.kept = [], users
        except (StoreError, UnreachableError) as error:
            return str(error)
        return None

    async def _look(self, unkept: str | None) -> Decision:
        """Read the evidence and decide; what was looked at is kept as soon as the store can."""
        drift = "; ".join(f"{name}: {what}" for name, what in self._drift().unreachable) or None
        ready, now = await self._parts.switch.ready(), self._now()
        due = drill_due_in_s(self.plan.phases[self.rollout.phase], self.rollout, now) == 0.0
        no_drill = self._why_no_drill(ready=ready) if due else None
        self.around = Surroundings(rollback_ready=ready, drift=drift, no_drill=no_drill, exempted=self._exempted)
        look = Look(
            at=now,
            # What has not had the time to arrive is not missing.
            due=now - self._parts.telemetry.lateness_s * self._speed,
            revision=self.rollout.revision,
            tick=self._evidence.watch.last_number,
            around=self.around,
            unkept=unkept,
        )
        with self.span("decide") as span:
            self.seen, self.decision = decide_look(self.plan, self.rollout, self._evidence, look, reader=self._reader)
            span.tell(outcome=self.decision.outcome.value, reason=self.decision.reason)
        self._keep(look, self.seen, self.decision)
        await self._save_looks()
        return self.decision

    def _keep(self, look: Look, seen: Observation | None, decision: Decision) -> None:
        """Keep a look at a new tick; with its whole record where it says something new, and once a minute anyhow."""
        self._parts.probe.decided(decision)
        real, outcome = self._parts.clock.monotonic(), decision.outcome.value
        at, last = self._told
        new = outcome != last or bool(decision.commands) or real - at >= self.pace.keep_decision_s
        if not new and look.tick == self._looked:
            return
        self._looked = look.tick
        if new:
            self._told = (real, outcome)
        told = record(self.plan, self.rollout, seen, decision) if new else None
        self._unkept.append(KeptLook(look=look, outcome=outcome, digest=digest(decision), record=told))
        del self._unkept[:-UNSAVED_TICKS]

    async def _save_looks(self) -> None:
        try:
            while self._unkept:
                look, generation = self._unkept[0], self._lease_generation
                with self.span("record", what="look"):
                    await self._parts.store.save_look(self.plan.name, look, generation=generation)
                del self._unkept[0]
        except (StoreError, UnreachableError) as error:
            log.error("%d looks could not be kept yet: %s", len(self._unkept), error)

    # ── acting ──────────────────────────────────────────────────────────────────────────────────────────

    async def _carry_out(self, commands: Sequence[Command], before: int) -> None:
        """Carry commands out, until a rollback comes that was not there `before` they were decided."""
        for command in commands:
            if self._rollbacks != before:
                return
            now = self._now()
            match command:
                case RollBack():
                    await self._roll_back_now(command, by="")
                case Promote():
                    await self._enter(command.phase, command.reason, by="")
                case Drill():
                    await self._begin_drill(command.reason, by="")
                case Complete():
                    await self._journal.record(e.RolloutCompleted(at=now, reason=command.reason))
                case BeginHold():
                    await self._journal.record(e.HoldBegan(at=now, kind=command.kind, reason=command.reason))
                case EndHold():
                    await self._journal.record(e.HoldEnded(at=now, reason=command.reason))
                case RaiseAlert():
                    await self._journal.record(e.AlertRaised(at=now, key=command.key, sentence=command.sentence))
                case ClearAlert():
                    await self._journal.record(e.AlertCleared(at=now, key=command.key, sentence=command.sentence))

    async def _enter(self, phase: int, reason: str, by: str) -> None:
        """Record the intent, set the proxy, read it back, record the fact."""
        self._must_not_be_fenced()
        before, now = self._rollbacks, self._now()
        name = self.plan.phases[phase].name
        await self._journal.record(e.PhasePromoted(at=now, phase=phase, name=name, reason=reason, by=by))
        self._evidence = book.enter_phase(self.plan, self._evidence, phase, now)
        if self._rollbacks == before:
            await self._assert_wanted()

    def _why_no_drill(self, *, ready: bool) -> str | None:
        load = self._evidence.watch.load
        return drill.why_not(self.plan, self.rollout, load, ready=ready, speed=self._speed)

    async def _begin_drill(self, reason: str, by: str) -> None:
        """Record the intent, throw the switch; the ticks that follow judge it.

        Once it is thrown, one that somebody threw at the proxy just before can't be told from it: so that is looked
        for at the last moment, and is no drill.
        """
        self._must_not_be_fenced()
        before, known = self._rollbacks, self.rollout.rollback_generation
        load = self._evidence.watch.load
        intent = drill.started(self.plan, self.rollout, load, now=self._now(), by=by, reason=reason)
        await self._journal.record(intent)
        await self._read_back()
        if self._rollbacks != before:
            return
        if any(node.rolled_back > known for node in self.nodes):
            await self._end_drill(f"the proxy was rolled back directly as the drill in {self._phase_name} began")
            return
        parts = self._parts
        generation, late_s = self.rollout.generation, parts.telemetry.lateness_s
        self._drill = await drill.throw(intent, generation, parts.switch, parts.clock, late_s)

    async def _go_on_drilling(self) -> None:
        """End a drill that has shown what it can: back to the split where it passed, else rolled back for good.

        One that an earlier controller began, or whose beginning this one wasn't told of, has shown nothing.
        """
        running = self._drill
        if running is None or running.commanded < (self.rollout.away_since or 0.0):
            await self._end_drill(f"the controller stopped in the middle of the drill in {self._phase_name}")
            return
        ended = running.judge(self._given(), self._parts.clock)
        if ended is None:
            return
        if isinstance(ended, e.DrillFailed):
            await self._journal.record_done(ended)
            await self._end_drill(f"the drill in {ended.name} failed: {ended.reason}")
            return
        self._must_not_be_fenced()
        await self._journal.record(ended)
        await self._assert_wanted()

    async def _end_drill(self, reason: str) -> None:
        await self._roll_back_now(RollBack(trigger="drill", reason=reason), by="")

    def _given(self) -> Mapping[Version, float]:
        try:
            return self._parts.telemetry.last_given()
        except Exception:  # what can't be seen is not shown
            log.exception("telemetry failed")
            return {}

    @property
    def _phase_name(self) -> str:
        return self.plan.phases[self.rollout.phase].name

    async def _assert_wanted(self) -> None:
        """Set the wanted state and record that it was read back; a rollback that came meanwhile wins."""
        self._must_not_be_fenced(towards_v1=self._wanted().killed)
        before, wanted = self._rollbacks, self._wanted()
        try:
            with self.span("apply", generation=wanted.generation, everyone=wanted.split.everyone, v1=wanted.killed):
                applied = await apply(self._parts.proxy, wanted, self._now())
        except StaleGenerationError:
            await self._look_who_is_later()
            raise
        finally:
            if self._rollbacks != before:
                await roll_back([self._parts.switch], self.rollout.generation, self._parts.clock)
        if self._rollbacks == before and self.rollout.applied_generation != wanted.generation:
            await self._journal.record(applied, *self._retired_by(applied))

    def _retired_by(self, applied: e.SplitApplied) -> tuple[e.Event, ...]:
        """Return the fact that V1 is retired, where that is what was applied."""
        return (e.V1Retired(at=applied.at),) if self.rollout.state is State.RETIRING else ()

    async def _look_who_is_later(self) -> None:
        self.nodes = await self._parts.proxy.observe()
        if not self._rolling:
            await self._notice_a_later_one()

    async def _notice_a_later_one(self) -> None:
        """Be fenced by another's later generation; our own rollback's, or one made at the proxy, is no reason.

        Nor is the last rollback of one who has lost the lease to us: nobody else would ever act for it.
        """
        later, lease = self._drift().later_generation, self._parts.lease
        if later is not None and self._drift().killed and lease is not None:
            await lease.renew()
            if lease.leads:
                return
        if later is not None and self.fenced is None:
            carries = f"the proxy carries generation {later}, ours is {self.rollout.generation}"
            self._fence(f"another controller has acted since: {carries}")

    def _follow_history(self) -> None:
        """Take note of what the history has that we did not do: a reply was lost, or another controller began."""
        if self._parts.lease is not None and self._parts.lease.lost is not None and self.fenced is None:
            self._fence(self._parts.lease.lost)
        if self._journal.taken_over is not None and self.fenced is None:
            began = f"one began at revision {self._journal.taken_over} of the history"
            self._fence(f"another controller has acted since: {began}")
        rollout = self.rollout
        if self._attempt != rollout.attempt:
            self._evidence = self._begin_evidence(rollout.phase, rollout.phase_since)
        elif self._evidence.phase != rollout.phase:
            self._evidence = book.enter_phase(self.plan, self._evidence, rollout.phase, rollout.phase_since)
        self._evidence = book.stay_away(self._evidence, rollout.away)

    def _fence(self, reason: str) -> None:
        self.fenced = reason
        log.error("this controller does not act any more: %s", reason)

    def _must_not_be_fenced(self, *, towards_v1: bool = False) -> None:
        """Raise ConflictError where another one acts, or may by now: the latter is no reason to leave users on V2."""
        self._follow_history()
        if self.fenced is not None:
            raise ConflictError(self.fenced)
        if self._lease_over is not None and not towards_v1:
            raise ConflictError(self._lease_over)

    def _wanted(self) -> ProxyState:
        exempt_now: Collection[str] | None = self._exempt
        if exempt_now is None:  # what the proxy was told stands
            exempt_now = next((node.state.exempt for node in self.nodes if node.state is not None), ())
        return wanted_state(self.plan, self.rollout, exempt_now)

    def _drift(self) -> Drift:
        return compare(self._wanted(), self.nodes, self.rollout.rollback_generation)

    async def _found_rolled_back(self) -> bool:
        """Record a rollback that was made at the proxy itself; tell whether there was one."""
        drift = self._drift()
        if not drift.killed or not allowed(self.rollout.state, e.RolledBack):
            return False
        log.warning("%s: rolled back at the proxy", ", ".join(drift.killed))
        names, trigger = ", ".join(drift.killed), "proxy"
        reason = f"the proxy was rolled back directly on {names}"
        if any(node.by_itself for node in self.nodes if node.node in drift.killed):
            limit, trigger = duration(self.plan.unattended.after_s), UNATTENDED
            reason = f"no controller looked after {names} for {limit}: the proxy put everyone on V1 by itself"
        later = drift.later_generation or 0  # of a rollback that an earlier life of ours could not record
        await self._throw(RollBack(trigger=trigger, reason=reason), by="", generation=later + 1)
        return True

    async def _tell_unattended(self) -> None:
        """Alert while a node says that nobody looks after it, or says that nobody did until we came."""
        alone = {node.node: node.unattended_s for node in self.nodes if node.unattended_s is not None}
        raised, now = self.rollout.alerts.get(UNATTENDED), self._now()
        if alone and raised is None:
            lasted = duration(self.plan.unattended.after_s + max(alone.values()))
            sentence = f"no controller looked after {', '.join(alone)} for {lasted}"
            await self._journal.record_done(e.AlertRaised(at=now, key=UNATTENDED, sentence=sentence))
        elif raised is not None and not alone:
            await self._journal.record_done(e.AlertCleared(at=now, key=UNATTENDED, sentence=f"over: {raised}"))

    async def _mend_drift(self) -> None:
        """Set the proxy again where it differs, then record it: a store that is down must not keep users on V2.

        What can't be set is left to `decide` as a reason to hold.
        """
        drift, now = self._drift(), self._now()
        pending = self.rollout.applied_generation != self.rollout.generation
        news = () if pending else tuple(found for found in drift.differing if found not in self._drifted)
        self._drifted = drift.differing
        if (drift.differing or pending) and not drift.unreachable:
            try:
                await self._assert_wanted()
            except (ProxyError, UnreachableError) as error:
                log.error("the proxy could not be set: %s", error)
        found = [e.DriftFound(at=now, node=node, detail=detail) for node, detail in news]
        if found:
            await self._journal.record_done(*found)

    async def _read_register(self) -> None:
        """Learn who is exempt now."""
        if not self.plan.exempts:
            return
        self._register_at = self._parts.clock.monotonic()
        try:
            register = await self._parts.store.register(self.plan.name)
        except (StoreError, UnreachableError) as error:
            self._register_trouble = str(error)
            log.error("the register of clients can't be read: %s", error)
            return
        self._exempt, self._register_trouble = exempt(register.values(), self._now()), None

    @property
    def _exempted(self) -> str | None:
        known = self._exempt is not None and self._register_trouble is None
        return told(self._exempt or {}) if known else None

    async def _keep_exempt(self) -> None:
        """Look into the register from time to time, and tell the proxy where other clients are exempt than before."""
        due = self._parts.clock.monotonic() - self._register_at >= self.pace.register_s
        if not self.plan.exempts or not due or self.fenced or self._rolling or self._lease_over is not None:
            return
        before = self._exempt
        await self._read_register()
        if self._exempt is None or (before is not None and before.keys() == self._exempt.keys()):
            return
        try:
            await self._assert_wanted()
        except (ProxyError, UnreachableError) as error:
            log.error("the proxy could not be told who is exempt: %s", error)

    async def _keep_calendar(self) -> None:
        """Begin and end brownouts; what is against it now is tried again at the next look."""
        found, before = self._due_brownouts(), self._rollbacks
        if not found:
            return
        try:
            self._must_not_be_fenced()
            await self._journal.record(*found)
            if self._rollbacks == before:
                await self._assert_wanted()
        except (StoreError, ProxyError, UnreachableError) as error:
            log.error("the calendar of brownouts could not be kept: %s", error)

    def _due_brownouts(self) -> Sequence[e.Event]:
        known = not self.plan.exempts or self._exempted is not None
        return brownout.due(self.plan, self.rollout, self._now(), exempt_known=known)

    async def look_for_gross_breach(self) -> bool:
        """Roll back at once where V2 fails grossly; needs no closed tick, no store and no lock.

        Tells whether it did.
        """
        acting = self.rollout.state in (State.RUNNING, State.PAUSED, State.DRILLING, State.COMPLETED)
        if self.fenced or self._rolling or self._asleep or not acting:
            return False
        for seconds in self.pace.gross_s:
            window = self._parts.telemetry.recent(seconds)
            decision = decide_window(self.plan, self.rollout, window)
            if decision is not None:
                now, last = self._now(), self._evidence.watch.last_number
                look = Look(at=now, due=now, revision=self.rollout.revision, tick=last, window=window)
                self._keep(look, None, decision)
                await self._carry_out(decision.commands, self._rollbacks)
                return True
        return False

    async def _roll_back_now(self, command: RollBack, by: str) -> RollbackReport:
        if self.fenced:  # the other controller finds it at the proxy, and records it
            return await roll_back([self._parts.switch], None, self._parts.clock)
        return await self._throw(command, by=by)

    async def _throw(self, command: RollBack, *, by: str, generation: int = 0) -> RollbackReport:
        """Set the proxy, then record it; under `generation` where that is later than the history's next one."""
        self._rollbacks += 1
        self._rolling += 1
        generation = max(generation, self.rollout.generation + 1)
        try:
            with self.span("roll back", trigger=command.trigger, reason=command.reason, by=by) as span:
                report = await roll_back([self._parts.switch], generation, self._parts.clock)
                span.tell(took_s=report.took_s, complete=report.complete)
            if report.retired:
                return report  # it has moved nobody
            fact = e.RolledBack(
                at=self._now(),
                reason=command.reason,
                trigger=command.trigger,
                took_s=report.took_s,
                nodes=report.outcomes(),
                users_hurt=command.users_hurt,
                by=by,
                generation=generation,
            )
            await self._journal.record_done(fact)
        finally:
            self._rolling -= 1
        return report

    # ── what people ask for ─────────────────────────────────────────────────────────────────────────────

    @_traced
    async def promote(self, by: str, reason: str, *, person: str | None = None, revision: int | None = None) -> Rollout:
        """Enter the next phase by hand, whatever its gates say; ConflictError where there is none to enter.

        Where the phase wants the approval of several people, one alone can't pass it over: `person` (None: `by`) counts
        as having approved, and the others must have, or ConflictError.
        """
        async with self._acting:
            self._must_not_be_fenced()
            self._must_be_at(revision)
            self._must_allow(e.PhasePromoted)
            if self.rollout.phase + 1 >= len(self.plan.phases):
                last = self.plan.phases[-1].name
                raise ConflictError(f"{last} is the last phase; its gates complete the rollout")
            if self.rollout.applied_generation != self.rollout.generation:
                # A rollback at the proxy itself outdates one raise that it did not see, and no second one.
                now = self.plan.phases[self.rollout.phase].name
                raise ConflictError(f"the proxy has not confirmed the split of {now} yet; see `crossfade status`")
            self._must_be_approved(person or by)
            await self._enter(self.rollout.phase + 1, reason or "by hand", by)
            return self.rollout

    @_traced
    async def pause(self, by: str, reason: str, *, revision: int | None = None) -> Rollout:
        """Stop promotions; the split stays, guardrails are watched."""
        async with self._acting:
            self._must_not_be_fenced()
            self._must_be_at(revision)
            return await self._journal.record(e.Paused(at=self._now(), by=by, reason=reason))

    @_traced
    async def resume(self, by: str, reason: str, *, revision: int | None = None) -> Rollout:
        """Allow promotions again."""
        async with self._acting:
            self._must_not_be_fenced()
            self._must_be_at(revision)
            return await self._journal.record(e.Resumed(at=self._now(), by=by, reason=reason))

    @_traced
    async def approve(self, by: str, reason: str, *, person: str | None = None, revision: int | None = None) -> Rollout:
        """Approve leaving the present phase, as `person` (None: `by`), who counts once.

        Raises ConflictError where more people must approve and this one has.
        """
        async with self._acting:
            self._must_not_be_fenced()
            self._must_be_at(revision)
            approvals, who = self.rollout.approvals, person or by
            phase = self.plan.phases[self.rollout.phase]
            if who in approvals and approvals_missing(phase, self.rollout):
                raise ConflictError(f"{approvals[who]} has approved leaving {phase.name}; somebody else must as well")
            event = e.GateApproved(at=self._now(), phase=self.rollout.phase, by=by, reason=reason, person=who)
            return await self._journal.record(event)

    @_traced
    async def rehearse(self, by: str, reason: str, report: Report, *, revision: int | None = None) -> Rollout:
        """Record a rehearsal's report, on which `rehearsal passed` and `peak load passed` rest; the latest counts.

        Of a report that lacks parts and has the peak load that alone is recorded; a whole one recorded before stands.
        Raises ConflictError where it is a quick one, or of a plan that says something else of what is rehearsed.
        """
        async with self._acting:
            self._must_not_be_fenced()
            self._must_be_at(revision)
            if report.quick:
                raise ConflictError("a quick rehearsal is no evidence; rehearse without --quick")
            if (report.plan, report.digest) != (self.plan.name, self.plan.rehearsal_digest):
                raise ConflictError(
                    f"the report is of {report.plan} {report.digest[:12]}, and this is {self.plan.name} "
                    f"{self.plan.rehearsal_digest[:12]}: rehearse the plan that the controller carries out"
                )
            return await self._journal.record(*self._told_by(report, by, reason))

    def _told_by(self, report: Report, by: str, reason: str) -> list[e.Event]:
        now, events, peak = self._now(), list[e.Event](), report.peak
        if peak is not None:
            events.append(
                e.PeakLoadRecorded(
                    at=now,
                    by=by,
                    reason=reason,
                    digest=report.digest,
                    outcome=peak.outcome.value,
                    sentence=peak.sentence[:_SENTENCE_MAX],
                    ended=min(now, self._parts.clock.plan_time(peak.ended)),
                )
            )
        if peak is None or not report.missing:
            events.append(
                e.RehearsalRecorded(
                    at=now,
                    by=by,
                    reason=reason,
                    digest=report.digest,
                    outcome=report.outcome.value,
                    sentence=report.sentence[:_SENTENCE_MAX],
                    ended=min(now, self._parts.clock.plan_time(report.shown_at)),
                    versions=dict(report.versions),
                    report=report.fingerprint,
                )
            )
        return events

    @_traced
    async def drill(self, by: str, reason: str, *, revision: int | None = None) -> Rollout:
        """Roll back on purpose; returns once everyone is on V1, and the ticks that follow judge it and return.

        Raises ConflictError, and changes nothing, where a drill can't begin now.
        """
        async with self._acting:
            self._must_not_be_fenced()
            self._must_be_at(revision)
            self._must_allow(e.DrillStarted)
            refused = self._why_no_drill(ready=await self._parts.switch.ready())
            if self.rollout.held is not None:
                refused = f"the engine holds: {self.rollout.held}"
            if refused is not None:
                raise ConflictError(f"no drill now: {refused}")
            await self._begin_drill(reason or "by hand", by)
            if self.rollout.state is State.ROLLED_BACK:
                raise ConflictError("no drill now: the rollout was rolled back as it began")
            return self.rollout

    @_traced
    async def retire(self, by: str, reason: str, *, archive: str = "", revision: int | None = None) -> Rollout:
        """Take V1 out of the proxy: the one step that no rollback undoes. Returns once every node has confirmed.

        Raises ConflictError, and changes nothing, where the plan doesn't say so, the rollout is not completed, or a
        gate of its last phase does not pass now; `archive` is the digest of what was kept of V1, which a plan may ask
        for. What the proxy did not confirm stands, and is set as soon as it
        answers: ProxyError or UnreachableError.
        """
        async with self._acting:
            self._must_not_be_fenced()
            self._must_be_at(revision)
            if not self.plan.retires:
                raise ConflictError("the plan doesn't say so: its last phase has no `then: retire v1`")
            self._must_allow(e.RetirementStarted)
            if self.plan.phases[-1].archives and not archive:
                raise ConflictError("the plan wants V1 archived first: crossfade retire --archive PROGRAM does both")
            before, now = self._rollbacks, self._now()
            shown = await self._shown_for_retirement(now)
            await self._journal.record(e.RetirementStarted(at=now, by=by, reason=reason, shown=shown, archive=archive))
            if self._rollbacks == before:
                await self._assert_wanted()
            return self.rollout

    async def _shown_for_retirement(self, now: float) -> str:
        """Return the checklist as it is now; raise ConflictError where something is against retiring V1."""
        if self.rollout.applied_generation != self.rollout.generation:
            raise ConflictError("not yet: the proxy has not confirmed the split; see `crossfade status`")
        self._absorb(self._closed_ticks())
        ready = await self._parts.switch.ready()
        due = now - self._parts.telemetry.lateness_s * self._speed
        await self._read_register()
        around = Surroundings(rollback_ready=ready, exempted=self._exempted)
        look = Look(at=now, due=due, revision=self.rollout.revision, tick=None, around=around)
        _, decision = decide_look(self.plan, self.rollout, self._evidence, look, reader=self._reader)
        if decision.commands:
            raise ConflictError(f"not now: {decision.reason}")
        if unmet := why_not_retire(decision.gates):
            raise ConflictError(f"V1 can't be retired yet: {unmet}")
        return "; ".join(f"{gate.text}: {gate.evidence}" for gate in decision.gates)

    @_traced
    async def stop_brownout(self, name: str, by: str, reason: str, *, revision: int | None = None) -> Rollout:
        """End the brownout that goes on (name empty), or call off one by its name; it does not come again.

        The proxy is set whatever the store says. Raises ConflictError where there is none to be stopped, UsageError
        where the plan has none of that name, ProxyError where the proxy did not confirm it: it is set as soon as it
        answers, and ends the brownout at its time anyhow.
        """
        async with self._acting:
            self._must_not_be_fenced()
            self._must_be_at(revision)
            self._must_allow(e.BrownoutEnded)
            known = [one.name for one in brownout.calendar(self.plan)]
            left = [one for one in known if one not in self.rollout.brownouts_over]
            meant = name or self.rollout.brownout
            if meant is None:
                planned = f"name one to call it off: {', '.join(left)}" if left else "none is planned"
                raise ConflictError(f"no brownout goes on; {planned}")
            if meant not in known:
                raise UsageError(f"there is no brownout {meant!r}; the plan has {', '.join(known) or 'none'}")
            if meant not in left:
                raise ConflictError(f"the brownout {meant} is over")
            ended = e.BrownoutEnded(at=self._now(), name=meant, reason=reason or "by hand", by=by)
            await self._journal.record_done(ended)
            await self._assert_wanted()
            return self.rollout

    @_traced
    async def enrol(self, cohort: str, users: Mapping[str, float], by: str, reason: str) -> Change:
        """Have users join a cohort, all or none; `users` gives the time of consent (real seconds) by user key.

        Kept first, then set: raises what `Members.joined` and the store raise, and changes nothing then. ProxyError or
        UnreachableError where the proxy did not confirm it: it stands, and is set as soon as the proxy answers.
        """
        async with self._enrolling:
            self._must_not_be_fenced()
            change = self.members.joined(cohort, users, at=self._now(), by=by)
            if change.size:
                await self._keep_members(change)
                self.members = self.members.after(change)
                try:
                    await self._tell_members()
                finally:
                    await self._note_members(change, by, reason, joined=change.size)
            return change

    @_traced
    async def leave(self, users: Sequence[str], wall: float, by: str, reason: str) -> Change:
        """Have users leave their cohorts: they are as everyone else at once. Waits for no look and no metrics.

        Set first, then kept: StoreError or UnreachableError where the store did not take it, ProxyError or
        UnreachableError where the proxy did not confirm it. Either way it stands, and is tried again with each look.
        """
        async with self._enrolling:
            self._must_not_be_fenced(towards_v1=True)
            change = self.members.left(users, at=self._now(), wall=wall, by=by)
            if change.size:
                self.members = self.members.after(change)
                try:
                    await self._tell_members()
                finally:
                    await self._keep_left(change)
                    await self._note_members(change, by, reason, left=change.size)
            return change

    async def _keep_left(self, change: Change) -> None:
        self._unkept_changes.append(change)
        try:
            await self._keep_members()
        except (StoreError, UnreachableError) as error:
            raise StoreError(
                f"they are no members any more at the proxy, but that is not kept ({error}): it is as soon as the "
                "store answers, unless this process ends before"
            ) from error

    async def _keep_members(self, *more: Change) -> None:
        """Have the store take what it has not yet, and more; what it did not take stays to be taken."""
        name, generation = self.plan.name, self._lease_generation
        for change in (*self._unkept_changes, *more):
            await self._parts.store.save_enrolments(name, change.kept, change.forgotten, generation=generation)
            if change not in more:
                self._unkept_changes.remove(change)

    async def _tell_members(self) -> None:
        self._untold = True
        await self._parts.proxy.enrol(self.members.cohorts)
        self._untold = False

    async def _note_members(self, change: Change, by: str, reason: str, *, joined: int = 0, left: int = 0) -> None:
        event = e.EnrolmentsChanged(
            at=self._now(), cohort=change.cohort, joined=joined, left=left, by=by, reason=reason
        )
        await self._journal.record_done(event)
        self._enrolled_at = self.rollout.enrolled

    async def _settle_members(self) -> None:
        """Set and keep what could not be before; tried again at the next look."""
        if not (self._untold or self._unkept_changes):
            return
        async with self._enrolling:
            try:
                if self._untold:
                    await self._tell_members()
                await self._keep_members()
            except (StoreError, ProxyError, UnreachableError) as error:
                log.error("who is in which cohort could not be settled yet: %s", error)

    @_traced
    async def rollback(self, by: str, reason: str, *, revision: int | None = None) -> Rollout:
        """Put everybody on V1 now. Waits for nothing; allowed in every state before V1 is retired.

        Raises ProxyError where the proxy did not confirm it: the rollback stands, and is set as soon as it answers.
        """
        self._must_be_at(revision)
        self._must_allow(e.RolledBack)
        report = await self._roll_back_now(RollBack(trigger="person", reason=reason or "by hand"), by=by)
        if report.retired:
            raise ConflictError(report.sentence)
        if not report.complete:
            raise ProxyError(f"the rollback stands and will be set as soon as the proxy answers, but {report.sentence}")
        return self.rollout

    @_traced
    async def abort(self, by: str, reason: str, *, revision: int | None = None) -> Rollout:
        """Put everybody on V1 and end the rollout for good."""
        self._must_be_at(revision)
        self._must_allow(e.Aborted)
        if self.rollout.state is not State.PENDING:
            await self._roll_back_now(RollBack(trigger="person", reason=f"abort: {reason or 'by hand'}"), by=by)
        async with self._acting:
            self._must_not_be_fenced()
            await self._journal.record(e.Aborted(at=self._now(), by=by, reason=reason))
            await self._assert_wanted()
            return self.rollout

    @_traced
    async def retry(self, phase: str | None, by: str, reason: str, *, revision: int | None = None) -> Rollout:
        """Start again after a rollback, in the phase it happened in or the one named; evidence begins anew."""
        async with self._acting:
            self._must_not_be_fenced()
            self._must_be_at(revision)
            self._must_allow(e.Retried)
            index = self.rollout.phase if phase is None else self._phase_index(phase)
            if index > self.rollout.phase:
                reached = self.plan.phases[self.rollout.phase].name
                raise ConflictError(f"phase {phase} was never reached; retry {reached} or an earlier one")
            await self._confirm_rollback()
            now, name = self._now(), self.plan.phases[index].name
            self._closed_ticks()  # they belong to the attempt before
            await self._journal.record(e.Retried(at=now, phase=index, name=name, by=by, reason=reason))
            self._evidence = self._begin_evidence(index, now)
            await self._assert_wanted()
            return self.rollout

    async def _confirm_rollback(self) -> None:
        """Have every node say that everyone is on V1, and that nobody has thrown a switch since it was recorded."""
        if self.rollout.applied_generation != self.rollout.generation:
            await self._assert_wanted()
        self.nodes = await self._parts.proxy.observe()
        if await self._found_rolled_back():
            raise ConflictError("somebody has just rolled back at the proxy itself; look, and ask again")

    def _must_be_at(self, revision: int | None) -> None:
        """Raise ChangedError where a person has seen another revision than the present one."""
        if revision is not None and revision != self.rollout.revision:
            raise ChangedError(
                f"the rollout is at revision {self.rollout.revision}, not {revision}; look again, and ask again"
            )

    def _must_be_approved(self, person: str) -> None:
        phase, given = self.plan.phases[self.rollout.phase], self.rollout.approvals
        if missing := approvals_missing(phase, self.rollout, person):
            known = ", ".join([*given.values(), *([] if person in given else [person])])
            raise ConflictError(
                f"leaving {phase.name} is for several people to approve: besides {known} "
                f"{missing} more must, with: crossfade approve {self.rollout.name}"
            )

    def _must_allow(self, event: type[e.Event]) -> None:
        if not allowed(self.rollout.state, event):
            raise ConflictError(refusal(self.rollout.state, event))

    def _phase_index(self, name: str) -> int:
        try:
            return self.plan.phase_index(name)
        except KeyError:
            names = ", ".join(phase.name for phase in self.plan.phases)
            raise UsageError(f"there is no phase {name!r}; the plan has {names}") from None

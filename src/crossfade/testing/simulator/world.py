"""The simulated world: one clock, one proxy, one store, users and people, and what goes wrong."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random  # noqa: TID251 - seeded: a run is its seed
from types import MappingProxyType

from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.evidence.watch import USUAL_TICK_S
from crossfade.core.machine import State
from crossfade.core.plan import HOUR, WEEK, Plan
from crossfade.core.split import NOBODY, Version
from crossfade.engine.controller import Controller
from crossfade.errors import StoreError, UnreachableError
from crossfade.ports import NodeState, ProxyState
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.simulator import weather
from crossfade.testing.simulator.api import VIEWER, Answer
from crossfade.testing.simulator.current import current
from crossfade.testing.simulator.plan import PLAN, USERS
from crossfade.testing.simulator.process import LEASE_S, Process
from crossfade.testing.simulator.trace import Trace
from crossfade.testing.simulator.watch import HONEST, LIVES, Watch
from crossfade.testing.store import MemoryStore

TICK_S = 12 * HOUR
"""Of plan time, in one tick."""
SPEED = TICK_S / USUAL_TICK_S
WEEKS = 8
FAULTY_S = WEEKS * WEEK / SPEED
"""Real seconds with faults."""
CALM_S = 150.0
"""Real seconds without, at the end."""
_QUARTER_S = USUAL_TICK_S / 4
_REQUESTS = (750, 1500)
"""In a quarter of a tick, at quiet times and at others: V1 alone can take what all ask at the quiet ones."""
_QUIET_S = 150.0
"""Real seconds of quiet times, and of those between."""
_TAKEOVER_S = 2 * LEASE_S + 1.0
"""Real seconds after which somebody else leads, the calls of their start included."""
_SETTLE_S = 30.0
"""Real seconds after which a change of the proxy, or a drill, that has begun is over."""
_OPEN = 20.0
"""How much more likely a process is killed between two steps of a change of the proxy than at other calls."""
_HEALTHY = 0.002
"""Chance that an answer fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """Who plays: the real controller and the shipped fakes, or ones that break a rule on purpose."""

    controller: type[Controller] = Controller
    proxy: type[FakeProxy] = FakeProxy
    store: type[MemoryStore] = MemoryStore


@dataclass(slots=True)
class _Traffic:
    """The tick that is being filled."""

    number: int
    cells: dict[Arm, Cell] = field(default_factory=dict)


class World:
    """One run; `live` is the whole of it."""

    def __init__(self, seed: int, *, cast: Cast, trace: int | None = None) -> None:
        self.plan: Plan = PLAN
        self.cast = cast
        self.random = Random(seed)  # noqa: S311 - a run is its seed
        self.clock = ManualClock(speed=SPEED)
        self.trace = Trace(self.clock) if trace is None else Trace(self.clock, keep=trace or None)
        self.over = asyncio.Event()
        self.weather = weather.draw(self.random)
        self.raging: set[str] = set()
        """Kinds of fault that last just now."""
        self.proxy = cast.proxy(cohorts=tuple(PLAN.assignment.cohorts), rule=PLAN.assignment)
        self.proxy.between = self._between
        self.store = cast.store()
        self.processes: list[Process] = []
        self.noted = ""
        """Who led last from this machine."""
        self.watch = Watch(self)
        self._claim: Process | None = None
        self._number = 0
        self._asks = 0
        self._calm = False
        self._mistake: BaseException | None = None
        self._defect = 0.0
        self._outage = 0.0
        self._traffic: _Traffic | None = None
        self._shown: list[NodeState] = []
        """What the proxy said last, before it began to answer stale."""

    def say(self, who: str, what: str) -> None:
        """Add a line to the trace."""
        self.trace.say(who, what)

    # ── what the processes meet ─────────────────────────────────────────────────────────────────────────

    def delay(self, what: str) -> float | None:
        """Return how long a call takes; None: nobody else comes in between."""
        roll = self.random.random()
        if "store slow" in self.raging and "store" in what and roll < 0.5:
            return self.random.uniform(0.1, 8.0)
        if roll < 0.6:
            return None
        return 0.0 if roll < 0.8 else self.random.expovariate(50.0)

    def kills(self, danger: float) -> bool:
        """Tell whether the process that asks is killed here; `danger` says how much more likely than elsewhere."""
        killed = self.weather.killed * danger
        return not self._calm and killed > 0 and self.random.random() < killed

    def before(self, part: str) -> None:
        """Raise what a call meets on its way there."""
        if part != "store" or self._calm:
            return
        if "store down" in self.raging:
            raise UnreachableError("the store does not answer (on purpose)")
        if self.random.random() < self.weather.refused:
            raise StoreError("the disk is full (on purpose)")

    def unheard(self) -> bool:
        """Tell whether the reply to a write is lost."""
        return not self._calm and self.random.random() < self.weather.unheard

    def stale(self, nodes: Sequence[NodeState]) -> Sequence[NodeState]:
        """Return what the proxy answers: the truth, or what it said before."""
        if "proxy stale" in self.raging and self._shown:
            return self._shown
        self._shown = list(nodes)
        return nodes

    async def _between(self, what: str) -> None:
        """Stand between two steps of the proxy's."""
        process = current.get()
        self.watch.look(process)
        if not self._calm and self.random.random() < self.weather.overtaken:
            self.say("world", f"switch, before {what}")
            await self._throw()
        await process.point(f"the moment before {what}", _OPEN)

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────

    async def live(self) -> None:
        """Eight weeks with faults, then some minutes without; raises BrokenError where a rule was."""
        self.say("world", str(self.weather))
        await self.store.open()
        everything = [
            self._serve_users(),
            self._supervise(),
            self._ask_for_verbs(),
            self._spoil(self.weather.defects, "V2 is broken", self._break_v2),
            self._spoil(self.weather.outages, "both are down", self._break_both),
            *(self._rage(kind, gap, length) for kind, (gap, length) in self.weather.storms.items()),
            *(self._strike(kind, gap) for kind, gap in self.weather.blows.items()),
        ]
        tasks = [asyncio.get_running_loop().create_task(one) for one in everything]
        for task in tasks:
            task.add_done_callback(self._ended)
        try:
            await self._until(FAULTY_S)
            for task in tasks[1:]:
                task.cancel()
            await self._go_on_in_calm()
        finally:
            for task in tasks:
                task.cancel()
            for process in self.living:  # in their order: the loop would end them in any
                process.die("the run ends")

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Have a mistake in the simulator itself end the run."""
        if not task.cancelled() and task.exception() is not None:
            self._mistake = task.exception()
            self.over.set()

    async def _until(self, seconds: float) -> None:
        """Let time pass, and raise what was broken meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self.over.wait()
        except TimeoutError:
            self.watch.look()
        if self._mistake is not None:
            raise self._mistake
        if self.watch.first is not None:
            raise self.watch.first

    async def _pause(self, mean: float) -> None:
        await asyncio.sleep(self.random.expovariate(1 / mean))

    @property
    def living(self) -> list[Process]:
        """Return the processes that are alive, the oldest first."""
        return [process for process in self.processes if process.alive]

    def start_process(self) -> Process:
        """Start a controller, as an administrator or a supervisor does."""
        self._number += 1
        process = Process(self, f"c{self._number}")
        self.processes = [*self.living, process]
        self.say(process.name, "is started")
        process.begin()
        return process

    async def _supervise(self) -> None:
        """Start a controller again some seconds after the last one died, and end those that are too many."""
        while True:
            if not self.living:
                self.start_process()
            if len(self.living) > 3:
                await self.living[0].end()
            await self._pause(4.0)

    def claimed(self, process: Process) -> str:
        """Return who led from this machine and lives no more, where nobody alive has its claim but `process`."""
        if not self.weather.one_machine:
            return ""
        if self._claim is None or not self._claim.alive:
            self._claim = process
        if self._claim is not process or self.noted in ("", process.name):
            return ""
        return self.noted

    # ── users ───────────────────────────────────────────────────────────────────────────────────────────

    async def _serve_users(self) -> None:
        """Have users answered by the version that the proxy really gives them, and close ticks."""
        while True:
            await asyncio.sleep(_QUARTER_S)
            if not self.proxy.answers or self.raging & {"proxy refuses", "proxy ignores"} or not self._somebody_acts:
                self.watch.unable()
            self.watch.look()
            number = int(self.clock.now() // TICK_S)
            if self._traffic is not None and number != self._traffic.number:
                self._close(self._traffic)
                self._traffic = None
            self._traffic = self._traffic or _Traffic(number)
            cells = self._answer() if self.proxy.running else {}
            for arm, cell in cells.items():
                self._traffic.cells.setdefault(arm, Cell()).add(cell)
            recent = Tick(number=1, start=0.0, length=_QUARTER_S, cells=cells, sources=frozenset({"c"}))
            for process in self.living:
                process.telemetry.recent_tick = recent
                if "telemetry lost" not in self.raging:
                    process.telemetry.given.update({arm.version: self.clock.now() for arm in cells})

    @property
    def _somebody_acts(self) -> bool:
        return any(process.ready and process.acts and not process.stopped for process in self.living)

    def _answer(self) -> dict[Arm, Cell]:
        """Return a quarter of a tick's requests: every user sends as many as any other."""
        cells = {}
        busy = _REQUESTS[int(self.clock.monotonic() // _QUIET_S) % 2 == 0]
        for (cohort, version), count in sorted(self.watch.served.items()):
            requests = busy * count // len(USERS)
            broken = self._defect if version is Version.V2 else 0.0
            failures = self._draw(requests, max(_HEALTHY, broken, self._outage))
            hurt = {self.random.randrange(10**9) for _ in range(min(failures, 12))}
            cells[Arm(version, "", cohort)] = Cell(requests=requests, failures=failures, failing_users=hurt)
        return cells

    def _draw(self, n: int, p: float) -> int:
        """Return how many of `n` fail: a binomial draw, by the normal where that is near enough."""
        if n * p * (1 - p) < 9:
            return sum(self.random.random() < p for _ in range(n)) if p > 0.5 else self._few(n, p)
        return min(n, max(0, round(self.random.gauss(n * p, math.sqrt(n * p * (1 - p))))))

    def _few(self, n: int, p: float) -> int:
        """Return a binomial draw by the gaps between failures, which are geometric."""
        count, at = 0, 0
        while (at := at + int(math.log(1.0 - self.random.random()) / math.log(1.0 - p)) + 1) <= n:
            count += 1
        return count

    def _close(self, traffic: _Traffic) -> None:
        """Give a tick to every collector that listens; one that the clock has put into the past is late."""
        heard = frozenset() if "telemetry lost" in self.raging else frozenset({"c"})
        tick = Tick(
            number=traffic.number,
            start=traffic.number * TICK_S,
            length=TICK_S,
            cells=traffic.cells if heard else {},
            sources=heard,
        )
        for process in self.living:
            if process.telemetry.last is None or tick.number > process.telemetry.last:
                process.telemetry.feed(replace(tick))

    async def _spoil(self, gap: float, what: str, act: Callable[[bool], None]) -> None:
        while True:
            await self._pause(gap)
            self.say("world", what)
            act(True)
            await self._pause(60.0)
            self.say("world", f"{what}: over")
            act(False)

    def _break_v2(self, bad: bool) -> None:
        self._defect = self.random.choice((0.03, 0.2, 1.0)) if bad else 0.0

    def _break_both(self, bad: bool) -> None:
        self._outage = self.random.choice((0.2, 1.0)) if bad else 0.0

    # ── people ──────────────────────────────────────────────────────────────────────────────────────────

    async def _ask_for_verbs(self) -> None:
        while True:
            await self._pause(self.weather.hasty / (4 if self.watch.rollout.state is State.ROLLED_BACK else 1))
            await self._ask(*self._choose(), matched=self.random.random() < 0.6)

    def _reached(self) -> Process | None:
        """Return whose API somebody asks: the leader's most of the time; None where nobody listens."""
        ready = [process for process in self.living if process.ready]
        leaders = [process for process in ready if process.acts]
        return self.random.choice(leaders if leaders and self.random.random() < 0.7 else ready) if ready else None

    def _choose(self) -> tuple[str, str | None]:
        """Return a verb that fits the rollout's state most of the time, and a phase for a retry."""
        state = self.watch.rollout.state
        fitting = {
            State.RUNNING: "promote promote promote pause approve approve drill drill rollback",
            State.PAUSED: "resume resume approve rollback",
            State.DRILLING: "pause promote rollback drill",
            State.ROLLED_BACK: "retry retry retry",
            State.COMPLETED: "retire retire retire rollback pause",
            State.RETIRING: "rollback pause retire",
            State.RETIRED: "rollback abort retry",
        }.get(state, "")
        any_other = "promote pause resume approve rollback drill retry retire"
        verbs = (fitting if fitting and self.random.random() < 0.85 else any_other).split()
        verb = "abort" if self.random.random() < 0.004 else self.random.choice(verbs)
        names = [phase.name for phase in self.plan.phases]
        return verb, self.random.choice(names) if verb == "retry" and self.random.random() < 0.5 else None

    async def _ask(self, verb: str, phase: str | None = None, *, matched: bool = False) -> Answer | None:
        """Ask for a verb as a client does; one that gets no answer, or one that is none, asks again with its key.

        One that is `matched` says which revision it has seen, and dares to ask another process.
        """
        self._asks += 1
        by, base = f"ada-{self._asks}", f"/api/v1/rollouts/{self.plan.name}"
        process, headers = self._reached(), {"idempotency-key": by}
        if process is None:
            return None
        body = {"by": by, "reason": "", **({} if phase is None else {"phase": phase})}
        if matched:
            seen = await self._answered(process, base)
            if seen is None or not seen.done:
                return seen
            headers["if-match"] = seen.headers["etag"]
        for _ in range(3):
            self.say(by, f"asks {process.name} to {verb} {phase or ''}".rstrip())
            answer = await self._answered(process, f"{base}/{verb}", headers, body)
            self.say(by, f"hears {'nothing' if answer is None else answer.words}")
            if answer is not None and answer.status < 500:
                return answer
            await self._pause(2.0)
            if not process.alive:
                other = self._reached() if matched else None
                if other is None:
                    return answer
                process = other
        return answer

    async def _answered(
        self,
        process: Process,
        path: str,
        headers: Mapping[str, str] = MappingProxyType({}),
        body: Mapping[str, str] | None = None,
    ) -> Answer | None:
        """Return what came back of one request; None where nothing did."""
        answer = await process.answer(path, headers, body)
        if answer is None or (not self._calm and self.random.random() < self.weather.unanswered):
            return None
        if answer.status in (401, 403, 404, 422, 500) and "there is no phase" not in answer.words:
            self.watch.broken(HONEST, f"{process.name} answered at {path}: {answer.words}")
        return answer

    # ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────

    async def _rage(self, kind: str, gap: float, length: float) -> None:
        """Have a fault begin and end again and again."""
        while True:
            await self._pause(gap)
            self._set(kind, on=True)
            await self._pause(length)
            self._set(kind, on=False)

    def _set(self, kind: str, *, on: bool) -> None:
        self.say("world", f"{kind}{'' if on else ': over'}")
        (self.raging.add if on else self.raging.discard)(kind)
        if kind.startswith("proxy"):
            self.watch.unable()
        faults = self.proxy.faults
        faults.refuse = "on purpose" if "proxy refuses" in self.raging else ""
        faults.forget = "proxy ignores" in self.raging
        faults.unreachable = "proxy unreachable" in self.raging

    async def _strike(self, kind: str, gap: float) -> None:
        """Have a fault happen again and again."""
        while True:
            await self._pause(gap)
            self.say("world", kind)
            await self._blow(kind)
            self.watch.look()

    async def _blow(self, kind: str) -> None:
        victim = self.random.choice(self.living) if self.living else None
        match kind:
            case "proxy restarts":
                await self._restart_proxy()
            case "proxy forgets":
                self._forget()
            case "clock steps":
                self.clock.step(self.random.choice((-1, 1)) * self.random.choice((0.1, 3.0, 30.0)))
            case "kill" if victim is not None:
                victim.die("killed")
            case "stop" if victim is not None:
                await self._stop(victim)
            case "rival":
                self.start_process()
            case "switch":
                await self._throw()
            case "gives up":
                self._give_up()

    async def _restart_proxy(self) -> None:
        self.proxy.crash()
        while not self.proxy.running:
            self.watch.unable()
            await self._pause(3.0)
            if not self.proxy.faults.refuse:
                await self.proxy.start()
        self.watch.unable()

    def _forget(self) -> None:
        """Have the proxy lose the split from its memory, as after a change by hand; the generation stays."""
        if self.proxy.answers and not self.proxy.memory.killed:
            memory = self.proxy.memory
            self.proxy.memory = ProxyState(generation=memory.generation, split=NOBODY, retired=memory.retired)
            self.proxy.history.append(self.proxy.memory)

    async def _stop(self, victim: Process) -> None:
        self.say(victim.name, "stands still")
        victim.stop()
        self.watch.unable()
        await self._pause(30.0)
        self.watch.unable()
        self.say(victim.name, "goes on")
        victim.go_on()

    async def _throw(self) -> None:
        """Throw the rollback switch at the proxy itself, as `crossfade rollback --direct` does."""
        nodes = await FakeRollback(self.proxy).rollback()
        if all(node.reachable and node.state and node.state.killed for node in nodes):
            self.watch.look()
            self.watch.thrown()

    def _give_up(self) -> None:
        """Have the proxy put everyone on V1 by itself, as one does that nobody has looked after."""
        if self.proxy.answers and not self.proxy.memory.retired:
            self.proxy.give_up()
            self.watch.look()
            self.watch.thrown()

    # ── afterwards ──────────────────────────────────────────────────────────────────────────────────────

    async def _go_on_in_calm(self) -> None:
        """End all faults, start a fresh controller, and see that it does what it is there for."""
        self._calm = True
        for kind in sorted(self.raging):
            self._set(kind, on=False)
        self._defect = self._outage = 0.0
        self.say("world", "all faults are over")
        for process in self.living:
            process.go_on()
        await self.proxy.start()
        for _ in range(2):
            self.start_process()
            await self._until(CALM_S / 5)
        leader = self._only_leader()
        before = leader.controller.last_tick
        self._forget()
        await self._until(CALM_S / 2)
        if before is None or (leader.controller.last_tick or 0) <= before:
            self.watch.broken(LIVES, f"no evidence came after tick {before}")
        await self._must_be_as_wanted()
        leader = self._only_leader()
        leader.die("the last fault")
        await self._until(_TAKEOVER_S)
        self._only_leader()
        await self._until(CALM_S / 5)
        await self._must_be_as_wanted()
        await self._must_obey()
        if self.watch.first is not None:
            raise self.watch.first

    def _only_leader(self) -> Process:
        acting = [process for process in self.living if process.acts]
        if len(acting) != 1:
            names, found = [process.name for process in self.living], [process.name for process in acting]
            self.watch.broken(LIVES, f"of {names} these act: {found}")
            raise self.watch.first or AssertionError
        return acting[0]

    async def _must_be_as_wanted(self) -> None:
        rollout = self.watch.rollout
        if rollout.state is State.DRILLING or rollout.applied_generation != rollout.generation:  # begun this moment
            await self._until(_SETTLE_S)
            rollout = self.watch.rollout
        wanted = (rollout.generation, rollout.wanted_killed, rollout.wanted_split(self.plan))
        has = (self.proxy.memory.generation, self.proxy.memory.killed, self.proxy.memory.split)
        if rollout.state is State.RETIRING:
            self.watch.broken(LIVES, "a retirement does not end")
        if has[1:] != wanted[1:] and not (has[1] and wanted[1]):
            self.watch.broken(LIVES, f"the proxy has {has}, the history wants {wanted}")
        if rollout.applied_generation != rollout.generation:
            self.watch.broken(LIVES, f"generation {rollout.generation} is not recorded as applied")
        if rollout.state is State.DRILLING:
            self.watch.broken(LIVES, "a drill does not end")

    async def _must_obey(self) -> None:
        """Check that verbs work, as far as the rollout's state allows one, and that nobody's else's do."""
        if self.watch.rollout.state is State.COMPLETED and self.random.random() < 0.5:
            await self._ask_leader("retire")  # as the gates allow
            await self._must_be_as_wanted()
        verbs = {
            State.RUNNING: ("pause", "resume", "rollback", "retry"),
            State.PAUSED: ("resume", "pause"),
            State.ROLLED_BACK: ("retry", "pause"),
            State.COMPLETED: ("rollback", "retry"),
            State.RETIRING: (),
        }
        for verb in verbs.get(self.watch.rollout.state, ()):
            answer = await self._ask_leader(verb)
            if answer is None or not answer.done:
                self.watch.broken(LIVES, f"{verb} is not done: {answer and answer.words}")
                return
        if self.watch.rollout.state is State.RUNNING:
            await self._must_end_a_drill()
        for state, verb in ((State.ABORTED, "retry"), (State.RETIRED, "rollback")):
            if self.watch.rollout.state is state:
                answer = await self._ask_leader(verb)
                if answer is None or answer.done:
                    self.watch.broken(HONEST, f"after it was {state} this was done: {verb}")
        if self.watch.rollout.state is State.RETIRED:
            self.proxy.crash()
            await self.proxy.start()
            self.watch.look()
        refused = await self._only_leader().answer(
            f"/api/v1/rollouts/{self.plan.name}/rollback", {}, {"by": "eve", "reason": ""}, secret=VIEWER
        )
        if refused is None or refused.status != 403:
            self.watch.broken(HONEST, f"a viewer asked for a rollback and heard {refused and refused.words}")

    async def _ask_leader(self, verb: str) -> Answer | None:
        for process in [process for process in self.living if not process.acts]:
            process.die("the end")
        return await self._ask(verb)

    async def _must_end_a_drill(self) -> None:
        answer = await self._ask_leader("drill")
        if answer is None or not answer.done:
            return  # not enough is known for one yet
        await self._until(_SETTLE_S)
        if self.watch.rollout.state is not State.RUNNING:
            self.watch.broken(LIVES, f"a drill led to {self.watch.rollout.state}")
        await self._must_be_as_wanted()

"""A controller's process in the simulated world: every call it makes may be its last, and the dead do nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from crossfade.core.evidence.sums import Tick
from crossfade.core.plan import WEEK
from crossfade.core.split import Version
from crossfade.engine.controller import Controller, Pace, Parts
from crossfade.engine.leadership import Leading
from crossfade.engine.lease import LeaseKeeper
from crossfade.errors import CrossfadeError, UnreachableError
from crossfade.ports import Proxy, RollbackSwitch, Store, StoredEvent
from crossfade.testing.proxy import FakeRollback
from crossfade.testing.simulator.api import LOCAL, Answer, request, served_by
from crossfade.testing.simulator.current import current
from crossfade.testing.telemetry import FakeTelemetry

if TYPE_CHECKING:
    from crossfade.testing.simulator.world import World

PACE = Pace(look_s=2.5, observe_s=10.0, gross_s=(1.0,))
"""Coarser than in production, so that eight weeks take half a second."""
PATIENCE_S = 30.0
"""For how long people wait for an answer."""
LEASE_S = 5.0
"""As by default."""
_END_S = 5.0
"""For how long an administrator waits until a process has ended by itself."""


class Killed(BaseException):
    """The process was killed at this point; nothing may catch it."""


class PlantedError(Exception):
    """What telemetry raises on purpose, and no code of ours."""


class Process:
    """One life of a `serve`; `die`, `stop` and `go_on` are SIGKILL, SIGSTOP and SIGCONT."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.alive = True
        self.ready = False
        """Whether it has started; before, its API doesn't listen."""
        self.world = world
        self.telemetry = _Collector(self)
        self.clock = _OwnClock(self)
        self._going = asyncio.Event()
        self._going.set()
        self._ending = False
        self._tasks: list[asyncio.Task[Any]] = []
        store = cast("Store", _Wire(self, "store", world.store))
        lease = LeaseKeeper(
            store, self.clock, rollout=world.plan.name, holder=name, address=f"http://{name}", lasts_s=LEASE_S
        )
        self.parts = Parts(
            store=store,
            proxy=cast("Proxy", _Wire(self, "proxy", world.proxy)),
            switch=cast("RollbackSwitch", _Wire(self, "switch", FakeRollback(world.proxy))),
            telemetry=self.telemetry,
            clock=self.clock,
            lease=lease,
        )
        self.controller: Controller = world.cast.controller(world.plan, self.parts, pace=PACE, listeners=[self._told])
        self.leading = _Leading(
            process=self, controller=self.controller, lease=lease, store=store, clock=self.clock, keep_s=WEEK
        )
        self.served = served_by(self)

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """Start as `crossfade serve` does."""
        self._life = self._spawn(self._live())

    async def _live(self) -> None:
        try:
            await self.parts.store.open()
            await self.leading.begin()
            self.ready = True
            self.world.say(self.name, "serves")
            await self.leading.run()
        except CrossfadeError as error:
            self.world.say(self.name, f"ends: {error}")
        finally:
            if not self._ending:
                self.die("it ended")

    async def end(self) -> None:
        """End as after SIGTERM, and as after SIGKILL where that takes too long."""
        self._ending = True
        self._life.cancel()
        await asyncio.wait({self._spawn(self.leading.release())}, timeout=_END_S)
        self.die("an administrator ended it")

    @property
    def acts(self) -> bool:
        """Tell whether it leads, as far as it knows."""
        return self.leading.leads and self.controller.fenced is None

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        async def within() -> None:
            current.set(self)
            await work

        task = asyncio.get_running_loop().create_task(within())
        self._tasks = [one for one in self._tasks if not one.done()] + [task]
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        for one in error.exceptions if isinstance(error, BaseExceptionGroup) else (error,):
            if one is not None and not isinstance(one, (Killed, CrossfadeError)):
                self.world.watch.broken("no look meets what nobody thought of", f"{self.name}: {one!r}")

    def die(self, why: str) -> None:
        """End everything of this process at once; nothing that it still does has an effect."""
        if not self.alive:
            return
        self.alive = self.ready = False
        self.world.say(self.name, f"dies: {why}")
        self._going.set()
        for task in self._tasks:
            task.cancel()

    @property
    def stopped(self) -> bool:
        """Tell whether it stands still."""
        return not self._going.is_set()

    def stop(self) -> None:
        """Stand still at the next call, as after SIGSTOP."""
        self._going.clear()

    def go_on(self) -> None:
        """Go on, as after SIGCONT."""
        self._going.set()

    # ── calls ───────────────────────────────────────────────────────────────────────────────────────────

    async def answer(
        self, path: str, headers: Mapping[str, str], body: Mapping[str, str] | None = None, *, secret: str = LOCAL
    ) -> Answer | None:
        """Answer a GET, or a POST where it has a body; None where whoever asked has waited in vain."""
        answered: list[Answer] = []

        async def asked() -> None:
            await self.point("a request")
            answered.append(await request(path, headers, body, secret=secret))
            if body is not None and answered[0].done:
                self.world.watch.answered(self, path.rsplit("/", 1)[-1], body["by"])

        await asyncio.wait({self._spawn(asked())}, timeout=PATIENCE_S)
        return answered[0] if answered and self.alive else None

    async def point(self, what: str, danger: float = 1.0) -> None:
        """Be somewhere between two awaits: others may go first, and here this process may be killed."""
        self._must_live()
        world = self.world
        delay = world.delay(what)
        if delay is not None:
            await asyncio.sleep(delay)
        await self.stand()
        if world.kills(danger):
            self.die(f"killed at {what}")
            raise Killed

    async def stand(self) -> None:
        """Stand still for as long as the process is stopped: its own timers don't wake it either."""
        cancelled = False
        while not self._going.is_set():
            try:
                await self._going.wait()
            except asyncio.CancelledError:
                cancelled = True
        self._must_live()
        if cancelled:
            raise asyncio.CancelledError

    def _must_live(self) -> None:
        if not self.alive:
            raise Killed

    async def call(self, part: str, name: str, act: Callable[[], Awaitable[Any]]) -> Any:
        """Make one call to the outside."""
        world, what = self.world, f"{part}.{name}"
        await self.point(f"the call of {what}")
        world.before(part)
        try:
            result = await act()
        except CrossfadeError as error:
            world.say(self.name, f"{what} raises {type(error).__name__}: {error}")
            world.watch.look(self)
            raise
        world.say(self.name, what)
        world.watch.look(self if what != "proxy.start" else None)  # what it comes up with is the proxy's own
        await self.point(f"the reply of {what}")
        if part == "store" and name in {"append", "save_ticks", "save_look"} and world.unheard():
            world.say(self.name, f"the reply of {what} is lost")
            raise UnreachableError("the store's reply was lost")
        return world.stale(result) if what == "proxy.observe" else result

    def _told(self, event: StoredEvent) -> None:
        self._must_live()
        self.world.say(self.name, f"#{event.revision} {event.kind} {event.data.get('by') or ''}".rstrip())
        self.world.watch.told(self, event)


class _Wire:
    """What a process has in its hands of an outside thing: each call passes the process's points."""

    def __init__(self, process: Process, part: str, target: object) -> None:
        self._process = process
        self._part = part
        self._target = target

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not inspect.iscoroutinefunction(found):
            return found

        async def call(*arguments: Any, **more: Any) -> Any:
            return await self._process.call(self._part, name, lambda: found(*arguments, **more))

        setattr(self, name, call)
        return call


class _OwnClock:
    """Keeps `ports.Clock`: the world's, as one process sees it. Whoever is stopped sleeps on."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._clock = process.world.clock
        self.speed = self._clock.speed
        self.now = self._clock.now
        self.monotonic = self._clock.monotonic
        self.plan_time = self._clock.plan_time

    async def sleep(self, real_seconds: float) -> None:
        """Wait."""
        await self._clock.sleep(real_seconds)
        await self._process.stand()


@dataclass(slots=True, kw_only=True)
class _Leading(Leading):
    """What a leader opens here."""

    process: Process

    def predecessor(self) -> str:
        """Return who led from this machine before and lives no more."""
        return self.process.world.claimed(self.process)

    async def open(self) -> None:
        """Listen."""
        self.process.world.noted = self.process.name
        FakeTelemetry.closed_ticks(self.process.telemetry)  # those from before we listened are another's
        self.process.world.say(self.process.name, f"leads, generation {self.lease.generation}")

    async def shut(self) -> None:
        """Let go of the proxy."""
        await self.process.parts.proxy.close()


class _Collector(FakeTelemetry):
    """Telemetry that is late, comes twice and raises where the weather says so."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.lateness_s = 0.5
        self._process = process
        self._last_given: Sequence[Tick] = ()

    def closed_ticks(self) -> Sequence[Tick]:
        """Return the ticks as the weather lets them through."""
        raging = self._process.world.raging
        if "telemetry raises" in raging:
            raise PlantedError
        if "telemetry late" in raging:
            return ()
        ticks = super().closed_ticks()
        if "telemetry doubled" in raging:
            ticks = [*self._last_given, *ticks]
        self._last_given = ticks
        return ticks

    def recent(self, seconds: float) -> Tick:
        """Return what ended just now."""
        if "telemetry raises" in self._process.world.raging:
            raise PlantedError
        return super().recent(seconds)

    def last_given(self) -> Mapping[Version, float]:
        """Return when the latest request started that each version was given."""
        if "telemetry raises" in self._process.world.raging:
            raise PlantedError
        return super().last_given()

"""A controller's process in the simulated world: every call it makes may be its last, and the dead do nothing."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, cast

from crossfade.core.evidence.sums import Tick
from crossfade.engine.controller import Controller, Pace, Parts
from crossfade.errors import CrossfadeError, UnreachableError
from crossfade.ports import Proxy, RollbackSwitch, Store, StoredEvent
from crossfade.testing.proxy import FakeRollback
from crossfade.testing.telemetry import FakeTelemetry

if TYPE_CHECKING:
    from crossfade.testing.simulator.world import World

PACE = Pace(look_s=2.5, observe_s=10.0, gross_s=(1.0,))
"""Coarser than in production, so that eight weeks take half a second."""
PATIENCE_S = 30.0
"""For how long people wait for an answer."""

current: ContextVar[Process] = ContextVar("process")
"""Whose code is running."""


class Killed(BaseException):
    """The process was killed at this point; nothing may catch it."""


class PlantedError(Exception):
    """What telemetry raises on purpose, and no code of ours."""


class Front(Protocol):
    """How people reach a process: straight to its controller, or through its API."""

    async def __call__(self, process: Process, verb: str, by: str, phase: str | None) -> None:
        """Ask for a verb; raises CrossfadeError where it is refused."""


async def directly(process: Process, verb: str, by: str, phase: str | None) -> None:
    """Ask the controller itself."""
    if verb == "retry":
        await process.controller.retry(phase, by, "")
    else:
        await getattr(process.controller, verb)(by, "")


class Process:
    """One life of a controller with its telemetry; `kill` ends it, `stop` and `go_on` are SIGSTOP and SIGCONT."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.alive = True
        self.ready = False
        """Whether it has started; before, its API doesn't listen."""
        self.world = world
        self.telemetry = _Collector(self)
        self._going = asyncio.Event()
        self._going.set()
        self._tasks: list[asyncio.Task[Any]] = []
        parts = Parts(
            store=cast("Store", _Wire(self, "store", world.store)),
            proxy=cast("Proxy", _Wire(self, "proxy", world.proxy)),
            switch=cast("RollbackSwitch", _Wire(self, "switch", FakeRollback(world.proxy))),
            telemetry=self.telemetry,
            clock=world.clock,
        )
        self.parts = parts
        self.controller: Controller = world.cast.controller(world.plan, parts, pace=PACE, listeners=[self._told])

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self) -> None:
        """Start as `crossfade serve` does."""
        self._spawn(self._live())

    async def _live(self) -> None:
        try:
            await self.parts.store.open()
            await self.controller.start()
            self.ready = True
            self.world.say(self.name, "serves")
            await self.controller.run()
        except CrossfadeError as error:
            self.world.say(self.name, f"ends: {error}")
        finally:
            self.die("it ended")

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

    async def ask(self, verb: str, by: str, phase: str | None = None) -> str | None:
        """Ask for a verb as a person does; return "" where it was done, what was said otherwise, None for no answer."""
        said: list[str] = []

        async def asked() -> None:
            try:
                await self.world.front(self, verb, by, phase)
                said.append("")
            except CrossfadeError as error:
                said.append(str(error) or type(error).__name__)

        task = self._spawn(asked())
        await asyncio.wait({task}, timeout=PATIENCE_S)
        return said[0] if said and self.alive else None

    async def point(self, what: str, danger: float = 1.0) -> None:
        """Be somewhere between two awaits: others may go first, and here this process may be killed."""
        self._must_live()
        world = self.world
        delay = world.delay(what)
        if delay is not None:
            await asyncio.sleep(delay)
        while not self._going.is_set():
            await self._going.wait()
        self._must_live()
        if world.kills(danger):
            self.die(f"killed at {what}")
            raise Killed

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
        world.watch.look(self)
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

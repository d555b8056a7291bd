"""Running seeds: one, or many on all cores."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from crossfade.errors import CrossfadeError
from crossfade.testing.simulator import loop
from crossfade.testing.simulator.process import PlantedError
from crossfade.testing.simulator.watch import THOUGHT_OF, BrokenError
from crossfade.testing.simulator.world import Cast, World


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one seed."""

    seed: int
    digest: str
    """Of the whole trace: the same seed gives the same one."""
    lines: int
    events: int
    state: str
    rule: str = ""
    """The rule that was broken; empty where none was."""
    detail: str = ""
    last: tuple[str, ...] = ()
    """The trace's last lines, where a rule was broken."""

    def __str__(self) -> str:
        if not self.rule:
            return f"seed {self.seed}: {self.events} events, {self.lines} steps, {self.state}"
        return "\n".join([f"seed {self.seed}: BROKEN {self.rule}", f"  {self.detail}", *self.last])


def simulate(seed: int, *, cast: Cast | None = None, trace: int | None = None) -> Outcome:
    """Run one seed to its end, or to the first rule that is broken; `trace` lines are kept, 0 for all."""
    world = World(seed, cast=cast or Cast(), trace=trace)
    broken = None
    with _listening(world):
        try:
            loop.run(world.clock, world.live())
        except BrokenError as found:
            broken = found
    return Outcome(
        seed=seed,
        digest=world.trace.digest,
        lines=world.trace.count,
        events=len(world.watch.events),
        state=world.watch.rollout.state.value,
        rule=broken.rule if broken else "",
        detail=broken.detail if broken else "",
        last=tuple(world.trace.lines) if broken or trace is not None else (),
    )


def simulate_all(seeds: Iterable[int], *, workers: int | None = None) -> Iterator[Outcome]:
    """Run seeds on all cores; outcomes come in the seeds' order."""
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        yield from pool.map(simulate, seeds, chunksize=4)


class _Ears(logging.Handler):
    """Hears what the engine logs: an error that it did not expect is a rule broken."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.WARNING)
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        """Note one record."""
        self._world.say("log", record.getMessage())
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, (CrossfadeError, PlantedError)):
            self._world.watch.broken(THOUGHT_OF, repr(error))


@contextmanager
def _listening(world: World) -> Iterator[None]:
    """Hear the engine's log, and keep it from everybody else."""
    log, ears = logging.getLogger("crossfade"), _Ears(world)
    before = (log.level, log.propagate)
    log.addHandler(ears)
    log.setLevel(logging.WARNING)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(ears)
        log.setLevel(before[0])
        log.propagate = before[1]

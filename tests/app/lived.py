"""A rollout on the shipped fakes that has lived through some hours of traffic, with its meters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from tests.app.serving import PLAN

from crossfade.app.meters import Meters
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.plan import Plan
from crossfade.core.split import Version
from crossfade.engine.controller import Controller, Parts
from crossfade.engine.lease import LeaseKeeper
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

HOUR = 3600.0


def cell(rng: np.random.Generator, requests: int, version: Version) -> Cell:
    """Return an hour of one arm's requests, as the reference service answers them."""
    failures = int(rng.binomial(requests, 0.005))
    told = Cell(requests=requests, failures=failures, failing_users={int(u) for u in rng.integers(0, 2**60, failures)})
    for fact in ("flights", "hotels"):
        told.facts[fact] = Counter({"1": requests})
    told.facts["cache"] = Counter({"hit": requests // 2, "miss": requests - requests // 2})
    told.timings["db"] = (requests, 3.1 * requests)
    told.latency = Counter({int(bin_): 1 for bin_ in rng.integers(70, 100, 10)})
    if version is Version.V2:
        told.facts["weather"] = Counter({"fresh": requests})
        told.facts["weather-breaker"] = Counter({"closed": requests})
    return told


@dataclass
class Lived:
    """A controller and what stands behind it."""

    plan: Plan = PLAN
    regions: tuple[str, ...] = ("eu", "us")
    clock: ManualClock = field(default_factory=ManualClock)
    store: MemoryStore = field(default_factory=MemoryStore)
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    meters: Meters = field(init=False)
    controller: Controller = field(init=False)
    lease: LeaseKeeper = field(init=False)

    def __post_init__(self) -> None:
        proxy = FakeProxy(cohorts=tuple(self.plan.assignment.cohorts))
        self.meters = Meters(self.clock.monotonic)
        self.lease = LeaseKeeper(
            self.store, self.clock, rollout=self.plan.name, holder="here", address="http://here", lasts_s=1e9
        )
        self.controller = Controller(
            self.plan,
            Parts(
                store=self.store,
                proxy=proxy,
                switch=FakeRollback(proxy),
                telemetry=self.telemetry,
                clock=self.clock,
                lease=self.lease,
                probe=self.meters,
            ),
        )
        self._rng = np.random.default_rng(1)
        self._number = int(self.clock.now() // HOUR)

    async def begin(self, hours: int) -> Lived:
        """Start, enter the first phase with users, and live through some hours."""
        await self.store.open()
        assert await self.lease.look()
        await self.controller.start()
        await self.controller.promote("ada", "by hand")
        for _ in range(hours):
            await self.hour()
        return self

    async def hour(self, *, heard: bool = True) -> None:
        """Close an hour of traffic."""
        self._number += 1
        self.clock.move(max(0.0, (self._number + 1) * HOUR - self.clock.now()))
        cells = {}
        part = self.plan.phases[self.controller.rollout.phase].split.share_of("beta") / 10_000
        for region in self.regions:
            for version, share in ((Version.V1, 1 - part), (Version.V2, part)):
                arm = Arm(version, region, "beta")
                cells[arm] = cell(self._rng, int(self._rng.poisson(400 * share)), version)
        heard_of = {"cells": cells, "sources": frozenset("c")} if heard else {"cells": {}}
        self.telemetry.feed(Tick(number=self._number, start=self._number * HOUR, length=HOUR, **heard_of))  # type: ignore[arg-type]
        await self.controller.tick()

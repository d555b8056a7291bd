"""A fleet of 40 clients that leave V1 at their own pace, under the real controller: list, forecast and retirement."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from tests.simulation.test_controller_faults import PLAN
from tests.simulation.test_controller_retire import Retiring

from crossfade.app.clients import client_lines, standings, trend_of
from crossfade.core.clients.ledger import DAY, Calls, Client, Standing
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.machine import State
from crossfade.core.plan import ClientsRule, Gate, GateKind, Plan
from crossfade.core.split import Version
from crossfade.engine.controller import Controller
from crossfade.errors import ConflictError

HOUR = 3600.0
SILENT = Gate(kind=GateKind.NO_V1_REQUESTS, text="no v1 requests for 1d", for_s=DAY)
FULL = replace(PLAN.phases[-1], gates=(SILENT, *PLAN.phases[-1].gates), retires=True)
FLEET = replace(PLAN, phases=(*PLAN.phases[:-1], FULL), clients=ClientsRule(authenticated=True))


@dataclass
class Fleet(Retiring):
    """Everyone is on V2; clients that still know V1's paths are answered there by V2."""

    plan: Plan = FLEET
    moves: dict[str, float] = field(default_factory=dict)
    """Days after the beginning, by client."""
    begun: float = 0.0
    hours: int = 0

    async def begin(self, seed: int) -> Controller:
        draw = np.random.default_rng(seed)
        self.moves = {f"partner-{n:02}": float(draw.exponential(6)) for n in range(40)}
        await self.store.open()
        controller = self.controller()
        await controller.start()
        await controller.promote("ada", "")
        await controller.promote("ada", "")
        await controller.approve("ada", "")
        self.begun = (self.clock.now() // HOUR + 1) * HOUR
        return controller

    @property
    def day(self) -> float:
        return self.hours / 24

    async def live_until(self, day: float, controller: Controller) -> None:
        while self.day < day:
            start = self.begun + self.hours * HOUR
            old = [name for name, move in self.moves.items() if move > self.day]
            counts = {Client(name): [0, 3, 0, 0] if name in old else [0, 0, 0, 3] for name in self.moves}
            cells = {Arm(Version.V2, "", ""): Cell(requests=120, asked_v1=3 * len(old))}
            self.clock.move(max(0.0, start + HOUR - self.clock.now()))
            number = int(start // HOUR)
            sources = frozenset("c")
            self.telemetry.feed(
                Tick(number=number, start=start, length=HOUR, cells=cells, sources=sources, calls=Calls(counts))
            )
            await controller.tick()
            self.hours += 1

    def listed(self, controller: Controller) -> list[str]:
        assert controller.ledger is not None
        lines = client_lines(self.plan, controller.ledger, {}, self.clock.now(), still_on_v1=True)
        return [line["client"] for line in lines]

    def within_a_day(self) -> list[str]:
        """Return who has really asked for V1 within the last day, the last request being that before its move."""
        last = {name: np.ceil(move * 24) - 1 for name, move in self.moves.items()}
        return sorted(name for name, hour in last.items() if hour >= self.hours - 24)


async def retired(controller: Controller) -> State:
    """Retire V1; ConflictError where the gates don't let it."""
    await controller.retire("ada", "")
    return controller.rollout.state


@pytest.mark.parametrize("seed", [2, 3])
async def test_list_and_forecast_are_right_and_retirement_waits_for_the_last_client(seed: int) -> None:
    """How often the interval holds is counted in test_client_forecast, over many fleets."""
    world = Fleet()
    controller = await world.begin(seed)
    last = max(world.moves, key=world.moves.__getitem__)
    end = world.moves[last]
    for day in (2.0, 5.0, 9.0):
        await world.live_until(day, controller)
        assert world.listed(controller) == world.within_a_day()
        with pytest.raises(ConflictError, match="must be completed"):
            await retired(controller)
        controller = world.controller()  # the next one goes on with the ledger
        await controller.start()
    assert controller.ledger is not None
    told = trend_of(controller.ledger)["forecast"]
    low, _, high = ((at - world.begun) / DAY for at in told["at"])
    assert low <= end <= high
    await world.live_until(end, controller)
    await world.live_until(max(sorted(world.moves.values())[-2] + 1.1, world.day + 0.1), controller)
    assert world.listed(controller) == [last]
    with pytest.raises(ConflictError, match="must be completed"):
        await retired(controller)
    await world.live_until(end + 1.2, controller)
    assert world.listed(controller) == []
    assert standings(controller.ledger) == {Standing.V1: 0, Standing.SILENT: 0, Standing.V2: 40}
    assert trend_of(controller.ledger)["forecast"]["silent_since"] is not None
    assert await retired(controller) is State.RETIRED

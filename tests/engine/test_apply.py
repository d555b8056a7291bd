"""What is wanted of the proxy, and how what it has differs from that."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.simulation.test_controller_faults import PLAN, World, begun, lived

from crossfade.core.machine import State
from crossfade.core.plan import Deprecation
from crossfade.core.rollout import Rollout
from crossfade.engine.apply import compare, wanted_state
from crossfade.engine.controller import Controller, Pace, Parts
from crossfade.ports import NodeState
from crossfade.testing.proxy import FakeRollback

ENDING = replace(PLAN, deprecation=Deprecation(since=1_803_859_200, successor="/v2", from_phase=1))
TOLD = {"Deprecation": "@1803859200", "Link": '</v2>; rel="successor-version"'}


@pytest.mark.parametrize(
    ("state", "phase", "told"),
    [
        (State.RUNNING, 0, False),
        (State.RUNNING, 1, True),
        (State.PAUSED, 2, True),
        (State.ROLLED_BACK, 1, True),  # V1 still goes, later
        (State.ABORTED, 1, False),
        (State.COMPLETED, 2, True),
    ],
)
def test_v1_says_of_its_end_what_the_plan_says(state: State, phase: int, told: bool) -> None:
    wanted = wanted_state(ENDING, Rollout(name="r", state=state, phase=phase))
    assert wanted.v1_headers == (TOLD if told else {})


def test_a_node_that_says_something_else_is_set_again() -> None:
    wanted = wanted_state(ENDING, Rollout(name="r", state=State.RUNNING, phase=1))
    node = NodeState(node="a", reachable=True, state=wanted)
    assert compare(wanted, [node], 0).differing == ()
    silent = replace(node, state=replace(wanted, v1_headers={}))
    assert [name for name, _ in compare(wanted, [silent], 0).differing] == ["a"]


class _Ending(World):
    def controller(self) -> Controller:
        parts = Parts(
            store=self.store,
            proxy=self.proxy,
            switch=FakeRollback(self.proxy),
            telemetry=self.telemetry,
            clock=self.clock,
        )
        return Controller(ENDING, parts, pace=Pace())


async def test_the_controller_tells_from_the_phase_on() -> None:
    world = _Ending()
    controller = await begun(world)
    await lived(world, controller, 2, 0.05)
    assert world.proxy.memory.v1_headers == {}
    await controller.promote("ada", "")
    assert world.proxy.memory.v1_headers == TOLD
    await controller.rollback("ada", "")
    await lived(world, controller, 2, 0.05)
    assert (world.proxy.memory.killed, world.proxy.memory.v1_headers) == (True, TOLD)
    await controller.abort("ada", "")
    await lived(world, controller, 2, 0.05)
    assert world.proxy.memory.v1_headers == {}

"""What a controller makes of a proxy that nobody looked after, and of drift while the store is down."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.simulation.test_controller_faults import World, begun, lived, triggers

from crossfade.core import events as e
from crossfade.core.decide import UNATTENDED
from crossfade.core.machine import State
from crossfade.errors import UnreachableError


async def test_a_proxy_that_gave_up_by_itself_is_found_and_recorded_as_unattended() -> None:
    world = World()
    await lived(world, await begun(world), 2, 0.05)
    world.proxy.give_up()
    world.proxy.unattended_s = 120.0
    found = await begun(world)
    assert (found.rollout.state, world.share, await triggers(world)) == (State.ROLLED_BACK, 0, [UNATTENDED])
    assert found.rollout.rollback_reason == (
        "no controller looked after fake for 10m: the proxy put everyone on V1 by itself"
    )
    assert found.rollout.alerts == {UNATTENDED: "no controller looked after fake for 12m"}
    world.proxy.unattended_s = None
    await lived(world, found, 1, 0.0)
    assert found.rollout.alerts == {}
    await found.retry(None, "ada", "")
    await lived(world, found, 1, 0.05)
    assert (found.rollout.state, world.share) == (State.RUNNING, 500)


async def test_a_switch_thrown_by_hand_after_the_proxy_gave_up_is_a_rollback_at_the_proxy() -> None:
    world = World()
    controller = await begun(world)
    world.proxy.give_up()
    world.proxy.throw_switch(controller.rollout.generation + 3)
    await begun(world)
    assert await triggers(world) == ["proxy"]


async def test_a_proxy_that_nobody_looked_after_raises_one_alert_until_somebody_does() -> None:
    """The evidence neither raises nor clears it: only the node knows."""
    world = World()
    controller = await begun(world)
    world.proxy.unattended_s = 60.0
    await lived(world, controller, 3, 0.05)
    assert set(controller.rollout.alerts) == {UNATTENDED}
    world.proxy.unattended_s = None
    await lived(world, controller, 3, 0.05)
    assert controller.rollout.alerts == {}
    kinds = await world.kinds()
    assert (kinds.count("AlertRaised"), kinds.count("AlertCleared"), world.share) == (1, 1, 500)


async def test_drift_is_mended_while_the_store_is_down_and_recorded_when_it_is_back() -> None:
    """The proxy first: a record that can't be written must not keep users where they ought not to be."""
    world = World()
    controller = await begun(world)
    await lived(world, controller, 2, 0.05)
    world.proxy.memory = replace(world.proxy.memory, split=replace(world.proxy.memory.split, everyone=9000))
    world.store.fail_next(100)
    with pytest.raises(UnreachableError):  # nor can the alert be recorded that nothing can
        await lived(world, controller, 1, 0.05)
    assert world.share == 500
    world.store.heal()
    assert "DriftFound" not in await world.kinds()
    await lived(world, controller, 1, 0.05)
    assert (await world.kinds()).count("DriftFound") == 1


async def test_a_drift_that_stays_is_recorded_once() -> None:
    world = World()
    controller = await begun(world)
    await lived(world, controller, 2, 0.05)
    world.proxy.memory = replace(world.proxy.memory, split=replace(world.proxy.memory.split, everyone=9000))
    world.proxy.faults.refuse = "no"
    await lived(world, controller, 3, 0.05)
    world.proxy.faults.refuse = ""
    await lived(world, controller, 1, 0.05)
    found = [event for event in await world.store.events("trips") if event.kind == e.DriftFound.__name__]
    assert len(found) == 1
    assert world.share == 500

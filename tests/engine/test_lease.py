"""Who may act, by a manual clock: never two at once, whatever the wall clocks do; the next one soon enough."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.engine.lease import LeaseKeeper
from crossfade.errors import UnreachableError
from crossfade.testing.clock import ManualClock
from crossfade.testing.store import MemoryStore

LASTS_S = 10.0


class Site:
    """One store and a process for each name, with a monotonic clock of its own."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.clocks: dict[str, ManualClock] = {}

    def keeper(self, name: str, lasts_s: float = LASTS_S) -> LeaseKeeper:
        clock = self.clocks[name] = ManualClock()
        return LeaseKeeper(self.store, clock, rollout="r", holder=name, address=f"http://{name}:8090", lasts_s=lasts_s)

    def pass_s(self, seconds: float) -> None:
        for clock in self.clocks.values():
            clock.move(seconds)


@pytest.fixture
async def site() -> Site:
    site = Site()
    await site.store.open()
    return site


async def test_the_first_leads_and_the_second_waits_as_long_as_it_is_renewed(site: Site) -> None:
    a, b = site.keeper("a"), site.keeper("b")
    assert await a.look()
    for _ in range(20):
        assert not await b.look()
        site.pass_s(LASTS_S / 3)
        await a.renew()
        assert (a.over, a.lost) == (None, None)
    assert b.leader == "a leads r at http://a:8090"
    assert (a.generation, b.generation) == (1, 0)


async def test_who_waits_says_for_how_long_the_leader_was_silent(site: Site) -> None:
    """As a store does that can be read and not be written: nobody takes over, and people must know."""
    a, b = site.keeper("a"), site.keeper("b")
    assert await a.look()
    assert not await b.look()
    site.pass_s(4 * LASTS_S)
    assert b.leader == f"a leads r at http://a:8090, last heard of {4 * LASTS_S:g}s ago"


async def test_who_stops_renewing_is_followed_after_the_lease_and_one_look(site: Site) -> None:
    a, b = site.keeper("a"), site.keeper("b")
    assert await a.look()
    site.pass_s(3.0)
    await a.renew()
    waited = 0.0
    while not await b.look():
        site.pass_s(b.look_again_s)
        waited += b.look_again_s
    assert LASTS_S <= waited <= LASTS_S + b.look_again_s
    assert waited < 2 * LASTS_S
    assert a.over is not None
    await a.renew()
    assert a.lost is not None
    assert "b leads at http://b:8090" in a.lost
    assert not await a.look()


async def test_the_holder_knows_that_its_time_is_over_before_anybody_may_follow(site: Site) -> None:
    """The follower's clock starts when it saw what the holder had written, which is later than the holder's."""
    a, b = site.keeper("a"), site.keeper("b")
    assert await a.look()
    site.pass_s(0.001)
    assert not await b.look()
    site.pass_s(LASTS_S - 0.001)
    assert a.over is not None
    assert not await b.look()
    site.pass_s(0.001)
    assert await b.look()


@pytest.mark.parametrize("seconds", [-1e9, -3600.0, 3600.0, 1e9])
async def test_a_stepped_wall_clock_changes_nothing(site: Site, seconds: float) -> None:
    a, b = site.keeper("a"), site.keeper("b")
    assert await a.look()
    assert not await b.look()
    site.clocks["a"].step(seconds)
    site.clocks["b"].step(-seconds)
    site.pass_s(1.0)
    assert (a.over, await b.look()) == (None, False)
    site.pass_s(LASTS_S)
    assert await b.look()


async def test_a_lease_given_back_is_taken_at_once(site: Site) -> None:
    a, b = site.keeper("a"), site.keeper("b")
    assert await a.look()
    assert not await b.look()
    await a.release()
    assert await b.look()
    await a.release()
    assert (b.over, b.generation) == (None, 3)


async def test_one_that_has_ended_is_followed_at_once_and_any_other_is_not(site: Site) -> None:
    a, b = site.keeper("a"), site.keeper("b")
    assert await a.look()
    assert not await b.look(ended="c")
    assert await b.look(ended="a")


async def test_the_time_of_a_lease_is_its_holders(site: Site) -> None:
    """A follower that was set to a shorter one waits as long as the holder counts on."""
    a, b = site.keeper("a", 30.0), site.keeper("b", 1.0)
    assert await a.look()
    assert not await b.look()
    site.pass_s(29.9)
    assert not await b.look()
    site.pass_s(0.1)
    assert await b.look()


async def test_a_lease_whose_reply_was_lost_is_ours_at_the_next_look(site: Site) -> None:
    a = site.keeper("a")
    site.store.lose_reply()
    with pytest.raises(UnreachableError):
        await a.look()
    assert a.generation == 0
    assert await a.look()
    assert a.generation == 2


async def test_a_store_that_fails_is_told_and_costs_nothing_until_the_time_is_over(site: Site) -> None:
    a = site.keeper("a")
    assert await a.look()
    site.store.fail_next(100)
    site.pass_s(9.9)
    await a.renew()
    assert (a.over, a.lost, a.asleep) == (None, None, False)
    site.pass_s(0.2)
    assert a.over == "the lease of r ran out 0 s ago: the store does not answer (on purpose)"
    assert not a.asleep
    site.store.heal()
    await a.renew()
    assert a.over is None


async def test_a_store_that_hangs_is_trouble_before_the_time_is_over(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = site.keeper("a", 0.06)
    assert await a.look()

    async def hang(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(site.store, "renew", hang)
    await a.renew()
    site.pass_s(0.1)
    assert a.over == "the lease of r ran out 0 s ago: the store does not answer"
    assert not a.asleep


async def test_a_process_that_was_stopped_knows_that_it_knows_nothing(site: Site) -> None:
    a = site.keeper("a")
    assert await a.look()
    site.pass_s(3600.0)
    assert _state(a) == (True, "the lease of r ran out 3590 s ago: this process was stopped")
    await a.renew()
    assert _state(a) == (False, None)


def _state(keeper: LeaseKeeper) -> tuple[bool, str | None]:
    return keeper.asleep, keeper.over


async def test_it_is_renewed_three_times_in_its_time_and_more_often_in_trouble(site: Site) -> None:
    a = site.keeper("a")
    assert await a.look()
    keeping = asyncio.create_task(a.keep())
    await site.clocks["a"].advance(LASTS_S)
    assert site.store.calls.count("renew") == 3
    site.store.fail_next(100)
    await site.clocks["a"].advance(LASTS_S)
    assert site.store.calls.count("renew") >= 3 + 7
    site.store.heal()
    await site.clocks["a"].advance(2.0)
    assert a.over is None
    taken = site.keeper("b")
    assert await taken.look(ended="a")
    await site.clocks["a"].advance(LASTS_S)
    assert keeping.done()
    assert a.lost is not None


@given(st.randoms(use_true_random=False))
def test_no_two_act_at_once_whatever_is_stopped_lost_or_down(draw: Any) -> None:
    """Of those whose time is not over at most one; whoever leads last got the highest generation."""

    async def live() -> None:
        site = Site()
        await site.store.open()
        keepers = {name: site.keeper(name) for name in "abc"}
        leading: set[str] = set()
        for _ in range(120):
            site.pass_s(draw.choice([0.01, 0.5, 1.0, 3.0, 9.0]))
            name = draw.choice("abc")
            keeper = keepers[name]
            fault = draw.random()
            if fault < 0.1:
                site.store.fail_next()
            elif fault < 0.2:
                site.store.lose_reply()
            elif fault < 0.25:
                site.clocks[name].step(draw.uniform(-1e6, 1e6))
            before = keeper.generation
            try:
                if name in leading:
                    await keeper.renew()
                elif await keeper.look():
                    assert keeper.generation > max(k.generation for k in keepers.values() if k is not keeper)
            except UnreachableError:
                assert keeper.generation == before
            leading = {n for n, k in keepers.items() if k.generation and k.lost is None}
            acting = [n for n in leading if keepers[n].over is None]
            assert len(acting) <= 1, acting
            site.store.heal()

    asyncio.run(live())

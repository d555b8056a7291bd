"""What `ports.Proxy` and `ports.RollbackSwitch` promise, as cases. Subclass with a `subject` fixture."""
# ruff: noqa: S101 - a suite asserts

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from crossfade.core.split import Split
from crossfade.errors import ProxyRefusedError, ProxyUnreachableError, StaleGenerationError
from crossfade.ports import NodeState, Proxy, ProxyState, RollbackSwitch

COHORTS = ("internal", "beta")
"""The cohorts that the subject's plan has."""
_SUNSET = {"Sunset": "Sat, 01 Jan 2028 00:00:00 GMT", "Link": '</v2>; rel="successor-version"; title="a\\b; c"'}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A proxy that is started, and the means to treat it badly."""

    proxy: Proxy
    switch: RollbackSwitch
    crash: Callable[[], Awaitable[None]]
    """Kill the proxy process and have it come up again."""
    cut_off: Callable[[], Awaitable[None]]
    """Make the proxy stop answering, with its files still writable."""
    come_back: Callable[[], Awaitable[None]]
    """Make a proxy that was cut off serve again from its files."""


def _one(nodes: object) -> NodeState:
    assert isinstance(nodes, list)
    assert len(nodes) == 1
    node = nodes[0]
    assert isinstance(node, NodeState)
    return node


def _state(generation: int, everyone: int = 0, *, killed: bool = False, **cohorts: int) -> ProxyState:
    return ProxyState(generation=generation, split=Split(everyone=everyone, cohorts=cohorts), killed=killed)


class ProxyConformance:
    """The cases; every one gets a fresh subject."""

    async def test_a_fresh_proxy_has_nobody_on_v2(self, subject: Subject) -> None:
        """Before anything is applied, everyone is on V1."""
        node = _one(await subject.proxy.observe())
        assert node.reachable
        assert node.state == ProxyState(generation=0)

    @pytest.mark.parametrize(
        "wanted",
        [
            _state(1),
            _state(1, 1),
            _state(1, 10_000),
            _state(1, 500, beta=5000),
            _state(2**40, 500, internal=10_000, beta=500),
            _state(1, 500, killed=True, beta=5000),
            ProxyState(generation=1, split=Split(everyone=100), v1_headers=_SUNSET),
        ],
    )
    async def test_what_is_applied_is_read_back(self, subject: Subject, wanted: ProxyState) -> None:
        """The complete state comes back, cohorts that are named with everyone's share included."""
        assert _one(await subject.proxy.apply(wanted)).state == wanted
        assert _one(await subject.proxy.observe()).state == wanted

    async def test_applying_again_changes_nothing(self, subject: Subject) -> None:
        """The same state may be asserted again and again."""
        wanted = _state(3, 2500, beta=5000)
        for _ in range(3):
            assert _one(await subject.proxy.apply(wanted)).state == wanted

    async def test_starting_again_changes_nothing(self, subject: Subject) -> None:
        """start() on a serving proxy keeps its state."""
        await subject.proxy.apply(_state(3, 2500))
        await subject.proxy.start()
        assert _one(await subject.proxy.observe()).state == _state(3, 2500)

    async def test_headers_can_be_taken_away(self, subject: Subject) -> None:
        """A state is complete: headers it does not name are gone."""
        await subject.proxy.apply(ProxyState(generation=1, v1_headers=_SUNSET))
        await subject.proxy.apply(ProxyState(generation=1))
        assert _one(await subject.proxy.observe()).state == ProxyState(generation=1)

    async def test_an_earlier_generation_is_refused(self, subject: Subject) -> None:
        """Who has been outdated changes nothing."""
        await subject.proxy.apply(_state(7, 2500))
        with pytest.raises(StaleGenerationError):
            await subject.proxy.apply(_state(6, 9000))
        assert _one(await subject.proxy.observe()).state == _state(7, 2500)

    async def test_an_unknown_cohort_is_refused(self, subject: Subject) -> None:
        """A cohort that the plan lacks names itself."""
        with pytest.raises(ProxyRefusedError, match="nosuch"):
            await subject.proxy.apply(_state(1, 100, nosuch=100))

    @pytest.mark.parametrize("last", [_state(2, 7500, beta=9000), _state(2, 10), _state(2, 7500, killed=True)])
    async def test_a_crashed_proxy_comes_back_as_it_was(self, subject: Subject, last: ProxyState) -> None:
        """A restarted proxy has the last applied state."""
        await subject.proxy.apply(_state(1, 2500))
        await subject.proxy.apply(last)
        await subject.crash()
        assert _one(await subject.proxy.observe()).state == last

    async def test_a_raise_needs_an_answer(self, subject: Subject) -> None:
        """Without an answer nothing is raised, not even on disk."""
        await subject.proxy.apply(_state(1, 2500))
        await subject.cut_off()
        with pytest.raises(ProxyUnreachableError):
            await subject.proxy.apply(_state(1, 5000))
        await subject.come_back()
        assert _one(await subject.proxy.observe()).state == _state(1, 2500)

    async def test_lowering_reaches_a_proxy_that_does_not_answer(self, subject: Subject) -> None:
        """It is reported as unreachable, and comes back with the lower split."""
        await subject.proxy.apply(_state(1, 2500))
        await subject.cut_off()
        with pytest.raises(ProxyUnreachableError):
            await subject.proxy.apply(_state(2, 100))
        await subject.come_back()
        assert _one(await subject.proxy.observe()).state == _state(2, 100)

    async def test_observing_never_raises(self, subject: Subject) -> None:
        """A node that does not answer says so."""
        await subject.cut_off()
        node = _one(await subject.proxy.observe())
        assert not node.reachable
        assert node.state is None
        assert node.error

    async def test_the_switch_puts_everyone_on_v1(self, subject: Subject) -> None:
        """All shares are 0 and the kill is on; generation and headers stay."""
        await subject.proxy.apply(_state(4, 2500, beta=5000))
        node = _one(await subject.switch.rollback())
        assert node.state == _state(4, 0, killed=True, beta=0)
        assert _one(await subject.proxy.observe()).state == node.state

    async def test_the_switch_takes_a_later_generation_only(self, subject: Subject) -> None:
        """The higher of the proxy's and the given generation stays."""
        await subject.proxy.apply(_state(4, 2500))
        assert _one(await subject.switch.rollback(9)).state == _state(9, 0, killed=True)
        assert _one(await subject.switch.rollback(5)).state == _state(9, 0, killed=True)

    async def test_a_rollback_outlives_a_crash(self, subject: Subject) -> None:
        """The files say so too."""
        await subject.proxy.apply(_state(4, 2500))
        await subject.switch.rollback()
        await subject.crash()
        assert _one(await subject.proxy.observe()).state == _state(4, 0, killed=True)

    async def test_only_a_later_generation_ends_a_rollback(self, subject: Subject) -> None:
        """A controller that re-asserts its split, or has just begun to raise it, does not undo a rollback."""
        await subject.proxy.apply(_state(4, 2500))
        await subject.switch.rollback()
        for generation in (4, 5):
            with pytest.raises(StaleGenerationError):
                await subject.proxy.apply(_state(generation, 2500))
        await subject.proxy.apply(_state(4, 0, killed=True))
        assert _one(await subject.proxy.apply(_state(6, 500))).state == _state(6, 500)

    async def test_whoever_does_not_know_of_a_rollback_does_not_end_it(self, subject: Subject) -> None:
        """However late their generation: each start of a controller begins one."""
        await subject.proxy.apply(_state(4, 2500))
        await subject.switch.rollback()
        with pytest.raises(StaleGenerationError):
            await subject.proxy.apply(replace(_state(9, 2500), rollback=4))
        assert _one(await subject.proxy.observe()).state == _state(4, 0, killed=True)
        assert _one(await subject.proxy.apply(replace(_state(9, 2500), rollback=5))).state == _state(9, 2500)

    async def test_a_rollback_with_a_generation_ends_with_the_next(self, subject: Subject) -> None:
        """Whoever gives a generation knows of the rollback, and may raise under the one after it."""
        await subject.proxy.apply(_state(4, 2500))
        await subject.switch.rollback(5)
        with pytest.raises(StaleGenerationError):
            await subject.proxy.apply(_state(5, 2500))
        assert _one(await subject.proxy.apply(_state(6, 500))).state == _state(6, 500)

    async def test_a_node_tells_which_generation_the_switch_has_outdated(self, subject: Subject) -> None:
        """With a generation that one; without, the one that might just be raising. A raise doesn't forget it."""
        await subject.proxy.apply(_state(4, 2500))
        assert _one(await subject.proxy.observe()).rolled_back == -1
        await subject.switch.rollback(5)
        assert _one(await subject.proxy.observe()).rolled_back == 5
        await subject.switch.rollback()
        assert _one(await subject.proxy.observe()).rolled_back == 6
        assert _one(await subject.proxy.apply(_state(7, 500))).rolled_back == 6

    async def test_a_retired_v1_is_brought_back_by_nothing(self, subject: Subject) -> None:
        """No later generation, no rollback switch, no crash; the split is put right as before."""
        wanted = ProxyState(generation=4, split=Split(everyone=10_000), v1_headers=_SUNSET, retired=True)
        await subject.proxy.apply(_state(3, 10_000))
        assert _one(await subject.proxy.apply(wanted)).state == wanted
        for state in (_state(4, 10_000), _state(9, 0, killed=True), _state(9, 2500)):
            with pytest.raises(ProxyRefusedError, match="retired"):
                await subject.proxy.apply(state)
        for generation in (None, 4, 9):
            node = _one(await subject.switch.rollback(generation))
            assert (node.state, "retired" in node.error, node.rolled_back) == (wanted, True, -1)
        assert _one(await subject.proxy.observe()).state == wanted
        await subject.crash()
        assert _one(await subject.proxy.observe()).state == wanted
        assert _one(await subject.proxy.apply(replace(wanted, generation=5))).state == replace(wanted, generation=5)

    async def test_retiring_v1_needs_an_answer(self, subject: Subject) -> None:
        """Without one nothing is retired, not even on disk, and everyone can be rolled back."""
        await subject.proxy.apply(_state(3, 10_000))
        await subject.cut_off()
        with pytest.raises(ProxyUnreachableError):
            await subject.proxy.apply(ProxyState(generation=4, split=Split(everyone=10_000), retired=True))
        assert _one(await subject.switch.rollback()).state in (None, _state(3, 0, killed=True))
        await subject.come_back()
        assert _one(await subject.proxy.observe()).state == _state(3, 0, killed=True)

    async def test_v1_is_not_retired_after_a_rollback_that_nobody_knew_of(self, subject: Subject) -> None:
        """A switch that was thrown before is heeded, as by a raise."""
        await subject.proxy.apply(_state(3, 10_000))
        await subject.switch.rollback()
        with pytest.raises(StaleGenerationError):
            await subject.proxy.apply(ProxyState(generation=4, split=Split(everyone=10_000), retired=True))
        assert _one(await subject.proxy.observe()).state == _state(3, 0, killed=True)

    async def test_the_switch_says_whether_it_is_ready(self, subject: Subject) -> None:
        """Asking changes nothing; a proxy that is down makes it unready."""
        await subject.proxy.apply(_state(4, 2500))
        assert await subject.switch.ready()
        assert _one(await subject.proxy.observe()).state == _state(4, 2500)
        await subject.cut_off()
        assert not await subject.switch.ready()

    async def test_the_switch_reaches_a_proxy_that_is_down(self, subject: Subject) -> None:
        """It says that nobody answered, and the proxy comes back with everyone on V1."""
        await subject.proxy.apply(_state(4, 2500))
        await subject.cut_off()
        node = _one(await subject.switch.rollback())
        assert not node.reachable
        assert node.error
        await subject.come_back()
        assert _one(await subject.proxy.observe()).state == _state(4, 0, killed=True)

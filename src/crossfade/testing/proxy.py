"""A proxy in memory that keeps `ports.Proxy` and `ports.RollbackSwitch`, and breaks on request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from crossfade.core.plan import AssignmentRule
from crossfade.core.split import NOBODY, Split, Version, assign, user_hash
from crossfade.errors import ProxyRefusedError, ProxyUnreachableError, ReadBackError, StaleGenerationError
from crossfade.ports import NodeState, ProxyState


@dataclass(slots=True)
class Faults:
    """What goes wrong from now on; each is switched off by setting it back."""

    refuse: str = ""
    """The proxy refuses what it is told, with this reason."""
    forget: bool = False
    """The proxy says yes and keeps what it had."""
    unreachable: bool = False
    """Nobody answers; the files can still be written."""


async def _at_once(_: str) -> None:
    """Let nothing come between."""


class FakeProxy:
    """One node with a memory and a file, and the same order between them as a real one.

    `history` holds every state its memory has had, so that a test can assert that V2's share was never too high.
    """

    def __init__(self, *, cohorts: Sequence[str] = (), node: str = "fake", rule: AssignmentRule | None = None) -> None:
        """Begin with everyone on V1; `rule` is wanted only where it is asked for users' versions."""
        self.faults = Faults()
        self.running = False
        self.memory = ProxyState(generation=0)
        self.file = ProxyState(generation=0)
        self.history: list[ProxyState] = []
        self.rolled_back = -1
        self.unattended_s: float | None = None
        """What the node tells of how long nobody has looked after it."""
        self.between: Callable[[str], Awaitable[None]] = _at_once
        """Awaited between the steps of `apply`, which others may overtake and a killed process never ends."""
        self.enrolled: dict[int, str] = {}
        """Cohorts by hash that the proxy ought to know."""
        self._in_force: dict[int, str] = {}
        """Those that it does."""
        self._by_itself = -1
        self._thrown = 0
        """How often a switch was thrown."""
        self._cohorts = frozenset(cohorts)
        self._node = node
        self._rule = rule or AssignmentRule(user=(), salt=0)

    async def start(self) -> None:
        """Come up with what the file says."""
        if not self.running:
            if self.faults.refuse:
                raise ProxyRefusedError(self.faults.refuse)
            self.running = True
            self._in_force = self.enrolled
            self._set(self.file)

    async def apply(self, wanted: ProxyState) -> Sequence[NodeState]:
        """Set the state and read it back."""
        unknown = sorted(set(wanted.split.cohorts) - self._cohorts)
        if unknown:
            raise ProxyRefusedError(f"cohort {unknown[0]!r} is not in the plan")
        if not self.answers:
            self._refuse_stale(self.file, wanted)
            if _rises_nowhere(self.file, wanted):
                self.file = wanted
            raise ProxyUnreachableError("the proxy did not answer")
        self._refuse_stale(self.memory, wanted)
        retired = self.memory.retired
        if self.faults.refuse:
            raise ProxyRefusedError(self.faults.refuse)
        if self.faults.forget and self.memory != wanted:
            raise ReadBackError(f"the proxy was set to {wanted} and reads {self.memory}")
        thrown, falls = self._thrown, _rises_nowhere(self.memory, wanted)
        if falls:
            self._write(wanted)
        await self.between("the memory is set")
        if not self.answers:
            raise ProxyUnreachableError("the proxy does not answer any more")
        self._set(replace(wanted, retired=wanted.retired or self.memory.retired))
        await self.between("it is read back")
        self._yield_to_others(thrown, wanted, retired=retired)
        if not self.answers or self.memory != wanted:
            raise ReadBackError(f"the proxy was set to {wanted} and reads {self.memory}")
        self._write(wanted)
        if not falls:
            await self.between("the file is known to be the last")
            self._yield_to_others(thrown, wanted, retired=retired)
        return await self.observe()

    def _write(self, state: ProxyState) -> None:
        """Replace the file, which says for good that V1 is retired."""
        self.file = replace(state, retired=state.retired or self.file.retired)

    def _yield_to_others(self, thrown: int, wanted: ProxyState, *, retired: bool) -> None:
        """Take a raise back where a switch was thrown or a later generation acted while it was being made.

        `retired` says whether V1 was so before: then nobody was moved.
        """
        if self._thrown == thrown and self.memory.generation <= wanted.generation:
            return
        if retired or (wanted.retired and self.memory.generation > wanted.generation):
            raise StaleGenerationError(f"somebody acted while generation {wanted.generation} was being applied")
        if not wanted.killed:
            kept = self.memory.retired and not wanted.retired  # by somebody else, meanwhile
            self.file = replace(self.memory, killed=True, split=_nobody(self.memory.split), retired=kept)
            self._set(self.file)
        raise StaleGenerationError(f"somebody acted while generation {wanted.generation} was being applied")

    async def enrol(self, cohorts: Mapping[int, str]) -> None:
        """Have users in other cohorts than the plan says."""
        unknown = sorted(set(cohorts.values()) - self._cohorts - {""})
        if unknown:
            raise ProxyRefusedError(f"cohort {unknown[0]!r} is not in the plan")
        self.enrolled = dict(cohorts)
        if not self.running:
            return
        if not self.answers:
            raise ProxyUnreachableError("the proxy did not answer")
        self._in_force = self.enrolled

    async def observe(self) -> Sequence[NodeState]:
        """Return what the memory holds."""
        if not self.answers:
            return [NodeState(node=self._node, reachable=False, error="the proxy did not answer")]
        return [self._node_state()]

    async def stop(self) -> None:
        """End serving."""
        self.running = False

    async def close(self) -> None:
        """Let go; it serves on."""

    def crash(self) -> None:
        """Lose the memory; what is started next comes up with the file."""
        self.running = False

    def throw_switch(self, generation: int | None) -> NodeState:
        """Put everyone on V1 as `FakeRollback` does."""
        if self.file.retired or self.memory.retired:
            return replace(self._node_state(), reachable=self.answers, error="V1 is retired; nothing was changed")
        at = max(self.memory.generation, self.file.generation, generation or 0)
        outdated = at if generation is not None else max(self.memory.generation, self.file.generation) + 1
        self.rolled_back = max(self.rolled_back, outdated)
        self._thrown += 1
        self.file = replace(self.file, generation=at, killed=True, split=_nobody(self.file.split))
        if not self.answers:
            error = "the proxy did not answer; its files are written"
            return NodeState(node=self._node, reachable=False, error=error)
        self._set(replace(self.memory, generation=at, killed=True, split=_nobody(self.memory.split)))
        return self._node_state()

    def give_up(self) -> None:
        """Put everyone on V1 as a node does that nobody looks after."""
        self.throw_switch(None)
        self._by_itself = self.rolled_back

    def _node_state(self) -> NodeState:
        return NodeState(
            node=self._node,
            reachable=True,
            state=self.memory,
            proxy_version="fake",
            rolled_back=self.rolled_back,
            by_itself=self._by_itself == self.rolled_back != -1,
            unattended_s=self.unattended_s,
        )

    def version_of(self, user: str) -> Version:
        """Return the version that serves a user now."""
        state, own = self.memory, self._in_force.get(user_hash(user, self._rule.salt))
        cohort = self._rule.cohort_of(user) if own is None else own or None
        if state.retired:
            return Version.V2
        return assign(user, salt=self._rule.salt, split=state.split, cohort=cohort, killed=state.killed).version

    @property
    def answers(self) -> bool:
        """Tell whether the proxy is there to be asked."""
        return self.running and not self.faults.unreachable

    def _set(self, state: ProxyState) -> None:
        self.memory = state
        self.history.append(state)

    def _refuse_stale(self, current: ProxyState, wanted: ProxyState) -> None:
        if current.generation > wanted.generation:
            raise StaleGenerationError(f"the proxy carries generation {current.generation}, not {wanted.generation}")
        if current.retired and not wanted.retired:
            raise ProxyRefusedError("V1 is retired at this proxy, and nothing brings it back there")
        known = wanted.generation - 1 if wanted.rollback is None else min(wanted.rollback, wanted.generation - 1)
        if not wanted.killed and not current.retired and self.rolled_back > known:
            raise StaleGenerationError(f"a rollback was thrown under generation {self.rolled_back}")


class FakeRollback:
    """The rollback switch of a `FakeProxy`."""

    def __init__(self, proxy: FakeProxy) -> None:
        self._proxy = proxy

    async def rollback(self, generation: int | None = None) -> Sequence[NodeState]:
        """Put everyone on V1."""
        return [self._proxy.throw_switch(generation)]

    async def ready(self) -> bool:
        """Tell whether the proxy would answer."""
        return self._proxy.answers


def _nobody(split: Split) -> Split:
    return Split(cohorts=dict.fromkeys(split.cohorts, 0))


def _rises_nowhere(old: ProxyState, new: ProxyState) -> bool:
    if new.retired and not old.retired:
        return False
    before = NOBODY if old.killed else old.split
    after = NOBODY if new.killed else new.split
    return before.rises_from(after)

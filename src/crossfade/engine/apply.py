"""Carrying out one wanted state: set it, read it back, or raise. Doing it again changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from crossfade.core.brownout import absence
from crossfade.core.deprecation import gone_headers, v1_headers
from crossfade.core.events import SplitApplied
from crossfade.core.machine import State
from crossfade.core.plan import Plan
from crossfade.core.rollout import Rollout
from crossfade.core.split import Split
from crossfade.ports import NodeState, Proxy, ProxyState


def wanted_state(plan: Plan, rollout: Rollout, exempt: Collection[str] = ()) -> ProxyState:
    """Return the complete state that the proxy ought to have, given which clients are exempt."""
    return ProxyState(
        generation=rollout.generation,
        split=rollout.wanted_split(plan),
        killed=rollout.wanted_killed,
        rollback=rollout.rollback_generation,
        v1_headers=_v1_headers(plan, rollout),
        retired=rollout.wanted_retired,
        brownout=absence(plan, rollout),
        exempt=frozenset(exempt) if plan.exempts else frozenset(),
    )


def _v1_headers(plan: Plan, rollout: Rollout) -> Mapping[str, str]:
    """Return what V1's answers say of its end; of a rollout that was given up, nothing: V1 stays."""
    if rollout.wanted_retired:
        return gone_headers(plan, rollout.phase)
    if plan.deprecation is None or rollout.state is State.ABORTED:
        return {}
    return v1_headers(plan.deprecation, rollout.phase, rollout.brownouts_over)


async def apply(proxy: Proxy, wanted: ProxyState, now: float) -> SplitApplied:
    """Set the wanted state on every node and return the fact to record; raises what `Proxy.apply` raises."""
    await proxy.apply(wanted)
    return SplitApplied(
        at=now,
        generation=wanted.generation,
        everyone=wanted.split.everyone,
        cohorts=dict(wanted.split.cohorts),
        killed=wanted.killed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How the nodes differ from what is wanted."""

    differing: tuple[tuple[str, str], ...] = ()
    """Node and what differs there, for nodes that must be set again."""
    unreachable: tuple[tuple[str, str], ...] = ()
    killed: tuple[str, ...] = ()
    """Nodes on which a switch was thrown that the history doesn't know of: somebody used the short way."""
    later_generation: int | None = None
    """Of another controller that acts; this one must not."""


def compare(wanted: ProxyState, nodes: Sequence[NodeState], rollback_generation: int) -> Drift:
    """Return how what the nodes report differs from what is wanted.

    A kill that was thrown under `rollback_generation` (the latest rollback recorded) or before is an old one of ours.
    A later one counts even where the node has users on V2 again: who raised them did not know of it. Where V1 is
    retired, as it ought to be, it has moved nobody.
    """
    differing, unreachable, killed, generations = [], [], [], []
    for node in nodes:
        if node.state is None:
            unreachable.append((node.node, node.error or "does not answer"))
            continue
        retired = node.state.retired and wanted.retired
        thrown = node.rolled_back > rollback_generation and not retired
        if thrown:
            killed.append(node.node)
        if node.state.generation > wanted.generation:
            generations.append(node.state.generation)
        elif not thrown and node.state.retired != wanted.retired:
            differing.append((node.node, f"V1 is {'retired' if node.state.retired else 'not retired'}"))
        elif not thrown and (node.state.split, node.state.killed) != (wanted.split, wanted.killed):
            differing.append((node.node, f"{_words(node.state)} instead of {_words(wanted)}"))
        elif not thrown and node.state.brownout != wanted.brownout:
            differing.append((node.node, "another brownout goes on there, or none"))
        elif not thrown and node.state.exempt != wanted.exempt:
            differing.append((node.node, "other clients are exempt there than in the register"))
        elif not thrown and node.state.v1_headers != wanted.v1_headers:
            differing.append((node.node, "V1's answers say something else of its end than the plan"))
    return Drift(
        differing=tuple(differing),
        unreachable=tuple(unreachable),
        killed=tuple(killed),
        later_generation=max(generations, default=None),
    )


def _words(state: ProxyState) -> str:
    return "everyone on V1" if state.killed else _split_words(state.split)


def _split_words(split: Split) -> str:
    parts = [f"{name} {share}" for name, share in split.cohorts.items()]
    return ", ".join([*parts, f"everyone else {split.everyone}"]) + " basis points"

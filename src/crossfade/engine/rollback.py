"""The short path to V1. It needs switches and a clock: no metrics, no store, no verdict, no lock.

An `apply` that is raising at the same time loses: switches mark the proxy, so that the raise notices and takes
itself back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crossfade.core.machine import FOR_GOOD
from crossfade.ports import Clock, NodeState, RollbackSwitch

DEADLINE_S = 10.0
"""How long one switch may take in all before it is reported as failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackReport:
    """What a rollback did, node by node."""

    took_s: float
    """Real seconds from the command to the last node's answer."""
    nodes: tuple[NodeState, ...]
    errors: tuple[str, ...] = ()
    """Of switches that could do nothing at all."""

    @property
    def complete(self) -> bool:
        """Tell whether every node reported back that everyone is on V1, with nothing left undone."""
        return bool(self.nodes) and not self.errors and all(_on_v1(n) and not n.error for n in self.nodes)

    @property
    def retired(self) -> bool:
        """Tell whether a node refused because V1 is retired there."""
        return any(n.state is not None and n.state.retired for n in self.nodes)

    def outcomes(self) -> dict[str, str]:
        """Return what each node said: `v1`, and what went wrong."""
        said = {
            n.node: ("v1" if _on_v1(n) else "not confirmed") + (f": {n.error}" if n.error else "") for n in self.nodes
        }
        return said | {f"switch {i}": error for i, error in enumerate(self.errors, 1)}

    @property
    def sentence(self) -> str:
        """Return what was done, for people."""
        lines = [f"{node}: {outcome}" for node, outcome in self.outcomes().items()]
        if self.retired:
            return "\n".join([f"nothing can be rolled back: {FOR_GOOD}", *lines])
        head = "everyone is on V1" if self.complete else "NOT CONFIRMED everywhere that everyone is on V1"
        return "\n".join([f"{head} (took {self.took_s * 1000:.0f} ms)", *lines])

    def as_data(self) -> dict[str, Any]:
        """Return the same for programs."""
        return {"complete": self.complete, "took_s": self.took_s, "nodes": self.outcomes()}


def _on_v1(node: NodeState) -> bool:
    return node.state is not None and node.state.killed


async def roll_back(
    switches: Sequence[RollbackSwitch], generation: int | None, clock: Clock, *, deadline_s: float = DEADLINE_S
) -> RollbackReport:
    """Put everyone on V1 through every switch at once; never raises: what failed is in the report.

    `generation` outdates actors with an earlier one; None keeps each proxy's own, under which nobody can raise
    again.
    """
    began = clock.monotonic()
    results = await asyncio.gather(*(_throw(switch, generation, deadline_s) for switch in switches))
    return RollbackReport(
        took_s=clock.monotonic() - began,
        nodes=tuple(node for nodes, _ in results for node in nodes),
        errors=tuple(error for _, error in results if error),
    )


async def _throw(switch: RollbackSwitch, generation: int | None, deadline_s: float) -> tuple[Sequence[NodeState], str]:
    try:
        async with asyncio.timeout(deadline_s):
            return await switch.rollback(generation), ""
    except TimeoutError:
        return (), f"a rollback switch did not finish within {deadline_s:g} s"
    except Exception as error:  # noqa: BLE001 - whatever one switch does, the others are thrown and reported
        return (), str(error) or type(error).__name__

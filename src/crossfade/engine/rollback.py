"""The short path to V1. It needs switches and a clock: no metrics, no store, no verdict, no lock."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crossfade.errors import CrossfadeError
from crossfade.ports import Clock, NodeState, RollbackSwitch


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
        head = "everyone is on V1" if self.complete else "NOT CONFIRMED everywhere that everyone is on V1"
        return "\n".join([f"{head} (took {self.took_s * 1000:.0f} ms)", *lines])

    def as_data(self) -> dict[str, Any]:
        """Return the same for programs."""
        return {"complete": self.complete, "took_s": self.took_s, "nodes": self.outcomes()}


def _on_v1(node: NodeState) -> bool:
    return node.state is not None and node.state.killed


def _words(node: NodeState) -> str:
    said = "v1" if _on_v1(node) else "not confirmed"
    return f"{said}: {node.error}" if node.error else said


async def roll_back(switches: Sequence[RollbackSwitch], generation: int | None, clock: Clock) -> RollbackReport:
    """Put everyone on V1 through every switch at once; never raises: what failed is in the report."""
    began = clock.monotonic()
    results = await asyncio.gather(*(switch.rollback(generation) for switch in switches), return_exceptions=True)
    nodes: list[NodeState] = []
    errors: list[str] = []
    for result in results:
        if isinstance(result, (CrossfadeError, OSError)):
            errors.append(str(result))
        elif isinstance(result, BaseException):
            raise result
        else:
            nodes.extend(result)
    return RollbackReport(took_s=clock.monotonic() - began, nodes=tuple(nodes), errors=tuple(errors))

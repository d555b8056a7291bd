"""Planted defects of V1 and V2, so that a rollout has something to find. Off unless asked for at the start."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tripsearch.control import read_numbers
from tripsearch.problem import ProblemError
from tripsearch.system import Chance, chance

_BOUNDS = {
    "fail_rate": (0.0, 1.0),
    "hang_rate": (0.0, 1.0),
    "delay_ms": (0.0, 60_000.0),
    "rate": (0.0, 1.0),
    "seed": (0.0, 2.0**63),
}
_CHOICES = {"omit": ("flights", "hotels")}


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, each with a probability per request, drawn independently."""

    fail_rate: float = 0.0
    """Answered with 500 and nothing else."""
    hang_rate: float = 0.0
    """Never answered, until the client goes or the faults are changed."""
    delay_ms: float = 0.0
    """Milliseconds added, with probability `rate`."""
    omit: str | None = None
    """"flights" or "hotels": emptied and its fact 0, with probability `rate`."""
    rate: float = 1.0
    seed: int = 0
    """The same seed draws the same faults for the same sequence of requests."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """What happens to one request."""

    fail: bool
    hang: bool
    delay_s: float
    omit: str | None


_NOTHING = Drawn(fail=False, hang=False, delay_s=0.0, omit=None)


class FaultSwitch:
    """Draws faults for requests; can be turned at run time."""

    def __init__(self, *, failure_rate: float = 0.0, seed: int = 0) -> None:
        """`failure_rate` is a baseline of failures that no turn of the switch removes."""
        self._baseline = failure_rate
        self._faults = Faults(seed=seed)
        self._chance: Chance = chance(seed)
        self._changed = asyncio.Event()

    def show(self) -> Mapping[str, Any]:
        """The state, as JSON."""
        return asdict(self._faults) | {"failure_rate": self._baseline}

    def change(self, given: Mapping[str, Any]) -> None:
        """Replace the state: what is not given goes back to its default. Ends every hang. Raises ProblemError 400."""
        checked = read_numbers({k: v for k, v in given.items() if k != "failure_rate"}, _BOUNDS, _CHOICES)
        checked["seed"] = int(checked.get("seed", self._faults.seed))
        self._faults = Faults(**checked)
        self._chance = chance(self._faults.seed)
        self.release()

    def release(self) -> None:
        """End every hang, with 503."""
        self._changed.set()
        self._changed = asyncio.Event()

    def draw(self) -> Drawn:
        """What happens to the next request."""
        faults = self._faults
        if not (self._baseline or faults.fail_rate or faults.hang_rate or faults.delay_ms or faults.omit):
            return _NOTHING
        happens = self._chance.random
        # All five are drawn each time, so that turning one fault up does not shift the others.
        baseline, fail, hang, delay, omit = happens(), happens(), happens(), happens(), happens()
        return Drawn(
            fail=baseline < self._baseline or fail < faults.fail_rate,
            hang=hang < faults.hang_rate,
            delay_s=faults.delay_ms / 1000 if delay < faults.rate else 0.0,
            omit=faults.omit if omit < faults.rate else None,
        )

    async def suffer(self, drawn: Drawn) -> None:
        """Live through the delay, hang and failure that were drawn. Raises ProblemError 500 or 503."""
        if drawn.delay_s:
            await asyncio.sleep(drawn.delay_s)
        if drawn.hang:
            await self._changed.wait()
            raise ProblemError(503, "held back by a planted fault that has ended; try again")
        if drawn.fail:
            raise ProblemError(500, "a planted fault failed this request")

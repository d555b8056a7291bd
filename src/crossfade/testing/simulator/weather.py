"""Which faults a seed switches on, and how often they come."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random  # noqa: TID251 - seeded: a run is its seed

STORMS = (
    "store down",
    "store slow",
    "proxy refuses",
    "proxy ignores",
    "proxy unreachable",
    "proxy stale",
    "telemetry lost",
    "telemetry late",
    "telemetry doubled",
    "telemetry raises",
)
"""Faults that last: `proxy ignores` says yes and keeps what it had, `proxy stale` answers with what it said before."""
BLOWS = ("proxy restarts", "proxy forgets", "clock steps", "kill", "stop", "rival", "switch", "gives up")
"""Faults of a moment: a process is killed or stopped for a while, another one starts beside it, somebody throws the
rollback switch at the proxy itself, the proxy puts everyone on V1 by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What goes wrong in one run. Lengths and gaps are means, in real seconds."""

    storms: dict[str, tuple[float, float]] = field(default_factory=dict)
    """By kind, the gap between two and how long one lasts."""
    blows: dict[str, float] = field(default_factory=dict)
    """By kind, the gap between two."""
    killed: float = 0.0
    """Chance that a process is killed at one of its calls."""
    refused: float = 0.0
    """Chance that the store fails a call."""
    unheard: float = 0.0
    """Chance that the store's reply to a write is lost."""
    unanswered: float = 0.0
    """Chance that an answer to a person is lost."""
    one_machine: bool = True
    """Whether all processes run on one machine, on which the next one knows at once that the last one ended."""
    overtaken: float = 0.0
    """Chance that a rollback switch is thrown between two steps of a change of the proxy."""
    hasty: float = 120.0
    """Gap between two commands of people."""
    defects: float = 600.0
    """Gap between two defects of V2."""
    outages: float = 1500.0
    """Gap between two outages of both versions."""

    def __str__(self) -> str:
        chances = f"killed={self.killed} refused={self.refused} unheard={self.unheard} overtaken={self.overtaken}"
        chances += f" unanswered={self.unanswered}{' one machine' if self.one_machine else ''}"
        return f"{', '.join([*self.storms, *self.blows]) or 'no faults'}; {chances}; commands each {self.hasty:.0f} s"


def draw(random: Random) -> Weather:
    """Draw a run's weather: few kinds of fault at once find more than all of them always."""
    likely = random.choice((0.1, 0.3, 0.5, 0.8))

    def on() -> bool:
        return random.random() < likely

    return Weather(
        storms={kind: (random.uniform(40, 500), random.uniform(1, 40)) for kind in STORMS if on()},
        blows={kind: random.uniform(30, 500) for kind in BLOWS if on()},
        killed=random.choice((0.0005, 0.003)) if on() else 0.0,
        refused=random.choice((0.003, 0.03)) if on() else 0.0,
        unheard=random.choice((0.003, 0.03)) if on() else 0.0,
        unanswered=0.2 if on() else 0.0,
        one_machine=random.random() < 0.5,
        overtaken=0.1 if on() else 0.0,
        hasty=random.uniform(15, 150),
        defects=random.uniform(150, 1000),
        outages=random.uniform(300, 2000),
    )

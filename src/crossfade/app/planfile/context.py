"""What the phases of a plan refer to, and what those read so far have come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from crossfade.app.planfile.shares import Population
from crossfade.core.plan import Gate, Metric
from crossfade.core.split import NOBODY, Split


@dataclass(slots=True, kw_only=True)
class Context:
    """What phases refer to, and what the phases read so far have come to."""

    metrics: Mapping[str, Metric]
    metric_names: Sequence[str]
    """Those with mistakes included."""
    cohort_names: Sequence[str]
    people: Population
    users_unread: bool = False
    """The number of users was written, and could not be read."""
    split: Split = NOBODY
    target: int = 0
    name: str = ""
    """Of the latest phase."""
    inherited: tuple[Gate, ...] = ()
    given_by: dict[str, str] = field(default_factory=dict)
    """Name of the phase that wrote a gate, by the gate's text."""

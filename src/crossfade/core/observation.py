"""What one look at the evidence gives to `decide`: a reading for each metric, and since when things have been so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from crossfade.core.evidence.adoption import Adoption
from crossfade.core.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One metric, as of now. Values are in the metric's unit and of the current phase; odds are natural logarithms."""

    metric: str
    guard: Verdict
    """FAIL: the guardrail is breached (shown by evidence where it compares); PASS: it is not, on enough requests."""
    target: Verdict
    """PASS: the target is met and V2 is shown not to be worse than V1 beyond the phase's margin."""
    sentence: str
    """One sentence for people: value, limit, interval, sample."""
    v1: float | None = None
    v2: float | None = None
    n1: int = 0
    n2: int = 0
    k1: float = 0.0
    k2: float = 0.0
    ratio: float | None = None
    """V2's rate over V1's, estimated, with the ends of its confidence sequence."""
    ratio_low: float | None = None
    ratio_high: float | None = None
    harm_log_e: float | None = None
    harm_needed: float | None = None
    """Harm is shown when harm_log_e >= harm_needed."""
    promote_log_e: float | None = None
    promote_needed: float | None = None
    """Non-inferiority is shown when promote_log_e >= promote_needed."""
    forecast_s: tuple[float, float, float] | None = None
    """Seconds until non-inferiority would be shown: 10th, 50th, 90th percentile."""
    forecast_never: float = 0.0
    """Probability that it never will be at this rate."""
    onset: float | None = None
    """Plan time at which harm most likely began; None without harm."""
    both_bad: bool = False
    """V2 is over its absolute limit, and V1 is as bad at the same time: a shared incident."""
    breached_since: float | None = None
    """Plan time since which the guardrail has been breached without a break; None while it isn't."""
    users_hurt: int = 0
    """Distinct users with a failure on V2 in this phase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerReading:
    """A breaker as V2's answers tell of it."""

    name: str
    open_since: float | None = None
    """Plan time since which most answers have said open; None while it isn't, or nobody knows."""
    longest_open_s: float = 0.0
    """In this phase, the present opening included."""
    share_open: float | None = None
    """Of the phase's answers that told a state."""
    last_seen: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareReading:
    """Whether V2 gets the users that the plan gives it."""

    verdict: Verdict
    sentence: str
    seen: float | None = None
    """V2's share (0..1) of the compared requests of this phase."""
    wanted: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Blindness:
    """Something that could not be looked at, and since when."""

    what: str
    """`telemetry`, `v2 traffic`, `v1 traffic`, `clock`, or `fact weather`."""
    since: float
    reason: str
    matters: bool = True
    """Whether a decision rests on it; only then is the look BLIND."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Everything `decide` may know."""

    readings: Mapping[str, Reading] = field(default_factory=dict)
    breakers: Mapping[str, BreakerReading] = field(default_factory=dict)
    blind: tuple[Blindness, ...] = ()
    last_tick_at: float | None = None
    """End of the last tick that somebody reported, plan time."""
    no_critical_since: float | None = None
    """V2 has been watched without a critical error since then; None: one is just there, or nobody watched."""
    v1_silent_since: float | None = None
    """Nobody has asked for V1's own paths or been answered by V1 since then, and somebody watched."""
    stable_since: float | None = None
    """Since then no guardrail was breached and nothing was blind."""
    adoption: Adoption = field(default_factory=Adoption)
    """V2's share of all requests by day, in this attempt."""
    requests_v1: int = 0
    requests_v2: int = 0
    """In this phase, overrides included."""
    share: ShareReading = ShareReading(verdict=Verdict.INCONCLUSIVE, sentence="no requests seen yet")
    weight_seen: float | None = None
    """Basis points of this phase's requests that went to V2 by assignment."""

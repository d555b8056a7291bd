"""The form of what is asked and answered. Times are plan seconds since the epoch, shares are basis points."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from crossfade.core.access import Role
from crossfade.core.decide import Outcome
from crossfade.core.machine import State
from crossfade.core.observation import Blindness, BreakerReading, Reading
from crossfade.core.plan import Action, GateKind, MetricKind
from crossfade.core.population import UsersSeen
from crossfade.core.split import Version
from crossfade.core.verdict import Verdict

Share = Annotated[int, Field(ge=0, le=10_000)]
"""Basis points."""


class Said(BaseModel):
    """What is said and answered: nothing more than its fields."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


# ── what is asked ───────────────────────────────────────────────────────────────────────────────────────────


class Ask(Said):
    """What a person says with a verb."""

    by: str = Field(default="", max_length=200, examples=["ada"])
    """Who asks; heard only from the user of the controller's machine. A token's acts carry its name."""
    reason: str = Field(default="", max_length=2000, examples=["support has no open complaints"])
    """Kept in the history."""


class AskRetry(Ask):
    """A retry may name its phase."""

    phase: str | None = Field(default=None, max_length=200, examples=["canary"])
    """Where to start again; null: in the phase that was rolled back."""


class AskRetire(Ask):
    """A retirement may name what was kept of V1."""

    archive: str = Field(default="", pattern="^([0-9a-f]{64})?$", examples=["9f86d081" * 8])
    """SHA-256 of the archive's manifest; a plan that says `then: archive and retire v1` wants it."""


class AskStopBrownout(Ask):
    """A brownout to be stopped."""

    brownout: str = Field(default="", max_length=64, examples=["first"])
    """Its name; empty: the one that goes on."""


class AskRehearse(Ask):
    """A rehearsal's report, handed over."""

    report: dict[str, Any] = Field(examples=[{"plan": "trips-v2", "parts": []}])
    """As `crossfade rehearse -o json` prints it; its outcome is found anew from the criteria."""


class AskToken(Said):
    """A token to be made."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")] = Field(examples=["ci"])
    """Stands in the history beside what is done with it."""
    role: Role = Field(examples=[Role.OPERATOR])
    expires_s: Annotated[float, Field(gt=0, le=10 * 366 * 86_400)] | None = Field(default=None, examples=[2_592_000.0])
    """Real seconds from now; null: it holds until it is revoked."""


class AskLogin(Said):
    """A login with a token."""

    token: str = Field(max_length=500, examples=["crossfade_..."])


# ── what is answered ────────────────────────────────────────────────────────────────────────────────────────


class Problem(Said):
    """What went wrong (RFC 9457)."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["ConflictError"])
    status: int = Field(ge=400, le=599, examples=[409])
    detail: str = Field(examples=["cannot resume a rollout that is running; it must be paused"])
    """What it is about, its value, and what to do next."""


class SplitView(Said):
    """Shares of V2."""

    everyone: Share
    """Of all users outside the cohorts named."""
    cohorts: dict[str, Share]


class Gate(Said):
    """One line of the checklist."""

    gate: str = Field(examples=["failure_rate on target"])
    kind: GateKind
    verdict: Verdict | None
    """Null in phases that the rollout is not in."""
    evidence: str | None
    """What has been seen, beside its limit."""
    left_s: float | None
    """Plan seconds until it can pass, as far as that is known."""


class PhaseNow(Said):
    """The phase the rollout is in."""

    name: str
    index: int = Field(ge=0)
    count: int = Field(ge=1)
    """Phases in all."""
    since: float
    target: Share
    soak_s: float


class DecisionNow(Said):
    """The latest decision."""

    outcome: Outcome
    sentence: str
    """Outcome, reason and next look."""
    reason: str
    look_again_s: float | None


class ShareView(Said):
    """Whether V2 gets the users that the plan gives it."""

    verdict: Verdict
    sentence: str


class Node(Said):
    """What one proxy node reports of itself."""

    node: str
    reachable: bool
    error: str
    version: str
    up_since: float
    """Wall-clock seconds since the epoch."""
    generation: int | None
    killed: bool | None
    """Everyone is on V1, cohorts and overrides included."""
    split: SplitView | None


class Requests(Said):
    """Requests of this phase, by the version that answered."""

    v1: int
    v2: int


class Brownout(Said):
    """A short planned absence of V1 for part of its clients."""

    name: str
    at: int
    until: int
    share: Share
    """Of the clients."""
    state: Literal["ahead", "now", "over"]


class Status(Said):
    """Where a rollout is, why, and what comes next."""

    rollout: str
    state: State
    held: str | None
    """Why the engine holds; null while it doesn't."""
    held_kind: str | None
    now: float
    started_at: float | None
    ended_at: float | None
    revision: int
    """Events so far; the ETag."""
    generation: int
    attempt: int
    rollbacks: int
    rollback_reason: str | None
    drilled: str | None
    """What the latest drill that passed has shown, in this attempt."""
    phase: PhaseNow
    split: SplitView
    weight: float
    """V2's wanted share of all users, basis points."""
    weight_seen: float | None
    """V2's share of this phase's requests, basis points."""
    share: ShareView
    users: UsersSeen
    killed: bool
    applied: bool
    """The proxy has confirmed the wanted state."""
    nodes: list[Node]
    gates: list[Gate]
    decision: DecisionNow | None
    metrics: dict[str, Reading]
    breakers: dict[str, BreakerReading]
    blind: list[Blindness]
    alerts: dict[str, str]
    """Alerts raised and not cleared, by what they are about."""
    requests: Requests
    brownouts: list[Brownout]
    """The plan's calendar, in the order of its times."""
    fenced: str | None
    """Why this controller may not act; null while it may."""


class RolloutLine(Said):
    """One rollout of the list."""

    rollout: str
    served: bool
    """This process carries it out; of the others in its stores only the name is known here."""
    state: State | None
    phase: str | None
    weight: float | None
    held_kind: str | None
    held: str | None
    """Why it does not promote, where it is held."""
    reason: str | None
    """Of the latest decision."""
    look_again_s: float | None
    fenced: str | None
    """Why this process may not act; null while it may."""
    revision: int | None


class Phase(Said):
    """One phase of the plan, with its gates as a checklist."""

    name: str
    place: Literal["past", "now", "ahead"]
    target: Share
    split: SplitView
    soak_s: float
    margin: float
    gates: list[Gate]


class PlanPhase(Said):
    """One phase as the plan has it."""

    name: str
    target: Share
    split: SplitView
    soak_s: float
    margin: float
    gates: list[str]


class PlanMetric(Said):
    """One metric as the plan has it."""

    name: str
    kind: MetricKind
    guard: str | None


class PlanView(Said):
    """The plan that the rollout was started from."""

    rollout: str
    digest: str
    """SHA-256 of the plan's canonical form, cohorts included."""
    salt: int
    """Of the hash that assigns users."""
    phases: list[PlanPhase]
    metrics: list[PlanMetric]


class Bound(Said):
    """A bound on V2's value, in the metric's unit."""

    comparison: str = Field(examples=["<="])
    value: float
    of_v1: bool
    """The bound is so many times V1's value at the same time."""


class Guard(Said):
    """What is watched all the time."""

    text: str
    """As the plan says it."""
    action: Action
    breach: Bound | None
    worse_than_v1: bool
    """The breach counts only where V2 is also worse than V1 at the same time."""


class RegionRow(Said):
    """A metric's values in one region, in its unit: to be looked at, never decided by."""

    region: str = Field(examples=["eu"])
    """As clients call it; empty for those who don't, `other` for all that came after the first ten."""
    v1: float | None
    v2: float | None
    n1: int = Field(ge=0)
    """Answers of V1 that tell."""
    n2: int = Field(ge=0)


class Metric(Said):
    """One metric: what the plan wants of it, and what has been seen in this phase."""

    name: str
    kind: MetricKind
    baseline: float | None
    target: Bound | None
    guard: Guard | None
    margin: float
    """How many times V1's rate V2 must be shown to be below, in this phase."""
    reading: Reading | None
    """Values of V1 and V2, their ratio with its confidence sequence, the evidence of harm and for promotion beside
    what is needed (natural logarithms), and the forecast; null before the first look."""
    regions: list[RegionRow]
    """In this phase, and since this process began; those with most answers first."""


class Pair(Said):
    """A metric's values, in its unit."""

    v1: float | None
    v2: float | None


class TrendPoint(Said):
    """How the rollout looked at a time: for charts, not evidence."""

    at: float
    phase: int = Field(ge=0)
    weight: float
    seen: float | None
    """V2's share of requests, basis points."""
    metrics: dict[str, Pair]


class Event(Said):
    """Something that happened."""

    revision: int = Field(ge=1)
    at: float
    kind: str = Field(examples=["PhasePromoted"])
    data: dict[str, Any]


class EventPage(Said):
    """Events, oldest first."""

    items: list[Event]
    next: str | None = Field(examples=["/api/v1/rollouts/trips-v2/events?after=100&limit=100"])
    """Path of the next page; null where there is none yet."""


class Decision(BaseModel):
    """One decision that was kept, with what it rested on."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    at: float
    outcome: Outcome
    sentence: str


class DecisionPage(Said):
    """Decisions, newest first."""

    items: list[Decision]
    next: str | None = Field(examples=["/api/v1/rollouts/trips-v2/decisions?before=1790000000.0&limit=50"])
    """Path of the page of older ones; null where there is none."""


class Whois(Said):
    """Which version a user gets, and why."""

    user: str
    version: Version
    bucket: int = Field(ge=0, lt=10_000)
    cohort: str | None
    share: Share
    """V2's share that the bucket was compared with."""
    phase: str
    reason: str


class Me(Said):
    """Who is asking."""

    name: str
    role: Role
    local: bool
    """The user of the controller's machine."""


class LoginCode(Said):
    """What logs a browser in, once."""

    code: str
    expires_s: float


class TokenView(Said):
    """What is known of a token; times are real seconds since the epoch."""

    name: str
    role: Role
    created_at: float
    created_by: str
    expires_at: float | None
    expired: bool


class NewToken(TokenView):
    """A token that was just made."""

    token: str = Field(examples=["crossfade_..."])
    """The secret: shown this once."""


class ActView(Said):
    """Something that somebody asked for; `at` is in real seconds since the epoch."""

    at: float
    by: str
    role: str
    address: str
    act: str = Field(examples=["promote"])
    rollout: str
    reason: str
    status: int
    """Of the answer: below 400 it was done."""
    detail: str
    """Why it was refused."""
    left_out: int
    """Refusals of unknown callers before this one that were not written down, because there were too many."""

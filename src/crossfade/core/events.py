"""What can happen to a rollout, in the past tense. Events are all that is kept; the state is their fold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened; `at` is plan time in seconds since the epoch."""

    VERB: ClassVar[str] = ""
    """The command that asks for it, for messages; empty for facts."""
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutStarted(Event):
    """The plan began to be carried out, in its first phase."""

    VERB: ClassVar[str] = "start"
    plan: str
    digest: str
    """Of the plan: a rollout goes on only with the plan it started from."""
    by: str = ""
    phase: str = ""
    """Name of the first phase."""
    speed: float = 1.0
    """Plan seconds per real second of the controller's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControllerStarted(Event):
    """A controller took over; its generation outdates all earlier ones."""

    speed: float = 1.0
    """Plan seconds per real second of its clock."""
    by: str = ""
    """Which process, as the lease names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePromoted(Event):
    """The next phase was decided on. Recorded before the proxy is set: it is the intent."""

    VERB: ClassVar[str] = "promote"
    phase: int
    """Index of the phase entered."""
    name: str
    reason: str
    by: str = ""
    """Who asked; empty where the evidence did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitApplied(Event):
    """Every node of the proxy reported the wanted state back. Recorded after the proxy was set: it is the fact."""

    generation: int
    everyone: int
    """Basis points."""
    cohorts: dict[str, int]
    killed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldBegan(Event):
    """The engine stopped promoting, for a reason it goes on watching."""

    kind: str
    """guard | both bad | blind | drift"""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldEnded(Event):
    """The reason to hold is gone."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Event):
    """A person stopped promotions."""

    VERB: ClassVar[str] = "pause"
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Event):
    """A person allowed promotions again."""

    VERB: ClassVar[str] = "resume"
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GateApproved(Event):
    """A person approved leaving a phase."""

    VERB: ClassVar[str] = "approve"
    phase: int
    by: str
    reason: str
    person: str = ""
    """Name of the token: two approvals with the same one are one person's. Empty: `by`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolledBack(Event):
    """All users are on V1. Recorded after the proxy was set."""

    VERB: ClassVar[str] = "roll back"
    reason: str
    trigger: str
    """Name of the metric, `person`, `proxy` (found rolled back there), `unattended` (the proxy did it
    itself, because no controller looked after it), `drill` (one that failed) or `blind`."""
    took_s: float
    """Real seconds from the decision to the last node's answer."""
    nodes: dict[str, str]
    """What each node said: `v1` or an error."""
    users_hurt: int = 0
    by: str = ""
    generation: int = 0
    """Under which the switches were thrown; the history's own goes on from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalRecorded(Event):
    """A person handed a rehearsal's report over. The latest one counts."""

    VERB: ClassVar[str] = "record a rehearsal of"
    by: str
    reason: str
    digest: str
    """Of what the plan said that was rehearsed."""
    outcome: str
    """PASS | FAIL | INCONCLUSIVE"""
    sentence: str
    """The outcome's reason, with the name of a criterion that failed."""
    ended: float
    """Plan time at which the first of its parts had ended: from then on it grows old."""
    versions: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the OpenAPI document of v1 and v2, where known."""
    report: str = ""
    """SHA-256 of the report, by which its file is known again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeakLoadRecorded(Event):
    """The report that a person handed over holds a load at the plan's peak. The latest one counts."""

    VERB: ClassVar[str] = "record a peak load of"
    by: str
    reason: str
    digest: str
    """Of what the plan said that was rehearsed."""
    outcome: str
    """PASS | FAIL | INCONCLUSIVE"""
    sentence: str
    """The outcome's reason, with the name of a criterion that failed."""
    ended: float
    """Plan time at which it had ended: from then on it grows old."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillStarted(Event):
    """A rollback on purpose was decided on. Recorded before the switch is thrown: it is the intent."""

    VERB: ClassVar[str] = "drill"
    phase: int
    name: str
    within_s: float
    """Real seconds that the rollback may take."""
    reason: str
    """What shows that V1 can take everyone."""
    by: str = ""
    """Who asked; empty where the plan did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillPassed(Event):
    """Everyone was on V1 in time, and goes back to the phase's split: it is the intent to raise."""

    phase: int
    name: str
    took_s: float
    """Real seconds from the command to the last node's confirmation."""
    last_v2_s: float
    """Real seconds from the command to the start of the last request given to V2; 0 where none came after it."""
    within_s: float
    lasted_s: float
    """Real seconds for which everyone was kept on V1, until it was shown that V2 was given nothing."""
    nodes: dict[str, str]
    """What each node said: `v1`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillFailed(Event):
    """The drill did not show what it was to show. A rollback follows: everyone stays on V1."""

    phase: int
    name: str
    reason: str
    took_s: float | None = None
    """As in DrillPassed; None where it isn't known."""
    last_v2_s: float | None = None
    nodes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried(Event):
    """A person started again from a phase, with the same assignment."""

    VERB: ClassVar[str] = "retry"
    phase: int
    name: str
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Aborted(Event):
    """A person ended the rollout for good; everybody was put on V1 first."""

    VERB: ClassVar[str] = "abort"
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutCompleted(Event):
    """Every gate of the last phase passed."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetirementStarted(Event):
    """A person took V1 away. Recorded before the proxy is set: it is the intent."""

    VERB: ClassVar[str] = "retire"
    by: str
    reason: str
    shown: str
    """The checklist as it was then."""
    archive: str = ""
    """SHA-256 of the manifest of what was kept of V1 before; empty where nothing was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class V1Retired(Event):
    """V1 is out of the proxy, as every node has reported back: no rollback leads there any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrownoutStarted(Event):
    """The plan's calendar takes V1 away from part of its clients for a while. Recorded before the proxy is set."""

    VERB: ClassVar[str] = "begin a brownout of"
    name: str
    until: int
    """Plan time, seconds since the epoch."""
    share: int
    """Basis points of the clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrownoutEnded(Event):
    """A brownout is over, was called off, or was missed; it does not come again."""

    VERB: ClassVar[str] = "stop a brownout of"
    name: str
    reason: str
    by: str = ""
    """Who asked; empty where its time was over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentsChanged(Event):
    """Users joined a cohort or left one. Who they are is not in the history, so that they can be forgotten."""

    cohort: str
    joined: int
    left: int
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerTold(Event):
    """An owner of clients was told of a step towards V1's end, or nobody could do so and it is tried no more."""

    id: str
    """Of the notice."""
    step: str
    brownout: str
    """Its name, of notices of one; empty for others."""
    owner: str
    contact: str
    """Where it went, as it may be shown."""
    clients: list[str]
    """The first of those that it names."""
    count: int
    """How many it names."""
    taken: bool
    said: str
    """What came back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRaised(Event):
    """People should look."""

    key: str
    """What it is about; an alert is raised once until it is cleared."""
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertCleared(Event):
    """The reason of an alert is gone."""

    key: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftFound(Event):
    """A proxy node reported another state than the wanted one; it was set again."""

    node: str
    detail: str


KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}
"""Event types by the name under which they are stored."""


def to_data(event: Event) -> dict[str, Any]:
    """Return an event's fields as JSON-able values, `at` left out (it is stored beside them)."""
    data = asdict(event)
    del data["at"]
    return data


def from_data(kind: str, at: float, data: Mapping[str, object]) -> Event:
    """Return the event kept under a kind; KeyError where this version knows no such kind.

    Fields that a later version added are passed over, so that an older one can still read the history.
    """
    event_type = KINDS[kind]
    known = {f.name for f in fields(event_type)}
    values: dict[str, Any] = {name: value for name, value in data.items() if name in known}
    return event_type(at=at, **values)

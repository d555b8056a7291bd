"""The plan as frozen values. An impossible plan can't be constructed: every `__post_init__` raises ValueError.

Times are seconds, shares basis points, rates fractions of 1 unless a name says otherwise. The file format is
`crossfade.app.planfile`'s matter; its errors carry lines, these carry only words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from crossfade.core.mirror.rules import Mirror
from crossfade.core.split import BUCKETS, Split

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY


class KeySource(StrEnum):
    """Where in a request a key is looked for."""

    HEADER = "header"
    COOKIE = "cookie"
    ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class Key:
    """One place to look for a key: `header X-User-Id`, `cookie uid`, `address`."""

    source: KeySource
    name: str = ""
    """Header or cookie name; empty for the address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One version of the API: its path and the servers that answer it (host:port)."""

    path: str
    upstreams: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """What the proxy serves."""

    entry: str
    """The path at which clients are split."""
    v1: Upstream
    v2: Upstream
    listen: str = "127.0.0.1:8100"
    """host:port the proxy binds for clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AssignmentRule:
    """How requests are attributed to users, clients and regions."""

    user: tuple[Key, ...]
    """The first one present is the user key."""
    salt: int
    """Seed of the bucket hash, 0..2**31-1 (every proxy's xxh64 takes these alike), from the rollout's name and the
    plan's salt text: fresh for each rollout, so that buckets of former ones don't carry over."""
    client: Key | None = None
    region: Key | None = None
    cohorts: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Members by cohort; someone in several belongs to the first in this order."""
    users: int = 0
    """How many users there are in all, outside of staff cohorts; 0 where the plan doesn't say."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cohorts", MappingProxyType(dict(self.cohorts)))

    def cohort_of(self, user_key: str) -> str | None:
        """Return the user's cohort, None for everyone else."""
        return next((name for name, members in self.cohorts.items() if user_key in members), None)

    def cohort_sizes(self) -> dict[str, int]:
        """Return how many users each cohort really holds (someone in several counts in the first)."""
        seen: set[str] = set()
        sizes = {}
        for name, members in self.cohorts.items():
            sizes[name] = len(members - seen)
            seen |= members
        return sizes


class MetricKind(StrEnum):
    """Where a metric's numbers come from."""

    FAILURE_RATE = "failure_rate"
    """Answers with status 500 and up, and requests V2 could not be reached for."""
    CRITICAL_ERRORS = "critical_errors"
    """Requests to which a version gave no answer at all: refused, reset or timed out at the proxy."""
    AVAILABILITY = "availability"
    """Share of answers in which a fact is not 0, false, missing, fallback or unavailable."""
    LATENCY = "latency"
    """A quantile of the time to the answer's headers, in milliseconds."""
    LATENCY_MEAN = "latency_mean"
    """Mean of that time, cut at twice V1's 99th percentile before; compared with V1's only."""
    BREAKER = "breaker"
    """Share of answers given with the breaker open; the fact is `<breaker>-breaker`."""
    TIMING = "timing"
    """Mean of a fact that carries a number, such as db=3.1 (milliseconds)."""
    RATIO = "ratio"
    """Share of answers in which a fact has a given value, such as cache=hit."""
    OUTCOME = "outcome"
    """Mean of values within 0..1 of users: posted (satisfaction), or of what they did (conversion, retention)."""
    VALUE = "value"
    """Mean of what users' windows add up to, cut at the most that counts; compared with V1's only."""
    COMPLAINTS = "complaints"
    """How many users complained, once a user and day, of those that gave feedback."""
    QUERIED = "queried"
    """Share of bad ones among counts that a source is asked for, such as a Prometheus."""


class Comparison(StrEnum):
    """How a value is compared with a limit."""

    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    EQ = "="

    def holds(self, value: float, limit: float) -> bool:
        """Tell whether `value <comparison> limit`."""
        return {
            Comparison.LT: value < limit,
            Comparison.LE: value <= limit,
            Comparison.GT: value > limit,
            Comparison.GE: value >= limit,
            Comparison.EQ: value == limit,
        }[self]


class Action(StrEnum):
    """What a guardrail that fails makes happen; the later in this order, the stronger."""

    MONITOR = "monitor"
    ALERT = "alert"
    HOLD = "hold"
    ROLLBACK = "rollback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A bound on a metric's V2 value, in the metric's own unit (fraction, milliseconds, count)."""

    comparison: Comparison
    value: float
    of_v1: bool = False
    """The bound is so many times V1's value at the same time."""

    @property
    def is_upper(self) -> bool:
        """Tell whether it is met by values above it: `>` and `>=`."""
        return self.comparison in (Comparison.GT, Comparison.GE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """A condition watched all the time: while it is met, the action is wanted."""

    action: Action
    breach: Limit | None = None
    """The breach; None where the guard is only to be monitored or speaks of the breaker's state."""
    worse_than_v1: bool = False
    """The breach counts only where V2 is also worse than V1 at the same time."""
    open_longer_than_s: float | None = None
    """For breaker metrics: the breach is being open for longer than this."""
    text: str = ""
    """As the author wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where counts are asked for that the proxy doesn't know."""

    name: str
    """What the plan calls it: the adapter's name."""
    url: str
    every_s: float = MINUTE
    """Length of the intervals whose counts are asked for, one after the other."""
    token: str = field(default="", repr=False)
    """Sent as a bearer token; empty: none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """Two questions to a source: how many bad ones, of how many; `$version` and `$interval` are filled in."""

    source: str
    bad: str
    total: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEvent:
    """Something that users do, and how it is heard of."""

    name: str
    method: str = ""
    """Of the requests that are it; empty: programs post it."""
    paths: tuple[str, ...] = ()
    """As clients write them; `*` stands for one segment, `**` at the end for one or more."""


class Counted(StrEnum):
    """What of a user's window counts."""

    REACHES = "reaches"
    """Whether they did another thing in it."""
    SUMS = "sums"
    """The values of what they did in it, added up."""
    RETURNS = "returns"
    """Whether they did the same again on a later day in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What is counted of each user who does something: a window begins with it, once a user and day."""

    of: str
    """Name of the event that begins it."""
    counted: Counted
    event: str
    """Name of the event that is looked for in it."""
    within_s: float = HOUR
    """Plan seconds that the window lasts."""
    most: float = 1.0
    """For SUMS: more than this counts as this, and values are parts of it."""

    def __post_init__(self) -> None:
        if self.within_s <= 0 or self.most <= 0:
            raise ValueError("a window lasts, and the most that counts is above 0")
        if (self.event == self.of) != (self.counted is Counted.RETURNS):
            raise ValueError("who returns does the same again, and what is reached or summed is another event")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What is watched: its source, what is known and wanted, and the guardrail."""

    name: str
    kind: MetricKind
    fact: str = ""
    """Name of the fact, for kinds that read one (for BREAKER the name of the breaker's fact)."""
    fact_value: str = ""
    """For RATIO: the value counted."""
    quantile: float | None = None
    """For LATENCY: 0..1."""
    outcome: str = ""
    """For OUTCOME, VALUE and QUERIED: the name under which ticks hold the sums."""
    behaviour: Behaviour | None = None
    """For VALUE, and for an OUTCOME that is worked out of what users do; None: it is posted."""
    query: Query | None = None
    """For QUERIED."""
    baseline: float | None = None
    target: Limit | None = None
    guard: Guardrail | None = None

    @property
    def most(self) -> float:
        """Return what a value of 1 stands for: the most that a user's window counts, where values are added up."""
        return 1.0 if self.behaviour is None else self.behaviour.most

    @property
    def relative(self) -> Limit | None:
        """Return the bound by which V2's value is compared with V1's: the guardrail's, else the target's."""
        breach = self.guard.breach if self.guard else None
        if breach is not None:
            return breach if breach.of_v1 else None
        if self.target is None or not self.target.of_v1:
            return None
        turned = Comparison.LT if self.target.is_upper else Comparison.GT
        return Limit(comparison=turned, value=self.target.value, of_v1=True)


class GateKind(StrEnum):
    """The kinds of condition to leave a phase."""

    SOAK = "soak"
    """The phase has lasted its time."""
    ON_TARGET = "on_target"
    """`failure_rate on target`: the target is met, and V2 is shown not to be worse than V1 beyond the margin."""
    LIMIT = "limit"
    """`complaints < 5`, `weather_available >= 40%`: a plain comparison of the phase's value."""
    NO_CRITICAL_ERRORS = "no_critical_errors"
    """`no critical errors for 3d`."""
    NO_STUCK_BREAKER = "no_stuck_breaker"
    """`no stuck breaker`: every breaker that opened closed again within its guard's time, and none is open."""
    STABLE = "stable"
    """`stable for 24h`: for that long no guardrail of the plan was breached and nothing was blind."""
    NO_V1_REQUESTS = "no_v1_requests"
    """`no v1 requests for 1d`."""
    SHARE_RISES = "share_rises"
    """`v2 share rises continuously`: by complete day, V2's share of all requests has risen and not fallen."""
    NO_CASCADING_FAILURES = "no_cascading_failures"
    """`no cascading failures`: while the dependency failed, V2's own failures stayed on target."""
    ROLLBACK_READY = "rollback_ready"
    """`rollback ready`: the proxy's rollback connection answers and every node reports the wanted state."""
    DRILL_PASSED = "drill_passed"
    """`drill passed`: a rollback on purpose was done in this phase, and in time."""
    REHEARSAL_PASSED = "rehearsal_passed"
    """`rehearsal passed`: the latest rehearsal recorded passed, and has not expired."""
    PEAK_LOAD_PASSED = "peak_load_passed"
    """`peak load passed`: the latest load at the plan's peak recorded passed, and has not expired."""
    NO_EXEMPTED_CLIENTS = "no_exempted_clients"
    """`no exempted client left`: the register has none whose exemption lasts."""
    APPROVED = "approved"
    """`approved by a person`, `approved by 2 people`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A condition to leave a phase."""

    kind: GateKind
    text: str
    """As the author wrote it; unique within the rollout's phase."""
    metric: str | None = None
    limit: Limit | None = None
    for_s: float = 0.0
    """How long it must have held without a break, up to now."""
    people: int = 1
    """For APPROVED: how many different people must have approved."""


DRILL_WITHIN_S = 60.0
"""What a rollback may take where the plan says nothing else (R16)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillStep:
    """A rollback on purpose, as a step of a phase."""

    after_s: float
    """Plan seconds after the phase was entered; later where it can't be begun then."""
    within_s: float = DRILL_WITHIN_S
    """Real seconds from the command to the last confirmation, and to V2's last request."""
    v1_capacity: float | None = None
    """Requests per plan second that V1 may be given in all; None: whatever it has been seen to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A part of the plan with one target split."""

    name: str
    split: Split
    """As applied: absolute shares per cohort, already never below an earlier phase's."""
    target: int
    """V2's share of all users that the author wrote, in basis points."""
    soak_s: float
    gates: tuple[Gate, ...]
    """The phase's own gates and, before them, those inherited from the phases before (R13)."""
    own_gates: tuple[Gate, ...] = ()
    margin: float = 1.25
    """How many times V1's rate V2 must be shown to be below (non-inferiority)."""
    drill: DrillStep | None = None
    users: int = 0
    """How many users the author expects on V2; 0 where they don't say."""
    retires: bool = False
    """Whether V1 may be retired once its gates have passed; of the last phase only."""
    archives: bool = False
    """Whether it may be only after it was archived."""

    def __post_init__(self) -> None:
        if self.archives and not self.retires:
            raise ValueError(f"V1 is archived before it is retired, and phase {self.name} doesn't retire it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidence:
    """Error probabilities."""

    false_rollback: float = 0.01
    """Of the whole rollout, however often it is looked at."""
    false_promotion: float = 0.05
    """Of each phase."""
    burst_tolerance_s: float = 0.0
    """How long a burst of failures that only V2 has may last without a rollback, unless nearly every answer fails; 0:
    any burst is evidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unattended:
    """What happens where no controller looks after a proxy any more."""

    after_s: float = 600.0
    """Real seconds without a controller that holds its lease; the proxy node itself counts them."""
    rollback: bool = False
    """Whether the node then puts everyone on V1 by itself; it alerts either way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of request that a load sends: GET, always."""

    name: str
    target: str
    """Path and query at the entry; `{name}` stands for a value drawn anew for each request."""
    weight: float = 1.0
    """How often it is sent, beside the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a load must show: `latency_p99 <= 500ms`."""

    text: str
    kind: MetricKind
    """FAILURE_RATE or LATENCY."""
    limit: Limit
    quantile: float | None = None
    """For LATENCY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How users ask, for a test under load."""

    scenarios: tuple[Scenario, ...]
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What the scenarios' placeholders are drawn from, by name."""
    users: int = 1000
    think_s: float = 1.0
    """Mean time from one request of a user to the next."""
    version: str = "API-Version"
    """Response header in which a service says its version: 1 or v1, 2 or v2."""
    peak: float | None = None
    """Requests per second of all users in the busiest hour."""
    expect: tuple[Expectation, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", MappingProxyType(dict(self.values)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """A change of the contract that is wanted, with the reason."""

    rule: str
    at: str
    """Place of the findings, in which * stands for anything."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractDocuments:
    """Where the two versions' OpenAPI documents are: URLs, or files beside the plan."""

    v1: str
    v2: str
    exemptions: tuple[Exemption, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsedBreaker:
    """V2's breaker, and the dependency that is told to misbehave to provoke it."""

    control: str
    """URL that takes `PUT {"mode": ...}`, at the dependency."""
    dependency: str = "weather"
    """Its fact; the breaker's is `<dependency>-breaker`."""
    needs: tuple[str, ...] = ("flights", "hotels")
    """Facts of what every answer holds, whatever the dependency does."""
    cooldown_s: float = 30.0
    """As V2 was started with; shorter than 30 s it is told of as compressed."""

    def __post_init__(self) -> None:
        if not self.needs or self.cooldown_s <= 0:
            raise ValueError("something is needed in every answer, and the cooldown is above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What a rehearsal is told beside the sections of its parts, and how long it counts."""

    breaker: RehearsedBreaker | None = None
    expires_s: float = 2 * WEEK
    """Plan seconds from its end for which it passes a gate; of its peak load too."""


class NoticeKind(StrEnum):
    """What people are told of."""

    ROLLBACK = "rollback"
    HOLD = "hold"
    """The engine holds for another reason than blindness."""
    BLIND = "blind"
    ALERT = "alert"
    BREAKER_OPEN = "breaker open"
    GATE_WAITING = "gate waiting"
    """The soak is over, and other gates have not passed."""
    APPROVAL_WANTED = "approval wanted"
    """Nothing but people's approval is missing to leave the phase."""
    PAUSED = "paused"
    PHASE_PROMOTED = "phase promoted"
    DRILL = "drill"
    RETRIED = "retried"
    ABORTED = "aborted"
    COMPLETED = "completed"
    RETIRED = "retired"

    @property
    def lasts(self) -> bool:
        """Tell whether it begins and ends, so that it may be asked to last before it is told."""
        return self in _LASTING


_LASTING = frozenset(
    {
        NoticeKind.HOLD,
        NoticeKind.BLIND,
        NoticeKind.ALERT,
        NoticeKind.BREAKER_OPEN,
        NoticeKind.GATE_WAITING,
        NoticeKind.APPROVAL_WANTED,
        NoticeKind.PAUSED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Where an address or a secret is kept; one of the three is given."""

    text: str = field(default="", repr=False)
    """Itself."""
    file: str = ""
    """Absolute path of the file that holds it."""
    variable: str = ""
    """The environment's variable that holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeRule:
    """Who is told of what; `webhook` or `apprise` says where."""

    name: str
    on: Mapping[NoticeKind, float]
    """Kinds, and for how many plan seconds what lasts must have lasted before it is told."""
    webhook: Kept | None = None
    secret: Kept | None = None
    """Signs what is sent to the webhook."""
    apprise: Kept | None = None
    """URLs of the apprise library, one a line."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "on", MappingProxyType(dict(self.on)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Brownout:
    """A short planned absence of V1 for part of its clients; times are whole seconds since the epoch."""

    name: str
    at: int
    until: int
    share: int
    """Basis points of the clients."""

    def __post_init__(self) -> None:
        if self.until <= self.at:
            raise ValueError(f"brownout {self.name} ends after it begins")
        if not 1 <= self.share <= BUCKETS:
            raise ValueError(f"brownout {self.name} meets 1..{BUCKETS} basis points of the clients, not {self.share}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deprecation:
    """What V1's answers say of its end; times are whole seconds since the epoch."""

    since: int
    """From then on V1 is deprecated; it may lie ahead."""
    successor: str
    """URL or path of what takes V1's place."""
    sunset: int | None = None
    """From then on V1 may be gone."""
    notice: str = ""
    """URL of a page about the deprecation."""
    policy: str = ""
    """URL of a page about the sunset."""
    from_phase: int = 0
    """Index of the phase from which on V1's answers say so."""
    brownouts: tuple[Brownout, ...] = ()
    """In the order of their times, one after the other."""

    def __post_init__(self) -> None:
        if self.sunset is not None and self.sunset < self.since:
            raise ValueError("V1's sunset is not before its deprecation")
        if len({one.name for one in self.brownouts}) != len(self.brownouts):
            raise ValueError("brownouts have names of their own")
        for earlier, later in zip(self.brownouts, self.brownouts[1:], strict=False):
            if later.at < earlier.until:
                raise ValueError(f"brownout {later.name} begins before {earlier.name} is over")


class OwnerStep(StrEnum):
    """What the owners of clients are told, in the order in which it comes."""

    PREPARED = "prepared"
    """V2 is being rolled out, and V1 will be deprecated."""
    ANNOUNCED = "announced"
    """V1's answers tell of its end."""
    BROWNOUT = "brownout"
    """One begins within a week, and meets the client."""
    LAST_WEEK = "last week"
    """V1 may be gone in a week."""
    RETIRED = "retired"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerNotices:
    """What the owners of clients that still ask for V1 are told, and how it gets to them."""

    templates: Mapping[OwnerStep, str]
    """Of each step that is told, with a subject in its first line."""
    sender: str = ""
    """Mail address that it comes from."""
    mail: Kept | None = None
    """URL of the server that takes mail; None: owners with a mail address are not told."""
    secret: Kept | None = None
    """Signs what is posted to owners with a URL."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "templates", MappingProxyType(dict(self.templates)))


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackRules:
    """What users may say, and for how long it is kept."""

    topics: tuple[str, ...] = ()
    """What feedback may be about; empty: anything."""
    ask: float = 0.1
    """Share of the users who are asked, once a phase."""
    keep_s: float = 90 * DAY
    """Plan seconds."""
    framed_by: tuple[str, ...] = ()
    """Origins of the pages that may show the form in a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsRule:
    """How the ledger of clients knows who calls; the id is what `AssignmentRule.client` names."""

    authenticated: bool = False
    """Somebody in front of the proxy has checked the ids; else they are claims."""
    believed_from: tuple[str, ...] = ()
    """Networks from which an id counts; empty: from anywhere."""
    by_agent: bool = False
    """Who has no id that counts is named by the first product of the User-Agent."""
    notices: OwnerNotices | None = None
    """None: owners are told nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The written, versioned intention; immutable once a rollout has started from it."""

    name: str
    api: Api
    assignment: AssignmentRule
    metrics: tuple[Metric, ...]
    phases: tuple[Phase, ...]
    confidence: Confidence = Confidence()
    sources: tuple[Source, ...] = ()
    override_secret: str = field(default="", repr=False)
    """Clients that send it in X-Crossfade-Secret may choose a version with X-Crossfade-Version; empty: nobody may."""
    blind_rollback_s: float | None = None
    """Roll back after being blind for this long; None: never, only hold and alert."""
    unattended: Unattended = Unattended()
    load: Load | None = None
    contract: ContractDocuments | None = None
    mirror: Mirror | None = None
    rehearsal: Rehearsal = Rehearsal()
    notices: tuple[NoticeRule, ...] = ()
    deprecation: Deprecation | None = None
    feedback: FeedbackRules = FeedbackRules()
    events: tuple[UserEvent, ...] = ()
    """What users do; of requests that several fit, the first."""
    clients: ClientsRule | None = None
    """None where no ledger of clients is kept."""
    digest: str = ""
    """SHA-256 of the plan's canonical form: cohorts included, secrets and notices not."""
    rehearsal_digest: str = ""
    """SHA-256 of what a rehearsal tries."""

    def __post_init__(self) -> None:
        if not self.phases:
            raise ValueError("a plan has at least one phase")
        names = [phase.name for phase in self.phases]
        if len(set(names)) != len(names):
            raise ValueError(f"phase names are unique, not {names}")
        for earlier, later in zip(self.phases, self.phases[1:], strict=False):
            if not later.split.rises_from(earlier.split):
                raise ValueError(f"the split of phase {later.name} falls below that of {earlier.name}")
        for phase in self.phases:
            if phase.retires and phase is not self.phases[-1]:
                raise ValueError(f"V1 is retired after the last phase, not after {phase.name}")
        for metric in self.metrics:
            self._check_source(metric)
            self._check_events(metric)
        known = {metric.name for metric in self.metrics}
        for phase in self.phases:
            for gate in phase.gates:
                if gate.metric is not None and gate.metric not in known:
                    raise ValueError(f"gate {gate.text!r} is about {gate.metric}, which is no metric of the plan")

    def _check_source(self, metric: Metric) -> None:
        if (metric.query is not None) != (metric.kind is MetricKind.QUERIED):
            raise ValueError(f"metric {metric.name} is {metric.kind}; queries, and they alone, make it queried")
        if metric.query is None:
            return
        if metric.guard is not None and metric.guard.action is Action.ROLLBACK:
            raise ValueError(f"metric {metric.name} can't roll back: nobody knows which requests the hash drew")
        self.source(metric.query.source)

    def _check_events(self, metric: Metric) -> None:
        if metric.behaviour is None:
            return
        sums = metric.behaviour.counted is Counted.SUMS
        if metric.kind is not (MetricKind.VALUE if sums else MetricKind.OUTCOME):
            raise ValueError(f"metric {metric.name} is {metric.kind}; what users add up to is a value, else an outcome")
        known = {event.name for event in self.events}
        for name in (metric.behaviour.of, metric.behaviour.event):
            if name not in known:
                raise ValueError(f"metric {metric.name} is about {name}, which is no event of the plan")

    def source(self, name: str) -> Source:
        """Return a source; ValueError where the plan has none of that name."""
        found = next((source for source in self.sources if source.name == name), None)
        if found is None:
            raise ValueError(f"the plan has no source {name!r}")
        return found

    @property
    def owner_notices(self) -> OwnerNotices | None:
        """Return what the owners of clients are told; None for nothing."""
        return None if self.clients is None else self.clients.notices

    @property
    def exempts(self) -> bool:
        """Tell whether clients can be exempt: they are named, and V1's end is told to them."""
        return self.assignment.client is not None and self.deprecation is not None

    @property
    def retires(self) -> bool:
        """Tell whether V1 may be retired once every gate of the last phase has passed."""
        return self.phases[-1].retires

    def phase_index(self, name: str) -> int:
        """Return the index of a phase; KeyError where there is none of that name."""
        for index, phase in enumerate(self.phases):
            if phase.name == name:
                return index
        raise KeyError(name)

    def metric(self, name: str) -> Metric:
        """Return a metric; KeyError where there is none of that name."""
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)

    def staff_cohorts(self) -> frozenset[str]:
        """Return the cohorts that a 0 % phase put on V2: they have no control and don't count as users."""
        return frozenset(
            name for phase in self.phases if phase.target == 0 for name, share in phase.split.cohorts.items() if share
        )

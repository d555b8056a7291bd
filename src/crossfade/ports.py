"""What the engine needs from the outside, as contracts. Adapters keep them; `crossfade.testing` proves it.

Contracts bind every adapter: the conformance suites run the same cases against the real thing and the fake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from crossfade.core.access import Act, Token
from crossfade.core.brownout import Absence
from crossfade.core.clients.owners import OwnerNotice
from crossfade.core.clients.register import Registered
from crossfade.core.decide import Decision
from crossfade.core.enrolment import Enrolment
from crossfade.core.evidence.sums import Tick
from crossfade.core.feedback import Feedback, FeedbackCount
from crossfade.core.look import KeptLook, KeptTick
from crossfade.core.notices import Notice
from crossfade.core.split import NOBODY, Split, Version


class Clock(Protocol):
    """Plan time. A demo's clock runs faster than the wall's; nothing above this port can tell."""

    speed: float
    """Plan seconds per real second: 1 in production."""

    def now(self) -> float:
        """Return plan time in seconds since the epoch; it may step when the wall clock does."""

    def monotonic(self) -> float:
        """Return real seconds since an arbitrary start; never steps."""

    def plan_time(self, wall: float) -> float:
        """Return the plan time at which the wall clock showed `wall` (seconds since the epoch)."""

    async def sleep(self, real_seconds: float) -> None:
        """Wait for real seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyState:
    """The complete state wanted of a proxy, never a delta."""

    generation: int
    """Outdates earlier actors; kept in the proxy and read back."""
    split: Split = NOBODY
    killed: bool = False
    """Everyone on V1, cohorts, overrides and V2 paths included."""
    v1_headers: Mapping[str, str] = field(default_factory=dict)
    """Response headers added to V1's answers, and to all under its own paths (Deprecation, Sunset, Link, Brownout)."""
    retired: bool = False
    """V1 is given nothing, whatever split and kill say: V2's and the entry's paths are V2's, all others get 410."""
    brownout: Absence | None = None
    """V1 is away for part of its clients; not while everyone is on V1 (`killed`), nor once nobody looks after the
    proxy. The proxy ends it at its time by itself."""
    exempt: frozenset[str] = frozenset()
    """Clients, by their ids, to whom nothing is told of V1's end and whom no brownout meets."""
    rollback: int | None = field(default=None, compare=False)
    """The generation of the latest rollback that whoever wants this knows of; None for any before `generation`.

    A raise past a later one is refused: whoever wants it has not seen that everyone was put on V1. Never read back.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """What one proxy node reports of itself."""

    node: str
    reachable: bool
    state: ProxyState | None = None
    """As read back; None where the node could not be asked."""
    proxy_version: str = ""
    up_since: float = 0.0
    """Wall-clock seconds since the epoch at which this proxy process started."""
    error: str = ""
    rolled_back: int = -1
    """The last generation that a rollback switch has outdated; -1 where none was ever thrown."""
    by_itself: bool = False
    """The node threw that switch itself, because nobody looked after it for the plan's time."""
    unattended_s: float | None = None
    """Real seconds beyond that time for which nobody has looked after it, or had when we came; None where somebody
    does."""


class Proxy(Protocol):
    """The proxy that clients talk to, one node or several."""

    async def start(self) -> None:
        """Make the proxy serve: adopt a running one, or validate the configuration and start one.

        A started proxy comes up with the last applied state or with fewer users on V2, never with more.
        Raises ProxyRefusedError naming the file and line where the configuration is refused or the binary is
        missing, and where the listening port is taken. Calling it again on a serving proxy changes nothing.
        """

    async def apply(self, wanted: ProxyState) -> Sequence[NodeState]:
        """Set the complete state on every node and read it back.

        The order is safe when interrupted: lowering writes the file before the memory, raising the memory
        before the file. A node that can't be reached raises ProxyUnreachableError when V2's share rises
        anywhere; when it only falls, the other nodes are set first, then it is raised. Raises ReadBackError
        where the answer differs from what was set, StaleGenerationError where a node carries a later
        generation (nothing is changed then). Applying the same state
        again is harmless and re-asserts it.

        Retiring V1 is done as a raise is. Once a node has confirmed it, no state brings V1 back there:
        ProxyRefusedError, and nothing is changed.
        """

    async def enrol(self, cohorts: Mapping[int, str]) -> None:
        """Have users in other cohorts than the plan says: the cohort (empty: none) by `split.user_hash`, all of them.

        Holds for all requests at once, and after a restart of the proxy too; before `start` it is remembered only.
        Split and kill are not touched. Raises ProxyRefusedError for a cohort that the plan lacks, ProxyError or
        ProxyUnreachableError where it could not be set; it is remembered all the same, and set at the next start.
        """

    async def observe(self) -> Sequence[NodeState]:
        """Return what every node reports now; never raises for a node that does not answer."""

    async def stop(self) -> None:
        """Stop the proxy process this adapter started or adopted; clients are finished first."""

    async def close(self) -> None:
        """Let go of connections; the proxy goes on serving."""


class RollbackSwitch(Protocol):
    """The short way to V1: its own connection, no metrics, no store, no verdict."""

    async def rollback(self, generation: int | None = None) -> Sequence[NodeState]:
        """Put every user on V1 on every node now, and read it back.

        Nodes are told concurrently; one that does not answer does not delay the others. Its state files are
        written first, so a proxy that is down comes back with everyone on V1. `generation` is stored beside
        the split where it is higher than the proxy's; None keeps the proxy's own. Never raises for a node that
        doesn't answer: its NodeState says so. Raises ProxyError only where no node could be told and no file
        could be written.

        Where V1 is retired nothing is changed: the NodeState has `retired` and an error that says so.
        """

    async def ready(self) -> bool:
        """Tell whether every node would answer a rollback now; changes nothing and never raises."""


REQUEST_LINE = (
    "sequence",  # per proxy process, without gaps: a gap is a loss, a smaller number a restart
    "start_us",  # wall-clock microseconds since the epoch at which the request line had arrived
    "version",  # v1 | v2: as assigned, whoever answered in the end; brownout: its 410; beside: no part of the API
    "status",  # HTTP status the client got; -1 where none was sent
    "headers_us",  # microseconds from start_us to the response's headers; - where there were none
    "total_ms",  # milliseconds from start_us to the last byte; -1 where unknown
    "cohort",  # cohort name; - for everyone else
    "override",  # 1 where a client's override chose the version, else 0
    "asked",  # v1 where the client asked for one of V1's own paths, whoever answered; - elsewhere
    "user",  # signed 64-bit hash of the user key under the plan's salt; - where the split did not need it
    "region",  # url-encoded, cut to 64 bytes before encoding; - where none was sent
    "client",  # the same, for the calling application, or @ and its User-Agent; - where none is named or wanted
    "termination",  # HAProxy's four-character termination state; ---- for a regular end
    "retries",  # connection attempts beyond the first; a leading + marks a redispatch
    "server",  # name of the server that answered; fallback where V1 answered in V2's place; <NOSRV>
    "facts",  # the answer's Crossfade-Facts header, url-encoded; - where there was none
    "event",  # the plan's event that the request is; - for none
)
"""The fields of one telemetry line, comma-separated, newline-ended: what proxies write and collectors read."""


class Telemetry(Protocol):
    """The collector: turns what the proxy reports of each request into ticks."""

    lateness_s: float
    """Real seconds that a tick waits for its slowest requests before it is closed."""

    async def start(self) -> None:
        """Begin to listen; raises UnreachableError where the address is taken."""

    def closed_ticks(self) -> Sequence[Tick]:
        """Return the ticks closed since the last call, oldest first, without gaps in their numbers.

        A tick is closed when its watermark has passed. An interval in which nobody reported is given as a
        tick without sources. Each tick is returned once.
        """

    def recent(self, seconds: float) -> Tick:
        """Return the sums of requests that *ended* in the last real seconds, for gross breaches only."""

    def last_given(self) -> Mapping[Version, float]:
        """Return when (plan time) the latest request started that each version was given by assignment.

        Clients' overrides apart; of ended requests, since a request is reported at its end. A version that was given
        none is left out.
        """

    def counters(self) -> Mapping[str, int]:
        """Return lines since the start by kind: received, lost, malformed, late."""

    async def close(self) -> None:
        """Stop listening."""


class MetricsSource(Protocol):
    """Where counts come from that the proxy can't tell: posted outcomes, a metrics server."""

    async def start(self) -> None:
        """Begin; raises StoreError where what is kept can't be read. A server that is away is no error."""

    def add_to(self, tick: Tick) -> Tick:
        """Return a closed tick with the counts that have come for it; what was given once is not given again.

        Ticks come in order, each once. Never waits: what a server was asked for and could not tell is
        `unanswered` in the tick, with the reason.
        """

    async def close(self) -> None:
        """Stop asking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvent:
    """One line of a rollout's history."""

    rollout: str
    revision: int
    """Counted from 1, without gaps."""
    at: float
    """Plan time."""
    kind: str
    """The event's class name, `PhasePromoted`."""
    data: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to act for a rollout, as the store has it."""

    rollout: str
    generation: int
    """Raised by whoever takes the lease or gives it back: a write that carries another one is refused."""
    holder: str
    """Which process; empty where the lease was given back."""
    address: str
    """URL of the holder's control API, for people."""
    lasts_s: float
    """Real seconds that the holder may act after a beat."""
    beat: int
    """Raised at each renewal; one that stands still for `lasts_s` tells that the holder's time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One piece of what is kept of a rollout, in the store's own form."""

    kind: str
    """events | ticks | evidence | looks | decisions | notices | register | ledger | feedback | enrolments"""
    fields: Mapping[str, str | int | float | bytes | None]


class Store(Protocol):
    """Where rollouts are kept.

    Every write carries the `generation` of its writer's lease (0: nobody has ever had one), and raises ConflictError
    and changes nothing where the lease has another one: a process that lost it can't write, whenever it wakes up.
    """

    async def open(self) -> None:
        """Connect and make the schema; raises StoreError with what to do."""

    async def append(self, rollout: str, revision: int, events: Sequence[StoredEvent], *, generation: int = 0) -> None:
        """Append events after `revision`, all or none; ConflictError where someone else has appended since."""

    async def events(self, rollout: str, after: int = 0) -> Sequence[StoredEvent]:
        """Return the events with a revision above `after`, in order."""

    async def rollouts(self) -> Sequence[str]:
        """Return the names of all rollouts, the latest first."""

    async def save_ticks(
        self,
        rollout: str,
        ticks: Sequence[KeptTick],
        evidence: bytes,
        *,
        ledger: bytes = b"",
        population: bytes = b"",
        generation: int = 0,
    ) -> int:
        """Keep ticks with the evidence, ledger and population that include them, in one transaction.

        Returns how many were new. A tick whose number was kept before stays as it was; where all were, the others do
        too. An empty ledger or population is none, and leaves what was kept.
        """

    async def ticks(self, rollout: str, after: int | None = None, limit: int = 1000) -> Sequence[KeptTick]:
        """Return the first `limit` of the ticks numbered above `after` (None: of all), in order."""

    async def evidence(self, rollout: str) -> tuple[int, bytes] | None:
        """Return the number of the last tick kept and the evidence state that includes it."""

    async def save_look(self, rollout: str, look: KeptLook, *, generation: int = 0) -> None:
        """Keep one look; of the records the latest are kept, of looks all."""

    async def decisions(
        self, rollout: str, limit: int = 50, before: int | None = None
    ) -> Sequence[Mapping[str, object]]:
        """Return the latest `limit` records, newest first, of those numbered below `before` (None: of all).

        Each has its plan time as `at`, and its number as `number`.
        """

    async def looks(self, rollout: str, after: int = 0, limit: int = 1000) -> Sequence[KeptLook]:
        """Return the first `limit` of the looks numbered above `after`, in order, each with the record it has."""

    async def notices(self, rollout: str) -> Mapping[str, bytes]:
        """Return the logbook of each rule of notices that has one, by its name, as `core.notices.save` made it."""

    async def save_notices(self, rollout: str, logbooks: Mapping[str, bytes], *, generation: int = 0) -> None:
        """Keep the logbooks of these rules in the place of theirs, all or none; those of others stay."""

    async def population(self, rollout: str) -> bytes | None:
        """Return the users of a phase, as `core.population` dumped them; None where none were kept."""

    async def ledger(self, rollout: str) -> bytes | None:
        """Return the latest ledger of clients, as `core.clients.ledger` dumped it; None where none was kept."""

    async def register(self, rollout: str) -> Mapping[str, Registered]:
        """Return what is written down of clients, by their ids, in their order."""

    async def save_register(
        self, rollout: str, entries: Sequence[Registered], gone: Sequence[str] = (), *, generation: int = 0
    ) -> None:
        """Keep entries in the place of those of the same clients, and forget those of `gone`, all or none."""

    async def add_feedback(self, rollout: str, said: Feedback, *, at_most: int, generation: int = 0) -> bool:
        """Keep one thing that a user said; return whether it is new: what has the same key was kept before.

        UsageError where the user said `at_most` things within the day before it.
        """

    async def feedback(
        self, rollout: str, *, before: int | None = None, limit: int = 100, version: str = "", topic: str | None = None
    ) -> Sequence[tuple[int, Feedback]]:
        """Return the latest `limit`, newest first, with their numbers, of those below `before` (None: of all).

        `version` and `topic` leave out others; empty and None: nothing is left out.
        """

    async def feedback_counts(self, rollout: str, since: float) -> Sequence[FeedbackCount]:
        """Return how much was said from plan time `since` on, by version, topic and region, in their order."""

    async def ask_once(self, rollout: str, phase: str, user: int, *, generation: int = 0) -> bool:
        """Note that a user is asked in a phase; return whether they were not before."""

    async def asked_in(self, rollout: str) -> Sequence[str]:
        """Return the phases in which anybody was asked, in their order as text."""

    async def forget_asked(self, rollout: str, phase: str, *, limit: int = 5000, generation: int = 0) -> int:
        """Let go of who was asked in a phase, `limit` users at most.

        Returns how many went: ask again until it is 0.
        """

    async def forget_feedback(
        self, rollout: str, *, user: int | None = None, before: float | None = None, generation: int = 0
    ) -> int:
        """Let go of what one user said, or of what was said before plan time `before`; return how much went.

        With `user` also of that they were asked, which is not counted.
        """

    async def key(self, rollout: str, name: str) -> bytes | None:
        """Return the key that is kept by a name; None where none is."""

    async def keep_key(self, rollout: str, name: str, proposed: bytes, *, generation: int = 0) -> bytes:
        """Keep a key where none is kept by this name, and return the one that is kept then, whoever proposed it.

        It is in no copy that `copy_out` gives.
        """

    async def enrolments(self, rollout: str) -> Mapping[int, Enrolment]:
        """Return who has joined a cohort or left one, by the user's hash, in their order."""

    async def save_enrolments(
        self, rollout: str, kept: Sequence[Enrolment], forgotten: Sequence[int] = (), *, generation: int = 0
    ) -> None:
        """Keep enrolments in the place of those of the same users, and forget users, all or none."""

    async def lease(self, rollout: str) -> Lease | None:
        """Return who may act; None where nobody ever could. Who may ask for it when: see `engine.lease`."""

    async def acquire(self, wanted: Lease, seen: Lease | None) -> None:
        """Put `wanted` in the place of `seen`; ConflictError where the lease is not that any more."""

    async def renew(self, lease: Lease) -> None:
        """Raise the beat of a lease; ConflictError where it has another generation."""

    async def release(self, lease: Lease) -> None:
        """Give a lease back, which ends its generation; changes nothing where another one has it."""

    async def prune(self, rollout: str, before: float, *, limit: int = 500, generation: int = 0) -> int:
        """Let go of ticks, looks and records from before plan time `before`, the oldest first, `limit` of each.

        Returns how many went: ask again until it is 0, and let others write in between. Events are kept for good.
        """

    async def close(self) -> None:
        """Let go of the database."""


class TokenStore(Protocol):
    """Where tokens are kept: digests and roles, never a secret."""

    async def tokens(self) -> Sequence[Token]:
        """Return every token that was not revoked, expired ones included; StoreError where they can't be read.

        What another process has added or removed is seen in the next answer.
        """

    async def add(self, token: Token) -> None:
        """Keep a token; ConflictError where one of that name is still valid, an expired one is replaced."""

    async def remove(self, name: str) -> Token:
        """Forget a token and return it; UsageError where there is none of that name."""


class Audit(Protocol):
    """The record of acts: who asked for what, done or refused. Bounded: the oldest are let go."""

    async def append(self, act: Act) -> None:
        """Keep one act; StoreError where that is not possible."""

    async def latest(self, limit: int) -> Sequence[Act]:
        """Return the latest acts, newest first; StoreError where they can't be read."""


class Notifier(Protocol):
    """One place where notices go."""

    @property
    def shown(self) -> str:
        """Return where that is, as it may be logged: without what may be a secret."""

    async def send(self, notice: Notice) -> str:
        """Hand a notice over; return what came back, in a few words.

        Raises NotTakenError where trying again may help, NoticeRefusedError where it won't. Both name the place as it
        is `shown`. It may hang: whoever calls gives it a limited time. Handed over again, a notice has the same id.
        """

    async def close(self) -> None:
        """Let go of connections."""


class OwnerNotifier(Protocol):
    """A way by which notices get to the owners of clients."""

    async def send_to_owner(self, notice: OwnerNotice) -> str:
        """Hand a notice over; return what came back, in a few words. It raises and may hang as `Notifier.send` does."""

    async def close(self) -> None:
        """Let go of connections."""


Fact = str | int | float | bool
"""What can be told of a piece of work."""


class Span(Protocol):
    """One piece of work while it is done."""

    def tell(self, **facts: Fact) -> None:
        """Add what came of it."""


class Probe(Protocol):
    """What the engine tells of its own work, for timings, counters and traces.

    Nothing here waits or raises: a rollback goes through it.
    """

    def span(self, name: str, **facts: Fact) -> AbstractContextManager[Span]:
        """Return a context that is open while a piece of work is done; those opened inside it are its parts.

        Names are few and fixed: `tick` with its parts `observe`, `read back`, `record`, `decide` and `apply`; `roll
        back`; and one per verb.
        """

    def closed(self, ticks: Sequence[Tick]) -> None:
        """Take note of the ticks that were closed since the last call, in order."""

    def decided(self, decision: Decision) -> None:
        """Take note of one decision."""

"""What people are told of a rollout, and when: edges, not levels.

A rule's logbook goes through the history event by event, and from time to time looks at what no event tells: gates that
wait, an open breaker. Something that lasts is told when it has lasted as long as the rule asks, and once more when it
is over; what ended earlier is never told. What begins again soon after its end must first last a while, so that
something that comes and goes is no flood. A notice that nobody has taken yet goes out together with its end.

The same history makes the same notices with the same ids, on whatever machine and however often.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from types import MappingProxyType
from typing import Any

import orjson

from crossfade.core import events as e
from crossfade.core.gates import GateStatus
from crossfade.core.jsonable import to_json
from crossfade.core.observation import BreakerReading
from crossfade.core.plan import GateKind, MetricKind, NoticeKind, NoticeRule, Plan
from crossfade.core.verdict import Verdict
from crossfade.core.words import duration, one_line

CALM_S = 600.0
"""Plan seconds: what begins again within so long after its end must last for as long before it is told."""
WAITING_MAX = 100
"""Notices of a rule that nobody has taken yet; beyond it the oldest are let go, rollbacks last."""
SENTENCE_MAX = 1000
"""Characters of a sentence: people's reasons are in it."""
_ID_BYTES = 16

_TOLD_OVER = frozenset(
    {NoticeKind.HOLD, NoticeKind.BLIND, NoticeKind.ALERT, NoticeKind.BREAKER_OPEN, NoticeKind.PAUSED}
)
"""Of the others the end is another event, or nothing to act on."""
_ONCE = frozenset({NoticeKind.GATE_WAITING, NoticeKind.APPROVAL_WANTED})
"""Told once in a phase, though a gate that has passed may wait again."""
_IS_HOLD = {"blind": NoticeKind.BLIND, "both bad": NoticeKind.HOLD}
"""Alerts that are raised together with a hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One message."""

    id: str
    """The same however often it is sent, and whoever sends it: receivers know by it what they have had."""
    kind: NoticeKind
    over: bool = False
    """It is the end of what was told before."""
    at: float
    """Plan time at which it happened, or began."""
    rollout: str
    phase: str
    rule: str
    sentence: str
    link: str = ""
    """The rollout's page, which asks for login."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lasting:
    """Something that has begun and not ended."""

    kind: NoticeKind
    since: float
    anchor: str
    """What tells it from others of its kind, the same for whoever looks."""
    sentence: str
    told: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Something that was told and is over, kept while it would be a flood to tell it again."""

    at: float
    times: int = 0
    """How often it has begun since, untold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logbook:
    """What one rule has seen, and which notices of it nobody has taken yet."""

    revision: int = 0
    """Of the history, up to which it has seen."""
    phase: str = ""
    entered: int = 0
    """Revision at which the present phase was entered."""
    resting: bool = True
    """No phase is under way: rolled back, aborted, completed or not begun."""
    back: bool = False
    """Everyone was put on V1, and nobody has begun again."""
    lasting: Mapping[str, Lasting] = field(default_factory=dict)
    """By what it is about."""
    ended: Mapping[str, Ended] = field(default_factory=dict)
    waiting: tuple[Notice, ...] = ()
    """In the order in which they are to be sent."""
    left_out: int = 0
    """Notices that were let go because too many waited."""

    def __post_init__(self) -> None:
        for name in ("lasting", "ended"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What no event tells: how things stand in the present phase."""

    gates: Sequence[GateStatus] = ()
    approvals: int = 0
    """People who have approved leaving it."""
    breakers: Mapping[str, BreakerReading] = field(default_factory=dict)


# ── the logbook ──────────────────────────────────────────────────────────────────────────────────────────────


def begin(plan: Plan, rule: NoticeRule, history: Iterable[tuple[int, e.Event]]) -> Logbook:
    """Return the logbook of a rule that is new: what has happened is not told, what lasts is, by the next look."""
    seen = follow(plan, rule, Logbook(), history)
    lasting = {key: replace(one, told=False) for key, one in seen.lasting.items()}
    return replace(seen, lasting=lasting, ended={}, waiting=(), left_out=0)


def follow(plan: Plan, rule: NoticeRule, logbook: Logbook, history: Iterable[tuple[int, e.Event]]) -> Logbook:
    """Return the logbook after more of the history, as (revision, event); what it has seen is passed over."""
    for revision, event in history:
        if revision > logbook.revision:
            logbook = replace(_Page(plan, rule, logbook).turned(revision, event), revision=revision)
    return logbook


def look(plan: Plan, rule: NoticeRule, logbook: Logbook, status: Status | None, now: float) -> Logbook:
    """Return the logbook after a look at plan time `now`; `status` is None where nobody knows how things stand."""
    return _Page(plan, rule, logbook).looked(status, now)


def without(logbook: Logbook, notice_id: str) -> Logbook:
    """Return the logbook without a notice that was taken, or given up."""
    return replace(logbook, waiting=tuple(notice for notice in logbook.waiting if notice.id != notice_id))


def trial(rule: NoticeRule, rollout: str, at: float) -> Notice:
    """Return a notice that only tells that notices arrive."""
    sentence = f"a test: notices of {rollout} by the rule {rule.name} arrive here"
    kind = next(iter(rule.on))
    return Notice(
        id=_id(rollout, rule.name, f"test {at!r}"),
        kind=kind,
        at=at,
        rollout=rollout,
        phase="",
        rule=rule.name,
        sentence=sentence,
    )


def save(logbook: Logbook) -> bytes:
    """Return a logbook as JSON."""
    return to_json(logbook)


def load(data: bytes) -> Logbook:
    """Return the logbook that was saved; ValueError where it can't be read."""
    try:
        kept = orjson.loads(data)
        return Logbook(
            **kept
            | {
                "lasting": {key: Lasting(**_kinded(value)) for key, value in kept["lasting"].items()},
                "ended": {key: Ended(**value) for key, value in kept["ended"].items()},
                "waiting": tuple(Notice(**_kinded(value)) for value in kept["waiting"]),
            }
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"this is no logbook of notices: {error}") from None


def _kinded(value: dict[str, Any]) -> dict[str, Any]:
    return value | {"kind": NoticeKind(value["kind"])}


def _id(rollout: str, rule: str, anchor: str) -> str:
    """Return an id without dots: they part id, time and body where a webhook is signed."""
    text = f"{rollout}\n{rule}\n{anchor}"
    return "notice_" + blake2b(text.encode(errors="surrogatepass"), digest_size=_ID_BYTES).hexdigest()


class _Page:
    """A logbook while something is written into it."""

    def __init__(self, plan: Plan, rule: NoticeRule, logbook: Logbook) -> None:
        self.plan, self.rule, self.logbook = plan, rule, logbook
        self.lasting = {key: one for key, one in logbook.lasting.items() if one.kind in rule.on}  # the rule may be new
        self.ended = dict(logbook.ended)
        self.waiting, self.left_out = list(logbook.waiting), logbook.left_out
        self.phase, self.entered = logbook.phase, logbook.entered
        self.resting, self.back = logbook.resting, logbook.back

    def _closed(self) -> Logbook:
        while len(self.waiting) > WAITING_MAX:
            minor = (n for n, notice in enumerate(self.waiting) if notice.kind is not NoticeKind.ROLLBACK)
            del self.waiting[next(minor, 0)]
            self.left_out += 1
        return replace(
            self.logbook,
            phase=self.phase,
            entered=self.entered,
            resting=self.resting,
            back=self.back,
            lasting=self.lasting,
            ended=self.ended,
            waiting=tuple(self.waiting),
            left_out=self.left_out,
        )

    # ── what happens ────────────────────────────────────────────────────────────────────────────────────

    def turned(self, revision: int, event: e.Event) -> Logbook:
        """Return the logbook after an event."""
        self._tell_what_lasted(event.at)
        match event:
            case e.RolloutStarted():
                self._enter(revision, event.phase or self.plan.phases[0].name)
            case e.PhasePromoted():
                asked = f" by {event.by}" if event.by else ""
                self._leave(event, f"{event.name} was entered")
                self._enter(revision, event.name)
                self._tell(
                    NoticeKind.PHASE_PROMOTED, revision, event.at, f"entered {event.name}{asked}: {event.reason}"
                )
            case e.Retried():
                self._leave(event, "a new attempt began")
                self._end_all(NoticeKind.ALERT, event.at, "a new attempt began")
                self._enter(revision, event.name)
                told = f"was started again in {event.name} by {event.by}{_because(event.reason)}"
                self._tell(NoticeKind.RETRIED, revision, event.at, told)
            case e.RolledBack():
                self._rolled_back(revision, event)
            case e.Aborted():
                self._leave(event, "the rollout was aborted")
                self.resting = self.back = True
                self._tell(NoticeKind.ABORTED, revision, event.at, f"was aborted by {event.by}{_because(event.reason)}")
            case e.RolloutCompleted():
                self._leave(event, "the rollout is completed")
                self.resting = True
                self._tell(NoticeKind.COMPLETED, revision, event.at, f"is completed: {event.reason}")
            case e.V1Retired():
                self.resting = True
                self._tell(NoticeKind.RETIRED, revision, event.at, "has retired V1: its paths answer 410, for good")
            case e.DrillPassed() | e.DrillFailed():
                self._drilled(revision, event)
            case _:
                self._began_or_ended(revision, event)
        return self._closed()

    def _began_or_ended(self, revision: int, event: e.Event) -> None:
        match event:
            case e.HoldBegan():
                kind = NoticeKind.BLIND if event.kind.lower() == "blind" else NoticeKind.HOLD
                for other in {NoticeKind.BLIND, NoticeKind.HOLD} - {kind}:
                    self._end_all(other, event.at, f"it holds for another reason: {event.reason}")
                verb = "is blind" if kind is NoticeKind.BLIND else "holds"
                self._begin(kind, "", event.at, str(revision), f"{verb} in {self.phase}: {event.reason}")
            case e.HoldEnded():
                self._end_holds(event.at, event.reason)
            case e.AlertRaised():
                self._begin(NoticeKind.ALERT, event.key, event.at, str(revision), f"in {self.phase}: {event.sentence}")
            case e.AlertCleared():
                self._end(NoticeKind.ALERT, event.key, event.at, event.sentence)
            case e.Paused():
                told = f"was paused in {self.phase} by {event.by}{_because(event.reason)}"
                self._begin(NoticeKind.PAUSED, "", event.at, str(revision), told)
            case e.Resumed():
                self._end(NoticeKind.PAUSED, "", event.at, f"resumed by {event.by}{_because(event.reason)}")

    def _rolled_back(self, revision: int, event: e.RolledBack) -> None:
        again, self.resting, self.back = self.back, True, True
        self._leave(event, "it was rolled back")
        if again:
            return
        late = [node for node, said in event.nodes.items() if said != "v1"]
        done = f"every user is on V1, {event.took_s:.2g} s after the decision"
        if late:
            done = f"{len(late)} of {len(event.nodes)} nodes have not confirmed it yet: {', '.join(late)}"
        asked = f" by {event.by}" if event.by else ""
        self._tell(
            NoticeKind.ROLLBACK, revision, event.at, f"was rolled back in {self.phase}{asked}: {event.reason}; {done}"
        )

    def _drilled(self, revision: int, event: e.DrillPassed | e.DrillFailed) -> None:
        if isinstance(event, e.DrillPassed):
            told = (
                f"was rolled back on purpose in {event.name}, and that was in time: every node had confirmed "
                f"{event.took_s:.2g} s after the command, limit {duration(event.within_s)}"
            )
        else:
            told = f"failed a drill in {event.name}: {event.reason}"
        self._tell(NoticeKind.DRILL, revision, event.at, told)

    def _enter(self, revision: int, phase: str) -> None:
        self.entered, self.phase, self.resting, self.back = revision, phase, False, False

    def _leave(self, event: e.Event, why: str) -> None:
        """End what ends with a phase; a rule that tells the event itself does not tell what it ended."""
        silent = _SAYS.get(type(event)) in self.rule.on
        for key in [key for key, lasting in self.lasting.items() if lasting.kind in _WITH_PHASE]:
            self._end_key(key, event.at, why, silent=silent)

    # ── how things stand ────────────────────────────────────────────────────────────────────────────────

    def looked(self, status: Status | None, now: float) -> Logbook:
        """Return the logbook after a look."""
        if status is not None:
            self._compare(NoticeKind.BREAKER_OPEN, self._breakers(status), self._unseen(status), now)
            waits = {} if self.resting else self._waits(status, now)
            for kind in (NoticeKind.GATE_WAITING, NoticeKind.APPROVAL_WANTED):
                self._compare(kind, {k: v for k, v in waits.items() if v.kind is kind}, frozenset(), now)
        self._tell_what_lasted(now)
        self.ended = {key: ended for key, ended in self.ended.items() if key in self.lasting or now < ended.at + CALM_S}
        return self._closed()

    def _compare(self, kind: NoticeKind, found: Mapping[str, Lasting], unseen: frozenset[str], now: float) -> None:
        if kind not in self.rule.on:
            return
        for key, lasting in found.items():
            before = self.lasting.get(key)
            if before is None or before.anchor != lasting.anchor:
                self._begin_key(key, lasting)
            elif not before.told:
                self.lasting[key] = replace(before, sentence=lasting.sentence)
        for key in [key for key, lasting in self.lasting.items() if lasting.kind is kind]:
            once = kind in _ONCE and self.lasting[key].told
            if key not in found and key not in unseen and not once:
                self._end_key(key, now, "it is closed again")

    def _breakers(self, status: Status) -> dict[str, Lasting]:
        found = {}
        for metric, reading in status.breakers.items():
            if reading.open_since is not None:
                found[_key(NoticeKind.BREAKER_OPEN, metric)] = Lasting(
                    kind=NoticeKind.BREAKER_OPEN,
                    since=reading.open_since,
                    anchor=f"breaker {metric} {reading.open_since!r}",
                    sentence=f"in {self.phase}: the breaker {reading.name} is open",
                )
        return found

    def _unseen(self, status: Status) -> frozenset[str]:
        """Return the breakers of which nothing is known now: they are neither open nor closed."""
        watched = (metric.name for metric in self.plan.metrics if metric.kind is MetricKind.BREAKER)
        return frozenset(_key(NoticeKind.BREAKER_OPEN, name) for name in watched if name not in status.breakers)

    def _waits(self, status: Status, now: float) -> dict[str, Lasting]:
        waiting = [gate for gate in status.gates if gate.verdict is not Verdict.PASS]
        if not waiting or any(gate.kind is GateKind.SOAK for gate in waiting):
            return {}
        told = "; ".join(f"{gate.text} ({gate.evidence})" for gate in waiting)
        found = {NoticeKind.GATE_WAITING: f"waits in {self.phase}, whose soak is over, for: {told}"}
        anchor = ""
        if all(gate.kind is GateKind.APPROVED for gate in waiting):
            anchor = f" with {status.approvals}"
            wanted = f"wants an approval to leave {self.phase}: every other gate has passed; {waiting[0].evidence}"
            found[NoticeKind.APPROVAL_WANTED] = wanted
            if NoticeKind.APPROVAL_WANTED in self.rule.on:
                del found[NoticeKind.GATE_WAITING]
        return {
            _key(kind, ""): Lasting(
                kind=kind,
                since=now,
                anchor=f"{kind} {self.entered}{anchor if kind is NoticeKind.APPROVAL_WANTED else ''}",
                sentence=sentence,
            )
            for kind, sentence in found.items()
        }

    # ── beginnings and ends ─────────────────────────────────────────────────────────────────────────────

    def _begin(self, kind: NoticeKind, about: str, at: float, anchor: str, sentence: str) -> None:
        key = _key(kind, about)
        if key in self.lasting or kind not in self.rule.on or self._said_otherwise(kind, about):
            return
        self._begin_key(key, Lasting(kind=kind, since=at, anchor=f"{kind} {anchor}", sentence=sentence))

    def _begin_key(self, key: str, lasting: Lasting) -> None:
        self.lasting[key] = lasting
        if key in self.ended:
            self.ended[key] = replace(self.ended[key], times=self.ended[key].times + 1)

    def _said_otherwise(self, kind: NoticeKind, about: str) -> bool:
        """Tell whether an alert is about what the same rule tells in words of its own."""
        if kind is not NoticeKind.ALERT:
            return False
        breaker = any(metric.name == about and metric.kind is MetricKind.BREAKER for metric in self.plan.metrics)
        return (NoticeKind.BREAKER_OPEN if breaker else _IS_HOLD.get(about)) in self.rule.on

    def _tell_what_lasted(self, now: float) -> None:
        for key, lasting in list(self.lasting.items()):
            self._tell_if_lasted(key, lasting, now)

    def _tell_if_lasted(self, key: str, lasting: Lasting, now: float) -> None:
        wanted_s = self.rule.on[lasting.kind]
        ended = self.ended.get(key)
        if ended is not None and lasting.since < ended.at + CALM_S:
            wanted_s = max(wanted_s, CALM_S)
        if lasting.told or now - lasting.since < wanted_s:
            return
        self.lasting[key] = replace(lasting, told=True)
        for_s = f", for {duration(now - lasting.since)} by now" if wanted_s else ""
        if wanted_s and lasting.kind is NoticeKind.BREAKER_OPEN:
            for_s = f", for {duration(now - lasting.since)} by now, limit {duration(wanted_s)}"
        again = f" (begun {ended.times} times in {duration(now - ended.at)})" if ended and ended.times > 1 else ""
        self._add(lasting.kind, lasting.anchor, lasting.since, f"{lasting.sentence}{for_s}{again}")

    def _end_holds(self, at: float, why: str) -> None:
        for kind in (NoticeKind.HOLD, NoticeKind.BLIND):
            self._end_all(kind, at, why)

    def _end_all(self, kind: NoticeKind, at: float, why: str) -> None:
        for key in [key for key, lasting in self.lasting.items() if lasting.kind is kind]:
            self._end_key(key, at, why)

    def _end(self, kind: NoticeKind, about: str, at: float, why: str) -> None:
        self._end_key(_key(kind, about), at, why)

    def _end_key(self, key: str, at: float, why: str, *, silent: bool = False) -> None:
        lasting = self.lasting.pop(key, None)
        if lasting is None or not lasting.told or lasting.kind not in _TOLD_OVER:
            return
        self.ended[key] = Ended(at=at)
        begun = _id(self.plan.name, self.rule.name, lasting.anchor)
        self.waiting = [notice for notice in self.waiting if notice.id != begun]
        if silent:
            return
        reason = why.removeprefix("over: ")
        told = f"{lasting.sentence}; over after {duration(at - lasting.since)}"
        told += "" if reason in lasting.sentence else f": {reason}"
        self._add(lasting.kind, f"{lasting.anchor} over", at, told, over=True)

    # ── telling ─────────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, kind: NoticeKind, revision: int, at: float, sentence: str) -> None:
        if kind in self.rule.on:
            self._add(kind, f"{kind} {revision}", at, sentence)

    def _add(self, kind: NoticeKind, anchor: str, at: float, sentence: str, *, over: bool = False) -> None:
        name = self.plan.name
        notice = Notice(
            id=_id(name, self.rule.name, anchor),
            kind=kind,
            over=over,
            at=at,
            rollout=name,
            phase=self.phase,
            rule=self.rule.name,
            sentence=_tidy(f"{name} {sentence}"),
        )
        self.waiting = [*(one for one in self.waiting if one.id != notice.id), notice]


_WITH_PHASE = frozenset(
    {
        NoticeKind.HOLD,
        NoticeKind.BLIND,
        NoticeKind.PAUSED,
        NoticeKind.GATE_WAITING,
        NoticeKind.APPROVAL_WANTED,
    }
)
"""What ends when a phase is left."""
_SAYS: dict[type[e.Event], NoticeKind] = {
    e.PhasePromoted: NoticeKind.PHASE_PROMOTED,
    e.Retried: NoticeKind.RETRIED,
    e.RolledBack: NoticeKind.ROLLBACK,
    e.Aborted: NoticeKind.ABORTED,
    e.RolloutCompleted: NoticeKind.COMPLETED,
    e.V1Retired: NoticeKind.RETIRED,
}


def _key(kind: NoticeKind, about: str) -> str:
    return f"{kind}: {about}" if about else str(kind)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _tidy(sentence: str) -> str:
    """Return a sentence in one line, without what a terminal or a chat would take for more than text."""
    return one_line(sentence, SENTENCE_MAX)

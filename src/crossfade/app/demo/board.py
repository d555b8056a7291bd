"""Everything the demo has seen so far: what the screen shows and the report is written from. Pure.

Times called `elapsed` are real seconds since the rollout started.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from crossfade.app.demo.tally import V2
from crossfade.core.plan import DAY, Plan

RECENT_LINES = 5
"""Of the users' lines; rates are taken over them, about 2.5 s."""


class Mark(StrEnum):
    """How a note is to be read at a glance."""

    PLAIN = "·"
    DEMO = "▶"
    GOOD = "✔"
    BAD = "✖"
    ALERT = "!"


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One line of what happened."""

    elapsed: float
    mark: Mark
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerChange:
    """One transition of V2's weather breaker, from its log."""

    elapsed: float
    old: str
    new: str
    reason: str


@dataclass(slots=True, kw_only=True)
class PhaseVisit:
    """One stay in a phase; a retry makes another."""

    name: str
    attempt: int
    begun: float
    """Plan time."""
    ended: float | None = None
    end: str = ""
    """`promoted`, `rolled back`, `completed`."""
    reason: str = ""
    weight: float = 0.0
    """V2's wanted share of all users, basis points."""
    weight_seen: float | None = None
    requests: Mapping[str, int] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Rollback:
    """One rollback, as recorded by the controller."""

    at: float
    """Plan time."""
    phase: str
    trigger: str
    reason: str
    took_s: float
    users_hurt: int
    planted: bool
    """It was the scripted defect's."""
    since_defect_s: float | None = None
    """Real seconds since the defect was planted."""
    retried: float | None = None
    """Elapsed seconds just before the retry was asked for."""


@dataclass(slots=True, kw_only=True)
class Outage:
    """The weather outage, as users saw it."""

    begun: float
    """Elapsed."""
    ended: float | None = None
    before: Mapping[str, Any] = field(default_factory=dict)
    """Users' counts when it began."""
    after: Mapping[str, Any] = field(default_factory=dict)
    """Users' counts when the breaker had closed again."""
    worst_p95_ms: float = 0.0
    """Of V2, per half second."""


class Board:
    """What is known."""

    def __init__(self, plan: Plan, speed: float) -> None:
        self.plan = plan
        self.speed = speed
        self.started_at: float | None = None
        """Plan time at which the rollout started."""
        self.status: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.notes: list[Note] = []
        self.visits: list[PhaseVisit] = []
        self.rollbacks: list[Rollback] = []
        self.breaker: list[BreakerChange] = []
        self.outage: Outage | None = None
        self.defect_at: float | None = None
        """Elapsed seconds at which the defect was planted; None while there is none."""
        self.lines: deque[dict[str, Any]] = deque(maxlen=RECENT_LINES)
        self.factor = 1.0

    # ── times ───────────────────────────────────────────────────────────────────────────────────────────

    def elapsed(self, plan_at: float) -> float:
        """Return the real seconds since the start at a plan time."""
        return 0.0 if self.started_at is None else (plan_at - self.started_at) / self.speed

    def day(self, plan_at: float) -> float:
        """Return the day of the plan, from 0, at a plan time."""
        return 0.0 if self.started_at is None else (plan_at - self.started_at) / DAY

    @property
    def now(self) -> float:
        """Plan time of the last look."""
        return float(self.status.get("now", self.started_at or 0.0))

    # ── what is seen ────────────────────────────────────────────────────────────────────────────────────

    def see_status(self, status: dict[str, Any]) -> None:
        """Take in the controller's status."""
        self.status = status
        if self.started_at is None:
            self.started_at = status["started_at"]
        phase = status["phase"]
        visit = self.visits[-1] if self.visits else None
        if visit is None or visit.ended is not None or visit.name != phase["name"]:
            return
        if status["state"] == "running" and status["attempt"] == visit.attempt:
            visit.weight, visit.weight_seen, visit.requests = (
                status["weight"],
                status["weight_seen"],
                status["requests"],
            )

    def see_events(self, events: Iterable[dict[str, Any]]) -> None:
        """Take in the history's new events."""
        for event in events:
            self.events.append(event)
            self._visit(event["kind"], event["at"], event["data"])
            noted = _noted(event["kind"], event["data"])
            if noted is not None:
                self.note(self.elapsed(event["at"]), *noted)

    def see_users(self, line: dict[str, Any], elapsed: float) -> None:
        """Take in what users said."""
        self.lines.append(line)
        if line["factor"] < self.factor:
            self.note(
                elapsed, Mark.ALERT, f"the machine can't keep up: the users' rate is lowered to {line['factor']:.0%}"
            )
        self.factor = line["factor"]
        if self.outage is not None and not self.outage.after:
            self.outage.worst_p95_ms = max(self.outage.worst_p95_ms, line[V2]["p95_ms"] or 0.0)

    def see_breaker(self, change: BreakerChange) -> None:
        """Take in a transition."""
        self.breaker.append(change)
        mark = {"open": Mark.ALERT, "closed": Mark.GOOD}.get(change.new, Mark.PLAIN)
        self.note(change.elapsed, mark, f"weather breaker {change.old} -> {change.new} ({change.reason})")

    def note(self, elapsed: float, mark: Mark, text: str) -> None:
        """Keep a line of what happened."""
        self.notes.append(Note(elapsed=elapsed, mark=mark, text=text))

    def _visit(self, kind: str, at: float, data: Mapping[str, Any]) -> None:
        if kind == "RolloutStarted":
            self.started_at = at
            self._enter(self.plan.phases[0].name, at)
        elif kind in ("PhasePromoted", "Retried"):
            self._leave("promoted", at, data["reason"])
            self._enter(data["name"], at, retried=kind == "Retried")
        elif kind == "RolledBack":
            phase = self.visits[-1].name if self.visits else ""
            self._leave("rolled back", at, data["reason"])
            self._roll_back(phase, at, data)
        elif kind == "RolloutCompleted":
            self._leave("completed", at, data["reason"])

    def _enter(self, name: str, at: float, *, retried: bool = False) -> None:
        attempt = (self.visits[-1].attempt if self.visits else 1) + retried
        self.visits.append(PhaseVisit(name=name, attempt=attempt, begun=at))

    def _leave(self, end: str, at: float, reason: str) -> None:
        if self.visits and self.visits[-1].ended is None:
            visit = self.visits[-1]
            visit.ended, visit.end, visit.reason = at, end, reason

    def _roll_back(self, phase: str, at: float, data: Mapping[str, Any]) -> None:
        since = None if self.defect_at is None else self.elapsed(at) - self.defect_at
        self.rollbacks.append(
            Rollback(
                at=at,
                phase=phase,
                trigger=data["trigger"],
                reason=data["reason"],
                took_s=data["took_s"],
                users_hurt=data["users_hurt"],
                planted=since is not None,
                since_defect_s=since,
            )
        )

    # ── what is derived ─────────────────────────────────────────────────────────────────────────────────

    def rate(self, version: str) -> float:
        """Return a version's answers per real second, lately."""
        if len(self.lines) < 2:
            return 0.0
        first, last = self.lines[0], self.lines[-1]
        seconds = last["at"] - first["at"]
        return (last[version]["answers"] - first[version]["answers"]) / seconds if seconds > 0 else 0.0

    def failing(self, version: str) -> float | None:
        """Return a version's share of failed answers, lately; None where it gave none."""
        if len(self.lines) < 2:
            return None
        first, last = self.lines[0][version], self.lines[-1][version]
        answers = last["answers"] - first["answers"]
        return (last["failed"] - first["failed"]) / answers if answers > 0 else None

    def reading(self, metric: str, field_name: str) -> float | None:
        """Return a value of the controller's reading of a metric in this phase."""
        value = self.status.get("metrics", {}).get(metric, {}).get(field_name)
        return None if value is None else float(value)

    @property
    def breaker_state(self) -> str:
        """Return where V2's breaker is; a fresh process begins closed."""
        return self.breaker[-1].new if self.breaker else "closed"

    @property
    def awaits_approval(self) -> bool:
        """Tell whether a person's word is all that is missing."""
        gates: Sequence[Mapping[str, Any]] = self.status.get("gates", ())
        waiting = [gate["kind"] for gate in gates if gate["verdict"] != "PASS"]
        return waiting == ["approved"]


def _noted(kind: str, data: Mapping[str, Any]) -> tuple[Mark, str] | None:
    """Return how an event is told; None where it is not worth a line."""
    if kind == "RolledBack":
        took, hurt = data["took_s"] * 1000, data["users_hurt"]
        return Mark.BAD, f"ROLLED BACK in {took:.0f} ms, {hurt} users hurt: {data['reason']}"
    told = _TOLD.get(kind)
    return None if told is None else (told[0], told[1].format_map(data))


_TOLD: dict[str, tuple[Mark, str]] = {
    "RolloutStarted": (Mark.GOOD, "rollout {plan} started"),
    "PhasePromoted": (Mark.GOOD, "promoted to {name}: {reason}"),
    "Retried": (Mark.GOOD, "retried in {name} by {by}: {reason}"),
    "HoldBegan": (Mark.ALERT, "hold ({kind}): {reason}"),
    "HoldEnded": (Mark.PLAIN, "hold {reason}"),
    "AlertRaised": (Mark.ALERT, "alert {key}: {sentence}"),
    "AlertCleared": (Mark.PLAIN, "alert {key} {sentence}"),
    "GateApproved": (Mark.GOOD, "approved by {by}: {reason}"),
    "DriftFound": (Mark.ALERT, "drift on {node}: {detail}"),
    "RolloutCompleted": (Mark.GOOD, "COMPLETED: {reason}"),
    "Aborted": (Mark.BAD, "aborted: {reason}"),
}
"""How events are told; the others are not worth a line."""

"""What the simulated users saw, counted: answers, losses, versions, stickiness, latency. Pure; times are arguments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from crossfade.adapters.load import Answer
from crossfade.core.load.latency import Latencies

V1, V2 = "v1", "v2"
SLACK_S = 1.0
"""A request under way while a rollback is made may end on either side of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One answer, as its user reads it."""

    status: int
    version: str | None
    """None where the answer does not tell: errors look the same in both versions."""
    complete: bool = True
    """Flights and hotels are both there."""
    weather: str | None = None
    """`ok`, `unavailable`; None from V1."""
    by_origin: bool = True
    """False for an error page that the proxy made up."""


def read(answer: Answer) -> Seen:
    """Return what an answer says."""
    kind = answer.headers.get(b"content-type", b"")
    if answer.status != 200:
        return Seen(status=answer.status, version=None, by_origin=kind.startswith(b"application/problem+json"))
    try:
        body: dict[str, Any] = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return Seen(status=answer.status, version=None, complete=False, by_origin=False)
    weather = body.get("weather")
    return Seen(
        status=200,
        version=V1 if weather is None else V2,
        complete=isinstance(body.get("flights"), list) and bool(body.get("hotels")),
        weather=None if weather is None else weather.get("status"),
    )


@dataclass(slots=True)
class Side:
    """One version, as its users see it."""

    answers: int = 0
    failed: int = 0
    incomplete: int = 0
    weather_ok: int = 0
    weather_unavailable: int = 0
    recent: Latencies = field(default_factory=Latencies)
    """Since the last line."""
    total: Latencies = field(default_factory=Latencies)

    def line(self) -> dict[str, Any]:
        """Return counts since the start, and the p95 since the last line."""
        recent, self.recent = self.recent, Latencies()
        return {
            "answers": self.answers,
            "failed": self.failed,
            "incomplete": self.incomplete,
            "weather_ok": self.weather_ok,
            "weather_unavailable": self.weather_unavailable,
            "p95_ms": recent.quantile_ms(0.95),
        }


@dataclass(frozen=True, slots=True)
class Change:
    """A user who got V1 after V2."""

    user: int
    v2_sent: float
    """When the last request that V2 answered had been sent, real seconds since the epoch."""
    v1_answered: float


class Tally:
    """Everything counted about all users."""

    def __init__(self, users: int) -> None:
        self.sent = 0
        self.answered = 0
        self.lost: Counter[str] = Counter()
        self.retried = 0
        self.statuses: Counter[int] = Counter()
        self.sides = {V1: Side(), V2: Side()}
        self.changes: list[Change] = []
        self._version: list[str | None] = [None] * users
        self._v2_sent = [0.0] * users
        self._v2_answered = [0.0] * users
        self._v2_requests: list[float] = []
        self._hurt: set[int] = set()

    def lose(self, why: str) -> None:
        """Count a request without an answer of the origin."""
        self.lost[why] += 1

    def add(self, user: int, seen: Seen, sent: float, answered: float, *, retried: bool) -> None:
        """Count an answer."""
        self.answered += 1
        self.retried += retried
        self.statuses[seen.status] += 1
        if not seen.by_origin:
            self.lose(f"the proxy's own answer {seen.status}")
            return
        # An error does not tell its version; it is put down to the version its user had last.
        version = seen.version or self._version[user] or V1
        side = self.sides[version]
        side.answers += 1
        if seen.status >= 500:
            side.failed += 1
            self._hurt.add(user)
        side.recent.add(answered - sent)
        side.total.add(answered - sent)
        if seen.status == 200:
            side.incomplete += not seen.complete
            side.weather_ok += seen.weather == "ok"
            side.weather_unavailable += version == V2 and seen.weather != "ok"
        if seen.version is not None:
            self._follow(user, seen.version, sent, answered)

    def _follow(self, user: int, version: str, sent: float, answered: float) -> None:
        if version == V2:
            self._v2_requests.append(sent)
            self._v2_sent[user] = max(self._v2_sent[user], sent)
            self._v2_answered[user] = max(self._v2_answered[user], answered)
        elif self._version[user] == V2:
            if sent < self._v2_answered[user]:
                return  # both were under way at once: no order, so no change back
            self.changes.append(Change(user, self._v2_sent[user], answered))
        self._version[user] = version

    def line(self, at: float) -> dict[str, Any]:
        """Return the counts so far."""
        return {
            "at": at,
            "sent": self.sent,
            "answered": self.answered,
            "lost": self.lost.total(),
            "retried": self.retried,
            "v1": self.sides[V1].line(),
            "v2": self.sides[V2].line(),
        }

    def summary(self, rollbacks: Sequence[tuple[float, float]]) -> dict[str, Any]:
        """Return the end result; `rollbacks` are (rolled back at, retried at or infinity), real seconds."""
        return {
            "sent": self.sent,
            "answered": self.answered,
            "lost": dict(self.lost),
            "retried": self.retried,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "hurt": len(self._hurt),
            "moved_back": len(self.changes),
            "violations": len([c for c in self.changes if not any(_explains(at, c) for at, _ in rollbacks)]),
            "last_v2_after_s": [self._last_v2(at, until) for at, until in rollbacks],
            "versions": {name: self._version_summary(name) for name in self.sides},
        }

    def _last_v2(self, at: float, until: float) -> float | None:
        """Return how long after a rollback the last request was sent that V2 answered; None where none was."""
        later = [sent - at for sent in self._v2_requests if at < sent < until]
        return max(later, default=None)

    def _version_summary(self, name: str) -> dict[str, Any]:
        side = self.sides[name]
        quantiles = {f"p{round(q * 100)}_ms": side.total.quantile_ms(q) for q in (0.5, 0.95, 0.99)}
        return {key: value for key, value in side.line().items() if key != "p95_ms"} | quantiles


def _explains(rolled_back: float, change: Change) -> bool:
    return change.v2_sent - SLACK_S <= rolled_back <= change.v1_answered + SLACK_S

"""The verdicts on a breaker that was provoked: what phase 1 of the founding plan asks of it (R3 to R7, R9, R27).

What was seen are answers in the order in which they came. Times are compared so that a slow machine can't turn a good
breaker into a bad one: a state counts as early or late only where it was so whenever, between question and answer, it
was looked at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from crossfade.core.verdict import Verdict

PLAN_COOLDOWN_S: Final = 30.0
"""R5."""
AS_WRITTEN_MS: Final = {"timeout": 2100.0, "open": 75.0, "recovery": 2000.0, "average": 1087.0}
"""R7: the table of the founding plan. The average is that of as many time-outs as fast fallbacks."""
AS_WRITTEN_WITHIN: Final = 0.10
KEPT_THROUGHPUT: Final = 0.95
"""R27: what other paths must keep while the dependency hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """How the breaker is set, and what every scenario must keep. Raises ValueError where that can't be."""

    window: int = 20
    """Calls looked back at; the breaker is judged once they are full."""
    failure_rate: float = 0.5
    cooldown_s: float = PLAN_COOLDOWN_S
    """As V2 was started with; shorter than the plan's is said in the limit."""
    probes: int = 5
    late_s: float = 2.0
    """OPEN for so much longer than the cooldown is stuck."""
    latency_ms: float = 300.0
    """R22."""

    def __post_init__(self) -> None:
        """Check every value."""
        if self.window < 1 or self.probes < 1:
            raise ValueError(f"window {self.window} and probes {self.probes} must be 1 or more")
        if not 0 < self.failure_rate <= 1:
            raise ValueError(f"failure rate {self.failure_rate:g} must be above 0 and up to 1")
        if not (self.cooldown_s > 0 and self.late_s > 0 and self.latency_ms > 0):
            raise ValueError("cooldown, lateness and latency must be above 0")

    @property
    def failures(self) -> int:
        """How many failures in a full window open it."""
        return math.ceil(Fraction(str(self.failure_rate)) * self.window)

    @property
    def cooldown(self) -> str:
        """The cooldown in words; a compressed one is named as such."""
        short = "" if self.cooldown_s >= PLAN_COOLDOWN_S else f", compressed from {PLAN_COOLDOWN_S:g} s"
        return f"{self.cooldown_s:g} s{short}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One answer of V2."""

    sent_s: float
    """When it was asked; only differences mean something."""
    came_s: float
    status: int
    """0: there was no answer."""
    missing: tuple[str, ...] = ()
    """What every answer must hold and this one does not, such as flights."""
    dependency: str | None = None
    """What the fact of the dependency says: ok or fallback."""
    breaker: str | None = None
    """The state after the answer was made: closed, open, half_open; None: not told."""

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return (self.came_s - self.sent_s) * 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """One criterion: its verdict, what was found, and what it should have been."""

    name: str
    verdict: Verdict
    figure: str
    limit: str
    reproduce: str = ""
    """Commands that bring it about again."""


def not_set_up(name: str, why: str, limit: str = "") -> Finding:
    """Return that nobody could look: never a PASS, never a FAIL."""
    return Finding(name, Verdict.INCONCLUSIVE, f"not set up: {why}", limit)


def opens(seen: Sequence[Seen], rules: BreakerRules) -> Finding:
    """Judge failing answers, one after the other, that follow on a window of good ones."""
    name, limit = "opens", f"at {rules.failures} failures in {rules.window} requests ({rules.failure_rate:.0%})"
    told = [s.breaker for s in seen]
    if None in told or not told:
        return Finding(name, Verdict.INCONCLUSIVE, "the answers don't tell the breaker's state", limit)
    if "open" not in told:
        return Finding(name, Verdict.FAIL, f"never opened in {len(seen)} failing requests", limit)
    after = told.index("open") + 1
    return Finding(name, _verdict(after == rules.failures), f"opened at {after} failures", limit)


def answers_at_once(seen: Sequence[Seen], rules: BreakerRules) -> Finding:
    """Judge answers given while the breaker was open."""
    name, limit = "fallback while OPEN", f"every answer a fallback, p95 <= {rules.latency_ms:g} ms"
    while_open = [s for s in seen if s.breaker == "open"]
    p95 = percentile_95_ms(while_open)
    if p95 is None:
        return Finding(name, Verdict.INCONCLUSIVE, "it was never seen open", limit)
    fallbacks = sum(s.dependency == "fallback" for s in while_open)
    good = fallbacks == len(while_open) and p95 <= rules.latency_ms
    return Finding(name, _verdict(good), f"{fallbacks} of {len(while_open)}, p95 {p95:.0f} ms", limit)


def half_opens(opened: Seen, seen: Sequence[Seen], rules: BreakerRules) -> Finding:
    """Judge the answers after `opened`, the first with the breaker open, up to the first where it is not."""
    name, limit = "HALF_OPEN after the cooldown", rules.cooldown
    left = next((s for s in seen if s.breaker != "open"), None)
    # The state was read between question and answer, so these are the longest and the shortest it can have been open.
    if left is not None and left.breaker is None:
        return Finding(name, Verdict.INCONCLUSIVE, "an answer doesn't tell the breaker's state", limit)
    surely_open_s = max((s.sent_s - opened.came_s for s in seen if s.breaker == "open"), default=0.0)
    if surely_open_s > rules.cooldown_s + rules.late_s:
        return Finding(name, Verdict.FAIL, f"stuck in OPEN: still open after {surely_open_s:.1f} s", limit)
    if left is None:
        return Finding(name, Verdict.INCONCLUSIVE, f"watched for {surely_open_s:.1f} s only", limit)
    waited_s = left.came_s - opened.sent_s
    return Finding(name, _verdict(waited_s >= rules.cooldown_s), f"after {waited_s:.1f} s", limit)


def closes(seen: Sequence[Seen], rules: BreakerRules) -> Finding:
    """Judge the answers of a healthy dependency, one after the other, from the first probe on."""
    name, limit = "closes", f"after {rules.probes} good probes"
    told = [s.breaker for s in seen]
    if not told or None in told:
        return Finding(name, Verdict.INCONCLUSIVE, "there was no probe to be seen", limit)
    if "closed" in told:
        after = told.index("closed") + 1
        return Finding(name, _verdict(after == rules.probes), f"after {after} good probes", limit)
    good = sum(s.dependency == "ok" for s in seen)
    if good < rules.probes and told[-1] == "open":
        return Finding(name, Verdict.INCONCLUSIVE, f"it opened again after {good} good probes", limit)
    return Finding(name, Verdict.FAIL, f"stuck in {str(told[-1]).upper()}: {good} good of {len(seen)} answers", limit)


def reopens(half_open: Seen | None, after: Seen) -> Finding:
    """Judge the answer to one bad probe, after one that left the breaker half-open."""
    name, limit = "one bad probe reopens", "open after it"
    if half_open is None or half_open.breaker != "half_open" or after.breaker is None:
        return Finding(name, Verdict.INCONCLUSIVE, "it was not seen half-open before", limit)
    return Finding(name, _verdict(after.breaker == "open"), f"{after.breaker} after it", limit)


def recovers(name: str, seen: Sequence[Seen], rules: BreakerRules) -> Finding:
    """Judge the answers of a healthy dependency up to the first with the breaker closed, or until patience ended."""
    limit = f"closed within the cooldown of {rules.cooldown} and {rules.late_s:g} s"
    last = seen[-1] if seen else None
    if last is None or last.breaker is None:
        return Finding(name, Verdict.INCONCLUSIVE, "the answers don't tell the breaker's state", limit)
    waited_s = last.came_s - seen[0].sent_s
    if last.breaker == "closed":
        return Finding(name, Verdict.PASS, f"closed after {waited_s:.1f} s", limit)
    return Finding(name, Verdict.FAIL, f"stuck in {last.breaker.upper()} after {waited_s:.1f} s", limit)


def keeps_the_rest(name: str, seen: Sequence[Seen], needed: Sequence[str]) -> Finding:
    """Judge that every answer was a 200 that holds what the dependency has no part in (R3)."""
    limit = f"200 with {' and '.join(needed)} in every answer"
    if not seen:
        return Finding(name, Verdict.INCONCLUSIVE, "nothing was asked", limit)
    whole = sum(s.status == 200 and not s.missing for s in seen)
    figure = f"{whole:,} of {len(seen):,}"
    missing = Counter(what for s in seen for what in s.missing)
    others = Counter("no answer" if s.status == 0 else f"status {s.status}" for s in seen if s.status != 200)
    lost = [f"{what} missing in {n:,}" for what, n in sorted(missing.items())]
    lost += [f"{n:,} x {what}" for what, n in sorted(others.items())]
    return Finding(name, _verdict(whole == len(seen)), ", ".join([figure, *lost]), limit)


def stays_fast(name: str, seen: Sequence[Seen], rules: BreakerRules) -> Finding:
    """Judge the 95th percentile of all answers (R22)."""
    p95, limit = percentile_95_ms(seen), f"p95 <= {rules.latency_ms:g} ms"
    if p95 is None:
        return Finding(name, Verdict.INCONCLUSIVE, "nothing was answered", limit)
    return Finding(name, _verdict(p95 <= rules.latency_ms), f"p95 {p95:.0f} ms of {len(seen):,}", limit)


def believes_nothing_wrong(name: str, seen: Sequence[Seen]) -> Finding:
    """Judge answers given while every answer of the dependency was wrong, late or none (R9)."""
    limit = "every answer says fallback"
    if not seen or any(s.status == 200 and s.dependency is None for s in seen):
        return Finding(name, Verdict.INCONCLUSIVE, "the answers don't tell of the dependency", limit)
    believed = sum(s.dependency == "ok" for s in seen)
    return Finding(name, _verdict(believed == 0), f"{believed:,} of {len(seen):,} say ok", limit)


def keeps_throughput(name: str, healthy: int, hung: int) -> Finding:
    """Judge how many of equally many requests were answered in time, with a healthy and with a hung dependency."""
    limit = f">= {KEPT_THROUGHPUT:.0%} of what it answers otherwise"
    if healthy == 0:
        return Finding(name, Verdict.INCONCLUSIVE, "nothing was answered with the dependency healthy", limit)
    kept = hung / healthy
    return Finding(name, _verdict(kept >= KEPT_THROUGHPUT), f"{kept:.1%} ({hung:,} beside {healthy:,})", limit)


def as_written(measured_ms: Mapping[str, float]) -> tuple[Finding, ...]:
    """Judge the profile as-written by the founding plan's own figures: `AS_WRITTEN_MS`, each within 10 %."""
    findings = []
    for name, expected in AS_WRITTEN_MS.items():
        limit = f"{expected:g} ms within {AS_WRITTEN_WITHIN:.0%}"
        found = measured_ms.get(name)
        if found is None:
            findings.append(Finding(f"as-written {name}", Verdict.INCONCLUSIVE, "not measured", limit))
            continue
        near = abs(found - expected) <= AS_WRITTEN_WITHIN * expected
        findings.append(Finding(f"as-written {name}", _verdict(near), f"{found:.0f} ms", limit))
    return tuple(findings)


def percentile_95_ms(seen: Sequence[Seen]) -> float | None:
    """Return the 95th percentile by the nearest rank, in milliseconds; None where nothing was answered."""
    taken = sorted(s.milliseconds for s in seen if s.status)
    return taken[math.ceil(0.95 * len(taken)) - 1] if taken else None


def _verdict(good: bool) -> Verdict:
    return Verdict.PASS if good else Verdict.FAIL

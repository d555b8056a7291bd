"""Since when things have been so: who could be looked at, breakers, critical errors, silence, and the traffic's rate.

None of it is a test; all of it is folded tick by tick, so that a restart goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from crossfade.core.behaviour import GRACE_S
from crossfade.core.evidence import adoption, load
from crossfade.core.evidence.adoption import Adoption
from crossfade.core.evidence.load import Load
from crossfade.core.evidence.sums import Cell, Tick
from crossfade.core.observation import Blindness, BreakerReading
from crossfade.core.plan import DAY, Action, GateKind, Metric, MetricKind, Plan
from crossfade.core.split import BUCKETS, Version
from crossfade.core.words import duration

EXPECTED_SILENT = 20.0
"""Requests that should have come and did not, at which silence is taken for blindness."""
PATIENCE_S = 900.0
"""Silence of everybody that is not yet taken for blindness."""
FACT_ANSWERS = 20
"""Answers in a row without a fact, at which nobody is taken to tell it."""
LATE_TICKS = 6
MISSED_INTERVALS = 3
"""Of a source that was asked and gave no counts, after which nobody can look."""
USUAL_TICK_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """What V2's answers said of one breaker in this phase."""

    open_since: float | None = None
    longest_s: float = 0.0
    told: int = 0
    opened: int = 0
    last_seen: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """When a fact was last told, and how many answers since did not tell it."""

    last_told: float | None = None
    untold: int = 0
    since: float | None = None
    """End of the last tick that told it, or start of the first that could have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An outcome: until when nothing was known of it, by version, and what its source said last."""

    v1: float
    v2: float
    """End of the last tick that told it, or start of the first that could have."""
    requests_v1: int = 0
    requests_v2: int = 0
    """Answered since then."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """A version that does not answer: since when, and how many requests were expected meanwhile."""

    since: float | None = None
    expected: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Everything that is known about looking itself."""

    begun_at: float
    last_number: int | None = None
    last_length: float = USUAL_TICK_S
    """Of the last tick; of an expected one until there is one."""
    last_end: float | None = None
    """End of the last tick absorbed."""
    watched_end: float | None = None
    """End of the last tick that somebody reported."""
    dark_since: float | None = None
    gap: tuple[float, float] | None = None
    """Interval without ticks directly before the last one."""
    lost: float = 0.0
    received: float = 0.0
    """Recent requests that were lost and that arrived; both fade by a third per tick."""
    lossy_since: float | None = None
    v1: Silence = Silence()
    v2: Silence = Silence()
    facts: Mapping[str, Fact] = field(default_factory=dict)
    outcomes: Mapping[str, Told] = field(default_factory=dict)
    breakers: Mapping[str, Breaker] = field(default_factory=dict)
    no_critical_since: float | None = None
    v1_silent_since: float | None = None
    stable_since: float | None = None
    adoption: Adoption = field(default_factory=Adoption)
    requests_v1: int = 0
    requests_v2: int = 0
    assigned_v1: int = 0
    assigned_v2: int = 0
    rate_requests: float = 0.0
    rate_seconds: float = 0.0
    """Requests of users outside staff and the time they took, both fading over a day."""
    load: Load = field(default_factory=Load)
    """What everyone asks, and what V1 was seen to answer; a retry keeps it."""

    @property
    def requests_per_s(self) -> float:
        """Return the request rate of the last day."""
        return self.rate_requests / self.rate_seconds if self.rate_seconds > 0 else 0.0


def begin_phase(watch: Watch) -> Watch:
    """Return the watch with the phase's counts at zero; what lasts (silence, darkness) goes on."""
    kept = {
        name: Breaker(open_since=breaker.open_since, last_seen=breaker.last_seen)
        for name, breaker in watch.breakers.items()
    }
    return replace(
        watch,
        requests_v1=0,
        requests_v2=0,
        assigned_v1=0,
        assigned_v2=0,
        breakers=kept,
        v1=Silence(),
        v2=Silence(),
        facts={},
        outcomes={},
    )


def v2_weight(plan: Plan, phase: int) -> float:
    """Return the share (0..1) of users' requests that a phase sends to V2."""
    return plan.phases[phase].target / BUCKETS


def see(plan: Plan, watch: Watch, tick: Tick, *, phase: int, in_phase: bool) -> Watch:
    """Return the watch after one tick (stability apart, which needs the verdicts)."""
    end = tick.start + tick.length
    watch = _see_source(watch, tick)
    one, two = tick.counts(Version.V1), tick.counts(Version.V2)
    if not tick.sources:
        return replace(watch, no_critical_since=None, v1_silent_since=None, load=load.unseen(watch.load))
    staff = plan.staff_cohorts()
    arms = [(arm, cell) for arm, cell in tick.cells.items() if not arm.override and arm.cohort not in staff]
    user_v1 = sum(cell.requests for arm, cell in arms if arm.version is Version.V1)
    user_v2 = sum(cell.requests for arm, cell in arms if arm.version is Version.V2)
    fade = 1 - min(1.0, tick.length / DAY)
    watch = replace(
        watch,
        v1_silent_since=None if _wanted_v1(one, two) else _first(watch.v1_silent_since, tick.start),
        adoption=adoption.see(
            watch.adoption,
            start=tick.start,
            length=tick.length,
            v1=one.requests + two.fallbacks,
            v2=two.requests - two.fallbacks,
        ),
        no_critical_since=None if two.critical else _first(watch.no_critical_since, tick.start),
        rate_requests=watch.rate_requests * fade + user_v1 + user_v2,
        rate_seconds=watch.rate_seconds * fade + tick.length,
        load=load.see(
            load.unseen(watch.load) if watch.gap else watch.load,
            seconds=tick.length,
            end=end,
            asked=one.requests + two.requests,
            answered=one.requests - one.failures,
        ),
    )
    if not in_phase:
        return watch
    weight = v2_weight(plan, phase)
    expected = max(user_v1 + user_v2, 0)
    return replace(
        watch,
        requests_v1=watch.requests_v1 + one.requests,
        requests_v2=watch.requests_v2 + two.requests,
        assigned_v1=watch.assigned_v1 + user_v1,
        assigned_v2=watch.assigned_v2 + user_v2,
        v1=_silence(watch.v1, one.requests, expected * (1 - weight), tick.start),
        v2=_silence(watch.v2, two.requests, expected * weight, tick.start),
        facts=_see_facts(plan, watch.facts, tick, two.requests),
        outcomes=_see_outcomes(plan, watch.outcomes, tick),
        breakers=_see_breakers(plan, watch.breakers, tick, end),
    )


def pass_over(watch: Watch, tick: Tick) -> Watch:
    """Return the watch after a tick of a drill: nobody is silent or untold for a time that V2 was kept from asking."""

    def later(since: float | None) -> float | None:
        return None if since is None else since + tick.length

    return replace(
        watch,
        v1=replace(watch.v1, since=later(watch.v1.since)),
        v2=replace(watch.v2, since=later(watch.v2.since)),
        outcomes={
            name: replace(told, v1=told.v1 + tick.length, v2=told.v2 + tick.length)
            for name, told in watch.outcomes.items()
        },
    )


def _wanted_v1(one: Cell, two: Cell) -> bool:
    """Tell whether somebody asked for V1's own paths or was answered by V1, in V2's place too."""
    return bool(one.requests or one.asked_v1 or two.asked_v1 or two.fallbacks)


def _first(since: float | None, start: float) -> float:
    return start if since is None else since


def _see_source(watch: Watch, tick: Tick) -> Watch:
    end = tick.start + tick.length
    skipped = watch.last_number is not None and tick.number > watch.last_number + 1
    gap = (watch.last_end or tick.start, tick.start) if skipped else None
    received = sum(cell.requests for cell in tick.cells.values())
    lost, kept = watch.lost * 2 / 3 + tick.lost, watch.received * 2 / 3 + received
    return replace(
        watch,
        last_number=tick.number,
        last_length=tick.length,
        last_end=end,
        watched_end=end if tick.sources else watch.watched_end,
        dark_since=None if tick.sources else _first(watch.dark_since, tick.start),
        gap=gap,
        lost=lost,
        received=kept,
        lossy_since=_first(watch.lossy_since, tick.start) if lost > kept else None,
        no_critical_since=None if gap else watch.no_critical_since,
        v1_silent_since=None if gap else watch.v1_silent_since,
        stable_since=None if gap else watch.stable_since,
    )


def _silence(silence: Silence, requests: int, expected: float, start: float) -> Silence:
    if requests:
        return Silence()
    return Silence(since=_first(silence.since, start), expected=silence.expected + expected)


def _fact_metrics(plan: Plan) -> list[Metric]:
    kinds = (MetricKind.AVAILABILITY, MetricKind.RATIO, MetricKind.TIMING, MetricKind.BREAKER)
    return [metric for metric in plan.metrics if metric.fact and metric.kind in kinds]


def _see_facts(plan: Plan, facts: Mapping[str, Fact], tick: Tick, requests: int) -> dict[str, Fact]:
    result = dict(facts)
    cells = [cell for arm, cell in tick.cells.items() if arm.version is Version.V2]
    for name in {metric.fact for metric in _fact_metrics(plan)}:
        told = any(cell.facts.get(name) or cell.timings.get(name) for cell in cells)
        known = result.get(name, Fact(since=tick.start))
        if told:
            end = tick.start + tick.length
            result[name] = Fact(last_told=end, untold=0, since=end)
        else:
            result[name] = replace(known, untold=known.untold + requests)
    return result


def _see_outcomes(plan: Plan, outcomes: Mapping[str, Told], tick: Tick) -> dict[str, Told]:
    result = dict(outcomes)
    end = tick.start + tick.length
    for metric in plan.metrics:
        if metric.outcome and metric.kind is not MetricKind.COMPLAINTS:  # silence is nothing to wait for
            telling = {arm.version for arm, cell in tick.cells.items() if metric.outcome in cell.outcomes}
            known = result.get(metric.outcome, Told(v1=tick.start, v2=tick.start))
            one, two = Version.V1 in telling, Version.V2 in telling
            result[metric.outcome] = Told(
                v1=end if one else known.v1,
                v2=end if two else known.v2,
                requests_v1=0 if one else known.requests_v1 + tick.counts(Version.V1).requests,
                requests_v2=0 if two else known.requests_v2 + tick.counts(Version.V2).requests,
                reason=tick.unanswered.get(metric.name, "" if telling else known.reason),
            )
    return result


def _see_breakers(plan: Plan, breakers: Mapping[str, Breaker], tick: Tick, end: float) -> dict[str, Breaker]:
    result = dict(breakers)
    cells = [cell for arm, cell in tick.cells.items() if arm.version is Version.V2]
    for metric in plan.metrics:
        if metric.kind is not MetricKind.BREAKER:
            continue
        told = opened = 0
        for cell in cells:
            values: Mapping[str, int] = cell.facts.get(metric.fact, {})
            told += sum(values.values())
            opened += values.get("open", 0)
        known = result.get(metric.fact, Breaker())
        if not told:
            result[metric.fact] = known
            continue
        since = _first(known.open_since, tick.start) if 2 * opened > told else None
        result[metric.fact] = Breaker(
            open_since=since,
            longest_s=max(known.longest_s, end - since if since is not None else 0.0),
            told=known.told + told,
            opened=known.opened + opened,
            last_seen=end,
        )
    return result


def breaker_readings(plan: Plan, watch: Watch) -> dict[str, BreakerReading]:
    """Return the breakers as V2's answers tell of them, by the metric's name."""
    result = {}
    for metric in plan.metrics:
        if metric.kind is MetricKind.BREAKER:
            known = watch.breakers.get(metric.fact, Breaker())
            result[metric.name] = BreakerReading(
                name=metric.fact.removesuffix("-breaker"),
                open_since=known.open_since,
                longest_open_s=known.longest_s,
                share_open=known.opened / known.told if known.told else None,
                last_seen=known.last_seen,
            )
    return result


def open_too_long_since(metric: Metric, watch: Watch) -> float | None:
    """Return since when a breaker's guardrail has been breached; None while it isn't."""
    limit = metric.guard.open_longer_than_s if metric.guard is not None else None
    known = watch.breakers.get(metric.fact)
    if limit is None or known is None or known.open_since is None or known.last_seen is None:
        return None
    return known.open_since + limit if known.last_seen - known.open_since > limit else None


def stuck(plan: Plan, watch: Watch) -> bool:
    """Tell whether some breaker's guardrail is breached."""
    breakers = (metric for metric in plan.metrics if metric.kind is MetricKind.BREAKER)
    return any(open_too_long_since(metric, watch) is not None for metric in breakers)


def blindness(plan: Plan, watch: Watch, *, phase: int, now: float) -> tuple[Blindness, ...]:
    """Return what can't be looked at now."""
    found = _telemetry(watch, now)
    if not any(item.what == "telemetry" for item in found):
        found += _traffic(plan, watch, phase)
        found += _facts(plan, watch, phase)
        found += _outcomes(plan, watch, phase)
    return tuple(found)


def _telemetry(watch: Watch, now: float) -> list[Blindness]:
    found = []
    known_until = watch.begun_at if watch.last_end is None else watch.last_end
    late = max(60.0, LATE_TICKS * watch.last_length)
    if watch.last_end is not None and now < watch.last_end - max(1.0, watch.last_length):
        back = duration(watch.last_end - now)
        found.append(
            Blindness(what="clock", since=now, reason=f"the clock stands {back} before the end of the last tick")
        )
    if watch.dark_since is not None:
        found.append(Blindness(what="telemetry", since=watch.dark_since, reason="no collector reported"))
    elif now - known_until > late:
        waited = duration(now - known_until)
        found.append(Blindness(what="telemetry", since=known_until, reason=f"no tick has come for {waited}"))
    if watch.gap is not None:
        start, end = watch.gap
        found.append(Blindness(what="telemetry", since=start, reason=f"{duration(end - start)} of ticks are missing"))
    if watch.lossy_since is not None:
        found.append(
            Blindness(what="telemetry", since=watch.lossy_since, reason="more requests were lost than reported")
        )
    return found


def _traffic(plan: Plan, watch: Watch, phase: int) -> list[Blindness]:
    weight = v2_weight(plan, phase)
    split = plan.phases[phase].split
    found = []
    any_v2 = split.everyone > 0 or any(split.cohorts.values())
    if any_v2 and watch.v2.since is not None and _is_silent(watch, watch.v2):
        found.append(_silent("v2", watch, watch.v2, matters=weight > 0))
    if 0 < weight < 1 and watch.v1.since is not None and _is_silent(watch, watch.v1):
        found.append(_silent("v1", watch, watch.v1, matters=True))
    return found


def _lasted(watch: Watch, silence: Silence) -> float:
    return 0.0 if silence.since is None or watch.last_end is None else watch.last_end - silence.since


def _is_silent(watch: Watch, silence: Silence) -> bool:
    lasted = _lasted(watch, silence)
    if silence.expected >= EXPECTED_SILENT:
        return lasted >= 3 * watch.last_length
    if silence.expected >= 1:  # the other version does answer, but too little to miss anything: a quiet night
        return lasted >= DAY
    rate = watch.requests_per_s
    patience = max(LATE_TICKS * watch.last_length, PATIENCE_S, EXPECTED_SILENT / rate if rate > 0 else 0.0)
    return lasted >= min(patience, DAY)


def _silent(version: str, watch: Watch, silence: Silence, *, matters: bool) -> Blindness:
    lasted = duration(_lasted(watch, silence))
    since = silence.since or watch.begun_at
    reason = f"no request has reached {version.upper()} for {lasted}; about {silence.expected:.0f} were expected"
    return Blindness(what=f"{version} traffic", since=since, reason=reason, matters=matters)


def _facts(plan: Plan, watch: Watch, phase: int) -> list[Blindness]:
    found = []
    for name in sorted({metric.fact for metric in _fact_metrics(plan)}):
        known = watch.facts.get(name)
        if known is None or known.untold < FACT_ANSWERS or known.since is None:
            continue
        matters = any(_matters(plan, metric, phase) for metric in _fact_metrics(plan) if metric.fact == name)
        reason = f"none of V2's last {known.untold:,} answers told the fact {name}"
        found.append(Blindness(what=f"fact {name}", since=known.since, reason=reason, matters=matters))
    return found


def _outcomes(plan: Plan, watch: Watch, phase: int) -> list[Blindness]:
    """Return the outcomes that nobody tells.

    A source is waited for three times, and for as many requests as a fact: where nobody asks, it has nothing to count.
    """
    found: dict[str, Blindness] = {}
    weight, now = v2_weight(plan, phase), watch.last_end or watch.begun_at
    for metric in plan.metrics:
        known = watch.outcomes.get(metric.outcome)
        if known is None:
            continue
        sides = [(known.v2, known.requests_v2, "V2")]
        if 0 < weight < 1 and _compares(metric):
            sides.append((known.v1, known.requests_v1, "V1"))
        matters = weight > 0 and _matters(plan, metric, phase)
        until = now - outcome_patience_s(plan, metric, phase) - watch.last_length
        enough = FACT_ANSWERS if metric.query else 0
        untold = [(since, version) for since, requests, version in sides if since <= until and requests >= enough]
        if not untold or (metric.outcome in found and not matters):
            continue
        since, version = min(untold)
        why = f": {known.reason}" if known.reason else ""
        reason = f"{_untold(metric)} for {version}'s users for {duration(now - since)}{why}"
        found[metric.outcome] = Blindness(what=f"outcome {metric.outcome}", since=since, reason=reason, matters=matters)
    return [found[name] for name in sorted(found)]


def _untold(metric: Metric) -> str:
    if metric.query is not None:
        return f"{metric.query.source} gave no {metric.name}"
    if metric.behaviour is not None:
        return f"nothing was told of {metric.name}, and so of no {metric.behaviour.of},"
    return f"nobody posted {metric.outcome}"


def outcome_patience_s(plan: Plan, metric: Metric, phase: int) -> float:
    """Return how long an outcome may stay untold: three intervals of its source; a posted one a quarter of the soak.

    That is a day at most, so that nobody is called blind in a quiet night. What users do is told when their windows are
    over.
    """
    if metric.query is not None:
        return MISSED_INTERVALS * plan.source(metric.query.source).every_s
    window_s = 0.0 if metric.behaviour is None else metric.behaviour.within_s + GRACE_S
    return window_s + min(DAY, max(plan.phases[phase].soak_s / 4, LATE_TICKS * USUAL_TICK_S))


def _compares(metric: Metric) -> bool:
    return metric.relative is not None or (metric.guard is not None and metric.guard.worse_than_v1)


def _matters(plan: Plan, metric: Metric, phase: int) -> bool:
    """Tell whether a decision rests on a metric: a guardrail that holds or rolls back, or a gate of the phase."""
    if metric.guard is not None and metric.guard.action in (Action.HOLD, Action.ROLLBACK):
        return True
    kinds = {gate.kind for gate in plan.phases[phase].gates}
    if metric.kind is MetricKind.BREAKER and GateKind.NO_STUCK_BREAKER in kinds:
        return True
    return any(gate.metric == metric.name for gate in plan.phases[phase].gates)

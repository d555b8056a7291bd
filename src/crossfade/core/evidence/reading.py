"""From the book of evidence to an observation: a verdict and a sentence for each metric."""

from __future__ import annotations

import math
from dataclasses import dataclass

from crossfade.core.evidence import share, watch
from crossfade.core.evidence.collect import is_compared
from crossfade.core.evidence.forecast import forecast
from crossfade.core.evidence.latency import mean_ms, within_bin
from crossfade.core.evidence.noninferiority import log_e_promote
from crossfade.core.evidence.pace import log_e_slower
from crossfade.core.evidence.sequences import quantile_interval, rate_interval, ratio_interval
from crossfade.core.evidence.state import EvidenceState, Tally
from crossfade.core.evidence.streams import (
    bad_limit,
    counts_absence,
    evidence_now,
    onset_of,
    regions_to_blame,
)
from crossfade.core.observation import Blindness, Observation, Reading
from crossfade.core.plan import Action, Limit, Metric, MetricKind, Plan
from crossfade.core.split import BUCKETS
from crossfade.core.verdict import Verdict
from crossfade.core.words import duration, ratio_words

INTERVAL_ALPHA = 0.05
"""Of the intervals shown, and of the bounds that a target is held against."""
NO_V1_ANSWERS = 100
"""V1 answers without a fact, at which V1 is taken not to tell it (V1 has no weather)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What all readings of one look share."""

    plan: Plan
    state: EvidenceState
    now: float
    blind: tuple[Blindness, ...]
    harm: dict[str, tuple[float, float]]
    """ln of the evidence and of what it must reach, by metric."""
    controlled: bool
    """Some users are drawn by the hash, so V1 is V2's control."""
    whole: bool
    """Everyone is on V2."""
    promote_needed: float

    def blind_to(self, metric: Metric) -> Blindness | None:
        """Return what keeps this metric from being looked at; None where nothing does."""
        whats = {"telemetry", "clock", "v2 traffic", f"fact {metric.fact}", f"outcome {metric.outcome}"}
        return next((item for item in self.blind if item.what in whats), None)

    def untold(self, metric: Metric) -> bool:
        """Tell whether nothing of a metric that comes apart from the requests has come in this phase."""
        return bool(metric.outcome) and self.state.tallies.get(metric.name, Tally()).n2 <= 0


def read(plan: Plan, state: EvidenceState, now: float) -> Observation:
    """Return what is known at `now` (plan time): one reading per metric that ticks can tell of."""
    seen = state.watch
    split, staff = plan.phases[state.phase].split, plan.staff_cohorts()
    cohorts = ["", *(name for name in split.cohorts if name not in staff)]
    look = _Look(
        plan=plan,
        state=state,
        now=now,
        blind=watch.blindness(plan, seen, phase=state.phase, now=now),
        harm=evidence_now(state.layout, state.streams, log_e_slower(state.pace)),
        controlled=any(is_compared(split, cohort) for cohort in cohorts),
        whole=split.everyone == BUCKETS,
        promote_needed=-math.log(plan.confidence.false_promotion),
    )
    readings = (_reading(look, metric) for metric in plan.metrics)
    users = seen.assigned_v1 + seen.assigned_v2
    watched = not any(item.what in ("telemetry", "clock") for item in look.blind)
    v2_seen = not any(item.what == "v2 traffic" for item in look.blind)
    return Observation(
        readings={reading.metric: reading for reading in readings},
        breakers=watch.breaker_readings(plan, seen),
        blind=look.blind,
        last_tick_at=seen.watched_end,
        no_critical_since=seen.no_critical_since if watched and v2_seen else None,
        v1_silent_since=seen.v1_silent_since if watched else None,
        adoption=seen.adoption,
        stable_since=seen.stable_since if not any(item.matters for item in look.blind) else None,
        requests_v1=seen.requests_v1,
        requests_v2=seen.requests_v2,
        share=share.judge(plan, state.share, state.phase),
        weight_seen=BUCKETS * seen.assigned_v2 / users if users else None,
    )


class Reader:
    """Reads the book of one plan as `read` does, and gives the last observation again while it can't be another.

    Between two ticks nothing but blindness changes with time, and the words that say how long ago a breach began.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._state: EvidenceState | None = None
        """Which the last observation was read from; None where time alone may change it."""
        self._seen = Observation()

    def __call__(self, state: EvidenceState, now: float) -> Observation:
        """Return what is known at `now` (plan time)."""
        if state is self._state:
            blind = watch.blindness(self._plan, state.watch, phase=state.phase, now=now)
            if blind == self._seen.blind:
                return self._seen
        self._seen = read(self._plan, state, now)
        timeless = state.watch.last_end is not None and all(r.onset is None for r in self._seen.readings.values())
        self._state = state if timeless else None
        return self._seen


def _reading(look: _Look, metric: Metric) -> Reading:
    match metric.kind:
        case MetricKind.BREAKER:
            return _breaker(look, metric)
        case MetricKind.CRITICAL_ERRORS:
            return _critical(look, metric)
        case MetricKind.COMPLAINTS:
            return _complaints(look, metric)
        case MetricKind.TIMING:
            return _timing(look, metric)
        case MetricKind.LATENCY:
            return _latency(look, metric)
        case _:
            return _rate(look, metric)


def _hurt(look: _Look) -> int:
    failing = look.state.failing
    return len(failing.hurt) + failing.hurt_unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class _Guard:
    """The guardrail's side of a reading."""

    verdict: Verdict
    harm: float | None
    needed: float | None
    since: float | None
    onset: float | None


def _guard(look: _Look, metric: Metric, *, inside: bool) -> _Guard:
    """Judge a guardrail that streams watch; `inside`: V2 is shown to be within the limit."""
    layout, name = look.state.layout, metric.name
    harm, needed = look.harm.get(name, (None, None))
    shown = harm is not None and needed is not None and harm >= needed
    if shown or name in look.state.shown_at:
        onset = onset_of(layout, look.state.streams, name)
        return _Guard(
            verdict=Verdict.FAIL,
            harm=harm,
            needed=needed,
            since=look.state.breached_since.get(name),
            onset=onset,
        )
    verdict = Verdict.PASS if inside else Verdict.INCONCLUSIVE
    if look.blind_to(metric) is not None or look.untold(metric):
        verdict = Verdict.BLIND
    onset = onset_of(layout, look.state.streams, name) if harm is not None and harm > 0 else None
    return _Guard(verdict=verdict, harm=harm, needed=needed, since=None, onset=onset)


def _bounds(tally: Tally) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the confidence sequences of V1's and V2's rate.

    Failures that repeat carry less information than their number, so both counts are divided by how often a unit
    (a user's ten minutes) repeats; the interval stays around the rate that people see.
    """
    first = _effective(tally.k1, tally.units1, tally.n1)
    second = _effective(tally.k2, tally.units2, tally.n2)
    return rate_interval(*first, INTERVAL_ALPHA), rate_interval(*second, INTERVAL_ALPHA)


def _effective(bad: float, units: float, n: float) -> tuple[float, float]:
    repeats = max(1.0, bad / units) if units > 0 else 1.0
    return bad / repeats, n / repeats


def _rate(look: _Look, metric: Metric) -> Reading:
    state = look.state
    tally = state.tallies.get(metric.name, Tally())
    (_, _), (low, high) = _bounds(tally)
    limit = bad_limit(metric)
    measure = state.layout.measure_of(metric.name)
    index = state.layout.compared.index(measure) if measure in state.layout.compared else None
    ratio = None if index is None else ratio_interval(state.streams.profile[index], INTERVAL_ALPHA)
    promote = None if index is None else log_e_promote(state.streams.promote[index])
    inside = _inside(metric, ratio) if metric.relative else limit is None or high <= limit
    guard = _guard(look, metric, inside=tally.n2 > 0 and inside)
    told_by_v1 = tally.n1 > 0 or state.watch.requests_v1 < NO_V1_ANSWERS
    controlled = look.controlled and told_by_v1
    judge = _relative_target if metric.relative else _rate_target
    target, why = judge(look, metric, tally, guard, bounds=(low, high), promote=promote, ratio=ratio)
    shown = _shown(look, metric, tally)
    wait, never = (None, 0.0)
    if controlled and target is Verdict.INCONCLUSIVE and promote is not None and not metric.relative:
        wait, never = _forecast(look, tally, promote)
    sentence = _rate_sentence(look, metric, tally, guard, ratio=ratio, bounds=(low, high), why=why)
    return Reading(
        metric=metric.name,
        guard=guard.verdict,
        target=target,
        sentence=sentence,
        v1=shown[0],
        v2=shown[1],
        n1=int(tally.n1),
        n2=int(tally.n2),
        k1=tally.k1,
        k2=tally.k2,
        ratio=ratio[1] if ratio else None,
        ratio_low=ratio[0] if ratio else None,
        ratio_high=ratio[2] if ratio else None,
        harm_log_e=guard.harm,
        harm_needed=guard.needed,
        promote_log_e=promote if controlled else None,
        promote_needed=look.promote_needed if controlled and promote is not None else None,
        forecast_s=wait,
        forecast_never=never,
        onset=guard.onset,
        both_bad=_both_bad(state.recent.get(metric.name, Tally()), limit, metric, guard),
        breached_since=guard.since,
        users_hurt=_hurt(look) if metric.kind is MetricKind.FAILURE_RATE else 0,
    )


def _rate_target(
    look: _Look,
    metric: Metric,
    tally: Tally,
    guard: _Guard,
    *,
    bounds: tuple[float, float],
    promote: float | None,
    ratio: tuple[float, float, float] | None,
) -> tuple[Verdict, str]:
    """Judge the target; return the verdict and, where it can't be PASS yet, why."""
    low, high = bounds
    allowed, limit = _allowed(metric), bad_limit(metric)
    margin = look.plan.phases[look.state.phase].margin
    told_by_v1 = tally.n1 > 0 or look.state.watch.requests_v1 < NO_V1_ANSWERS
    blind = look.blind_to(metric)
    if guard.verdict is Verdict.FAIL:
        return Verdict.FAIL, ""
    if tally.n2 > 0 and allowed is not None and low > allowed:
        return Verdict.FAIL, f"V2 is shown above the target {_percent(allowed)}"
    if ratio is not None and ratio[0] > margin and look.controlled:
        return Verdict.FAIL, f"V2 is shown worse than {margin:g} times V1"
    if blind is not None:
        return Verdict.BLIND, f"can't be seen: {blind.reason}"
    if tally.n2 <= 0:
        return Verdict.BLIND if look.untold(metric) else Verdict.INCONCLUSIVE, "V2 has told nothing yet"
    if limit is not None and high > limit:
        return Verdict.INCONCLUSIVE, f"V2 may still be above {_percent(limit)}"
    if look.whole or not told_by_v1:  # no control: the limits decide
        if limit is None and allowed is not None and high > allowed:
            return Verdict.INCONCLUSIVE, f"V2 may still be above {_percent(allowed)}"
        return Verdict.PASS, ""
    if not look.controlled:
        return Verdict.INCONCLUSIVE, "nobody is drawn by chance in this phase, so V2 has no control"
    met = allowed is not None and high <= allowed
    spotless = metric.kind is MetricKind.AVAILABILITY and tally.k1 + tally.k2 == 0
    if met or spotless or (promote is not None and promote >= look.promote_needed):
        return Verdict.PASS, ""
    return Verdict.INCONCLUSIVE, f"not shown yet to be below {margin:g} times V1: {_odds(promote, look.promote_needed)}"


def _inside(metric: Metric, ratio: tuple[float, float, float] | None) -> bool:
    """Tell whether V2's value is shown to be on the good side of a bound on its ratio to V1's."""
    bound = metric.relative
    if bound is None or ratio is None:
        return False
    return ratio[2] <= bound.value if bound.is_upper else ratio[0] >= bound.value


def _relative_target(
    look: _Look,
    metric: Metric,
    tally: Tally,
    guard: _Guard,
    *,
    bounds: tuple[float, float],
    promote: float | None,
    ratio: tuple[float, float, float] | None,
) -> tuple[Verdict, str]:
    """Judge the target of a metric that is compared with V1's value; verdict and, where it can't be PASS, why."""
    target, blind = metric.target, look.blind_to(metric)
    if guard.verdict is Verdict.FAIL:
        return Verdict.FAIL, ""
    if target is not None and tally.n2 > 0 and _missed(target, bounds, ratio, controlled=look.controlled):
        return Verdict.FAIL, f"V2 is shown to miss its target, {_bound_words(target)}"
    if blind is not None:
        return Verdict.BLIND, f"can't be seen: {blind.reason}"
    if tally.n2 <= 0:
        return Verdict.BLIND if look.untold(metric) else Verdict.INCONCLUSIVE, "V2 has told nothing yet"
    if target is None:
        return Verdict.INCONCLUSIVE, ""
    if not target.of_v1:
        met = bounds[0] >= target.value if target.is_upper else bounds[1] <= target.value
        return (Verdict.PASS, "") if met else (Verdict.INCONCLUSIVE, f"not shown yet to be {_bound_words(target)}")
    if look.whole:  # shown in the phases before; nothing is left to compare with
        return Verdict.PASS, ""
    if not look.controlled:
        return Verdict.INCONCLUSIVE, "nobody is drawn by chance in this phase, so V2 has no control"
    if promote is not None and promote >= look.promote_needed:
        return Verdict.PASS, ""
    return Verdict.INCONCLUSIVE, f"not shown yet to be {_bound_words(target)}: {_odds(promote, look.promote_needed)}"


def _missed(
    target: Limit, bounds: tuple[float, float], ratio: tuple[float, float, float] | None, *, controlled: bool
) -> bool:
    """Tell whether a confidence sequence lies beyond the target."""
    if not target.of_v1:
        low, high = bounds
    elif ratio is not None and controlled:
        low, _, high = ratio
    else:
        return False
    return high < target.value if target.is_upper else low > target.value


def _allowed(metric: Metric) -> float | None:
    """Return the target as a greatest rate of bad outcomes; None without a target."""
    if metric.target is None:
        return None
    return 1 - metric.target.value if counts_absence(metric) else metric.target.value


def _shown(look: _Look, metric: Metric, tally: Tally) -> tuple[float | None, float | None]:
    """Return V1's and V2's value in the metric's own unit."""
    if metric.kind is MetricKind.LATENCY_MEAN:
        return mean_ms(look.state.latency_v1), mean_ms(look.state.latency_v2)
    absent = metric.kind is not MetricKind.FAILURE_RATE and counts_absence(metric)

    def value(bad: float, n: float) -> float | None:
        return None if n <= 0 else metric.most * (1 - bad / n if absent else bad / n)

    return value(tally.k1, tally.n1), value(tally.k2, tally.n2)


def _both_bad(recent: Tally, limit: float | None, metric: Metric, guard: _Guard) -> bool:
    if limit is None or guard.verdict is Verdict.FAIL or metric.guard is None:
        return False
    if metric.guard.action is not Action.ROLLBACK and not metric.guard.worse_than_v1:
        return False
    (low1, _), (low2, _) = _bounds(recent)
    return low1 > limit and low2 > limit


def _forecast(look: _Look, tally: Tally, promote: float) -> tuple[tuple[float, float, float] | None, float]:
    n = tally.n1 + tally.n2
    lasted = (look.state.watch.last_end or look.now) - look.state.phase_at
    rate = tally.n2 / lasted if lasted > 0 else 0.0
    if n <= 0:
        return None, 0.0
    return forecast(
        counts=(tally.n1, tally.units1, tally.n2, tally.units2),
        log_e=promote,
        needed=look.promote_needed,
        margin=look.plan.phases[look.state.phase].margin,
        v2_per_s=rate,
    )


def _latency(look: _Look, metric: Metric) -> Reading:
    state, q = look.state, metric.quantile or 0.95
    one = quantile_interval(state.latency_v1, q, INTERVAL_ALPHA)
    two = quantile_interval(state.latency_v2, q, INTERVAL_ALPHA)
    breach = metric.guard.breach if metric.guard else None
    inside = breach is not None and two is not None and within_bin(two[2], breach.value)
    guard = _guard(look, metric, inside=inside)
    target, why = _latency_target(look, metric, guard, two)
    n1, n2 = int(state.latency_v1.sum()), int(state.latency_v2.sum())
    parts = [f"{metric.name}: nothing told yet"]
    if two is not None:
        against = f" against V1 {one[1]:.0f} ms" if one else ""
        parts = [f"{metric.name}: V2 {two[1]:.0f} ms ({two[0]:.0f}..{_ms(two[2])}){against}, {n2:,} answers"]
    slower = log_e_slower(state.pace)
    words = f"slower than V1: odds {_to_one(slower)}" if math.isfinite(slower) else ""
    parts += [_limit_words(metric), _harm_words(look, guard), words, why]
    return Reading(
        metric=metric.name,
        guard=guard.verdict,
        target=target,
        sentence="; ".join(part for part in parts if part),
        v1=one[1] if one else None,
        v2=two[1] if two else None,
        n1=n1,
        n2=n2,
        harm_log_e=guard.harm,
        harm_needed=guard.needed,
        onset=guard.onset,
        breached_since=guard.since,
    )


def _latency_target(
    look: _Look, metric: Metric, guard: _Guard, two: tuple[float, float, float] | None
) -> tuple[Verdict, str]:
    """Judge a latency's target, or its guardrail's limit where there is no target.

    V2 may be slower than V1 while it stays below the limit: it waits for weather, which V1 doesn't.
    """
    limit: Limit | None = metric.target or (metric.guard.breach if metric.guard else None)
    if guard.verdict is Verdict.FAIL:
        return Verdict.FAIL, ""
    if limit is None:
        return Verdict.INCONCLUSIVE, "it has neither target nor limit"
    if two is not None and two[0] > limit.value:
        return Verdict.FAIL, f"V2 is shown above {limit.value:g} ms"
    blind = look.blind_to(metric)
    if blind is not None:
        return Verdict.BLIND, f"can't be seen: {blind.reason}"
    if two is None:
        return Verdict.INCONCLUSIVE, ""
    if not (look.controlled or look.whole):
        return Verdict.INCONCLUSIVE, "nobody is drawn by chance in this phase, so V2 has no control"
    if within_bin(two[2], limit.value):
        return Verdict.PASS, ""
    return Verdict.INCONCLUSIVE, f"V2 may still be above {limit.value:g} ms"


def _breaker(look: _Look, metric: Metric) -> Reading:
    known = look.state.watch.breakers.get(metric.fact, watch.Breaker())
    since = watch.open_too_long_since(metric, look.state.watch)
    limit = metric.guard.open_longer_than_s if metric.guard else None
    share = known.opened / known.told if known.told else None
    guard = _guard(look, metric, inside=False)
    if since is not None or guard.verdict is Verdict.FAIL:
        verdict = Verdict.FAIL
    elif look.blind_to(metric) is not None:
        verdict = Verdict.BLIND
    else:
        within = known.told and (guard.needed is None or (share or 0.0) <= (bad_limit(metric) or 0.0))
        verdict = Verdict.PASS if within else Verdict.INCONCLUSIVE
    state = "no answer has told its state"
    if known.last_seen is not None:
        until = known.last_seen
        open_for = None if known.open_since is None else until - known.open_since
        state = "not open" if open_for is None else f"open for {duration(open_for)}"
    told = "" if share is None else f"; open in {share:.1%} of {known.told:,} answers"
    words = f"; limit {duration(limit)}" if limit is not None else ""
    limits = [part for part in (_limit_words(metric), _harm_words(look, guard)) if part]
    return Reading(
        metric=metric.name,
        guard=verdict,
        target=verdict,
        sentence="; ".join([f"{metric.name}: {state}{told}{words}", *limits]),
        harm_log_e=guard.harm,
        harm_needed=guard.needed,
        onset=guard.onset,
        v2=share,
        n2=known.told,
        k2=known.opened,
        breached_since=guard.since if since is None else since,
    )


def _critical(look: _Look, metric: Metric) -> Reading:
    tally = look.state.tallies.get(metric.name, Tally())
    breach = metric.guard.breach if metric.guard else None
    over = breach is not None and breach.comparison.holds(tally.k2, breach.value)
    if over and metric.guard is not None and metric.guard.worse_than_v1:
        over = tally.k2 * max(tally.n1, 1) > 2 * tally.k1 * max(tally.n2, 1)
    verdict = Verdict.FAIL if over else Verdict.PASS
    if not over and look.blind_to(metric) is not None:
        verdict = Verdict.BLIND
    elif not over and tally.n2 <= 0:
        verdict = Verdict.INCONCLUSIVE
    target = verdict
    if verdict is Verdict.PASS and metric.target is not None:
        holds = metric.target.comparison.holds(tally.k2, metric.target.value)
        target = Verdict.PASS if holds else Verdict.FAIL
    sentence = (
        f"{metric.name}: {tally.k2:,.0f} of V2's {tally.n2:,.0f} requests got no answer, "
        f"{tally.k1:,.0f} of V1's {tally.n1:,.0f}"
    )
    return Reading(
        metric=metric.name,
        guard=verdict,
        target=target,
        sentence=sentence,
        v1=tally.k1,
        v2=tally.k2,
        n1=int(tally.n1),
        n2=int(tally.n2),
        k1=tally.k1,
        k2=tally.k2,
    )


def _complaints(look: _Look, metric: Metric) -> Reading:
    """Count who complained. Where nobody on V2 said anything, nobody knows whether anybody could have complained."""
    tally = look.state.tallies.get(metric.name, Tally())
    breach = metric.guard.breach if metric.guard else None
    heard = tally.n2 > 0
    over = breach is not None and breach.comparison.holds(tally.k2, breach.value)
    verdict = Verdict.FAIL if over else Verdict.PASS if heard else Verdict.BLIND
    target = verdict
    if verdict is Verdict.PASS and metric.target is not None:
        target = Verdict.PASS if metric.target.comparison.holds(tally.k2, metric.target.value) else Verdict.FAIL
    sentence = f"{metric.name}: nobody on V2 has given feedback in this phase"
    if heard:
        sentence = (
            f"{metric.name}: {tally.k2:,.0f} of V2's {tally.n2:,.0f} users' days with feedback, "
            f"{tally.k1:,.0f} of V1's {tally.n1:,.0f}"
        )
    return Reading(
        metric=metric.name,
        guard=verdict,
        target=target,
        sentence=sentence,
        v1=tally.k1 if tally.n1 else None,
        v2=tally.k2 if heard else None,
        n1=int(tally.n1),
        n2=int(tally.n2),
        k1=tally.k1,
        k2=tally.k2,
    )


def _timing(look: _Look, metric: Metric) -> Reading:
    """Give the means of a timing; nothing is tested, so a limit on it can't be judged."""
    tally = look.state.tallies.get(metric.name, Tally())
    one = tally.k1 / tally.n1 if tally.n1 else None
    two = tally.k2 / tally.n2 if tally.n2 else None
    verdict = Verdict.BLIND if look.blind_to(metric) is not None else Verdict.INCONCLUSIVE
    sentence = f"{metric.name}: nothing told yet"
    if two is not None:
        against = "" if one is None else f" against V1 {one:.1f} ms"
        sentence = f"{metric.name}: V2 {two:.1f} ms on average{against}, {tally.n2:,.0f} answers"
    return Reading(
        metric=metric.name,
        guard=verdict,
        target=verdict,
        sentence=sentence,
        v1=one,
        v2=two,
        n1=int(tally.n1),
        n2=int(tally.n2),
    )


def _rate_sentence(
    look: _Look,
    metric: Metric,
    tally: Tally,
    guard: _Guard,
    *,
    ratio: tuple[float, float, float] | None,
    bounds: tuple[float, float],
    why: str,
) -> str:
    one, two = _shown(look, metric, tally)
    if two is None:
        return "; ".join(part for part in (f"{metric.name}: nothing told yet", why) if part)
    timed = metric.kind is MetricKind.LATENCY_MEAN
    say = _milliseconds if timed else _amount if metric.kind is MetricKind.VALUE else _percent
    amounts = timed or metric.kind is MetricKind.VALUE
    against = "" if one is None else f" against V1 {say(one)}"
    band = "" if ratio is None else f" ({_ratio_words(ratio)})"
    absent = metric.kind is not MetricKind.FAILURE_RATE and counts_absence(metric)
    low, high = (1 - bounds[1], 1 - bounds[0]) if absent else bounds
    count, of = (tally.n2 - tally.k2 if absent else tally.k2), tally.n2
    counted = "" if amounts else f"{count:,.0f} of "
    parts = [
        f"{metric.name}: V2 {say(two)}{against}{band}, {counted}{of:,.0f} {_noun(metric)}",
        "" if timed else f"V2 between {say(metric.most * low)} and {say(metric.most * high)}",
        _limit_words(metric),
        _harm_words(look, guard),
        _where(look, metric, guard),
        why,
    ]
    if guard.verdict is Verdict.FAIL and metric.kind is MetricKind.FAILURE_RATE:
        parts.append(f"{_hurt(look):,} users hurt")
    return "; ".join(part for part in parts if part)


def _where(look: _Look, metric: Metric, guard: _Guard) -> str:
    """Name the regions that carry a breach, where not all of them do."""
    state, names = look.state, look.state.regions.slots
    if guard.verdict is not Verdict.FAIL:
        return ""
    found = regions_to_blame(state.layout, state.streams, metric.name, names)
    return f"shown in {', '.join(found[:3])}" if 0 < len(found) < len(names) else ""


def _ratio_words(ratio: tuple[float, float, float]) -> str:
    low, middle, high = ratio
    if math.isinf(high):
        return f"ratio above {low:.2g}"
    return "ratio {}, {}".format(*ratio_words(middle, low, high))


def _limit_words(metric: Metric) -> str:
    guard = metric.guard
    if guard is None or guard.breach is None:
        return ""
    value = guard.breach.value
    amount = f"{value:g} ms" if metric.kind is MetricKind.LATENCY else _percent(value)
    if guard.breach.of_v1:
        return f"guardrail {_bound_words(guard.breach)}"
    return f"guardrail {guard.breach.comparison.value} {amount}{' and worse than V1' if guard.worse_than_v1 else ''}"


def _noun(metric: Metric) -> str:
    """Return what is counted."""
    match metric.kind:
        case MetricKind.FAILURE_RATE:
            return "requests"
        case MetricKind.OUTCOME | MetricKind.VALUE:
            return "posted" if metric.behaviour is None else "users' windows"
        case MetricKind.QUERIED:
            return "counted"
        case _:
            return "answers"


def _bound_words(limit: Limit) -> str:
    amount = f"{limit.value:g} times V1" if limit.of_v1 else _percent(limit.value)
    return f"{limit.comparison.value} {amount}"


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms"


def _harm_words(look: _Look, guard: _Guard) -> str:
    if guard.harm is None or guard.needed is None:
        return ""
    if guard.verdict is Verdict.FAIL:
        began = "" if guard.onset is None else f", it began about {duration(max(0.0, look.now - guard.onset))} ago"
        return f"breach shown: {_odds(guard.harm, guard.needed)}{began}"
    return f"breach not shown: {_odds(guard.harm, guard.needed)}"


def _odds(log_e: float | None, needed: float) -> str:
    """Say evidence as odds: `odds 3 to 1, 100 to 1 needed`."""
    return f"odds {_to_one(log_e)}, {_to_one(needed)} needed"


def _to_one(log_e: float | None) -> str:
    if log_e is None or log_e < math.log(0.01):
        return "below 0.01 to 1"
    if log_e > math.log(1e6):
        return "over a million to 1"
    value = math.exp(log_e)
    return f"{value:,.0f} to 1" if value >= 10 else f"{value:.2g} to 1"


def _percent(fraction: float) -> str:
    percent = 100 * fraction
    digits = 2 if percent >= 0.1 else 3
    text = f"{percent:.{digits}f}".rstrip("0").rstrip(".")
    return f"{text} %"


def _amount(value: float) -> str:
    return f"{value:,.2f}"


def _ms(value: float) -> str:
    return "?" if math.isinf(value) else f"{value:.0f}"

"""A plan, read back in tables for people; 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from textwrap import wrap

from crossfade.app.planfile.lint import lint, population
from crossfade.app.planfile.metrics import say
from crossfade.app.planfile.shares import EVERYONE_ELSE, Population
from crossfade.core.deprecation import v1_headers
from crossfade.core.mirror.rules import Mirror
from crossfade.core.places import masked
from crossfade.core.plan import (
    Behaviour,
    Brownout,
    Comparison,
    ContractDocuments,
    Counted,
    Deprecation,
    DrillStep,
    Kept,
    Key,
    KeySource,
    Limit,
    Load,
    Metric,
    MetricKind,
    NoticeRule,
    OwnerNotices,
    Phase,
    Plan,
    RehearsedBreaker,
)
from crossfade.core.split import BUCKETS
from crossfade.core.words import duration, percent

WIDTH = 80
_WITHOUT_LIMIT = "-"


def summarise(plan: Plan, requests_per_user_per_day: float = 10.0, *, now: float | None = None) -> str:
    """Return what a plan says, phase by phase and metric by metric, and what its traffic can't decide in time.

    Of dates it says which are past at `now`, seconds since the epoch.
    """
    people = population(plan)
    blocks = [
        _head(plan, people),
        _table(("phase", "V2's share", "users on V2", "soak", "margin"), [_phase(p, people) for p in plan.phases]),
        _gates(plan),
        _table(("metric", "from", "baseline", "target", "guard"), [_metric(metric) for metric in plan.metrics]),
        *([_events(plan)] if plan.events else []),
        _errors(plan),
        *([_sources(plan)] if plan.sources else []),
        *([_notices(plan)] if plan.notices else []),
        *([_load(plan.load)] if plan.load else []),
        *([_contract(plan.contract)] if plan.contract else []),
        *([_mirror(plan.mirror)] if plan.mirror else []),
        *([_breaker(plan.rehearsal.breaker)] if plan.rehearsal.breaker else []),
        *([_deprecation(plan, plan.deprecation, now)] if plan.deprecation else []),
        *([_owner_notices(plan.owner_notices)] if plan.owner_notices else []),
        _findings(plan, requests_per_user_per_day),
    ]
    return "\n\n".join(blocks)


def _head(plan: Plan, people: Population) -> str:
    total = sum(phase.soak_s for phase in plan.phases)
    lines = [
        f"{plan.name}: {len(plan.phases)} phases, {duration(total)} at least",
        f"  entry  {plan.api.entry} on {plan.api.listen}",
        f"  v1     {plan.api.v1.path} at {', '.join(plan.api.v1.upstreams)}",
        f"  v2     {plan.api.v2.path} at {', '.join(plan.api.v2.upstreams)}",
        f"  users  {_who(people)}",
        f"  by     {', else '.join(_key(key) for key in plan.assignment.user)}; salt {plan.assignment.salt}",
        f"  plan   {plan.digest[:16]}",
    ]
    return "\n".join(_fold(line, "         ") for line in lines)


def _who(people: Population) -> str:
    total = f"{people.users:,}" if people.users else "not said how many"
    cohorts = [f"{name} {size:,}{' staff' if name in people.staff else ''}" for name, size in people.sizes.items()]
    return f"{total}; cohorts: {', '.join(cohorts)}" if cohorts else total


def _key(key: Key) -> str:
    return key.source.value if key.source is KeySource.ADDRESS else f"{key.source.value} {key.name}"


def _phase(phase: Phase, people: Population) -> tuple[str, ...]:
    on_v2 = f"about {phase.target * people.users / BUCKETS:,.0f}" if people.users else "?"
    staff = sum(people.sizes[name] for name in people.staff if phase.split.share_of(name))
    users = f"{staff:,} staff" if phase.target == 0 and staff else "all" if phase.target == BUCKETS else on_v2
    return phase.name, _shares(phase, people), users, duration(phase.soak_s), f"{phase.margin:g}"


def _shares(phase: Phase, people: Population) -> str:
    """Return V2's share of all users, and by cohort where cohorts differ."""
    apart = {
        name: share
        for name, share in phase.split.cohorts.items()
        if name not in people.staff and share != phase.split.everyone
    }
    if not apart:
        return percent(phase.target)
    parts = [f"{name} {percent(share)}" for name, share in apart.items()]
    return f"{percent(phase.target)}: {', '.join([*parts, f'{EVERYONE_ELSE} {percent(phase.split.everyone)}'])}"


def _gates(plan: Plan) -> str:
    """Return each phase's own gates; those of the phases before hold as well."""
    width = max(len(phase.name) for phase in plan.phases)
    lines = ["to leave a phase: its soak, its gates, and those of the phases before"]
    for phase in plan.phases:
        own = "; ".join(gate.text for gate in phase.own_gates) or "(none of its own)"
        own += f"; {_drill(phase.drill)}" if phase.drill else ""
        lines.append(_fold(f"  {phase.name:{width}}  {own}", " " * (width + 4)))
    return "\n".join(lines)


def _drill(step: DrillStep) -> str:
    capacity = "" if step.v1_capacity is None else f", V1 may be given {step.v1_capacity:g}/s"
    return f"a drill after {duration(step.after_s)}, within {duration(step.within_s)}{capacity}"


def _metric(metric: Metric) -> tuple[str, ...]:
    baseline = _WITHOUT_LIMIT if metric.baseline is None else say(metric.kind, metric.baseline)
    target = _WITHOUT_LIMIT if metric.target is None else _limit(metric.kind, metric.target)
    guard = metric.guard.text if metric.guard else _WITHOUT_LIMIT
    return metric.name, _source(metric), baseline, target, guard


def _source(metric: Metric) -> str:
    if metric.kind is MetricKind.RATIO:
        return f"fact {metric.fact}={metric.fact_value}"
    if metric.kind is MetricKind.COMPLAINTS:
        return "feedback"
    if metric.behaviour is not None:
        return _behaviour(metric.behaviour)
    if metric.kind is MetricKind.OUTCOME:
        return f"posted {metric.outcome}"
    if metric.query is not None:
        return metric.query.source
    return f"fact {metric.fact}" if metric.fact else "proxy"


def _behaviour(rule: Behaviour) -> str:
    match rule.counted:
        case Counted.RETURNS:
            return f"{rule.of}, again within {duration(rule.within_s)}"
        case Counted.SUMS:
            return f"{rule.of}, sum of {rule.event}"
        case Counted.REACHES:
            return f"{rule.of}, {rule.event} within {duration(rule.within_s)}"


def _events(plan: Plan) -> str:
    width = max(len(event.name) for event in plan.events)
    seen = {event.name: f"{event.method} {', '.join(event.paths)}" for event in plan.events if event.paths}
    lines = [_fold(f"  {e.name:{width}}  {seen.get(e.name, 'posted')}", " " * (width + 4)) for e in plan.events]
    return "\n".join(["what users do, in requests that are answered with 2xx or 3xx, or as posted", *lines])


def _limit(kind: MetricKind, limit: Limit) -> str:
    if limit.of_v1:
        return f"{limit.comparison.value} {limit.value:g} x V1"
    if limit.comparison is Comparison.EQ:
        return f"= {say(kind, limit.value)}"
    return f"{limit.comparison.value} {say(kind, limit.value)}"


def _deprecation(plan: Plan, said: Deprecation, now: float | None) -> str:
    dates = f"deprecated since {_date(said.since, now)}"
    dates += f", may be gone from {_date(said.sunset, now)}" if said.sunset is not None else ""
    last = said.from_phase + 1 == len(plan.phases)
    lines = [
        f"v1 is {dates}; its answers say so in {plan.phases[said.from_phase].name}{'' if last else ' and later'}",
        *(f"  {name}: {value}" for name, value in v1_headers(said, said.from_phase).items()),
        *(_brownout(one, now) for one in said.brownouts),
    ]
    return "\n".join(_fold(line, "    ") for line in lines)


def _brownout(one: Brownout, now: float | None) -> str:
    whom = "everybody" if one.share == BUCKETS else f"{percent(one.share)} of the clients"
    return f"brownout {one.name}: {_date(one.at, now)} for {duration(one.until - one.at)}, {whom}"


def _date(seconds: int, now: float | None) -> str:
    past = " (past)" if now is not None and seconds < now else ""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC{past}"


def _sources(plan: Plan) -> str:
    return "\n".join(
        f"{s.name}: {s.url}, asked every {duration(s.every_s)}{' with a token' if s.token else ''}"
        for s in plan.sources
    )


def _notices(plan: Plan) -> str:
    return "\n".join(_fold(f"told to {rule.name} ({_target(rule)}): {_told(rule)}", "  ") for rule in plan.notices)


def _owner_notices(told: OwnerNotices) -> str:
    way = "posted to their URLs" if told.mail is None else f"by mail from {told.sender}, or posted to their URLs"
    signed = "" if told.secret else ", not signed"
    return _fold(f"owners of clients are told of {', '.join(told.templates)}: {way}{signed}", "  ")


def _target(rule: NoticeRule) -> str:
    kept, what = (rule.webhook, "webhook") if rule.webhook else (rule.apprise or Kept(), "apprise")
    signed = ", signed" if rule.secret else ", not signed" if rule.webhook else ""
    if kept.text:
        return f"{what} {masked(kept.text)}{signed}"
    return f"{what} in {f'${kept.variable}' if kept.variable else Path(kept.file).name}{signed}"


def _told(rule: NoticeRule) -> str:
    return ", ".join(f"{kind} {duration(for_s)}" if for_s else str(kind) for kind, for_s in rule.on.items())


def _load(load: Load) -> str:
    peak = "" if load.peak is None else f", at the peak {load.peak:g}/s"
    scenarios = ", ".join(scenario.name for scenario in load.scenarios)
    expected = f"; expected: {', '.join(one.text for one in load.expect)}" if load.expect else ""
    text = f"under load: {load.users:,} users thinking {duration(load.think_s)}{peak}; they ask: {scenarios}{expected}"
    return _fold(text, "  ")


def _contract(contract: ContractDocuments) -> str:
    wanted = len(contract.exemptions)
    exceptions = f"; {wanted} {'change is' if wanted == 1 else 'changes are'} wanted" if wanted else ""
    return _fold(f"contract: V1's in {contract.v1}, V2's in {contract.v2}{exceptions}", "  ")


def _mirror(mirror: Mirror) -> str:
    judged = ", ".join(mirror.must_match) or "whatever V1 answers"
    ignored = f", but for {', '.join(mirror.ignore)}" if mirror.ignore else ""
    bounds = f"; within bounds: {', '.join(bound.path for bound in mirror.bounds)}" if mirror.bounds else ""
    known = (
        f"; as {mirror.reference.url} says: {', '.join(one.path for one in mirror.reference.fields)}"
        if mirror.reference
        else ""
    )
    text = (
        f"mirror at {mirror.rate:g}/s: {judged}{ignored} must match in all but {mirror.limit * 100:g} %{bounds}{known}"
    )
    return _fold(text, "  ")


def _breaker(breaker: RehearsedBreaker) -> str:
    text = (
        f"rehearsed: {breaker.dependency} is told at {breaker.control} to misbehave, and V2's breaker looked at, "
        f"its cooldown {duration(breaker.cooldown_s)}; every answer holds {' and '.join(breaker.needs)}"
    )
    return _fold(text, "  ")


def _errors(plan: Plan) -> str:
    blind = "hold" if plan.blind_rollback_s is None else f"roll back after {duration(plan.blind_rollback_s)}"
    alone = "the proxy alerts" + (" and puts everyone on V1" if plan.unattended.rollback else "")
    burst = plan.confidence.burst_tolerance_s
    lines = (
        f"rolled back without a reason: at most {_chance(plan.confidence.false_rollback)} of rollouts",
        f"promoted though bad as the margin: at most {_chance(plan.confidence.false_promotion)} of phases",
        f"when nothing can be seen: {blind}",
        f"after {duration(plan.unattended.after_s)} without a controller: {alone}",
        *([f"bursts of V2's failures sat out: {duration(burst)}"] if burst else []),
    )
    return "\n".join(lines)


def _chance(probability: float) -> str:
    return f"{probability * 100:.3g} %"


def _findings(plan: Plan, per_user_day: float) -> str:
    if not population(plan).users:
        return "whether the traffic can decide the gates can't be told: assignment.users is not said"
    found = lint(plan, per_user_day)
    basis = f"at {per_user_day:.3g} requests per user and day"
    if not found:
        return f"{basis} every comparison is likely to decide in its soak"
    return "\n".join(
        [f"{basis} not every comparison decides in time:", *(_fold(f"  {f.message}", "    ") for f in found)]
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    if sum(widths) + 2 * (len(widths) - 1) > WIDTH:
        widths[-1] = max(8, WIDTH - sum(widths[:-1]) - 2 * (len(widths) - 1))
    ruled = (head, tuple("-" * width for width in widths), *rows)
    return "\n".join(line for row in ruled for line in _row(row, widths))


def _row(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Return a row's lines: the last cell folds where it is too long."""
    *cells, last = row
    start = "  ".join(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=False))
    parts = wrap(last, widths[-1]) or [""]
    return [f"{start if not index else ' ' * len(start)}  {part}".rstrip() for index, part in enumerate(parts)]


def _fold(text: str, indent: str) -> str:
    own = text[: len(text) - len(text.lstrip())]
    lines = wrap(text, WIDTH, subsequent_indent=indent, drop_whitespace=True, break_long_words=False)
    return "\n".join(lines) if lines else own

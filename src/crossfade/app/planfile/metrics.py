"""The `metrics` section: what each metric is, and whether its target and guard make sense for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass

from crossfade.app.planfile import quantities, sentences
from crossfade.app.planfile.fields import Field, Section, suggest
from crossfade.app.planfile.sentences import GuardWords, LimitWords
from crossfade.app.planfile.source import Entries
from crossfade.core.feedback import HEARD
from crossfade.core.plan import (
    HOUR,
    MINUTE,
    WEEK,
    Action,
    Behaviour,
    Comparison,
    Counted,
    Guardrail,
    Limit,
    Metric,
    MetricKind,
    Query,
)

METRIC_KEYS = (
    *("fact", "value", "breaker", "timing", "outcome", "prometheus"),
    *("of", "reaches", "sums", "returns within", "within", "up to"),
    *("baseline", "target", "guard"),
)
_BEHAVIOUR_KEYS = ("reaches", "sums", "returns within", "within", "up to")
QUERY_KEYS = ("bad", "total")
WINDOW_MAX_S = 4 * WEEK
_SOURCES = ("fact", "breaker", "timing", "outcome", "prometheus", "of")
_BUILT_IN = {
    "failure_rate": MetricKind.FAILURE_RATE,
    "critical_errors": MetricKind.CRITICAL_ERRORS,
    "latency_mean": MetricKind.LATENCY_MEAN,
    "complaints": MetricKind.COMPLAINTS,
}
_USUALLY_POSTED = frozenset({"conversion", "satisfaction", "unhappy"})
_READ = {MetricKind.COMPLAINTS: "is counted from feedback"}
_AMOUNT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,6})?")
_LATENCY = re.compile(r"latency_p([0-9]{2,3})")
_EXAMPLE = "failure_rate: {target: <= 0.5%}"
_LESS = frozenset({Comparison.LT, Comparison.LE})
_MORE = frozenset({Comparison.GT, Comparison.GE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """How values of a kind are written, and which way is good."""

    read: Callable[[str], float]
    example: str
    good: frozenset[Comparison] | None
    """Comparisons that a good value satisfies with a limit; None where neither way is good by itself."""


_SHARE_LOW = Unit(read=quantities.share, example="0.5%", good=_LESS)
_TIME = Unit(read=quantities.milliseconds, example="300ms", good=_LESS)
_COUNT = Unit(read=quantities.count, example="5", good=_LESS)
UNITS = {
    MetricKind.FAILURE_RATE: _SHARE_LOW,
    MetricKind.CRITICAL_ERRORS: _COUNT,
    MetricKind.COMPLAINTS: _COUNT,
    MetricKind.AVAILABILITY: Unit(read=quantities.share, example="99%", good=_MORE),
    MetricKind.LATENCY: _TIME,
    MetricKind.BREAKER: _SHARE_LOW,
    MetricKind.TIMING: _TIME,
    MetricKind.RATIO: Unit(read=quantities.share, example="80%", good=None),
    MetricKind.LATENCY_MEAN: _TIME,
    MetricKind.OUTCOME: Unit(read=quantities.share, example="90%", good=None),
    MetricKind.VALUE: Unit(read=quantities.count, example="40", good=None),
    MetricKind.QUERIED: _SHARE_LOW,
}
_RELATIVE = frozenset(
    {
        MetricKind.AVAILABILITY,
        MetricKind.LATENCY_MEAN,
        MetricKind.RATIO,
        MetricKind.OUTCOME,
        MetricKind.VALUE,
        MetricKind.QUERIED,
    }
)
"""Kinds whose value may be bounded by V1's."""
_NO_ROLLBACK = {
    MetricKind.LATENCY_MEAN: "a few slow answers sway it",
    MetricKind.QUERIED: "nobody knows which of the requests it counts were drawn by chance",
    MetricKind.TIMING: "a mean is swayed by a few slow answers",
    MetricKind.RATIO: "a ratio says nothing of harm",
    MetricKind.COMPLAINTS: "a few people can complain of anything",
}


def read_metrics(field: Field | None, sources: Collection[str], events: Collection[str] = ()) -> tuple[Metric, ...]:
    """Return the metrics of the plan, those with mistakes left out, in the order written.

    `sources` and `events` are the names in the plan's sections, those with mistakes included.
    """
    found: list[Metric] = []
    for name, key, value in field.named(_EXAMPLE) if field else ():
        before = len(value.report.problems)
        good = key.parse(quantities.metric_name) is not None
        metric = _read_metric(name, key, value, sources, events) if good else None
        if metric is None or len(value.report.problems) != before:
            continue
        if any(other.outcome == metric.outcome and other.kind is not metric.kind for other in found if other.outcome):
            key.problem(f"{metric.outcome} is already what another metric counts; name this one otherwise")
        else:
            found.append(metric)
    return tuple(found)


def metric_names(field: Field | None) -> tuple[str, ...]:
    """Return all names in the section, those with mistakes included, so that gates on them aren't called unknown."""
    return tuple(key.value for key, _ in field.node.entries) if field and isinstance(field.node, Entries) else ()


def read_limit(kind: MetricKind, words: LimitWords) -> Limit:
    """Return a limit in the kind's unit; ValueError where the quantity is of another unit."""
    unit = UNITS[kind]
    if words.multiple is not None:
        return _of_v1(kind, words.comparison, words.multiple)
    if kind is MetricKind.VALUE:
        raise ValueError('a value is only compared with V1\'s; write such as "< 95% of v1"')
    try:
        return Limit(comparison=words.comparison, value=unit.read(words.quantity))
    except ValueError as error:
        raise ValueError(f"{words.quantity!r} does not fit {article(kind)}: {error}") from error


def _of_v1(kind: MetricKind, comparison: Comparison, multiple: float) -> Limit:
    """Return a bound by V1's value; ValueError where the kind has none."""
    if kind is MetricKind.LATENCY:
        raise ValueError("a quantile isn't a part of V1's; give latency_mean this limit, or write a time such as 300ms")
    if kind not in _RELATIVE:
        raise ValueError(
            f"{article(kind)} isn't held against a part of V1's; "
            f"write a limit, such as {UNITS[kind].example}, and `and worse than v1`"
        )
    if comparison is Comparison.EQ:
        raise ValueError("a value is never exactly a part of V1's; write < or >")
    return Limit(comparison=comparison, value=multiple, of_v1=True)


def article(kind: MetricKind) -> str:
    """Return what a kind is called in messages."""
    return {
        MetricKind.FAILURE_RATE: "a failure rate",
        MetricKind.CRITICAL_ERRORS: "a count of critical errors",
        MetricKind.COMPLAINTS: "a count of complaints",
        MetricKind.AVAILABILITY: "an availability",
        MetricKind.LATENCY: "a latency",
        MetricKind.BREAKER: "a breaker's open share",
        MetricKind.TIMING: "a timing",
        MetricKind.RATIO: "a ratio",
        MetricKind.LATENCY_MEAN: "a mean",
        MetricKind.OUTCOME: "an outcome",
        MetricKind.VALUE: "a value",
        MetricKind.QUERIED: "a query's count",
    }[kind]


def _read_metric(
    name: str, key: Field, value: Field, sources: Collection[str], events: Collection[str]
) -> Metric | None:
    section = value.section(METRIC_KEYS, "{target: ..., guard: ...}")
    if section is None:
        return None
    kind = _kind(name, key, section)
    if kind is None:
        return None
    query = _read_query(section.values["prometheus"], sources) if kind is MetricKind.QUERIED else None
    if kind is MetricKind.QUERIED and query is None:
        return None
    behaviour = _read_behaviour(section, events) if section.get("of") else None
    if section.get("of") and behaviour is None:
        return None
    baseline = section.get("baseline")
    metric = Metric(
        name=name,
        kind=kind,
        fact=_fact(kind, section),
        fact_value=section.parse("value", quantities.fact_value, ""),
        quantile=quantile_of(name) if kind is MetricKind.LATENCY else None,
        outcome=name if query or behaviour else _outcome(kind, section),
        behaviour=behaviour,
        query=query,
        baseline=baseline.parse(UNITS[kind].read) if baseline else None,
        target=section.parse("target", lambda text: _target(kind, text), None),
        guard=section.parse("guard", lambda text: _guard(kind, sentences.guard(text)), None),
    )
    _contradictions(metric, section)
    return metric


def _kind(name: str, key: Field, section: Section) -> MetricKind | None:
    """Return the kind that name and source make; None, with a problem noted, where they make none."""
    given = [source for source in _SOURCES if section.get(source)]
    by_name = _BUILT_IN.get(name) or (MetricKind.LATENCY if _LATENCY.fullmatch(name) else None)
    if by_name is MetricKind.LATENCY and not 0 < quantile_of(name) < 1:
        key.problem("the 0th percentile is not watched; write one such as latency_p95")
        return None
    if by_name and given:
        section.values[given[0]].problem(
            f"{name} {_READ.get(by_name, 'is read from the proxy')}, not from any {given[0]}; "
            "remove it or rename the metric"
        )
        return None
    if len(given) > 1:
        section.values[given[1]].problem(f"{given[0]} is already said; keep one of {', '.join(given)}")
        return None
    if "value" in section.values and given != ["fact"]:
        section.values["value"].problem("a value belongs to a fact; write {fact: cache, value: hit}")
        return None
    if "of" not in given and (extra := next((word for word in _BEHAVIOUR_KEYS if word in section.values), None)):
        section.values[extra].problem("is about what users do; write {of: search, reaches: book}")
        return None
    if by_name:
        return by_name
    if given == ["of"]:
        return MetricKind.VALUE if "sums" in section.values else MetricKind.OUTCOME
    if not given:
        near = suggest(name, [*_BUILT_IN, "latency_p95"])
        hint = near if "did you mean" in near else ""
        if name in _USUALLY_POSTED:
            hint = f"; what is posted for users is written {{outcome: {name}}}"
        ways = "{fact: ...}, {breaker: ...}, {timing: ...}, {outcome: ...} or {of: ...}"
        key.problem(f"has no source; write {ways}{hint}")
        return None
    kinds = {
        "breaker": MetricKind.BREAKER,
        "timing": MetricKind.TIMING,
        "fact": MetricKind.AVAILABILITY,
        "outcome": MetricKind.OUTCOME,
        "prometheus": MetricKind.QUERIED,
    }
    return MetricKind.RATIO if "value" in section.values else kinds[given[0]]


def _outcome(kind: MetricKind, section: Section) -> str:
    if kind is MetricKind.COMPLAINTS:
        return HEARD
    if kind is not MetricKind.OUTCOME:
        return ""
    return section.values["outcome"].parse(quantities.outcome_name) or ""


def _read_behaviour(section: Section, events: Collection[str]) -> Behaviour | None:
    """Return what is counted of users; None, with problems noted, where that can't be."""
    before = len(section.field.report.problems)
    ways = [way for way in ("reaches", "sums", "returns within") if section.get(way)]
    if len(ways) != 1:
        section.field.problem(
            f"says {len(ways)} ways to count; write one of {{of: search, reaches: book}}, "
            "{of: search, sums: book, up to: 500}, {of: search, returns within: 7d}"
        )
        return None
    of = _event(section.values["of"], events)
    sums, returns = ways == ["sums"], ways == ["returns within"]
    event = of if returns else _event(section.values[ways[0]], events)
    if not returns and of and of == event:
        section.values[ways[0]].problem(f"{event} is what begins the window; write what is done in it")
    if returns and "within" in section.values:
        section.values["within"].problem("is said already, by `returns within`; remove it")
    for word, fits in (("up to", sums), ("baseline", not sums)):
        if word in section.values and not fits:
            section.values[word].problem(f"does not belong to {ways[0]}; remove it")
    most = section.require("up to", "500") if sums else None
    within = section.parse("returns within" if returns else "within", _window, 0.0)
    up_to = most.parse(_most) if most else None
    if len(section.field.report.problems) != before or not of or not event:
        return None
    counted = Counted.SUMS if sums else Counted.RETURNS if returns else Counted.REACHES
    return Behaviour(of=of, counted=counted, event=event, within_s=within or HOUR, most=up_to or 1.0)


def _event(field: Field, events: Collection[str]) -> str | None:
    name = field.parse(quantities.event_name)
    if name is not None and name not in events:
        known = suggest(name, events) if events else f"; write `events: {{{name}: {{get: /...}}}}`"
        field.problem(f"{name!r} is no event of the plan{known}")
        return None
    return name


def _window(text: str) -> float:
    seconds = quantities.positive_duration(text)
    if not MINUTE <= seconds <= WINDOW_MAX_S:
        raise ValueError(f"{text} is no time to wait for users; write 1m to 28d, such as 1h")
    return seconds


def _most(text: str) -> float:
    if not _AMOUNT.fullmatch(text) or not float(text):
        raise ValueError(f"{text!r} is no amount; write the most that a user's window counts, such as 500")
    return float(text)


def _read_query(field: Field, sources: Collection[str]) -> Query | None:
    """Return what a Prometheus is asked for; None, with problems noted, where it can't be asked."""
    section = field.section(QUERY_KEYS, "{bad: ..., total: ...}")
    if section is None:
        return None
    bad, total = (section.require(key, "sum(increase(...[$interval]))") for key in QUERY_KEYS)
    texts = [text.parse(quantities.query) if text else None for text in (bad, total)]
    if "prometheus" not in sources:
        field.problem("the plan names no Prometheus; write `sources: {prometheus: {url: http://127.0.0.1:9090}}`")
    if texts[0] is None or texts[1] is None:
        return None
    return Query(source="prometheus", bad=texts[0], total=texts[1])


def _fact(kind: MetricKind, section: Section) -> str:
    if kind in (MetricKind.OUTCOME, MetricKind.VALUE, MetricKind.QUERIED, MetricKind.COMPLAINTS):
        return ""
    source = next((section.values[source] for source in _SOURCES if source in section.values), None)
    fact = (source.parse(quantities.fact_name) if source else None) or ""
    return f"{fact}-breaker" if kind is MetricKind.BREAKER and fact else fact


def quantile_of(name: str) -> float:
    """Return the quantile that a metric's name says, 0.95 for `latency_p95`; 0 where it says none."""
    match = _LATENCY.fullmatch(name)
    return float(f"0.{match[1]}") if match else 0.0


def _target(kind: MetricKind, text: str) -> Limit | None:
    """Return the target; a bare quantity is read in the direction in which the kind is good."""
    unit, words = UNITS[kind], sentences.target(text)
    if isinstance(words, str):
        if unit.good is None:
            raise ValueError(f'{text!r} says not which way is good; write ">= {text}" or "<= {text}"')
        comparison = Comparison.LE if unit.good is _LESS else Comparison.GE
        words = LimitWords(comparison=comparison, quantity=words)
    limit = read_limit(kind, words)
    if unit.good and limit.comparison not in unit.good:
        wanted = "<=" if unit.good is _LESS else ">="
        raise ValueError(f'{text!r} would be met when V2 is bad; write "{wanted} {words.quantity}"')
    if kind is MetricKind.LATENCY_MEAN and not limit.of_v1:
        raise ValueError('a mean is only compared with V1\'s; write "<= 1.1 times v1", or give latency_p95 this target')
    if limit.of_v1 and limit.is_upper == (limit.value >= 1):
        raise ValueError(f"{text!r} can't be shown of a V2 that equals V1; write {_near_v1(above=not limit.is_upper)}")
    return limit


def _guard(kind: MetricKind, words: GuardWords) -> Guardrail:
    """Return the guardrail; ValueError where the sentence makes no sense for the kind."""
    if words.action is Action.ROLLBACK and kind in _NO_ROLLBACK:
        raise ValueError(f"{article(kind)} can't roll back, {_NO_ROLLBACK[kind]}; write hold, alert or monitor")
    if words.open_longer_than_s is not None:
        if kind is not MetricKind.BREAKER:
            raise ValueError(
                f"only a breaker can be open; write a limit for {article(kind)}, such as {_guard_example(kind)}"
            )
        return Guardrail(action=words.action, open_longer_than_s=words.open_longer_than_s, text=words.text)
    if words.breach is None:
        return Guardrail(action=words.action, text=words.text)
    if kind is MetricKind.BREAKER and (words.worse_than_v1 or words.action is Action.ROLLBACK):
        raise ValueError(
            f"{words.text!r} asks too much of a breaker, which opens to protect V2; "
            "write how much of the time, or how long, it may be open: > 5% -> hold, or open > 5m -> alert"
        )
    if words.worse_than_v1 and UNITS[kind] is _COUNT:
        raise ValueError("counts of V1 and V2 can't be compared, their traffic differs; remove `and worse than v1`")
    if kind is MetricKind.LATENCY_MEAN and words.breach.multiple is None:
        raise ValueError(
            f"a mean is only compared with V1's; write > 1.25 times v1 -> {words.action}, "
            "or give latency_p95 this guard"
        )
    breach = read_limit(kind, words.breach)
    _check_guard_direction(kind, words, breach)
    return Guardrail(action=words.action, breach=breach, worse_than_v1=words.worse_than_v1, text=words.text)


def _check_guard_direction(kind: MetricKind, words: GuardWords, breach: Limit) -> None:
    good = UNITS[kind].good
    if breach.comparison is Comparison.EQ:
        raise ValueError(f"{words.text!r} trips at one exact value only; write < or >")
    if good and breach.comparison in good:
        turned = ">" if good is _LESS else "<"
        quantity = words.breach.quantity if words.breach else ""
        raise ValueError(f'{words.text!r} would trip when V2 is good; write "{turned} {quantity} -> {words.action}"')
    if breach.of_v1 and breach.is_upper == (breach.value <= 1):
        raise ValueError(
            f"{words.text!r} would trip when V2 equals V1; write {_near_v1(above=breach.is_upper)} -> {words.action}"
        )


def _near_v1(*, above: bool) -> str:
    return "> 1.2 times v1" if above else "< 95% of v1"


def _guard_example(kind: MetricKind) -> str:
    sign = "<" if UNITS[kind].good is _MORE else ">"
    return f'"{sign} {UNITS[kind].example} -> hold"'


def _contradictions(metric: Metric, section: Section) -> None:
    """Note a target that the guard forbids, and a guard that V1 itself would trip."""
    breach = metric.guard.breach if metric.guard else None
    if breach is None or metric.guard is None:
        return
    if metric.target and metric.target.of_v1 and not breach.of_v1:
        section.values["target"].problem(
            f"is a part of V1's value, and the guard {metric.guard.text!r} is not; write both in the same way"
        )
    elif metric.target and metric.target.comparison is not Comparison.EQ:
        if metric.target.is_upper == breach.is_upper:
            section.values["target"].problem(
                f"the guard {metric.guard.text!r} trips on the side that the target wants; turn one of them"
            )
            return
        if metric.target.of_v1 != breach.of_v1:
            return
        beyond = breach.comparison.holds(metric.target.value, breach.value)
        if beyond and metric.target.value != breach.value:
            section.values["target"].problem(
                f"a value on target would trip the guard {metric.guard.text!r}; bring them in line"
            )
    compares = metric.guard.worse_than_v1 or breach.of_v1
    if metric.baseline is not None and not compares and breach.comparison.holds(metric.baseline, breach.value):
        section.values["guard"].problem("V1's own baseline would trip it; widen it, or add `and worse than v1`")


def say(kind: MetricKind, value: float) -> str:
    """Return a value of a kind in its unit: `0.5%`, `300ms`, `5`."""
    if UNITS[kind] is _TIME:
        return f"{value:g}ms"
    return f"{value:g}" if UNITS[kind] is _COUNT else f"{round(value * 100, 6):g}%"

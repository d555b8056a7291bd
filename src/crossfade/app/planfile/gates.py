"""The `promote when` sentences: whether each is about something the plan watches, and can ever be met."""

from __future__ import annotations

from crossfade.app.planfile import sentences, shares
from crossfade.app.planfile.context import Context
from crossfade.app.planfile.fields import Field, Section, suggest
from crossfade.app.planfile.metrics import UNITS, article, read_limit
from crossfade.app.planfile.sentences import GateWords
from crossfade.core.plan import Action, Comparison, Gate, GateKind, Metric, MetricKind
from crossfade.core.split import BUCKETS, Split

_COMPARABLE = frozenset(
    {
        MetricKind.FAILURE_RATE,
        MetricKind.AVAILABILITY,
        MetricKind.LATENCY,
        MetricKind.LATENCY_MEAN,
        MetricKind.OUTCOME,
        MetricKind.VALUE,
        MetricKind.QUERIED,
    }
)
_OF_V2 = frozenset(
    {
        GateKind.ON_TARGET,
        GateKind.LIMIT,
        GateKind.NO_CRITICAL_ERRORS,
        GateKind.NO_STUCK_BREAKER,
        GateKind.NO_CASCADING_FAILURES,
        GateKind.DRILL_PASSED,
        GateKind.SHARE_RISES,
    }
)
"""Gates that need somebody on V2."""
_OF_ONE_PHASE = frozenset({GateKind.APPROVED, GateKind.REHEARSAL_PASSED, GateKind.PEAK_LOAD_PASSED})


def read_gates(section: Section, context: Context, split: Split | None) -> tuple[Gate, ...]:
    """Return a phase's own gates; `split` is None where it could not be read, and gates aren't held against it."""
    value = section.get("promote when")
    found: dict[str, Gate] = {}
    for item in value.items("[stable for 24h]") if value else ():
        words = item.parse(sentences.gate)
        gate = _gate(item, words, context) if words else None
        if gate is None:
            continue
        if gate.text in found:
            item.problem(f"gate `{gate.text}` is written twice; keep one")
        elif split is None or _possible(item, gate, context, split):
            found[gate.text] = gate
    return tuple(found.values())


def _gate(item: Field, words: GateWords, context: Context) -> Gate | None:
    """Return a gate whose metric and unit fit; None, with a problem noted, where they don't."""
    if words.metric is None:
        gate = Gate(kind=words.kind, text=words.text, for_s=words.for_s, people=words.people)
        return gate if _watched(item, words, context) else None
    metric = context.metrics.get(words.metric)
    if metric is None:
        if words.metric not in context.metric_names:
            item.problem(f"{words.metric!r} is no metric of the plan{suggest(words.metric, context.metric_names)}")
        return None
    try:
        return _metric_gate(words, metric)
    except ValueError as error:
        item.problem(str(error))
        return None


def _metric_gate(words: GateWords, metric: Metric) -> Gate:
    """Return a gate on a metric; ValueError where the sentence makes no sense for it."""
    if words.limit is None:
        if metric.kind not in _COMPARABLE and not (metric.target and metric.target.of_v1):
            example = f"{metric.name} <= {UNITS[metric.kind].example}"
            raise ValueError(f"{article(metric.kind)} isn't compared with V1's; write a limit, such as `{example}`")
        if metric.target is None:
            sign = ">=" if Comparison.GE in (UNITS[metric.kind].good or ()) else "<="
            example = f'target: "{sign} {UNITS[metric.kind].example}"'
            raise ValueError(f"{metric.name} has no target; give it one in metrics, such as {example}")
        return Gate(kind=words.kind, text=words.text, metric=metric.name, limit=metric.target)
    limit = read_limit(metric.kind, words.limit)
    good = UNITS[metric.kind].good
    if good and limit.comparison is not Comparison.EQ and limit.comparison not in good:
        turned = "<=" if Comparison.LE in good else ">="
        raise ValueError(f"{words.text!r} is met when V2 is bad; write `{metric.name} {turned} {words.limit.quantity}`")
    return Gate(kind=words.kind, text=words.text, metric=metric.name, limit=limit)


def _watched(item: Field, words: GateWords, context: Context) -> bool:
    """Tell whether the plan watches what a gate without a metric's name is about."""
    metrics = context.metrics.values()
    if len(metrics) < len(context.metric_names):
        return True  # the one that is wanted may be among those with mistakes
    if words.kind is GateKind.NO_STUCK_BREAKER and not any(m.kind is MetricKind.BREAKER for m in metrics):
        item.problem(
            "the plan watches no breaker; add one to metrics: `breaker_open: {breaker: weather, guard: monitor}`"
        )
        return False
    rolls_back = any(m.guard is not None and m.guard.action is Action.ROLLBACK for m in metrics)
    if words.kind is GateKind.NO_CASCADING_FAILURES and not rolls_back:
        item.problem(
            'no guard rolls back, so no failure could be seen to cascade; give failure_rate one: "> 1% -> rollback"'
        )
        return False
    return True


def _possible(item: Field, gate: Gate, context: Context, split: Split) -> bool:
    """Tell whether a gate can ever be met under a split; note why where it can't."""
    everybody = split.everyone == BUCKETS and all(share == BUCKETS for share in split.cohorts.values())
    if gate.kind is GateKind.NO_V1_REQUESTS and not everybody:
        item.problem("V1 still has users in this phase, so it will have requests; put the gate into the phase at 100%")
    elif gate.kind in _OF_V2 and not shares.anyone_on_v2(split):
        item.problem(
            "nobody is on V2 in this phase, so nothing can be seen; name a cohort, or move the gate to a later phase"
        )
    elif gate.kind is GateKind.ON_TARGET and not shares.has_control(split, context.people):
        item.problem(
            "V2 has nobody to be compared with in this phase: no group of users is on both versions; "
            "write a limit, or move the gate to a phase between 0% and 100%"
        )
    else:
        return True
    return False


def inherit(inherited: tuple[Gate, ...], own: tuple[Gate, ...]) -> tuple[Gate, ...]:
    """Return the gates of the phases before, then a phase's own (R13).

    Of two gates of the same kind and metric the longer time stands, of two approvals that by more people. An approval,
    a rehearsal and a peak load, which expire, are for one phase and not inherited.
    """
    gates = {_identity(gate): gate for gate in inherited if gate.kind not in _OF_ONE_PHASE}
    for gate in own:
        earlier = gates.get(_identity(gate))
        if earlier is None or (gate.for_s, gate.people) > (earlier.for_s, earlier.people):
            gates[_identity(gate)] = gate
    return tuple(gates.values())


def _identity(gate: Gate) -> tuple[object, ...]:
    return gate.kind, gate.metric, gate.limit

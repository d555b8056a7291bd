"""The sentences of `--defect`: `failure_rate=2% at canary+3d in region eu`.

Grammar first, then what it means for this plan: a metric, phase or region that isn't there is answered with those
that are.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from functools import lru_cache

from lark import Lark, Token
from lark.exceptions import LarkError

from crossfade.app.planfile import quantities
from crossfade.core.plan import Metric, MetricKind, Plan
from crossfade.errors import UsageError
from crossfade.simulation.model import Defect, Effect
from crossfade.simulation.traffic import Region

_GRAMMAR = r"""
start: METRIC TAIL? "=" value " at " PHASE ["+" DURATION] [" in region " REGION]
value: SHARE -> share | "x" FACTOR -> factor
METRIC: /[A-Za-z][A-Za-z0-9_]*/
TAIL: ".tail"
SHARE: /[0-9.]+%?/
FACTOR: /[0-9.]+/
PHASE: /[^ +]+/
DURATION: /[0-9][0-9. smhdw]*[smhdw]/
REGION: /[^ ]+/
"""
_MAX_LENGTH = 200
FORMS = ("failure_rate=2% at canary+3d", "latency=x1.25 at early", "latency.tail=x1.5 at half+1d in region eu")
_SHARES = (MetricKind.FAILURE_RATE, MetricKind.CRITICAL_ERRORS, MetricKind.AVAILABILITY, MetricKind.RATIO)


@lru_cache(maxsize=1)
def _grammar() -> Lark:
    return Lark(_GRAMMAR, parser="earley")


def parse_defect(text: str, plan: Plan, regions: Sequence[Region]) -> Defect:
    """Return a defect; UsageError where the sentence, or something that it names, isn't one of this plan's."""
    tidy = " ".join(text.split())
    try:
        if len(tidy) > _MAX_LENGTH:
            raise LarkError
        tree = _grammar().parse(tidy)
    except LarkError:
        forms = ", ".join(f"'{form}'" for form in FORMS)
        raise UsageError(f"--defect {text!r} is no defect; write one like {forms}") from None
    words = {token.type: str(token) for token in tree.scan_values(lambda value: isinstance(value, Token))}
    by_factor = next(tree.find_pred(lambda node: node.data == "factor"), None) is not None
    metric, kind = _metric(words["METRIC"], plan, text)
    effect, value = _effect(text, words, kind, by_factor=by_factor)
    phase = _one_of(words["PHASE"], [entry.name for entry in plan.phases], "phase", text)
    region = words.get("REGION")
    if region is not None:
        _one_of(region, [entry.name for entry in regions], "region", text)
    return Defect(
        metric=metric,
        effect=effect,
        value=value,
        phase=phase,
        after_s=_after(words.get("DURATION"), text),
        region=region,
        text=tidy,
    )


def _metric(name: str, plan: Plan, text: str) -> tuple[str, MetricKind]:
    """Return the metric's name and kind; `latency` alone is the latency of all answers."""
    can = [metric for metric in plan.metrics if metric.kind in _SHARES or metric.kind is MetricKind.LATENCY]
    if name == "latency":
        return next((m.name for m in can if m.kind is MetricKind.LATENCY), ""), MetricKind.LATENCY
    known: dict[str, Metric] = {metric.name: metric for metric in plan.metrics}
    if name in known and known[name] not in can:
        raise UsageError(f"--defect {text!r}: {name} can't be given a defect; {_names(can)} can")
    if name not in known:
        near = get_close_matches(name, [metric.name for metric in can], n=1)
        hint = f"did you mean {near[0]}?" if near else f"it has {_names(can)}, and latency"
        raise UsageError(f"--defect {text!r}: the plan has no metric {name!r}; {hint}")
    return name, known[name].kind


def _names(metrics: Sequence[Metric]) -> str:
    return ", ".join(metric.name for metric in metrics)


def _effect(text: str, words: dict[str, str], kind: MetricKind, *, by_factor: bool) -> tuple[Effect, float]:
    slow = kind is MetricKind.LATENCY
    if slow != by_factor or ("TAIL" in words and not slow):
        right = "a factor, such as latency=x1.25 or latency.tail=x1.5" if slow else "a share, such as failure_rate=2%"
        raise UsageError(f"--defect {text!r}: {words['METRIC']} takes {right}")
    try:
        value = float(words["FACTOR"]) if slow else quantities.share(words["SHARE"])
    except ValueError as error:
        raise UsageError(f"--defect {text!r}: {error}") from None
    if slow and value <= 0:
        raise UsageError(f"--defect {text!r}: a factor is above 0, such as x1.25")
    return (Effect.TAIL if "TAIL" in words else Effect.FACTOR if slow else Effect.RATE), value


def _after(text: str | None, whole: str) -> float:
    try:
        return 0.0 if text is None else quantities.duration(text)
    except ValueError as error:
        raise UsageError(f"--defect {whole!r}: {error}") from None


def _one_of(name: str, names: Sequence[str], what: str, text: str) -> int:
    if name in names:
        return names.index(name)
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(filter(None, names)) or 'none'}"
    raise UsageError(f"--defect {text!r}: there is no {what} {name!r}; {hint}")

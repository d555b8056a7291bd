"""What a load shows about what was expected of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crossfade.core.load.tally import Sums, Tally
from crossfade.core.plan import Comparison, Expectation, Limit, MetricKind, Plan
from crossfade.core.split import Version
from crossfade.core.verdict import Verdict

USUAL_FAILURES = Expectation(
    text="failure_rate <= 1%", kind=MetricKind.FAILURE_RATE, limit=Limit(comparison=Comparison.LE, value=0.01)
)
"""What is expected where nobody says anything about failures."""
PEAK_SHARE = 0.25
"""What V2 is given of the peak (R15)."""
_PEAK_SLACK = 0.9
_RULE_OF_THREE = 3
_TAIL = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One expectation, held against what was seen."""

    text: str
    of: str
    """`all`, or the version."""
    verdict: Verdict
    said: str
    """The figure, or why there is none."""
    value: float | None = None
    """In the limit's unit: a share of 1 or milliseconds."""


def expected_by(plan: Plan) -> tuple[Expectation, ...]:
    """Return what the plan expects of a load: its `load.expect`, and its targets that a load can show."""
    own = plan.load.expect if plan.load else ()
    targets = [
        Expectation(text=f"{m.name} {m.target.comparison} {_unit(m.kind, m.target.value)}", kind=m.kind,
                    limit=m.target, quantile=m.quantile)
        for m in plan.metrics
        if m.kind in (MetricKind.FAILURE_RATE, MetricKind.LATENCY) and m.target and not m.target.of_v1
    ]  # fmt: skip
    found = {one.text: one for one in (*own, *targets)}
    if not any(one.kind is MetricKind.FAILURE_RATE for one in found.values()):
        found[USUAL_FAILURES.text] = USUAL_FAILURES
    return tuple(found.values())


def judge(tally: Tally, expected: Sequence[Expectation], *, v2_wanted: bool) -> tuple[Check, ...]:
    """Hold every expectation against all requests, and against V2's where it was to answer or did.

    INCONCLUSIVE is a quantile beyond which fewer than 10 answers lie; a share that is met on fewer requests than 3 by
    the limit (the rule of three), or that failures which told no version would put above the limit if they were V2's.
    BLIND: nothing was asked, or V2 answered nothing.
    """
    checks = [_check(one, "all", tally.total(), untold=0) for one in expected]
    v2 = tally.total(lambda part: part.version is Version.V2)
    if v2_wanted or v2.requests:
        untold = tally.total(lambda part: part.version is None).failures
        checks += [_check(one, Version.V2.value, v2, untold) for one in expected]
    return tuple(checks)


def judge_peak(tally: Tally, planned: int) -> Check:
    """Tell whether V2 was given its quarter of the peak's requests (R15), nine tenths of that at least."""
    given = tally.total(lambda part: part.version is Version.V2).requests
    share = given / planned if planned else 0.0
    return Check(
        text=f"V2 is given {PEAK_SHARE:.0%} of the peak",
        of=Version.V2.value,
        verdict=Verdict.BLIND if not given else Verdict.PASS if share >= PEAK_SHARE * _PEAK_SLACK else Verdict.FAIL,
        said=f"{given:,} of {planned:,} requests, {share:.1%}" if given else "no answer said that it is V2's",
        value=share,
    )


def _check(expectation: Expectation, of: str, sums: Sums, untold: int) -> Check:
    if not sums.requests:
        said = "nothing was asked" if of == "all" else "no answer said that it is V2's"
        return Check(text=expectation.text, of=of, verdict=Verdict.BLIND, said=said)
    holds, limit = expectation.limit.comparison.holds, expectation.limit.value
    doubt = ""
    if expectation.kind is MetricKind.FAILURE_RATE:
        value = sums.failures / sums.requests
        said = f"{sums.failures:,} of {sums.requests:,}, {value:.2%}"
        needed = _RULE_OF_THREE / limit if limit and holds(value, limit) else 0.0
        if holds(value, limit) and not holds((sums.failures + untold) / (sums.requests + untold), limit):
            doubt = f"{untold:,} failures told no version"
    else:
        quantile = expectation.quantile or 0.0
        value = sums.latency.quantile_ms(quantile) or 0.0
        said, needed = f"{value:,.1f} ms", _TAIL / (1 - quantile)
    if sums.requests < needed - 0.5:
        doubt = f"{needed:,.0f} requests are needed to tell, {sums.requests:,} were made"
    if doubt:
        return Check(text=expectation.text, of=of, verdict=Verdict.INCONCLUSIVE, said=f"{said}; {doubt}", value=value)
    verdict = Verdict.PASS if holds(value, limit) else Verdict.FAIL
    return Check(text=expectation.text, of=of, verdict=verdict, said=said, value=value)


def _unit(kind: MetricKind, value: float) -> str:
    return f"{value * 100:g}%" if kind is MetricKind.FAILURE_RATE else f"{value:g}ms"

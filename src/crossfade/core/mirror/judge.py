"""Whether V2 answers as V1 does: each field held against the limit and against V1's own noise.

Of a field, let b be the questions where V2 differed and V1 agreed with itself, and c those where V1 differed from
itself and V2 did not. If V2 were one more V1, the second V1 answer and V2's could be swapped, so b and c would be alike
(McNemar's test). The excess of differences, as a share of the questions, is (b + c)/n * (2 b/(b + c) - 1); its interval
takes one confidence sequence for each factor, so it holds however often it is looked at (`evidence.sequences`).

PASS claims something of every judged field, so each is shown at the full error probability (an intersection-union
test); FAIL claims something of any of them, so that probability is shared among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from crossfade.core.evidence.sequences import rate_interval
from crossfade.core.mirror.compare import Kind
from crossfade.core.mirror.paths import covers
from crossfade.core.mirror.rules import BODY, HEADER, STATUS, Mirror
from crossfade.core.mirror.tally import OTHERS, Example, FieldSums, Pairs, QualitySums, Tally
from crossfade.core.verdict import Verdict, combine

NOISE_MAX = 0.5
"""V1 that answers itself otherwise in more than this share of the questions is nothing to compare with."""
_EXPLAINED = 0.9
_EXPLAINED_MIN = 5
_ORDER = {Verdict.FAIL: 0, Verdict.BLIND: 1, Verdict.INCONCLUSIVE: 2, Verdict.PASS: 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One field, one bound or one field of the reference, judged. Counts are of questions."""

    path: str
    of: str
    """`fields`, `bounds` or `reference`."""
    verdict: Verdict | None
    """None: not judged."""
    said: str
    """What was seen, in one sentence."""
    asked: int
    """How many could have differed."""
    differing: int
    noise: int = 0
    """V1 differed from itself."""
    excess: tuple[float, float] = (0.0, 1.0)
    """Between what shares V2's differences beyond noise lie."""
    kinds: tuple[tuple[str, int], ...] = ()
    examples: tuple[Example, ...] = ()


def judge(tally: Tally, rules: Mirror, *, false_pass: float = 0.05, false_fail: float = 0.01) -> tuple[Line, ...]:
    """Judge every field, bound and field of the reference, the worst first.

    The two are the probabilities that a field which differs beyond the limit lets the mirror pass, and that one which
    does not fails it.
    """
    judged = {path for path, sums in tally.fields.items() if _is_judged(path, sums, rules)}
    shares = max(1, 2 * len(judged) + len(tally.bounds) + len(tally.reference))
    terms = _Terms(asked=tally.compared, limit=rules.limit, false_pass=false_pass, false_fail=false_fail / shares)
    lines = []
    for path, sums in tally.fields.items():
        line = _field(path, sums, terms, is_named=path in rules.must_match)
        lines.append(line if path in judged else replace(line, verdict=None))
    for bound, quality in tally.bounds.items():
        lines.append(_quality(bound.path, "bounds", f"within {bound.low:g} to {bound.high:g}", quality, terms))
    for expected, quality in tally.reference.items():
        as_known = f"within {expected.within:g} of the reference" if expected.within else "as the reference says"
        lines.append(_quality(expected.path, "reference", as_known, quality, terms))
    return tuple(sorted(lines, key=lambda line: (4 if line.verdict is None else _ORDER[line.verdict], -line.differing)))


def verdict_of(lines: Sequence[Line], compared: int) -> Verdict:
    """Return what they come to; BLIND where nothing was compared."""
    return combine(line.verdict for line in lines if line.verdict) if compared else Verdict.BLIND


def _is_judged(path: str, sums: FieldSums, rules: Mirror) -> bool:
    """Tell whether a field must match. What V2 alone has must only where it is named itself."""
    if path in rules.must_match or path in (STATUS, OTHERS) or (path == BODY and sums.v1 + sums.shape.v2 > 0):
        return True
    if not sums.v1 and not any(kind is not Kind.ADDED for kind in sums.kinds):
        return False
    of_http = path.startswith(HEADER)
    return of_http or not rules.must_match or any(covers(pattern, path) for pattern in rules.must_match)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What judging takes beside the counts."""

    asked: int
    limit: float
    false_pass: float
    false_fail: float
    """Of one of the things that are judged."""


def _field(path: str, sums: FieldSums, terms: _Terms, *, is_named: bool) -> Line:
    noisy = terms.asked > 0 and sums.values.noise / terms.asked > NOISE_MAX
    verdict, excess = _judge_pairs(sums.shape, terms)
    if noisy:
        verdict = combine([verdict, Verdict.BLIND if is_named else Verdict.PASS])
    else:
        of_values, excess_of_values = _judge_pairs(sums.values, terms)
        verdict = combine([verdict, of_values])
        excess = max(excess, excess_of_values, key=lambda ends: ends[1])
    return Line(
        path=path,
        of="fields",
        verdict=Verdict.PASS if _only_added(sums) and not is_named else verdict,
        said=_said(sums, terms.asked, noisy=noisy, is_named=is_named),
        asked=terms.asked,
        differing=max(sums.shape.v2, sums.values.v2),
        noise=max(sums.shape.noise, sums.values.noise),
        excess=excess,
        kinds=tuple((kind.value, count) for kind, count in sums.kinds.most_common()),
        examples=tuple(sums.examples),
    )


def _only_added(sums: FieldSums) -> bool:
    return set(sums.kinds) == {Kind.ADDED}


def _judge_pairs(pairs: Pairs, terms: _Terms) -> tuple[Verdict, tuple[float, float]]:
    """Return the verdict, and the interval of the excess at the probability of a false PASS."""
    low, high = excess_of(pairs.only_v2, pairs.only_v1, terms.asked, terms.false_pass)
    surely = excess_of(pairs.only_v2, pairs.only_v1, terms.asked, terms.false_fail)[0]
    # noise hides an excess smaller than itself: no more than V1 can be expected of V2 there
    allowed = max(terms.limit, pairs.noise / terms.asked if terms.asked else 0.0)
    return _verdict(surely > terms.limit, high < allowed), (low, high)


def _verdict(fails: bool, passes: bool) -> Verdict:
    return Verdict.FAIL if fails else Verdict.PASS if passes else Verdict.INCONCLUSIVE


def excess_of(only_v2: int, only_v1: int, asked: int, alpha: float) -> tuple[float, float]:
    """Return the ends of a confidence sequence for how much more often V2 differs from V1 than V1 from itself."""
    some = only_v2 + only_v1
    rate_low, rate_high = rate_interval(some, asked, alpha / 2)
    share_low, share_high = rate_interval(only_v2, some, alpha / 2)
    low, high = 2 * share_low - 1, 2 * share_high - 1
    return low * (rate_low if low > 0 else rate_high), high * (rate_high if high > 0 else rate_low)


def _quality(path: str, of: str, right: str, sums: QualitySums, terms: _Terms) -> Line:
    low, high = rate_interval(sums.bad, sums.checked, terms.false_pass)
    surely = rate_interval(sums.bad, sums.checked, terms.false_fail)[0]
    verdict = _verdict(surely > terms.limit, high < terms.limit)
    if not sums.checked:
        verdict = Verdict.BLIND
        said = "the reference could not tell" if sums.untold else "no answer of V2 has it"
    elif sums.bad:
        said = f"not {right} in {sums.bad:,} of {sums.checked:,} answers"
    else:
        said = f"{right} in all {sums.checked:,} answers that have it"
    return Line(
        path=path,
        of=of,
        verdict=verdict,
        said=said + _unit(sums.units, sums.bad),
        asked=sums.checked,
        differing=sums.bad,
        excess=(low, high),
        examples=tuple(sums.examples),
    )


def _said(sums: FieldSums, asked: int, *, noisy: bool, is_named: bool) -> str:
    if noisy and not sums.shape.v2:
        share = f"V1 differs from itself in {sums.values.noise:,} of {asked:,} answers"
        return f"{share}, so its values can't be compared" + ("; give it bounds, or ignore it" if is_named else "")
    if not sums.kinds:
        beside = f"; V1 differs from itself in {sums.values.noise:,}" if sums.values.noise else ""
        return f"as V1 in all {asked:,} answers{beside}"
    if _only_added(sums):
        return f"V2 adds it in {sums.kinds[Kind.ADDED]:,} of {asked:,} answers"
    kinds = ", ".join(f"{kind.value} in {count:,}" for kind, count in sums.kinds.most_common())
    noise = max(sums.values.noise, sums.shape.noise)
    beside = f"; V1 differs from itself in {noise:,}" if noise else ""
    return f"{kinds} of {asked:,} answers{beside}{_renamed(sums)}{_unit(sums.units, sums.numbers)}"


def _renamed(sums: FieldSums) -> str:
    missing = sums.kinds[Kind.MISSING]
    name, times = next(iter(sums.renamed.most_common(1)), ("", 0))
    explains = missing >= _EXPLAINED_MIN and times >= _EXPLAINED * missing
    return f"; renamed to {name}, which V2 adds with the same values" if explains else ""


def _unit(units: dict[str, int], numbers: int) -> str:
    name = max(units, key=units.__getitem__, default="")
    times = units.get(name, 0)
    explains = bool(name) and numbers >= _EXPLAINED_MIN and times >= _EXPLAINED * numbers
    return f"; the numbers are those of another unit: {name}" if explains else ""


def needed(limit: float, false_pass: float = 0.05) -> int:
    """Return how many questions without a difference show a rate below the limit."""
    low, high = 1, 2
    while excess_of(0, 0, high, false_pass)[1] >= limit:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if excess_of(0, 0, middle, false_pass)[1] < limit else (middle, high)
    return high

"""What many compared answers add up to, in bounded memory: counts by field, and few examples, masked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from crossfade.core.mirror.compare import Answer, Difference, Kind, differences, fields_of, values_at
from crossfade.core.mirror.mask import Masks
from crossfade.core.mirror.rules import BODY, STATUS, Bound, Expected, Mirror
from crossfade.core.mirror.units import unit_of

PATHS_MAX = 1000
"""Fields that are counted one by one."""
OTHERS = "other fields"
"""Where the rest is counted together."""
EXAMPLES_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One difference, masked and cut."""

    question: str
    """Path and query at the entry."""
    kind: str
    v1: str
    v2: str


@dataclass(slots=True)
class Pairs:
    """Questions by whether V2 differed from V1, and V1 from itself, of the same kind at the same field."""

    both: int = 0
    only_v2: int = 0
    only_v1: int = 0

    @property
    def v2(self) -> int:
        """Questions that V2 answered otherwise than V1."""
        return self.both + self.only_v2

    @property
    def noise(self) -> int:
        """Questions that V1 itself answered in two ways."""
        return self.both + self.only_v1

    def take(self, *, v2: bool, v1: bool) -> None:
        """Count one question."""
        if v2 and v1:
            self.both += 1
        elif v2:
            self.only_v2 += 1
        elif v1:
            self.only_v1 += 1


@dataclass(slots=True)
class FieldSums:
    """What was seen at one field. Every count is of questions."""

    v1: int = 0
    """V1's answer has it."""
    shape: Pairs = field(default_factory=Pairs)
    """Missing, of another type, or added."""
    values: Pairs = field(default_factory=Pairs)
    kinds: Counter[Kind] = field(default_factory=Counter)
    """Of V2's differences."""
    examples: list[Example] = field(default_factory=list)
    renamed: Counter[str] = field(default_factory=Counter)
    numbers: int = 0
    """Different numbers, one a question."""
    units: Counter[str] = field(default_factory=Counter)
    """How many of them a change of unit explains."""


@dataclass(slots=True)
class QualitySums:
    """What was seen of one bound, or of one field of the reference. Counts are of questions."""

    checked: int = 0
    bad: int = 0
    untold: int = 0
    """V2's answer has the field, and the reference could not be asked or does not say."""
    examples: list[Example] = field(default_factory=list)
    units: Counter[str] = field(default_factory=Counter)


class Tally:
    """The sums of one mirror."""

    def __init__(self, rules: Mirror) -> None:
        self.compared = 0
        """Questions that V1 answered twice, and so all that can differ."""
        self.not_compared: Counter[str] = Counter()
        """Questions that were asked, by why V1's answers could not be used."""
        self.fields: dict[str, FieldSums] = {}
        self.bounds: dict[Bound, QualitySums] = {bound: QualitySums() for bound in rules.bounds}
        expected = rules.reference.fields if rules.reference else ()
        self.reference: dict[Expected, QualitySums] = {one: QualitySums() for one in expected}
        self._rules = rules
        self._masks = Masks(rules.mask)

    def take(self, question: str, v1: Answer, again: Answer, v2: Answer, true: Answer | None = None) -> None:
        """Compare V1's answer with its second one and with V2's; `true` is the reference's.

        `question`: path and query at the entry.
        """
        trouble = v1.trouble or again.trouble
        if trouble:
            self.not_compared[trouble] += 1
            return
        self.compared += 1
        for path in fields_of(v1, self._rules):
            self._at(path).v1 += 1
        found, noise = differences(v1, v2, self._rules), differences(v1, again, self._rules)
        self._pairs(found, noise)
        told: set[tuple[str, Kind]] = set()
        for one in found:
            if (one.path, one.kind) not in told:
                told.add((one.path, one.kind))
                self._tell(question, one)
        if not v2.trouble:
            self._quality(question, v2, true)

    def _at(self, path: str) -> FieldSums:
        if path not in self.fields and len(self.fields) >= PATHS_MAX and path not in (STATUS, BODY):
            path = OTHERS
        return self.fields.setdefault(path, FieldSums())

    def _pairs(self, found: Iterable[Difference], noise: Iterable[Difference]) -> None:
        v2, v1 = {(o.path, o.kind.of_shape) for o in found}, {(o.path, o.kind.of_shape) for o in noise}
        for path, of_shape in v2 | v1:
            sums = self._at(path)
            pairs = sums.shape if of_shape else sums.values
            pairs.take(v2=(path, of_shape) in v2, v1=(path, of_shape) in v1)

    def _tell(self, question: str, one: Difference) -> None:
        sums = self._at(one.path)
        sums.kinds[one.kind] += 1
        if one.renamed and (one.renamed in sums.renamed or len(sums.renamed) < EXAMPLES_MAX):
            sums.renamed[one.renamed] += 1
        if one.kind is Kind.DIFFERENT and _is_number(one.v1) and _is_number(one.v2):
            sums.numbers += 1
            sums.units[unit_of(one.v1, one.v2)] += 1
        if len(sums.examples) < EXAMPLES_MAX:
            sums.examples.append(self._example(question, one.path, one.kind, one.v1, one.v2))

    def _example(self, question: str, path: str, kind: str, v1: Any, v2: Any) -> Example:
        lacks_v1 = kind in (Kind.ADDED, Kind.EXTRA)
        lacks_v2 = kind in (Kind.MISSING, Kind.MISSING_ITEM) and path not in (STATUS, BODY)
        return Example(
            question=self._masks.target(question),
            kind=kind,
            v1="-" if lacks_v1 else self._masks.shown(path, v1),
            v2="-" if lacks_v2 else self._masks.shown(path, v2),
        )

    def _quality(self, question: str, v2: Answer, true: Answer | None) -> None:
        for bound, sums in self.bounds.items():
            said = [value for value in values_at(v2.body, bound.path) if value is not None]
            if not said:
                continue
            sums.checked += 1
            wrong = [value for value in said if not (_is_number(value) and bound.low <= value <= bound.high)]
            if wrong:
                self._bad(sums, question, bound.path, f"{bound.low:g} to {bound.high:g}", wrong[0])
        for expected, sums in self.reference.items():
            said = [value for value in values_at(v2.body, expected.path) if value is not None]
            if not said:
                continue
            known = values_at(true.body, expected.reference) if true and not true.trouble else []
            if not known or known[0] is None:
                sums.untold += 1
                continue
            sums.checked += 1
            if not _near(known[0], said[0], expected.within):
                if _is_number(known[0]) and _is_number(said[0]):
                    sums.units[unit_of(known[0], said[0])] += 1
                self._bad(sums, question, expected.path, known[0], said[0])

    def _bad(self, sums: QualitySums, question: str, path: str, right: Any, said: Any) -> None:
        sums.bad += 1
        if len(sums.examples) < EXAMPLES_MAX:
            sums.examples.append(self._example(question, path, "wrong", right, said))


def _near(right: Any, said: Any, within: float) -> bool:
    if _is_number(right) and _is_number(said):
        return bool(abs(right - said) <= within + 1e-9)
    return type(right) is type(said) and bool(right == said)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

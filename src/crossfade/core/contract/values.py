"""Values compared: whatever V1's clients send must fit V2's schema, whatever V2 answers must fit V1's.

One walk for each place of an operation, breadth first and without recursion: what differs is told of once there, under
the shortest path that leads to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from crossfade.core.contract.document import Documents, Node, Spot, escaped
from crossfade.core.contract.rules import RULES, Severity
from crossfade.core.contract.schema import (
    ANYTHING,
    LOWER,
    UPPER,
    Bound,
    Branch,
    Nodes,
    Skipped,
    View,
    branches,
    listed,
    said,
    view,
    visible,
)

PAIRS_MAX = 20_000
"""Pairs of schemas in one place; more are told of as not compared."""
_TEXT_TYPES = frozenset({"string", "integer", "number", "boolean"})
_CONTAINED = {("int32", "int64"), ("float", "double")}
"""Formats of which each value of the first is one of the second."""


class Difference(NamedTuple):
    """A finding inside of a value."""

    rule: str
    field: str
    said: str
    v1: Spot | None
    v2: Spot | None


class _Pair(NamedTuple):
    """V1's and V2's schema of the same value."""

    v1: Nodes
    v2: Nodes
    field: str
    v1_skipped: Skipped = frozenset()
    v2_skipped: Skipped = frozenset()
    null_told: bool = False
    """Whether null fits has been compared already."""


@dataclass(frozen=True, slots=True)
class Sides:
    """Which way values go: from V1's clients to V2 (request), or from V2 to V1's clients."""

    v1: Documents
    v2: Documents
    request: bool
    text: bool = False
    """Values are written as text, as in a URL: a string takes whatever is written so."""


class _Compared(NamedTuple):
    """What differs between two schemas themselves, and the pairs below by number, each with its field from here."""

    differences: tuple[Difference, ...]
    deeper: tuple[tuple[int, str], ...]


class Values:
    """All values of two documents. Each pair of schemas has a number and is compared once, wherever it is used."""

    def __init__(self, v1: Documents, v2: Documents) -> None:
        self._v1, self._v2 = v1, v2
        self._numbers: dict[tuple[object, ...], int] = {}
        self._pairs: list[tuple[Sides, _Pair]] = []
        self._levels: dict[int, _Compared] = {}
        self._clean: set[int] = set()
        """Pairs below which nothing differs."""

    def compare(self, v1: Node, v2: Node, *, request: bool, text: bool = False) -> list[Difference]:
        """Return how V2's schema differs from V1's to the harm of V1's clients; DocumentError where one is none."""
        first = self._number(Sides(self._v1, self._v2, request, text), _Pair((v1,), (v2,), ""))
        walked: list[tuple[int, int, str]] = [(first, -1, "")]
        """Pairs in the order in which they were reached: number, where from (an index here), field from there."""
        seen, found = {first}, dict[tuple[object, ...], Difference]()
        for index, (number, _, _) in enumerate(walked):
            level = self._level(number)
            for one in level.differences:
                key = (one.rule, one.v1, one.v2, one.said)
                if key not in found:
                    found[key] = one._replace(field=_path(walked, index) + one.field)
            for below, field in level.deeper:
                if below not in seen and below not in self._clean:
                    seen.add(below)
                    walked.append((below, index, field))
            if len(walked) > PAIRS_MAX:
                said = f"more than {PAIRS_MAX:,} schemas"
                return [*found.values(), Difference("not-compared", "", said, v1.spot, v2.spot)]
        if not found:
            self._clean |= seen
        return list(found.values())

    def _number(self, sides: Sides, pair: _Pair) -> int:
        key = (
            *(_spots(self._v1, pair.v1), _spots(self._v2, pair.v2), pair.v1_skipped, pair.v2_skipped),
            *(pair.null_told, sides.request, sides.text),
        )
        number = self._numbers.setdefault(key, len(self._pairs))
        if number == len(self._pairs):
            self._pairs.append((sides, pair._replace(field="")))
        return number

    def _level(self, number: int) -> _Compared:
        kept = self._levels.get(number)
        if kept is None:
            sides, pair = self._pairs[number]
            below: list[_Pair] = []
            differences = tuple(_Level(sides, pair).differences(below.append))
            deeper = tuple((self._number(sides, one), one.field) for one in below)
            kept = self._levels[number] = _Compared(differences, deeper)
        return kept


def _path(walked: list[tuple[int, int, str]], index: int) -> str:
    """Return the fields that lead to a pair."""
    fields = []
    while index >= 0:
        _, index, field = walked[index]
        fields.append(field)
    return "".join(reversed(fields))


def _spots(documents: Documents, nodes: Nodes) -> tuple[Spot, ...]:
    """Return where schemas stand, references that say nothing else followed."""
    return tuple(
        documents.follow(node).spot if isinstance(node.value, dict) and node.value.keys() == {"$ref"} else node.spot
        for node in nodes
    )


class _Level:
    """One pair of schemas, without what lies deeper."""

    def __init__(self, sides: Sides, pair: _Pair) -> None:
        self._sides, self.pair = sides, pair
        self.v1 = view(sides.v1, pair.v1, pair.v1_skipped)
        self.v2 = view(sides.v2, pair.v2, pair.v2_skipped)
        self._request = sides.request
        # What must fit, and what it must fit into.
        self._inner, self._outer = (self.v1, self.v2) if sides.request else (self.v2, self.v1)
        self._inner_documents = sides.v1 if sides.request else sides.v2

    def differences(self, deeper: Callable[[_Pair], None]) -> Iterator[Difference]:
        """Yield what differs here, and hand on the pairs that lie deeper."""
        if self._inner.never:
            return
        if self._outer.never:
            yield self._tell("request-never-valid" if self._request else "response-anything", "nothing fits", "")
            return
        types = None if self.v1.groups or self.v2.groups else self._types()
        no_type_said = types is not None and self._inner.types is None  # null is among anything
        if not self.pair.null_told and not no_type_said and self._null(self._inner) and not self._null(self._outer):
            yield self._tell("request-not-nullable" if self._request else "response-nullable", self._null_words())
        if self.v1.groups or self.v2.groups:
            yield from self._alternatives(deeper)
            return
        if types is not None:
            yield types
            return
        yield from self._plain()
        yield from self._object(deeper)
        self._array(deeper)

    # what is told

    def _tell(
        self, rule: str, message: str, field: str = "", v1: Spot | None = None, v2: Spot | None = None
    ) -> Difference:
        return Difference(rule, self.pair.field + field, message, v1 or self.v1.spot, v2 or self.v2.spot)

    def _changed(self, rule: str, what: str, v1: object, v2: object) -> Difference:
        return self._tell(rule, f"{what} is {v2} in V2 and {v1} in V1")

    # values

    def _null(self, one: View) -> bool:
        if one.null_chosen:
            return True
        if not one.nullable or not one.groups:
            return one.nullable
        documents, skipped = (
            (self._sides.v1, self.pair.v1_skipped) if one is self.v1 else (self._sides.v2, self.pair.v2_skipped)
        )
        return any(view(documents, way.nodes, way.skipped).nullable for way in branches(one, skipped) or ())

    def _null_words(self) -> str:
        return "V2 refuses null, which V1 takes" if self._request else "V2 may answer null, which V1 never does"

    def _types(self) -> Difference | None:
        inner, outer = self._inner.types, self._outer.types
        if outer is None:
            return None
        if self._sides.text and self._request and "string" in outer and inner is not None and inner <= _TEXT_TYPES:
            plain = not (outer - {"string"}) and (self.v2.formats or self.v2.patterns or self.v2.enum is not None)
            if not plain or inner == {"string"}:
                return None
        if inner is not None and all(kind in outer or (kind == "integer" and "number" in outer) for kind in inner):
            return None
        rule = "request-type-narrowed" if self._request else "response-type-widened"
        return self._changed(rule, "the type", said(self.v1.types), said(self.v2.types))

    def _plain(self) -> Iterator[Difference]:
        yield from self._formats()
        yield from self._enums()
        yield from self._bounds()
        patterns = self._outer.patterns - self._inner.patterns
        if patterns and self._inner.enum is None:
            rule = "request-pattern-changed" if self._request else "response-pattern-changed"
            yield self._changed(rule, "the pattern", listed(sorted(self.v1.patterns)) or "none",
                                listed(sorted(self.v2.patterns)) or "none")  # fmt: skip
        for key in sorted(self.v1.unread.keys() | self.v2.unread.keys()):
            if self.v1.unread.get(key) != self.v2.unread.get(key):
                yield self._tell("not-compared", f"`{key}` differs, which is not compared")

    def _formats(self) -> Iterator[Difference]:
        inner, outer = self._inner.formats, self._outer.formats
        missing = {one for one in outer if one not in inner and not any((has, one) in _CONTAINED for has in inner)}
        if missing and self._inner.enum is None:
            rule = "request-format-changed" if self._request else "response-format-changed"
            yield self._changed(rule, "the format", listed(sorted(self.v1.formats)) or "none",
                                listed(sorted(self.v2.formats)) or "none")  # fmt: skip

    def _enums(self) -> Iterator[Difference]:
        inner, outer = self._inner.enum, self._outer.enum
        if outer is None:
            return
        if inner is None:
            if self._request:
                yield self._tell("request-enum-narrowed", f"V2 takes only {listed(outer)}, V1 takes any")
            else:
                yield self._tell("response-enum-opened", f"V1 answers only {listed(outer)}, V2 says no values")
            return
        if more := [value for value in inner if not _among(value, outer)]:
            if self._request:
                yield self._tell("request-enum-narrowed", f"V2 no longer takes {listed(more)}")
            else:
                yield self._tell("response-enum-widened", f"V2 may also answer {listed(more)}")

    def _bounds(self) -> Iterator[Difference]:
        if self._inner.enum is not None:
            return
        rule = "request-bound-narrowed" if self._request else "response-bound-widened"
        for name, sign in (("low", 1), ("high", -1)):
            inner, outer = getattr(self._inner, name), getattr(self._outer, name)
            if outer is not None and (inner is None or _lets_more(inner, outer, sign)):
                word = "the least value" if sign > 0 else "the greatest value"
                yield self._changed(rule, word, _bound(getattr(self.v1, name)), _bound(getattr(self.v2, name)))
        for keys, sign in ((LOWER, 1), (UPPER, -1)):
            for key in keys:
                inner, outer = self._inner.sizes.get(key), self._outer.sizes.get(key)
                if outer is None or (sign > 0 and outer <= 0):
                    continue
                if inner is None or sign * inner < sign * outer:
                    yield self._changed(rule, key, *(side.sizes.get(key, "none") for side in (self.v1, self.v2)))
        inner, outer = self._inner.sizes.get("multipleOf"), self._outer.sizes.get("multipleOf")
        if outer is not None and (inner is None or abs(inner / outer - round(inner / outer)) > 1e-9):
            yield self._changed(
                rule, "multipleOf", *(side.sizes.get("multipleOf", "none") for side in (self.v1, self.v2))
            )
        if self._outer.unique and not self._inner.unique:
            yield self._changed(rule, "uniqueItems", self.v1.unique, self.v2.unique)

    # objects and arrays

    def _object(self, deeper: Callable[[_Pair], None]) -> Iterator[Difference]:
        yield from self._request_object(deeper) if self._request else self._response_object(deeper)
        yield from self._discriminators()
        if self._request and self.v2.closed and not self.v1.closed:
            yield self._tell("request-additional-properties-closed", "V2 refuses properties that it doesn't name")
        elif not self._request and self.v1.closed and not self.v2.closed:
            yield self._tell("response-additional-properties-opened", "V2 may answer properties that no document names")
        elif self._outer.additional and not self._inner.closed:
            deeper(self._inside(self.v1.additional or (ANYTHING,), self.v2.additional or (ANYTHING,), "/*"))

    def _request_object(self, deeper: Callable[[_Pair], None]) -> Iterator[Difference]:
        for name, nodes in self.v1.properties.items():
            if not visible(self._sides.v1, nodes, request=True):
                continue
            field, spot = f"/{escaped(name)}", nodes[0].spot
            other = self.v2.properties.get(name)
            if other is not None and not visible(self._sides.v2, other, request=True):
                yield self._tell("request-property-removed", f"V2 only answers {name}, V1 reads it", field, spot)
            elif other is not None:
                deeper(self._inside(nodes, other, field))
            elif self.v2.closed:
                yield self._tell("request-property-refused", f"V2 refuses the property {name}", field, spot)
            elif self.v2.additional:
                deeper(self._inside(nodes, self.v2.additional, field))
            else:
                yield self._tell("request-property-removed", f"V2 doesn't read the property {name}", field, spot)
        sent = {name for name in self.v1.required if self._sent(self._sides.v1, self.v1, name)}
        for name in sorted(self.v2.required - sent):
            if not self._sent(self._sides.v2, self.v2, name):
                continue
            asked = self.v2.properties.get(name)
            field, needed = f"/{escaped(name)}", asked[0].spot if asked else None
            if name in self.v1.properties:
                message = f"V2 needs the property {name}, which V1 lets be left out"
                yield self._tell("request-property-required", message, field, self.v1.properties[name][0].spot, needed)
            else:
                message = f"V2 needs the property {name}, which V1 doesn't know"
                yield self._tell("request-property-added-required", message, field, None, needed)

    @staticmethod
    def _sent(documents: Documents, seen: View, name: str) -> bool:
        """Tell whether a property belongs into requests; what has no schema does."""
        nodes = seen.properties.get(name)
        return nodes is None or visible(documents, nodes, request=True)

    def _response_object(self, deeper: Callable[[_Pair], None]) -> Iterator[Difference]:
        for name, nodes in self.v1.properties.items():
            if not visible(self._sides.v1, nodes, request=False):
                continue
            field, spot = f"/{escaped(name)}", nodes[0].spot
            needed = name in self.v1.required
            other = self.v2.properties.get(name)
            if other is None or not visible(self._sides.v2, other, request=False):
                rule = "response-property-removed" if needed else "response-optional-property-removed"
                yield self._tell(rule, f"V2 no longer answers {name}", field, spot)
                continue
            deeper(self._inside(nodes, other, field))
            if needed and name not in self.v2.required:
                message = f"V2 may leave {name} out, which V1 always answers"
                yield self._tell("response-property-optional", message, field, spot, other[0].spot)
        if self.v1.additional:
            for name in self.v2.properties.keys() - self.v1.properties.keys():
                deeper(self._inside(self.v1.additional, self.v2.properties[name], f"/{escaped(name)}"))
        for name in sorted((self.v1.required - self.v1.properties.keys()) - self.v2.required):
            message = f"V2 may leave {name} out, which V1 always answers"
            yield self._tell("response-property-optional", message, f"/{escaped(name)}")

    def _array(self, deeper: Callable[[_Pair], None]) -> None:
        if self._outer.items and (self._inner.types is None or "array" in self._inner.types):
            deeper(self._inside(self.v1.items or (ANYTHING,), self.v2.items or (ANYTHING,), "/*"))

    def _inside(self, v1: Nodes, v2: Nodes, field: str) -> _Pair:
        return _Pair(v1, v2, self.pair.field + field)

    def _discriminators(self) -> Iterator[Difference]:
        one, other = self.v1.discriminator, self.v2.discriminator
        if one is None:
            return
        if other is None:
            yield self._tell("discriminator-changed", "V2 has no discriminator", "", one.spot)
            return
        if one.text("propertyName") != other.text("propertyName"):
            message = f"V2 tells alternatives apart by {other.text('propertyName')}, V1 by {one.text('propertyName')}"
            yield self._tell("discriminator-changed", message, "", one.spot, other.spot)
            return
        had, has = (_mapping(side) for side in (one, other))
        for value, target in had.items():
            if value not in has and has and self._request:
                yield self._tell(
                    "discriminator-changed", f"V2 doesn't know the value {value}", "", one.spot, other.spot
                )
            elif has.get(value, target) != target:
                message = f"{value} stands for {has[value]} in V2 and {target} in V1"
                yield self._tell("discriminator-changed", message, "", one.spot, other.spot)

    # alternatives

    def _alternatives(self, deeper: Callable[[_Pair], None]) -> Iterator[Difference]:
        """Find for each alternative that must fit one that it fits into, and hand the two on.

        The one of the same name or text, else the first that fits as far as this level tells, else the one at the same
        place where there are as many on both sides.
        """
        yield from self._discriminators()
        mine = branches(self.v1, self.pair.v1_skipped)
        theirs = branches(self.v2, self.pair.v2_skipped)
        if mine is None or theirs is None:
            yield self._tell("not-compared", "more alternatives of alternatives than are compared")
            return
        inner, outer = (mine, theirs) if self._request else (theirs, mine)
        for index, one in enumerate(inner):
            row = [(other, self._branch(one, other)) for other in outer]
            chosen = self._chosen(one, row) or (row[index][1].pair if len(inner) == len(outer) else None)
            if chosen is not None:
                deeper(chosen)
                continue
            name = " and ".join(one.names) or said(view(self._inner_documents, one.nodes, one.skipped).types)
            spot = one.choice[-1].spot
            if self._request:
                yield self._tell("request-alternative-removed", f"V2 doesn't take {name}", "", spot)
            else:
                message = f"V2 may answer {name}, which is no alternative of V1's"
                yield self._tell("response-alternative-added", message, "", None, spot)

    def _branch(self, inner: Branch, outer: Branch) -> _Level:
        v1, v2 = (inner, outer) if self._request else (outer, inner)
        return _Level(self._sides, _Pair(v1.nodes, v2.nodes, self.pair.field, v1.skipped, v2.skipped, null_told=True))

    def _chosen(self, one: Branch, row: list[tuple[Branch, _Level]]) -> _Pair | None:
        wanted: tuple[Callable[[Branch, _Level], bool], ...] = (
            lambda other, _: bool(one.names) and one.names == other.names,
            lambda other, _: one.texts == other.texts,
            lambda _, level: level.fits(),
        )
        for is_one in wanted:
            for other, level in row:
                if is_one(other, level):
                    return level.pair
        # What holds alternatives itself can't be told on this level.
        return next((level.pair for _, level in row if level.v1.groups or level.v2.groups), None)

    def fits(self) -> bool:
        """Tell whether nothing breaks on this level."""
        if self.v1.groups or self.v2.groups:
            return False
        return not any(
            RULES[one.rule].severity is Severity.BREAKING or one.rule == "response-optional-property-removed"
            for one in self.differences(lambda _: None)
        )


def _mapping(discriminator: Node) -> dict[str, str]:
    mapping = discriminator.get("mapping")
    members = mapping.members() if mapping else ()
    return {name: str(node.value).rpartition("/")[2] for name, node in members}


def _among(value: Any, values: tuple[Any, ...]) -> bool:
    """Tell whether a value is among others; true is not 1."""
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in values)


def _lets_more(inner: Bound, outer: Bound, sign: int) -> bool:
    if inner.value == outer.value:
        return outer.exclusive and not inner.exclusive
    return sign * inner.value < sign * outer.value


def _bound(bound: Bound | None) -> str:
    if bound is None:
        return "none"
    return f"{bound.value:g}{' (itself not)' if bound.exclusive else ''}"

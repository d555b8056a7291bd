"""What a schema says in effect: references followed, allOf merged, 3.0 read as 3.1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from crossfade.core.contract.document import DocumentError, Documents, Node, Spot

ANYTHING = Node(True, Spot("", ""))
"""The schema that every value fits."""
BRANCHES_MAX = 64
"""Alternatives of alternatives are multiplied out up to here."""
_PARTS_MAX = 500
LOWER = ("minLength", "minItems", "minProperties")
UPPER = ("maxLength", "maxItems", "maxProperties")
_UNREAD = (
    *("not", "if", "then", "else", "contains", "prefixItems", "patternProperties", "propertyNames"),
    *("dependentRequired", "dependentSchemas", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef"),
)
"""What is compared by its text alone."""
_HINTS = {"object": ("properties", "required", "additionalProperties"), "array": ("items",)}

Nodes = tuple[Node, ...]
"""Schemas that all hold."""
Skipped = frozenset[Spot]
"""Alternatives of which one has been chosen already."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit of a number."""

    value: float
    exclusive: bool = False


@dataclass(slots=True)
class View:
    """A schema in effect."""

    nodes: Nodes
    spot: Spot
    name: str = ""
    """Of the last of the nodes: the component that it refers to, or its title."""
    never: bool = False
    """Nothing fits."""
    types: frozenset[str] | None = None
    """Without null; None: any."""
    nullable: bool = True
    formats: frozenset[str] = frozenset()
    enum: tuple[Any, ...] | None = None
    """Without null."""
    low: Bound | None = None
    high: Bound | None = None
    sizes: dict[str, float] = field(default_factory=dict)
    """By keyword: lengths and counts, `multipleOf`."""
    unique: bool = False
    patterns: frozenset[str] = frozenset()
    properties: dict[str, Nodes] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    closed: bool = False
    """Properties that aren't named are refused."""
    additional: Nodes = ()
    """What such properties must fit; empty: anything."""
    items: Nodes = ()
    groups: list[tuple[Spot, Nodes]] = field(default_factory=list)
    """oneOf and anyOf: where, and their alternatives but for null."""
    null_chosen: bool = False
    """A group has null as an alternative."""
    discriminator: Node | None = None
    unread: dict[str, Any] = field(default_factory=dict)
    read_only: bool = False
    write_only: bool = False


def view(documents: Documents, nodes: Nodes, skipped: Skipped = frozenset()) -> View:
    """Return what schemas that all hold say together, once for each; DocumentError where one is none."""
    key = (tuple(node.spot for node in nodes), skipped)
    found = documents.views.get(key)
    if found is None:
        found = documents.views[key] = _Reading(documents, nodes, skipped).result()
    return found


@dataclass(frozen=True, slots=True)
class Branch:
    """One way to choose an alternative of each group."""

    nodes: Nodes
    """What holds then, all of it."""
    skipped: Skipped
    choice: Nodes
    """The alternatives; without groups the schema itself."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the alternatives are called; empty where one has no name."""
        names = tuple(_name(node) for node in self.choice)
        return names if all(names) else ()

    @property
    def texts(self) -> list[Any]:
        """What the alternatives say."""
        return [node.value for node in self.choice]


def branches(seen: View, skipped: Skipped) -> list[Branch] | None:
    """Return every way to choose one alternative of each group; None where there are too many."""
    groups = [alternatives for _, alternatives in seen.groups]
    if math.prod(len(alternatives) for alternatives in groups) > BRANCHES_MAX:
        return None
    chosen = skipped | {spot for spot, _ in seen.groups}
    return [Branch((*seen.nodes, *choice), chosen, choice or seen.nodes[-1:]) for choice in product(*groups)]


class _Reading:
    """Merges schemas into a view, one after the other."""

    def __init__(self, documents: Documents, nodes: Nodes, skipped: Skipped) -> None:
        self._documents = documents
        self._skipped = skipped
        self._view = View(nodes=nodes, spot=nodes[-1].spot, name=_name(nodes[-1]))
        self._seen: set[Spot] = set()
        self._left = list(reversed(nodes))
        while self._left:
            self._read(self._left.pop())
            if len(self._seen) > _PARTS_MAX:
                raise DocumentError(nodes[0].spot, f"has more than {_PARTS_MAX} schemas that all hold")

    def result(self) -> View:
        found = self._view
        if found.types is None and found.enum:
            found.types = frozenset(_type_of(value) for value in found.enum)
        if found.types is None:
            hinted = {
                kind
                for kind, keys in _HINTS.items()
                if any(getattr(found, {"additionalProperties": "additional"}.get(key, key)) for key in keys)
            }
            if len(hinted) == 1 or found.closed:
                found.types = frozenset(hinted or {"object"})
                found.nullable = False
        return found

    def _read(self, node: Node) -> None:
        if node.spot in self._seen and node is not ANYTHING:
            return
        self._seen.add(node.spot)
        if isinstance(node.value, bool):
            self._view.never = self._view.never or not node.value
            return
        if not isinstance(node.value, dict):
            raise DocumentError(node.spot, "is no schema; a schema is a mapping, or in OpenAPI 3.1 true or false")
        if "$ref" in node.value:
            target = self._documents.follow(Node({"$ref": node.value["$ref"]}, node.spot))
            self._left.append(target)
            if self._view.spot == node.spot:
                self._view.spot = target.spot
            if self._documents.is_30:
                return  # 3.0 says that what stands beside a reference is ignored
        self._types(node)
        self._numbers(node)
        self._objects(node)
        self._composed(node)
        for key in _UNREAD:
            if key in node.value:
                self._view.unread[key] = node.value[key]
        self._view.read_only |= node.truth("readOnly")
        self._view.write_only |= node.truth("writeOnly")

    def _types(self, node: Node) -> None:
        said, found = node.value.get("type"), self._view
        types = {said} if isinstance(said, str) else {t for t in said if isinstance(t, str)} if said else None
        enum = node.value.get("enum")
        if "const" in node.value:
            enum = [node.value["const"]]
        nullable = types is None or "null" in types
        if self._documents.is_30:
            nullable = types is None or node.truth("nullable")
            found.null_chosen |= types is None and node.truth("nullable")  # beside allOf it is meant so
        if isinstance(enum, list):
            nullable = (None in enum) if types is None or not self._documents.is_30 else nullable
            values = tuple(value for value in enum if value is not None)
            found.enum = values if found.enum is None else tuple(v for v in found.enum if v in values)
        found.nullable = found.nullable and nullable
        if types is not None:
            kinds = frozenset(types - {"null"})
            found.types = kinds if found.types is None else _both(found.types, kinds)
        if format_ := node.text("format"):
            found.formats |= {format_}
        if (pattern := node.text("pattern")) and pattern not in {".*", "^.*$", ""}:
            found.patterns |= {pattern}

    def _numbers(self, node: Node) -> None:
        found, value = self._view, node.value
        for name, exclusive, sign in (("minimum", "exclusiveMinimum", 1), ("maximum", "exclusiveMaximum", -1)):
            limits = []
            if _is_number(value.get(name)):
                limits.append(Bound(value[name], value.get(exclusive) is True))
            if _is_number(value.get(exclusive)):
                limits.append(Bound(value[exclusive], exclusive=True))
            attribute = "low" if sign > 0 else "high"
            for limit in limits:
                had = getattr(found, attribute)
                setattr(found, attribute, limit if had is None else _tighter(had, limit, sign))
        for keys, choose in ((LOWER, max), (UPPER, min)):
            for key in keys:
                if _is_number(value.get(key)):
                    found.sizes[key] = choose(found.sizes.get(key, value[key]), value[key])
        if _is_number(value.get("multipleOf")) and value["multipleOf"] > 0:
            found.sizes["multipleOf"] = max(found.sizes.get("multipleOf", 0), value["multipleOf"])
        found.unique |= node.truth("uniqueItems")

    def _objects(self, node: Node) -> None:
        found = self._view
        for name, inner in (node.get("properties") or ANYTHING).members():
            found.properties[name] = (*found.properties.get(name, ()), inner)
        required = node.value.get("required")
        if isinstance(required, list):
            found.required |= {name for name in required if isinstance(name, str)}
        additional = node.get("additionalProperties")
        if additional is not None and additional.value is False:
            found.closed = True
        elif additional is not None and additional.value not in (True, {}):
            found.additional = (*found.additional, additional)
        items = node.get("items")
        if items is not None:
            found.items = (*found.items, items)

    def _composed(self, node: Node) -> None:
        for part in (node.get("allOf") or ANYTHING).items():
            self._left.append(part)
        for key in ("oneOf", "anyOf"):
            group = node.get(key)
            if group is None or group.spot in self._skipped:
                continue
            alternatives = tuple(group.items())
            others = tuple(one for one in alternatives if not self._is_null(one))
            self._view.null_chosen |= len(others) < len(alternatives)
            if others:
                self._view.groups.append((group.spot, others))
        if (discriminator := node.get("discriminator")) is not None:
            self._view.discriminator = discriminator

    def _is_null(self, node: Node) -> bool:
        value = self._documents.follow(node).value
        if not isinstance(value, dict):
            return False
        return value.get("type") in ("null", ["null"]) or value.get("enum") == [None] or value.get("const", 0) is None


def visible(documents: Documents, nodes: Nodes, *, request: bool) -> bool:
    """Tell whether a property is sent in that direction: what is readOnly is never asked, writeOnly never answered."""
    seen = view(documents, nodes)
    return not (seen.read_only if request else seen.write_only)


def _name(node: Node) -> str:
    return node.text("$ref").rpartition("/")[2] or node.text("title")


def _both(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """Return the types that fit both; integers are numbers."""
    found = one & other
    if "integer" in one | other and "number" in one | other:
        found |= {"integer"}
    return found


def _tighter(one: Bound, other: Bound, sign: int) -> Bound:
    """Return the bound that lets less through; `sign` is 1 for lower bounds, -1 for upper ones."""
    return max(one, other, key=lambda bound: (sign * bound.value, bound.exclusive))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _type_of(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    for kind, name in ((int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "object"


def said(types: Iterable[str] | None) -> str:
    """Return types for people."""
    return "anything" if types is None else " or ".join(sorted(types)) or "nothing"


def listed(values: Sequence[Any], most: int = 5) -> str:
    """Return values for people."""
    shown = ", ".join(str(value)[:40] for value in values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"

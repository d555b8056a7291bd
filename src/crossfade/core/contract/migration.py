"""What V1's clients find when they move: both documents side by side, operation by operation and field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crossfade.core.contract.compare import METHODS, Prefixes, base_path, paths_of, shape_of
from crossfade.core.contract.document import Documents, Node

DEPTH_MAX = 12
"""Levels of fields below which a schema is not followed: many refer to themselves."""
_WITHIN_MAX = 5
"""Levels of schemas that are made of schemas, in one field."""
FIELDS_MAX = 2000
"""Of one part of an operation."""
_VALUES_TOLD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field that is not the same; empty where a version has none."""

    part: str
    """`query from`, `body`, `200`."""
    field: str
    """`flights[].price`; empty for the whole part."""
    v1: str
    v2: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One operation of V1 and what takes its place."""

    method: str
    v1: str
    """Its path."""
    v2: str | None
    """None where V2 has nothing in its place."""
    changes: tuple[Change, ...] = ()
    v1_example: Any = None
    """Of the answer, as the document gives it; None where it gives none."""
    v2_example: Any = None
    asked: str = ""
    """V1's path and query that the examples are real answers to; empty where they are the documents'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """Everything that moves, and what is new."""

    moves: tuple[Move, ...]
    new: tuple[tuple[str, str], ...]
    """Method and path of V2's operations that V1 has nothing like."""


def migration(v1: Documents, v2: Documents, prefixes: Prefixes) -> Migration:
    """Return how two documents differ for whoever moves, in V1's order; DocumentError where one can't be read."""
    theirs = {(method, shape_of(path)): (path, item, node) for method, path, item, node in _operations(v2)}
    moves = []
    for method, path, item, node in _operations(v1):
        other = theirs.pop((method, shape_of(prefixes.in_v2(path))), None) or theirs.pop((method, shape_of(path)), None)
        moves.append(
            Move(method=method, v1=path, v2=None)
            if other is None
            else Move(
                method=method,
                v1=path,
                v2=other[0],
                changes=tuple(_changes(_parts(v1, item, node), _parts(v2, *other[1:]))),
                v1_example=_example(v1, node),
                v2_example=_example(v2, other[2]),
            )
        )
    return Migration(moves=tuple(moves), new=tuple((method, left[0]) for (method, _), left in theirs.items()))


def _operations(documents: Documents) -> Iterator[tuple[str, str, Node, Node]]:
    base = base_path(documents)
    for path, reference in paths_of(documents):
        item = documents.follow(reference)
        for method in METHODS:
            node = item.get(method)
            if node is not None:
                yield method.upper(), base + path, item, node


def _changes(one: Mapping[tuple[str, str], str], other: Mapping[tuple[str, str], str]) -> Iterator[Change]:
    for part, field in dict.fromkeys([*one, *other]):
        before, after = one.get((part, field), ""), other.get((part, field), "")
        if before != after:
            yield Change(part=part, field=field, v1=before, v2=after)


def _parts(documents: Documents, item: Node, operation: Node) -> dict[tuple[str, str], str]:
    """Return what every field of an operation is, by part and field."""
    found: dict[tuple[str, str], str] = {}
    for holder in (item, operation):
        for one in (node for key, node in holder.members() if key == "parameters"):
            for parameter in map(documents.follow, one.items()):
                schema = parameter.get("schema") or _json(documents, parameter)
                needed = parameter.truth("required")
                part = f"{parameter.text('in')} {parameter.text('name')}"
                found[part, ""] = _words(documents, schema) + ("" if needed else ", optional")
    body = operation.get("requestBody")
    if body is not None:
        _fill(found, documents, "body", _json(documents, documents.follow(body)))
    responses = operation.get("responses")
    for status, reference in responses.members() if responses else ():
        _fill(found, documents, status, _json(documents, documents.follow(reference)))
    return found


def _fill(found: dict[tuple[str, str], str], documents: Documents, part: str, schema: Node | None) -> None:
    for number, (field, words) in enumerate(_fields(documents, schema, "", 0, "")):
        if number >= FIELDS_MAX:
            return
        found.setdefault((part, field), words)


def _fields(documents: Documents, node: Node | None, at: str, depth: int, more: str) -> Iterator[tuple[str, str]]:
    """Yield fields with what they are, the value itself first."""
    schema = node and documents.follow(node)
    yield at, _words(documents, schema) + more
    if schema is None or depth >= DEPTH_MAX:
        return
    items = schema.get("items")
    if items is not None:
        yield from _fields(documents, items, f"{at}[]", depth + 1, "")
    for whole in _wholes(documents, schema, 0):
        needed = whole.value.get("required", ()) if isinstance(whole.value, dict) else ()
        properties = whole.get("properties")
        for name, value in properties.members() if properties else ():
            optional = "" if isinstance(needed, list) and name in needed else ", optional"
            yield from _fields(documents, value, f"{at}.{name}" if at else name, depth + 1, optional)


def _wholes(documents: Documents, schema: Node, depth: int) -> Iterator[Node]:
    """Yield a schema and those that it is made of, all of them or one."""
    yield schema
    for key in ("allOf", "oneOf", "anyOf") if depth < _WITHIN_MAX else ():
        parts = schema.get(key)
        for part in parts.items() if parts else ():
            yield from _wholes(documents, documents.follow(part), depth + 1)


def _words(documents: Documents, node: Node | None) -> str:
    """Return what a value is, in a few words."""
    schema = node and documents.follow(node)
    if schema is None or not isinstance(schema.value, dict):
        return "anything"
    value = schema.value
    said = value.get("type")
    kinds = [str(kind) for kind in said] if isinstance(said, list) else [said] if isinstance(said, str) else []
    if value.get("nullable") is True and "null" not in kinds:
        kinds.append("null")
    if not kinds:
        kinds = ["object"] if "properties" in value or "allOf" in value else ["anything"]
    words = " or ".join(kinds)
    if isinstance(value.get("format"), str):
        words += f" ({value['format']})"
    listed = value.get("enum")
    if isinstance(listed, list):
        rest = f" and {len(listed) - _VALUES_TOLD} more" if len(listed) > _VALUES_TOLD else ""
        words += f": one of {', '.join(map(str, listed[:_VALUES_TOLD]))}{rest}"
    bounds = [f"{word} {value[key]}" for key, word in _BOUNDS.items() if isinstance(value.get(key), int | float)]
    return ", ".join([words, *bounds])


_BOUNDS = {
    "minimum": "at least", "maximum": "at most", "minLength": "length at least", "maxLength": "length at most",
    "minItems": "items at least", "maxItems": "items at most",
}  # fmt: skip


def _media(documents: Documents, holder: Node) -> Node | None:
    """Return the part that is JSON; None where none is."""
    content = holder.get("content")
    kinds = content.members() if content else ()
    return next((documents.follow(node) for kind, node in kinds if "json" in kind.lower()), None)


def _json(documents: Documents, holder: Node) -> Node | None:
    media = _media(documents, holder)
    return media and media.get("schema")


def _example(documents: Documents, operation: Node) -> Any:
    """Return an example of the first good answer."""
    responses = operation.get("responses")
    for status, reference in responses.members() if responses else ():
        media = _media(documents, documents.follow(reference)) if status.startswith("2") else None
        schema = media and media.get("schema")
        for holder in (media, schema and documents.follow(schema)):
            found = _given(documents, holder) if holder else None
            if found is not None:
                return found
    return None


def _given(documents: Documents, holder: Node) -> Any:
    """Return the example that a media type or a schema gives; None where it gives none."""
    one, several = holder.get("example"), holder.get("examples")
    if one is not None:
        return one.value
    for _, reference in several.members() if several else ():
        value = documents.follow(reference).get("value")
        if value is not None:
            return value.value
    return next((node.value for node in several.items()), None) if several else None

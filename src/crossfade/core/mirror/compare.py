"""Two answers to one question, compared: status, declared headers, and bodies field by field."""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson

from crossfade.core.mirror.paths import below, covers, item
from crossfade.core.mirror.rules import BODY, HEADER, STATUS, Mirror

ANY = "any"
"""Of an unordered list: its items are told apart by all that they hold."""
DEPTH_MAX = 64
"""Levels of lists and objects; deeper is no answer that an API gives."""
_SAME_FLOAT = 1e-9
_JSON = re.compile(r"(?i)application/(?:[\w.+-]+\+)?json\b")


class Kind(StrEnum):
    """How V2's answer differs at a field."""

    DIFFERENT = "different"
    """Another value of the same type."""
    ORDER = "order"
    """The same items of a list, otherwise ordered."""
    EXTRA = "extra item"
    """A list has an item that V1's has not."""
    MISSING_ITEM = "missing item"
    MISSING = "missing"
    """V1 has the field."""
    TYPE = "type changed"
    ADDED = "added"
    """V1 has no such field: V2 may add."""

    @property
    def of_shape(self) -> bool:
        """Tell whether fields or types differ, which no noise of values explains."""
        return self in _SHAPE


_SHAPE = frozenset({Kind.MISSING, Kind.TYPE, Kind.ADDED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a version said, read."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    """By name in lower case."""
    body: Any = b""
    """The value of a JSON text, else the bytes."""
    trouble: str = ""
    """Why there is nothing to compare: no answer, too large, in a coding that can't be read; a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One difference at one path."""

    path: str
    kind: Kind
    v1: Any = None
    v2: Any = None
    renamed: str = ""
    """Path of a field that V2 adds beside a missing one, with its value."""


def answer_of(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Return an answer with its body read; `headers` by name in lower case.

    What says that it is JSON and is none is its bytes, so that it differs in type from what V1 said.
    """
    if not body or not _JSON.match(headers.get("content-type", "")):
        return Answer(status=status, headers=headers, body=body)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return Answer(status=status, headers=headers, body=body)
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [part for one in level for part in _parts(one)]
        if not level:
            return Answer(status=status, headers=headers, body=value)
    return Answer(status=status, headers=headers, trouble=f"is nested deeper than {DEPTH_MAX} levels")


def _parts(value: Any) -> list[Any]:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [part for part in inside if isinstance(part, (dict, list))]


def differences(v1: Answer, v2: Answer, rules: Mirror) -> list[Difference]:
    """Return what differs; V1's answer must have no trouble.

    Where the statuses differ, or V2 gave nothing that can be read, that alone is told: the rest follows from it.
    """
    found = list(_told_first(v1, v2))
    if not found:
        found = [*_headers(v1, v2, rules), *_Walk(rules).between("", v1.body, v2.body)]
    return [one for one in found if not _ignored(one.path, rules)]


def _told_first(v1: Answer, v2: Answer) -> Iterator[Difference]:
    if v2.trouble:
        where = BODY if v2.status else STATUS
        yield Difference(path=where, kind=Kind.MISSING, v1=_sort(v1.body) if v2.status else v1.status, v2=v2.trouble)
    elif v1.status != v2.status:
        yield Difference(path=STATUS, kind=Kind.DIFFERENT, v1=v1.status, v2=v2.status)


def _headers(v1: Answer, v2: Answer, rules: Mirror) -> Iterator[Difference]:
    for name in rules.headers:
        one, two = v1.headers.get(name), v2.headers.get(name)
        if one == two:
            continue
        kind = Kind.MISSING if two is None else Kind.ADDED if one is None else Kind.DIFFERENT
        yield Difference(path=HEADER + name, kind=kind, v1=one, v2=two)


def fields_of(answer: Answer, rules: Mirror) -> set[str]:
    """Return the paths that an answer has, ignored ones aside."""
    found = {STATUS, *(HEADER + name for name in rules.headers if name in answer.headers)}
    found |= {path or BODY for path, value in _inside(answer.body) if path or not isinstance(value, (dict, list))}
    return {path for path in found if not _ignored(path, rules)}


def values_at(value: Any, path: str) -> list[Any]:
    """Return every plain value at a path and below it."""
    return [inner for here, inner in _inside(value) if not isinstance(inner, (dict, list)) and covers(path, here)]


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """Give every part of a value with its path, the whole first."""
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        path, value = waiting.pop()
        yield path, value
        if isinstance(value, dict):
            waiting += [(below(path, key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(item(path), inner) for inner in value]


def _ignored(path: str, rules: Mirror) -> bool:
    return any(covers(pattern, path) for pattern in rules.ignore)


class _Walk:
    """Compares two values, both at once."""

    def __init__(self, rules: Mirror) -> None:
        self._unordered = rules.unordered

    def between(self, path: str, v1: Any, v2: Any) -> Iterator[Difference]:
        where = path or BODY
        if _type(v1) != _type(v2):
            # an answer that is no JSON any more is shown by its type: its text may hold anything
            yield Difference(path=where, kind=Kind.TYPE, v1=v1 if path else _sort(v1), v2=v2 if path else _sort(v2))
        elif isinstance(v1, dict):
            yield from self._objects(path, v1, v2)
        elif isinstance(v1, list):
            yield from self._lists(path, v1, v2)
        elif not _same(v1, v2):
            yield Difference(path=where, kind=Kind.DIFFERENT, v1=v1, v2=v2)

    def _objects(self, path: str, v1: dict[str, Any], v2: dict[str, Any]) -> Iterator[Difference]:
        added = [key for key in v2 if key not in v1]
        for key, value in v1.items():
            here = below(path, key)
            if key in v2:
                yield from self.between(here, value, v2[key])
            else:
                twin = next((name for name in added if _type(v2[name]) == _type(value) and _same(v2[name], value)), "")
                renamed = below(path, twin) if twin else ""
                yield Difference(path=here, kind=Kind.MISSING, v1=value, renamed=renamed)
        for key in added:
            yield Difference(path=below(path, key), kind=Kind.ADDED, v2=v2[key])

    def _lists(self, path: str, v1: list[Any], v2: list[Any]) -> Iterator[Difference]:
        by = self._unordered.get(path)
        if by is not None and by != ANY:
            pairs = _by_key(v1, v2, by)
        else:
            texts1, texts2 = [_text(one) for one in v1], [_text(one) for one in v2]
            if texts1 == texts2:
                return
            left1, left2 = _without_common(v1, texts1, texts2), _without_common(v2, texts2, texts1)
            if not left1 and not left2 and by is None:
                yield Difference(path=path or BODY, kind=Kind.ORDER, v1=v1, v2=v2)
                return
            pairs = [*zip(left1, left2, strict=False)]
            pairs += [(one, _NONE) for one in left1[len(pairs) :]] + [(_NONE, two) for two in left2[len(pairs) :]]
        for one, two in pairs:
            if two is _NONE:
                yield Difference(path=item(path), kind=Kind.MISSING_ITEM, v1=one)
            elif one is _NONE:
                yield Difference(path=item(path), kind=Kind.EXTRA, v2=two)
            else:
                yield from self.between(item(path), one, two)


_NONE: Any = object()


def _by_key(v1: list[Any], v2: list[Any], by: str) -> list[tuple[Any, Any]]:
    """Pair items by a field; the first with a key goes with the first of that key, and so on."""
    waiting: dict[str, deque[Any]] = defaultdict(deque)
    for two in v2:
        waiting[_key(two, by)].append(two)
    pairs = [(one, waiting[_key(one, by)].popleft() if waiting[_key(one, by)] else _NONE) for one in v1]
    return pairs + [(_NONE, two) for left in waiting.values() for two in left]


def _key(value: Any, by: str) -> str:
    return _text(value.get(by)) if isinstance(value, dict) else _text(value)


def _without_common(values: list[Any], texts: list[str], others: Iterable[str]) -> list[Any]:
    """Return the items that the other list has not, in their order."""
    common = Counter(others)
    left = []
    for value, text in zip(values, texts, strict=True):
        if common[text]:
            common[text] -= 1
        else:
            left.append(value)
    return left


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _same(v1: Any, v2: Any) -> bool:
    """Compare values of one type; numbers that are written otherwise may differ in the ninth digit."""
    if isinstance(v1, (int, float)) and not isinstance(v1, bool):
        return v1 == v2 or math.isclose(v1, v2, rel_tol=_SAME_FLOAT)
    return _text(v1) == _text(v2) if isinstance(v1, (dict, list)) else bool(v1 == v2)


def _type(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "text"
        case dict():
            return "object"
        case list():
            return "list"
        case bytes():
            return "bytes"
        case _:
            return "null"


def _sort(body: Any) -> str:
    return f"{len(body):,} bytes that are no JSON" if isinstance(body, bytes) else f"JSON ({_type(body)})"

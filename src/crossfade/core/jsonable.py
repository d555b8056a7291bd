"""Values as JSON, for keeping: whatever it is given, it returns text that can be read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum

import orjson

_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def to_json(value: object) -> bytes:
    """Return a value as compact JSON in UTF-8. Never raises for what a value holds.

    Dataclasses and mappings become objects, enums their values, sets sorted lists, tuples lists; numbers that
    are not finite become null, and what JSON has no form for becomes its text.
    """
    try:
        return orjson.dumps(value, default=_default, option=_OPTIONS)
    except TypeError:  # a lone surrogate, a huge integer: rare, and no reason to lose an event
        return orjson.dumps(_plain(value))


def _default(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return _ordered(value)
    if isinstance(value, tuple):
        return list(value)
    return str(value)


def _ordered(values: Iterable[object]) -> list[object]:
    """Return a set's members in an order that is the same every time."""
    return sorted(values, key=lambda member: (type(member).__name__, _rank(member)))


def _rank(member: object) -> tuple[float, str]:
    return (float(member), "") if isinstance(member, (int, float)) else (0.0, str(member))


def _plain(value: object) -> object:
    """Return a value made only of what every JSON reader takes."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {_text(key): _plain(member) for key, member in value.items()}
    if isinstance(value, (set, frozenset)):
        return [_plain(member) for member in _ordered(value)]
    if isinstance(value, (list, tuple)):
        return [_plain(member) for member in value]
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    return _text(value)


def _text(value: object) -> str:
    text = value.value if isinstance(value, Enum) else value
    return str(text).encode("utf-8", "replace").decode("utf-8")

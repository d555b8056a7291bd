"""What a service says about one answer: the `Crossfade-Facts` header, a dictionary of RFC 9651.

Values may be tokens, integers, decimals, booleans and short strings; parameters are passed over. A header that is
no such dictionary says nothing, rather than half of something.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_FACTS = 32
"""Per answer; a header with more says nothing."""

_KEY = r"[a-z*][a-z0-9_.*-]*"
_DECIMAL = r"-?\d{1,12}\.\d{1,3}"
_INTEGER = r"-?\d{1,15}"
_BARE = rf'{_DECIMAL}|{_INTEGER}|\?[01]|[A-Za-z*][A-Za-z0-9!#$%&\'*+.^_`|~:/-]*|"(?:[ !#-\[\]-~]|\\["\\])*"'
_PARAMETER = rf"; *{_KEY}(?:=(?:{_BARE}))?"
_MEMBER = re.compile(rf"({_KEY})(?:=({_BARE}))?(?:{_PARAMETER})*")
_SEPARATOR = re.compile(r"[ \t]*,[ \t]*")
_IS_DECIMAL = re.compile(_DECIMAL)


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one answer."""

    values: tuple[tuple[str, str], ...] = ()
    """Tokens, integers, booleans (`1`, `0`) and strings, as text."""
    timings: tuple[tuple[str, float], ...] = ()
    """Decimals."""
    understood: bool = True
    """False where the header is no dictionary; it then says nothing."""


NO_FACTS = Facts()
NOT_UNDERSTOOD = Facts(understood=False)


def parse_facts(header: str) -> Facts:
    """Return the facts of a header's text; of a key that comes twice the last counts, as the RFC has it."""
    text, position = header.strip(" \t"), 0
    if not text:
        return NO_FACTS
    members: dict[str, str] = {}
    while True:
        match = _MEMBER.match(text, position)
        if match is None or len(members) >= MAX_FACTS:
            return NOT_UNDERSTOOD
        members[match[1]] = "?1" if match[2] is None else match[2]
        position = match.end()
        if position == len(text):
            return _sorted_out(members)
        separator = _SEPARATOR.match(text, position)
        if separator is None:
            return NOT_UNDERSTOOD
        position = separator.end()


def _sorted_out(members: dict[str, str]) -> Facts:
    values, timings = [], []
    for name, raw in members.items():
        if _IS_DECIMAL.fullmatch(raw):
            timings.append((name, float(raw)))
        elif raw.startswith("?"):
            values.append((name, raw[1]))
        elif raw.startswith('"'):
            values.append((name, re.sub(r"\\(.)", r"\1", raw[1:-1])))
        else:
            values.append((name, raw))
    return Facts(tuple(values), tuple(timings))

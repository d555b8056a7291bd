"""Paths of fields: `flights[].carrier`, a name that isn't plain in brackets: `prices["EUR (net)"]`.

Lists' items are `[]`, whichever they are. Keys that are data rather than names (numbers, ids, addresses) are `*`, so
that an object used as a table is one path and not thousands.
"""

from __future__ import annotations

import re

_NAME_MAX = 64
_PLAIN = re.compile(r"[A-Za-z_$@-][A-Za-z0-9_$@-]{0,63}")
_DATA = re.compile(r"[0-9].*|.*@.*\..*|[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|(?=.*[0-9])[0-9a-fA-F]{16,}", re.DOTALL)
_STEP = re.compile(r'\.?([A-Za-z_$@-][A-Za-z0-9_$@-]{0,63}|\*)|\["((?:[^"\\]|\\.){1,64})"\]|\[\]')


def below(path: str, key: str) -> str:
    """Return the path of an object's field."""
    if len(key) > _NAME_MAX or _DATA.fullmatch(key):
        key = "*"
    elif not _PLAIN.fullmatch(key):
        return path + '["' + key.replace("\\", "\\\\").replace('"', '\\"') + '"]'
    return f"{path}.{key}" if path else key


def item(path: str) -> str:
    """Return the path of a list's items."""
    return path + "[]"


def covers(pattern: str, path: str) -> bool:
    """Tell whether a path is the pattern's field or one below it."""
    return path.startswith(pattern) and (len(path) == len(pattern) or path[len(pattern)] in ".[")


def is_path(text: str) -> bool:
    """Tell whether a text is the path of a field in a body."""
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None or (at == 0 and text[0] == ".") or (at and found[1] and text[at] != "."):
            return False
        at = found.end()
    return bool(text)

"""Text from outside (user ids, names, reasons) as a terminal may be given it: nothing in it moves or hides a line."""

from __future__ import annotations

import unicodedata
from typing import Any

_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Controls, directions and invisible marks, halves of characters, and separators of lines."""


def escaped(text: str, keep: str = "") -> str:
    """Return the text with every character that a terminal acts on spelled out, but those to keep."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or unicodedata.category(c) not in _UNSAFE else _spelled(c) for c in text)


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escaped_all(data: Any) -> Any:
    """Return what a controller answered with every text in it escaped."""
    match data:
        case str():
            return escaped(data)
        case list():
            return [escaped_all(item) for item in data]
        case dict():
            return {escaped(key): escaped_all(item) for key, item in data.items()}
    return data

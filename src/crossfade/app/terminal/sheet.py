"""Cells of CSV: outside text in them is text to a spreadsheet too."""

from __future__ import annotations

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of one."""


def cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: it begins with a ' where it would be."""
    return f"'{text}" if text.startswith(_FORMULA) else text

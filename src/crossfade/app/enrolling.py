"""`crossfade enrol FILE`: users who join a cohort, from a file that is checked whole before anybody is asked."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import click

from crossfade.core.enrolment import USERS_AT_ONCE, fault_of
from crossfade.errors import UsageError

FILE_BYTES = 1_000_000
_SHOWN = 10


def joining_in(path: Path) -> list[dict[str, str]]:
    """Return the users of a file: a line each, `KEY` or `KEY,TIME OF CONSENT`; blank lines and those with # aside.

    Raises UsageError with file and line of all that can't be meant, the first ten of them.
    """
    wrong: list[str] = []
    found: dict[str, int] = {}
    users: list[dict[str, str]] = []
    for number, fields in _rows(path):
        user, *more = (field.strip(" \t") for field in fields)
        fault = fault_of(user) or _fault_of_rest(more)
        if fault is None and user in found:
            fault = f"is in line {found[user]} already; once is enough"
        if fault is not None:
            wrong.append(f"{path}:{number}: {user[:40]!r} {fault}")
            continue
        found[user] = number
        users.append({"user": user} | ({"consented_at": more[0].replace("Z", "+00:00")} if more and more[0] else {}))
    if len(users) > USERS_AT_ONCE:
        wrong.append(f"{path}: holds {len(users):,} users; at most {USERS_AT_ONCE:,} join at once: split the file")
    if not users and not wrong:
        wrong.append(f"{path} holds no user; write one key a line, as clients send it to the API")
    if wrong:
        more_of_them = [f"and {len(wrong) - _SHOWN} more"] if len(wrong) > _SHOWN else []
        raise UsageError("\n".join([*wrong[:_SHOWN], *more_of_them, "nobody was enrolled"]))
    return users


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with click.open_file(str(path), "rb") as file:
            data = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from None
    if len(data) > FILE_BYTES:
        raise UsageError(f"{path} has more than {FILE_BYTES:,} bytes; split it")
    # A line ends where people see it end, not at U+2028 and its like inside a key.
    lines = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").split(b"\n")
    for number, raw in enumerate(lines, start=1):
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            raise UsageError(f"{path}:{number}: is no UTF-8 text: {error.reason}; save the file as UTF-8") from None
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            yield number, next(csv.reader([line], strict=True))
        except csv.Error as error:
            raise UsageError(f"{path}:{number}: is no CSV: {error}") from None


def _fault_of_rest(fields: list[str]) -> str | None:
    """Return what is wrong with what follows a key."""
    if len(fields) > 1:
        return 'has more than a time after it; a key with commas stands in quotes: "KEY",2026-12-31T10:00:00Z'
    if not fields or not fields[0]:
        return None
    try:
        consent = datetime.fromisoformat(fields[0])
    except ValueError:
        return f"has agreed at {fields[0][:40]!r}, which is no time; write it as 2026-12-31T10:00:00Z"
    if consent.tzinfo is None:
        return f"has agreed at {fields[0]}, which has no time zone; write it as {fields[0]}Z where it is UTC"
    return None

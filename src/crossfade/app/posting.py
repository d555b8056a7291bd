"""`crossfade outcomes post FILE`: outcomes from a file, batch by batch, with the place of what is wrong."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from crossfade.app.client import Client
from crossfade.errors import UsageError

BATCH = 1000
_NEXT = re.compile(r"; (?=(?:body\.)?outcomes\.\d)")
_PLACE = re.compile(r"(?:body\.)?outcomes\.(\d+)[.:] ?")
Row = tuple[int, dict[str, object]]
"""Line in the file, counted from 1, and what it says."""


def post(path: Path, client: Client) -> Counter[str]:
    """Post a file's outcomes (CSV with a head, or one JSON object a line) and return what became of them.

    Raises UsageError with file and line where one can't be read or is refused; whole batches before it were taken.
    """
    fates: Counter[str] = Counter()
    rows: list[Row] = []
    try:
        with click.open_file(str(path), encoding="utf-8-sig") as file:
            for row in _rows(file, str(path)):
                rows.append(row)
                if len(rows) == BATCH:
                    fates.update(_send(rows, str(path), client))
                    rows = []
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text: byte {error.start} is {error.reason}") from None
    if rows:
        fates.update(_send(rows, str(path), client))
    if not fates:
        raise UsageError(f'{path} holds no outcome; write one a line, such as {{"metric": "conversion", "user": ...}}')
    return fates


def _rows(file: Iterable[str], name: str) -> Iterator[Row]:
    lines = enumerate(file, start=1)
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        return
    if first[1].lstrip().startswith("{"):
        yield _json(*first, name)
        yield from (_json(number, line, name) for number, line in lines if line.strip())
        return
    head = [key.strip() for key in next(csv.reader([first[1]]))]
    if not ({"metric", "user", "value"} <= set(head) or {"event", "user"} <= set(head)):
        wanted = "metric, user and value, or event and user"
        raise UsageError(f"{name}:{first[0]}: a CSV begins with a head that has {wanted}, not {head}")
    reader = csv.reader(line for _, line in lines)
    try:
        for fields in reader:
            if fields:
                yield _csv(first[0] + reader.line_num, dict(zip(head, fields, strict=False)), name)
    except csv.Error as error:
        raise UsageError(f"{name}:{first[0] + reader.line_num}: is no CSV: {error}") from None


def _json(number: int, line: str, name: str) -> Row:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{name}:{number}: is no JSON object on one line: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{name}:{number}: is no JSON object")
    return number, found


def _csv(number: int, fields: dict[str, str], name: str) -> Row:
    row: dict[str, object] = {key: value for key, value in fields.items() if value != ""}
    try:
        row |= {"value": float(fields.get("value", ""))} if "value" in row or "event" not in row else {}
    except ValueError:
        raise UsageError(f"{name}:{number}: value: {fields.get('value')!r} is no number") from None
    return number, row


def _send(rows: Sequence[Row], name: str, client: Client) -> dict[str, int]:
    try:
        fates: dict[str, int] = client.post("/outcomes", {"outcomes": [row for _, row in rows]})
    except UsageError as error:
        text = _NEXT.sub("\n", str(error))
        text = _PLACE.sub(lambda found: f"{name}:{rows[int(found[1])][0]}: ", text)
        raise UsageError(
            f"{text}\nlines {rows[0][0]} to {rows[-1][0]} were not taken; mend, and post all again"
        ) from None
    return fates

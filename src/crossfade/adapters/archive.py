"""A rollout as a file, to move it from one store to another: one line for each thing that is kept of it.

A line is eight hexadecimal digits, a space and JSON. The digits are the CRC-32 of all JSON up to and including this
line, so that a line that was changed, lost, doubled or moved is the first whose digits are wrong. The last line counts
the others: without it the file was cut off. Bytes are written as {"base64": "..."}.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

from crossfade.errors import UsageError
from crossfade.ports import Record

FORMAT = 1

_Value = str | int | float | bytes | None


async def write(rollout: str, records: AsyncIterator[Record], out: BinaryIO) -> int:
    """Write a rollout's records; return how many there were. Nothing is written where there are none."""
    lines = _Lines(out)
    async for record in records:
        if not lines.written:
            lines.write({"crossfade": "rollout", "format": FORMAT, "rollout": rollout})
        fields = {name: _to_json(value) for name, value in record.fields.items()}
        lines.write({record.kind: fields})
    if not lines.written:
        return 0
    lines.write({"end": lines.written})
    return lines.written - 2


class _Lines:
    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._sum = 0
        self.written = 0

    def write(self, value: Mapping[str, object]) -> None:
        data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        self._sum = zlib.crc32(data, self._sum)
        self._out.write(b"%08x %b\n" % (self._sum, data))
        self.written += 1


def read(lines: Iterable[bytes], name: str) -> tuple[str, Iterator[Record]]:
    """Return which rollout a file holds, and its records as they are read.

    Raises UsageError, then or while the records are read, where the file is none of ours, of a later format, cut off
    or damaged; it names the file and the line.
    """
    checked = _checked(lines, name)
    number, head = next(checked, (1, {}))
    if head.get("crossfade") != "rollout" or not isinstance(head.get("rollout"), str):
        raise _at(name, number, "this is no rollout written by `crossfade export rollout`")
    if head.get("format") != FORMAT:
        raise _at(
            name,
            number,
            f"format {head.get('format')!r} is not known here, only {FORMAT}; use the version that wrote it",
        )
    return head["rollout"], _records(checked, name)


def _records(checked: Iterator[tuple[int, dict[str, Any]]], name: str) -> Iterator[Record]:
    number = 1
    for number, value in checked:
        kind, fields = next(iter(value.items()), ("", None))
        if kind == "end":
            if fields != number - 1:
                raise _at(name, number, f"the end counts {fields} lines, and there are {number - 1}")
            if (extra := next(checked, None)) is not None:
                raise _at(name, extra[0], "there is something after the end")
            return
        if not isinstance(fields, dict):
            raise _at(name, number, "this is no record of a rollout")
        yield Record(kind=kind, fields={key: _from_json(field, name, number) for key, field in fields.items()})
    raise _at(name, number + 1, "the file was cut off here: its last line is missing; export it again")


def _checked(lines: Iterable[bytes], name: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each line's number and value, as long as the sums are right."""
    total = 0
    for number, line in enumerate(lines, start=1):
        digits, space, data = line[:8], line[8:9], line[9:].removesuffix(b"\n")
        if not line.endswith(b"\n"):
            raise _at(name, number, "the file was cut off in this line; export it again")
        total = zlib.crc32(data, total)
        if space != b" " or digits != b"%08x" % total:
            if number == 1:
                raise _at(name, number, "this is no rollout written by `crossfade export rollout`, or it is damaged")
            raise _at(name, number, "this line or the one before it was changed or lost; export it again")
        try:
            value = json.loads(data)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise _at(name, number, "this is no record of a rollout")
        yield number, value


def _to_json(value: _Value) -> object:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _from_json(value: Any, name: str, number: int) -> _Value:
    if isinstance(value, dict):
        try:
            return base64.b64decode(value["base64"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise _at(name, number, "bytes that can't be read") from None
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise _at(name, number, "this is no record of a rollout")


def _at(name: str, line: int, what: str) -> UsageError:
    return UsageError(f"{name}:{line}: {what}")

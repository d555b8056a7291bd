"""A rollout as a file: what is read is what was written, and damage is told with its line."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters import archive
from crossfade.errors import UsageError
from crossfade.ports import Record

RECORDS = [
    Record(kind="events", fields={"revision": 1, "at": 0.1 + 0.2, "kind": "K", "data": '{"by":"ann"}'}),
    Record(kind="ticks", fields={"number": -7, "data": b"\x00\xff\n\r", "revision": None, "previous": 2**62}),
    Record(kind="looks", fields={"at": 1e300, "ready": True, "trouble": "Ünï \x00 \u2028 \N{SNOWMAN}", "window": b""}),
]


def written(records: list[Record]) -> bytes:
    async def each() -> AsyncIterator[Record]:
        for record in records:
            yield record

    out = io.BytesIO()
    assert asyncio.run(archive.write("trips-v2", each(), out)) == len(records)
    return out.getvalue()


def read(data: bytes) -> tuple[str, list[Record]]:
    name, records = archive.read(io.BytesIO(data), "file")
    return name, list(records)


def test_what_is_read_is_what_was_written() -> None:
    assert read(written(RECORDS)) == ("trips-v2", RECORDS)


_values = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.binary()
_texts = st.text(st.characters(codec="utf-8"))


@given(st.lists(st.builds(lambda f: Record(kind="k", fields=f), st.dictionaries(_texts, _values | _texts)), min_size=1))
def test_whatever_a_store_keeps_comes_back(records: list[Record]) -> None:
    assert read(written(records)) == ("trips-v2", records)


def test_a_rollout_of_which_nothing_is_kept_is_no_file() -> None:
    assert written([]) == b""


@given(st.data())
def test_every_changed_byte_is_told_with_its_line(data: st.DataObject) -> None:
    """A line break that is changed joins or parts lines; the first of them is told."""
    whole = written(RECORDS)
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[at]))
    line = whole[:at].count(b"\n") + 1
    with pytest.raises(UsageError, match=rf"^file:{line}: "):
        read(whole[:at] + bytes([changed]) + whole[at + 1 :])


@given(st.data())
def test_a_file_that_was_cut_off_anywhere_is_told_with_its_line(data: st.DataObject) -> None:
    whole = written(RECORDS)
    end = data.draw(st.integers(0, len(whole) - 1))
    lines = whole[:end].count(b"\n") + 1
    with pytest.raises(UsageError, match=rf"^file:{lines}: "):
        read(whole[:end])


@pytest.mark.parametrize("swap", [(1, 2), (2, 1)])
def test_lines_that_were_moved_doubled_or_lost_are_told(swap: tuple[int, int]) -> None:
    lines = written(RECORDS).splitlines(keepends=True)
    moved = [*lines[:1], lines[swap[0]], lines[swap[0]], *lines[2:]]
    with pytest.raises(UsageError, match="was changed or lost"):
        read(b"".join(moved))
    with pytest.raises(UsageError, match=r"^file:3: .*was changed or lost"):
        read(b"".join([*lines[:2], *lines[3:]]))


def test_what_follows_the_end_is_told() -> None:
    whole = written(RECORDS)
    lines = whole.count(b"\n") + 1
    with pytest.raises(UsageError, match=rf"^file:{lines}: "):
        read(whole + whole)


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"hello\n", b"\xff\xfe\x00", b"00000000 {}\n", b"SQLite format 3\x00" + bytes(4000), b"a" * 100_000],
    ids=["empty", "line", "text", "bytes", "zeros", "database", "long"],
)
def test_what_is_no_rollout_is_told_at_its_first_line(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"^file:1: "):
        read(data)


def test_a_later_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "FORMAT", 2)
    later = written(RECORDS)
    monkeypatch.undo()
    with pytest.raises(UsageError, match=r"^file:1: format 2 is not known here, only 1"):
        read(later)

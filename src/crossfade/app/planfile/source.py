"""A plan's text as a tree of nodes that know where they stand.

Scalars stay the text that was written: `no`, `on`, `010` and `10:30` mean what they say, not what YAML 1.1 makes of
them. The tree is built from PyYAML's events rather than by `yaml.compose`, which recurses and so has no depth limit of
its own. Tags, anchors, aliases and merge keys are refused: each line of a plan says by itself what it means.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from crossfade.errors import PlanError, Problem

MAX_BYTES = 262_144
MAX_DEPTH = 24
MAX_NODES = 20_000
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A scalar, as written."""

    line: int
    """Counted from 1, as all lines and columns here."""
    column: int
    value: str
    null: bool = False
    """Nothing was written, or `null`."""
    unread: bool = False
    """A problem has been noted for it already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A sequence."""

    line: int
    column: int
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """A mapping, duplicate keys included."""

    line: int
    column: int
    entries: tuple[tuple[Text, Node], ...]


Node = Text | Items | Entries


def read_text(path: Path, *, limit: int = MAX_BYTES) -> str:
    """Return a UTF-8 file's text; PlanError where it can't be read, is longer than `limit` bytes or isn't UTF-8."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _whole_file(path, f"can't be read: {_reason(path, error)}") from error
    if len(data) > limit:
        raise _whole_file(path, f"is longer than {limit:,} bytes; a file of this kind never is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, column = _place(data[: error.start].decode("utf-8", "replace"))
        raise PlanError(
            (Problem(str(path), line, column, "", f"byte 0x{data[error.start]:02x} is not UTF-8; save it as UTF-8"),)
        ) from error


def parse(path: Path, text: str) -> tuple[Node, tuple[Problem, ...]]:
    """Return the tree, and what is written in it that plans don't use.

    Raises PlanError with one problem where the text is empty, is not YAML, or is nested or long beyond sense.
    """
    builder = _Builder(str(path))
    loader = None
    try:
        loader = yaml.SafeLoader(text)
        for event in _events(loader):
            builder.take(event)
    except yaml.reader.ReaderError as error:
        line, column = _place(text[: error.position])
        raise builder.fatal(
            line, column, f"the character {_code(error.character)} is not allowed; remove it"
        ) from error
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(builder, error) from error
    except (ValueError, OverflowError) as error:  # PyYAML lets `"\UFFFFFFFF"` and a huge %YAML version through
        line, column = (loader.line + 1, loader.column + 1) if loader else (1, 1)
        raise builder.fatal(line, column, f"is not YAML: {error}") from error
    if builder.root is None or (isinstance(builder.root, Text) and builder.root.null):
        raise builder.fatal(1, 1, "is empty; a plan begins with `crossfade: 1`")
    return builder.root, tuple(builder.problems)


def _events(loader: yaml.SafeLoader) -> Iterator[yaml.Event]:
    while loader.check_event():
        event: yaml.Event = loader.get_event()  # type: ignore[no-untyped-call]
        yield event


@dataclass(slots=True)
class _Open:
    """A collection whose end hasn't come yet."""

    event: yaml.CollectionStartEvent
    children: list[Node] = field(default_factory=list)


class _Builder:
    """Builds the tree from parser events, without recursion."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._stack: list[_Open] = []
        self._nodes = 0
        self._documents = 0

    def fatal(self, line: int, column: int, message: str) -> PlanError:
        """Return the error to raise where reading on makes no sense."""
        return PlanError((Problem(self.file, line, column, "", message),))

    def take(self, event: yaml.Event) -> None:
        """Add one event; PlanError where the document is beyond the limits."""
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise self.fatal(*_at(event), "a second document begins; a plan is one document, so remove the `---`")
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.NodeEvent):
            self._open(event)

    def _open(self, event: yaml.NodeEvent) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self.fatal(*_at(event), f"holds more than {MAX_NODES:,} values; a plan never does")
        self._refuse_extras(event)
        if isinstance(event, yaml.CollectionStartEvent):
            if len(self._stack) >= MAX_DEPTH:
                raise self.fatal(*_at(event), f"is nested more than {MAX_DEPTH} deep; a plan never is")
            self._stack.append(_Open(event))
        else:
            self._add(self._scalar(event))

    def _refuse_extras(self, event: yaml.NodeEvent) -> None:
        if event.anchor is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            self._problem(
                event, f"{sign}{event.anchor}: anchors and aliases are not read in plans; write the value out"
            )
        tag = getattr(event, "tag", None)
        if tag is not None:
            self._problem(event, f"the tag {tag!r} is not read in plans; remove it")

    def _scalar(self, event: yaml.NodeEvent) -> Text:
        line, column = _at(event)
        if not isinstance(event, yaml.ScalarEvent):  # an alias, which has its problem already
            return Text(line=line, column=column, value="", unread=True)
        value = event.value
        odd = next((char for char in value if unicodedata.category(char) in {"Cc", "Cs"} and char not in "\n\t"), None)
        if odd is not None:
            self._problem(event, f"holds the character {_code(odd)}; remove it")
            return Text(line=line, column=column, value="", unread=True)
        return Text(line=line, column=column, value=value, null=not event.style and value in _NULLS)

    def _close(self) -> None:
        done = self._stack.pop()
        line, column = _at(done.event)
        if isinstance(done.event, yaml.SequenceStartEvent):
            self._add(Items(line=line, column=column, items=tuple(done.children)))
            return
        entries = []
        for key, value in zip(done.children[::2], done.children[1::2], strict=True):
            if isinstance(key, Text):
                entries.append((key, value))
            else:
                self.problems.append(
                    Problem(self.file, key.line, key.column, "", "a key is a word, not a list or a mapping; quote it")
                )
        self._add(Entries(line=line, column=column, entries=tuple(entries)))

    def _add(self, node: Node) -> None:
        if self._stack:
            self._stack[-1].children.append(node)
        else:
            self.root = node

    def _problem(self, event: yaml.Event, message: str) -> None:
        self.problems.append(Problem(self.file, *_at(event), "", message))


def _syntax_error(builder: _Builder, error: yaml.MarkedYAMLError) -> PlanError:
    mark = error.problem_mark or error.context_mark
    said = " ".join(str(part) for part in (error.context, error.problem) if part)
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    return builder.fatal(line, column, f"is not YAML: {said}{_hint(said)}")


def _hint(said: str) -> str:
    """Return what to do about the syntax errors that plans invite."""
    if "'\\t'" in said:
        return "; indent with spaces, not tabs"
    if "'>'" in said or "block scalar" in said:
        return '; put a sentence that begins with > into quotes: "> 1% -> rollback"'
    if "'%'" in said or "directive" in said:
        return "; write the number before the %: 5%"
    if "mapping values are not allowed" in said:
        return "; check the indentation, and put text that contains a colon and a space into quotes"
    if "',' or '" in said:
        return "; check for a missing comma or bracket"
    return ""


def _at(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _place(before: str) -> tuple[int, int]:
    """Return the line and column of what follows `before`."""
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def _code(char: str | int | bytes) -> str:
    number = char if isinstance(char, int) else ord(char)
    return f"U+{number:04X}"


def _whole_file(path: Path, message: str) -> PlanError:
    return PlanError((Problem(str(path), 1, 1, "", message),))


def _reason(path: Path, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file; check the path"
    if isinstance(error, IsADirectoryError):
        return f"it is a directory; name a file in it, such as {path / 'plan.yaml'}"
    if isinstance(error, PermissionError):
        return "permission denied; make it readable"
    return str(getattr(error, "strerror", None) or error)

"""Reading a tree of nodes field by field, with every mistake noted where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TypeVar

from crossfade.app.planfile.source import Entries, Items, Node, Text
from crossfade.errors import Problem

T = TypeVar("T")


@dataclass(slots=True)
class Report:
    """The mistakes found so far in one file."""

    file: str
    problems: list[Problem] = field(default_factory=list)

    def add(self, node: Node, path: str, message: str) -> None:
        """Note a mistake where a node stands."""
        self.problems.append(Problem(self.file, node.line, node.column, path, message))


@dataclass(frozen=True, slots=True)
class Field:
    """A value, its dotted path in the plan, and where to note what is wrong with it."""

    node: Node
    path: str
    report: Report

    def problem(self, message: str) -> None:
        """Note a mistake at this value."""
        self.report.add(self.node, self.path, message)

    def text(self) -> str | None:
        """Return the text as written, blanks at the ends aside; None, with a problem noted, where it is none."""
        if not isinstance(self.node, Text):
            self.problem(f"is a {_kind(self.node)}; write a single value")
            return None
        if self.node.unread:
            return None
        value = self.node.value.strip()
        if self.node.null or not value:
            self.problem("has no value; write one, or remove the line")
            return None
        return value

    def parse(self, read: Callable[[str], T]) -> T | None:
        """Return what `read` makes of the text; None, with its ValueError noted as a problem, where it refuses."""
        text = self.text()
        if text is None:
            return None
        try:
            return read(text)
        except ValueError as error:
            self.problem(str(error))
            return None

    def items(self, example: str) -> tuple[Field, ...]:
        """Return the items of a list that isn't empty; nothing, with a problem noted, where it is no such list."""
        if not isinstance(self.node, Items):
            self.problem(f"is a {_kind(self.node)}; write a list: {example}")
            return ()
        if not self.node.items:
            self.problem(f"is an empty list; write {example}, or remove the line")
        return tuple(Field(item, f"{self.path}[{index}]", self.report) for index, item in enumerate(self.node.items))

    def named(self, example: str) -> tuple[tuple[str, Field, Field], ...]:
        """Return (name, key, value) of a mapping whose keys the author chooses; duplicates are noted and left out."""
        if not isinstance(self.node, Entries):
            self.problem(f"is a {_kind(self.node)}; write a mapping: {example}")
            return ()
        found: dict[str, tuple[Field, Field]] = {}
        for key, value in self.node.entries:
            path = f"{self.path}.{key.value}" if self.path else key.value
            if key.value == "<<":
                self.report.add(key, path, "merge keys are not read in plans; write the values out")
            elif key.value in found:
                first = found[key.value][0].node.line
                self.report.add(key, path, f"the key {key.value!r} is written twice, first on line {first}; keep one")
            else:
                found[key.value] = (Field(key, path, self.report), Field(value, path, self.report))
        return tuple((name, key, value) for name, (key, value) in found.items())

    def section(self, known: Sequence[str], example: str) -> Section | None:
        """Return a mapping with keys of the language; unknown ones are noted. None where it is no mapping."""
        values: dict[str, Field] = {}
        misspelt: set[str] = set()
        for name, key, value in self.named(example):
            if name in known:
                values[name] = value
            else:
                key.problem(f"unknown key{suggest(name, known)}")
                misspelt.update(_near(name, known))
        return Section(self, values, frozenset(misspelt)) if isinstance(self.node, Entries) else None


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping whose keys the language knows."""

    field: Field
    values: dict[str, Field]
    misspelt: frozenset[str] = frozenset()
    """Keys that unknown ones nearly are: these are not missing as well."""

    def get(self, key: str) -> Field | None:
        """Return a field that may be left out."""
        return self.values.get(key)

    def require(self, key: str, example: str) -> Field | None:
        """Return a field; None, with a problem noted, where it was left out."""
        found = self.values.get(key)
        if found is None and key not in self.misspelt:
            path = f"{self.field.path}.{key}" if self.field.path else key
            self.field.report.add(self.field.node, path, f"is missing; write `{key}: {example}`")
        return found

    def parse(self, key: str, read: Callable[[str], T], default: T) -> T:
        """Return what `read` makes of an optional field, `default` where it is left out or wrong."""
        found = self.get(key)
        value = None if found is None else found.parse(read)
        return default if value is None else value


def suggest(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for a word that nearly is one of `known`, else what is known."""
    names = list(known)
    if near := _near(word, names):
        return f"; did you mean {near[0]!r}?"
    return f"; known here: {', '.join(names)}" if names else ""


def _near(word: str, known: Iterable[str]) -> list[str]:
    return get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)


def _kind(node: Node) -> str:
    if isinstance(node, Text):
        return "single value"
    return "list" if isinstance(node, Items) else "mapping"

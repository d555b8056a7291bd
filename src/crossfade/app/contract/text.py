"""A document's text as a value, and the line at which each part of it stands.

YAML is read from PyYAML's events: that takes nesting and aliases without recursion, and plain words as YAML 1.2 and
JSON read them, so that `on`, `no` and dates stay text. JSON is read by orjson; its lines are found when asked for.
"""

from __future__ import annotations

import re
from typing import Any

import orjson
import yaml

from crossfade.core.contract.document import escaped

DEPTH_MAX = 200
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {"null": None, "~": None, "": None, "true": True, "false": False}
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}:,]|\n|[^\s"\[\]{}:,]+')
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Text:
    """One document."""

    def __init__(self, text: str) -> None:
        """ValueError, its message beginning with the line where there is one, where it is neither JSON nor YAML."""
        self._text = text
        self._lines: dict[str, int] | None = None
        if text.lstrip().startswith("{"):
            try:
                self.value: Any = orjson.loads(text)
            except orjson.JSONDecodeError:
                self.value = None
            else:
                _check_depth(self.value)
                return
        reading = _Yaml(text)
        self.value, self._lines = reading.value, reading.lines

    def line(self, pointer: str) -> int:
        """Return the line, from 1, at which a part begins; the nearest part around it where it is not known."""
        if self._lines is None:
            self._lines = _json_lines(self._text)
        while pointer and pointer not in self._lines:
            pointer = pointer.rpartition("/")[0]
        return self._lines.get(pointer, 1)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEPTH_MAX):
        holding = [one for one in level if isinstance(one, (dict, list))]
        level = [inner for one in holding for inner in (one.values() if isinstance(one, dict) else one)]
        if not level:
            return
    raise ValueError(f"is nested deeper than {DEPTH_MAX} levels")


class _Yaml:
    """Builds a value from events."""

    def __init__(self, text: str) -> None:
        self.lines: dict[str, int] = {}
        self.value: Any = None
        self._open: list[tuple[Any, str, list[str]]] = []
        """Collections without an end: the value, its pointer, and for a mapping the key that waits for its value."""
        self._anchors: dict[str, Any] = {}
        try:
            for event in yaml.parse(text, Loader=_LOADER):
                self._take(event)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{mark.line + 1}: " if mark else ""
            raise ValueError(f"{where}is neither JSON nor YAML: {error.problem or error.context}") from None
        except yaml.YAMLError as error:
            raise ValueError(f"is neither JSON nor YAML: {error}") from None

    def _take(self, event: yaml.Event) -> None:
        match event:
            case yaml.MappingStartEvent():
                self._begin({}, event, event.anchor)
            case yaml.SequenceStartEvent():
                self._begin([], event, event.anchor)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._open.pop()
            case yaml.ScalarEvent():
                self._scalar(event)
            case yaml.AliasEvent():
                if event.anchor not in self._anchors:
                    raise ValueError(f"{_line(event)}: the alias *{event.anchor} stands for nothing")
                if any(value is self._anchors[event.anchor] for value, _, _ in self._open):
                    raise ValueError(f"{_line(event)}: the alias *{event.anchor} stands for what holds it")
                self._put(self._anchors[event.anchor], event)

    def _begin(self, value: Any, event: yaml.Event, anchor: str | None) -> None:
        if len(self._open) >= DEPTH_MAX:
            raise ValueError(f"{_line(event)}: is nested deeper than {DEPTH_MAX} levels")
        pointer = self._put(value, event)
        if anchor:
            self._anchors[anchor] = value
        self._open.append((value, pointer, []))

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        if self._open and isinstance(self._open[-1][0], dict) and not self._open[-1][2]:
            if event.value == "<<" and event.implicit[0]:
                raise ValueError(f"{_line(event)}: merge keys are not read; write the values out")
            self._open[-1][2].append(event.value)
            pointer = f"{self._open[-1][1]}/{escaped(event.value)}"
            self.lines[pointer] = _line(event)
            return
        value = _plain(event.value) if event.implicit[0] else event.value
        if event.anchor:
            self._anchors[event.anchor] = value
        self._put(value, event)

    def _put(self, value: Any, event: yaml.Event) -> str:
        """Put a value where it belongs and return its pointer."""
        if not self._open:
            if self.value is not None:
                raise ValueError(f"{_line(event)}: holds several documents; one is read")
            self.value = value
            return ""
        holder, pointer, waiting = self._open[-1]
        if isinstance(holder, list):
            here = f"{pointer}/{len(holder)}"
            self.lines[here] = _line(event)
            holder.append(value)
            return here
        if not waiting:
            raise ValueError(f"{_line(event)}: a key is a single word here")
        key = waiting.pop()
        holder[key] = value
        return f"{pointer}/{escaped(key)}"


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


def _plain(text: str) -> Any:
    lower = text.lower() if text in {text.lower(), text.upper(), text.capitalize()} else text
    if lower in _WORDS:
        return _WORDS[lower]
    if len(text) > 64:
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _json_lines(text: str) -> dict[str, int]:
    """Return the line of every part of a JSON text that is known to be one."""
    found, line = {"": 1}, 1
    stack: list[list[Any]] = []
    """For each open collection: its pointer, and the index or the key of the part that comes."""
    key_comes = False
    for sign in _TOKEN.findall(text):
        if sign == "\n":
            line += 1
        elif sign in "{[":
            here = _pointer(stack)
            found.setdefault(here, line)
            stack.append([here, None if sign == "{" else 0])
            key_comes = sign == "{"
        elif sign in "}]":
            stack.pop()
            key_comes = False
        elif sign == ",":
            key_comes = not isinstance(stack[-1][1], int)
            if not key_comes:
                stack[-1][1] += 1
        elif sign == ":":
            key_comes = False
        elif key_comes:
            stack[-1][1] = orjson.loads(sign)
            found[_pointer(stack)] = line
        else:
            found.setdefault(_pointer(stack), line)
    return found


def _pointer(stack: list[list[Any]]) -> str:
    if not stack or stack[-1][1] is None:
        return stack[-1][0] if stack else ""
    return f"{stack[-1][0]}/{escaped(str(stack[-1][1]))}"

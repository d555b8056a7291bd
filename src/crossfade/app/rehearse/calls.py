"""Every operation of a document called, and each answer held against what the document promises for it.

GET alone: whatever else was called would change something. Values come from the plan's load, else from the document's
examples, enums and defaults, else one by its type. Each operation is also asked wrongly: that must be answered as the
document says too, and never by a server error.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode

from jsonschema import Draft4Validator, Draft202012Validator
from jsonschema.exceptions import UnknownType, best_match
from jsonschema.protocols import Validator
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT4, DRAFT202012

from crossfade.adapters.mirror import Asker
from crossfade.app.contract.reading import Read
from crossfade.core.contract.compare import METHODS, base_path
from crossfade.core.contract.document import Node
from crossfade.core.mirror.compare import Answer
from crossfade.core.plan import Plan
from crossfade.core.rehearsal.report import Criterion
from crossfade.core.verdict import Verdict
from crossfade.errors import UsageError

LIMIT: Final = "no server error, and each answer as the document promises"
_LONG: Final = "x" * 300
_WORDS_MAX: Final = 300
_BY_TYPE: Final[Mapping[str, str]] = {"integer": "1", "number": "1", "boolean": "true"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request."""

    target: str
    """Path and query."""
    headers: Mapping[str, str] = field(default_factory=dict)


class Operations:
    """What one version's document offers, and promises."""

    def __init__(self, plan: Plan, read: Read, now: float) -> None:
        """`now`: seconds since the epoch, from which dates are counted."""
        self._read, self._documents = read, read.documents
        self._values = plan.load.values if plan.load else {}
        first = datetime.fromtimestamp(now, tz=UTC).date()
        self._dates = tuple((first + timedelta(days=n)).isoformat() for n in range(1, 8))
        specification = DRAFT4 if self._documents.is_30 else DRAFT202012
        self._registry: Registry[Any] = Registry().with_resources(
            (uri, Resource.from_contents(self._schemas(text.value), default_specification=specification))
            for uri, text in read.texts.items()
            if isinstance(text.value, dict)
        )

    def _schemas(self, value: Any) -> Any:
        return _nullable(value) if self._documents.is_30 else value

    def gets(self) -> Iterator[tuple[str, Node, Node]]:
        """Yield what can be called: the path, what its parameters are beside, and the operation."""
        for path, item in self._items():
            operation = item.get("get")
            if operation is not None:
                yield base_path(self._documents) + path, item, operation

    def left_out(self) -> list[str]:
        """Return what is not called."""
        others = [(path, method) for path, item in self._items() for method in METHODS if item.get(method) is not None]
        return [f"{method.upper()} {path}" for path, method in others if method != "get"]

    def _items(self) -> Iterator[tuple[str, Node]]:
        paths = self._documents.root.get("paths")
        for path, item in paths.members() if paths else ():
            yield path, self._documents.follow(item)

    def calls(self, path: str, item: Node, operation: Node, count: int) -> Iterator[Call]:
        """Yield so many calls that should be answered well, then one for each way to ask wrongly."""
        parameters = [one for one in self._parameters(item, operation) if self._is_sent(one)]
        candidates = [(one, self._candidates(one)) for one in parameters]
        for number in range(count):
            yield _call(path, [(one, values[number % len(values)]) for one, values in candidates])
        good = [(one, values[0]) for one, values in candidates]
        for spoiled, _ in good:
            if spoiled.text("in") == "query":
                rest = [(one, value) for one, value in good if one is not spoiled]
                for wrong in ([], [(spoiled, "")], [(spoiled, _LONG)]):
                    yield _call(path, [*rest, *wrong])

    def _parameters(self, item: Node, operation: Node) -> Iterator[Node]:
        found: dict[tuple[str, str], Node] = {}
        for holder in (item, operation):
            listed = holder.get("parameters")
            for one in listed.items() if listed else ():
                parameter = self._documents.follow(one)
                found[parameter.text("in"), parameter.text("name")] = parameter
        yield from found.values()

    def _is_sent(self, parameter: Node) -> bool:
        known = parameter.text("name") in self._values
        return parameter.text("in") == "path" or parameter.truth("required") or known

    def _candidates(self, parameter: Node) -> Sequence[str]:
        name = parameter.text("name")
        if name in self._values:
            return self._values[name]
        schema = parameter.get("schema")
        holders = [parameter, *([self._documents.follow(schema)] if schema else [])]
        found = [value for holder in holders for value in _shown(holder.value)]
        texts = [_text(value) for value in found if not isinstance(value, (dict, list))]
        if texts:
            return texts
        if holders[-1].text("format") == "date":
            return self._dates
        return (_BY_TYPE.get(holders[-1].text("type"), "a"),)

    def trouble(self, operation: Node, answer: Answer) -> str:
        """Return in what way an answer is none that the document promises; empty where it is.

        UsageError where the document's schema is none.
        """
        if answer.status >= 500:
            return f"status {answer.status}, a server error"
        promised = self._promised(operation, answer.status)
        if promised is None:
            return f"status {answer.status}, which the document doesn't have"
        content = promised.get("content")
        if content is None or not content.value or answer.status in (204, 304):
            return ""
        said = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        media = {name.partition(";")[0].strip().lower(): node for name, node in content.members()}
        held = media.get(said) or media.get(f"{said.partition('/')[0]}/*") or media.get("*/*")
        if held is None:
            return f"status {answer.status} as {said or 'nothing'}, which the document doesn't have"
        schema = held.get("schema")
        if schema is None or not (said == "application/json" or said.endswith("+json")):
            return ""
        if isinstance(answer.body, bytes):
            return f"status {answer.status} as {said}, and it is no JSON"
        return self._unlike(schema, answer)

    def _promised(self, operation: Node, status: int) -> Node | None:
        responses = operation.get("responses")
        names = (str(status), f"{status // 100}XX", f"{status // 100}xx", "default")
        found = next((node for name in names if responses and (node := responses.get(name))), None)
        return self._documents.follow(found) if found else None

    def _unlike(self, schema: Node, answer: Answer) -> str:
        reference = {"$ref": f"{schema.spot.uri}#{quote(schema.spot.pointer)}"}
        kind = Draft4Validator if self._documents.is_30 else Draft202012Validator
        validator: Validator = kind(reference, registry=self._registry, format_checker=kind.FORMAT_CHECKER)
        try:
            error = best_match(validator.iter_errors(answer.body))
        except (Unresolvable, UnknownType, re.error, RecursionError, TypeError, ValueError) as unfit:
            first = str(unfit).strip().partition("\n")[0] or type(unfit).__name__
            raise UsageError(
                f"{self._read.place(schema.spot)}: no answer can be held against this schema: {first}"
            ) from None
        if error is None:
            return ""
        where = error.json_path.removeprefix("$").removeprefix(".")
        return f"status {answer.status}, {where or 'the body'}: {error.message[:_WORDS_MAX]}"


class Caller:
    """Calls one version."""

    def __init__(self, version: str, origin: str, operations: Operations, asker: Asker) -> None:
        """`version` is v1 or v2, for people; `origin` where it answers: http://host:port."""
        self._version, self._origin = version, origin
        self._operations, self._asker = operations, asker

    async def all(self, count: int) -> AsyncIterator[Criterion]:
        """Call every operation `count` times and in every wrong way, and yield a criterion for each."""
        empty = True
        for path, item, operation in self._operations.gets():
            empty = False
            yield await self._one(path, operation, self._operations.calls(path, item, operation, count))
        if empty:
            why = "its document has no operation with GET"
            yield Criterion(
                name=self._version, outcome=Verdict.INCONCLUSIVE, figure="nothing was called", limit=LIMIT, why=why
            )

    async def _one(self, path: str, operation: Node, calls: Iterable[Call]) -> Criterion:
        name, asked, good, reproduce = f"{self._version} GET {path}", 0, 0, ""
        for asked, call in enumerate(calls, start=1):
            answer = await self._asker.ask("GET", self._origin + call.target, call.headers)
            reproduce = _curl(self._origin, call)
            outcome = Verdict.INCONCLUSIVE if answer.trouble else Verdict.FAIL
            why = answer.trouble or self._operations.trouble(operation, answer)
            if why:
                figure = f"call {asked} shows nothing" if answer.trouble else f"call {asked} is not so"
                return Criterion(name=name, outcome=outcome, figure=figure, limit=LIMIT, why=why, reproduce=reproduce)
            good += 200 <= answer.status < 300
        if not good:
            return Criterion(
                name=name,
                outcome=Verdict.INCONCLUSIVE,
                figure=f"none of {asked} calls was answered with a status of 200 to 299",
                limit=LIMIT,
                why="give the plan's load.values what this operation is asked",
                reproduce=reproduce,
            )
        return Criterion(
            name=name, outcome=Verdict.PASS, figure=f"so in {asked} calls, {good} of them good", limit=LIMIT
        )


def _call(path: str, values: Sequence[tuple[Node, str]]) -> Call:
    query, headers = [], {}
    for parameter, value in values:
        name = parameter.text("name")
        match parameter.text("in"):
            case "path":
                path = path.replace(f"{{{name}}}", quote(value, safe=""))
            case "query":
                query.append((name, value))
            case "header":
                headers[name] = value
            case _:
                headers["Cookie"] = f"{name}={quote(value)}"
    return Call(target=path + (f"?{urlencode(query)}" if query else ""), headers=headers)


def _curl(origin: str, call: Call) -> str:
    headers = [word for name, value in call.headers.items() for word in ("-H", f"{name}: {value}")]
    return shlex.join(["curl", "-i", *headers, origin + call.target])


def _shown(holder: Any) -> Iterator[Any]:
    """Yield the values that a parameter or a schema shows."""
    if not isinstance(holder, dict):
        return
    yield from (holder[key] for key in ("example", "const", "default") if key in holder)
    for key in ("examples", "enum"):
        held = holder.get(key)
        if isinstance(held, dict):
            yield from (one["value"] for one in held.values() if isinstance(one, dict) and "value" in one)
        elif isinstance(held, list):
            yield from held


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _nullable(value: Any) -> Any:
    """Return an OpenAPI 3.0 document with `nullable` said as JSON Schema says it."""
    if isinstance(value, list):
        return [_nullable(one) for one in value]
    if not isinstance(value, dict):
        return value
    said = {key: _nullable(one) for key, one in value.items()}
    if said.get("nullable") is True:
        if isinstance(said.get("type"), str):
            said["type"] = [said["type"], "null"]
        if isinstance(said.get("enum"), list) and None not in said["enum"]:
            said["enum"] = [*said["enum"], None]
    return said

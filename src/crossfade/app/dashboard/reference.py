"""The API's own description as a page: made here from the OpenAPI document, so that no other host is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_REF = "#/components/schemas/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What a value is: words, and the schema that they name."""

    words: str
    schema: str = ""
    """Name of a schema of the document; empty for what needs none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A parameter, or a property of a schema."""

    name: str
    where: str
    """path | query | header | cookie; empty for a property."""
    kind: Kind
    required: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One path with one method."""

    anchor: str
    method: str
    path: str
    title: str
    text: str
    open: bool
    """Whether it may be asked without a token."""
    fields: tuple[Field, ...]
    body: Kind | None
    answers: tuple[tuple[str, str, Kind | None], ...]
    """Status, description, and what comes."""


def operations(document: Mapping[str, Any]) -> dict[str, list[Operation]]:
    """Return the document's operations by tag, in its order."""
    found: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            operation = _operation(path, method, told)
            found.setdefault((told.get("tags") or ["others"])[0], []).append(operation)
    return found


def schemas(document: Mapping[str, Any]) -> dict[str, tuple[str, list[Field]]]:
    """Return each schema's description and properties, by name."""
    return {
        name: (str(told.get("description", "")), list(_properties(told)))
        for name, told in sorted(document["components"]["schemas"].items())
    }


def _operation(path: str, method: str, told: Mapping[str, Any]) -> Operation:
    fields = [
        Field(
            name=parameter["name"],
            where=parameter["in"],
            kind=_kind(parameter["schema"]),
            required=bool(parameter.get("required")),
            text=str(parameter.get("description", "")),
        )
        for parameter in told.get("parameters", [])
    ]
    summary, text = str(told.get("summary", "")), str(told.get("description", ""))
    content = told.get("requestBody", {}).get("content", {})
    answers = [
        (status, str(answer["description"]), next((_kind(kind["schema"]) for kind in _content(answer)), None))
        for status, answer in told["responses"].items()
    ]
    return Operation(
        anchor=f"{method}{path}".replace("/", "-").replace("{", "").replace("}", "").replace(":", "-"),
        method=method.upper(),
        path=path,
        title=summary if " " in summary else text,  # one word is FastAPI's own guess
        text=text if " " in summary else "",
        open=not told.get("security"),
        fields=tuple(fields),
        body=next((_kind(kind["schema"]) for kind in content.values()), None),
        answers=tuple(answers),
    )


def _content(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [kind for kind in answer.get("content", {}).values() if "schema" in kind]


def _properties(schema: Mapping[str, Any]) -> Iterator[Field]:
    required = schema.get("required", [])
    for name, told in schema.get("properties", {}).items():
        text = str(told.get("description", ""))
        yield Field(name=name, where="", kind=_kind(told), required=name in required, text=text)


def _kind(schema: Mapping[str, Any]) -> Kind:
    """Return what a schema allows, in a few words."""
    if "$ref" in schema:
        name = str(schema["$ref"]).removeprefix(_REF)
        return Kind(words=name, schema=name)
    if choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        kinds = [_kind(choice) for choice in choices]
        named = next((kind.schema for kind in kinds if kind.schema), "")
        return Kind(words=" or ".join(dict.fromkeys(kind.words for kind in kinds)), schema=named)
    if "enum" in schema or "const" in schema:
        return Kind(words=", ".join(map(str, schema.get("enum", [schema.get("const")]))))
    match schema.get("type"):
        case "array":
            inside = _kind(schema.get("items", {}))
            return Kind(words=f"list of {inside.words}", schema=inside.schema)
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            inside = _kind(schema["additionalProperties"])
            return Kind(words=f"{inside.words} by name", schema=inside.schema)
        case None:
            return Kind(words="anything")
        case other:
            return Kind(words=str(other))

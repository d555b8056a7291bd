"""What holds for any two documents: the same one differs in nothing, additions break nothing, removals are found."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.contract.documents import Json, compared, content, document

from crossfade.core.contract.rules import RULES, Severity

NAMES = ("a", "b", "c")
COMPONENTS = ("A", "B")

plain: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", ["string", "null"]])},
        optional={
            "format": st.sampled_from(["date", "uuid"]),
            "maxLength": st.integers(1, 9),
            "pattern": st.sampled_from(["^a", "b$"]),
            "enum": st.lists(st.sampled_from(["x", "y", "z"]), min_size=1, unique=True),
        },
    ),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number", "boolean"])}, optional={"minimum": st.integers(0, 9)}
    ),
    st.sampled_from([{"$ref": f"#/components/schemas/{name}"} for name in COMPONENTS]),
    st.just({}),
    st.booleans(),
)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Json]:
    return st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)},
        optional={
            "required": st.lists(st.sampled_from(NAMES), max_size=2, unique=True),
            "additionalProperties": st.one_of(st.booleans(), inner),
        },
    )


schemas: st.SearchStrategy[Any] = st.recursive(
    plain,
    lambda inner: st.one_of(
        _objects(inner),
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}),
        *(st.fixed_dictionaries({key: st.lists(inner, min_size=1, max_size=3)}) for key in ("allOf", "oneOf", "anyOf")),
    ),
    max_leaves=8,
)  # fmt: skip
parameters = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(NAMES), "in": st.sampled_from(["query", "header"]), "schema": plain},
        optional={"required": st.booleans()},
    ),
    max_size=3,
    unique_by=lambda one: (one["name"], one["in"]),
)


@st.composite
def documents(draw: st.DrawFn) -> Json:
    responses = {
        status: {"description": "d", **content(draw(schemas))}
        for status in draw(st.lists(st.sampled_from(["200", "404", "default"]), min_size=1, unique=True))
    }
    operation = {"parameters": draw(parameters), "responses": responses, "requestBody": content(draw(schemas))}
    paths = {
        f"/{name}": {"post": operation} for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    }
    components = {name: draw(_objects(plain)) for name in COMPONENTS}
    return document(paths, draw(st.sampled_from(["3.0.3", "3.1.0"])), components={"schemas": components})


@settings(max_examples=50, deadline=None)
@given(documents())
def test_a_document_differs_from_itself_in_nothing(one: Json) -> None:
    assert compared(one, copy.deepcopy(one)) == []


@settings(max_examples=50, deadline=None)
@given(documents(), documents())
def test_any_two_can_be_compared(one: Json, other: Json) -> None:
    for finding in compared(one, other):
        assert finding.rule in RULES
        assert finding.said


def _answered(one: Json) -> list[Json]:
    """Return every object that is answered at the top of a body, as it stands in the document."""
    found = []
    for path in one["paths"].values():
        for response in path["post"]["responses"].values():
            schema = response["content"]["application/json"]["schema"] if "content" in response else None
            if isinstance(schema, dict) and "properties" in schema:
                found.append(schema)
    return found


@settings(max_examples=50, deadline=None)
@given(documents(), plain)
def test_additions_break_nothing(one: Json, schema: Any) -> None:
    other = copy.deepcopy(one)
    other["paths"]["/new"] = copy.deepcopy(next(iter(other["paths"].values())))
    for path in other["paths"].values():
        operation = path["post"]
        operation["parameters"].append({"name": "new", "in": "query", "schema": schema})
        operation["responses"]["201"] = {"description": "new"}
        operation["requestBody"]["content"]["text/new"] = {"schema": schema}
        for response in operation["responses"].values():
            response.setdefault("headers", {})["New"] = {"schema": {"type": "string"}}
    for answered in _answered(other):
        if answered.get("additionalProperties", True) in (True, False):
            answered["properties"]["new"] = schema
    assert [found for found in compared(one, other) if found.severity is Severity.BREAKING] == []


@settings(max_examples=50, deadline=None)
@given(documents(), st.data())
def test_every_removal_is_found(one: Json, data: st.DataObject) -> None:
    other = copy.deepcopy(one)
    path, item = data.draw(st.sampled_from(sorted(other["paths"].items())))
    operation = item["post"]
    choices = ["path", "operation", "body", "status"]
    choices += ["parameter"] if operation["parameters"] else []
    removed = data.draw(st.sampled_from(choices))
    match removed:
        case "path":
            del other["paths"][path]
            expected = {"path-removed"}
        case "operation":
            del item["post"]
            expected = {"operation-removed"}
        case "body":
            del operation["requestBody"]
            expected = {"request-body-removed"}
        case "parameter":
            operation["parameters"].pop()
            expected = {"parameter-removed"}
        case _:
            status = data.draw(st.sampled_from(sorted(operation["responses"])))
            if "default" in operation["responses"] and status != "default":
                del operation["responses"]["default"]
                one = copy.deepcopy(other)
                other["paths"][path]["post"]["responses"].pop(status)
            else:
                del operation["responses"][status]
            expected = {"response-status-removed", "response-error-status-removed"}
    assert expected & {found.rule for found in compared(one, other) if found.path == path}


@settings(max_examples=50, deadline=None)
@given(documents(), st.data())
def test_every_removed_field_of_an_answer_is_found(one: Json, data: st.DataObject) -> None:
    other = copy.deepcopy(one)
    holding = [schema for schema in _answered(other) if schema["properties"]]
    if not holding:
        return
    schema = data.draw(st.sampled_from(holding))
    name = data.draw(st.sampled_from(sorted(schema["properties"])))
    del schema["properties"][name]
    rules = {found.rule for found in compared(one, other) if found.field == f"/{name}"}
    assert rules & {"response-property-removed", "response-optional-property-removed"}

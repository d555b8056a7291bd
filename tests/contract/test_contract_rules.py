# ruff: noqa: E501 - a case is a line
"""Each rule by its cases: what changed, and what is found. An empty set says that nothing is."""

from __future__ import annotations

from typing import Any

import pytest
from tests.contract.documents import Json, answering, asking, compared, content, document, operation, told

from crossfade.core.contract.compare import Prefixes, prefixes_of
from crossfade.core.contract.findings import exempt
from crossfade.core.contract.rules import RULES, Severity
from crossfade.core.plan import Exemption

STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
NOTHING: dict[str, str] = {}


def obj(required: tuple[str, ...] = (), **properties: Any) -> Json:
    found: Json = {"type": "object", "properties": properties}
    return {**found, "required": list(required)} if required else found


Case = tuple[str, Any, Any, dict[str, str]]
"""What changed, V1's schema, V2's schema, and the rules by field."""

ANSWERS: list[Case] = [
    ("a field is added", obj(a=STRING), obj(a=STRING, b=STRING), NOTHING),
    ("a field that is always there is added", obj(a=STRING), obj(("b",), a=STRING, b=STRING), NOTHING),
    ("a required field is removed", obj(("a",), a=STRING), obj(), {"/a": "response-property-removed"}),
    ("an optional field is removed", obj(a=STRING), obj(), {"/a": "response-optional-property-removed"}),
    ("a field is renamed", obj(("a",), a=STRING), obj(("b",), b=STRING), {"/a": "response-property-removed"}),
    ("a field becomes optional", obj(("a",), a=STRING), obj(a=STRING), {"/a": "response-property-optional"}),
    ("a field becomes required", obj(a=STRING), obj(("a",), a=STRING), NOTHING),
    ("a field that no schema names becomes optional", {"type": "object", "required": ["a"]}, {"type": "object"},
     {"/a": "response-property-optional"}),
    ("a field becomes write-only", obj(("a",), a=STRING), obj(("a",), a={**STRING, "writeOnly": True}),
     {"/a": "response-property-removed"}),
    ("a write-only field is removed", obj(("a",), a={**STRING, "writeOnly": True}), obj(), NOTHING),
    ("text becomes a number", STRING, NUMBER, {"": "response-type-widened"}),
    ("a price becomes text", obj(price=NUMBER), obj(price=STRING), {"/price": "response-type-widened"}),
    ("an integer becomes a number", INTEGER, NUMBER, {"": "response-type-widened"}),
    ("a number becomes an integer", NUMBER, INTEGER, NOTHING),
    ("a second type is added", {"type": ["string"]}, {"type": ["string", "integer"]}, {"": "response-type-widened"}),
    ("a type is taken away", {"type": ["string", "integer"]}, STRING, NOTHING),
    ("the type is no longer said", STRING, {}, {"": "response-type-widened"}),
    ("the type is said at last", {}, STRING, NOTHING),
    ("the type of an object is said at last", {"properties": {"a": STRING}}, obj(a=STRING), NOTHING),
    ("null is added", STRING, {"type": ["string", "null"]}, {"": "response-nullable"}),
    ("null is taken away", {"type": ["string", "null"]}, STRING, NOTHING),
    ("null is added as an alternative", STRING, {"anyOf": [STRING, {"type": "null"}]}, {"": "response-nullable"}),
    ("null is written otherwise", {"type": ["string", "null"]}, {"anyOf": [STRING, {"type": "null"}]}, NOTHING),
    ("a format is changed", {**STRING, "format": "date"}, {**STRING, "format": "date-time"}, {"": "response-format-changed"}),
    ("a format is dropped", {**STRING, "format": "date"}, STRING, {"": "response-format-changed"}),
    ("a format is added", STRING, {**STRING, "format": "date"}, NOTHING),
    ("an integer grows", {**INTEGER, "format": "int32"}, {**INTEGER, "format": "int64"}, {"": "response-format-changed"}),
    ("an integer shrinks", {**INTEGER, "format": "int64"}, {**INTEGER, "format": "int32"}, NOTHING),
    ("a value is added", {"enum": ["a"]}, {"enum": ["a", "b"]}, {"": "response-enum-widened"}),
    ("a value is taken away", {"enum": ["a", "b"]}, {"enum": ["a"]}, NOTHING),
    ("values are no longer said", {**STRING, "enum": ["a"]}, STRING, {"": "response-enum-opened"}),
    ("a constant is changed", {"const": "a"}, {"const": "b"}, {"": "response-enum-widened"}),
    ("true is not 1", {"enum": [1]}, {"enum": [1, True]}, {"": "response-type-widened"}),
    ("a maximum rises", {**NUMBER, "maximum": 5}, {**NUMBER, "maximum": 6}, {"": "response-bound-widened"}),
    ("a maximum falls", {**NUMBER, "maximum": 6}, {**NUMBER, "maximum": 5}, NOTHING),
    ("a maximum is dropped", {**NUMBER, "maximum": 6}, NUMBER, {"": "response-bound-widened"}),
    ("an exclusive minimum becomes inclusive", {**NUMBER, "exclusiveMinimum": 0}, {**NUMBER, "minimum": 0},
     {"": "response-bound-widened"}),
    ("a text may be longer", {**STRING, "maxLength": 5}, {**STRING, "maxLength": 6}, {"": "response-bound-widened"}),
    ("a text may be empty", {**STRING, "minLength": 1}, STRING, {"": "response-bound-widened"}),
    ("a list has fewer items", {"type": "array", "minItems": 2}, {"type": "array", "minItems": 1},
     {"": "response-bound-widened"}),
    ("items may come twice", {"type": "array", "uniqueItems": True}, {"type": "array"}, {"": "response-bound-widened"}),
    ("a step is halved", {**NUMBER, "multipleOf": 1}, {**NUMBER, "multipleOf": 0.5}, {"": "response-bound-widened"}),
    ("a step is doubled", {**NUMBER, "multipleOf": 0.1}, {**NUMBER, "multipleOf": 0.2}, NOTHING),
    ("a pattern is dropped", {**STRING, "pattern": "^a"}, STRING, {"": "response-pattern-changed"}),
    ("a pattern is added", STRING, {**STRING, "pattern": "^a"}, NOTHING),
    ("items change", {"type": "array", "items": obj(("a",), a=STRING)}, {"type": "array", "items": obj(("a",), a=INTEGER)},
     {"/*/a": "response-type-widened"}),
    ("items are no longer said", {"type": "array", "items": STRING}, {"type": "array"}, {"/*": "response-type-widened"}),
    ("unnamed properties become possible", {**obj(), "additionalProperties": False}, obj(),
     {"": "response-additional-properties-opened"}),
    ("a map's values change", {"type": "object", "additionalProperties": STRING},
     {"type": "object", "additionalProperties": INTEGER}, {"/*": "response-type-widened"}),
    ("a map gets a property of another type", {"type": "object", "additionalProperties": STRING},
     {**obj(n=INTEGER), "additionalProperties": STRING}, {"/n": "response-type-widened"}),
    ("an alternative is added", {"oneOf": [STRING]}, {"oneOf": [STRING, INTEGER]}, {"": "response-alternative-added"}),
    ("an alternative is taken away", {"oneOf": [STRING, INTEGER]}, {"oneOf": [STRING]}, NOTHING),
    ("alternatives change places", {"oneOf": [STRING, INTEGER]}, {"oneOf": [INTEGER, STRING]}, NOTHING),
    ("oneOf becomes anyOf", {"oneOf": [STRING, INTEGER]}, {"anyOf": [STRING, INTEGER]}, NOTHING),
    ("one schema gets alternatives", STRING, {"oneOf": [STRING, INTEGER]}, {"": "response-alternative-added"}),
    ("one of several alternatives stays", {"anyOf": [STRING, INTEGER]}, INTEGER, NOTHING),
    ("an alternative changes inside", {"oneOf": [{"title": "A", **obj(("a",), a=STRING)}, {"title": "B", **obj(b=STRING)}]},
     {"oneOf": [{"title": "B", **obj(b=STRING)}, {"title": "A", **obj(("a",), a=INTEGER)}]}, {"/a": "response-type-widened"}),
    ("allOf is written out", {"allOf": [obj(("a",), a=STRING), obj(b=STRING)]}, obj(("a",), a=STRING, b=STRING), NOTHING),
    ("a part of allOf is dropped", {"allOf": [obj(("a",), a=STRING), obj(b=STRING)]}, obj(b=STRING),
     {"/a": "response-property-removed"}),
    ("nothing was possible and now something is", False, STRING, {"": "response-anything"}),
    ("nothing is possible any more", STRING, False, NOTHING),
    ("`if` is changed", {"if": {"const": 1}}, {"if": {"const": 2}}, {"": "not-compared"}),
    ("a discriminator is dropped", {"discriminator": {"propertyName": "k"}, **obj(k=STRING)}, obj(k=STRING),
     {"": "discriminator-changed"}),
    ("a discriminator has another property", {"discriminator": {"propertyName": "k"}, **obj(k=STRING)},
     {"discriminator": {"propertyName": "l"}, **obj(k=STRING)}, {"": "discriminator-changed"}),
    ("a discriminator's value stands for another schema",
     {"discriminator": {"propertyName": "k", "mapping": {"a": "#/A"}}, **obj(k=STRING)},
     {"discriminator": {"propertyName": "k", "mapping": {"a": "#/B"}}, **obj(k=STRING)}, {"": "discriminator-changed"}),
    ("words about it change", {**STRING, "description": "a", "example": 1}, {**STRING, "description": "b"}, NOTHING),
]  # fmt: skip

REQUESTS: list[Case] = [
    ("a field is added", obj(a=STRING), obj(a=STRING, b=STRING), NOTHING),
    ("a needed field is added", obj(a=STRING), obj(("b",), a=STRING, b=STRING), {"/b": "request-property-added-required"}),
    ("a needed field with a default is added", obj(), obj(("b",), b={**STRING, "default": "x"}),
     {"/b": "request-property-added-required"}),
    ("a needed field that is only answered is added", obj(), obj(("b",), b={**STRING, "readOnly": True}), NOTHING),
    ("a field becomes needed", obj(a=STRING), obj(("a",), a=STRING), {"/a": "request-property-required"}),
    ("a field is no longer needed", obj(("a",), a=STRING), obj(a=STRING), NOTHING),
    ("a field is no longer read", obj(a=STRING), obj(), {"/a": "request-property-removed"}),
    ("a field is refused", {**obj(a=STRING), "additionalProperties": False}, {**obj(), "additionalProperties": False},
     {"/a": "request-property-refused"}),
    ("fields that aren't named are refused", obj(), {**obj(), "additionalProperties": False},
     {"": "request-additional-properties-closed"}),
    ("fields that aren't named are taken", {**obj(), "additionalProperties": False}, obj(), NOTHING),
    ("a named field falls under a map", obj(a=INTEGER), {**obj(), "additionalProperties": STRING},
     {"/a": "request-type-narrowed", "/*": "request-type-narrowed"}),
    ("a field is only answered from now on", obj(a=STRING), obj(a={**STRING, "readOnly": True}),
     {"/a": "request-property-removed"}),
    ("a needed field that was only answered is asked for", obj(("a",), a={**STRING, "readOnly": True}),
     obj(("a",), a=STRING), {"/a": "request-property-required"}),
    ("text becomes a number", STRING, NUMBER, {"": "request-type-narrowed"}),
    ("a number becomes text", NUMBER, STRING, {"": "request-type-narrowed"}),
    ("a number becomes an integer", NUMBER, INTEGER, {"": "request-type-narrowed"}),
    ("an integer becomes a number", INTEGER, NUMBER, NOTHING),
    ("a type is added", STRING, {"type": ["string", "integer"]}, NOTHING),
    ("null is refused", {"type": ["string", "null"]}, STRING, {"": "request-not-nullable"}),
    ("null is taken", STRING, {"type": ["string", "null"]}, NOTHING),
    ("a format is asked for", STRING, {**STRING, "format": "uuid"}, {"": "request-format-changed"}),
    ("a format is no longer asked for", {**STRING, "format": "uuid"}, STRING, NOTHING),
    ("an integer shrinks", {**INTEGER, "format": "int64"}, {**INTEGER, "format": "int32"}, {"": "request-format-changed"}),
    ("a value is refused", {"enum": ["a", "b"]}, {"enum": ["a"]}, {"": "request-enum-narrowed"}),
    ("a value is taken", {"enum": ["a"]}, {"enum": ["a", "b"]}, NOTHING),
    ("only some values are taken", STRING, {**STRING, "enum": ["a"]}, {"": "request-enum-narrowed"}),
    ("any value is taken", {**STRING, "enum": ["a"]}, STRING, NOTHING),
    ("a maximum falls", {**NUMBER, "maximum": 6}, {**NUMBER, "maximum": 5}, {"": "request-bound-narrowed"}),
    ("a maximum is set", NUMBER, {**NUMBER, "maximum": 5}, {"": "request-bound-narrowed"}),
    ("a maximum is dropped", {**NUMBER, "maximum": 5}, NUMBER, NOTHING),
    ("more items are needed", {"type": "array", "minItems": 1}, {"type": "array", "minItems": 2},
     {"": "request-bound-narrowed"}),
    ("a least length of 0 is said", STRING, {**STRING, "minLength": 0}, NOTHING),
    ("a text must be shorter", {**STRING, "maxLength": 6}, {**STRING, "maxLength": 5}, {"": "request-bound-narrowed"}),
    ("a pattern is asked for", STRING, {**STRING, "pattern": "^a"}, {"": "request-pattern-changed"}),
    ("a pattern becomes anything", {**STRING, "pattern": "^a"}, {**STRING, "pattern": ".*"}, NOTHING),
    ("an alternative is refused", {"oneOf": [STRING, INTEGER]}, {"oneOf": [STRING]}, {"": "request-alternative-removed"}),
    ("an alternative is taken", {"oneOf": [STRING]}, {"oneOf": [STRING, INTEGER]}, NOTHING),
    ("allOf asks for more", obj(a=STRING), {"allOf": [obj(a=STRING), obj(("b",), b=STRING)]},
     {"/b": "request-property-added-required"}),
    ("nothing is taken any more", STRING, False, {"": "request-never-valid"}),
    ("a discriminator's value is forgotten",
     {"discriminator": {"propertyName": "k", "mapping": {"a": "#/A", "b": "#/B"}}, **obj(k=STRING)},
     {"discriminator": {"propertyName": "k", "mapping": {"a": "#/A"}}, **obj(k=STRING)}, {"": "discriminator-changed"}),
]  # fmt: skip


def _parameter(name: str = "q", place: str = "query", schema: Any = STRING, **more: Any) -> Json:
    return {"name": name, "in": place, "schema": schema, **({"required": True} if place == "path" else {}), **more}


def _with(*parameters: Json) -> Json:
    return document({"/x": {"get": operation(parameters=list(parameters))}})


def _answers(*statuses: str, **more: Any) -> Json:
    return document({"/x": {"get": {"responses": {status: {"description": "d", **more} for status in statuses}}}})


def _secured(*ways: Json, **schemes: Any) -> Json:
    known = {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}, "jwt": {"type": "http", "scheme": "bearer"},
             "oauth": {"type": "oauth2", "flows": {}}, **schemes}  # fmt: skip
    return document({"/x": {"get": operation()}}, security=list(ways), components={"securitySchemes": known})


GET, BOTH = {"get": operation()}, {"get": operation(), "put": operation()}
OPERATIONS: list[Case] = [
    ("a path is added", document({"/x": GET}), document({"/x": GET, "/y": GET}), NOTHING),
    ("a path is removed", document({"/x": GET, "/y": GET}), document({"/x": GET}), {"": "path-removed"}),
    ("a method is added", document({"/x": GET}), document({"/x": BOTH}), NOTHING),
    ("a method is removed", document({"/x": BOTH}), document({"/x": GET}), {"": "operation-removed"}),
    ("an operation is deprecated", document({"/x": GET}), document({"/x": {"get": operation(deprecated=True)}}),
     {"": "operation-deprecated"}),
    ("what a path's parameter is called", document({"/x/{a}": {"get": operation(parameters=[_parameter("a", "path")])}}),
     document({"/x/{b}": {"get": operation(parameters=[_parameter("b", "path")])}}), NOTHING),
    ("a path's parameter becomes a number", document({"/x/{a}": {"get": operation(parameters=[_parameter("a", "path")])}}),
     document({"/x/{b}": {"get": operation(parameters=[_parameter("b", "path", INTEGER)])}}),
     {"path a": "request-type-narrowed"}),
    ("a parameter moves from the operation to the path", _with(_parameter()),
     document({"/x": {**GET, "parameters": [_parameter()]}}), NOTHING),
    ("servers are elsewhere", document({"/x": GET}, servers=[{"url": "https://a/v1"}]),
     document({"/x": GET}, servers=[{"url": "https://b/v1/"}]), NOTHING),
    ("the base path is another", document({"/x": GET}, servers=[{"url": "https://a/{v}", "variables": {"v": {"default": "v1"}}}]),
     document({"/x": GET}, servers=[{"url": "https://a/v2"}]), {"": "base-path-changed"}),
    ("the base path moves into the paths", document({"/x": GET}, servers=[{"url": "https://a/v1"}]), document({"/v1/x": GET}),
     NOTHING),
    ("a parameter is added", _with(), _with(_parameter()), NOTHING),
    ("a needed parameter is added", _with(), _with(_parameter(required=True)), {"query q": "parameter-added-required"}),
    ("a parameter is removed", _with(_parameter()), _with(), {"query q": "parameter-removed"}),
    ("a parameter moves", _with(_parameter()), _with(_parameter(place="header")), {"query q": "parameter-removed"}),
    ("a header is spelt otherwise", _with(_parameter("X-A", "header")), _with(_parameter("x-a", "header")), NOTHING),
    ("a parameter that OpenAPI ignores", _with(_parameter("Accept", "header")), _with(), NOTHING),
    ("a parameter becomes needed", _with(_parameter()), _with(_parameter(required=True)), {"query q": "parameter-required"}),
    ("a parameter is no longer needed", _with(_parameter(required=True)), _with(_parameter()), NOTHING),
    ("a list is written otherwise", _with(_parameter(explode=True)), _with(_parameter(explode=False)),
     {"query q": "parameter-style-changed"}),
    ("a style is said at last", _with(_parameter()), _with(_parameter(style="form")), NOTHING),
    ("a parameter may no longer be empty", _with(_parameter(allowEmptyValue=True)), _with(_parameter()),
     {"query q": "request-bound-narrowed"}),
    ("a default is changed", _with(_parameter(schema={**INTEGER, "default": 1})),
     _with(_parameter(schema={**INTEGER, "default": 2})), {"query q": "parameter-default-changed"}),
    ("text takes what a number was written as", _with(_parameter(schema=INTEGER)), _with(_parameter()), NOTHING),
    ("a number takes not every text", _with(_parameter()), _with(_parameter(schema=INTEGER)),
     {"query q": "request-type-narrowed"}),
    ("a parameter's value is refused", _with(_parameter(schema={"enum": ["a", "b"]})),
     _with(_parameter(schema={"enum": ["b"]})), {"query q": "request-enum-narrowed"}),
    ("a parameter as JSON changes", _with({"name": "q", "in": "query", **content(obj(a=STRING))}),
     _with({"name": "q", "in": "query", **content(obj(("a",), a=STRING))}), {"query q /a": "request-property-required"}),
    ("a body is added", document({"/x": {"post": operation()}}), asking(STRING), NOTHING),
    ("a needed body is added", document({"/x": {"post": operation()}}),
     document({"/x": {"post": operation(requestBody={"required": True, **content(STRING)})}}),
     {"body": "request-body-added-required"}),
    ("a body becomes needed", asking(STRING),
     document({"/x": {"post": operation(requestBody={"required": True, **content(STRING)})}}),
     {"body": "request-body-required"}),
    ("a body is removed", asking(STRING), document({"/x": {"post": operation()}}), {"body": "request-body-removed"}),
    ("a request's type is refused", asking(STRING),
     document({"/x": {"post": operation(requestBody=content(STRING, "text/csv"))}}), {"body": "request-media-type-removed"}),
    ("a request's type becomes a range", asking(STRING),
     document({"/x": {"post": operation(requestBody=content(STRING, "application/*"))}}), NOTHING),
    ("a status is added", _answers("200"), _answers("200", "202"), NOTHING),
    ("a status is removed", _answers("200", "201"), _answers("200"), {"201": "response-status-removed"}),
    ("an error's status is removed", _answers("200", "404"), _answers("200"), {"404": "response-error-status-removed"}),
    ("a status falls under a range", _answers("200", "404"), _answers("2XX", "default"), NOTHING),
    ("an answer's type is added", _answers("200", **content(STRING)),
     _answers("200", content={"application/json": {"schema": STRING}, "text/csv": {}}), NOTHING),
    ("an answer's type is removed", _answers("200", **content(STRING, "text/csv")), _answers("200", **content(STRING)),
     {"200 text/csv": "response-media-type-removed"}),
    ("an answer's type becomes a range", _answers("200", **content(STRING)), _answers("200", **content(STRING, "*/*")),
     {"200": "response-media-type-removed"}),
    ("a type says its charset", _answers("200", **content(STRING)),
     _answers("200", **content(STRING, "application/json; charset=utf-8")), NOTHING),
    ("what is answered is no longer said", _answers("200", **content(STRING)), _answers("200", content={"application/json": {}}),
     {"200": "response-anything"}),
    ("a header is removed", _answers("200", headers={"ETag": {"required": True, "schema": STRING}}), _answers("200"),
     {"200 header ETag": "response-header-removed"}),
    ("an optional header is removed", _answers("200", headers={"ETag": {"schema": STRING}}), _answers("200"),
     {"200 header ETag": "response-optional-header-removed"}),
    ("a header may be left out", _answers("200", headers={"ETag": {"required": True}}),
     _answers("200", headers={"etag": {}}), {"200 header ETag": "response-header-optional"}),
    ("a header is written otherwise", _answers("200", headers={"Tags": {"explode": True}}),
     _answers("200", headers={"Tags": {}}), {"200 header Tags": "response-header-style-changed"}),
    ("a header's type changes", _answers("200", headers={"Age": {"schema": INTEGER}}),
     _answers("200", headers={"Age": {"schema": STRING}}), {"200 header Age": "response-type-widened"}),
    ("callbacks change", document({"/x": {"get": operation(callbacks={"a": {}})}}), document({"/x": GET}),
     {"callbacks": "not-compared"}),
    ("credentials are asked for", document({"/x": GET}), _secured({"key": []}), {"security": "security-added"}),
    ("credentials may be shown", document({"/x": GET}), _secured({"key": []}, {}), NOTHING),
    ("credentials are no longer asked for", _secured({"key": []}), document({"/x": GET}), NOTHING),
    ("other credentials are asked for", _secured({"key": []}), _secured({"jwt": []}), {"security": "security-added"}),
    ("other credentials are taken too", _secured({"key": []}), _secured({"jwt": []}, {"key": []}), NOTHING),
    ("both are asked for", _secured({"key": []}), _secured({"key": [], "jwt": []}), {"security": "security-added"}),
    ("a scheme has another name", _secured({"key": []}),
     _secured({"k": []}, k={"type": "apiKey", "in": "header", "name": "x-key"}), NOTHING),
    ("a scope is asked for", _secured({"oauth": ["r"]}), _secured({"oauth": ["r", "w"]}), {"security": "security-scope-added"}),
    ("a scope is no longer asked for", _secured({"oauth": ["r", "w"]}), _secured({"oauth": ["r"]}), NOTHING),
]  # fmt: skip


def _ids(cases: list[Case]) -> list[str]:
    return [case[0] for case in cases]


def _expected(expected: dict[str, str], part: str) -> set[tuple[str, str]]:
    return {(rule, f"{part} {field}".strip()) for field, rule in expected.items()}


@pytest.mark.parametrize("case", ANSWERS, ids=_ids(ANSWERS))
def test_answers(case: Case) -> None:
    _, v1, v2, expected = case
    assert told(compared(answering(v1), answering(v2))) == _expected(expected, "200")


@pytest.mark.parametrize("case", REQUESTS, ids=_ids(REQUESTS))
def test_requests(case: Case) -> None:
    _, v1, v2, expected = case
    assert told(compared(asking(v1), asking(v2))) == _expected(expected, "body")


@pytest.mark.parametrize("case", OPERATIONS, ids=_ids(OPERATIONS))
def test_operations(case: Case) -> None:
    _, v1, v2, expected = case
    assert told(compared(v1, v2)) == _expected(expected, "")


def test_every_rule_has_a_case() -> None:
    found = {rule for cases in (ANSWERS, REQUESTS, OPERATIONS) for case in cases for rule in case[3].values()}
    assert found | {"exception-unused"} == set(RULES)


@pytest.mark.parametrize("case", [*ANSWERS, *REQUESTS], ids=_ids([*ANSWERS, *REQUESTS]))
def test_a_schema_behind_a_reference_is_the_same_schema(case: Case) -> None:
    _, v1, v2, _ = case
    there = {"$ref": "#/components/schemas/S"}
    for build in (answering, asking):
        assert told(compared(build(there, S=v1), build(there, S=v2))) == told(compared(build(v1), build(v2)))


# ── 3.0 ──


@pytest.mark.parametrize(
    ("v1", "v2", "rule"),
    [
        (STRING, {**STRING, "nullable": True}, "response-nullable"),
        ({**STRING, "nullable": True}, STRING, None),
        ({"allOf": [STRING]}, {"allOf": [STRING], "nullable": True}, "response-nullable"),
        ({"enum": ["a"], "type": "string", "nullable": True}, {"enum": ["a"], "type": "string"}, None),
        ({**NUMBER, "minimum": 0, "exclusiveMinimum": True}, {**NUMBER, "minimum": 0}, "response-bound-widened"),
    ],
)
def test_3_0_says_some_things_otherwise(v1: Json, v2: Json, rule: str | None) -> None:
    found = compared(answering(v1, "3.0.3"), answering(v2, "3.0.3"))
    assert {one.rule for one in found} == ({rule} if rule else set())


def test_3_0_and_3_1_are_compared_by_what_they_mean() -> None:
    old = answering({**STRING, "nullable": True}, "3.0.3")
    assert compared(old, answering({"type": ["string", "null"]})) == []
    assert compared(old, answering({"anyOf": [STRING, {"type": "null"}]})) == []


def test_what_stands_beside_a_reference_counts_in_3_1_alone() -> None:
    beside = {"$ref": "#/components/schemas/S", "maxLength": 5}
    without = {"$ref": "#/components/schemas/S"}
    assert compared(answering(beside, "3.0.3", S=STRING), answering(without, "3.0.3", S=STRING)) == []
    assert told(compared(answering(beside, S=STRING), answering(without, S=STRING))) == {
        ("response-bound-widened", "200")
    }


# ── whole ──


def test_recursive_schemas_end_and_are_told_of_once() -> None:
    def tree(value: Json) -> Json:
        return obj(("value",), value=value, left={"$ref": "#/components/schemas/T"}, more={
            "type": "array", "items": {"$ref": "#/components/schemas/T"}})  # fmt: skip

    there = {"$ref": "#/components/schemas/T"}
    found = compared(answering(there, T=tree(STRING)), answering(there, T=tree(INTEGER)))
    assert told(found) == {("response-type-widened", "200 /value")}


def test_alternatives_that_hold_themselves_end() -> None:
    there = {"$ref": "#/components/schemas/E"}
    schema = {"oneOf": [STRING, {"type": "array", "items": there}, {"allOf": [there, {"maxLength": 3}]}]}
    assert compared(answering(there, E=schema), answering(there, E=schema)) == []


def test_a_schema_that_is_all_of_itself_ends() -> None:
    there = {"$ref": "#/components/schemas/S"}
    assert compared(answering(there, S={"allOf": [there]}), answering(there, S={"allOf": [there]})) == []


def test_a_long_chain_of_references_is_no_deep_recursion() -> None:
    def chain(last: Json) -> Json:
        names = {f"S{n}": obj(next={"$ref": f"#/components/schemas/S{n + 1}"}) for n in range(3000)}
        return {**names, "S3000": last}

    there = {"$ref": "#/components/schemas/S0"}
    found = compared(answering(there, **chain(STRING)), answering(there, **chain(INTEGER)))
    assert [(one.rule, one.field) for one in found] == [("response-type-widened", "/next" * 3000)]


def test_versions_in_paths_are_the_same_path() -> None:
    v1, v2 = document({"/v1/trips/{id}": GET, "/health": GET}), document({"/v2/trips/{trip}": GET, "/health": GET})
    assert {one.rule for one in compared(v1, v2)} == {"path-removed"}
    assert compared(v1, v2, Prefixes("/v1", "/v2")) == []


@pytest.mark.parametrize(
    ("v1", "v2", "expected"),
    [
        ("/v1/trips/search", "/v2/trips/search", ("/v1", "/v2")),
        ("/trips", "/v2/trips", ("", "/v2")),
        ("/api/v1/a", "/api/v2/a", ("/api/v1", "/api/v2")),
        ("/old", "/new", ("/old", "/new")),
        ("/same", "/same", ("", "")),
    ],
)
def test_what_paths_begin_with_is_told_by_the_plans_paths(v1: str, v2: str, expected: tuple[str, str]) -> None:
    found = prefixes_of(v1, v2)
    assert (found.v1, found.v2) == expected
    assert found.in_v2(v1) == v2


def test_exceptions_take_out_what_they_name_and_are_told_of_where_they_name_nothing() -> None:
    findings = compared(answering(obj(("a", "b"), a=STRING, b=STRING)), answering(obj()))
    result = exempt(
        findings,
        [
            Exemption(rule="response-property-removed", at="GET /x 200 */a", reason="nobody reads it"),
            Exemption(rule="response-property-removed", at="GET /y*", reason="gone"),
            Exemption(rule="response-nullable", at="*", reason="other rule"),
        ],
    )
    assert [one.where for one in result.findings if one.severity is Severity.BREAKING] == ["GET /x 200 /b"]
    assert [one.said for one in result.findings if one.rule == "exception-unused"] == [
        "no response-property-removed is at GET /y* (kept because: gone)",
        "no response-nullable is at * (kept because: other rule)",
    ]
    assert [(one.where, exemption.reason) for one, exemption in result.exempted] == [
        ("GET /x 200 /a", "nobody reads it")
    ]
    assert result.breaks

"""The page for V1's clients: what changes, field by field, and that nothing in a document becomes markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.contract.documents import JSON, Json, answering, content, document, operation

from crossfade.app.cli import main
from crossfade.app.contract.page import as_html, as_markdown
from crossfade.core.contract.compare import Prefixes
from crossfade.core.contract.document import Documents
from crossfade.core.contract.migration import FIELDS_MAX, Migration, migration
from crossfade.core.plan import Brownout, Deprecation

NASTY = "<script>alert(1)</script> | `x` **b** [l](javascript:1)\n# h"


def moved(v1: Json, v2: Json, prefixes: Prefixes | None = None) -> Migration:
    return migration(Documents("v1", {"v1": v1}), Documents("v2", {"v2": v2}), prefixes or Prefixes())


def changes(v1: Any, v2: Any) -> dict[str, tuple[str, str]]:
    (move,) = moved(answering(v1), answering(v2)).moves
    return {one.field: (one.v1, one.v2) for one in move.changes}


def test_fields_are_told_one_by_one() -> None:
    flight = {"type": "object", "required": ["price"], "properties": {"price": {"type": "number"}, "gone": {}}}
    v1 = {"type": "object", "required": ["flights"], "properties": {"flights": {"type": "array", "items": flight}}}
    new = flight | {"properties": {"price": {"type": "string", "format": "decimal"}, "seats": {"type": "integer"}}}
    v2 = {"type": "object", "properties": {"flights": {"type": "array", "items": new}}}
    assert changes(v1, v2) == {
        "flights": ("array", "array, optional"),
        "flights[].price": ("number", "string (decimal)"),
        "flights[].gone": ("anything, optional", ""),
        "flights[].seats": ("", "integer, optional"),
    }


@pytest.mark.parametrize(
    ("v1", "v2", "told"),
    [
        ({"type": "string"}, {"type": ["string", "null"]}, ("string", "string or null")),
        ({"type": "string", "nullable": True}, {"type": "string"}, ("string or null", "string")),
        ({"enum": ["a"]}, {"enum": ["a", "b"]}, ("anything: one of a", "anything: one of a, b")),
        ({"type": "integer"}, {"type": "integer", "maximum": 5}, ("integer", "integer, at most 5")),
    ],
)
def test_what_a_value_is(v1: Any, v2: Any, told: tuple[str, str]) -> None:
    assert changes(v1, v2) == {"": told}


def test_the_same_is_not_told() -> None:
    assert changes({"type": "string", "description": "a"}, {"type": "string", "description": "b"}) == {}


def test_operations_are_found_under_their_new_paths() -> None:
    number, text = ({"type": kind} for kind in ("integer", "string"))
    v1 = document(
        {
            "/v1/trips/{id}": {"get": operation(parameters=[{"in": "query", "name": "n", "schema": number}])},
            "/v1/old": {"delete": operation()},
        }
    )
    v2 = document(
        {
            "/v2/trips/{trip}": {
                "get": operation(parameters=[{"in": "query", "name": "n", "required": True, "schema": number}]),
                "post": operation(requestBody=content(text)),
            }
        }
    )
    found = moved(v1, v2, Prefixes("/v1", "/v2"))
    assert [(move.method, move.v1, move.v2) for move in found.moves] == [
        ("GET", "/v1/trips/{id}", "/v2/trips/{trip}"),
        ("DELETE", "/v1/old", None),
    ]
    (change,) = found.moves[0].changes
    assert (change.part, change.v1, change.v2) == ("query n", "integer, optional", "integer")
    assert found.new == (("POST", "/v2/trips/{trip}"),)


@pytest.mark.parametrize(
    "given",
    [{"example": {"a": 1}}, {"examples": {"one": {"value": {"a": 1}}}}, {"schema": {"example": {"a": 1}}}],
)
def test_examples_are_the_documents(given: Json) -> None:
    answers = {"404": {"description": "no"}, "200": {"description": "ok", "content": {JSON: given}}}
    (move,) = moved(document({"/x": {"get": {"responses": answers}}}), answering({})).moves
    assert (move.v1_example, move.v2_example) == ({"a": 1}, None)


def test_schemas_that_refer_to_themselves_end() -> None:
    node: Json = {"type": "object", "properties": {f"p{n}": {"$ref": "#/components/schemas/N"} for n in range(4)}}
    node["allOf"] = [{"$ref": "#/components/schemas/N"}] * 3
    (move,) = moved(answering({"$ref": "#/components/schemas/N"}, N=node), answering({"type": "string"})).moves
    assert 1 < len(move.changes) <= FIELDS_MAX


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)


def test_nothing_in_a_document_becomes_markup() -> None:
    schema = {"type": "object", "properties": {NASTY: {"type": "string", "enum": [NASTY]}}}
    one = answering(schema)
    one["paths"]["/x"]["get"]["responses"]["200"]["content"][JSON]["example"] = {"a": f"```\n{NASTY}"}
    found = moved(one, answering({"type": "object"}))
    said = Deprecation(
        since=0, sunset=86_400, successor="/v2", brownouts=(Brownout(name="a", at=0, until=60, share=1000),)
    )
    page = as_html(found, NASTY, said)
    tags = Tags()
    tags.feed(page)
    assert not {"script", "a", "b", "img"} & tags.seen
    assert "From 1970-01-02 00:00 UTC on V1 may be gone." in page
    text = as_markdown(found, NASTY, said)
    assert "From 1970-01-01 00:00 UTC to 1970-01-01 00:01 UTC V1 is away for 10 % of its clients." in text
    (row,) = [line for line in text.splitlines() if "alert" in line and line.startswith("| `200`")]
    assert row.replace("\\|", "").count("|") == 5
    assert r"\<script\>" in row
    assert "\n````json\n" in text
    assert [line for line in text.splitlines() if line.startswith("# ")] == [text.splitlines()[0]]


def test_as_typed(tmp_path: Path) -> None:
    for name, kind in (("v1", "number"), ("v2", "string")):
        said = answering({"type": "object", "properties": {"price": {"type": kind}}})
        (tmp_path / f"{name}.json").write_text(json.dumps(said))
    places = [str(tmp_path / "v1.json"), str(tmp_path / "v2.json")]
    done = CliRunner().invoke(main, ["contract", *places, "-o", "markdown"])
    assert (done.exit_code, "| `200` | `price` | number, optional | string, optional |" in done.output) == (0, True)
    done = CliRunner().invoke(main, ["contract", *places, "-o", "html"])
    assert (done.exit_code, done.output.startswith("<!doctype html>")) == (0, True)
    assert CliRunner().invoke(main, ["contract", *places]).exit_code == 1

"""Two answers, compared: what is told of each way in which they can differ."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.mirror.compare import DEPTH_MAX, Answer, Kind, answer_of, differences, fields_of, values_at
from crossfade.core.mirror.paths import covers, is_path
from crossfade.core.mirror.rules import Mirror
from crossfade.core.mirror.units import unit_of

JSON = {"content-type": "application/json"}


def said(body: Any, status: int = 200) -> Answer:
    return answer_of(status, JSON, json.dumps(body).encode())


def told(v1: Any, v2: Any, **rules: Any) -> set[tuple[str, str]]:
    return {(one.path, one.kind.value) for one in differences(said(v1), said(v2), Mirror(**rules))}


HOTELS = [{"name": "A", "usd": 70}, {"name": "B", "usd": 80}, {"name": "C", "usd": 90}]


@pytest.mark.parametrize(
    ("v1", "v2", "expected"),
    [
        ({"a": 1}, {"a": 1.0}, set()),
        ({"a": 0.3}, {"a": 0.30000000000000004}, set()),
        ({"a": 1}, {"a": 2}, {("a", "different")}),
        ({"a": 1}, {"a": True}, {("a", "type changed")}),
        ({"a": 76}, {"a": "76"}, {("a", "type changed")}),
        ({"a": None}, {"a": 0}, {("a", "type changed")}),
        ({"a": 1}, {"a": 1, "b": 2}, {("b", "added")}),
        ({"a": 1, "b": 2}, {"a": 1}, {("b", "missing")}),
        ({"a": {"b": [1]}}, {"a": {"b": {}}}, {("a.b", "type changed")}),
        ({"h": HOTELS}, {"h": []}, {("h[]", "missing item")}),
        ({"h": HOTELS}, {"h": HOTELS[1:]}, {("h[]", "missing item")}),
        ({"h": HOTELS[:2]}, {"h": HOTELS}, {("h[]", "extra item")}),
        ({"h": HOTELS}, {"h": HOTELS[::-1]}, {("h", "order")}),
        ({"h": HOTELS}, {"h": [HOTELS[0], {"name": "B", "usd": 81}, HOTELS[2]]}, {("h[].usd", "different")}),
        ([1, 2], [1, 3], {("[]", "different")}),
        ([True], [1], {("[]", "type changed")}),
        ({"a": 1}, [1], {("body", "type changed")}),
        ({"a.b": 1, "": 2}, {"a.b": 2, "": 2}, {('["a.b"]', "different")}),
        ({"17": 1, "18": 1}, {"17": 1, "18": 2}, {("*", "different")}),
    ],
)
def test_what_differs_is_told_at_its_field(v1: Any, v2: Any, expected: set[tuple[str, str]]) -> None:
    assert expected == told(v1, v2)


def test_a_list_without_order_is_matched_by_its_key_or_as_a_whole() -> None:
    turned = {"h": [{"name": "C", "usd": 90}, {"name": "A", "usd": 71}, {"name": "B", "usd": 80}]}
    assert {("h[].usd", "different")} == told({"h": HOTELS}, turned, unordered={"h": "name"})
    assert {("h[].name", "different"), ("h[].usd", "different")} >= told({"h": HOTELS}, turned, unordered={"h": "any"})
    assert set() == told({"h": HOTELS}, {"h": HOTELS[::-1]}, unordered={"h": "any"})
    twice = {"h": [*HOTELS, HOTELS[0]]}
    assert {("h[]", "missing item")} == told(twice, {"h": HOTELS}, unordered={"h": "name"})


def test_a_renamed_field_names_its_new_name() -> None:
    (missing, added) = differences(said({"h": [{"usd": 7}]}), said({"h": [{"price": 7}]}), Mirror())
    assert (missing.path, missing.renamed, added.kind) == ("h[].usd", "h[].price", Kind.ADDED)


def test_another_status_is_told_alone() -> None:
    found = differences(said({"a": 1}), said({"title": "no"}, 500), Mirror())
    assert [(one.path, one.v1, one.v2) for one in found] == [("status code", 200, 500)]


def test_an_answer_that_is_no_json_any_more_differs_in_type() -> None:
    for body in (b'{"a": NaN}', b'{"a": 1', b"<html>"):
        broken = answer_of(200, JSON, body)
        assert [one.path for one in differences(said({"a": 1}), broken, Mirror())] == ["body"]
    deep = answer_of(200, JSON, b"[" * (DEPTH_MAX + 2) + b"]" * (DEPTH_MAX + 2))
    assert "nested" in deep.trouble
    assert not answer_of(200, JSON, b"[" * DEPTH_MAX + b"]" * DEPTH_MAX).trouble


def test_only_declared_headers_are_compared_and_what_is_ignored_is_not() -> None:
    one = Answer(status=200, headers={"content-type": "text/plain", "date": "x", "etag": "1"}, body=b"a")
    two = Answer(status=200, headers={"content-type": "text/html", "date": "y"}, body=b"b")
    rules = Mirror(headers=("content-type", "etag"))
    expected = {("header content-type", "different"), ("header etag", "missing"), ("body", "different")}
    assert expected == {(d.path, d.kind.value) for d in differences(one, two, rules)}
    assert differences(one, two, Mirror(headers=("content-type",), ignore=("header content-type", "body"))) == []
    assert set() == told({"a": {"b": 1}}, {"a": {}}, ignore=("a",))


def test_fields_and_values_of_an_answer() -> None:
    answer = said({"a": {"b": [1, {"c": None}]}})
    expected = {"status code", "header content-type", "a", "a.b", "a.b[]", "a.b[].c"}
    assert expected == fields_of(answer, Mirror())
    assert values_at({"t": {"min": 1, "max": 2.5}, "u": 3}, "t") == [2.5, 1]


def test_paths() -> None:
    assert covers("a.b", "a.b[].c")
    assert covers("a", "a")
    assert not covers("a", "ab")
    for good in ("a", "a.b[].c", "[]", "[].a", 'a["x y"]', "a.*", "_id.$ref"):
        assert is_path(good), good
    for bad in ("", "a..b", ".a", "a b", "a[0]", "a[", "status code", "header x"):
        assert not is_path(bad), bad


@pytest.mark.parametrize(
    ("right", "said_", "unit"),
    [
        (15.0, 59.0, "Fahrenheit for Celsius"),
        (-3.2, 26.2, "Fahrenheit for Celsius"),
        (12, 1200, "a hundredfold, such as cents"),
        (36.0, 10.0, "m/s for km/h"),
        (15.0, 15.2, ""),
        (100, 137, ""),
    ],
)
def test_numbers_that_differ_as_units_do(right: float, said_: float, unit: str) -> None:
    assert unit == unit_of(right, said_)


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c.d"]), inner, max_size=3),
    max_leaves=8,
)


@given(_values, _values)
def test_nothing_is_told_exactly_where_nothing_differs(v1: Any, v2: Any) -> None:
    """The oracle is the text of both with sorted keys."""
    alike = json.dumps(v1, sort_keys=True) == json.dumps(v2, sort_keys=True)
    assert alike == (told(v1, v2) == set())


@given(_values)
def test_every_difference_is_at_a_field_of_one_of_the_two(v1: Any) -> None:
    rules = Mirror()
    found = differences(said({"x": v1}), said({"x": [v1], "y": v1}), rules)
    known = fields_of(said({"x": v1}), rules) | fields_of(said({"x": [v1], "y": v1}), rules)
    assert {one.path for one in found} <= known

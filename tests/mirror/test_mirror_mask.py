"""Sensitive values are in no report."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mirror.test_mirror_compare import said

from crossfade.core.mirror.mask import MASKED, Masks
from crossfade.core.mirror.rules import Mirror
from crossfade.core.mirror.tally import Tally

SECRET = "Zq9-secret-Value"
NAMES = (
    "email",
    "user_email",
    "phoneNumber",
    "access_token",
    "Password",
    "Authorization",
    "Set-Cookie",
    "API-Key",
    "kennwort",
)


def examples(question: str, v1: Any, v2: Any) -> str:
    tally = Tally(Mirror(mask=("kenn-wort",), headers=("set-cookie",)))
    tally.take(question, said(v1), said(v1), said(v2))
    return repr([sums.examples for sums in tally.fields.values()])


@given(st.sampled_from(NAMES), st.sampled_from(["at", "above", "beside", "query"]))
def test_a_sensitive_value_is_nowhere(name: str, where: str) -> None:
    question, v1, v2 = "/trips", {"a": {name: SECRET}}, {"a": {name: SECRET + "2"}}
    match where:
        case "above":
            v1 = {name: {"deep": [{"x": SECRET}]}}  # type: ignore[dict-item]
            v2 = {name: {"deep": [{"x": 1}]}}  # type: ignore[dict-item]
        case "beside":
            v2 = {"a": [{name: SECRET}]}  # type: ignore[dict-item]
        case "query":
            question, v2 = f"/trips?x=1&{name}={SECRET}&y=2", {}
    text = examples(question, v1, v2)
    assert SECRET not in text
    assert MASKED in text


@pytest.mark.parametrize(
    "value",
    [
        "anna@example.org",
        "from anna.b+c@mail.example.org.",
        "Bearer abcdefghijklmnop.qrs",
        "eyJhbGciOiJI.eyJzdWIi.c2ln",
        ["x", "a@b.cd"],
    ],
)
def test_values_that_look_sensitive_are_masked_whatever_their_name(value: Any) -> None:
    shown = Masks().shown("note", value)
    assert MASKED in shown
    assert not any(part in shown for part in ("anna", "abcdefgh", "eyJ", "a@b"))


def test_what_is_shown_is_one_short_line() -> None:
    assert Masks().shown("x", "a\nb").replace("\\n", " ") == '"a b"'
    assert len(Masks().shown("x", "y" * 10_000)) == 80
    assert Masks().shown("body", b"<p>Anna K.</") == "12 bytes"
    assert Masks().shown("hotels[].night_usd", 76) == "76"


def test_an_address_in_a_query_is_masked_also_where_it_is_written_in_percents() -> None:
    assert f"/t?q={MASKED}&n=1" == Masks().target("/t?q=a%40b.org&n=1")
    assert json.dumps(MASKED) == Masks().shown("x", "a@b.org")

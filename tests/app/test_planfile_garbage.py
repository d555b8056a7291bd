"""Whatever is in the file: a Plan, or a PlanError whose problems have places. Never another exception."""

from __future__ import annotations

import random  # noqa: TID251 - a seeded shuffle in a test
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossfade.app.planfile import json_schema, load_plan, summarise
from crossfade.core.plan import Plan
from crossfade.errors import PlanError, Problem

calm = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _holds(desk: Any, text: str | bytes) -> None:
    path = desk.folder / "plan.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    plan, problems = _read(path)
    if plan is None:
        assert problems
        assert all(problem.line >= 1 and problem.column >= 1 and problem.message for problem in problems)
        assert "\n".join(map(str, problems)).encode()
    else:
        assert re.fullmatch("[0-9a-f]{64}", plan.digest)
        assert summarise(plan)


def _read(path: Path) -> tuple[Plan | None, tuple[Problem, ...]]:
    try:
        return load_plan(path), ()
    except PlanError as error:
        return None, error.problems


@calm
@given(data=st.binary(max_size=200))
def test_any_bytes(desk: Any, data: bytes) -> None:
    _holds(desk, data)


@calm
@given(text=st.text(alphabet="abc01:-%{}[],#&*!|>'\"\\?@`~<=. \n\t", max_size=200))
def test_anything_that_looks_like_yaml(desk: Any, text: str) -> None:
    _holds(desk, text)


PIECES = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "-",
    "\n",
    " ",
    "\t",
    "5%",
    "1w",
    "null",
    "~",
    "<<",
    "&a",
    "*a",
    "!!str",
    "%",
    ">",
    "'",
    '"',
    "\0",
    "é",
    "\\",
    "#",
    "10:30",
    "no",
    "0x1",
    "999999999999999999999",
    "\ud800",
    "\x85",
    "\u2028",
    "NaN",
    "inf",
    "-1",
    "1e999",
]


@calm
@given(data=st.data())
def test_a_plan_with_something_changed(desk: Any, plan_text: str, data: st.DataObject) -> None:
    text = plan_text
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.sampled_from([0, 0, 1, 2, 5, 20]))
        piece = data.draw(st.sampled_from(PIECES))
        text = text[:start] + piece + text[start + length :]
    _holds(desk, text)


@calm
@given(data=st.data())
def test_a_plan_with_values_exchanged(desk: Any, plan_text: str, data: st.DataObject) -> None:
    """Right YAML with wrong meaning reaches deeper than broken YAML does."""
    words = list(re.finditer(r"[^\s{}\[\],:\"]+", plan_text))
    text = plan_text
    for _ in range(data.draw(st.integers(1, 3))):
        target = data.draw(st.sampled_from(words))
        other = data.draw(
            st.sampled_from([word.group() for word in words] + ["{}", "[]", "''", "0", "-1", "100%", "0%"])
        )
        text = text[: target.start()] + other + text[target.end() :] if target.end() <= len(text) else text
    _holds(desk, text)


def test_lines_in_any_order(desk: Any, plan_text: str) -> None:
    lines = plan_text.splitlines(keepends=True)
    for seed in range(100):
        random.Random(seed).shuffle(lines)
        _holds(desk, "".join(lines))


@pytest.mark.parametrize("name", ["trips-v2", "trips-v2-demo"])
def test_shipped_plans_satisfy_the_schema(name: str) -> None:
    text = (Path(__file__).parents[2] / "plans" / f"{name}.yaml").read_text()
    jsonschema.Draft202012Validator.check_schema(json_schema())
    jsonschema.validate(yaml.safe_load(text), json_schema())

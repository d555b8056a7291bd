"""The `clients` section: who is believed, and what its mistakes are told as."""

from __future__ import annotations

import jsonschema
import pytest
import yaml
from tests.app.conftest import PLAN, Desk

from crossfade.app.planfile import json_schema
from crossfade.core.plan import ClientsRule


@pytest.mark.parametrize(
    ("section", "rule"),
    [
        ("{}", ClientsRule()),
        ("{ids: claimed, else: user agent}", ClientsRule(by_agent=True)),
        ("{ids: authenticated, believed from: anywhere}", ClientsRule(authenticated=True)),
        (
            "{ids: authenticated, believed from: [10.1.2.3/8, '::1']}",
            ClientsRule(authenticated=True, believed_from=("10.0.0.0/8", "::1/128")),
        ),
    ],
)
def test_the_section_says_who_is_believed(desk: Desk, section: str, rule: ClientsRule) -> None:
    text = f"{PLAN}clients: {section}\n"
    plan = desk.load(text)
    assert plan.clients == rule
    jsonschema.validate(yaml.safe_load(text), json_schema())
    assert plan.digest == desk.load(PLAN).digest  # it may be added later


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("{ids: authenticated}", "authenticated where? write `believed from: [10.0.0.0/8]`"),
        ("{ids: yes}", "'yes' is neither; write authenticated, or claimed"),
        ("{else: cookie}", "'cookie' names nobody; write `user agent`"),
        ("{ids: authenticated, believed from: [gateway]}", "'gateway' is no address or network"),
        ("{ids: authenticated, believed from: []}", "is an empty list"),
        ("{ids: authenticated, believed from: nowhere}", "write a list: [10.0.0.0/8]"),
        ("{id: claimed}", "ids"),
    ],
)
def test_mistakes_are_told(desk: Desk, section: str, told: str) -> None:
    (problem,) = desk.problems(f"{PLAN}clients: {section}\n")
    assert told in problem.message
    assert problem.line == len(PLAN.splitlines()) + 1


def test_something_must_name_the_clients(desk: Desk) -> None:
    nameless = PLAN.replace("  client: header X-Client-Id\n", "")
    (problem,) = desk.problems(nameless + "clients: {}\n")
    assert "nothing tells who calls" in problem.message
    assert desk.load(nameless + "clients: {else: user agent}\n").clients == ClientsRule(by_agent=True)

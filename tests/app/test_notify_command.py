"""`crossfade notify test`: a notice to each place, and what came back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.adapters.receiver import receiving_beside
from tests.app.conftest import PLAN, Desk

from crossfade.app.cli import main


def _test(folder: Path, rules: str, *options: str) -> Result:
    (folder / "plan.yaml").write_text(f"{PLAN}notify:\n{rules}")
    return CliRunner().invoke(main, ["notify", "test", str(folder / "plan.yaml"), *options])


def test_what_came_back_is_told_for_each_rule(desk: Desk) -> None:
    with receiving_beside(200) as good, receiving_beside(403) as bad:
        rules = "".join(
            f"  - {{name: {name}, on: [rollback], webhook: '{one.url}'}}\n" for name, one in (("a", good), ("b", bad))
        )
        done = _test(desk.folder, rules, "--allow-private-webhooks", "127.0.0.0/8")
        one = _test(desk.folder, rules, "--allow-private-webhooks", "127.0.0.1", "--rule", "a", "-o", "json")
    assert "✔ a: webhook http://127.0.0.1" in done.stdout
    assert "answered 200 OK" in done.stdout
    assert "✖ b: webhook http://127.0.0.1" in done.stdout
    assert (done.exit_code, "1 of 2 test notices were not taken" in done.stderr) == (1, True)
    assert (one.exit_code, [tried["taken"] for tried in json.loads(one.stdout)]) == (0, [True])
    assert (len(good.came), len(bad.came)) == (2, 1)
    assert good.events[0]["data"]["sentence"] == "a test: notices of trips by the rule a arrive here"
    assert good.events[0]["id"] != good.events[1]["id"]


def test_a_private_address_is_refused_with_what_to_do(desk: Desk) -> None:
    done = _test(desk.folder, "  {on: [rollback], webhook: 'http://127.0.0.1:9/'}\n")
    assert (done.exit_code, "--allow-private-webhooks" in done.stdout) == (1, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rule", "x"], "there is no rule 'x'"),
        (["--allow-private-webhooks", "10.0.0.1/8"], "neither a host, an address nor a network"),
    ],
)
def test_mistakes_are_told(desk: Desk, options: list[str], message: str) -> None:
    done = _test(desk.folder, "  {on: [rollback], webhook: {env: CROSSFADE_NOWHERE}}\n", *options)
    assert (done.exit_code, message in done.stderr) == (2, True)


def test_a_plan_that_tells_nobody(desk: Desk) -> None:
    desk.load(PLAN)
    done = CliRunner().invoke(main, ["notify", "test", str(desk.folder / "plan.yaml")])
    assert (done.exit_code, "add a `notify:` section" in done.stderr) == (2, True)


def test_a_variable_that_is_not_set_is_named(desk: Desk) -> None:
    done = _test(desk.folder, "  {on: [rollback], webhook: {env: CROSSFADE_NOWHERE}}\n")
    assert (done.exit_code, "the variable CROSSFADE_NOWHERE is not set" in done.stdout) == (1, True)

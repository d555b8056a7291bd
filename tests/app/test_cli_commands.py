"""The command line: what is promised exists, errors are one message with the documented exit code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from crossfade import errors
from crossfade.app.cli import main
from crossfade.app.planfile import load_plan
from crossfade.core.split import bucket_of
from crossfade.errors import CrossfadeError

ROOT = Path(__file__).parents[2]
PLAN = ROOT / "plans" / "trips-v2.yaml"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_check_reads_the_plan_back() -> None:
    done = run("check", str(PLAN))
    assert done.exit_code == 0
    assert "7 phases" in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) <= 80


def test_check_as_json_names_every_phase() -> None:
    done = run("check", str(PLAN), "-o", "json")
    assert [p["name"] for p in json.loads(done.stdout)["phases"]][0::6] == ["internal", "full"]


def test_a_mistake_is_told_with_its_place_and_exit_code_2(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "plans" / "cohorts", tmp_path / "cohorts")
    plan = tmp_path / "p.yaml"
    plan.write_text(PLAN.read_text().replace("soak: 2w", "sok: 2w"))
    done = run("check", str(plan))
    assert (done.exit_code, done.stdout) == (2, "")
    assert re.search(r"p\.yaml:\d+:\d+: phases\[2\]\.sok: unknown key; did you mean 'soak'\?", done.stderr)


def test_the_schema_is_json() -> None:
    assert json.loads(run("schema").stdout)["$schema"].startswith("https://json-schema.org/")


def test_whois_answers_for_every_phase_of_a_plan() -> None:
    answers = json.loads(run("whois", "u0042", "--plan", str(PLAN), "-o", "json").stdout)
    assert [a["phase"] for a in answers][0::6] == ["internal", "full"]
    assert (answers[0]["version"], answers[-1]["version"]) == ("v1", "v2")
    only = run("whois", "u0042", "--plan", str(PLAN), "--phase", "full")
    assert only.stdout.startswith("full ")
    assert run("whois", "u0042", "--plan", str(PLAN), "--phase", "nowhere").exit_code == 2


VERBS = ["status", "why", "events", "promote", "pause", "resume", "approve", "rollback", "retry", "abort"]


@pytest.mark.parametrize("verb", VERBS)
def test_without_a_rollout_a_verb_says_how_to_start_one(verb: str, tmp_path: Path) -> None:
    done = run(verb, "--state", str(tmp_path))
    assert (done.exit_code, done.stdout) == (2, "")
    assert "crossfade serve PLAN" in done.stderr


@pytest.mark.parametrize("verb", VERBS)
def test_without_a_controller_a_verb_ends_with_4(verb: str, tmp_path: Path) -> None:
    (tmp_path / "trips").mkdir()
    done = run(verb, "--state", str(tmp_path))
    assert (done.exit_code, done.stdout) == (4, "")
    assert "no controller has served trips" in done.stderr
    if verb == "rollback":
        assert "crossfade rollback --direct" in done.stderr


def test_of_several_rollouts_one_must_be_named(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert "one, two" in run("status", "--state", str(tmp_path)).stderr
    assert run("status", "three", "--state", str(tmp_path)).exit_code == 2


def test_a_direct_rollback_without_a_proxy_says_that_nothing_is_confirmed(tmp_path: Path) -> None:
    (tmp_path / "trips" / "proxy").mkdir(parents=True)
    done = run("rollback", "--direct", "--state", str(tmp_path))
    assert done.exit_code == 1
    assert "NOT CONFIRMED" in done.stdout


@pytest.mark.parametrize(
    "options", [("--tick", "nan"), ("--tick", "inf"), ("--tick", "0"), ("--lateness", "nan"), ("--speed", "inf")]
)
def test_serve_refuses_numbers_that_measure_nothing(options: tuple[str, str], tmp_path: Path) -> None:
    done = run("serve", str(PLAN), "--state", str(tmp_path / "state"), *options)
    assert (done.exit_code, options[0] in done.stderr) == (2, True)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("path", ["", "/nowhere/plan.yaml", "/dev/null", "/"])
def test_what_is_no_plan_is_told_in_one_line(path: str) -> None:
    done = run("check", path)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_all_planted_mistakes_are_told_at_once_each_at_its_line(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "plans" / "cohorts", tmp_path / "cohorts")
    text = PLAN.read_text()
    for right, wrong in (("soak: 2w", "sok: 2w"), ("split: 50%", "split: 5%"), ("/v2/trips/search", "v2 trips")):
        assert right in text
        text = text.replace(right, wrong, 1)
    plan = tmp_path / "p.yaml"
    plan.write_text(text)
    done = run("check", str(plan))
    assert (done.exit_code, done.stdout) == (2, "")
    told = {int(number) for number in re.findall(r"^\S+p\.yaml:(\d+):\d+: ", done.stderr, re.MULTILINE)}
    wanted = {
        number
        for number, line in enumerate(text.splitlines(), 1)
        if any(wrong in line for wrong in ("sok: 2w", "split: 5%, soak: 1w, margin: 1.5", "v2 trips"))
    }
    assert wanted <= told


@pytest.mark.parametrize("user", [b"\xff\xfe", "Grüße".encode(), b"a\nb", b"x" * 10_000, b""])
def test_whois_hashes_the_bytes_that_the_proxy_hashes(user: bytes) -> None:
    answers = json.loads(run("whois", os.fsdecode(user), "--plan", str(PLAN), "-o", "json").stdout)
    assert {a["bucket"] for a in answers} == {bucket_of(user, load_plan(PLAN).assignment.salt)}


def _all_commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _all_commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("command", list(_all_commands(main)), ids=" ".join)
def test_every_command_explains_itself(command: tuple[str, ...]) -> None:
    done = run(*command, "--help")
    assert done.exit_code == 0
    assert done.stdout.startswith("Usage: ")


@pytest.mark.parametrize(
    "command",
    sorted(
        command
        for command in _all_commands(main)
        if command not in {("schema",), ("serve",), ("demo",), ("completion",), ("watch",)} and command[0] != "export"
    ),
)
def test_every_command_that_looks_or_acts_speaks_json(command: tuple[str, ...]) -> None:
    assert re.search(r"\[text\|json[|\]]", run(*command, "--help").stdout)


def test_the_page_and_the_errors_name_the_same_exit_codes() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d) \|", page, re.MULTILINE)}
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CrossfadeError)]
    assert {kind.exit_code for kind in kinds} | {0} == documented


def test_a_missing_proxy_can_not_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "trips" / "proxy").mkdir(parents=True)
    done = run("proxy", "stop", "--state", str(tmp_path))
    assert (done.exit_code, done.stdout) == (4, "")
    assert "no proxy runs for trips" in done.stderr


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"rollout": 5}', "\x00"])
def test_a_damaged_control_file_is_one_message(text: str, tmp_path: Path) -> None:
    (tmp_path / "trips").mkdir()
    (tmp_path / "trips" / "control.json").write_text(text)
    done = run("status", "--state", str(tmp_path))
    assert (done.exit_code, done.stdout) == (4, "")
    assert "control.json can't be read" in done.stderr


def test_the_page_and_the_program_name_the_same_commands() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    table = page[: page.index("## Exit codes")]
    documented = set(re.findall(r"^\| `([a-z]+)", table, re.MULTILINE)) | set(re.findall(r", `([a-z]+)`", table))
    assert set(main.commands) == documented - {"o"}


def test_every_option_of_serve_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "cli.md").read_text()
    options = {name for parameter in main.commands["serve"].params for name in parameter.opts if name.startswith("--")}
    assert not {name for name in options if f"`{name}`" not in page}


def test_help_loads_nothing_heavy() -> None:
    """Help and mistyped commands must be there at once."""
    code = (
        "import sys\nfrom crossfade.app.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted(set(sys.modules) & set('numpy aiohttp fastapi sqlalchemy pydantic lark uvicorn rich'.split())))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

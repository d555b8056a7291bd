"""The command line: what is promised exists, errors are one message with the documented exit code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from crossfade.app.cli import main

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

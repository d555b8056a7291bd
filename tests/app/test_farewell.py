"""What is kept of V1 before it goes, and that a program that fails leaves everything as it was."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossfade.adapters.system import SystemClock
from crossfade.app import farewell
from crossfade.app.client import Client, Target
from crossfade.errors import CrossfadeError, UsageError

STATUS = {"rollout": "trips", "revision": 9, "state": "completed"}
EVENTS = [
    {"revision": 1, "kind": "RehearsalRecorded", "at": 1.0, "data": {"versions": {"v1": "aa", "v2": "bb"}}},
    {"revision": 2, "kind": "Paused", "at": 2.0, "data": {"reason": "ä\n"}},
]


class Answering(Client):
    """A controller's answers."""

    def __init__(self) -> None:
        super().__init__(Target(url="http://127.0.0.1:1", token=""))

    def get(self, path: str) -> Any:
        return STATUS if path == "" else {"asked": path}

    def pages(self, path: str, limit: int) -> Iterator[Any]:
        del path, limit
        yield from EVENTS


def written(folder: Path, plan: Path | None = None) -> Path:
    return farewell.write_manifest(Answering(), folder, plan=plan, build="trips@7", made_at=1_811_844_000.0)


def test_the_manifest_names_every_file_by_its_digest(tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text("rollout: trips  # ä\n", encoding="utf-8")
    manifest = written(tmp_path / "kept", plan)
    told = json.loads(manifest.read_text())
    assert told["v1"] == {"build": "trips@7", "openapi_sha256": "aa"}
    assert (told["rollout"], told["revision"], told["made_at"]) == ("trips", 9, "2027-06-01T10:00:00Z")
    assert set(told["files"]) == {"plan.json", "plan.yaml", "events.jsonl", "report.json"}
    for name, entry in told["files"].items():
        data = (manifest.parent / name).read_bytes()
        assert entry == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    assert [json.loads(line) for line in (manifest.parent / "events.jsonl").read_text().splitlines()] == EVENTS
    assert farewell.digest_of(manifest) == hashlib.sha256(manifest.read_bytes()).hexdigest()


def test_an_attempt_that_is_cut_short_leaves_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one of an attempt before either: it would name files that were replaced."""
    written(tmp_path)

    def failing(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(farewell, "write_atomically", failing)
    with pytest.raises(UsageError, match="No space left"):
        written(tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_a_plan_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.yaml"):
        written(tmp_path, tmp_path / "gone.yaml")


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def test_the_program_gets_its_arguments_as_they_are_and_no_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSFADE_TOKEN", "hush")
    out = tmp_path / "out"
    text = f"import os, sys; open({str(out)!r}, 'w').write(repr((sys.argv[1:], 'CROSSFADE_TOKEN' in os.environ)))"
    farewell.run_hook((*program(text), "a b; $(rm x)"), tmp_path / "m.json", 20.0)
    assert out.read_text() == repr((["a b; $(rm x)", str(tmp_path / "m.json")], False))


@pytest.mark.parametrize(
    ("text", "told"),
    [("raise SystemExit(3)", "ended with 3"), ("import os; os.kill(os.getpid(), 15)", "was ended by SIGTERM")],
)
def test_a_program_that_fails_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(CrossfadeError, match=f"{told}; nothing was retired"):
        farewell.run_hook(program(text), tmp_path / "m.json", 20.0)


def test_a_program_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    noted = tmp_path / "child"
    text = (
        "import subprocess, sys, time; "
        f"open({str(noted)!r}, 'w').write(str(subprocess.Popen(['sleep', '600']).pid)); time.sleep(600)"
    )
    with pytest.raises(CrossfadeError, match="took longer than"):
        farewell.run_hook(program(text), tmp_path / "m.json", 1.0)
    text = noted.read_text() if noted.exists() else ""  # a busy machine may not have come so far
    stat = Path(f"/proc/{text}/stat")
    deadline = SystemClock().monotonic() + 20
    while text and stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX":
        assert SystemClock().monotonic() < deadline


def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"can't be run.*nothing was retired"):
        farewell.run_hook(("/no/such/program",), tmp_path / "m.json", 1.0)

"""Completion, by a real bash: rollouts of the state folder, phases and metrics of the plan, files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.app.serving import PLAN

from crossfade.app.control import note_plan

ROOT = Path(__file__).parents[2]
_SCRIPT = """
eval "$(crossfade completion bash)"
COMP_WORDS=({words} "{last}")
COMP_CWORD={at}
_crossfade_completion crossfade
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for name in ("trips-v2", "hotels-v2"):
        (tmp_path / "state" / name).mkdir(parents=True)
        note_plan(tmp_path / "state" / name, ROOT / "plans" / "trips-v2.yaml")
    return tmp_path / "state"


def completed(state: Path, *words: str) -> set[str]:
    """Return what bash offers for the last word."""
    bash = shutil.which("bash")
    assert bash is not None
    script = _SCRIPT.format(words=" ".join(("crossfade", *words[:-1])), last=words[-1], at=len(words))
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "CROSSFADE_STATE": str(state)},
        cwd=state,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.slow
def test_bash_completes_rollouts_phases_and_metrics(state: Path) -> None:
    assert completed(state, "status", "") == {"trips-v2", "hotels-v2"}
    assert completed(state, "watch", "tr") == {"trips-v2"}
    assert completed(state, "retry", "trips-v2", "--phase", "") == {phase.name for phase in PLAN.phases}
    assert completed(state, "metrics", "trips-v2", "--metric", "lat") == {"latency_p95", "latency_mean"}
    assert completed(state, "wai") == {"wait"}


@pytest.mark.slow
def test_what_is_no_plan_completes_nothing(state: Path) -> None:
    (state / "broken.yaml").write_text("phases: [1, {name: [}")
    note_plan(state / "trips-v2", state / "broken.yaml")
    assert completed(state, "retry", "trips-v2", "--phase", "") == set()
    assert completed(state, "metrics", "nowhere", "--metric", "") == set()

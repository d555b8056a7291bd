"""docs/reference/plan.md: every block loads, every sentence is one, every key is explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crossfade.app.planfile import load_plan, sentences
from crossfade.app.planfile.build import (
    API_KEYS,
    ASSIGNMENT_KEYS,
    CONFIDENCE_KEYS,
    SOURCE_KEYS,
    SOURCES_KEYS,
    TOP_KEYS,
    UNATTENDED_KEYS,
)
from crossfade.app.planfile.clients import CLIENTS_KEYS
from crossfade.app.planfile.contract import CONTRACT_KEYS, EXEMPTION_KEYS
from crossfade.app.planfile.deprecation import DEPRECATION_KEYS
from crossfade.app.planfile.events import EVENT_KEYS
from crossfade.app.planfile.load import LOAD_KEYS, SCENARIO_KEYS
from crossfade.app.planfile.metrics import METRIC_KEYS, QUERY_KEYS
from crossfade.app.planfile.mirror import MIRROR_KEYS, REFERENCE_KEYS
from crossfade.app.planfile.notices import KEPT_KEYS, RULE_KEYS
from crossfade.app.planfile.owners import OWNER_NOTICES_KEYS, STEPS
from crossfade.app.planfile.phases import PHASE_KEYS
from crossfade.app.planfile.rehearsal import BREAKER_KEYS, REHEARSAL_KEYS
from crossfade.core.plan import GateKind, NoticeKind, Plan

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "plan.md").read_text()
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def _sections(block: str) -> dict[str, str]:
    """Return the text of each top-level key, by key."""
    return {part.split(":")[0]: part for part in re.split(r"^(?=[a-z])", block, flags=re.MULTILINE) if part}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "internal.txt").write_text("staff-1\n")
    (tmp_path / "beta.txt").write_text("".join(f"b{n}\n" for n in range(500)))
    (tmp_path / "override-secret").write_text("0123456789abcdef\n")
    (tmp_path / "prometheus-token").write_text("abc\n")
    (tmp_path / "webhook-url").write_text("https://example.org/notices\n")
    (tmp_path / "webhook-secret").write_text(f"whsec_{'a' * 32}\n")
    (tmp_path / "announced.txt").write_text("Subject: V1 goes\n\n$clients\n")
    return tmp_path


def _load(folder: Path, block: str) -> Plan:
    """Load a block: the first is a whole plan, the others replace sections of it."""
    path = folder / "plan.yaml"
    path.write_text("".join({**_sections(BLOCKS[0]), **_sections(block)}.values()))
    return load_plan(path)


@pytest.mark.parametrize("block", BLOCKS)
def test_every_block_loads(folder: Path, block: str) -> None:
    assert _load(folder, block).name == "trips"


def test_the_numbers_in_the_text(folder: Path) -> None:
    assert _load(folder, BLOCKS[0]).phases[1].split.share_of("beta") == 2_000
    assert _load(folder, BLOCKS[0]).phases[0].margin == 1.25


def test_every_word_that_is_told_is_explained() -> None:
    table = PAGE.split("## `notify`")[1]
    assert all(f"`{kind}`" in table for kind in NoticeKind)
    lasting = set(re.findall(r"^ +\| `([a-z ]+)` \|.*\| yes \|$", table, re.MULTILINE))
    assert lasting == {kind for kind in NoticeKind if kind.lasts}


def _first_column(heading: str) -> list[str]:
    section = PAGE.split(f"### {heading}\n")[1].split("\n#")[0]
    return re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)


def test_every_sentence_in_the_tables_is_one() -> None:
    assert {sentences.gate(text).kind for text in _first_column("Gate sentences")} == set(GateKind) - {GateKind.SOAK}
    assert set(sentences.GATE_FORMS) == set(_first_column("Gate sentences"))
    guards = _first_column("Guard sentences")
    assert set(sentences.GUARD_FORMS) <= set(guards)
    assert all(sentences.guard(text) for text in guards)


KEYS = (
    *(*TOP_KEYS, *API_KEYS, *ASSIGNMENT_KEYS, *CONFIDENCE_KEYS, *PHASE_KEYS, *UNATTENDED_KEYS),
    *(*METRIC_KEYS, *EVENT_KEYS, *QUERY_KEYS, *SOURCES_KEYS, *SOURCE_KEYS),
    *(*LOAD_KEYS, *SCENARIO_KEYS, *CONTRACT_KEYS, *EXEMPTION_KEYS, *MIRROR_KEYS, *REFERENCE_KEYS),
    *(*RULE_KEYS, *KEPT_KEYS, *DEPRECATION_KEYS, *REHEARSAL_KEYS, *BREAKER_KEYS, *CLIENTS_KEYS),
    *OWNER_NOTICES_KEYS,
    *STEPS,
)


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_mentioned(key: str) -> None:
    assert re.search(rf"\b{key}\b", PAGE)

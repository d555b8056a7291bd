"""docs/howto/owners.md: its plan loads, its text is one, and its fields are those that there are."""

from __future__ import annotations

import re
from pathlib import Path

from tests.app.conftest import PLAN

from crossfade.app.planfile import load_plan
from crossfade.core.clients.owners import fault_of, fields_of
from crossfade.core.plan import OwnerStep

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "owners.md").read_text()


def _block(language: str) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]  # type: ignore[no-any-return]


def test_plan_text_and_fields_are_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "internal.txt").write_text("a")
    (tmp_path / "webhook-secret").write_text(f"whsec_{'a' * 32}")
    (tmp_path / "beta.txt").write_text("\n".join(f"b{n}" for n in range(500)))
    retiring = PLAN.replace("approved by a person]}", "approved by a person], then: retire v1}")
    (tmp_path / "plan.yaml").write_text(f"{retiring}{_block('yaml')}")
    plan = load_plan(tmp_path / "plan.yaml")
    assert plan.owner_notices is not None
    assert plan.deprecation is not None
    steps = re.findall(r"^\| `([a-z ]+)` \|", PAGE, re.MULTILINE)
    assert list(plan.owner_notices.templates) == steps == list(OwnerStep)
    fields = re.findall(r"`\$([a-z]+)`", PAGE.split("| field |")[1])
    assert fields == [*fields_of(OwnerStep.BROWNOUT, plan.deprecation)]
    assert fault_of(_block("text"), fields_of(OwnerStep.ANNOUNCED, plan.deprecation)) is None

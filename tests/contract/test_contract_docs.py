"""docs/reference/contract.md lists every rule, with its severity."""

from __future__ import annotations

import re
from pathlib import Path

from crossfade.core.contract.rules import RULES

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "contract.md").read_text()


def test_every_rule_is_listed_with_its_severity() -> None:
    rows = re.findall(r"^\| (`[^|]+) \| (breaking|warning) \|", PAGE, re.MULTILINE)
    listed = {rule: severity for rules, severity in rows for rule in re.findall(r"`([a-z-]+)`", rules)}
    assert listed == {name: rule.severity.value for name, rule in RULES.items()}

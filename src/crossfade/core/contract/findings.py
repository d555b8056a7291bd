"""What a comparison finds, and the exceptions that a plan makes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from crossfade.core.contract.document import Spot
from crossfade.core.contract.rules import RULES, Severity
from crossfade.core.plan import Exemption


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One way in which V2 differs from what V1's clients rely on."""

    rule: str
    said: str
    """What differs, in one sentence."""
    method: str = ""
    path: str = ""
    """As V1 writes it."""
    part: str = ""
    """Of the operation: `query from`, `body`, `200`, `200 header ETag`."""
    field: str = ""
    """Pointer into the value: `/flights/*/price`; * is any item or any property that is not named."""
    v1: Spot | None = None
    v2: Spot | None = None

    @property
    def where(self) -> str:
        """The place in one line, as exceptions name it."""
        return " ".join(part for part in (self.method, self.path, self.part, self.field) if part)

    @property
    def severity(self) -> Severity:
        """What it means for V1's clients."""
        return RULES[self.rule].severity

    @property
    def right(self) -> str:
        """What would be right."""
        return RULES[self.rule].right


@dataclass(frozen=True, slots=True)
class Compared:
    """Findings, and those that are wanted."""

    findings: tuple[Finding, ...]
    exempted: tuple[tuple[Finding, Exemption], ...] = ()

    @property
    def breaks(self) -> bool:
        """Tell whether any finding breaks a client."""
        return any(finding.severity is Severity.BREAKING for finding in self.findings)


def exempt(findings: Sequence[Finding], exemptions: Sequence[Exemption]) -> Compared:
    """Take out the findings that are wanted; an exemption that no finding matches becomes a finding itself."""
    left, exempted, used = [], [], set()
    patterns = [_pattern(exemption.at) for exemption in exemptions]
    for finding in findings:
        matching = [
            index
            for index, exemption in enumerate(exemptions)
            if exemption.rule == finding.rule and patterns[index].fullmatch(finding.where)
        ]
        used.update(matching)
        if matching:
            exempted.append((finding, exemptions[matching[0]]))
        else:
            left.append(finding)
    left += [
        Finding(rule="exception-unused", said=f"no {one.rule} is at {one.at} (kept because: {one.reason})")
        for index, one in enumerate(exemptions)
        if index not in used
    ]
    return Compared(tuple(left), tuple(exempted))


def _pattern(at: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(part) for part in at.split("*")))

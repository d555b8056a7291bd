"""What a rehearsal came to: criteria in parts, and the one verdict on them.

Criteria are PASS, FAIL or INCONCLUSIVE. Any FAIL fails the whole; whatever was not shown, a part that did not run
included, makes it INCONCLUSIVE, never PASS.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final

from crossfade.core.rehearsal.breakers import Finding
from crossfade.core.verdict import Verdict, combine


class PartName(StrEnum):
    """The parts, in their order: what needs no traffic comes first, what spoils the traffic of others last."""

    CONTRACT = "contract"
    CALLS = "calls"
    MIRROR = "mirror"
    LOAD = "load"
    BREAKERS = "breakers"


OPENS: Final = "rollback trigger: the breaker doesn't open when needed"
STUCK: Final = "rollback trigger: the breaker is stuck in OPEN"
MISSING: Final = "rollback trigger: flights or hotels not returned with degraded weather"
"""The founding plan's rollback triggers of phase 1, as criteria of the breakers: PASS where it was shown not to be so.
What must be returned is the plan's to say; the name is the founding plan's."""
PEAK: Final = "peak: "
"""How the names of what the load at the plan's peak shows begin."""
_RECOVERIES = ("HALF_OPEN after the cooldown", "breaker recovers", "crash and restart", "clients that leave")


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """One thing that was to be shown."""

    name: str
    outcome: Verdict
    figure: str
    """What was seen."""
    limit: str
    """What it ought to be."""
    why: str = ""
    """In which way it isn't, or why nobody can tell; empty where the figure says it."""
    reproduce: str = ""
    """A command that shows it again; empty where there is none."""

    def __post_init__(self) -> None:
        """Take BLIND for INCONCLUSIVE: neither shows anything of V2."""
        if self.outcome is Verdict.BLIND:
            object.__setattr__(self, "outcome", Verdict.INCONCLUSIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part, run to its end or not."""

    name: PartName
    criteria: tuple[Criterion, ...] = ()
    began: float = 0.0
    """Seconds since the epoch, as is `ended`."""
    ended: float = 0.0
    partial: str = ""
    """Why it ended before its end; empty where it didn't."""
    notes: tuple[str, ...] = ()
    """What is to be known of its figures, such as a cooldown that was compressed."""

    @property
    def outcome(self) -> Verdict:
        """Return the worst of its criteria; a part that was cut short shows no PASS."""
        cut = [Verdict.INCONCLUSIVE] if self.partial else []
        return combine([*(one.outcome for one in self.criteria), *cut])

    @property
    def sentence(self) -> str:
        """Return the outcome's reason."""
        if self.outcome is Verdict.PASS:
            return f"all {len(self.criteria)} criteria pass"
        worst = [one for one in self.criteria if one.outcome is self.outcome]
        more = f"; and {len(worst) - 1} more" if len(worst) > 1 else ""
        said = [f"{worst[0].name}: {worst[0].why or worst[0].figure}{more}"] if worst else []
        return "; ".join([*said, *([f"ended early: {self.partial}"] if self.partial else [])])


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A rehearsal."""

    plan: str
    digest: str
    """Of what the plan says that matters to a rehearsal."""
    began: float
    ended: float
    parts: tuple[Part, ...]
    """Those that ran, in their order."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of the OpenAPI document of v1 and v2, where it could be read."""
    quick: bool = False
    """Fewer users and shorter times than the plan's: shows faults, and is no evidence for a gate."""

    @property
    def missing(self) -> tuple[PartName, ...]:
        """Return the parts that did not run."""
        ran = {part.name for part in self.parts}
        return tuple(name for name in PartName if name not in ran)

    @property
    def partial(self) -> bool:
        """Tell whether a part is missing or was cut short."""
        return bool(self.missing) or any(part.partial for part in self.parts)

    @property
    def outcome(self) -> Verdict:
        """Return the worst outcome of all parts; INCONCLUSIVE at best where one is missing."""
        return combine([*(part.outcome for part in self.parts), *(Verdict.INCONCLUSIVE for _ in self.missing)])

    def worst(self) -> tuple[tuple[Part, Criterion], ...]:
        """Return the criteria that made the outcome what it is, with their parts; of a PASS there are none."""
        if self.outcome is Verdict.PASS:
            return ()
        return tuple((part, one) for part in self.parts for one in part.criteria if one.outcome is self.outcome)

    @property
    def shown_at(self) -> float:
        """Return when the first of its parts had ended: from then on what it shows grows old."""
        return min((part.ended for part in self.parts), default=self.ended)

    @property
    def peak(self) -> Part | None:
        """Return the load at the plan's peak as a part of its own; None where there was none."""
        load = next((part for part in self.parts if part.name is PartName.LOAD), None)
        found = tuple(one for one in load.criteria if one.name.startswith(PEAK)) if load else ()
        return replace(load, criteria=found) if load and found else None

    @property
    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of the report as data, its keys in order."""
        return sha256(json.dumps(as_data(self), sort_keys=True).encode()).hexdigest()

    @property
    def sentence(self) -> str:
        """Return the outcome's reason."""
        total = sum(len(part.criteria) for part in self.parts)
        if self.outcome is Verdict.PASS:
            return f"all {total} criteria of {len(self.parts)} parts pass"
        worst = self.worst()
        said = []
        if worst:
            part, first = worst[0]
            more = f"; and {len(worst) - 1} more" if len(worst) > 1 else ""
            said.append(f"{part.name}: {first.name}: {first.why or first.figure}{more}")
        said += [f"{part.name} ended early: {part.partial}" for part in self.parts if part.partial]
        if self.missing:
            said.append(f"not run: {', '.join(self.missing)}")
        return "; ".join(said)


def of_finding(finding: Finding) -> Criterion:
    """Return a finding on breakers as a criterion."""
    return Criterion(
        name=finding.name,
        outcome=finding.verdict,
        figure=finding.figure,
        limit=finding.limit,
        reproduce=finding.reproduce,
    )


def triggers(findings: Sequence[Finding]) -> tuple[Criterion, ...]:
    """Return the founding plan's rollback triggers of phase 1, each judged by the findings it rests on."""
    by_name = {finding.name: finding for finding in findings}
    opened = [by_name["opens"]] if "opens" in by_name else []
    never = [f for f in opened if f.verdict is Verdict.FAIL and f.figure.startswith("never opened")]
    recovered = [by_name[name] for name in _RECOVERIES if name in by_name]
    stuck = [f for f in recovered if f.verdict is Verdict.FAIL and f.figure.startswith("stuck in OPEN")]
    rest = [finding for finding in findings if finding.name.endswith(": the rest")]
    lost = [finding for finding in rest if finding.verdict is Verdict.FAIL]
    return (
        _trigger(OPENS, never, opened, "opens once enough requests fail"),
        _trigger(STUCK, stuck, [f for f in recovered if f.name == _RECOVERIES[0]], "leaves OPEN after its cooldown"),
        _trigger(MISSING, lost, rest, "in every answer"),
    )


def _trigger(name: str, bad: Sequence[Finding], looked: Sequence[Finding], limit: str) -> Criterion:
    if bad:
        first = bad[0]
        why = f"{first.name}: {first.figure}"
        return Criterion(
            name=name, outcome=Verdict.FAIL, figure=first.figure, limit=limit, why=why, reproduce=first.reproduce
        )
    seen = [finding for finding in looked if finding.verdict in (Verdict.PASS, Verdict.FAIL)]
    if not seen:
        return Criterion(name=name, outcome=Verdict.INCONCLUSIVE, figure="not seen", limit=limit)
    figure = seen[0].figure if len(seen) == 1 else f"not so in {len(seen)} scenarios"
    return Criterion(name=name, outcome=Verdict.PASS, figure=figure, limit=limit)


def as_data(report: Report) -> dict[str, Any]:
    """Return a report for programs: JSON-able; times are seconds since the epoch."""
    return {
        "plan": report.plan,
        "digest": report.digest,
        "outcome": report.outcome.value,
        "sentence": report.sentence,
        "partial": report.partial,
        "quick": report.quick,
        "began": report.began,
        "ended": report.ended,
        "versions": dict(report.versions),
        "missing": [name.value for name in report.missing],
        "parts": [part_as_data(part) for part in report.parts],
    }


def part_as_data(part: Part) -> dict[str, Any]:
    """Return a part for programs."""
    return {
        "part": part.name.value,
        "outcome": part.outcome.value,
        "partial": part.partial,
        "began": part.began,
        "ended": part.ended,
        "notes": list(part.notes),
        "criteria": [{**asdict(one), "outcome": one.outcome.value} for one in part.criteria],
    }


def from_data(data: Mapping[str, Any]) -> Report:
    """Return the report that `as_data` wrote; its outcome follows from the criteria, whatever is written there.

    Raises KeyError, TypeError or ValueError where it is no report.
    """
    return Report(
        plan=str(data["plan"]),
        digest=str(data["digest"]),
        began=_time(data["began"]),
        ended=_time(data["ended"]),
        parts=_in_order(part_from_data(one) for one in data["parts"]),
        versions={name: str(data["versions"][name])[:64] for name in ("v1", "v2") if name in data["versions"]},
        quick=bool(data["quick"]),
    )


def part_from_data(data: Mapping[str, Any]) -> Part:
    """Return the part that `part_as_data` wrote; raises KeyError, TypeError or ValueError where it is none."""
    return Part(
        name=PartName(data["part"]),
        criteria=tuple(
            Criterion(outcome=Verdict(one["outcome"]), **{key: str(one[key]) for key in _TEXTS})
            for one in data["criteria"]
        ),
        began=_time(data["began"]),
        ended=_time(data["ended"]),
        partial=str(data["partial"]),
        notes=tuple(str(note) for note in data["notes"]),
    )


_LATEST = 1e11
"""No time is after it: the year 5138."""


def _time(value: Any) -> float:
    seconds = float(value)
    if not (math.isfinite(seconds) and 0 <= seconds <= _LATEST):
        raise ValueError(f"{value} is no time")
    return seconds


_TEXTS = ("name", "figure", "limit", "why", "reproduce")


def _in_order(parts: Iterable[Part]) -> tuple[Part, ...]:
    order = list(PartName)
    return tuple(sorted(parts, key=lambda part: order.index(part.name)))

"""The plan that the demo carries out: the shipped demo plan on free ports, and how it differs from the real one."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from crossfade.app.planfile import load_plan
from crossfade.core.plan import Metric, Phase, Plan
from crossfade.core.words import duration
from crossfade.errors import UsageError

REAL, DEMO = "trips-v2.yaml", "trips-v2-demo.yaml"
SHIPPED_USERS = 2000
_ADDRESS = re.compile(r"127\.0\.0\.1:(8100|8101|8102)\b")
_USERS = re.compile(r"^(\s+users: )(\d+)\b", re.MULTILINE)
_ABOUT = re.compile(r"(users: about )(\d+)")
_SUBJECT = re.compile(r"^(?:\s*- name: |  )(\w+)(?::|\b)")
_WHY = re.compile(r"^\s*(\w+): .*# DEMO,? for [^:]*: (.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Where the demo's plan differs from the real one."""

    where: str
    real: str
    demo: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.demo} instead of {self.real}{' - ' if self.why else ''}{self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What was written for one demo."""

    path: Path
    plan: Plan
    differences: tuple[Difference, ...]
    keys: Path
    """Every user key, staff first, one a line."""


def shipped_plans() -> Path:
    """Return the folder of the shipped plans: in the clone that this package runs from, or in this directory."""
    for folder in (Path(__file__).parents[4] / "plans", Path("plans")):
        if (folder / DEMO).is_file():
            return folder
    raise UsageError(f"plans/{DEMO} is neither beside the sources nor in this directory; run the demo from a clone")


def write_variant(folder: Path, plans: Path, *, listen: int, v1: int, v2: int, users: int) -> Variant:
    """Write the demo's plan with other ports, its cohorts and user keys into a folder."""
    ports = {"8100": listen, "8101": v1, "8102": v2}
    text = (plans / DEMO).read_text(encoding="utf-8")
    text = _ADDRESS.sub(lambda match: f"127.0.0.1:{ports[match[1]]}", text)
    if users != SHIPPED_USERS:
        text = _USERS.sub(lambda match: f"{match[1]}{users}", text)
        text = _ABOUT.sub(lambda match: f"{match[1]}{round(int(match[2]) * users / SHIPPED_USERS)}", text)
    shipped = load_plan(plans / DEMO)
    path = folder / "plan.yaml"
    path.write_text(text, encoding="utf-8")
    (folder / "cohorts").mkdir()
    staff = sorted(_members(shipped, "internal"))
    _write(folder / "cohorts" / "internal.txt", staff)
    _write(folder / "cohorts" / "beta.txt", beta_of(_members(shipped, "beta"), users))
    keys = folder / "users.txt"
    _write(keys, [*staff, *(user_key(number) for number in range(1, users + 1))])
    reasons = reasons_in(text)
    found = differences(load_plan(plans / REAL), shipped)
    explained = tuple(replace(difference, why=reasons.get(difference.where, "")) for difference in found)
    return Variant(path=path, plan=load_plan(path), differences=explained, keys=keys)


def user_key(number: int) -> str:
    """Return the key of the nth user, as the shipped cohorts name them."""
    return f"u{number:04}"


def beta_of(shipped: frozenset[str], users: int) -> list[str]:
    """Return the beta programme among so many users, drawn as the shipped one is and repeated beyond it."""
    return [user_key(number) for number in range(1, users + 1) if user_key((number - 1) % SHIPPED_USERS + 1) in shipped]


def differences(real: Plan, demo: Plan) -> tuple[Difference, ...]:
    """Return where two plans of the same phases differ: in general, metric by metric, and phase by phase."""
    found = [
        *_fields("confidence", real.confidence, demo.confidence, ("false_rollback", "false_promotion")),
    ]
    for metric in demo.metrics:
        known = next((m for m in real.metrics if m.name == metric.name), None)
        found += _metric(known, metric) if known else [Difference(where=metric.name, real="no such metric", demo="one")]
    for phase in demo.phases:
        earlier = next((p for p in real.phases if p.name == phase.name), None)
        found += _phase(earlier, phase) if earlier else [Difference(where=phase.name, real="no such phase", demo="one")]
    return tuple(found)


def reasons_in(text: str) -> dict[str, str]:
    """Return why a plan differs, from comments such as `margin: 6  # DEMO, for 2: 900 V2 requests`."""
    found, subject = {}, ""
    for line in text.splitlines():
        if match := _SUBJECT.match(line):
            subject = match[1]
        elif match := _WHY.match(line):
            found[f"{subject}, {match[1]}"] = match[2]
    return found


def _members(plan: Plan, cohort: str) -> frozenset[str]:
    return plan.assignment.cohorts.get(cohort, frozenset())


def _write(path: Path, keys: list[str]) -> None:
    path.write_text("".join(f"{key}\n" for key in keys), encoding="utf-8")


def _fields(where: str, real: object, demo: object, names: tuple[str, ...]) -> list[Difference]:
    pairs = [(name, getattr(real, name), getattr(demo, name)) for name in names]
    return [
        Difference(where=f"{where} {name}", real=f"{old:g}", demo=f"{new:g}") for name, old, new in pairs if old != new
    ]


def _metric(real: Metric, demo: Metric) -> list[Difference]:
    pairs = [("baseline", _share(real.baseline), _share(demo.baseline)), ("guard", _guard(real), _guard(demo))]
    pairs.append(("target", _target(real), _target(demo)))
    return _differing(demo.name, pairs)


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.2%}"


def _guard(metric: Metric) -> str:
    return metric.guard.text if metric.guard else "none"


def _target(metric: Metric) -> str:
    return f"{metric.target.comparison.value} {metric.target.value:g}" if metric.target else "none"


def _differing(subject: str, pairs: list[tuple[str, str, str]]) -> list[Difference]:
    return [Difference(where=f"{subject}, {name}", real=old, demo=new) for name, old, new in pairs if old != new]


def _phase(real: Phase, demo: Phase) -> list[Difference]:
    pairs = [
        ("margin", f"{real.margin:g}", f"{demo.margin:g}"),
        ("soak", duration(real.soak_s), duration(demo.soak_s)),
        ("split", f"{real.target / 100:g} %", f"{demo.target / 100:g} %"),
        *_gates(real, demo),
    ]
    return _differing(demo.name, pairs)


def _gates(real: Phase, demo: Phase) -> list[tuple[str, str, str]]:
    """Return the phases' own gates as written; what is inherited would be said again in every phase."""
    old, new = ([gate.text for gate in phase.own_gates] for phase in (real, demo))
    return [] if old == new else [("gates", ", ".join(old) or "none", ", ".join(new) or "none")]

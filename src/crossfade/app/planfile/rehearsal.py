"""The `rehearsal` section: how V2's breaker is provoked before the first user, and how long that counts."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from crossfade.app.planfile import quantities
from crossfade.app.planfile.fields import Field
from crossfade.core.plan import (
    Action,
    ContractDocuments,
    GateKind,
    Load,
    Metric,
    MetricKind,
    Phase,
    Rehearsal,
    RehearsedBreaker,
)

REHEARSAL_KEYS = ("expires", "breaker")
BREAKER_KEYS = ("control", "dependency", "needs", "cooldown")
_CONTROL = '"http://127.0.0.1:8103/control"'
_EXAMPLE = f"{{control: {_CONTROL}}}"


def read_rehearsal(field: Field | None, metrics: Sequence[Metric]) -> Rehearsal:
    """Return the section; what it leaves out is taken from the plan's metrics, else usual."""
    section = field.section(REHEARSAL_KEYS, f"{{breaker: {_EXAMPLE}}}") if field else None
    if section is None:
        return Rehearsal()
    return Rehearsal(
        breaker=_breaker(section.get("breaker"), metrics),
        expires_s=section.parse("expires", quantities.positive_duration, Rehearsal().expires_s),
    )


def check_gates(
    phases: Sequence[Phase],
    rehearsal: Rehearsal,
    contract: ContractDocuments | None,
    load: Load | None,
    field: Field,
) -> None:
    """Note where a phase asks for a rehearsal, or a peak load, that can't pass."""
    peak = _first_with(phases, GateKind.PEAK_LOAD_PASSED)
    if peak is not None and (load is None or not load.peak):
        field.problem(f"of {peak} ask for `peak load passed`, which can't be without load.peak; add it")
    asks = _first_with(phases, GateKind.REHEARSAL_PASSED)
    lacks = [
        name for name, there in (("contract", contract), ("rehearsal.breaker", rehearsal.breaker)) if there is None
    ]
    if asks is not None and lacks:
        field.problem(f"of {asks} ask for `rehearsal passed`, which can't be without {' and '.join(lacks)}; add it")


def _first_with(phases: Sequence[Phase], kind: GateKind) -> str | None:
    return next((phase.name for phase in phases if any(gate.kind is kind for gate in phase.own_gates)), None)


def _breaker(field: Field | None, metrics: Sequence[Metric]) -> RehearsedBreaker | None:
    section = field.section(BREAKER_KEYS, _EXAMPLE) if field else None
    control_field = section.require("control", _CONTROL) if section else None
    control = control_field.parse(_url) if control_field else None
    if section is None or control is None:
        return None
    usual = RehearsedBreaker(control=control)
    watched = [metric.fact.removesuffix("-breaker") for metric in metrics if metric.kind is MetricKind.BREAKER]
    return RehearsedBreaker(
        control=control,
        dependency=section.parse("dependency", quantities.fact_name, watched[0] if watched else usual.dependency),
        needs=_needs(section.get("needs"), metrics) or usual.needs,
        cooldown_s=section.parse("cooldown", quantities.positive_duration, usual.cooldown_s),
    )


def _needs(field: Field | None, metrics: Sequence[Metric]) -> tuple[str, ...]:
    """Return the facts that are written, else those whose lack rolls back."""
    if field is None:
        return tuple(
            metric.fact
            for metric in metrics
            if metric.kind is MetricKind.AVAILABILITY and metric.guard and metric.guard.action is Action.ROLLBACK
        )
    found = (item.parse(quantities.fact_name) for item in field.items("[flights, hotels]"))
    return tuple(dict.fromkeys(fact for fact in found if fact is not None))


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"{text!r} is no address of a control; write such as http://127.0.0.1:8103/control")
    return text

"""A Grafana dashboard of a plan's rollout, to be imported as it is; its data source is asked for there."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import orjson

from crossfade.app.monitoring.promql import highest, selector
from crossfade.app.telemetry import TIMES
from crossfade.core.machine import State
from crossfade.core.plan import Metric, MetricKind, Plan

SCHEMA_VERSION = 39
"""Of Grafana 10.4; later ones migrate it."""
WIDTH = 24
"""Columns of Grafana's grid."""
_SOURCE = {"type": "prometheus", "uid": "${source}"}
_PLAIN = (MetricKind.CRITICAL_ERRORS, MetricKind.COMPLAINTS, MetricKind.VALUE)
_VERDICTS = ("failed", "can't be seen", "not enough yet", "passed")
_COLOURS = ("red", "purple", "yellow", "green")


def dashboard_of(plan: Plan) -> bytes:
    """Return the dashboard as JSON."""
    board = {
        "title": f"Crossfade: {plan.name}",
        "uid": f"crossfade-{sha256(plan.name.encode()).hexdigest()[:16]}",
        "tags": ["crossfade"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "graphTooltip": 1,
        "templating": {
            "list": [{"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "annotations": {"list": list(_annotations(plan.name))},
        "panels": _placed(_panels(plan)),
    }
    return orjson.dumps(board, option=orjson.OPT_INDENT_2)


def _annotations(name: str) -> Iterator[dict[str, Any]]:
    state = selector("crossfade_rollout_state", rollout=name, state="paused")
    marks = (
        ("Phase entered", f"changes({selector('crossfade_rollout_phase', rollout=name)}[1m]) > 0", "blue"),
        ("Rolled back", f"increase({selector('crossfade_rollbacks_total', rollout=name)}[1m]) > 0", "red"),
        ("Hold", f"{highest('rollout', 'crossfade_rollout_held', rollout=name)} == 1", "orange"),
        ("Blind", f"{highest('rollout', 'crossfade_rollout_blind', rollout=name)} == 1", "purple"),
        ("Paused", f"max by (rollout) ({state}) == 1", "yellow"),
        ("Alert", f"max by (about) ({selector('crossfade_alert_raised', rollout=name)}) == 1", "dark-red"),
    )
    for title, expression, colour in marks:
        yield {
            "name": title,
            "datasource": _SOURCE,
            "enable": True,
            "iconColor": colour,
            "expr": expression,
            "step": "10s",
            "titleFormat": f"{title} {{{{about}}}}",
        }


def _placed(panels: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give panels their numbers, and places from left to right in rows as high as their highest."""
    x = y = high = 0
    placed = []
    for number, panel in enumerate(panels, 1):
        width, height = panel.pop("size")
        if x + width > WIDTH:
            x, y, high = 0, y + high, 0
        placed.append({"id": number, **panel, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x, high = x + width, max(high, height)
    return placed


def _panels(plan: Plan) -> Iterator[dict[str, Any]]:
    name = plan.name
    yield _row("Where it is")
    yield _stat("State", _numbered("crossfade_rollout_state", "state", list(State), rollout=name), list(State))
    phases = [phase.name for phase in plan.phases]
    yield _stat("Phase", [(highest("rollout", "crossfade_rollout_phase", rollout=name), "phase")], phases)
    weight = highest("rollout", "crossfade_weight_ratio", rollout=name)
    yield _stat("V2's share", [(weight, "V2")], unit="percentunit")
    missing = f"sum(max by (gate) ({selector('crossfade_gate_verdict', rollout=name, verdict='PASS')}) == bool 0)"
    yield _stat("Gates not passed yet", [(missing, "gates")])
    yield _stat("Leaders", [(f"sum({selector('crossfade_lease_leads', rollout=name)})", "processes")])
    yield _stat("Rollbacks", [(highest("rollout", "crossfade_rollbacks_total", rollout=name), "rollbacks")])
    shares = (
        ("crossfade_weight_ratio", "wanted"),
        ("crossfade_share_observed_ratio", "drawn"),
        ("crossfade_adoption_ratio", "adopted"),
    )
    lines = [(highest("rollout", family, rollout=name), legend) for family, legend in shares]
    reported = highest("node", "crossfade_weight_reported_ratio", rollout=name)
    yield _graph("V2's share", [*lines, (reported, "{{node}}")], unit="percentunit", low=0, high=1, size=(12, 8))
    yield _timeline("Gates of the present phase", _verdicts(name), _VERDICTS, _COLOURS, size=(12, 8))
    yield _row("Metrics: V1 and V2 beside their limits, evidence beside what it takes")
    for metric in plan.metrics:
        yield from _metric(name, metric)
    if any(metric.kind is MetricKind.BREAKER for metric in plan.metrics):
        yield _row("Breakers, as V2's answers tell")
        states = ("unseen", "not open", "open")
        by = _numbered("crossfade_observed_breaker_state", "state", states, by="breaker", rollout=name)
        yield _timeline("Breakers", by, states, ("purple", "green", "red"), size=(12, 6))
        lasted = highest("breaker", "crossfade_observed_breaker_open_seconds", rollout=name)
        yield _graph("Open for", [(lasted, "{{breaker}}")], unit="s", size=(12, 6))
    yield _row("Traffic")
    yield from _traffic(name)
    yield _row("Crossfade itself")
    yield from _itself(name)


def _metric(rollout: str, metric: Metric) -> Iterator[dict[str, Any]]:
    labels = {"rollout": rollout, "metric": metric.name}
    lines = [
        (highest("version", "crossfade_metric_value", **labels), "{{version}}"),
        (highest("metric", "crossfade_metric_limit", **labels), "guardrail"),
        (highest("metric", "crossfade_metric_target", **labels), "target"),
    ]
    unit = "s" if metric.kind in TIMES else "short" if metric.kind in _PLAIN else "percentunit"
    text = metric.guard.text if metric.guard else ""
    yield _graph(metric.name, lines, unit=unit, text=text, size=(12, 7))
    evidence = [
        (highest("of", "crossfade_evidence_log_odds", **labels), "of {{of}}"),
        (highest("of", "crossfade_evidence_needed_log_odds", **labels), "needed for {{of}}"),
    ]
    yield _graph(f"{metric.name}: evidence", evidence, unit="short", text="Natural logarithm of odds.", size=(6, 7))
    ratio = [(highest("estimate", "crossfade_metric_v2_over_v1", **labels), "{{estimate}}")]
    yield _graph(f"{metric.name}: V2 over V1", ratio, unit="short", size=(6, 7))


def _traffic(name: str) -> Iterator[dict[str, Any]]:
    requests = f"rate({selector('crossfade_requests_total', rollout=name)}[$__rate_interval])"
    failures = f"rate({selector('crossfade_failures_total', rollout=name)}[$__rate_interval])"
    buckets = f"rate({selector('crossfade_latency_seconds_bucket', rollout=name)}[$__rate_interval])"
    yield _graph("Requests", [(f"sum by (version) ({requests})", "{{version}}")], unit="reqps", size=(8, 7))
    failing = f"sum by (version) ({failures}) / sum by (version) ({requests})"
    yield _graph("Failing", [(failing, "{{version}}")], unit="percentunit", size=(8, 7))
    slow = f"histogram_quantile(0.95, sum by (version, le) ({buckets}))"
    yield _graph("95 % answered within", [(slow, "{{version}}")], unit="s", size=(8, 7))
    of = "{{version}} {{region}}"
    yield _graph("Requests by region", [(f"sum by (version, region) ({requests})", of)], unit="reqps", size=(12, 7))
    failing = f"sum by (version, region) ({failures}) / sum by (version, region) ({requests})"
    yield _graph("Failing by region", [(failing, of)], unit="percentunit", size=(12, 7))


def _itself(name: str) -> Iterator[dict[str, Any]]:
    buckets = f"rate({selector('crossfade_work_seconds_bucket', rollout=name)}[$__rate_interval])"
    work = f"histogram_quantile(0.99, sum by (work, le) ({buckets}))"
    yield _graph("99 % of the work took less than", [(work, "{{work}}")], unit="s", size=(8, 7))
    decisions = f"sum by (outcome) (rate({selector('crossfade_decisions_total', rollout=name)}[$__rate_interval]))"
    yield _graph("Decisions", [(decisions, "{{outcome}}")], unit="ops", size=(8, 7))
    lost = f"sum(increase({selector('crossfade_ticks_lost_total', rollout=name)}[$__rate_interval]))"
    age = f"min({selector('crossfade_lease_age_seconds', rollout=name)})"
    lines = f"sum by (kind) (rate({selector('crossfade_telemetry_lines_total', rollout=name)}[$__rate_interval]))"
    yield _graph("Ticks lost", [(lost, "ticks")], unit="short", size=(4, 7))
    yield _graph("Age of the lease", [(age, "lease")], unit="s", size=(4, 7))
    yield _graph("Lines of telemetry", [(lines, "{{kind}}")], unit="ops", size=(12, 7))


def _verdicts(name: str) -> list[tuple[str, str]]:
    words = ("FAIL", "BLIND", "INCONCLUSIVE", "PASS")
    return _numbered("crossfade_gate_verdict", "verdict", words, by="gate", rollout=name)


def _numbered(
    family: str, label: str, values: list[State] | tuple[str, ...], by: str = "rollout", **labels: str
) -> list[tuple[str, str]]:
    """Return which of some values is the present one, as its place among them; sorted, the first is 0."""
    terms = [
        f"{place} * {highest(by, family, **labels, **{label: value})}" for place, value in enumerate(values) if place
    ]
    return [(" + ".join(terms), f"{{{{{by}}}}}")]


def _row(title: str) -> dict[str, Any]:
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "size": (WIDTH, 1)}


def _panel(kind: str, title: str, lines: list[tuple[str, str]], size: tuple[int, int]) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
        for place, (expression, legend) in enumerate(lines)
    ]
    return {"type": kind, "title": title, "datasource": _SOURCE, "targets": targets, "size": size}


def _words(values: list[State] | list[str] | tuple[str, ...], colours: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    told = {
        str(place): {"index": place, "text": str(value), **({"color": colours[place]} if colours else {})}
        for place, value in enumerate(values)
    }
    return [{"type": "value", "options": told}] if told else []


def _stat(
    title: str, lines: list[tuple[str, str]], values: list[State] | list[str] | tuple[str, ...] = (), unit: str = "none"
) -> dict[str, Any]:
    defaults = {"unit": unit, "mappings": _words(values)}
    options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "none", "graphMode": "none"}
    fields = {"defaults": defaults, "overrides": []}
    return {**_panel("stat", title, lines, (4, 4)), "fieldConfig": fields, "options": options}


def _graph(
    title: str,
    lines: list[tuple[str, str]],
    *,
    unit: str,
    size: tuple[int, int],
    text: str = "",
    low: float | None = None,
    high: float | None = None,
) -> dict[str, Any]:
    bounds = {key: value for key, value in (("min", low), ("max", high)) if value is not None}
    defaults = {"unit": unit, "custom": {"lineWidth": 2, "spanNulls": True}, **bounds}
    panel = {**_panel("timeseries", title, lines, size), "fieldConfig": {"defaults": defaults, "overrides": []}}
    return {**panel, "description": text} if text else panel


def _timeline(
    title: str,
    lines: list[tuple[str, str]],
    values: tuple[str, ...],
    colours: tuple[str, ...],
    *,
    size: tuple[int, int],
) -> dict[str, Any]:
    defaults = {"mappings": _words(values, colours), "custom": {"fillOpacity": 80}}
    fields = {"defaults": defaults, "overrides": []}
    return {**_panel("state-timeline", title, lines, size), "fieldConfig": fields, "options": {"showValue": "never"}}

"""What the pages show, as plain values: one model per page, made from the controller and its history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from crossfade.app import values, views
from crossfade.app.clients import spans
from crossfade.app.dashboard import figures
from crossfade.app.regions import Regions
from crossfade.core.clients.exempt import exempt
from crossfade.core.clients.register import Registered
from crossfade.core.enrolment import Members
from crossfade.core.evidence.streams import counts_absence
from crossfade.core.feedback import FeedbackCount
from crossfade.core.gates import GateStatus
from crossfade.core.observation import Observation, Reading
from crossfade.core.plan import Limit, Metric, MetricKind, Plan
from crossfade.core.rollout import Rollout
from crossfade.core.split import BUCKETS
from crossfade.core.verdict import Verdict
from crossfade.core.words import difference, duration, moment, percent, ratio_words
from crossfade.engine.controller import Controller
from crossfade.ports import StoredEvent

MARKS = {Verdict.PASS: "✔", Verdict.FAIL: "✖", Verdict.INCONCLUSIVE: "◌", Verdict.BLIND: "?"}
WORDS = {
    Verdict.PASS: "passed",
    Verdict.FAIL: "failed",
    Verdict.INCONCLUSIVE: "not enough yet",
    Verdict.BLIND: "can't be seen",
}
STATES = {
    "pending": "not started",
    "running": "running",
    "paused": "paused",
    "rolled_back": "rolled back",
    "completed": "completed",
    "retiring": "V1 is being retired",
    "retired": "V1 is retired",
    "aborted": "aborted",
}
STANDINGS = {"v1": "on V1", "silent": "silent since V1", "v2": "on V2", None: "never seen"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One phase on the line."""

    name: str
    share: str
    place: str
    """`past`, `now` or `ahead`."""
    when: str
    part: int
    """How much of its soak is over, 0..100."""
    grow: float
    """Width on the line, relative."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One gate."""

    text: str
    verdict: str
    mark: str
    word: str
    evidence: str
    left: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One metric."""

    name: str
    v1: str
    v2: str
    ratio: str
    target: str
    guard: str
    word: str
    verdict: str
    sample: str
    harm: str
    harm_part: int
    promote: str
    promote_part: int
    band: Markup
    spark: Markup
    forecast: str
    sentence: str
    regions: list[dict[str, str]]
    """Where clients name more than one: region, V1, V2, sample."""


def phases_line(plan: Plan, rollout: Rollout, events: Sequence[StoredEvent], now: float, left_s: float) -> list[Stop]:
    """Return the plan's phases with when they were or will be entered; what is ahead is a forecast by soaks."""
    entered = _entered(plan, events)
    stops, ahead = [], now + left_s
    for index, phase in enumerate(plan.phases):
        if index < rollout.phase:
            place, when, part = "past", f"since {moment(entered.get(index))[:16]}", 100
        elif index == rollout.phase and rollout.state.value != "pending":
            part = round(100 * min(1.0, max(0.0, (now - rollout.phase_since) / max(phase.soak_s, 1e-9))))
            place, when = "now", f"since {moment(rollout.phase_since)[:16]}"
        else:
            place, when, part = "ahead", f"about {moment(ahead)[:16]}", 0
            ahead += phase.soak_s
        stops.append(
            Stop(
                name=phase.name,
                share=percent(phase.target),
                place=place,
                when=when,
                part=part,
                grow=max(1.0, phase.soak_s / 86_400),
            )
        )
    return stops


def _bound(metric: Metric, limit: Limit | None) -> str:
    """Return a bound as the plan says it."""
    return "-" if limit is None else values.bound(metric.kind, limit.comparison, limit.value, of_v1=limit.of_v1)


def _entered(plan: Plan, events: Sequence[StoredEvent]) -> dict[int, float]:
    found: dict[int, float] = {}
    for event in events:
        if event.kind == "RolloutStarted":
            found[0] = event.at
        elif event.kind in ("PhasePromoted", "Retried") and isinstance(event.data.get("phase"), int):
            index = event.data["phase"]
            found[int(str(index))] = event.at
    return {index: at for index, at in found.items() if index < len(plan.phases)}


def left_in_phase(gates: Sequence[GateStatus]) -> float:
    """Return the plan seconds until the last gate whose time is known is expected to pass."""
    return max((gate.left_s for gate in gates if gate.left_s is not None), default=0.0)


def gate_lines(gates: Sequence[GateStatus]) -> list[Line]:
    """Return the checklist."""
    return [
        Line(
            text=gate.text,
            verdict=gate.verdict.value.lower(),
            mark=MARKS[gate.verdict],
            word=WORDS[gate.verdict],
            evidence=gate.evidence,
            left="" if not gate.left_s else f"about {duration(gate.left_s)} left",
        )
        for gate in gates
    ]


def tiles(plan: Plan, controller: Controller, points: Sequence[dict[str, Any]], regions: Regions) -> list[Tile]:
    """Return a tile for each metric that was read."""
    margin = plan.phases[controller.rollout.phase].margin
    read = controller.seen.readings
    return [
        _tile(metric, read[metric.name], margin, points, region_lines(metric, regions))
        for metric in plan.metrics
        if metric.name in read
    ]


def region_lines(metric: Metric, regions: Regions) -> list[dict[str, str]]:
    """Return a metric's values by region; none where there is but one."""
    rows = regions.rows(metric)
    return [
        {
            "name": row.region or "not said",
            "v1": values.value(metric.kind, row.v1),
            "v2": values.value(metric.kind, row.v2),
            "sample": f"V1 {row.n1:,}, V2 {row.n2:,}",
        }
        for row in (rows if len(rows) > 1 else ())
    ]


def _tile(
    metric: Metric, reading: Reading, margin: float, points: Sequence[dict[str, Any]], regions: list[dict[str, str]]
) -> Tile:
    verdict = worst(metric, reading)
    return Tile(
        name=metric.name,
        v1=values.value(metric.kind, reading.v1),
        v2=values.value(metric.kind, reading.v2),
        ratio="" if reading.ratio is None else f"{reading.ratio:.2f} times V1",
        target=_bound(metric, metric.target),
        guard=metric.guard.text if metric.guard else "-",
        word=WORDS[verdict],
        verdict=verdict.value.lower(),
        sample=f"V1 {reading.n1:,}, V2 {reading.n2:,}",
        harm="" if reading.harm_needed is None else values.odds(reading.harm_log_e),
        harm_part=figures.part(reading.harm_log_e, reading.harm_needed),
        promote="" if reading.promote_needed is None else values.odds(reading.promote_log_e),
        promote_part=figures.part(reading.promote_log_e, reading.promote_needed),
        band=figures.ratio_band(reading.ratio_low, reading.ratio, reading.ratio_high, margin),
        spark=figures.sparkline(points, metric.name, f"{metric.name} over time, V1 and V2"),
        forecast="" if reading.forecast_s is None else f"enough in about {duration(reading.forecast_s[1])}",
        sentence=reading.sentence,
        regions=regions,
    )


def breakers(plan: Plan, controller: Controller, points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each breaker's present state and when it was open."""
    rows = []
    for metric in plan.metrics:
        reading = controller.seen.breakers.get(metric.name)
        if reading is not None:
            known = "open" if reading.open_since is not None else "not open"
            rows.append(
                {
                    "name": reading.name,
                    "state": "can't be seen" if reading.last_seen is None else known,
                    "longest": duration(reading.longest_open_s) if reading.longest_open_s else "never",
                    "share": "-" if reading.share_open is None else f"{reading.share_open:.1%}",
                    "strip": figures.openings(points, metric.name),
                    "span": _span(points, metric.name),
                }
            )
    return rows


def _span(points: Sequence[dict[str, Any]], breaker: str) -> tuple[str, str]:
    """Return when a breaker's strip begins and ends."""
    told = [point["at"] for point in points if breaker in point.get("breakers", {})]
    return (moment(told[0])[5:16], moment(told[-1])[5:16]) if len(told) > 1 else ("", "")


def at_half(plan: Plan, controller: Controller, points: Sequence[dict[str, Any]]) -> tuple[str, list[dict[str, str]]]:
    """Return what was seen of each metric with half of the users on V2, as the founding document compares, and when.

    No rows where no phase of the plan has half, or none was reached.
    """
    phases = {index for index, phase in enumerate(plan.phases) if phase.target == BUCKETS // 2}
    seen = [point for point in points if point["phase"] in phases and point["metrics"]]
    if not seen:
        return "", []
    latest, rows = seen[-1], []
    for metric in plan.metrics:
        if metric.name not in latest["metrics"]:
            continue
        v1, v2, low, ratio, high = latest["metrics"][metric.name]
        rows.append(
            {
                "name": metric.name,
                "v1": values.value(metric.kind, v1),
                "v2": values.value(metric.kind, v2),
                "ratio": "-" if ratio is None else _band(metric, low, ratio, high),
                "word": "-" if ratio is None else f"{'misses: ' * _by_misses(metric)}{difference(low, high)}",
            }
        )
    over = plan.phases[controller.rollout.phase].target > BUCKETS // 2
    return f"{'at the end of the phase' if over else 'as of'} {moment(latest['at'])} UTC", rows


def trend_data(points: Sequence[dict[str, Any]]) -> dict[str, list[float | None]]:
    """Return V2's share over time as columns: seconds, percent wanted, percent seen."""
    return {
        "at": [point["at"] for point in points],
        "weight": [point["weight"] / 100 for point in points],
        "seen": [None if point["seen"] is None else point["seen"] / 100 for point in points],
    }


def worst(metric: Metric, reading: Reading) -> Verdict:
    """Return the verdict to show: of the guardrail where it is breached, else of what the plan asks."""
    if reading.guard is Verdict.FAIL or metric.target is None or metric.kind is MetricKind.BREAKER:
        return reading.guard
    return reading.target


def row_of(event: StoredEvent) -> dict[str, str]:
    """Return one line of the history."""
    data = event.data
    text = "; ".join(str(data[key]) for key in ("reason", "sentence", "detail") if data.get(key))
    if event.kind == "SplitApplied":
        text = "everyone on V1" if data.get("killed") else f"everyone else {percent(float(str(data['everyone'])))}"
    if event.kind == "PhasePromoted":
        text = f"to {data.get('name')}: {text}"
    return {
        "revision": str(event.revision),
        "at": moment(event.at),
        "kind": event.kind,
        "text": text,
        "by": str(data.get("by") or ""),
    }


def compare_rows(plan: Plan, controller: Controller) -> list[dict[str, str]]:
    """Return the founding document's table: baseline, target, alert threshold, V1 and V2 now, status."""
    rows = []
    for metric in plan.metrics:
        reading = controller.seen.readings.get(metric.name)
        verdict = Verdict.BLIND if reading is None else worst(metric, reading)
        rows.append(
            {
                "name": metric.name,
                "baseline": values.value(metric.kind, metric.baseline),
                "target": _bound(metric, metric.target),
                "guard": metric.guard.text if metric.guard else "-",
                "v1": "-" if reading is None else values.value(metric.kind, reading.v1),
                "v2": "-" if reading is None else values.value(metric.kind, reading.v2),
                "ratio": "-" if reading is None or reading.ratio is None else _ratio(metric, reading),
                "word": WORDS[verdict],
                "verdict": verdict.value.lower(),
            }
        )
    return rows


_OF_USERS = (MetricKind.OUTCOME, MetricKind.VALUE, MetricKind.QUERIED, MetricKind.COMPLAINTS)


def mismatch(seen: Observation | None) -> str:
    """Return why V1 and V2 can't be compared now: V2 does not get the users that the plan gives it; empty: they can."""
    return seen.share.sentence if seen is not None and seen.share.verdict is Verdict.FAIL else ""


def topic_rows(counts: Sequence[FeedbackCount]) -> list[dict[str, Any]]:
    """Return how much was said, by version and topic, over all regions."""
    found: dict[tuple[str, str], list[int]] = {}
    for one in counts:
        sums = found.setdefault((one.version, one.topic), [0, 0, 0, 0])
        for at, number in enumerate((one.said, one.complaints, one.ratings, one.happy)):
            sums[at] += number
    return [
        {
            "version": version.upper() or "not known",
            "topic": topic or "-",
            "said": said,
            "complaints": complaints,
            "satisfied": f"{happy} of {ratings}" if ratings else "-",
        }
        for (version, topic), (said, complaints, ratings, happy) in sorted(found.items())
    ]


def behaviour(plan: Plan) -> set[str]:
    """Return the metrics that tell what users make of the answers, not how they were served."""
    return {metric.name for metric in plan.metrics if metric.kind in _OF_USERS}


_SHARES = (MetricKind.AVAILABILITY, MetricKind.RATIO, MetricKind.OUTCOME, MetricKind.VALUE)


def _ratio(metric: Metric, reading: Reading) -> str:
    return _band(metric, reading.ratio_low, reading.ratio or 0.0, reading.ratio_high)


def _band(metric: Metric, low: float | None, ratio: float, high: float | None) -> str:
    """Return a ratio of V2 to V1 with its interval; of the misses where these are what is compared."""
    return "{} ({}){}".format(*ratio_words(ratio, low, high), " of misses" if _by_misses(metric) else "")


def _by_misses(metric: Metric) -> bool:
    return metric.kind in _SHARES and counts_absence(metric)


INCIDENTS = ("RolledBack", "HoldBegan", "HoldEnded", "AlertRaised", "AlertCleared", "DriftFound", "DrillFailed")


def incidents(events: Sequence[StoredEvent]) -> list[dict[str, str]]:
    """Return what went wrong, oldest first, each with how long it lasted where its end is known."""
    rows: list[dict[str, str]] = []
    begun: dict[str, tuple[float, dict[str, str]]] = {}
    for event in events:
        if event.kind not in INCIDENTS and event.kind != "Retried":
            continue
        about = _ABOUT.get(event.kind, event.kind) + str(event.data.get("key", ""))
        if event.kind in ("HoldEnded", "AlertCleared", "Retried"):
            since = begun.pop(about, None)
            if since is not None:
                since[1]["lasted"] = duration(event.at - since[0])
            continue
        row = row_of(event) | {"lasted": ""}
        rows.append(row)
        if event.kind in ("HoldBegan", "AlertRaised", "RolledBack"):
            row["lasted"] = "not over"
            begun[about] = (event.at, row)
    return rows


_ABOUT = {"HoldBegan": "hold", "HoldEnded": "hold", "AlertRaised": "alert ", "AlertCleared": "alert "} | {
    "RolledBack": "rollback",
    "Retried": "rollback",
}
"""What events of two kinds, its begin and its end, are about."""


def decisions(found: Sequence[Mapping[str, object]]) -> list[dict[str, str]]:
    """Return records of decisions, oldest first, those that say again what the one before said left out."""
    rows: list[dict[str, str]] = []
    for record in reversed(found):
        outcome, sentence = str(record["outcome"]), str(record["sentence"])
        reason = sentence.removeprefix(f"{outcome}: ")
        at, phase = moment(float(str(record["at"]))), str(record["phase"])
        row = {"at": at, "phase": phase, "outcome": outcome, "reason": reason}
        if not rows or rows[-1]["outcome"] != row["outcome"]:
            rows.append(row)
    return rows


def client_row(found: Mapping[str, Any]) -> dict[str, str]:
    """Return what the page of clients tells of one."""
    asked, on_v1, on_v2 = spans(found)
    count, error = found["requests"], found["error"]
    return {
        "client": found["client"],
        "mark": "User-Agent" if found["agent"] else "claimed" if found["claimed"] else "",
        "word": STANDINGS[found["standing"]],
        "asked": moment(asked[1])[:16],
        "on_v1": moment(on_v1[1])[:16],
        "on_v2": moment(on_v2[1])[:16],
        "requests": f"{count:,}" + (f" to {count + error:,}" if error else ""),
        "owner": found["owner"] or "-",
        "exempt": found["exempt_until"] or "-",
    }


def brownout_row(found: Mapping[str, Any]) -> dict[str, str]:
    """Return what the page of clients tells of one brownout."""
    return {
        "name": found["name"],
        "begins": moment(found["at"])[:16],
        "ends": moment(found["until"])[:16],
        "share": percent(found["share"]),
        "word": {"ahead": "ahead", "now": "goes on now", "over": "over"}[found["state"]],
    }


def exempt_rows(register: Mapping[str, Registered], now: float) -> list[dict[str, str]]:
    """Return the clients that are exempt at `now`, plan time, those with the latest days first."""
    found = sorted(exempt(register.values(), now).items(), key=lambda pair: (-pair[1].toordinal(), pair[0]))
    return [
        {"client": client, "until": until.isoformat(), "owner": register[client].owner or "-"}
        for client, until in found
    ]


def cohort_rows(members: Members) -> list[dict[str, str]]:
    """Return how many users each cohort has by the plan's list, and how many have joined it since."""
    enrolled = Counter(one.cohort for one in members.enrolments.values())
    return [
        {"cohort": name, "listed": f"{size:,}", "enrolled": f"{enrolled[name]:,}"}
        for name, size in members.rule.cohort_sizes().items()
    ]


def client_day(day: Mapping[str, Any]) -> dict[str, str]:
    """Return what the page of clients tells of a day."""
    about = "" if day["exact"] else "about "
    requests = day["requests"]
    total, on_v2 = sum(requests.values()), requests["asked_v1_by_v2"] + requests["else_by_v2"]
    return {
        "day": moment(day["day"] * 86_400)[:10],
        "word": "" if day["complete"] else "not complete",
        **{name: f"{about}{day[name]:,}" for name in ("asking_v1", "on_v1", "on_v2")},
        "share": f"{on_v2 / total:.1%}" if total else "-",
    }


def line(controller: Controller) -> dict[str, Any]:
    """Return what the list of rollouts tells of one."""
    rollout, decision, plan = controller.rollout, controller.decision, controller.plan
    return {
        "name": rollout.name,
        "state": rollout.state.value,
        "state_word": STATES.get(rollout.state.value, rollout.state.value),
        "place": f"{rollout.phase + 1} of {len(plan.phases)}, {plan.phases[rollout.phase].name}",
        "weight": percent(views.weight(plan, rollout.wanted_split(plan))),
        "alerts": [*([controller.fenced] if controller.fenced else []), *rollout.alerts.values()],
        "held": rollout.held,
        "reason": None if decision is None else f"{decision.outcome.value}: {decision.reason}",
        "next": None if decision is None or decision.look_again_s is None else duration(decision.look_again_s),
    }


def head(controller: Controller, now: float) -> dict[str, Any]:
    """Return what stands at the top of every page of a rollout."""
    status = views.status_view(controller, now)
    rollout, decision = controller.rollout, controller.decision
    return {
        "name": rollout.name,
        "state": rollout.state.value,
        "state_word": STATES.get(rollout.state.value, rollout.state.value),
        "held": rollout.held,
        "phase": status["phase"],
        "phases": len(controller.plan.phases),
        "weight": percent(status["weight"]),
        "users": status["users"]["sentence"],
        "seen": None if status["weight_seen"] is None else percent(status["weight_seen"]),
        "outcome": None if decision is None else decision.outcome.value,
        "reason": None if decision is None else decision.reason,
        "next": None if decision is None or decision.look_again_s is None else duration(decision.look_again_s),
        "alerts": dict(rollout.alerts),
        "blind": [item.reason for item in controller.seen.blind],
        "fenced": controller.fenced,
        "requests": status["requests"],
        "nodes": status["nodes"],
        "revision": rollout.revision,
        "now": moment(now),
    }

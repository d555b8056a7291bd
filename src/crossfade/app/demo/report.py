"""The demo's written report: what was seen, as Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from crossfade.app.demo.board import Board, Outage, PhaseVisit, Rollback
from crossfade.app.demo.screen import clock
from crossfade.app.demo.tally import V1, V2
from crossfade.app.demo.variant import Difference
from crossfade.core.words import percent

_DECISIONS = frozenset(
    {"PhasePromoted", "RolledBack", "Retried", "GateApproved", "RolloutCompleted", "HoldBegan", "HoldEnded", "Aborted"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What a finished demo leaves behind."""

    board: Board
    summary: Mapping[str, Any]
    """What the users counted in all; empty where they could not be asked."""
    failure: str | None
    """Why it did not go as written; None where it did."""
    seconds: float
    """Real, since the rollout started."""
    users: int
    rate: float
    """Mean requests per second asked for."""
    seed: int
    processors: int
    defect: float
    """Share of V2's requests that the planted defect failed."""
    cooldown_s: float
    """Of V2's weather breaker."""
    keep_s: float
    """How long V2 shows good weather again without asking."""
    differences: Sequence[Difference] = field(default_factory=tuple)


def headline(record: Record) -> str:
    """Return the outcome in one sentence."""
    if record.failure is not None:
        return f"The demo did not go as written: {record.failure}."
    bad = [line for line in _faults(record.summary) if line]
    if bad:
        return f"The plan was carried to 100 %, but {' and '.join(bad)}."
    return (
        f"The plan was carried to 100 % in {clock(record.seconds)} min: "
        f"{record.users:,} users, {record.summary.get('answered', 0):,} answers, 0 lost requests."
    )


def went_well(record: Record) -> bool:
    """Tell whether the story went as written and no user lost a request or was moved back without a rollback."""
    return record.failure is None and not any(_faults(record.summary))


def _faults(summary: Mapping[str, Any]) -> list[str]:
    if not summary:
        return ["the users could not be asked what they saw"]
    lost, violations = sum(summary["lost"].values()), summary["violations"]
    return [
        f"{lost} requests got no answer of the origin" if lost else "",
        f"{violations} users were moved back to V1 without a rollback" if violations else "",
    ]


def markdown(record: Record) -> str:
    """Return the report."""
    sections = [
        ("", [headline(record)]),
        ("What ran", _what_ran(record)),
        ("Phases", _phases(record.board)),
        ("Decisions", _decisions(record.board)),
        ("The defect", _rollbacks(record)),
        ("The weather outage", _outage(record.board)),
        ("What the users saw", _users(record.summary)),
        ("Where the demo's plan differs", _differences(record.differences)),
    ]
    parts = ["# Crossfade demo: report"]
    for title, lines in sections:
        if lines:
            parts.append("\n".join([f"## {title}\n", *lines] if title else lines))
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    # A bar inside a cell would end it.
    body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *body]


def _what_ran(record: Record) -> list[str]:
    board = record.board
    factor = board.factor
    lines = [
        f"- Plan `{board.plan.name}`, {len(board.plan.phases)} phases, at {board.speed:,.0f} plan seconds a second: "
        f"a week takes {7 * 86_400 / board.speed:.0f} s.",
        f"- HAProxy, V1, V2, the weather provider and the controller as processes of their own; "
        f"{record.users:,} users and {_staff(board)} staff over real connections, about {record.rate:.0f} requests/s "
        f"(seed {record.seed}, {record.processors} processors).",
        f"- Nothing fails but by the script. In step with the fast clock, V2's breaker cools down for "
        f"{record.cooldown_s:g} s instead of 30 s, and weather of one place and day is kept for {record.keep_s:g} s.",
    ]
    if factor < 1:
        lines.append(f"- The machine could not keep up: the rate was lowered to {factor:.0%} of that.")
    return lines


def _staff(board: Board) -> int:
    return sum(len(board.plan.assignment.cohorts.get(name, ())) for name in board.plan.staff_cohorts())


def _phases(board: Board) -> list[str]:
    head = ("Phase", "V2's share", "Seen", "Plan days", "Seconds", "Requests V1", "Requests V2", "Ended")
    return _table(head, [_visit(board, visit) for visit in board.visits])


def _visit(board: Board, visit: PhaseVisit) -> tuple[str, ...]:
    ended = board.now if visit.ended is None else visit.ended
    again = f" (attempt {visit.attempt})" if visit.attempt > 1 else ""
    return (
        f"{visit.name}{again}",
        percent(visit.weight),
        "-" if visit.weight_seen is None else percent(visit.weight_seen),
        f"{board.day(visit.begun):.1f} - {board.day(ended):.1f}",
        f"{(ended - visit.begun) / board.speed:.1f}",
        f"{visit.requests.get('v1', 0):,}",
        f"{visit.requests.get('v2', 0):,}",
        visit.end or "not ended",
    )


def _decisions(board: Board) -> list[str]:
    rows = [
        (
            clock(board.elapsed(event["at"])),
            f"{board.day(event['at']):.1f}",
            event["kind"],
            event["data"].get("name", ""),
            event["data"].get("by", "") or "evidence",
            event["data"].get("reason", ""),
        )
        for event in board.events
        if event["kind"] in _DECISIONS
    ]
    return _table(("At", "Plan day", "What", "Phase", "By", "Why"), rows)


def _rollbacks(record: Record) -> list[str]:
    lines: list[str] = []
    last = record.summary.get("last_v2_after_s", [])
    for number, rollback in enumerate(record.board.rollbacks):
        lines += _rollback(record, rollback, last[number] if number < len(last) else None)
    if not lines and record.board.defect_at is not None:
        lines = [f"Planted at {clock(record.board.defect_at)}, and never rolled back."]
    return lines


def _rollback(record: Record, rollback: Rollback, last_v2_s: float | None) -> list[str]:
    board = record.board
    if rollback.planted and rollback.since_defect_s is not None:
        begun = (
            f"- In `{rollback.phase}`, V2 was made to fail {record.defect:.0%} of its requests; "
            f"{rollback.since_defect_s:.1f} s later the controller rolled back."
        )
    else:
        begun = f"- In `{rollback.phase}` the controller rolled back, which the script did not mean."
    after = (
        "V2 answered no request that was sent after it"
        if last_v2_s is None
        else f"the last request that V2 answered was sent {last_v2_s * 1000:.0f} ms after it"
    )
    lines = [
        begun,
        f"- Why (`{rollback.trigger}`): {rollback.reason}",
        f"- Rollback time: {rollback.took_s * 1000:.1f} ms until every proxy had confirmed; {after}.",
        f"- Users hurt: the controller knew of {rollback.users_hurt} when it decided{_hurt(record)}.",
    ]
    if rollback.retried is not None:
        pause = rollback.retried - board.elapsed(rollback.at)
        lines.append(f"- V2 was fixed, redeployed and retried {pause:.1f} s later, with the same users.")
    return lines


def _hurt(record: Record) -> str:
    """Return what the users themselves count; only where one rollback can be meant by it."""
    hurt, failed = record.summary.get("hurt"), sum(v["failed"] for v in record.summary.get("versions", {}).values())
    if hurt is None or len(record.board.rollbacks) != 1:
        return ""
    return f"; {hurt} of {record.users:,} got {failed} failed answers before everybody was back on V1"


def _outage(board: Board) -> list[str]:
    lines = _outage_seen(board.outage) if board.outage is not None else []
    if board.breaker:
        rows = [(f"{change.elapsed:.1f} s", f"{change.old} -> {change.new}", change.reason) for change in board.breaker]
        lines += (
            ["", *_table(("At", "V2's weather breaker", "Why"), rows)]
            if lines
            else _table(("At", "V2's weather breaker", "Why"), rows)
        )
    alerts = [e for e in board.events if e["kind"] in ("AlertRaised", "AlertCleared")]
    if alerts:
        told = [
            f"- {clock(board.elapsed(e['at']))} {e['kind']} `{e['data']['key']}`: {e['data']['sentence']}"
            for e in alerts
        ]
        lines += ["", *told]
    return lines


def _outage_seen(outage: Outage) -> list[str]:
    if outage.ended is None:
        return ["The provider hung when the demo ended."]
    lines = [
        f"The provider hung from {outage.begun:.1f} s to {outage.ended:.1f} s. Until the breaker had closed again:",
        "",
    ]
    if not outage.after:
        return [*lines, "- the breaker did not close while the demo watched."]
    v1, v2 = (_grown(outage, version) for version in (V1, V2))
    return [
        *lines,
        f"- V2 gave {v2['answers']:,} answers, {v2['weather_unavailable']:,} of them without weather; "
        f"its p95 was at most {outage.worst_p95_ms:.0f} ms in any half second.",
        f"- {v2['incomplete']} of them lacked flights or hotels; "
        f"failed: {_share(v2['failed'], v2['answers'])} on V2, {_share(v1['failed'], v1['answers'])} on V1.",
    ]


def _grown(outage: Outage, version: str) -> dict[str, int]:
    before, after = outage.before[version], outage.after[version]
    return {name: after[name] - before[name] for name in ("answers", "failed", "incomplete", "weather_unavailable")}


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "-"


def _users(summary: Mapping[str, Any]) -> list[str]:
    if not summary:
        return ["The users could not be asked."]
    lost = sum(summary["lost"].values())
    statuses = ", ".join(f"{count:,} x {status}" for status, count in summary["statuses"].items())
    lines = [
        f"- {summary['sent']:,} requests, {summary['answered']:,} answers ({statuses}); **{lost} lost requests**"
        f"{'' if not lost else ': ' + ', '.join(f'{n} x {why}' for why, n in summary['lost'].items())}.",
        f"- {summary['retried']:,} requests were asked twice: the kept connection had been closed before a byte came.",
        f"- {summary['moved_back']:,} moves of users from V2 back to V1 by rollbacks; "
        f"{summary['violations']} without one.",
        "",
    ]
    head = ("As users saw it", "Answers", "Failed", "Without flights or hotels", "With weather", "p50", "p95", "p99")
    return [*lines, *_table(head, [_version(name, side) for name, side in summary["versions"].items()])]


def _version(name: str, side: Mapping[str, Any]) -> tuple[str, ...]:
    answered = side["weather_ok"] + side["weather_unavailable"]
    times = ["-" if side[f"p{q}_ms"] is None else f"{side[f'p{q}_ms']:.1f} ms" for q in (50, 95, 99)]
    return (
        name.upper(),
        f"{side['answers']:,}",
        f"{side['failed']:,} ({_share(side['failed'], side['answers'])})",
        f"{side['incomplete']:,}",
        _share(side["weather_ok"], answered),
        *times,
    )


def _differences(differences: Sequence[Difference]) -> list[str]:
    return [f"- {difference}" for difference in differences]

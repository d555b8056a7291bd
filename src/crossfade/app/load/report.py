"""What a load came to, for programs and for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from crossfade.app.load.options import Work
from crossfade.core.load.curve import Profile
from crossfade.core.load.judge import Check, expected_by, judge, judge_peak
from crossfade.core.load.latency import Latencies
from crossfade.core.load.tally import Part, Sums, Tally
from crossfade.core.verdict import Verdict, combine
from crossfade.core.words import duration

QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
LATE_MS = 10.0
"""A driver that is later than this in 1 of 100 starts could not keep up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One run."""

    work: Work
    tally: Tally
    lasted_s: float
    partial: bool
    cpu_s: float
    """Processor time of the driver."""

    def checks(self) -> tuple[Check, ...]:
        """Hold what was expected against what was seen."""
        work, wanted = self.work, bool(self.work.on_v2) or self.work.profile is Profile.PEAK
        checks = judge(self.tally, expected_by(work.plan), v2_wanted=wanted)
        planned = work.planned
        if work.profile is Profile.PEAK and planned is not None:
            checks += (judge_peak(self.tally, planned),)
        return checks

    def verdict(self) -> Verdict:
        """Return what the run shows; one that was stopped shows no PASS."""
        found = combine(check.verdict for check in self.checks())
        return combine([found, Verdict.INCONCLUSIVE]) if self.partial else found


def as_data(ran: Ran) -> dict[str, Any]:
    """Return the result for programs; times are milliseconds where the name says so, else seconds."""
    work, tally, total = ran.work, ran.tally, ran.tally.total()
    late = tally.late.quantile_ms(0.99)
    return {
        "plan": work.plan.name,
        "digest": work.plan.digest,
        "target": work.named,
        "profile": work.profile.value,
        "peak": work.peak.said if work.peak else None,
        "users": work.users,
        "think_s": work.think_s if work.rate is None else None,
        "rate": work.rate,
        "share_asking_for_v2": work.on_v2,
        "seed": work.seed,
        "seconds": work.curve.seconds,
        "lasted_s": ran.lasted_s,
        "partial": ran.partial,
        "verdict": ran.verdict().value,
        "checks": [{**asdict(check), "verdict": check.verdict.value} for check in ran.checks()],
        "all": _sums(total, ran.lasted_s),
        "versions": [
            {"version": key[0], **_sums(sums, ran.lasted_s)} for key, sums in tally.by(lambda p: (_who(p),)).items()
        ],
        "regions": [
            {"version": key[0], "region": key[1], **_sums(sums, ran.lasted_s)}
            for key, sums in tally.by(lambda p: (_who(p), p.region)).items()
        ],
        "scenarios": [
            {"version": key[0], "scenario": key[1], **_sums(sums, ran.lasted_s)}
            for key, sums in tally.by(lambda p: (_who(p), p.scenario)).items()
        ],
        "troubles": {
            trouble.value: {"count": times, "example": tally.examples.get(trouble, "")}
            for trouble, times in total.troubles.most_common()
        },
        "statuses": {str(status): times for status, times in sorted(total.statuses.items())},
        "retried": tally.retried,
        "abandoned": tally.abandoned,
        "overdue": tally.overdue,
        "driver": {
            "cpu_of_a_core": ran.cpu_s / ran.lasted_s if ran.lasted_s else None,
            "late_p99_ms": late,
            "kept_up": late is None or late <= LATE_MS,
        },
    }


def _who(part: Part) -> str:
    return part.version.value if part.version else "unknown"


def _sums(sums: Sums, lasted_s: float) -> dict[str, Any]:
    return {
        "requests": sums.requests,
        "failures": sums.failures,
        "per_s": sums.requests / lasted_s if lasted_s else None,
        "latency_ms": _quantiles(sums.latency),
        "service_ms": _quantiles(sums.service),
        "troubles": {trouble.value: times for trouble, times in sums.troubles.most_common()},
    }


def _quantiles(latency: Latencies) -> dict[str, float | None]:
    found = {f"p{q * 100:g}".replace(".", "_"): latency.quantile_ms(q) for q in QUANTILES}
    return {"mean": latency.mean_ms(), **found, "max": 1000 * latency.max_s if latency.count else None}


def as_text(data: dict[str, Any]) -> str:
    """Return the result for people."""
    lines = [*_head(data), "", *_table(data), ""]
    if data["troubles"]:
        lines += ["failures"]
        lines += [f"  {kind}: {one['count']:,}, such as: {one['example']}" for kind, one in data["troubles"].items()]
        lines += [""]
    lines += [f"{one['verdict']:12}  {one['text']} ({one['of']}): {one['said']}" for one in data["checks"]]
    lines += notes(data)
    return "\n".join([*lines, "", _end(data)])


def _head(data: dict[str, Any]) -> list[str]:
    how = f"{data['rate']:g}/s" if data["rate"] is not None else f"thinking {data['think_s']:g} s"
    lines = [
        f"{data['plan']}: {data['users']:,} users on {data['target']}, {how}, "
        f"{data['profile']} for {duration(data['seconds'])}"
    ]
    if data["peak"]:
        lines.append(f"peak: {data['peak']}")
    if data["share_asking_for_v2"] is not None:
        lines.append(f"asking for V2: {data['share_asking_for_v2']:.2%} of the users")
    if data["partial"]:
        lines.append(f"PARTIAL: stopped after {duration(data['lasted_s'])}; {data['abandoned']:,} were under way")
    return lines


def rows(data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the table's rows: all, then by version, region and scenario."""
    found = [("all", data["all"])]
    found += [(one["version"], one) for one in data["versions"]]
    found += [(f"{one['version']} {one['region']}", one) for one in data["regions"] if one["region"]]
    if len({one["scenario"] for one in data["scenarios"]}) > 1:
        found += [(f"{one['version']} {one['scenario']}", one) for one in data["scenarios"]]
    return found


def cells(one: dict[str, Any]) -> tuple[str, ...]:
    """Return a row's figures: requests, per second, failures, p50, p95, p99, max."""
    latency = one["latency_ms"]
    per_s = "-" if one["per_s"] is None else f"{one['per_s']:,.1f}"
    return (
        f"{one['requests']:,}",
        per_s,
        f"{one['failures']:,}",
        *("-" if latency[q] is None else f"{latency[q]:,.1f}" for q in ("p50", "p95", "p99", "max")),
    )


HEAD = ("requests", "/s", "failed", "p50 ms", "p95 ms", "p99 ms", "max ms")


def _table(data: dict[str, Any]) -> list[str]:
    table = [("", *HEAD), *((name, *cells(one)) for name, one in rows(data))]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEAD) + 1)]
    return [_row(row, widths) for row in table]


def _row(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = row
    return f"{first:{widths[0]}}  " + "  ".join(f"{c:>{w}}" for c, w in zip(rest, widths[1:], strict=True))


def notes(data: dict[str, Any]) -> list[str]:
    """Return what is to be known of the figures."""
    driver, found = data["driver"], []
    if not driver["kept_up"]:
        found.append(
            f"this machine could not keep up: 1 in 100 requests was sent {driver['late_p99_ms']:,.0f} ms late or more, "
            "which the latencies hold; ask with fewer users or a lower rate"
        )
    if data["overdue"]:
        found.append(
            f"{data['overdue']:,} more were to be sent when the time was over, by users who still waited; "
            "the latencies hold how long"
        )
    unknown = next((one for one in data["versions"] if one["version"] == "unknown"), None)
    if unknown and unknown["requests"] > unknown["failures"]:
        found.append("some good answers did not tell their version; the plan's load.version names the header")
    return found


def _end(data: dict[str, Any]) -> str:
    driver = data["driver"]
    cpu = "" if driver["cpu_of_a_core"] is None else f"; the driver used {driver['cpu_of_a_core']:.0%} of a core"
    return f"{data['verdict']}{cpu}"

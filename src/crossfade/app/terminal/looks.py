"""What the commands that look print: metrics with their evidence, and one decision with what it rested on. Pure."""

from __future__ import annotations

import textwrap
from typing import Any

from crossfade.app import values
from crossfade.core.words import duration, moment, percent, ratio_words

WIDTH = 80
MARKS = {"PASS": "✔", "FAIL": "✖", "INCONCLUSIVE": "◌", "BLIND": "?"}
_SOME = 3
"""Reasons that a line gives at most."""
_HEADS = (
    *("METRIC", "VERDICT", "V1", "V2", "RATIO", "MARGIN", "HARM", "PROMOTE", "N1", "N2", "HURT"),
    *("ENOUGH IN", "BASELINE", "TARGET", "GUARD"),
)


def bound(kind: str, limit: dict[str, Any] | None) -> str:
    """Return a bound as the plan says it."""
    return "-" if limit is None else values.bound(kind, limit["comparison"], limit["value"], of_v1=limit["of_v1"])


def odds(log_e: float | None, needed: float | None) -> str:
    """Return evidence as odds beside what is needed: `12:1 of 1,000:1`; `-` where the metric compares nothing."""
    return "-" if needed is None else f"{values.odds(log_e)} of {values.odds(needed)}"


def band(reading: dict[str, Any]) -> str:
    """Return V2's rate over V1's with the ends of its confidence sequence."""
    if reading["ratio"] is None:
        return "-"
    return "{} ({})".format(*ratio_words(reading["ratio"], reading["ratio_low"], reading["ratio_high"]))


def table(rows: list[list[str]]) -> str:
    """Return rows as columns, the first row being their heads."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def metrics(data: list[dict[str, Any]], *, wide: bool) -> str:
    """Return what is seen of each metric in this phase; wide: one line each, with what the plan wants of it."""
    return _wide(data) if wide else "\n\n".join(_metric(metric) for metric in data)


def _metric(metric: dict[str, Any]) -> str:
    reading, kind = metric["reading"], metric["kind"]
    if reading is None:
        return f"? {metric['name']}: not looked at yet"
    sample = f"sample {reading['n1']:,} of V1, {reading['n2']:,} of V2"
    lines = [
        f"{MARKS[verdict(metric)]} {metric['name']}",
        f"    V1 {values.value(kind, reading['v1'])}, V2 {values.value(kind, reading['v2'])}; {sample}",
    ]
    if reading["ratio"] is not None:
        lines.append(f"    V2 over V1 {band(reading)}, margin {metric['margin']:g}")
    if reading["harm_needed"] is not None or reading["promote_needed"] is not None:
        harm, fine = (odds(reading[f"{side}_log_e"], reading[f"{side}_needed"]) for side in ("harm", "promote"))
        lines.append(f"    evidence of harm {harm}; within the margin {fine}")
    lines.append(filled(reading["sentence"], "    "))
    if len(metric["regions"]) > 1:
        lines += ["    by region, since this controller began:", *(_region(kind, row) for row in metric["regions"])]
    return "\n".join(lines)


def _region(kind: str, row: dict[str, Any]) -> str:
    v1, v2 = (values.value(kind, row[version]) for version in ("v1", "v2"))
    told = f"{row['region'] or 'not said'}: V1 {v1}, V2 {v2}; sample {row['n1']:,} of V1, {row['n2']:,} of V2"
    return filled(told, " " * 8, " " * 6)


def verdict(metric: dict[str, Any]) -> str:
    """Return the verdict to show: the guardrail's where it is breached or nothing else is asked, else the target's."""
    reading = metric["reading"]
    if reading is None:
        return "BLIND"
    asked = metric["target"] is not None and metric["kind"] != "breaker" and reading["guard"] != "FAIL"
    return str(reading["target" if asked else "guard"])


def _wide(data: list[dict[str, Any]]) -> str:
    head = [*_HEADS]
    rows = [head]
    for metric in data:
        kind, reading = metric["kind"], metric["reading"]
        wanted = [
            values.value(kind, metric["baseline"]),
            bound(kind, metric["target"]),
            metric["guard"]["text"] if metric["guard"] else "-",
        ]
        if reading is None:
            rows.append([metric["name"], "BLIND", *["-"] * (len(head) - 5), *wanted])
            continue
        forecast = reading["forecast_s"]
        rows.append(
            [
                metric["name"],
                verdict(metric),
                values.value(kind, reading["v1"]),
                values.value(kind, reading["v2"]),
                band(reading),
                f"{metric['margin']:g}",
                odds(reading["harm_log_e"], reading["harm_needed"]),
                odds(reading["promote_log_e"], reading["promote_needed"]),
                f"{reading['n1']:,}",
                f"{reading['n2']:,}",
                f"{reading['users_hurt']:,}",
                "-" if forecast is None or forecast[1] is None else duration(forecast[1]),
                *wanted,
            ]
        )
        if len(metric["regions"]) > 1:
            rows += [_wide_region(kind, row) for row in metric["regions"]]
    return table(rows)


def _wide_region(kind: str, row: dict[str, Any]) -> list[str]:
    """Return a region's row below its metric's: the columns that speak of no single region stay empty."""
    told = dict.fromkeys(_HEADS, "") | {
        "METRIC": f"  {row['region'] or 'not said'}",
        "V1": values.value(kind, row["v1"]),
        "V2": values.value(kind, row["v2"]),
        "N1": f"{row['n1']:,}",
        "N2": f"{row['n2']:,}",
    }
    return list(told.values())


def decisions(data: list[dict[str, Any]], *, wide: bool) -> str:
    """Return the latest decisions, newest first, each with its number; wide: with phase, revision and commands."""
    if not data:
        return "nothing has been decided yet"
    if not wide:
        return "\n".join(filled(f"{d['sentence']}", " " * 28, f"{d['number']:>6}  {moment(d['at'])} ") for d in data)
    rows = [["NUMBER", "AT", "OUTCOME", "PHASE", "STATE", "REVISION", "COMMANDS", "REASON"]]
    for d in data:
        commands = ",".join(d.get("commands", [])) or "-"
        of = [str(d.get(name, "-")) for name in ("phase", "state", "revision")]
        rows.append([str(d["number"]), moment(d["at"]), d["outcome"], *of, commands, d["sentence"]])
    return table(rows)


def decision(data: dict[str, Any]) -> str:
    """Return one decision with everything that it rested on."""
    seen = data.get("seen") or {}
    lines = [
        f"Decision {data['number']} of {moment(data['at'])} UTC, in {data.get('phase', '-')}: {data['outcome']}",
        filled(data["sentence"], "  "),
    ]
    if data.get("commands"):
        lines.append(f"  carried out: {', '.join(data['commands'])}")
    if data.get("gates"):
        lines += ["", "Gates", *(filled(g["evidence"], " " * 6, f"  {_mark(g)} {g['gate']}: ") for g in data["gates"])]
    readings = (seen.get("readings") or {}).values()
    if readings:
        lines += ["", "Evidence", *(line for reading in readings for line in _evidence(reading))]
    blind = seen.get("blind") or []
    if blind:
        lines += ["", "Not seen", *(filled(b["reason"], " " * 6, f"  ? {b['what']}: ") for b in blind)]
    if not data.get("seen"):
        lines += ["", "It rested on a short window of failures alone, not on a whole look."]
    return "\n".join(lines)


def _mark(gate: dict[str, Any]) -> str:
    return MARKS.get(gate["verdict"], "?")


def _evidence(reading: dict[str, Any]) -> list[str]:
    lines = [filled(reading["sentence"], " " * 6, f"  {MARKS.get(reading['guard'], '?')} ")]
    if reading["ratio"] is not None:
        lines.append(f"      V2 over V1 {band(reading)}")
    if reading["harm_needed"] is not None:
        lines.append(f"      odds of harm {odds(reading['harm_log_e'], reading['harm_needed'])} needed")
    if reading["promote_needed"] is not None:
        fine = odds(reading["promote_log_e"], reading["promote_needed"])
        lines.append(f"      odds of being within the margin {fine} needed")
    if reading["onset"] is not None:
        lines.append(f"      it most likely began at {moment(reading['onset'])}")
    if reading["users_hurt"]:
        lines.append(f"      users with a failure on V2: {reading['users_hurt']:,}")
    return lines


def event(data: dict[str, Any], *, wide: bool = False) -> str:
    """Return one event; wide: on one line."""
    head = f"{data['revision']:>4} {moment(data['at'])}  {data['kind']} "
    parts = [f"{key}={told}" for key, told in data["data"].items() if told not in ("", None, {}, [])]
    text = ", ".join(parts) or "."
    return head + text if wide else filled(text, " " * 26, head)


def state(status: dict[str, Any]) -> str:
    """Return the big plain word of what is most wrong; empty where nothing is."""
    if status["state"] in ("rolled_back", "aborted"):
        return f"{status['state'].replace('_', ' ').upper()}: {status['rollback_reason'] or 'everyone is on V1'}"
    if any(b["matters"] for b in status["blind"]) or (status["decision"] or {}).get("outcome") == "BLIND":
        why = [b["reason"] for b in status["blind"] if b["matters"]][:_SOME] or [status["decision"]["reason"]]
        return f"BLIND: {'; '.join(why)}"
    if status["fenced"]:
        return f"MAY NOT ACT: {status['fenced']}"
    return ""


def split(status: dict[str, Any]) -> str:
    """Return V2's share, wanted and seen."""
    if status["killed"]:
        return "everyone on V1"
    seen = "nothing seen yet" if status["weight_seen"] is None else f"{percent(status['weight_seen'])} of requests seen"
    return f"{percent(status['weight'])} of users on V2, {seen}"


def filled(text: str, indent: str, first: str = "") -> str:
    """Return a text in lines of at most 80 columns."""
    return textwrap.fill(text, WIDTH, initial_indent=first or indent, subsequent_indent=indent)

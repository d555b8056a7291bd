"""What commands print for people: plain text that fits 80 columns where its content does."""

from __future__ import annotations

import textwrap
from typing import Any

from crossfade.core.words import duration, moment, percent

_MARKS = {"PASS": "✔", "FAIL": "✖", "INCONCLUSIVE": "◌", "BLIND": "?"}
WIDTH = 80


def _wrapped(text: str, indent: str, first: str = "") -> str:
    return textwrap.fill(text, WIDTH, initial_indent=first or indent, subsequent_indent=indent)


def whois(answers: list[dict[str, Any]]) -> str:
    """Return one line per phase: version and why."""
    return "\n".join(f"{a['phase']:<10} {a['version']}  {a['reason']}" for a in answers)


def status(data: dict[str, Any]) -> str:
    """Return where a rollout is, its checklist and its last decision."""
    phase = data["phase"]
    held = f", holding: {data['held_kind']}" if data["held"] else ""
    lines = [
        f"{data['rollout']}: {data['state'].upper().replace('_', ' ')}{held}",
        f"Phase     {phase['index'] + 1} of {phase['count']}, {phase['name']}, since {moment(phase['since'])}",
        _wrapped(_split(data), " " * 10, "Split     "),
        f"Requests  V1 {data['requests']['v1']:,}, V2 {data['requests']['v2']:,} in this phase",
        _wrapped(data["users"]["sentence"], " " * 10, "Users     "),
        *_nodes(data["nodes"]),
    ]
    if goes_on := next((one for one in data["brownouts"] if one["state"] == "now"), None):
        meets = f"{percent(goes_on['share'])} of the clients"
        lines.append(f"Brownout  {goes_on['name']} until {moment(goes_on['until'])}, {meets}")
    if data["gates"] and data["state"] in ("running", "paused"):
        lines += ["", "Gates", *(_gate(gate) for gate in data["gates"])]
    if data["alerts"]:
        lines += ["", "Alerts", *(_wrapped(text, "    ", f"  ! {key}: ") for key, text in data["alerts"].items())]
    if data["rollback_reason"] and data["state"] in ("rolled_back", "aborted"):
        lines += ["", _wrapped(f"Rolled back: {data['rollback_reason']}", "  ")]
    if data["decision"]:
        lines += ["", _wrapped(data["decision"]["sentence"], "  ", "Decision  ")]
    if data["fenced"]:
        lines += ["", f"This controller may not act: {data['fenced']}"]
    return "\n".join(lines)


def _split(data: dict[str, Any]) -> str:
    if data["killed"]:
        return "everyone on V1"
    cohorts = [f"{name} {percent(share)}" for name, share in data["split"]["cohorts"].items()]
    inside = f" ({', '.join(cohorts)}, everyone else {percent(data['split']['everyone'])})" if cohorts else ""
    seen = "" if data["weight_seen"] is None else f"; seen {percent(data['weight_seen'])} of requests"
    applied = "" if data["applied"] else "; not yet confirmed by the proxy"
    return f"{percent(data['weight'])} of users on V2{inside}{seen}{applied}"


def _nodes(nodes: list[dict[str, Any]]) -> list[str]:
    return [
        _wrapped(f"{n['node']}: {'serving' if n['reachable'] else n['error']}", " " * 10, "Proxy     ") for n in nodes
    ]


def _gate(gate: dict[str, Any]) -> str:
    left = "" if not gate["left_s"] else f" (about {duration(gate['left_s'])} left)"
    return _wrapped(f"{gate['evidence']}{left}", " " * 6, f"  {_MARKS[gate['verdict']]} {gate['gate']}: ")


def after_verb(name: str, data: dict[str, Any]) -> str:
    """Return one line: what was done and where the rollout is."""
    done = {
        "promote": f"promoted to {data['phase']['name']}",
        "pause": "paused: no promotions; guardrails are watched",
        "resume": "resumed",
        "approve": f"approved leaving {data['phase']['name']}",
        "rehearse": "has the rehearsal recorded",
        "rollback": "rolled back: everyone is on V1",
        "retire": f"{data['state']}: V1 is out of the proxy for good",
        "abort": "aborted: everyone is on V1, the rollout is over",
        "stop-brownout": "has that brownout stopped: it does not come again",
        "drill": f"drilled {data['drilled']}",
        "retry": f"started again in {data['phase']['name']}",
    }[name]
    return f"{data['rollout']} {done}; {_split(data)}"


def brownouts(data: list[dict[str, Any]]) -> str:
    """Return one line per brownout."""
    if not data:
        return "the plan has no brownouts; `deprecation: brownouts:` plans them"
    return "\n".join(
        f"{one['name']:<20} {moment(one['at'])} for {duration(one['until'] - one['at'])}, "
        f"{percent(one['share'])} of the clients: {one['state']}"
        for one in data
    )


def tokens(data: list[dict[str, Any]]) -> str:
    """Return one line per token."""
    if not data:
        return "there is no token; `crossfade token create` makes one"
    return "\n".join(
        f"{t['name']:<20} {t['role']:<9} made {moment(t['created_at'])} by {t['created_by']}, {_until(t)}" for t in data
    )


def _until(token: dict[str, Any]) -> str:
    if token["expires_at"] is None:
        return "until revoked"
    return f"{'EXPIRED' if token['expired'] else 'until'} {moment(token['expires_at'])}"


def enrolments(data: list[dict[str, Any]]) -> str:
    """Return who joined a cohort or left one; their keys are not kept."""
    if not data:
        return "nobody has joined a cohort or left one: the plan's lists hold"
    return "\n".join(
        f"{one['user']:>20}  {'in ' + one['cohort'] if one['cohort'] else 'left':20} "
        f"agreed {moment(one['consented_at'])}, by {one['by']}"
        for one in data
    )


def acts(data: list[dict[str, Any]]) -> str:
    """Return who asked for what, oldest first."""
    if not data:
        return "nobody has asked for anything yet"
    return "\n".join(_wrapped(_act(act), " " * 21, f"{moment(act['at'])}  ") for act in data)


def _act(act: dict[str, Any]) -> str:
    who = f"{act['by'] or 'somebody'}{f' ({role})' if (role := act['role']) else ''}"
    where = f" from {act['address']}" if act["address"] else ""
    refused = f"; REFUSED ({act['status']}): {act['detail']}" if act["status"] >= 400 else ""
    more = f" ({act['left_out']} more refusals before it)" if act["left_out"] else ""
    reason = f", because {act['reason']}" if act["reason"] else ""
    return f"{who}{where}: {act['act']} {act['rollout']}".rstrip() + f"{reason}{refused}{more}"

"""The plan language as JSON Schema (draft 2020-12), for editors: completion, and structural mistakes while typing.

`load_plan` checks all that this does, and what a schema can't: splits that fall, gates that can't be met, files.
"""

from __future__ import annotations

from typing import Any

from crossfade.app.planfile.deprecation import BROWNOUTS_MAX
from crossfade.app.planfile.events import EVENT_KEYS
from crossfade.app.planfile.notices import NOTICE_FORMS, RULES_MAX, VARIABLE
from crossfade.app.planfile.owners import STEPS
from crossfade.app.planfile.sentences import GATE_FORMS, GUARD_FORMS
from crossfade.core.contract.rules import RULES
from crossfade.core.plan import NoticeKind

_NUMBER = r"[0-9]{1,9}(\.[0-9]{1,9})?"
_TIME = rf"(?=[0-9])({_NUMBER}w ?)?({_NUMBER}d ?)?({_NUMBER}h ?)?({_NUMBER}m ?)?({_NUMBER}s)?"
_QUANTITY = rf"{_NUMBER}( ?(%|ms|s))?"
_COMPARISON = r"(<=|>=|≤|≥|<|>|=)"
_ACTION = r"(monitor|alert|hold|rollback)"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"[0-9]{2}:[0-9]{2}(:[0-9]{2})?( ?(Z|[+-][0-9]{2}:[0-9]{2})| [A-Z][A-Za-z0-9_+/-]{1,63})"
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"


def json_schema() -> dict[str, Any]:
    """Return the schema; it takes YAML as editors read it, with numbers as numbers and `5%` as text."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://crossfade.dev/plan-1.schema.json",
        "title": "Crossfade plan",
        **_object(
            {
                "crossfade": {"const": 1, "description": "Version of the plan language."},
                "rollout": _text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "Name of the rollout; seeds the bucket hash."),
                "api": _api(),
                "assignment": _assignment(),
                "events": _events(),
                "metrics": _metrics(),
                "sources": _sources(),
                "confidence": _confidence(),
                "phases": {"type": "array", "minItems": 1, "items": _phase()},
                "when blind": _text(rf"hold|rollback after {_TIME}", "What to do when nothing can be seen."),
                "unattended": _unattended(),
                "override secret": _object({"file": _any_text("File that holds the secret.")}, ["file"]),
                "load": _load(),
                "contract": _contract(),
                "mirror": _mirror(),
                "rehearsal": _rehearsal(),
                "notify": {"oneOf": [_notice_rule(), _notice_rules()]},
                "deprecation": _deprecation(),
                "feedback": _feedback(),
                "clients": _clients(),
            },
            ["crossfade", "rollout", "api", "assignment", "metrics", "phases"],
        ),
    }


def _api() -> dict[str, Any]:
    version = _object({"path": _path("Path of this version."), "upstreams": _addresses()}, ["path", "upstreams"])
    return _object(
        {
            "entry": _path("Path at which clients are split."),
            "listen": _address("Where the proxy listens: host:port."),
            "v1": version,
            "v2": version,
        },
        ["entry", "v1", "v2"],
    )


def _assignment() -> dict[str, Any]:
    key = _text(r"(header|cookie) [A-Za-z0-9!#$&^_.+-]{1,128}|address", "header X-User-Id, cookie uid or address.")
    sent = _text(r"(header|cookie) [A-Za-z0-9!#$&^_.+-]{1,128}", "header X-Region or cookie region.")
    return _object(
        {
            "user": {"oneOf": [key, {"type": "array", "minItems": 1, "items": key}]},
            "client": sent,
            "region": sent,
            "cohorts": {
                "type": "object",
                "propertyNames": {"pattern": f"^{_NAME}$"},
                "additionalProperties": _any_text("File with one user key a line."),
            },
            "users": {"type": "integer", "minimum": 1, "description": "How many users there are, staff aside."},
            "salt": _scalar("Anything; changes who falls into which bucket."),
        },
        ["user"],
    )


def _metrics() -> dict[str, Any]:
    fact = _text(r"[a-z][a-z0-9_.-]{0,63}", "Name of a fact in Crossfade-Facts.")
    value = {"oneOf": [{"type": "number", "minimum": 0}, _text(_QUANTITY, "0.5%, 300ms or a count.")]}
    target = {"oneOf": [value, _text(rf"{_COMPARISON} ?{_QUANTITY}( (of|times) [vV]1)?", "Such as <= 0.5%.")]}
    worse = r"( and worse than [vV]1| of [vV]1| times [vV]1)?"
    arrow = r" ?(->|→) ?"
    limit = rf"(<=|>=|≤|≥|<|>) ?{_QUANTITY}"
    event = _text(r"[a-z][a-z0-9_]{0,31}", "Name of an event of the plan.")
    guard = rf"monitor|open ?> ?{_TIME}{arrow}{_ACTION}|{limit}{worse}{arrow}{_ACTION}"
    metric = _object(
        {
            "fact": fact,
            "value": _scalar("The fact's value that is counted."),
            "breaker": fact,
            "timing": fact,
            "outcome": _text(r"[a-z][a-z0-9_.-]{0,63}", "Name of an outcome that is posted for users."),
            "prometheus": _object({"bad": _query("bad ones"), "total": _query("all of them")}, ["bad", "total"]),
            "of": event,
            "reaches": event,
            "sums": event,
            "returns within": _text(_TIME, "Who does it again on a later day within this time: 1m to 28d."),
            "within": _text(_TIME, "How long a user's window lasts: 1m to 28d; default 1h."),
            "up to": _scalar("What a window adds up to beyond this counts as this."),
            "baseline": value,
            "target": target,
            "guard": _text(guard, "Condition watched all the time, and what it does.", GUARD_FORMS),
        },
        [],
    )
    return {
        "type": "object",
        "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,63}$"},
        "additionalProperties": metric,
    }


def _events() -> dict[str, Any]:
    path = _text(r"((/([A-Za-z0-9_.~:@+=-]+|\*))+)?(/\*\*)?", "Path as clients write it: /trips/*/book, /bookings/**.")
    paths = {"oneOf": [path, {"type": "array", "minItems": 1, "items": path}]}
    seen = _object(dict.fromkeys(EVENT_KEYS, paths), []) | {"minProperties": 1, "maxProperties": 1}
    return {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,31}$"},
        "additionalProperties": {"oneOf": [{"const": "posted", "description": "Programs tell of it."}, seen]},
    }


def _query(what: str) -> dict[str, Any]:
    return _text(
        r"(?=.*\$\{?version)(?=.*\$\{?interval).{1,2000}", f"PromQL: how many {what} $version had in $interval."
    )


def _sources() -> dict[str, Any]:
    prometheus = _object(
        {
            "url": _text(r"https?://[^/?#@]+(/[A-Za-z0-9._~@:+,=-]+)*/?", "Such as http://127.0.0.1:9090."),
            "every": _text(_TIME, "How often it is asked: whole seconds from 5s to 1h; default 1m."),
            "token": _object({"file": _any_text("File that holds the bearer token.")}, ["file"]),
        },
        ["url"],
    )
    return _object({"prometheus": prometheus}, ["prometheus"])


def _deprecation() -> dict[str, Any]:
    date = _text(rf"{_DATE}([T ]{_CLOCK})?", "Such as 2027-03-01 (midnight, UTC) or 2027-03-01T09:00+01:00.")
    link = _text(r"(https?:/)?/[^\s<>\"]+", "URL of a page, or a path.")
    brownout = _object(
        {
            "name": _text(_NAME, "Name of the brownout."),
            "at": _text(rf"{_DATE}[T ]{_CLOCK}", "When it begins, such as 2027-06-01T10:00 Europe/Berlin."),
            "for": _text(_TIME, "How long it lasts: 1m to 1d, such as 15m."),
            "share": _percent("Of the clients: these get 410 meanwhile."),
        },
        ["name", "at", "for", "share"],
    )
    return _object(
        {
            "since": date,
            "sunset": date,
            "from": {"type": "string"},
            "notice": link,
            "policy": link,
            "successor": link,
            "brownouts": {"type": "array", "minItems": 1, "maxItems": BROWNOUTS_MAX, "items": brownout},
        },
        ["since"],
    )


def _feedback() -> dict[str, Any]:
    return _object(
        {
            "topics": {"type": "array", "minItems": 1, "items": _any_text("What feedback may be about.")},
            "ask": _percent("Of the users: these are asked, once a phase."),
            "keep": _text(_TIME, "How long what was said is kept."),
            "framed by": {"type": "array", "minItems": 1, "items": _any_text("Origin that may frame the form.")},
        },
        [],
    )


def _clients() -> dict[str, Any]:
    network = _any_text("An address or a network, such as 10.0.0.0/8.")
    return _object(
        {
            "ids": {"enum": ["authenticated", "claimed"], "description": "Whether somebody has checked them."},
            "believed from": {"oneOf": [{"const": "anywhere"}, {"type": "array", "minItems": 1, "items": network}]},
            "else": {"const": "user agent", "description": "What names those without an id."},
            "notices": _owner_notices(),
        },
        [],
    )


def _owner_notices() -> dict[str, Any]:
    steps = {"type": "array", "minItems": 1, "uniqueItems": True, "items": {"enum": list(STEPS)}}
    text = {"type": "string", "minLength": 1, "description": "File beside the plan that holds the text."}
    return _object(
        {
            "steps": steps | {"description": "What owners are told; default: all that the plan has."},
            "from": _text(r"[^@\s]+@[^@\s]+", "Mail address that mails come from."),
            "mail": _kept("The URL of the server that takes mail."),
            "secret": _kept("What signs notices to owners with a URL."),
            "templates": _object(dict.fromkeys(STEPS, text), []),
        },
        [],
    )


def _confidence() -> dict[str, Any]:
    fraction = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 0.5}
    probability = {"oneOf": [fraction, _text(r"[1-4]?[0-9](\.[0-9]{1,9})? ?%", "Chance over the whole rollout.")]}
    burst = _text(_TIME, "How long a burst of V2's failures may last without a rollback: 1m to 1h; default 0s.")
    return _object({"false_rollback": probability, "false_promotion": probability, "burst_tolerance": burst}, [])


def _unattended() -> dict[str, Any]:
    return _object(
        {
            "after": _text(_TIME, "Real time without a controller: 5s to 1w, such as 10m."),
            "then": {"enum": ["alert", "rollback"], "description": "What the proxy does by itself; default alert."},
        },
        ["after"],
    )


def _phase() -> dict[str, Any]:
    shares = {"type": "object", "required": ["everyone else"], "additionalProperties": _percent("V2's share.")}
    about = {"oneOf": [{"type": "integer", "minimum": 1}, _text(r"(about )?[1-9][0-9]*", "About how many users.")]}
    return _object(
        {
            "name": {"oneOf": [_text(_NAME, "Name of the phase."), {"type": "integer", "minimum": 0}]},
            "split": {"oneOf": [_percent("V2's share of all users."), shares]},
            "cohort": _any_text("Cohort that the users are drawn from first; at 0% all of it is on V2."),
            "users": about,
            "soak": _text(_TIME, "Least time the phase lasts, such as 1w."),
            "drill": _drill(),
            "margin": {"type": "number", "exclusiveMinimum": 1, "maximum": 100},
            "promote when": {
                "type": "array",
                "minItems": 1,
                "items": _text("|".join(_gates()), "Condition to leave the phase.", GATE_FORMS),
            },
            "then": {
                "enum": ["retire v1", "archive and retire v1"],
                "description": "Of the last phase: V1 may be retired after it.",
            },
        },
        ["name", "split"],
    )


def _drill() -> dict[str, Any]:
    return _object(
        {
            "after": _text(_TIME, "When the drill begins, counted from the phase's begin, such as 1d."),
            "within": _text(_TIME, "Real time that the rollback may take; default 1m."),
            "v1 capacity": _text(rf"{_NUMBER} ?/ ?s", "Requests per second that V1 may be given in all: 400/s."),
        },
        ["after"],
    )


def _load() -> dict[str, Any]:
    scenario = _object(
        {
            "name": _text(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", "Name of the scenario."),
            "get": _text(r"/\S{0,999}", "Path at the entry, and query; {name} is drawn from values."),
            "weight": {"type": "number", "minimum": 0.01, "maximum": 100},
        },
        ["name", "get"],
    )
    value = {"type": ["string", "number", "boolean"]}
    limit = rf"(failure_rate|latency_p[0-9]{{2,3}}) ?(<=|≤|<|=) ?{_QUANTITY}"
    return _object(
        {
            "users": {"type": "integer", "minimum": 1, "description": "How many users there are."},
            "think": _text(rf"{_TIME}|{_NUMBER} ?ms", "Mean time between two requests of a user, such as 1s."),
            "peak": _text(rf"{_NUMBER} ?/ ?s", "Requests per second in the busiest hour, such as 400/s."),
            "version": _text(r"header [A-Za-z0-9!#$&^_.+-]{1,128}", "Response header that tells the version."),
            "scenarios": {"type": "array", "minItems": 1, "maxItems": 50, "items": scenario},
            "values": {
                "type": "object",
                "propertyNames": {"pattern": "^[a-z][a-z0-9_]{0,31}$"},
                "additionalProperties": {"type": "array", "minItems": 1, "maxItems": 1000, "items": value},
            },
            "expect": {"type": "array", "minItems": 1, "items": _text(limit, "Such as latency_p99 <= 500ms.")},
        },
        [],
    )


def _contract() -> dict[str, Any]:
    document = _any_text("URL of the OpenAPI document, or a file beside the plan.")
    exemption = _object(
        {
            "rule": {"enum": list(RULES)},
            "at": _any_text("Place of the findings; * stands for anything."),
            "reason": _any_text("Why the change is wanted."),
        },
        ["rule", "at", "reason"],
    )
    return _object(
        {"v1": document, "v2": document, "except": {"type": "array", "minItems": 1, "items": exemption}}, ["v1", "v2"]
    )


def _mirror() -> dict[str, Any]:
    path = _any_text("Path of a field, such as hotels[].night_usd; it names everything below it as well.")
    paths = {"type": "array", "minItems": 1, "maxItems": 200, "items": path}
    header = _text(r"[A-Za-z0-9!#$&^_.+-]{1,128}", "Name of a header.")
    headers = {"type": "array", "minItems": 1, "maxItems": 200, "items": header}
    ends = {"type": "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}}
    by_path = {"type": "object", "minProperties": 1}
    expected = _any_text("Path in the reference's answer, and how near: temperature_c.mean within 0.5.")
    return _object(
        {
            "must_match": paths | {"description": "Fields that are judged; default: whatever V1 answers."},
            "ignore": paths | {"description": "Fields that are not compared."},
            "unordered": by_path | {"additionalProperties": _any_text("Field that tells items apart, or any.")},
            "headers": headers | {"description": "Response headers that are compared; default Content-Type."},
            "send": headers | {"description": "Request headers that are sent as recorded."},
            "with": by_path | {"additionalProperties": _any_text("Value of a request header.")},
            "mask": {"type": "array", "minItems": 1, "maxItems": 200, "items": _any_text("Name of a field.")},
            "bounds": by_path | {"additionalProperties": ends},
            "reference": _object(
                {
                    "get": _text(r"https?://[^\s<>\"]+", "URL; {name} is the question's parameter."),
                    "fields": by_path | {"additionalProperties": expected},
                },
                ["get", "fields"],
            ),
            "limit": {
                "oneOf": [{"type": "number", "minimum": 0.00001, "maximum": 0.5}, _text(rf"{_NUMBER} ?%", "0.1%")]
            },
            "rate": _text(rf"{_NUMBER} ?/ ?s", "Questions per second, such as 20/s."),
        },
        [],
    )


def _rehearsal() -> dict[str, Any]:
    fact = _text(r"[a-z][a-z0-9_.-]{0,63}", "Name of a fact in Crossfade-Facts.")
    breaker = _object(
        {
            "control": _text(r"https?://[^\s<>\"@]+", "URL at which the dependency is told to misbehave."),
            "dependency": fact,
            "needs": {"type": "array", "minItems": 1, "items": fact, "description": "Facts of every answer."},
            "cooldown": _text(_TIME, "As V2's breaker was started with; default 30s."),
        },
        ["control"],
    )
    expires = _text(_TIME, "How long a rehearsal counts for its gate; default 2w.")
    return _object({"expires": expires, "breaker": breaker}, [])


def _notice_rules() -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "maxItems": RULES_MAX, "items": _notice_rule()}


def _notice_rule() -> dict[str, Any]:
    lasting = "|".join(kind.value for kind in NoticeKind if kind.lasts)
    others = "|".join(kind.value for kind in NoticeKind if not kind.lasts)
    rule = _object(
        {
            "name": _text(_NAME, "Name of the rule; needed where there are several."),
            "on": {
                "type": "array",
                "minItems": 1,
                "items": _text(rf"{others}|({lasting})( {_TIME})?", "What is told.", NOTICE_FORMS),
            },
            "webhook": {"oneOf": [_text(r"https?://[^@\s]+", "Where CloudEvents are posted to."), _kept()]},
            "secret": _kept("Where the secret is kept that signs them: whsec_ and base64."),
            "apprise": _kept("Where apprise's URLs are kept, one a line."),
        },
        ["on"],
    )
    return rule | {"oneOf": [{"required": ["webhook"]}, {"required": ["apprise"]}]}


def _kept(description: str = "Where it is kept.") -> dict[str, Any]:
    places = {"file": _any_text("File that holds it."), "env": _text(VARIABLE, "Variable of the environment.")}
    return _object(places, []) | {"minProperties": 1, "maxProperties": 1, "description": description}


def _gates() -> tuple[str, ...]:
    return (
        r"[A-Za-z][A-Za-z0-9_]* on target",
        rf"[A-Za-z][A-Za-z0-9_]* ?{_COMPARISON} ?{_QUANTITY}",
        rf"no critical errors for {_TIME}",
        "no stuck breaker",
        rf"stable( for {_TIME})?",
        "no cascading failures",
        "rollback ready",
        "drill passed",
        "rehearsal passed",
        "peak load passed",
        rf"no [vV]1 requests for {_TIME}",
        "no exempted client left",
        "[vV]2 share rises continuously",
        "approved by (a person|[2-9] people)",
    )


def _object(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _text(pattern: str, description: str, examples: tuple[str, ...] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "string", "pattern": f"^({pattern})$", "description": description}
    return {**found, "examples": list(examples)} if examples else found


def _any_text(description: str) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "description": description}


def _scalar(description: str) -> dict[str, Any]:
    return {"type": ["string", "number", "boolean"], "description": description}


def _percent(description: str) -> dict[str, Any]:
    return _text(r"(100(\.0+)?|[0-9]{1,2}(\.[0-9]{1,9})?) ?%", description)


def _path(description: str) -> dict[str, Any]:
    return _text(r"(/[A-Za-z0-9._~@:+,=-]+)*/?", description)


def _address(description: str) -> dict[str, Any]:
    return _text(rf"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]):{_PORT}", description)


def _addresses() -> dict[str, Any]:
    return {"type": "array", "minItems": 1, "uniqueItems": True, "items": _address("Server: host:port.")}

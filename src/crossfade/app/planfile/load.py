"""The `load` section: what users ask in a test under load, and what must come of it."""

from __future__ import annotations

import re

from crossfade.app.planfile import quantities, sentences
from crossfade.app.planfile.fields import Field, suggest
from crossfade.app.planfile.metrics import quantile_of, read_limit
from crossfade.core.plan import Expectation, GateKind, Load, MetricKind, Scenario

LOAD_KEYS = ("users", "think", "peak", "version", "scenarios", "values", "expect")
SCENARIO_KEYS = ("name", "get", "weight")
BUILT_IN_VALUES = ("user", "date")
"""Placeholders that need no list: the user's key, and an ISO date of the coming week."""
SCENARIOS_MAX = 50
_VALUES_MAX = 1000
_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]{0,31})\}")
_TARGET = re.compile(r"/[A-Za-z0-9._~@:+,=/-]*(?:\?[A-Za-z0-9._~@:+,=/&%!*;-]*)?")
_VALUE = re.compile(r"[A-Za-z0-9._~@:+,=%-]{1,200}")
_HEADER = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,128}")
_LATENCY = re.compile(r"latency_p[0-9]{2,3}")
_UNSAFE = frozenset({"post", "put", "patch", "delete", "method", "body", "connect", "options", "trace"})


def read_load(field: Field | None, entry: str | None) -> Load | None:
    """Return the section; None where it is left out or wrong."""
    section = field.section(LOAD_KEYS, "{users: 1000, think: 1s}") if field else None
    if section is None:
        return None
    usual = Load(scenarios=())
    values = _values(section.get("values"))
    scenarios = _scenarios(section.get("scenarios"), entry, values)
    return Load(
        scenarios=scenarios or (Scenario(name="entry", target=entry or "/"),),
        values=values,
        users=section.parse("users", quantities.users, usual.users),
        think_s=section.parse("think", think_time, usual.think_s),
        version=section.parse("version", _version, usual.version),
        peak=section.parse("peak", quantities.rate, None),
        expect=_expectations(section.get("expect")),
    )


def _scenarios(field: Field | None, entry: str | None, values: dict[str, tuple[str, ...]]) -> tuple[Scenario, ...]:
    found: dict[str, Scenario] = {}
    items = field.items("[{name: search, get: /trips/search}]") if field else ()
    if field and len(items) > SCENARIOS_MAX:
        field.problem(f"are {len(items)}; a load has {SCENARIOS_MAX} at most")
    for item in items:
        scenario = _scenario(item, entry, values)
        if scenario is None:
            continue
        if scenario.name in found:
            item.problem(f"scenario {scenario.name} is written twice; name this one otherwise")
        found[scenario.name] = scenario
    return tuple(found.values())


def _scenario(item: Field, entry: str | None, values: dict[str, tuple[str, ...]]) -> Scenario | None:
    for word, key, _ in item.named("{name: search, get: /trips/search}"):
        if word.lower() in _UNSAFE:
            key.problem("a load only reads: it sends GET, because whatever else it sent would be done a million times")
            return None
    section = item.section(SCENARIO_KEYS, "{name: search, get: /trips/search}")
    name_field = section.require("name", "search") if section else None
    get_field = section.require("get", "/trips/search?from={from}") if section else None
    name = name_field.parse(_scenario_name) if name_field else None
    target = get_field.parse(_target) if get_field else None
    if section is None or get_field is None or name is None or target is None:
        return None
    path = target.partition("?")[0]
    if entry is not None and path != entry and not path.startswith(entry.rstrip("/") + "/"):
        get_field.problem(f"{path} is not at the plan's entry; write a path at {entry} or below it")
    for placeholder in _PLACEHOLDER.findall(target):
        if placeholder not in values and placeholder not in BUILT_IN_VALUES:
            get_field.problem(f"{{{placeholder}}} has no values{suggest(placeholder, (*values, *BUILT_IN_VALUES))}")
    return Scenario(name=name, target=target, weight=section.parse("weight", _weight, 1.0))


def _values(field: Field | None) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, key, value in field.named("{from: [JFK, EWR]}") if field else ():
        if not _PLACEHOLDER.fullmatch(f"{{{name}}}"):
            key.problem(f"{name!r} is no name for a placeholder; write a small letter and small letters, digits and _")
        if name in BUILT_IN_VALUES:
            key.problem(f"{{{name}}} has a meaning of its own; name this one otherwise")
        items = value.items("[JFK, EWR]")
        if len(items) > _VALUES_MAX:
            value.problem(f"are {len(items)} values; {_VALUES_MAX} are enough")
        read = (item.parse(_value) for item in items)
        found[name] = tuple(text for text in read if text is not None)
    return found


def _expectations(field: Field | None) -> tuple[Expectation, ...]:
    found: dict[str, Expectation] = {}
    for item in field.items("[failure_rate <= 0.5%, latency_p99 <= 500ms]") if field else ():
        one = item.parse(expectation)
        if one is not None:
            found[one.text] = one
    return tuple(found.values())


def expectation(text: str) -> Expectation:
    """Return what a load must show; ValueError where the sentence says nothing that a load can."""
    example = "write one like `failure_rate <= 0.5%` or `latency_p99 <= 500ms`"
    try:
        words = sentences.gate(text)
    except ValueError:
        raise ValueError(f"{text!r} is nothing that a load can show; {example}") from None
    if words.kind is not GateKind.LIMIT or words.metric is None or words.limit is None:
        raise ValueError(f"{text!r} is nothing that a load can show; {example}")
    quantile = quantile_of(words.metric) if _LATENCY.fullmatch(words.metric) else None
    if words.metric != "failure_rate" and not (quantile and 0 < quantile < 1):
        raise ValueError(f"a load shows failure_rate and latency_pNN, not {words.metric}; {example}")
    kind = MetricKind.FAILURE_RATE if quantile is None else MetricKind.LATENCY
    limit = read_limit(kind, words.limit)
    if limit.is_upper or limit.of_v1:
        raise ValueError(f"{text!r} is met when the service is bad; {example}")
    return Expectation(text=words.text, kind=kind, limit=limit, quantile=quantile)


def think_time(text: str) -> float:
    """Return seconds: none, or up to an hour; `300ms` too."""
    seconds = quantities.milliseconds(text) / 1000 if text.endswith("ms") else quantities.duration(text)
    if seconds > 3600:
        raise ValueError(f"{text} is longer than anybody thinks; write 1h at most, such as 1s")
    return seconds


def _target(text: str) -> str:
    plain = _PLACEHOLDER.sub("x", text)
    segments = plain.partition("?")[0].split("/")
    if not _TARGET.fullmatch(plain) or len(text) > 1000 or ".." in segments or "." in segments:
        raise ValueError(
            f"{text!r} is no path and query; write one such as /trips/search?from={{from}}, "
            "other signs than letters, digits and ._~@:+,=/&!*;- as %XX"
        )
    return text


def _value(text: str) -> str:
    if not _VALUE.fullmatch(text):
        raise ValueError(f"{text!r} can't stand in a URL as it is; write letters, digits and ._~@:+,=-, others as %XX")
    return text


def _version(text: str) -> str:
    name = text.removeprefix("header ")
    if name == text or not _HEADER.fullmatch(name):
        raise ValueError(f"{text!r} is no response header; write such as header API-Version")
    return name


def _weight(text: str) -> float:
    weight = quantities.multiple(text)
    if text.endswith("%"):
        raise ValueError(f"{text} is a share; write how often beside the others, such as 3")
    return weight


_scenario_name = quantities.named("scenario", r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", "search")

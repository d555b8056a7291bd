"""From a file to a Plan: reads every section, and raises once, with every mistake."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path

import orjson

from crossfade.app.planfile import quantities
from crossfade.app.planfile.clients import read_clients
from crossfade.app.planfile.context import Context
from crossfade.app.planfile.contract import read_contract
from crossfade.app.planfile.deprecation import check_exemptions, read_deprecation
from crossfade.app.planfile.events import check_events, check_windows, read_events
from crossfade.app.planfile.feedback import read_feedback
from crossfade.app.planfile.fields import Field, Report, Section
from crossfade.app.planfile.load import read_load
from crossfade.app.planfile.metrics import metric_names, read_metrics
from crossfade.app.planfile.mirror import read_mirror
from crossfade.app.planfile.notices import read_notices
from crossfade.app.planfile.phases import read_phases
from crossfade.app.planfile.rehearsal import check_gates, read_rehearsal
from crossfade.app.planfile.shares import EVERYONE_ELSE, Population
from crossfade.app.planfile.source import Items, parse, read_text
from crossfade.core.plan import (
    MINUTE,
    Api,
    AssignmentRule,
    Confidence,
    FeedbackRules,
    Key,
    KeySource,
    Plan,
    Rehearsal,
    Source,
    Unattended,
    Upstream,
)
from crossfade.errors import PlanError, Problem

TOP_KEYS = (
    "crossfade",
    "rollout",
    "api",
    "assignment",
    "events",
    "metrics",
    "sources",
    "confidence",
    "phases",
    "when blind",
    "unattended",
    "override secret",
    "load",
    "contract",
    "mirror",
    "rehearsal",
    "notify",
    "deprecation",
    "feedback",
    "clients",
)
API_KEYS = ("entry", "listen", "v1", "v2")
VERSION_KEYS = ("path", "upstreams")
ASSIGNMENT_KEYS = ("user", "client", "region", "cohorts", "users", "salt")
SOURCES_KEYS = ("prometheus",)
SOURCE_KEYS = ("url", "every", "token")
CONFIDENCE_KEYS = ("false_rollback", "false_promotion", "burst_tolerance")
UNATTENDED_KEYS = ("after", "then")
_ADDED = {
    "drill": None,
    "retires": False,
    "archives": False,
    "load": None,
    "contract": None,
    "mirror": None,
    "rehearsal": Rehearsal(),
    "rehearsal_digest": "",
    "people": 1,
    "events": (),
    "behaviour": None,
    "feedback": None,
    "clients": None,
    "notices": (),
    "unattended": Unattended(),
    "deprecation": None,
    "brownouts": (),
}
"""Left out of the digest where they are as in plans written before there were such, so that those keep theirs."""
MAX_COHORT_BYTES = 64 * 1024 * 1024
SALT_LIMIT = 2**31
"""Salts are 0..2**31-1: the seeds that every proxy's xxh64 takes alike."""
_MAX_KEY_BYTES = 512


def load_plan(path: Path) -> Plan:
    """Return the plan in a file; PlanError with every mistake, by line, where it can't be what was meant.

    Files that the plan names (cohorts, the override secret) are looked for beside it.
    """
    root, extras = parse(path, read_text(path))
    report = Report(str(path), list(extras))
    plan = _read_plan(Field(root, "", report), path.parent)
    if report.problems or plan is None:
        raise PlanError(tuple(sorted(set(report.problems))))
    return _with_digests(plan)


def with_addresses(
    plan: Plan, *, listen: str | None = None, v1: tuple[str, ...] | None = None, v2: tuple[str, ...] | None = None
) -> Plan:
    """Return the plan with other addresses (host:port), for free ports; its digest is that of the new content."""
    api = replace(
        plan.api,
        listen=listen or plan.api.listen,
        v1=replace(plan.api.v1, upstreams=v1 or plan.api.v1.upstreams),
        v2=replace(plan.api.v2, upstreams=v2 or plan.api.v2.upstreams),
    )
    return _with_digests(replace(plan, api=api))


def _with_digests(plan: Plan) -> Plan:
    return replace(plan, digest=digest(plan), rehearsal_digest=rehearsal_digest(plan))


def digest(plan: Plan) -> str:
    """Return the SHA-256 (hex) of a plan's canonical content.

    Cohort members count. Comments, secrets, notices and the ledger of clients don't: who is told and who is counted may
    change while a rollout goes on. Nor do load, contract, mirror and what is rehearsed, which decide nothing in it.
    """
    sources = tuple(replace(source, token="") for source in plan.sources)
    steering = replace(
        plan,
        digest="",
        rehearsal_digest="",
        override_secret="",
        sources=sources,
        notices=(),
        load=None,
        contract=None,
        mirror=None,
        rehearsal=replace(plan.rehearsal, breaker=None),
        feedback=FeedbackRules(),
        clients=None,
    )
    return _hashed(steering)


def rehearsal_digest(plan: Plan) -> str:
    """Return the SHA-256 (hex) of what a rehearsal tries: the API, its metrics' limits, and the parts' own sections.

    Where the contract's documents are kept does not count; what they say is kept beside it, in the report.
    """
    exemptions = plan.contract and plan.contract.exemptions
    return _hashed((plan.api, plan.metrics, plan.load, exemptions, plan.mirror, plan.rehearsal.breaker))


def _hashed(value: object) -> str:
    return hashlib.sha256(orjson.dumps(_canonical(value), option=orjson.OPT_SORT_KEYS)).hexdigest()


def salt_of(rollout: str, text: str = "") -> int:
    """Return the seed of the bucket hash: the first 8 bytes of SHA-256 of name, newline and salt text, mod 2**31."""
    hashed = hashlib.sha256(f"{rollout}\n{text}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") % SALT_LIMIT


def _read_plan(root: Field, folder: Path) -> Plan | None:
    top = root.section(TOP_KEYS, "`crossfade: 1` and what follows it")
    if top is None:
        return None
    _version(top)
    name_field = top.require("rollout", "trips-v2")
    name = name_field.parse(quantities.rollout_name) if name_field else None
    api = _read_api(top.require("api", "{entry: /trips/search, v1: {...}, v2: {...}}"))
    assignment = _read_assignment(top.require("assignment", "{user: [header X-User-Id]}"), name or "", folder)
    metrics_field = top.require("metrics", "{failure_rate: {guard: ...}}")
    sources_field = top.get("sources")
    sources = _read_sources(sources_field, folder)
    named = tuple(name for name, _, _ in sources_field.named("{prometheus: ...}")) if sources_field else ()
    events_field = top.get("events")
    events = read_events(events_field)
    happening = tuple(name for name, _, _ in events_field.named("{search: {get: ...}}")) if events_field else ()
    metrics = read_metrics(metrics_field, named, happening)
    if len(metrics) == len(metric_names(metrics_field)):
        check_events(events_field, events, metrics)
    rule = assignment.rule
    context = Context(
        metrics={metric.name: metric for metric in metrics},
        metric_names=metric_names(metrics_field),
        cohort_names=assignment.cohort_names,
        people=Population(users=rule.users, sizes=rule.cohort_sizes()),
        users_unread=assignment.section is None or (rule.users == 0 and "users" in assignment.section.values),
    )
    phases_field = top.require("phases", "[{name: canary, split: 5%, soak: 1w}]")
    phases = read_phases(phases_field, context)
    check_windows(metrics_field, metrics, phases)
    _check_population(assignment, context.people)
    confidence = _read_confidence(top.get("confidence"))
    secret = _read_secret(top.get("override secret"), folder, "override-secret", quantities.secret)
    blind = top.parse("when blind", _blind, None)
    unattended = _read_unattended(top.get("unattended"))
    load = read_load(top.get("load"), api.entry if api else None)
    contract = read_contract(top.get("contract"), folder)
    mirror = read_mirror(top.get("mirror"))
    rehearsal = read_rehearsal(top.get("rehearsal"), metrics)
    if phases_field is not None:
        check_gates(phases, rehearsal, contract, load, phases_field)
    notices = read_notices(top.get("notify"), folder)
    deprecation = read_deprecation(
        top.get("deprecation"), api, [phase.name for phase in phases], blind_rollback_s=blind
    )
    retires = bool(phases) and phases[-1].retires
    dated = top.get("deprecation") is not None
    clients = read_clients(top.get("clients"), rule, deprecation, folder, dated=dated, retires=retires)
    feedback = read_feedback(top.get("feedback"))
    if phases_field is not None:
        check_exemptions(phases, rule.client, top.get("deprecation"), phases_field)
    if root.report.problems or name is None or api is None:
        return None
    return Plan(
        name=name,
        api=api,
        assignment=rule,
        metrics=metrics,
        phases=phases,
        confidence=confidence,
        sources=sources,
        override_secret=secret,
        blind_rollback_s=blind,
        unattended=unattended,
        load=load,
        contract=contract,
        mirror=mirror,
        rehearsal=rehearsal,
        notices=notices,
        deprecation=deprecation,
        feedback=feedback,
        events=events,
        clients=clients,
    )


def _version(top: Section) -> None:
    value = top.require("crossfade", "1")
    text = value.text() if value else None
    if value and text is not None and text != "1":
        value.problem(f"{text!r} is a version of the plan language that this crossfade doesn't read; write 1")


def _read_api(field: Field | None) -> Api | None:
    section = field.section(API_KEYS, "{entry: ..., v1: {...}, v2: {...}}") if field else None
    if section is None:
        return None
    entry_field = section.require("entry", "/trips/search")
    entry = entry_field.parse(quantities.url_path) if entry_field else None
    listen = section.parse("listen", quantities.address, "127.0.0.1:8100")
    v1, v2 = (
        _read_upstream(section.require(v, f"{{path: /{v}/trips/search, upstreams: [...]}}")) for v in ("v1", "v2")
    )
    if entry is None or v1 is None or v2 is None:
        return None
    if (v1.path, set(v1.upstreams)) == (v2.path, set(v2.upstreams)):
        section.values["v2"].problem("is the same as v1; write where V2 is served")
    for version, upstream in (("v1", v1), ("v2", v2)):
        if listen in upstream.upstreams:
            section.values[version].problem(
                f"{listen} is where the proxy listens, so it would call itself; write another port"
            )
    return Api(entry=entry, v1=v1, v2=v2, listen=listen)


def _read_upstream(field: Field | None) -> Upstream | None:
    section = field.section(VERSION_KEYS, "{path: /v1/trips/search, upstreams: [127.0.0.1:8101]}") if field else None
    if section is None:
        return None
    path_field = section.require("path", "/v1/trips/search")
    path = path_field.parse(quantities.url_path) if path_field else None
    list_field = section.require("upstreams", "[127.0.0.1:8101]")
    servers: dict[str, None] = {}
    for item in list_field.items("[127.0.0.1:8101]") if list_field else ():
        server = item.parse(quantities.address)
        if server in servers:
            item.problem(f"{server} is listed twice; keep one")
        elif server is not None:
            servers[server] = None
    return Upstream(path=path, upstreams=tuple(servers)) if path and servers else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Assignment:
    """The assignment section, with what later checks point at."""

    rule: AssignmentRule
    cohort_names: tuple[str, ...] = ()
    """Those with mistakes included."""
    section: Section | None = None


def _read_assignment(field: Field | None, rollout: str, folder: Path) -> _Assignment:
    section = field.section(ASSIGNMENT_KEYS, "{user: [header X-User-Id]}") if field else None
    if section is None:
        return _Assignment(rule=AssignmentRule(user=(), salt=0))
    cohorts_field = section.get("cohorts")
    named = cohorts_field.named("{beta: cohorts/beta.txt}") if cohorts_field else ()
    rule = AssignmentRule(
        user=_user_keys(section.require("user", "[header X-User-Id]")),
        salt=salt_of(rollout, section.parse("salt", str, "")),
        client=section.parse("client", quantities.sent_key, None),
        region=section.parse("region", quantities.sent_key, None),
        cohorts=_cohorts(named, folder),
        users=section.parse("users", quantities.users, 0),
    )
    return _Assignment(rule=rule, cohort_names=tuple(name for name, _, _ in named), section=section)


def _user_keys(field: Field | None) -> tuple[Key, ...]:
    if field is None:
        return ()
    items = field.items("[header X-User-Id]") if isinstance(field.node, Items) else (field,)
    found: list[Key] = []
    for item in items:
        key = item.parse(quantities.key)
        if key is None:
            continue
        if key in found:
            item.problem("is listed twice; keep one")
        elif found and found[-1].source is KeySource.ADDRESS:
            item.problem("is never looked at: every request has an address; move `address` to the end")
        found.append(key)
    return tuple(found)


def _cohorts(named: tuple[tuple[str, Field, Field], ...], folder: Path) -> dict[str, frozenset[str]]:
    found = {}
    for name, key, value in named:
        if name == EVERYONE_ELSE:
            key.problem("everyone else are those outside of all cohorts; name this cohort otherwise")
            continue
        good = key.parse(quantities.group_name)
        file = value.text()
        members = _members(folder / file, value) if file else None
        if good and members:
            found[name] = members
    return found


def _members(path: Path, value: Field) -> frozenset[str] | None:
    """Return the user keys in a cohort's file: one a line, blank lines and lines that begin with # aside."""
    try:
        text = read_text(path, limit=MAX_COHORT_BYTES)
    except PlanError as error:
        _pass_on(error, value)
        return None
    members = set()
    for number, line in enumerate(text.split("\n"), start=1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if trouble := _bad_key(key):
            value.report.problems.append(Problem(str(path), number, 1, "", trouble))
            return None
        members.add(key)
    if not members:
        value.problem(f"{path} names nobody; write one user key a line")
    return frozenset(members)


def _bad_key(key: str) -> str | None:
    if len(key.encode()) > _MAX_KEY_BYTES:
        return f"is longer than {_MAX_KEY_BYTES} bytes; write one user key a line"
    if any(unicodedata.category(char) == "Cc" for char in key):
        return "holds a control character; write one user key a line"
    return None


def _pass_on(error: PlanError, value: Field) -> None:
    """Note, where the plan names a file, what is wrong with that file; where inside it, there."""
    for problem in error.problems:
        if problem.line > 1 or problem.column > 1:
            value.report.problems.append(problem)
        else:
            value.problem(f"{problem.file} {problem.message}")


def _check_population(assignment: _Assignment, people: Population) -> None:
    inside = sum(size for name, size in people.sizes.items() if name not in people.staff)
    if assignment.section and people.users and inside > people.users:
        assignment.section.values["users"].problem(
            f"{people.users:,} users are fewer than the {inside:,} in the cohorts; write how many there are in all"
        )


def _read_confidence(field: Field | None) -> Confidence:
    section = field.section(CONFIDENCE_KEYS, "{false_rollback: 1%, false_promotion: 5%}") if field else None
    if section is None:
        return Confidence()
    usual = Confidence()
    return Confidence(
        false_rollback=section.parse("false_rollback", quantities.error_probability, usual.false_rollback),
        false_promotion=section.parse("false_promotion", quantities.error_probability, usual.false_promotion),
        burst_tolerance_s=section.parse("burst_tolerance", quantities.tolerance, usual.burst_tolerance_s),
    )


def _read_sources(field: Field | None, folder: Path) -> tuple[Source, ...]:
    section = field.section(SOURCES_KEYS, "{prometheus: {url: http://127.0.0.1:9090}}") if field else None
    server = section.require("prometheus", "{url: http://127.0.0.1:9090}") if section else None
    inner = server.section(SOURCE_KEYS, "{url: http://127.0.0.1:9090}") if server else None
    if inner is None:
        return ()
    url_field = inner.require("url", "http://127.0.0.1:9090")
    url = url_field.parse(quantities.source_url) if url_field else None
    every_s = inner.parse("every", quantities.interval, MINUTE)
    token = _read_secret(inner.get("token"), folder, "prometheus-token", quantities.bearer)
    return (Source(name="prometheus", url=url, every_s=every_s, token=token),) if url else ()


def _read_secret(field: Field | None, folder: Path, example: str, read: Callable[[str], str]) -> str:
    """Return the secret in the file that the plan names; secrets themselves don't belong into plans."""
    if field is None:
        return ""
    section = field.section(("file",), f"{{file: {example}}}, never the secret itself")
    value = section.require("file", example) if section else None
    name = value.text() if value else None
    if value is None or name is None:
        return ""
    try:
        return read(read_text(folder / name, limit=8192).strip())
    except PlanError as error:
        _pass_on(error, value)
    except ValueError as error:
        value.problem(str(error))
    return ""


def _blind(text: str) -> float | None:
    """Return after how many seconds of blindness to roll back; None for never."""
    words = " ".join(text.split())
    if words == "hold":
        return None
    if words.startswith("rollback after "):
        return quantities.positive_duration(words.removeprefix("rollback after "))
    raise ValueError(f"{text!r} is not known; write `hold`, or `rollback after 15m`")


def _read_unattended(field: Field | None) -> Unattended:
    section = field.section(UNATTENDED_KEYS, "{after: 10m, then: rollback}") if field else None
    if section is None:
        return Unattended()
    after_field = section.require("after", "10m")
    after_s = after_field.parse(quantities.unattended) if after_field else None
    rollback = section.parse("then", _then, default=False)
    return Unattended(after_s=after_s, rollback=rollback) if after_s else Unattended()


def _then(text: str) -> bool:
    """Return whether everyone is put on V1."""
    if text in ("alert", "rollback"):
        return text == "rollback"
    raise ValueError(f"{text!r} is not known; write `alert`, or `rollback`, which alerts as well")


def _canonical(value: object) -> object:
    """Return plain values that mean the same in whatever order the plan was written."""
    if is_dataclass(value) and not isinstance(value, type):
        held = {f.name: getattr(value, f.name) for f in fields(value)}
        for name, usual in _ADDED.items():
            if held.get(name, ...) == usual:
                del held[name]
        return {name: _canonical(inner) for name, inner in held.items()}
    if isinstance(value, Mapping):
        return [[key, _canonical(inner)] for key, inner in value.items()]  # the order of cohorts has a meaning
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [_canonical(item) for item in value]
    return value.value if isinstance(value, Enum) else value

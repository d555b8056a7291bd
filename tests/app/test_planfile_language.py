"""What the words of the language mean."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml

from crossfade.app.planfile import json_schema, quantities, salt_of, sentences, summarise, with_addresses
from crossfade.core.plan import (
    DAY,
    HOUR,
    WEEK,
    Action,
    Behaviour,
    Comparison,
    Counted,
    GateKind,
    Guardrail,
    Key,
    KeySource,
    Limit,
    Metric,
    MetricKind,
    Unattended,
    UserEvent,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("5m", 300),
        ("24h", DAY),
        ("3d", 3 * DAY),
        ("1w", WEEK),
        ("1w 2d", WEEK + 2 * DAY),
        ("1d12h", 1.5 * DAY),
        ("1.5h", 1.5 * HOUR),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert seconds == quantities.duration(text)


@pytest.mark.parametrize(
    "text", ["", "7", "10:30", "2d 1w", "3 days", "1d 1d", "-1d", "1e3s", "d", "300ms", "\u0661d", "9" * 400 + "s"]
)
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        quantities.duration(text)


@pytest.mark.parametrize(
    ("text", "value"), [("0.5%", 0.005), ("0.5 %", 0.005), ("0.005", 0.005), ("100%", 1), ("1", 1), ("0", 0)]
)
def test_shares(text: str, value: float) -> None:
    assert value == pytest.approx(quantities.share(text))


@pytest.mark.parametrize(("text", "points"), [("5%", 500), ("0.01%", 1), ("33.33%", 3333), ("100%", 10_000), ("0%", 0)])
def test_shares_of_users_are_basis_points(text: str, points: int) -> None:
    assert points == quantities.basis_points(text)


@pytest.mark.parametrize(("text", "value"), [("300ms", 300), ("1.2s", 1200), ("300 ms", 300)])
def test_response_times_are_milliseconds(text: str, value: float) -> None:
    assert value == quantities.milliseconds(text)


@pytest.mark.parametrize("text", ["127.0.0.1:1", "api.internal:65535", "[::1]:8101", "v1:80"])
def test_addresses(text: str) -> None:
    assert text == quantities.address(text)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "::1:80",
        "300.0.0.1:80",
        "a b:80",
        "-x:80",
        "[x]:80",
        "[fe80::1%eth0]:80",
        ":80",
    ],
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="write"):
        quantities.address(text)


@pytest.mark.parametrize(
    "text", ["trips", "/a b", "/a//b", "/../x", "/a/./b", '/a"b', "/a\nb", "/a?b", "/ä", "/" + "x" * 300]
)
def test_no_paths(text: str) -> None:
    with pytest.raises(ValueError, match=r"write|begins"):
        quantities.url_path(text)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("header X-User-Id", Key(source=KeySource.HEADER, name="X-User-Id")),
        ("cookie uid", Key(source=KeySource.COOKIE, name="uid")),
        ("address", Key(source=KeySource.ADDRESS)),
    ],
)
def test_keys(text: str, key: Key) -> None:
    assert key == quantities.key(text)


GUARDS = [
    ("monitor", Guardrail(action=Action.MONITOR)),
    ("> 1% -> rollback", Guardrail(action=Action.ROLLBACK, breach=Limit(comparison=Comparison.GT, value=0.01))),
    (">1%->hold", Guardrail(action=Action.HOLD, breach=Limit(comparison=Comparison.GT, value=0.01))),
    ("≥ 1 % → alert", Guardrail(action=Action.ALERT, breach=Limit(comparison=Comparison.GE, value=0.01))),
    (
        "> 1% and worse than V1 -> rollback",
        Guardrail(action=Action.ROLLBACK, breach=Limit(comparison=Comparison.GT, value=0.01), worse_than_v1=True),
    ),
]


@pytest.mark.parametrize(("text", "meant"), GUARDS)
def test_guard_sentences(desk: Any, plan_text: str, text: str, meant: Guardrail) -> None:
    plan = desk.load(plan_text.replace("> 1% and worse than v1 -> rollback", text))
    guard = plan.metric("failure_rate").guard
    assert guard is not None
    assert (meant.action, meant.breach, meant.worse_than_v1) == (guard.action, guard.breach, guard.worse_than_v1)


GATES = [
    ("failure_rate on target", GateKind.ON_TARGET, "failure_rate", 0),
    ("no on target", GateKind.ON_TARGET, "no", 0),
    ("stable >= 40%", GateKind.LIMIT, "stable", 0),
    ("weather_available>=40%", GateKind.LIMIT, "weather_available", 0),
    ("no critical errors for 3d", GateKind.NO_CRITICAL_ERRORS, None, 3 * DAY),
    ("No critical  errors for 3d", GateKind.NO_CRITICAL_ERRORS, None, 3 * DAY),
    ("no stuck breaker", GateKind.NO_STUCK_BREAKER, None, 0),
    ("stable for 1w 2d", GateKind.STABLE, None, 9 * DAY),
    ("stable", GateKind.STABLE, None, DAY),
    ("no cascading failures", GateKind.NO_CASCADING_FAILURES, None, 0),
    ("rollback ready", GateKind.ROLLBACK_READY, None, 0),
    ("no V1 requests for 1d", GateKind.NO_V1_REQUESTS, None, DAY),
    ("V2 share rises continuously", GateKind.SHARE_RISES, None, 0),
    ("approved by a person", GateKind.APPROVED, None, 0),
    ("Approved by 3 people", GateKind.APPROVED, None, 0),
]


@pytest.mark.parametrize("number", ["0", "1", "10", "22", "007"])
def test_an_approval_is_by_one_person_or_two_to_nine(number: str) -> None:
    assert [sentences.gate(f"approved by {who}").people for who in ("a person", "9 people")] == [1, 9]
    with pytest.raises(ValueError, match="write `approved by a person`, or 2 to 9 people"):
        sentences.gate(f"approved by {number} people")


@pytest.mark.parametrize(("text", "kind", "metric", "for_s"), GATES)
def test_gate_sentences(text: str, kind: GateKind, metric: str | None, for_s: float) -> None:
    words = sentences.gate(text)
    assert (kind, metric, for_s) == (words.kind, words.metric, words.for_s)


@pytest.mark.parametrize(
    "text",
    [
        "stablefor 24h",
        "nocritical errors for 3d",
        "stable for",
        "x on",
        "on target",
        "a b on target",
        "stable for 24",
        "x" * 500,
        "<=",
    ],
)
def test_no_gate_sentences(text: str) -> None:
    with pytest.raises(ValueError, match="no gate"):
        sentences.gate(text)


def test_every_form_that_messages_propose_is_one() -> None:
    for form in sentences.GATE_FORMS:
        assert form == sentences.gate(form).text
    for form in sentences.GUARD_FORMS:
        assert form == sentences.guard(form).text


METRICS = [
    ("latency_p50: {}", Metric(name="latency_p50", kind=MetricKind.LATENCY, quantile=0.5)),
    ("latency_p999: {}", Metric(name="latency_p999", kind=MetricKind.LATENCY, quantile=0.999)),
    ("critical_errors: {}", Metric(name="critical_errors", kind=MetricKind.CRITICAL_ERRORS)),
    ("no: {fact: on}", Metric(name="no", kind=MetricKind.AVAILABILITY, fact="on")),
    ("x: {breaker: weather}", Metric(name="x", kind=MetricKind.BREAKER, fact="weather-breaker")),
    ("x: {timing: db}", Metric(name="x", kind=MetricKind.TIMING, fact="db")),
    ("x: {fact: cache, value: off}", Metric(name="x", kind=MetricKind.RATIO, fact="cache", fact_value="off")),
    (
        "x: {fact: f, target: 99%}",
        Metric(name="x", kind=MetricKind.AVAILABILITY, fact="f", target=Limit(comparison=Comparison.GE, value=0.99)),
    ),
]


@pytest.mark.parametrize(("text", "meant"), METRICS)
def test_what_a_metric_is_follows_from_its_name_and_source(desk: Any, plan_text: str, text: str, meant: Metric) -> None:
    plan = desk.load(plan_text.replace("  database_time: {timing: db, guard: monitor}", f"  {text}"))
    assert meant == plan.metrics[-1]


def test_yaml_1_1_does_not_misread(desk: Any, plan_text: str) -> None:
    """`no`, `on` and `off` are names, `0.5%` and `1_000` are what they look like."""
    (desk.folder / "no.txt").write_text("010\nyes\n10:30\n0x1f\n")
    text = plan_text.replace("internal: internal.txt", "no: no.txt").replace("cohort: internal", "cohort: no")
    text = text.replace("{name: internal", "{name: off").replace("rollout: trips", "rollout: 0x10")
    plan = desk.load(text)
    assert plan.name == "0x10"
    assert plan.phases[0].name == "off"
    assert {"010", "yes", "10:30", "0x1f"} == plan.assignment.cohorts["no"]
    assert plan.phases[0].split.share_of("no") == 10_000


def test_a_plan_may_begin_with_a_byte_order_mark_and_end_lines_as_windows_does(desk: Any, plan_text: str) -> None:
    assert desk.load(plan_text).digest == desk.load(b"\xef\xbb\xbf" + plan_text.replace("\n", "\r\n").encode()).digest


def test_when_blind(desk: Any, plan_text: str) -> None:
    assert desk.load(plan_text).blind_rollback_s is None
    assert desk.load(plan_text + "when blind: hold\n").blind_rollback_s is None
    assert desk.load(plan_text + "when blind: rollback after 15m\n").blind_rollback_s == 900


def test_unattended(desk: Any, plan_text: str) -> None:
    """A plan from before there was such a key keeps its digest, and so does one that writes the default out."""
    assert desk.load(plan_text).unattended == Unattended(after_s=600, rollback=False)
    assert desk.load(plan_text + "unattended: {after: 10m}\n").digest == desk.load(plan_text).digest
    assert desk.load(plan_text + "unattended: {after: 10m, then: alert}\n").digest == desk.load(plan_text).digest
    strict = desk.load(plan_text + "unattended: {after: 1h, then: rollback}\n")
    assert strict.unattended == Unattended(after_s=3600, rollback=True)
    assert strict.digest != desk.load(plan_text).digest
    assert "after 1h without a controller: the proxy alerts and puts everyone on V1" in summarise(strict)
    assert "after 10m without a controller: the proxy alerts\n" in summarise(desk.load(plan_text))


def test_the_salt_follows_from_name_and_salt_text(desk: Any, plan_text: str) -> None:
    salts = {
        salt_of("trips"),
        desk.load(plan_text).assignment.salt,
        desk.load(plan_text.replace("users: 2000", "users: 2000\n  salt: again")).assignment.salt,
        desk.load(plan_text.replace("rollout: trips", "rollout: trips-2")).assignment.salt,
    }
    assert len(salts) == 3
    assert all(0 <= salt < 2**31 for salt in salts)
    assert salt_of("trips-v2") == 547218739, "buckets of a running rollout must not change with a new release"


POSTED = """\
  conversion: {outcome: conversion, baseline: 12%, target: ">= 95% of v1", guard: "< 95% of v1 -> hold"}
  satisfaction: {outcome: satisfaction, baseline: 95%, target: ">= 90%", guard: "< 85% -> hold"}
  unhappy: {outcome: unhappy, guard: "> 1.2 times v1 -> hold"}
  latency_mean: {guard: "> 1.25 times v1 -> hold"}
  breaker_time: {breaker: weather, guard: "> 5% -> hold"}
  checkout_errors:
    prometheus:
      bad: 'sum(increase(checkout_errors_total{version="$version"}[$interval]))'
      total: 'sum(increase(checkout_total{version="${version}"}[$interval]))'
    guard: "> 2% and worse than v1 -> hold"
sources:
  prometheus: {url: http://127.0.0.1:9090/, every: 30s, token: {file: prometheus-token}}
phases:
"""


def test_metrics_that_are_posted_or_asked_for(desk: Any, plan_text: str) -> None:
    (desk.folder / "prometheus-token").write_text("abc.def\n")
    jsonschema.validate(yaml.safe_load(plan_text.replace("phases:\n", POSTED)), json_schema())
    plan = desk.load(
        plan_text.replace("phases:\n", POSTED).replace("[stable for 24h", "[conversion on target, stable for 24h")
    )
    conversion, checkout = plan.metric("conversion"), plan.metric("checkout_errors")
    assert (conversion.kind, conversion.outcome, conversion.baseline) == (MetricKind.OUTCOME, "conversion", 0.12)
    assert Limit(comparison=Comparison.GE, value=0.95, of_v1=True) == conversion.target
    assert Limit(comparison=Comparison.LT, value=0.95, of_v1=True) == conversion.relative
    assert Limit(comparison=Comparison.LT, value=0.85) == plan.metric("satisfaction").guard.breach
    assert plan.metric("satisfaction").relative is None
    assert Limit(comparison=Comparison.GT, value=1.2, of_v1=True) == plan.metric("unhappy").relative
    assert MetricKind.LATENCY_MEAN is plan.metric("latency_mean").kind
    assert (checkout.kind, checkout.outcome, checkout.query.source) == (
        MetricKind.QUERIED,
        "checkout_errors",
        "prometheus",
    )
    (source,) = plan.sources
    assert (source.url, source.every_s, source.token) == ("http://127.0.0.1:9090", 30.0, "abc.def")
    assert "abc.def" not in repr(plan)


EVENTS = """\
  conversion: {of: search, reaches: book, baseline: 12%, guard: "< 97% of v1 -> hold"}
  basket: {of: search, sums: order, within: 2h, up to: 500, target: ">= 95% of v1", guard: "< 95% of v1 -> hold"}
  retention: {of: search, returns within: 3d, guard: monitor}
events:
  search: {get: [/trips, /v1/trips]}
  book: {post: /trips/*/book}
  order: posted
phases:
"""


def test_metrics_of_what_users_do(desk: Any, plan_text: str) -> None:
    jsonschema.validate(yaml.safe_load(plan_text.replace("phases:\n", EVENTS)), json_schema())
    plan = desk.load(
        plan_text.replace("phases:\n", EVENTS).replace("[stable for 24h", "[basket on target, stable for 24h")
    )
    assert plan.events == (
        UserEvent(name="search", method="GET", paths=("/trips", "/v1/trips")),
        UserEvent(name="book", method="POST", paths=("/trips/*/book",)),
        UserEvent(name="order"),
    )
    assert [
        (plan.metric(name).kind, plan.metric(name).behaviour) for name in ("conversion", "basket", "retention")
    ] == [
        (MetricKind.OUTCOME, Behaviour(of="search", counted=Counted.REACHES, event="book", within_s=HOUR)),
        (MetricKind.VALUE, Behaviour(of="search", counted=Counted.SUMS, event="order", within_s=2 * HOUR, most=500)),
        (MetricKind.OUTCOME, Behaviour(of="search", counted=Counted.RETURNS, event="search", within_s=3 * DAY)),
    ]
    assert desk.load(plan_text).digest != plan.digest
    text = summarise(plan)
    for words in ("search, book within 1h", "search, sum of order", "search, again within 3d", "POST /trips/*/book"):
        assert words in text


def test_a_token_is_no_part_of_the_digest(desk: Any, plan_text: str) -> None:
    token = desk.folder / "prometheus-token"
    digests = []
    for text in ("one", "two"):
        token.write_text(text)
        digests.append(desk.load(plan_text.replace("phases:\n", POSTED)).digest)
    assert digests[0] == digests[1]


def test_the_summary_names_posted_outcomes_and_sources(desk: Any, plan_text: str) -> None:
    (desk.folder / "prometheus-token").write_text("secret-token")
    text = summarise(desk.load(plan_text.replace("phases:\n", POSTED)))
    assert "posted conversion" in text
    assert ">= 0.95 x V1" in text
    assert "prometheus: http://127.0.0.1:9090, asked every 30s with a token" in text
    assert "secret-token" not in text


def test_the_digest_is_of_the_meaning_not_of_the_text(desk: Any, plan_text: str) -> None:
    first = desk.load(plan_text)
    assert first.digest == desk.load("# a comment\n" + plan_text.replace("soak: 1w", "soak:  7d")).digest
    assert first.digest != desk.load(plan_text.replace("margin: 1.5", "margin: 1.6")).digest
    assert first.digest != with_addresses(first, listen="127.0.0.1:9").digest
    (desk.folder / "beta.txt").write_text("".join(f"b{n}\n" for n in range(1, 501)))
    assert first.digest != desk.load(plan_text).digest


def test_other_addresses(desk: Any, plan_text: str) -> None:
    moved = with_addresses(desk.load(plan_text), listen="127.0.0.1:1", v1=("127.0.0.1:2",), v2=("127.0.0.1:3",))
    assert (
        moved.api.listen,
        moved.api.v1.upstreams,
        moved.api.v2.upstreams,
    ) == ("127.0.0.1:1", ("127.0.0.1:2",), ("127.0.0.1:3",))

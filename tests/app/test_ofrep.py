"""OpenFeature clients are told the version that the proxy gives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext
from openfeature.exception import FlagNotFoundError, TargetingKeyMissingError, TypeMismatchError
from tests.app.serving import PLAN, TOKEN, Asked, asked

from crossfade.core.access import Role
from crossfade.core.split import assign

FLAG = "/ofrep/v1/evaluate/flags/trips-v2"
ALL = "/ofrep/v1/evaluate/flags"
BETA = PLAN.assignment.cohorts["beta"]
USERS = [*(f"u{n}" for n in range(100)), "ünïcode", "with space", "a" * 512, *sorted(BETA)[:20]]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Asked]:
    async with asked(tmp_path) as api:
        yield api


async def evaluated(api: Asked, path: str, body: object, **headers: str) -> tuple[int, Any, str]:
    sent = {"Authorization": f"Bearer {TOKEN}"} | headers
    answer = await api.ask("POST", path, json=body, headers=sent)
    return answer.status, await answer.json() if answer.status != 304 else None, answer.headers.get("ETag", "")


def context(user: object) -> dict[str, Any]:
    return {"context": {"targetingKey": user, "plan": "gold"}}


def expected(api: Asked, user: str) -> str:
    """Return the version by the state that the proxy has."""
    return api.proxy.version_of(user).value


async def test_every_user_is_told_what_the_proxy_does_through_a_promotion_and_a_rollback(api: Asked) -> None:
    seen = set()
    for verb in (None, "promote", "promote", "rollback"):
        if verb:
            assert (await api.post(verb))[0] == 200
        for user in USERS:
            status, flag, _ = await evaluated(api, FLAG, context(user))
            assert (status, flag["value"], flag["variant"]) == (200, expected(api, user), expected(api, user))
            why = "DISABLED" if verb == "rollback" else "TARGETING_MATCH" if user in BETA else "SPLIT"
            assert flag["reason"] == why
            seen.add((verb, flag["value"]))
    assert {("promote", "v1"), ("promote", "v2"), ("rollback", "v1")} <= seen
    assert ("rollback", "v2") not in seen


async def test_the_published_provider_reads_it(api: Asked) -> None:
    await api.post("promote")
    await api.post("promote")
    provider = OFREPProvider(api.url, headers_factory=lambda: {"Authorization": f"Bearer {TOKEN}"})
    for user in USERS[:30]:
        asking = EvaluationContext(targeting_key=user)
        text = await asyncio.to_thread(provider.resolve_string_details, "trips-v2", "none", asking)
        flag = await asyncio.to_thread(provider.resolve_boolean_details, "trips-v2.v2", False, asking)
        assert (text.value, flag.value) == (expected(api, user), expected(api, user) == "v2")
        assert text.flag_metadata["phase"] == "early"
    with pytest.raises(TypeMismatchError):
        await asyncio.to_thread(provider.resolve_boolean_details, "trips-v2", False, asking)
    with pytest.raises(FlagNotFoundError):
        await asyncio.to_thread(provider.resolve_string_details, "other", "none", asking)
    with pytest.raises(TargetingKeyMissingError):
        await asyncio.to_thread(provider.resolve_string_details, "trips-v2", "none", EvaluationContext())


async def test_all_flags_come_with_a_tag_that_changes_with_the_answer(api: Asked) -> None:
    user = next(user for user in USERS if assign_at(user, 2) == "v2" and assign_at(user, 1) == "v1")
    status, told, tag = await evaluated(api, ALL, context(user))
    assert (status, [flag["key"] for flag in told["flags"]]) == (200, ["trips-v2", "trips-v2.v2"])
    assert [flag["value"] for flag in told["flags"]] == ["v1", False]
    for known in (tag, f'"other", {tag}'):
        assert (await evaluated(api, ALL, context(user), **{"If-None-Match": known}))[0] == 304
    await api.post("promote")
    await api.post("promote")
    status, told, later = await evaluated(api, ALL, context(user), **{"If-None-Match": tag})
    assert (status, [flag["value"] for flag in told["flags"]], later != tag) == (200, ["v2", True], True)


def assign_at(user: str, phase: int) -> str:
    cohort = PLAN.assignment.cohort_of(user)
    return assign(user, salt=PLAN.assignment.salt, split=PLAN.phases[phase].split, cohort=cohort).version.value


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "PARSE_ERROR"),
        (b"", "PARSE_ERROR"),
        (b"\xff", "PARSE_ERROR"),
        (b"[]", "INVALID_CONTEXT"),
        (b"{}", "INVALID_CONTEXT"),
        (b'{"context": 7}', "INVALID_CONTEXT"),
        (b'{"context": {}}', "TARGETING_KEY_MISSING"),
        (b'{"context": {"targetingKey": ""}}', "TARGETING_KEY_MISSING"),
        (b'{"context": {"targetingKey": 7}}', "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": "%s"}}' % (b"a" * 513), "INVALID_CONTEXT"),
        (b'{"context": {"targetingKey": "\\ud800"}}', "PARSE_ERROR"),
    ],
)
async def test_what_is_wrong_is_said_in_the_words_of_the_protocol(api: Asked, body: bytes, code: str) -> None:
    for path in (FLAG, ALL):
        answer = await api.ask("POST", path, data=body, headers={"Authorization": f"Bearer {TOKEN}"})
        told = await answer.json()
        assert (answer.status, told["errorCode"], bool(told["errorDetails"])) == (400, code, True)


async def test_it_wants_a_token_and_any_will_do(api: Asked) -> None:
    assert (await api.ask("POST", FLAG, json=context("u1"))).status == 401
    viewer = await api.token("app", Role.VIEWER)
    assert (await api.ask("POST", FLAG, json=context("u1"), headers={"Authorization": viewer})).status == 200


async def test_what_is_asked_is_not_written_down(api: Asked) -> None:
    await evaluated(api, FLAG, context("somebody"))
    assert not [act for act in await api.served.audit.latest(50) if "ofrep" in act.act]

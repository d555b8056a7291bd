"""The control API on a real server: who may ask, what is answered, how it refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.app.serving import BASE, PLAN, TOKEN, Asked, asked
from yarl import URL

from crossfade.core.split import bucket_of
from crossfade.testing.proxy import FakeProxy


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Asked]:
    async with asked(tmp_path) as api:
        yield api


@pytest.fixture
def proxy(api: Asked) -> FakeProxy:
    return api.proxy


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic bm90", f"bearer {TOKEN}"])
async def test_every_path_but_health_and_metrics_wants_the_token(api: Asked, header: str) -> None:
    for path in ("", "/events", "/decisions", "/phases", "/users/u1"):
        status, problem = await api.get(BASE + path, Authorization=header)
        assert (status, problem["status"]) == (401, 401)


async def test_health_and_metrics_are_open(api: Asked) -> None:
    assert (await api.get("/healthz", Authorization=""))[0] == 200
    assert (await api.get("/readyz", Authorization=""))[0] == 200
    async with api.session.get(api.url + "/metrics") as answer:
        text = await answer.text()
    assert 'crossfade_rollout_state{rollout="trips-v2",state="running"} 1.0' in text
    assert 'crossfade_weight_ratio{rollout="trips-v2"} 0.0' in text


async def test_a_name_that_is_not_loopbacks_is_refused(api: Asked) -> None:
    """A page in somebody's browser may reach us under a name of its own."""
    for host in ("evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example", ""):
        async with api.session.get(api.url + "/healthz", headers={"Host": host}) as answer:
            assert (answer.status, answer.content_type) == (400, "application/problem+json")
    for host in ("localhost:8090", "LOCALHOST", "127.0.0.1"):
        async with api.session.get(api.url + "/healthz", headers={"Host": host}) as answer:
            assert answer.status == 200


async def test_another_rollout_is_not_here(api: Asked) -> None:
    status, problem = await api.get("/api/v1/rollouts/other")
    assert (status, problem["detail"]) == (404, "this controller runs trips-v2, not other")


async def test_the_story_of_the_verbs(api: Asked) -> None:
    for verb, state, phase in (
        ("promote", "running", "canary"),
        ("pause", "paused", "canary"),
        ("resume", "running", "canary"),
        ("approve", "running", "canary"),
        ("rollback", "rolled_back", "canary"),
        ("retry", "running", "canary"),
        ("abort", "aborted", "canary"),
    ):
        status, told = await api.post(verb, {"by": "ada", "reason": "for the test"})
        assert (verb, status, told["state"], told["phase"]["name"]) == (verb, 200, state, phase)
    events = (await api.get(BASE + "/events"))[1]["items"]
    assert [e["revision"] for e in events] == list(range(1, len(events) + 1))
    assert {"PhasePromoted", "Paused", "Resumed", "GateApproved", "RolledBack", "Retried", "Aborted"} <= {
        e["kind"] for e in events
    }
    assert (await api.get(BASE + "/events?after=3"))[1]["items"][0]["revision"] == 4


@pytest.mark.parametrize(
    ("verb", "body", "status"),
    [
        ("resume", {}, 409),
        ("retry", {}, 409),
        ("pause", {"by": 5}, 422),
        ("pause", {"mood": "good"}, 422),
        ("pause", {"reason": "x" * 5000}, 422),
        ("dance", {}, 404),
    ],
)
async def test_what_can_not_be_done_is_a_problem_and_changes_nothing(
    api: Asked, verb: str, body: dict[str, object], status: int
) -> None:
    before = (await api.get(BASE))[1]["revision"]
    got, problem = await api.post(verb, body)
    assert (got, problem["status"]) == (status, status)
    assert (await api.get(BASE))[1]["revision"] == before


async def test_a_retry_of_an_unknown_phase_names_the_phases(api: Asked) -> None:
    await api.post("rollback")
    status, problem = await api.post("retry", {"phase": "nowhere"})
    assert status == 422
    assert "the plan has internal, canary, early" in problem["detail"]


@pytest.mark.parametrize("query", ["events?after=-1", "events?limit=-1", "events?after=1e9", f"events?after={10**30}"])
async def test_numbers_that_count_nothing_are_refused(api: Asked, query: str) -> None:
    status, problem = await api.get(f"{BASE}/{query}")
    assert (status, problem["status"]) == (422, 422)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"by": "\\ud800"}', b"[" * 100_000, b'{"by": NaN}']
)
async def test_a_body_that_is_no_request_is_a_problem_and_the_next_verb_works(api: Asked, body: bytes) -> None:
    sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    async with api.session.post(f"{api.url}{BASE}/rollback", data=body, headers=sent) as answer:
        assert answer.status in (400, 422)
        assert answer.content_type == "application/problem+json"
    assert (await api.post("rollback"))[1]["state"] == "rolled_back"


@pytest.mark.parametrize(("raw", "key"), [("%FF%FE", b"\xff\xfe"), ("a%0D%0A", b"a\r\n"), ("%E9", b"\xe9")])
async def test_a_user_is_looked_up_by_bytes_as_the_proxy_does(api: Asked, raw: str, key: bytes) -> None:
    url = URL(f"{api.url}{BASE}/users/{raw}", encoded=True)
    async with api.session.get(url, headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
        assert (await answer.json())["bucket"] == bucket_of(key, PLAN.assignment.salt)


async def test_a_rollback_that_the_proxy_did_not_confirm_is_no_success(api: Asked, proxy: FakeProxy) -> None:
    proxy.faults.unreachable = True
    status, problem = await api.post("rollback")
    assert status == 502
    assert "NOT CONFIRMED" in problem["detail"]
    assert (await api.get(BASE))[1]["state"] == "rolled_back"


@pytest.mark.parametrize("user", ["u0001", "staff-01", "a%2Fb", "%00", "Gr%C3%BC%C3%9Fe", "x" * 2000])
async def test_any_user_can_be_asked_about(api: Asked, user: str) -> None:
    status, told = await api.get(f"{BASE}/users/{user}")
    assert (status, told["version"]) == (200, "v2" if user == "staff-01" else "v1")
    assert str(told["bucket"]) in told["reason"]

"""Who may do what: roles, tokens that end, wrong ones, sessions of browsers, and the record of it all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.app.serving import BASE, TOKEN, Asked, asked

from crossfade.app.web.access import FAILURES, FAILURES_S, SESSION_S
from crossfade.app.web.door import BODY_BYTES, STRANGERS
from crossfade.app.web.served import Exposure
from crossfade.app.web.verbs import VERBS
from crossfade.core.access import Act, Role

READS = ("", "/plan", "/phases", "/metrics", "/nodes", "/events", "/decisions", "/users/u1")
INTENT = {"X-Crossfade-Request": "1"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Asked]:
    async with asked(tmp_path) as api:
        yield api


@pytest.fixture
async def exposed(tmp_path: Path) -> AsyncIterator[Asked]:
    """An API that other machines can reach."""
    async with asked(tmp_path, Exposure(loopback=False, names=("roll.example",), tls=True)) as api:
        yield api


async def acts(api: Asked) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get("/api/v1/audit"))[1]
    return found


# ── roles ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_viewer_sees_everything_and_does_nothing(api: Asked) -> None:
    viewer = await api.token("eve", Role.VIEWER)
    for path in READS:
        assert (await api.get(BASE + path, Authorization=viewer))[0] == 200, path
    revision = api.carried.controller.rollout.revision
    for verb in VERBS:
        status, problem = await api.post(verb.name, {}, Authorization=viewer)
        assert (status, problem["status"]) == (403, 403)
        assert problem["detail"] == f"this needs the role {verb.role}; the token eve has viewer"
    assert (await api.post("outcomes", {"outcomes": []}, Authorization=viewer))[0] in (403, 422)
    for method, path in (("GET", "tokens"), ("POST", "tokens"), ("DELETE", "tokens/eve"), ("GET", "audit")):
        body = {"name": "x", "role": "admin"}
        answer = await api.ask(method, f"/api/v1/{path}", headers={"Authorization": viewer}, json=body)
        assert answer.status == 403
    assert api.carried.controller.rollout.revision == revision


async def test_an_operator_carries_the_rollout_and_only_an_admin_ends_it(api: Asked) -> None:
    operator, admin = await api.token("ci", Role.OPERATOR), await api.token("root", Role.ADMIN)
    for verb in ("promote", "pause", "resume", "approve", "rollback", "retry"):
        assert (await api.post(verb, {}, Authorization=operator))[0] == 200, verb
    for verb in ("abort", "retire"):
        assert (await api.post(verb, {}, Authorization=operator))[0] == 403
    status, said = await api.post("retire", {}, Authorization=admin)
    assert (status, "no `then: retire v1`" in said["detail"]) == (409, True)
    assert (await api.post("abort", {}, Authorization=admin))[0] == 200


@pytest.mark.parametrize(
    ("role", "retires", "offered"),
    [(Role.ADMIN, True, True), (Role.OPERATOR, True, False), (Role.ADMIN, False, False)],
)
async def test_the_page_offers_retirement_to_admins_where_the_plan_does_and_says_that_it_is_for_good(
    api: Asked, role: Role, retires: bool, offered: bool
) -> None:
    controller = api.carried.controller
    last = replace(controller.plan.phases[-1], retires=retires)
    controller.plan = replace(controller.plan, phases=(*controller.plan.phases[:-1], last))
    token = await api.token("ada", role)
    answer = await api.ask("GET", f"/rollouts/{controller.plan.name}", headers={"Authorization": token})
    page = await answer.text()
    assert (answer.status, 'data-verb="retire"' in page, "no rollback undoes" in page) == (200, offered, offered)


async def test_a_tokens_acts_carry_its_name_whatever_the_body_says(api: Asked) -> None:
    operator = await api.token("ci", Role.OPERATOR)
    await api.post("pause", {"by": "the boss", "reason": "lunch"}, Authorization=operator)
    await api.post("resume", {"by": "ada"})
    events = (await api.get(BASE + "/events"))[1]["items"]
    assert [(e["kind"], e["data"]["by"]) for e in events[-2:]] == [("Paused", "ci"), ("Resumed", "ada")]


async def test_with_no_token_nothing_is_told(exposed: Asked) -> None:
    paths = [BASE + path for path in READS]
    paths += ["/api/v1/rollouts", "/api/v1/me", "/api/v1/tokens", "/api/v1/audit", "/api/v1/nowhere", "/metrics"]
    for path in (*paths, BASE + "/events/stream"):
        answer = await exposed.ask("GET", path)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="crossfade"'), path
        assert "canary" not in await answer.text()
    answer = await exposed.ask("POST", BASE + "/rollback", data=b"{")
    assert answer.status == 401
    exposed.proxy.faults.unreachable = True
    await exposed.carried.controller.tick()
    answer = await exposed.ask("GET", "/readyz")
    assert (answer.status, (await answer.json())["detail"]) == (503, "ask with a token for the reasons")
    told = await exposed.ask("GET", "/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (await told.json())["detail"].startswith("fake: ")


async def test_a_scraper_with_a_viewers_token_gets_the_metrics(exposed: Asked) -> None:
    viewer = await exposed.token("prometheus", Role.VIEWER)
    answer = await exposed.ask("GET", "/metrics", headers={"Authorization": viewer})
    assert "crossfade_rollout_state" in await answer.text()


@pytest.mark.parametrize(
    ("host", "status"),
    [("roll.example", 200), ("ROLL.example:8090", 200), ("192.0.2.7:8090", 200), ("[2001:db8::1]:8090", 200),
     ("localhost", 200), ("evil.example", 400), ("roll.example@evil.example", 400), ("[::1", 400), ("", 400)],
)  # fmt: skip
async def test_reached_from_elsewhere_it_answers_to_its_names_and_to_addresses(
    exposed: Asked, host: str, status: int
) -> None:
    assert (await exposed.ask("GET", "/healthz", headers={"Host": host})).status == status


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_token_is_made_shown_once_listed_without_its_secret_and_revoked_at_once(api: Asked) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = await api.ask("POST", "/api/v1/tokens", headers=headers, json={"name": "ci", "role": "operator"})
    made = await answer.json()
    assert (answer.status, made["name"], made["role"], made["expires_at"]) == (201, "ci", "operator", None)
    assert made["token"].startswith("crossfade_")
    assert made["token"] not in json.dumps((await api.get("/api/v1/tokens"))[1])
    mine = f"Bearer {made['token']}"
    assert (await api.get("/api/v1/me", Authorization=mine))[1] == {"name": "ci", "role": "operator", "local": False}
    again = await api.ask("POST", "/api/v1/tokens", headers=headers, json={"name": "ci", "role": "admin"})
    assert again.status == 409
    assert (await api.ask("DELETE", "/api/v1/tokens/ci", headers=headers)).status == 200
    assert (await api.ask("DELETE", "/api/v1/tokens/ci", headers=headers)).status == 422
    status, problem = await api.get("/api/v1/me", Authorization=mine)
    assert (status, problem["detail"]) == (401, "this token is unknown, expired or revoked")


async def test_a_token_ends_on_its_day(api: Asked) -> None:
    mine = await api.token("ci", Role.OPERATOR, lasts_s=60)
    api.wall.move(59.9)
    assert (await api.get("/api/v1/me", Authorization=mine))[0] == 200
    api.wall.move(0.1)
    assert (await api.get("/api/v1/me", Authorization=mine))[0] == 401
    assert [t["expired"] for t in (await api.get("/api/v1/tokens"))[1]] == [True]


async def test_tokens_that_cant_be_read_let_nobody_in_but_this_machines_user(api: Asked, tmp_path: Path) -> None:
    mine = await api.token("ci", Role.OPERATOR)
    (tmp_path / "tokens.json").write_text('{"tokens": [')
    status, problem = await api.get("/api/v1/me", Authorization=mine)
    assert (status, "tokens.json can't be read, so no token is accepted" in problem["detail"]) == (503, True)
    assert (await api.post("rollback"))[0] == 200


# ── wrong tokens ────────────────────────────────────────────────────────────────────────────────────────────


async def test_after_wrong_tokens_an_address_waits_but_a_right_token_always_rolls_back(api: Asked) -> None:
    operator = await api.token("ci", Role.OPERATOR)
    statuses = [(await api.get("/api/v1/me", Authorization="Bearer wrong"))[0] for _ in range(FAILURES + 2)]
    assert statuses == [401] * FAILURES + [429] * 2
    answer = await api.ask("POST", "/login", json={"token": operator.removeprefix("Bearer ")})
    assert answer.status == 429
    assert 0 < int(answer.headers["Retry-After"]) <= FAILURES_S
    assert (await api.post("rollback", {}, Authorization=operator))[0] == 200
    api.wall.move(FAILURES_S)
    assert (await api.ask("POST", "/login", json={"token": operator.removeprefix("Bearer ")})).status == 200


async def test_a_strangers_refusals_cant_wash_the_others_away(api: Asked) -> None:
    await api.post("pause", {"by": "ada"})
    for _ in range(STRANGERS + 5):
        await api.post("rollback", {}, Authorization="Bearer wrong")
    found = await acts(api)
    assert len([act for act in found if act["status"] in (401, 429)]) == STRANGERS
    assert found[-1]["act"] == "pause"
    api.wall.move(61)
    await api.post("rollback", {}, Authorization="Bearer wrong")
    assert (await acts(api))[0]["left_out"] == 5


async def test_a_record_that_hangs_delays_a_rollback_by_a_moment_and_is_written_all_the_same(
    api: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed, written, append = asyncio.Event(), asyncio.Event(), api.served.audit.append

    async def hanging(act: Act) -> None:
        await freed.wait()
        await append(act)
        written.set()

    monkeypatch.setattr(api.served.audit, "append", hanging)
    monkeypatch.setattr("crossfade.app.web.door.AUDIT_WAIT_S", 0.05)
    assert (await api.post("rollback", {"by": "ada"}))[0] == 200
    assert await acts(api) == []
    freed.set()
    await written.wait()
    assert [(act["act"], act["by"], act["status"]) for act in await acts(api)] == [("rollback", "ada", 200)]


async def test_a_body_is_never_read_without_end(api: Asked) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(2 * BODY_BYTES // 65536):
            yield b" " * 65536

    for body in (b" " * (BODY_BYTES + 1), endless()):
        answer = await api.ask("POST", BASE + "/pause", headers={"Authorization": f"Bearer {TOKEN}"}, data=body)
        assert (answer.status, answer.content_type) == (413, "application/problem+json")


# ── browsers ────────────────────────────────────────────────────────────────────────────────────────────────


async def _login(api: Asked, role: Role, **options: Any) -> tuple[str, str]:
    """Log in as a role; return the cookie, and how it was set."""
    secret = (await api.token(role, role)).removeprefix("Bearer ")
    answer = await api.ask("POST", "/login", **(options or {"json": {"token": secret}}))
    assert answer.status == 200
    said = answer.headers["Set-Cookie"]
    return said.partition(";")[0], said


async def test_a_browser_logs_in_acts_and_logs_out(api: Asked) -> None:
    cookie, said = await _login(api, Role.OPERATOR)
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= {part.strip() for part in said.split(";")}
    assert "Secure" not in said
    mine = {"Cookie": cookie}
    assert (await (await api.ask("GET", "/api/v1/me", headers=mine)).json())["name"] == "operator"
    act = mine | INTENT | {"Origin": api.url}
    assert (await api.ask("POST", BASE + "/pause", headers=act, json={})).status == 200
    assert (await api.ask("POST", BASE + "/abort", headers=act, json={})).status == 403
    assert (await api.ask("POST", "/logout", headers=act)).status == 204
    assert (await api.ask("GET", "/api/v1/me", headers=mine)).status == 401


async def test_with_tls_the_cookie_is_secure(exposed: Asked) -> None:
    assert "; Secure" in (await _login(exposed, Role.VIEWER))[1]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        INTENT,
        {"Origin": "SELF"},
        INTENT | {"Origin": "http://evil.example"},
        INTENT | {"Origin": "null"},
        INTENT | {"Origin": "http://[::1"},
        INTENT | {"Referer": "SELF"},
    ],
)
async def test_another_sites_page_cant_use_the_session(api: Asked, headers: dict[str, str]) -> None:
    cookie, _ = await _login(api, Role.OPERATOR)
    sent = {name: value.replace("SELF", api.url) for name, value in headers.items()}
    answer = await api.ask("POST", BASE + "/rollback", headers={"Cookie": cookie, **sent}, json={})
    assert answer.status == 403
    assert api.carried.controller.rollout.rollbacks == 0


async def test_a_form_logs_in_and_another_sites_form_does_not(api: Asked) -> None:
    secret = (await api.token("ada", Role.VIEWER)).removeprefix("Bearer ")
    assert (await api.ask("POST", "/login", data={"token": secret}, headers={"Origin": api.url})).status == 200
    evil = await api.ask("POST", "/login", data={"token": secret}, headers={"Origin": "http://evil.example"})
    assert (evil.status, "Set-Cookie" in evil.headers) == (403, False)


async def test_a_session_ends_with_its_token_and_after_its_time(api: Asked) -> None:
    cookie, _ = await _login(api, Role.OPERATOR)
    later, _ = await _login(api, Role.VIEWER)
    await api.served.access.tokens.remove("operator")
    assert (await api.ask("GET", "/api/v1/me", headers={"Cookie": cookie})).status == 401
    assert (await api.ask("GET", "/api/v1/me", headers={"Cookie": later})).status == 200
    api.wall.move(SESSION_S)
    assert (await api.ask("GET", "/api/v1/me", headers={"Cookie": later})).status == 401


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"token": 5}', b'{"token": "\\ud800"}', b"token", b"\xff" * 99])
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
async def test_what_is_no_login_is_refused_and_not_repeated(api: Asked, body: bytes, kind: str) -> None:
    answer = await api.ask("POST", "/login", data=body, headers={"Content-Type": kind})
    assert answer.status in (401, 422)
    assert answer.content_type == "application/problem+json"


# ── the record ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_every_act_and_refusal_is_written_down_with_who_where_and_why(api: Asked) -> None:
    viewer, operator = await api.token("eve", Role.VIEWER), await api.token("ci", Role.OPERATOR)
    await api.post("pause", {"by": "ada", "reason": "lunch"})
    await api.post("rollback", {"reason": "I want to"}, Authorization=viewer)
    await api.post("pause", {}, Authorization=operator)
    await api.post("rollback", {}, Authorization="Bearer crossfade_of_a_stranger")
    await api.get(BASE)
    found = await acts(api)
    assert [(a["by"], a["role"], a["act"], a["rollout"], a["status"]) for a in reversed(found)] == [
        ("ada", "admin", "pause", "trips-v2", 200),
        ("eve", "viewer", "rollback", "trips-v2", 403),
        ("ci", "operator", "pause", "trips-v2", 409),
        ("", "", "rollback", "trips-v2", 401),
    ]
    assert {a["address"] for a in found} == {"127.0.0.1"}
    assert found[-1]["reason"] == "lunch"
    assert found[1]["detail"].startswith("cannot pause a rollout that is paused")
    text = json.dumps(found)
    assert not [secret for secret in (*api.secrets.values(), TOKEN, "stranger") if secret in text]


async def test_an_act_that_cant_be_written_down_is_done_all_the_same(api: Asked, tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    assert (await api.post("rollback"))[1]["state"] == "rolled_back"

"""Whose approval it is: the token's, not the name that a caller gives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.app.serving import BASE, Asked, asked

from crossfade.core.access import Role

INTENT = {"X-Crossfade-Request": "1"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Asked]:
    async with asked(tmp_path) as client:
        yield client


async def approvals(api: Asked) -> list[dict[str, Any]]:
    events = (await api.get(BASE + "/events"))[1]["items"]
    return [event["data"] for event in events if event["kind"] == "GateApproved"]


async def test_all_who_command_this_machine_are_one_person(api: Asked) -> None:
    for name in ("ada", "bob"):
        assert (await api.post("approve", {"by": name}))[0] == 200
    assert [(one["by"], one["person"]) for one in await approvals(api)] == [("ada", "local"), ("bob", "local")]
    assert api.carried.controller.rollout.approvals == {"local": "bob"}


async def test_all_sessions_of_a_token_are_one_person(api: Asked) -> None:
    token = await api.token("ada", Role.OPERATOR)
    assert (await api.post("approve", {"by": "bob"}, Authorization=token))[0] == 200
    for _ in range(2):
        login = await api.ask("POST", "/login", json={"token": api.secrets["ada"]})
        sent = INTENT | {"Cookie": login.headers["Set-Cookie"].partition(";")[0], "Origin": api.url}
        answer = await api.ask("POST", f"{BASE}/approve", json={"by": "carl"}, headers=sent)
        assert answer.status == 200
    assert api.carried.controller.rollout.approvals == {"ada": "ada"}

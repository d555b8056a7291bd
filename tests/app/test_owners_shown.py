"""What owners were told and would be told, by API and command."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.app.serving import BASE, PLAN, served_with, serving
from tests.app.test_clients import HEADERS, Say, World, say
from tests.core.test_client_owners import DEPRECATION, TEMPLATES

from crossfade.app.control import Control
from crossfade.core import events as e
from crossfade.core.clients.register import Registered
from crossfade.core.plan import ClientsRule, Kept, OwnerNotices

__all__ = ["say"]
RULE = OwnerNotices(templates=TEMPLATES, sender="api-team@example.org", mail=Kept(variable="X"))
BAD = "<b>quiet"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, None)
    made.plan = replace(PLAN, deprecation=DEPRECATION, clients=ClientsRule(notices=RULE))
    made.controller = made._controller()
    await made.store.open()
    await made.controller.start()
    await made.live()
    await made.store.save_register(
        PLAN.name,
        [
            Registered(client="acme", owner="Ann\n✓", contact="ann@acme.example"),
            Registered(client="moved", contact="m@x.example"),
        ],
    )
    served = served_with(made.controller, made.store, made.telemetry, made.clock, tmp_path, plan=made.plan)
    async with serving(served) as made.url, aiohttp.ClientSession(headers=HEADERS) as made.session:
        (made.state / PLAN.name).mkdir(parents=True)
        Control(rollout=PLAN.name, url=made.url, token="not a secret", plan="", pid=1).write(made.state / PLAN.name)
        yield made


async def test_the_dry_run_lists_who_would_get_what_and_for_whom_nobody_is_told(world: Any, say: Say) -> None:
    told = json.loads((await say("clients", "notices", "--dry-run", "-o", "json")).stdout)
    assert [(one["step"], one["clients"], one["due"], one["told"]) for one in told["notices"]] == [
        ("prepared", ["acme"], True, False),
        ("announced", ["acme"], False, False),
        ("last week", ["acme"], False, False),
        ("retired", ["acme"], False, False),
    ]  # acme is met by no brownout
    assert told["unowned"] == [BAD]
    text = (await say("clients", "notices", "--dry-run", "--step", "announced")).stdout
    assert "announced  Ann ✓  ann@acme.example  acme     mail  ahead" in text
    assert f"✖ 1 still ask for V1 and nobody is told, for the register has no contact: {BAD}" in text
    wide = (await say("clients", "notices", "--dry-run", "--step", "retired", "-o", "wide")).stdout
    assert "Subject: trips-v2: V1 of the API is gone\n\nHello Ann ✓," in wide
    assert (await say("clients", "notices")).stdout == "no owner of a client was told anything yet\n"
    assert [event.kind for event in await world.store.events(PLAN.name)].count("OwnerTold") == 0
    wrong = await say("clients", "notices", "--step", "anounced")
    assert (wrong.exit_code, "there are prepared, announced, brownout" in wrong.stderr) == (2, True)


async def test_what_was_told_is_listed_latest_first_in_pages(world: Any, say: Say) -> None:
    for number in range(3):
        event = e.OwnerTold(
            at=world.clock.now() + number,
            id=f"n{number}",
            step="announced" if number else "prepared",
            brownout="",
            owner="Ann\x1b[2J",
            contact="a…@acme.example",
            clients=["acme", "b", "c", "d"],
            count=70,
            taken=number != 1,
            said="250 OK",
        )
        await world.controller.note_owner_told(event)
    found, path = [], f"{BASE}/clients/notices?limit=2"
    while path:
        async with world.session.get(world.url + path) as answer:
            page = await answer.json()
        found += [one["id"] for one in page["items"]]
        path = page["next"]
    assert found == ["n2", "n1", "n0"]
    text = (await say("clients", "notices", "--step", "announced")).stdout
    assert text.count("announced") == 2
    assert "acme, b, c and 67 more" in text
    assert "GIVEN UP: 250 OK" in text
    assert "\x1b" not in text


async def test_where_the_plan_tells_owners_nothing_it_says_so(world: Any, say: Say) -> None:
    world.controller.plan = replace(world.plan, clients=ClientsRule())
    result = await say("clients", "notices", "--dry-run")
    assert (result.exit_code, "add `notices: {...}` to its `clients`" in result.stderr) == (2, True)

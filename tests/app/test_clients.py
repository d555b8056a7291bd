"""Clients as people and programs see them: API, command, CSV, page, metrics, and the register."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
import yaml
from click.testing import CliRunner, Result
from tests.app.serving import BASE, PLAN, TOKEN, served_with, serving

from crossfade.app.cli import main
from crossfade.app.control import Control
from crossfade.core import events as e
from crossfade.core.clients.ledger import DAY as _DAY
from crossfade.core.clients.ledger import Calls, Client
from crossfade.core.clients.register import Registered
from crossfade.core.evidence.sums import Tick
from crossfade.core.plan import Brownout, ClientsRule, Deprecation
from crossfade.engine.controller import Controller, Parts
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

DAY = int(_DAY)
Say = Callable[..., Coroutine[Any, Any, Result]]
EVIL = "=cmd|'/c calc'!A1"
HEADERS = {"Authorization": f"Bearer {TOKEN}"}


class World:
    """A served rollout whose clients have called for two days, and the command's way to it."""

    def __init__(self, folder: Path, rule: ClientsRule | None) -> None:
        self.plan, self.clock, self.telemetry = replace(PLAN, clients=rule), ManualClock(), FakeTelemetry()
        self.store, self.state = MemoryStore(), folder / "state"
        self.proxy = FakeProxy(cohorts=tuple(PLAN.assignment.cohorts))
        self.controller = self._controller()
        self.url, self.session = "", cast("aiohttp.ClientSession", None)

    def _controller(self) -> Controller:
        switch = FakeRollback(self.proxy)
        return Controller(
            self.plan,
            Parts(store=self.store, proxy=self.proxy, switch=switch, telemetry=self.telemetry, clock=self.clock),
        )

    async def live(self) -> None:
        for hour in range(50):
            start = self.clock.now() // 3600 * 3600
            self.clock.move(3600)
            counts = {
                Client("acme"): [0, 2, 0, 0],
                Client("moved"): [1, 0, 0, 0] if hour < 3 else [0, 0, 0, 1],
                Client(EVIL): [0, 0, 1, 0],
                Client("acme-ios/3", agent=True): [0, 0, 0, 1],
            }
            if hour < 5:
                counts[Client("<b>quiet")] = [1, 0, 0, 0]
            tick = Tick(number=int(start // 3600), start=start, length=3600, cells={}, sources=frozenset("c"))
            self.telemetry.feed(replace(tick, calls=Calls(counts, [0, 0, 0, 1])))
            await self.controller.tick()


async def _served(folder: Path, rule: ClientsRule | None) -> AsyncIterator[World]:
    made = World(folder, rule)
    await made.store.open()
    await made.controller.start()
    await made.live()
    served = served_with(made.controller, made.store, made.telemetry, made.clock, folder, plan=made.plan)
    async with serving(served) as made.url, aiohttp.ClientSession(headers=HEADERS) as made.session:
        (made.state / PLAN.name).mkdir(parents=True)
        Control(rollout=PLAN.name, url=made.url, token=TOKEN, plan="", pid=1).write(made.state / PLAN.name)
        yield made


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Any]:
    async for made in _served(tmp_path, ClientsRule()):
        yield made


@pytest.fixture
def say(tmp_path: Path) -> Say:
    async def run(*arguments: str) -> Result:
        command = [*arguments, "--state", str(tmp_path / "state")]
        return await asyncio.to_thread(CliRunner().invoke, main, command)

    return run


async def test_the_list_says_who_still_calls_v1_first(world: Any, say: Say) -> None:
    lines = json.loads((await say("clients", "-o", "json")).stdout)
    assert [(line["client"], line["agent"], line["standing"]) for line in lines] == [
        (EVIL, False, "v1"),
        ("acme", False, "v1"),
        ("<b>quiet", False, "silent"),
        ("acme-ios/3", True, "v2"),
        ("moved", False, "v2"),
    ]
    assert all(line["claimed"] for line in lines)
    acme = lines[1]
    assert (acme["requests"], acme["error"], acme["ways"]["asked_v1_by_v2"]["requests"]) == (100, 0, 100)
    still = yaml.safe_load((await say("clients", "--still-on", "v1", "-o", "yaml")).stdout)
    assert [line["client"] for line in still] == [EVIL, "acme", "<b>quiet"]
    text = (await say("clients")).stdout
    assert "acme (claimed)" in text
    assert "2 on V1, 1 silent since, 2 on V2" in text
    assert "V1 falls silent: unknown: complete days watched: 1 of the 3 that it takes" in text


async def test_csv_for_spreadsheets_holds_no_formula(world: Any, say: Say) -> None:
    register = [{"client": "acme", "owner": "@SUM(A1)", "notes": "-1\n+1", "exempt_until": "2999-01-01"}]
    (world.state / "owners.yaml").write_text(yaml.safe_dump(register))
    assert (await say("clients", "register", str(world.state / "owners.yaml"))).exit_code == 0
    rows = list(csv.DictReader(io.StringIO((await say("clients", "-o", "csv")).stdout)))
    assert [row["client"] for row in rows][:2] == [f"'{EVIL}", "acme"]
    assert (rows[1]["owner"], rows[1]["notes"], rows[1]["exempt_until"]) == ("'@SUM(A1)", "'-1\n+1", "2999-01-01")
    assert not any((cell or "").startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row.values())


async def test_pages_of_the_api_hold_every_client_once(world: Any) -> None:
    found, path = [], f"{BASE}/clients?limit=2"
    while path:
        async with world.session.get(world.url + path) as answer:
            page = await answer.json()
        found += [line["client"] for line in page["items"]]
        assert len(page["items"]) <= 2
        path = page["next"]
    assert sorted(found) == sorted({EVIL, "acme", "<b>quiet", "acme-ios/3", "moved"})
    async with world.session.get(f"{world.url}{BASE}/clients/trend") as answer:
        trend = await answer.json()
    assert (trend["standings"], trend["unnamed"]) == ({"v1": 2, "silent": 1, "v2": 2}, 50)
    complete = [day for day in trend["days"] if day["complete"]]
    assert [(day["asking_v1"], day["on_v1"], day["on_v2"], day["exact"]) for day in complete] == [(3, 4, 2, True)]


async def test_a_register_from_a_file_stands_beside_the_calls(world: Any, say: Say) -> None:
    file = world.state / "owners.csv"
    file.write_text(
        "client,owner,contact,exempt_until\nacme,Ann,ann@acme.example,2999-12-31\nnew,Bob,,2001-01-01\ngone,Cy,,\n"
    )
    told = await say("clients", "register", str(file))
    assert (told.exit_code, told.stdout) == (0, "3 written; the register has 3\n")
    (world.state / "none.yaml").write_text("[]\n")
    assert (await say("clients", "register", str(world.state / "none.yaml"), "--forget", "gone")).exit_code == 0
    lines = {line["client"]: line for line in json.loads((await say("clients", "-o", "json")).stdout)}
    assert (lines["acme"]["owner"], lines["acme"]["exempt"]) == ("Ann", True)
    new = lines["new"]
    assert (new["standing"], new["exempt_until"], new["exempt"]) == (None, "2001-01-01", False)
    assert "gone" not in lines
    async with world.session.get(f"{world.url}{BASE}/register") as answer:
        assert [entry["client"] for entry in await answer.json()] == ["acme", "new"]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "owner\nAnn\n", "a.csv:1: a CSV begins with a head that has client"),
        ("a.csv", "client,exempt_until\nacme,soon\n", "a.csv:2: exempt_until: 'soon' is no day"),
        ("a.csv", "client\nacme,Ann\n", "a.csv:2: has more cells than the head"),
        ("a.csv", "client,expires\nacme,2026-01-01\n", "a.csv:2: expires: there is no such field"),
        ("a.yaml", "acme: Ann\n", "a.yaml is no register"),
        ("a.yaml", "- {client: acme, contact: Ann}\n", "a.yaml:entry 1: contact: 'Ann' is neither"),
        ("a.yaml", "- {client: [\n", "a.yaml is no YAML"),
        ("b.yaml", None, "b.yaml can't be read"),
    ],
)
async def test_mistakes_in_a_register_are_told_with_their_place(
    say: Say, tmp_path: Path, name: str, text: str | None, told: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    result = await say("clients", "register", str(tmp_path / name))
    assert (result.exit_code, told in result.stderr) == (2, True), result.stderr


async def test_the_api_takes_a_register_whole_or_not_at_all(world: Any) -> None:
    async def post(**body: object) -> tuple[int, Any]:
        async with world.session.post(f"{world.url}{BASE}/register", json=body) as answer:
            return answer.status, await answer.json()

    status, told = await post(entries=[{"client": "a"}, {"client": "b", "exempt_until": "31.12.2026"}])
    assert (status, "entries.1.exempt_until: '31.12.2026' is no day" in told["detail"]) == (422, True)
    assert await post(forget=["nobody\x00"]) == (200, {"registered": 0})
    world.controller.fenced = "another leads"
    assert (await post(entries=[{"client": "a"}]))[0] == 409
    assert await world.store.register(PLAN.name) == {}


async def test_who_follows_shows_what_the_leader_has_kept(world: Any) -> None:
    world.controller.fenced = "another leads"
    world.controller.ledger = None
    async with world.session.get(f"{world.url}{BASE}/clients?limit=1000") as answer:
        assert len((await answer.json())["items"]) == 5


async def test_the_page_and_the_metrics_tell_the_same(world: Any, say: Say) -> None:
    async with world.session.get(f"{world.url}/rollouts/{PLAN.name}/clients") as answer:
        page = await answer.text()
    assert "&lt;b&gt;quiet" in page
    assert "<b>quiet" not in page
    assert "silent since V1" in page
    async with world.session.get(f"{world.url}/metrics") as answer:
        metrics = await answer.text()
    for standing, count in (("v1", 2), ("silent", 1), ("v2", 2)):
        assert f'crossfade_clients{{rollout="trips-v2",standing="{standing}"}} {count}.0' in metrics


async def test_the_page_tells_of_brownouts_exempt_clients_and_users_enrolled(tmp_path: Path) -> None:
    at = 1_700_000_000
    calendar = [Brownout(name=f"<b>{n}", at=at + n * DAY, until=at + n * DAY + 900, share=n * 1000) for n in (1, 2, 3)]
    said = Deprecation(since=at - DAY, successor="/v2", brownouts=tuple(calendar))
    made = World(tmp_path, None)
    made.plan = replace(PLAN, clients=None, deprecation=said)
    made.controller = made._controller()
    await made.store.open()
    made.clock.move(DAY + 60.0)
    gone = e.BrownoutEnded(at=float(at), name="<b>2", reason="by hand", by="ada")
    await made.controller.start()
    await made.controller._journal.record(gone)
    await made.controller.tick()
    entries = [
        Registered(client="<i>ex", owner="Ann", exempt_until=date(2999, 1, 31)),
        Registered(client="was", exempt_until=date(2001, 1, 1)),
    ]
    await made.store.save_register(PLAN.name, entries)
    await made.controller.enrol("beta", {"someone-new": 1.0}, "ada", "")
    await made.controller.leave([min(PLAN.assignment.cohorts["beta"])], 1.0, "ada", "")
    served = served_with(made.controller, made.store, made.telemetry, made.clock, tmp_path, plan=made.plan)
    async with (
        serving(served) as url,
        aiohttp.ClientSession(headers=HEADERS) as session,
        session.get(f"{url}/rollouts/{PLAN.name}/clients") as answer,
    ):
        page = " ".join((await answer.text()).split())
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", page)
    told = {name: re.findall(r"<td[^>]*>(.*?)</td>", cells) for name, cells in rows}
    assert {name: cells[2:] for name, cells in told.items() if "b&gt;" in name} == {
        "&lt;b&gt;1": ["10 %", "goes on now"],
        "&lt;b&gt;2": ["20 %", "over"],
        "&lt;b&gt;3": ["30 %", "ahead"],
    }
    assert told["&lt;i&gt;ex"] == ["2999-01-31", "Ann"]
    assert "was" not in told
    assert told["beta"] == [f"{len(PLAN.assignment.cohorts['beta']):,}", "1"]
    assert "1 of the lists have left their cohort." in page


async def test_without_a_ledger_it_says_how_to_have_one(tmp_path: Path, say: Say) -> None:
    async for made in _served(tmp_path, None):
        result = await say("clients")
        assert (result.exit_code, "add the section `clients: {}`" in result.stderr) == (2, True)
        async with made.session.get(f"{made.url}/rollouts/{PLAN.name}/clients") as answer:
            assert "The plan keeps no ledger" in await answer.text()

"""Several rollouts behind one API: what is of each, and what all share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner
from tests.app.serving import PLAN, TOKEN, served_with, serving

from crossfade.app.cli import main
from crossfade.app.client import Client, Target
from crossfade.app.dashboard import pages
from crossfade.app.web.served import Carried, Served
from crossfade.engine.controller import Controller, Parts
from crossfade.errors import UnreachableError, UsageError
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

SHIPPED = Path(__file__).parents[2] / "plans" / "trips-v2.yaml"
MINE = {"Authorization": f"Bearer {TOKEN}"}
NAMES = ("hotels-v2", "trips-v2")


@asynccontextmanager
async def both(folder: Path) -> AsyncIterator[tuple[str, Served, aiohttp.ClientSession]]:
    """Serve two rollouts from one store."""
    clock, store = ManualClock(), MemoryStore()
    await store.open()
    rollouts: dict[str, Carried] = {}
    for name in NAMES:
        plan, telemetry = replace(PLAN, name=name), FakeTelemetry()
        proxy = FakeProxy(cohorts=tuple(plan.assignment.cohorts))
        parts = Parts(store=store, proxy=proxy, switch=FakeRollback(proxy), telemetry=telemetry, clock=clock)
        controller = Controller(plan, parts)
        await controller.start()
        one = served_with(controller, store, telemetry, clock, folder, plan=plan)
        rollouts |= one.rollouts
    served = replace(one, rollouts=rollouts)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session, serving(served) as url:
        yield url, served, session


async def test_a_verb_is_done_to_the_rollout_that_is_named(tmp_path: Path) -> None:
    async with both(tmp_path) as (url, _, session):
        async with session.post(f"{url}/api/v1/rollouts/hotels-v2/pause", json={}, headers=MINE) as answer:
            assert (await answer.json())["rollout"] == "hotels-v2"
        async with session.get(f"{url}/api/v1/rollouts", headers=MINE) as answer:
            lines, listed = await answer.json(), answer.headers["ETag"]
        assert [(line["rollout"], line["state"]) for line in lines] == list(
            zip(NAMES, ("paused", "running"), strict=True)
        )
        tags = []
        for name in NAMES:
            async with session.get(f"{url}/api/v1/rollouts/{name}", headers=MINE) as answer:
                tags.append(int(answer.headers["ETag"].strip('"')))
        assert tags[0] == tags[1] + 1
        assert listed == f'"{sum(tags)}"'


async def test_a_name_that_is_not_served_is_answered_with_those_that_are(tmp_path: Path) -> None:
    told = "this controller runs hotels-v2, trips-v2, not cars-v2"
    async with (
        both(tmp_path) as (url, _, session),
        session.get(f"{url}/api/v1/rollouts/cars-v2", headers=MINE) as answer,
    ):
        assert (answer.status, (await answer.json())["detail"]) == (404, told)


async def test_one_login_shows_the_list_and_the_page_of_each(tmp_path: Path) -> None:
    async with both(tmp_path) as (url, served, session):
        async with session.post(f"{url}/login", json={"token": TOKEN}) as answer:
            assert list(answer.cookies) == [served.cookie]
        async with session.get(url) as answer:
            text = await answer.text()
        for name in NAMES:
            assert f'href="/rollouts/{name}"' in text
            async with session.get(f"{url}/rollouts/{name}") as answer:
                assert f'data-rollout="{name}"' in await answer.text()


async def test_a_rollout_that_ended_by_a_fault_is_told_by_name_and_the_others_go_on(tmp_path: Path) -> None:
    async with both(tmp_path) as (url, served, session):
        async with session.get(f"{url}/readyz") as answer:
            assert answer.status == 200
        served.rollouts["hotels-v2"].controller.fenced = "it ended by a fault: disk on fire"
        async with session.get(f"{url}/readyz") as answer:
            assert (answer.status, (await answer.json())["detail"]) == (
                503,
                "hotels-v2: it ended by a fault: disk on fire",
            )
        for name, status in zip(NAMES, (409, 200), strict=True):
            async with session.post(f"{url}/api/v1/rollouts/{name}/pause", json={}, headers=MINE) as answer:
                assert answer.status == status


async def test_streams_of_one_rollout_tell_nothing_of_another(tmp_path: Path) -> None:
    async with both(tmp_path) as (url, served, session):
        async with session.get(f"{url}/api/v1/rollouts/trips-v2/events/stream?after=0", headers=MINE) as answer:
            await served.rollouts["hotels-v2"].controller.pause("ada", "lunch")
            await served.rollouts["trips-v2"].controller.pause("ada", "tea")
            told = ""
            async for line in answer.content:
                told += line.decode()
                if "tea" in told:
                    break
        assert "lunch" not in told


def test_without_a_name_nothing_is_asked_of_a_controller_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [{"rollout": name, "served": True} for name in NAMES]
    monkeypatch.setattr(Client, "_call", lambda *_: lines)
    client = Client(Target(url="http://127.0.0.1:9", token=TOKEN))
    with pytest.raises(UsageError, match=r"carries out 2 rollouts \(hotels-v2, trips-v2\); name one"):
        client.post("/rollback", {})


@pytest.mark.parametrize(
    ("name", "listen", "told"),
    [
        ("trips-v2", "127.0.0.1:8111", "are both of the rollout trips-v2; give each a name of its own"),
        ("other", "127.0.0.1:8100", "both listen for clients at 127.0.0.1:8100; write another port"),
        ("other", "0.0.0.0:8100", "both listen for clients at 0.0.0.0:8100; write another port"),
    ],
)
def test_plans_that_would_be_in_each_others_way_are_refused(tmp_path: Path, name: str, listen: str, told: str) -> None:
    text = SHIPPED.read_text().replace("rollout: trips-v2", f"rollout: {name}")
    other = tmp_path / "other.yaml"
    other.write_text(text.replace("listen: 127.0.0.1:8100", f"listen: {listen}"))
    (tmp_path / "cohorts").symlink_to(SHIPPED.parent / "cohorts")
    done = CliRunner().invoke(main, ["serve", str(SHIPPED), str(other), "--state", str(tmp_path / "state")])
    assert done.exit_code == 2
    assert told in done.stderr
    assert not (tmp_path / "state").exists()


async def test_who_looks_at_the_same_time_is_shown_one_drawing_and_a_change_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    draw = pages._draw_live

    async def counted(carried: Carried) -> str:
        drawn.append(carried.name)
        if len(drawn) == 1:
            raise UnreachableError("the store is away")
        return await draw(carried)

    monkeypatch.setattr(pages, "_draw_live", counted)
    async with both(tmp_path) as (url, served, session):
        await session.post(f"{url}/login", json={"token": TOKEN})

        async def look(name: str, **headers: str) -> tuple[int, str]:
            async with session.get(f"{url}/rollouts/{name}/live", headers=headers) as answer:
                return answer.status, await answer.text()

        assert (await look("trips-v2"))[0] == 503
        plain, packed = {"Accept-Encoding": "identity"}, {"Accept-Encoding": "gzip"}
        looks = await asyncio.gather(*(look("trips-v2", **(packed if n % 2 else plain)) for n in range(10)))
        assert {status for status, _ in looks} == {200}
        assert len({text for _, text in looks}) == 1
        assert drawn == ["trips-v2"] * 2
        await served.rollouts["trips-v2"].controller.pause("ada", "tea")
        assert "tea" in (await look("trips-v2"))[1]
        assert 'data-rollout="hotels-v2"' in (await look("hotels-v2"))[1]

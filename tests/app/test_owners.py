"""Telling the owners of clients: at least once with the same id, in the history, and in nobody's way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest
from tests.adapters.postbox import Postbox, postbox
from tests.adapters.receiver import receiving
from tests.app.serving import TOKEN, served_with, serving
from tests.core.test_client_owners import DEPRECATION, TEMPLATES

from crossfade.adapters.notify import Allowed
from crossfade.app import owners as app
from crossfade.core.clients.ledger import Calls, Client, Ledger
from crossfade.core.clients.owners import OwnerNotice
from crossfade.core.clients.register import Registered
from crossfade.core.plan import AssignmentRule, ClientsRule, Kept, Key, KeySource, OwnerNotices
from crossfade.engine.controller import Controller, Parts
from crossfade.errors import NoticeRefusedError, NotTakenError, StoreError
from crossfade.ports import OwnerNotifier
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.simulator.plan import PLAN
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

RULE = OwnerNotices(templates=TEMPLATES, sender="api-team@example.org", mail=Kept(variable="CROSSFADE_TEST_MAIL"))
TELLING = replace(
    PLAN,
    assignment=replace(PLAN.assignment, client=Key(KeySource.HEADER, "X-Client-Id")),
    deprecation=DEPRECATION,
    clients=ClientsRule(notices=RULE),
)


BEGUN = 2
"""Events of a rollout that has begun."""


class QuickClock(ManualClock):
    """Plan time by hand; nobody waits for long."""

    async def sleep(self, real_seconds: float) -> None:
        await asyncio.sleep(min(real_seconds, 0.01))


@dataclass
class Ways:
    """Owners that answer as they are told to."""

    taken: list[OwnerNotice] = field(default_factory=list)
    asked: int = 0
    answer: Callable[[OwnerNotice], str | Exception] = lambda _: "250 OK"
    to_none: str = "a@nowhere.example"
    most: int = 100
    """Taken before they hang."""

    def to(self, contact: str) -> OwnerNotifier | None:
        return None if contact == self.to_none else self

    async def send_to_owner(self, notice: OwnerNotice) -> str:
        self.asked += 1
        if len(self.taken) >= self.most:
            await asyncio.Event().wait()
        said = self.answer(notice)
        if isinstance(said, Exception):
            raise said
        self.taken.append(notice)
        return said

    async def close(self) -> None:
        pass


class Stage:
    """A rollout on fakes whose controller and outbox may be ended and begun again."""

    def __init__(self) -> None:
        self.clock, self.store = QuickClock(), MemoryStore()

    async def controller(self, *clients: str) -> Controller:
        await self.store.open()
        proxy = FakeProxy(cohorts=("beta",))
        parts = Parts(
            store=self.store, proxy=proxy, switch=FakeRollback(proxy), telemetry=FakeTelemetry(), clock=self.clock
        )
        controller = Controller(TELLING, parts)
        await controller.start()
        controller.ledger = Ledger()
        begin = self.clock.now() - 25 * 3600
        for hour in range(25):
            calls = Calls({Client(name): [0, 1, 0, 0] for name in clients})
            controller.ledger.absorb(begin + hour * 3600, 3600.0, calls)
        return controller

    async def told(self) -> list[dict[str, object]]:
        return [dict(event.data) for event in await self.store.events(PLAN.name) if event.kind == "OwnerTold"]

    @asynccontextmanager
    async def telling(self, controller: Controller, ways: Ways | app.Ways) -> AsyncIterator[app.OwnerOutbox]:
        outbox = app.OwnerOutbox(controller, self.store, self.clock, ways, jitter=lambda: 0.0)  # type: ignore[arg-type]
        task = asyncio.create_task(outbox.run())
        try:
            yield outbox
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await outbox.close()


def told_of(controller: Controller) -> int:
    """Return how many notices the history has that is folded here: nothing else happens in it."""
    return controller.rollout.revision - BEGUN


async def until(done: Callable[[], object], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not done():  # noqa: ASYNC110 - whatever it is, it has no event
            await asyncio.sleep(0.005)


def registered(**contacts: str) -> list[Registered]:
    return [Registered(client=name, owner=name.title(), contact=contact) for name, contact in contacts.items()]


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch) -> Iterator[Postbox]:
    with postbox() as made:
        monkeypatch.setenv("CROSSFADE_TEST_MAIL", f"smtp://127.0.0.1:{made.port}")
        yield made


async def test_mails_and_webhooks_really_arrive_and_the_history_says_so(stage: Stage, box: Postbox) -> None:
    controller = await stage.controller("acme", "zed")
    async with receiving() as receiver:
        await stage.store.save_register(PLAN.name, registered(acme="ann@acme.example", zed=receiver.url + "?token=t0p"))
        ways = app.Ways(RULE, Allowed.read("127.0.0.1"), lambda: 1.8e9)
        async with stage.telling(controller, ways):
            await receiver.wait(1)
            await until(lambda: box.came)
            await until(lambda: told_of(controller) == 2)
    (mail,), (event,) = box.mails, receiver.events
    assert "  - acme\n" in mail.get_content().replace("\r\n", "\n")
    assert (event["type"], event["data"]["clients"]) == ("dev.crossfade.notice.owner.prepared", ["zed"])
    told = {str(one["owner"]): one for one in await stage.told()}
    assert mail["Message-ID"] == f"<{told['Acme']['id']}@example.org>"
    assert (told["Zed"]["id"], told["Zed"]["contact"]) == (event["id"], receiver.url.replace("/hook", "/..."))
    assert told["Acme"]["contact"] == "a…@acme.example"
    assert "t0p" not in str(told)


async def test_each_once_whoever_goes_on_after_a_kill(stage: Stage) -> None:
    """What the history has is not told again; what was sent and not noted is, with the same id."""
    names = {f"c{number:02}": f"c{number:02}@example.org" for number in range(20)}
    ways, controller = Ways(), await stage.controller(*names)
    await stage.store.save_register(PLAN.name, registered(**names))
    ways.most = 9
    async with stage.telling(controller, ways):
        await until(lambda: told_of(controller) == 9)  # and then the process ends
    assert len(ways.taken) == len({one.id for one in ways.taken}) == 9
    stage.store._events[PLAN.name].pop()  # of the last one sent the store heard nothing
    ways.most = 100
    async with stage.telling(await stage.controller(*names), ways):
        await until(lambda: len({one.id for one in ways.taken}) == 20)
        await until(lambda: len(ways.taken) >= 21)
        await asyncio.sleep(0.1)  # many looks
    assert len(ways.taken) == 21  # one twice
    assert len({one["id"] for one in await stage.told()}) == 20


async def test_what_is_not_taken_is_tried_again_and_what_is_refused_is_not(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "ATTEMPTS", 3)
    monkeypatch.setattr(app, "FIRST_S", 0.001)
    ways, controller = Ways(), await stage.controller("late", "gone", "never")
    await stage.store.save_register(PLAN.name, registered(late="l@x.example", gone="g@x.example", never="n@x.example"))
    tries: dict[str, int] = {}

    def answer(notice: OwnerNotice) -> str | Exception:
        tries[notice.contact] = tries.get(notice.contact, 0) + 1
        if notice.contact == "g@x.example":
            return NoticeRefusedError("550 nobody here")
        if notice.contact == "n@x.example" or tries[notice.contact] < 3:
            return NotTakenError("450 later")
        return "250 OK"

    ways.answer = answer

    async def moving() -> None:
        while True:
            stage.clock.move(1.0)
            await asyncio.sleep(0.005)

    async with stage.telling(controller, ways):
        mover = asyncio.create_task(moving())
        await until(lambda: sum(tries.values()) >= 7)
        await asyncio.sleep(0.1)
        mover.cancel()
    assert tries == {"l@x.example": 3, "g@x.example": 1, "n@x.example": 3}
    told = {str(one["owner"]): (one["taken"], one["said"]) for one in await stage.told()}
    assert told == {"Late": (True, "250 OK"), "Gone": (False, "550 nobody here"), "Never": (False, "450 later")}


async def test_a_client_without_an_owner_is_named_loudly_and_once(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    ways, controller = Ways(), await stage.controller("acme", "str\u202eanger", "mail")
    await stage.store.save_register(PLAN.name, registered(acme="a@x.example", mail="a@nowhere.example"))
    async with stage.telling(controller, ways):
        await until(lambda: ways.taken)
        await asyncio.sleep(0.1)
    said = [record.message for record in caplog.records if record.name == "crossfade.owners"]
    assert len(said) == 2
    assert "1 clients still ask for V1 and nobody is told" in said[0]
    assert said[0].endswith(r"'str\u202eanger'")
    assert "1 owners have a mail address, and `clients: notices:` names no server" in said[1]


async def test_a_store_that_is_away_is_waited_for(stage: Stage) -> None:
    ways, controller = Ways(), await stage.controller("acme")
    await stage.store.save_register(PLAN.name, registered(acme="a@x.example"))
    stage.store.fail_next(5, StoreError("gone"))
    async with stage.telling(controller, ways):
        await until(lambda: ways.taken)
    assert len(ways.taken) == 1


async def test_who_no_longer_leads_tells_nobody(stage: Stage) -> None:
    ways, controller = Ways(), await stage.controller("acme")
    await stage.store.save_register(PLAN.name, registered(acme="a@x.example"))
    controller.fenced = "another leads"
    async with stage.telling(controller, ways):
        await asyncio.sleep(0.1)
    assert not ways.asked


async def test_readyz_and_metrics_say_who_is_not_told_and_it_stays_ready(stage: Stage, tmp_path: Path) -> None:
    ways, controller = Ways(), await stage.controller("acme", "gone", "mail")
    await controller.tick()
    contacts = registered(acme="a@x.example", gone="g@x.example", mail="m@nowhere.example")
    await stage.store.save_register(PLAN.name, contacts)
    away = NotTakenError("450 later", 60.0)
    ways.answer = lambda notice: NoticeRefusedError("550 nobody") if notice.contact == "g@x.example" else away
    ways.to_none = "m@nowhere.example"
    async with stage.telling(controller, ways) as outbox:
        served = served_with(controller, stage.store, FakeTelemetry(), stage.clock, tmp_path, plan=TELLING)
        (carried,) = served.rollouts.values()
        served = replace(served, rollouts={TELLING.name: replace(carried, owners=outbox)})
        async with serving(served) as url, aiohttp.ClientSession() as session:

            async def ready() -> dict[str, str]:
                async with session.get(f"{url}/readyz") as answer:
                    assert answer.status == 200
                    told: dict[str, str] = await answer.json()
                    return told

            async def metric(name: str) -> float:
                async with session.get(f"{url}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}) as answer:
                    text = await answer.text()
                key = f'crossfade_owner_notices_{name}{{rollout="{TELLING.name}",step="prepared"}} '
                (line,) = [line for line in text.splitlines() if line.startswith(key)]
                return float(line.removeprefix(key))

            await until(lambda: ways.asked == 2 and told_of(controller) == 1)
            stage.clock.move(30.0)
            said = "owners of clients: 2 waiting, 1 given up; a…@x.example: 450 later"
            assert await ready() == {"status": "ready", "notices": said}
            names = ("sent_total", "failed_total", "given_up_total", "waiting", "undelivered_seconds")
            assert [await metric(name) for name in names] == [0, 2, 1, 2, 30]
            ways.to_none, ways.answer = "", lambda _: "250 OK"
            stage.clock.move(60.0)
            await until(lambda: told_of(controller) == 3)
            await until(lambda: not outbox.telling.waiting)
            assert [await metric(name) for name in names] == [2, 2, 1, 0, 0]
            assert (await ready())["notices"] == "owners of clients: 0 waiting, 1 given up; g…@x.example: 550 nobody"


def test_the_assignment_is_one_that_names_clients() -> None:
    assert isinstance(TELLING.assignment, AssignmentRule)
    assert TELLING.exempts

"""Handing notices over: at least once with the same id, whatever ends in between, and in nobody's way."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import aiohttp
import pytest
from tests.adapters.receiver import receiving
from tests.app.serving import served_with, serving

from crossfade.adapters.notify import Allowed, Webhook
from crossfade.adapters.system import SystemClock
from crossfade.app import notices as app
from crossfade.app.meters import Meters
from crossfade.app.telemetry import Scraped, exposition
from crossfade.core.machine import State
from crossfade.core.notices import Notice
from crossfade.core.plan import Gate, GateKind, Kept, NoticeKind, NoticeRule
from crossfade.engine.controller import Controller, Parts
from crossfade.engine.lease import LeaseKeeper
from crossfade.errors import CrossfadeError, NoticeRefusedError, NotTakenError, UsageError
from crossfade.ports import Clock, Notifier
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.simulator.plan import PLAN
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

LINK = "https://rollouts.example.org/rollouts/simulated"
LOOPBACK = Allowed.read("127.0.0.1")
EVERYTHING = dict.fromkeys(NoticeKind, 0.0)


@dataclass
class Ear:
    """Keeps `ports.Notifier`: does with each notice what it is told to."""

    taken: list[Notice] = field(default_factory=list)
    asked: int = 0
    answer: Callable[[Notice], str | CrossfadeError] = lambda _: "200 OK"
    shown: str = "ear"

    async def send(self, notice: Notice) -> str:
        self.asked += 1
        said = self.answer(notice)
        if isinstance(said, CrossfadeError):
            raise said
        self.taken.append(notice)
        return said

    async def close(self) -> None:
        pass


@dataclass
class Stage:
    """A rollout on fakes whose controller and outbox may be ended and begun again."""

    rules: tuple[NoticeRule, ...]
    store: MemoryStore = field(default_factory=MemoryStore)
    clock: Clock = field(default_factory=SystemClock)
    lease: LeaseKeeper | None = None

    async def controller(self) -> Controller:
        await self.store.open()
        proxy = FakeProxy(cohorts=("beta",))
        parts = Parts(
            store=self.store,
            proxy=proxy,
            switch=FakeRollback(proxy),
            telemetry=FakeTelemetry(),
            clock=self.clock,
            lease=self.lease,
        )
        controller = Controller(replace(PLAN, notices=self.rules), parts)
        await controller.start()
        return controller

    @asynccontextmanager
    async def telling(
        self, controller: Controller, *notifiers: Notifier, jitter: float = 1.0
    ) -> AsyncIterator[app.Outbox]:
        by_rule = dict(zip([rule.name for rule in self.rules], notifiers, strict=True))
        outbox = app.Outbox(controller, self.store, self.clock, by_rule, link=LINK, jitter=lambda: jitter)
        task = asyncio.create_task(outbox.run())
        try:
            yield outbox
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await outbox.close()


def rule(name: str = "team", url: str = "https://example.org", **on: float) -> NoticeRule:
    kinds = {NoticeKind(word.replace("_", " ")): seconds for word, seconds in on.items()}
    return NoticeRule(name=name, on=kinds or EVERYTHING, webhook=Kept(text=url))


async def until(done: Callable[[], object], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not done():  # noqa: ASYNC110 - whatever it is, it has no event
            await asyncio.sleep(0.005)


def kinds(taken: Sequence[Notice]) -> list[str]:
    return [f"{notice.kind}{' over' if notice.over else ''}" for notice in taken]


# ── over HTTP ───────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_rollback_arrives_as_a_signed_event_with_a_link(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"whsec_{'a' * 32}\n")
    async with receiving() as receiver:
        told = replace(rule(url=receiver.url, rollback=0), secret=Kept(file=str(tmp_path / "secret")))
        stage = Stage((told,))
        controller = await stage.controller()
        hook = app.notifier_of(told, LOOPBACK, SystemClock().now)
        async with stage.telling(controller, hook) as outbox:
            await until(lambda: outbox.tellings[0].logbook.revision)
            await controller.rollback("ada", "it looks odd")
            await receiver.wait(1)
    (event,) = receiver.events
    assert event["data"]["sentence"].startswith("simulated was rolled back in canary by ada: it looks odd; every user")
    assert (event["data"]["link"], event["type"]) == (LINK, "dev.crossfade.notice.rollback")
    assert receiver.came[0][0]["webhook-signature"].startswith("v1,")


async def test_a_receiver_that_was_away_gets_all_of_it_after_a_restart() -> None:
    """The process ends while the receiver fails; the next one sends what is left, and nothing that was taken."""
    async with receiving([200, 503]) as receiver:
        told = rule(url=receiver.url, paused=0, rollback=0)
        stage = Stage((told,))
        controller = await stage.controller()
        hook = app.notifier_of(told, LOOPBACK, SystemClock().now)
        async with stage.telling(controller, hook) as outbox:
            await until(lambda: outbox.tellings[0].logbook.revision)
            await controller.pause("ada", "lunch")
            await receiver.wait(1)
            await controller.rollback("ada", "it looks odd")
            await receiver.wait(2)
        receiver.answer(200)
        async with stage.telling(await stage.controller(), app.notifier_of(told, LOOPBACK, SystemClock().now)):
            await receiver.wait(3)
            await asyncio.sleep(0)
    ids = [event["id"] for event in receiver.events]
    assert [event["data"]["kind"] for event in receiver.events] == ["paused", "rollback", "rollback"]
    assert ids[1] == ids[2] != ids[0]


async def test_a_receiver_that_hangs_delays_neither_ticks_nor_a_rollback_nor_other_rules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "SEND_S", 3600.0)
    async with receiving([None]) as hanging, receiving() as well:
        rules = (rule("slow", hanging.url), rule("quick", well.url))
        stage = Stage(rules)
        controller = await stage.controller()
        hooks = [
            Webhook(partial(str, one.url), secret=None, allowed=LOOPBACK, now=SystemClock().now, timeout_s=3600.0)
            for one in (hanging, well)
        ]
        async with stage.telling(controller, *hooks) as outbox:
            await until(lambda: outbox.tellings[0].logbook.revision)
            await controller.pause("ada", "lunch")
            await hanging.wait(1)
            async with asyncio.timeout(30):  # the receiver would keep us for an hour
                for _ in range(20):
                    await controller.tick()
                await controller.rollback("ada", "it looks odd")
            assert controller.rollout.state is State.ROLLED_BACK
            await well.wait(2)
            assert [event["data"]["kind"] for event in well.events] == ["paused", "rollback"]
            assert len(hanging.came) == 1


async def test_what_may_be_secret_is_neither_logged_nor_sent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with receiving([500, 403]) as receiver:
        (tmp_path / "url").write_text(receiver.url.replace("/hook", "/T0SECRET?token=T1SECRET"))
        (tmp_path / "key").write_text(f"whsec_{'SECRET' * 8}")
        told = rule(paused=0)
        told = replace(told, webhook=Kept(file=str(tmp_path / "url")), secret=Kept(file=str(tmp_path / "key")))
        stage = Stage((told,))
        controller = await stage.controller()
        async with stage.telling(controller, app.notifier_of(told, LOOPBACK, SystemClock().now)) as outbox:
            await until(lambda: outbox.tellings[0].logbook.revision)
            await controller.pause("ada", "lunch")
            await until(lambda: outbox.tellings[0].given_up)
    assert "answered 403" in caplog.text
    sent = b"".join(body for _, body in receiver.came)
    assert "SECRET" not in caplog.text + sent.decode() + outbox.tellings[0].trouble


# ── whatever ends in between ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_crash_at_any_notice_loses_none_and_renames_none(when: str) -> None:
    """Ended at each notice in turn, before or after it was taken: all arrive, in order, under the same ids."""
    stage, arrived = Stage((rule(),)), []
    controller = await stage.controller()

    async def live(act: Callable[[Controller], object]) -> None:
        nonlocal controller
        crashed = asyncio.Event()

        class Crashing(Ear):
            async def send(self, notice: Notice) -> str:
                if when == "after":
                    arrived.append(notice)
                crashed.set()
                await asyncio.Event().wait()
                return ""

        async with stage.telling(controller, Crashing()) as outbox:
            await until(lambda: outbox.tellings[0].logbook.revision)
            await act(controller)  # type: ignore[misc]
            await until(crashed.is_set)
        controller = await stage.controller()

    await live(lambda c: c.pause("ada", "1"))
    await live(lambda c: c.resume("ada", "2"))
    await live(lambda c: c.promote("ada", "3"))
    await live(lambda c: c.rollback("ada", "4"))
    ear = Ear()
    async with stage.telling(controller, ear) as outbox:
        await until(lambda: ear.taken and not outbox.tellings[0].logbook.waiting)
    names = {notice.id: f"{notice.kind}{' over' if notice.over else ''}" for notice in (*arrived, *ear.taken)}
    assert Counter(names.values()) == Counter({"paused over": 1, "phase promoted": 1, "rollback": 1} | (
        {"paused": 1} if when == "after" else {}
    ))  # fmt: skip
    assert kinds(ear.taken) == ["paused over", "phase promoted", "rollback"], "what began goes out with its end"


async def test_a_rollback_is_told_while_the_store_is_away() -> None:
    stage, ear = Stage((rule(rollback=0),)), Ear()
    controller = await stage.controller()
    async with stage.telling(controller, ear) as outbox:
        await until(lambda: outbox.tellings[0].logbook.revision)
        stage.store.fail_next(1000)
        await controller.rollback("ada", "it looks odd")
        await until(lambda: ear.taken)
        stage.store.heal()
        await controller.tick()
        await until(lambda: b'"back":true' in outbox.tellings[0].saved)
    again = Ear()
    after = await stage.controller()
    async with stage.telling(after, again) as outbox:
        await until(lambda: outbox.tellings[0].logbook.revision == after.rollout.revision)
    assert (len(ear.taken), again.taken) == (1, [])


async def test_whoever_lost_the_lease_tells_nothing_more() -> None:
    store, clock = MemoryStore(), SystemClock()
    await store.open()
    mine, other = (
        LeaseKeeper(store, clock, rollout=PLAN.name, holder=holder, address="", lasts_s=3600) for holder in "ab"
    )
    assert await mine.look()
    stage, ear = Stage((rule(),), store=store, lease=mine), Ear()
    controller = await stage.controller()
    async with stage.telling(controller, ear) as outbox:
        await until(lambda: outbox.tellings[0].saved)
        assert await other.look("a")
        await mine.renew()
        assert mine.lost
        with pytest.raises(CrossfadeError):
            await controller.pause("ada", "lunch")
        await store.append(PLAN.name, controller.rollout.revision, (), generation=2)
        outbox._wake.set()
        await asyncio.sleep(0.05)
    assert ear.asked == 0


async def test_a_new_rule_is_not_told_what_was(caplog: pytest.LogCaptureFixture) -> None:
    first, ear, second = Stage((rule("old"),)), Ear(), Ear()
    controller = await first.controller()
    await controller.promote("ada", "before any rule")
    await controller.pause("ada", "lunch")
    both = Stage((rule("old"), rule("new")), store=first.store)
    async with both.telling(await both.controller(), ear, second) as outbox:
        await until(lambda: all(telling.saved for telling in outbox.tellings))
        await until(lambda: ear.taken and second.taken)
    assert kinds(second.taken) == ["paused"]


async def test_a_damaged_logbook_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    stage, ear = Stage((rule(),)), Ear()
    controller = await stage.controller()
    await stage.store.save_notices(PLAN.name, {"team": b"{"})
    async with stage.telling(controller, ear) as outbox:
        await until(lambda: outbox.tellings[0].logbook.revision)
        await controller.promote("ada", "")
        await until(lambda: ear.taken)
    assert "the logbook of team begins anew" in caplog.text


async def test_an_approval_that_is_wanted_is_told_from_the_gates() -> None:
    approved = Gate(kind=GateKind.APPROVED, text="approved by 2 people", people=2)
    stage, ear = Stage((rule(approval_wanted=0),)), Ear()
    controller = await stage.controller()
    first, *others = controller.plan.phases
    controller.plan = replace(controller.plan, phases=(replace(first, soak_s=0.0, gates=(approved,)), *others))
    async with stage.telling(controller, ear) as outbox:
        await until(lambda: outbox.tellings[0].logbook.revision)
        await controller.tick()
        await until(lambda: ear.taken)
        await controller.approve("ada", "")
        controller._observed_at = float("-inf")
        await controller.tick()
        await until(lambda: len(ear.taken) == 2)
    assert [notice.sentence.split("; ", 1)[1] for notice in ear.taken] == [
        "0 of 2; 2 more people; waits for: crossfade approve simulated",
        "1 of 2: ada; one more person; waits for: crossfade approve simulated",
    ]


# ── trying again ────────────────────────────────────────────────────────────────────────────────────────────


async def _settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


async def test_attempts_are_twice_as_far_apart_each_time_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "LOOK_S", 1000.0)  # or hours of looks would have to pass as well
    clock = ManualClock()
    stage = Stage((rule(paused=0),), clock=clock)
    times: list[float] = []

    def answer(_: Notice) -> NotTakenError:
        times.append(clock.monotonic())
        return NotTakenError("503")

    controller = await stage.controller()
    async with stage.telling(controller, Ear(answer=answer), jitter=0.5) as outbox:
        await _settle()
        await controller.pause("ada", "lunch")
        for _ in range(1000):
            if outbox.tellings[0].given_up:
                break
            await _settle_until_idle(clock)
        assert outbox.tellings[0].logbook.waiting == ()
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert len(times) == app.ATTEMPTS
    assert gaps[:5] == pytest.approx([0.75, 1.5, 3, 6, 12])
    assert gaps[-1] == pytest.approx(0.75 * app.MOST_S)
    assert outbox.tellings[0].failed == app.ATTEMPTS


async def _settle_until_idle(clock: ManualClock) -> None:
    await _settle()
    wait = clock.until_next
    clock.move(0.25 if wait is None else wait)


async def test_what_the_receiver_asks_for_is_kept_to() -> None:
    clock = ManualClock()
    stage, ear = Stage((rule(paused=0, rollback=0),), clock=clock), Ear(answer=lambda _: NotTakenError("429", 100.0))
    controller = await stage.controller()
    async with stage.telling(controller, ear) as outbox:
        await _settle()
        await controller.pause("ada", "lunch")
        await _settle()
        assert ear.asked == 1
        await controller.rollback("ada", "")  # news, but we were asked to wait
        for _ in range(98):
            clock.move(1)
            await _settle()
        assert ear.asked == 1
        for _ in range(4):
            clock.move(1)
            await _settle()
        assert ear.asked == 2
        assert outbox.tellings[0].trouble == "429"


async def test_something_new_is_tried_at_once() -> None:
    clock = ManualClock()
    stage, ear = Stage((rule(paused=0, rollback=0),), clock=clock), Ear(answer=lambda _: NotTakenError("503"))
    controller = await stage.controller()
    async with stage.telling(controller, ear):
        await _settle()
        await controller.pause("ada", "lunch")
        for _ in range(40):
            clock.move(1)
            await _settle()
        before = ear.asked
        ear.answer = lambda _: "200 OK"
        await controller.rollback("ada", "")
        await _settle()
    assert (ear.asked - before, kinds(ear.taken)) == (1, ["rollback"]), "the pause ended with it"


async def test_what_is_refused_is_given_up_and_the_next_is_tried() -> None:
    answers: list[str | CrossfadeError] = [NoticeRefusedError("404"), "200 OK"]
    stage, ear = Stage((rule(paused=0, rollback=0),)), Ear(answer=lambda _: answers.pop(0))
    controller = await stage.controller()
    async with stage.telling(controller, ear) as outbox:
        await until(lambda: outbox.tellings[0].logbook.revision)
        await controller.pause("ada", "lunch")
        await until(lambda: outbox.tellings[0].given_up)
        await controller.rollback("ada", "")
        await until(lambda: ear.taken)
        telling = outbox.tellings[0]
        assert (telling.sent, telling.failed, telling.given_up, telling.trouble) == (1, 1, 1, "")


async def test_a_notifier_with_a_fault_of_its_own_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fault(_: Notice) -> str:
        raise ZeroDivisionError

    stage = Stage((rule(paused=0),))
    controller = await stage.controller()
    async with stage.telling(controller, Ear(answer=fault)) as outbox:
        await until(lambda: outbox.tellings[0].logbook.revision)
        await controller.pause("ada", "lunch")
        await until(lambda: outbox.tellings[0].failed)
    assert "ZeroDivisionError" in outbox.tellings[0].trouble


# ── where secrets are kept ──────────────────────────────────────────────────────────────────────────────────


def test_what_is_kept_is_read_when_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "url"
    for kept, reason in ((Kept(variable="HOOK"), "HOOK is not set"), (Kept(file=str(file)), "No such file")):
        with pytest.raises(ValueError, match=reason):
            app.read_kept(kept)
    monkeypatch.setenv("HOOK", " a ")
    file.write_bytes(b"b\n")
    assert [app.read_kept(kept) for kept in (Kept(variable="HOOK"), Kept(file=str(file)), Kept(text="c"))] == [*"abc"]
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="is not UTF-8"):
        app.read_kept(Kept(file=str(file)))


# ── seen from outside ───────────────────────────────────────────────────────────────────────────────────────


async def test_metrics_tell_how_it_goes(tmp_path: Path) -> None:
    answers: list[str | CrossfadeError] = [NoticeRefusedError("404"), "200 OK", NotTakenError("503", 3600.0)]
    stage = Stage((rule(paused=0, phase_promoted=0, rollback=0),))
    controller = await stage.controller()
    async with stage.telling(controller, Ear(answer=lambda _: answers.pop(0))) as outbox:
        await until(lambda: outbox.tellings[0].logbook.revision)
        await controller.promote("ada", "")
        await until(lambda: outbox.tellings[0].given_up)
        await controller.pause("ada", "")
        await until(lambda: outbox.tellings[0].sent)
        await controller.rollback("ada", "")
        await until(lambda: outbox.tellings[0].failed == 2)
        scraped = Scraped(
            controller=controller,
            telemetry=FakeTelemetry(),
            meters=Meters(),
            now=stage.clock.now(),
            tellings=outbox.tellings,
        )
        text = exposition([scraped]).decode()
    for name, value in (("sent_total", 1), ("failed_total", 2), ("given_up_total", 1), ("waiting", 1)):
        assert f'crossfade_notices_{name}{{rollout="simulated",rule="team"}} {value}.0' in text


@pytest.mark.parametrize(
    ("public", "page"),
    [
        ("", "http://127.0.0.1:8090/rollouts/trips%20v2"),
        ("https://rollouts.example.org/x/", "https://rollouts.example.org/x/rollouts/trips%20v2"),
    ],
)
def test_the_link_leads_to_the_rollouts_page(public: str, page: str) -> None:
    assert app.page_of("trips v2", public, "http://127.0.0.1:8090") == page


def test_a_public_url_that_is_none_is_told() -> None:
    with pytest.raises(UsageError, match=r"--public-url is such as https://rollouts\.example\.org, not 'rollouts'"):
        app.page_of("trips", "rollouts", "")


async def test_readyz_says_whose_notices_are_not_taken_and_stays_200(tmp_path: Path) -> None:
    ear = Ear(answer=lambda _: NotTakenError("ear: 503"))
    stage = Stage((rule("pager", rollback=0),))
    controller = await stage.controller()
    async with stage.telling(controller, ear) as outbox:
        served = served_with(controller, stage.store, FakeTelemetry(), stage.clock, tmp_path, plan=controller.plan)
        (carried,) = served.rollouts.values()
        served = replace(served, rollouts={controller.plan.name: replace(carried, outbox=outbox)})
        async with serving(served) as url, aiohttp.ClientSession() as session:

            async def ready() -> dict[str, str]:
                async with session.get(f"{url}/readyz") as answer:
                    assert answer.status == 200
                    told: dict[str, str] = await answer.json()
                    return told

            await controller.tick()
            assert await ready() == {"status": "ready"}
            await until(lambda: outbox.tellings[0].logbook.revision)
            await controller.rollback("ada", "it looks odd")
            await until(lambda: outbox.tellings[0].failed)
            assert await ready() == {"status": "ready", "notices": "rule pager: 1 waiting, 0 given up; ear: 503"}
            ear.answer = lambda _: "200 OK"
            await until(lambda: outbox.tellings[0].sent)
            assert await ready() == {"status": "ready"}

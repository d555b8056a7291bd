"""Forty clients leave V1 at their own pace, at the real proxy: who is told, who is met, who is last, and the end."""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from typing import Any

import numpy as np
import pytest
from tests.adapters.postbox import Postbox, postbox
from tests.e2e.site import QUERY, Site, until
from tests.e2e.test_e2e_retire import METHODS, V1S, gone, v2_serves

from crossfade.adapters.store import SqlStore
from crossfade.adapters.system import ScaledClock, SystemClock
from crossfade.app.bootstrap import EPOCH_FILE
from crossfade.app.control import STORE_FILE
from crossfade.core.brownout import meets, salt_of
from crossfade.core.clients.register import Registered

pytestmark = pytest.mark.slow

HOUR, DAY = 3600.0, 86_400.0
SPEED = 90_000.0
"""A day in 0.96 s."""
FAST = ("--speed", f"{SPEED:g}", "--tick", "3600", "--lateness", "0.2")
SHARE = 5_000
PLAN = """\
crossfade: 1
rollout: trips-v2
api:
  entry: /trips/search
  listen: 127.0.0.1:{listen}
  v1: {{path: /v1/trips/search, upstreams: ["127.0.0.1:{v1}"]}}
  v2: {{path: /v2/trips/search, upstreams: ["127.0.0.1:{v2}"]}}
assignment: {{user: [header X-User-Id], client: header X-Client-Id, users: 2000}}
metrics: {{failure_rate: {{target: "<= 0.5%", guard: monitor}}}}
phases:
  - name: full
    split: 100%
    soak: 1d
    promote when: [no v1 requests for 1d, approved by a person]
    then: retire v1
deprecation:
  since: 2026-01-01
  sunset: {sunset}
  notice: https://example.com/ends
  successor: /v2/trips/search
  brownouts: [{{name: first, at: {at}, for: 1d, share: 50%}}]
clients:
  notices: {{from: api-team@example.org, mail: {{env: FLEET_MAIL}}, steps: [announced, retired]}}
"""


@dataclass
class Fleet:
    """Clients that ask all the time, each for V1's path until it moves, and what they got."""

    listen: int
    clock: ScaledClock
    moves: dict[str, float]
    """Plan time at which each moves."""
    asked: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Plan times at which each asked for V1."""
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By client and what came back: ok, brownout, told (of V1's end) or another status."""
    met: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    lost: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self) -> Iterator[Fleet]:
        names = sorted(self.moves)
        threads = [threading.Thread(target=self._run, args=(names[n::4],), daemon=True) for n in range(4)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(30)

    def on_v1(self, at: float) -> tuple[set[str], set[str]]:
        """Return who surely and who perhaps has asked for V1 within the day before `at`: ticks are an hour long."""
        surely, perhaps = set(), set()
        for name in self.moves:
            times = [asked for asked in list(self.asked[name]) if asked < at + 2 * HOUR]
            recent = [asked for asked in times if at - DAY + 3 * HOUR < asked < at - 2 * HOUR]
            if recent:
                surely.add(name)
            if times and times[-1] > at - DAY - 3 * HOUR:
                perhaps.add(name)
        return surely, perhaps

    def _run(self, names: list[str]) -> None:
        connection = HTTPConnection("127.0.0.1", self.listen, timeout=15)
        while not self._stop.is_set():
            for name in names:
                self._ask(connection, name)
                self._stop.wait(0.01)
        connection.close()

    def _ask(self, connection: HTTPConnection, name: str) -> None:
        at = self.clock.now()
        old = at < self.moves[name]
        path = "/v1/trips/search" if old else "/v2/trips/search"
        try:
            connection.request("GET", f"{path}?{QUERY}", headers={"X-User-Id": name, "X-Client-Id": name})
            answer = connection.getresponse()
            body = answer.read()
        except OSError as error:
            self.lost.append(repr(error))
            return
        if old:
            self.asked[name].append(at)
        if answer.status == 410 and b"Gone for a while" in body:
            self.met[name].append(at)
        self.answers[name, str(answer.status)] += 1
        if answer.headers["Deprecation"]:
            self.answers[name, "told"] += 1


class Door:
    """The control API, asked without a process for each question."""

    def __init__(self, site: Site) -> None:
        control = json.loads((site.home / "control.json").read_text())
        self.url, self.token = control["url"], control["token"]

    def get(self, path: str) -> Any:
        request = urllib.request.Request(
            f"{self.url}/api/v1/rollouts/trips-v2{path}", headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def snapshot(self) -> tuple[float, set[str], Any]:
        """Return until when the ledger has watched, whom it lists as still on V1 then, and the forecast."""
        while True:
            before, lines = self.get("/clients/trend"), self.get("/clients?still_on=v1&limit=1000")
            after = self.get("/clients/trend")
            if before["until"] == after["until"]:
                return after["until"] or 0.0, {line["client"] for line in lines["items"]}, after["forecast"]


async def register(site: Site, entries: list[Registered]) -> None:
    """Have a register before anything runs."""
    site.home.mkdir(parents=True)
    store = SqlStore(f"sqlite:///{site.home / STORE_FILE}")
    await store.open()
    await store.save_register("trips-v2", entries)
    await store.close()


def told(box: Postbox) -> dict[tuple[str, str], list[str]]:
    """Return the Message-IDs of mails by recipient and subject."""
    found = defaultdict(list)
    for mail, envelope in zip(box.mails, list(box.came), strict=False):
        found[envelope.rcpt_tos[0].partition("@")[0], str(mail["Subject"])].append(str(mail["Message-ID"]))
    return found


def day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M}Z"


def test_a_fleet_of_forty_leaves_v1_at_its_own_pace(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.services.start()
    wall = int(SystemClock().now() + 3) + 0.272  # so that the brownout ends with a second of the proxy's clock
    midnight = (wall // DAY + 1) * DAY
    clock = ScaledClock(SPEED, wall - (midnight - wall) / (SPEED - 1))  # midnight is at `wall`, when all runs
    moves = {
        f"partner-{n:02}": midnight + d * DAY for n, d in enumerate(np.random.default_rng(105).exponential(1.5, 40))
    }
    last = max(moves, key=moves.__getitem__)
    begins, ends = midnight + 0.8 * DAY, midnight + 1.8 * DAY
    drawn = {name for name in moves if meets(name, SHARE, salt_of("trips-v2", "first"))}
    exempt = sorted(name for name in drawn if moves[name] > midnight + DAY)[:4]
    over = datetime.fromtimestamp(midnight + 3.5 * DAY, UTC).date()
    entries = [
        Registered(client=name, owner=name, contact=f"{name}@example.org", exempt_until=until_day)
        for name in moves
        for until_day in [over if name in exempt else None]
    ]
    services = site.services
    site.plan.write_text(
        PLAN.format(listen=site.listen, v1=services.v1, v2=services.v2, at=day(begins), sunset=day(midnight + 30 * DAY))
    )
    asyncio.run(register(site, entries))
    (site.home / EPOCH_FILE).write_text(repr(clock.epoch))
    with postbox() as box:
        monkeypatch.setenv("FLEET_MAIL", f"smtp://127.0.0.1:{box.port}")
        site.serve(*FAST)
        door, fleet = Door(site), Fleet(site.listen, clock, moves)
        with fleet.running():
            migrate(site, door, fleet, midnight, last)
        assert not fleet.lost
        refused = {name for name, times in fleet.met.items() if times}
        there = {name for name in drawn if moves[name] > ends}
        assert there - set(exempt) <= refused <= {name for name in drawn if moves[name] > begins} - set(exempt)
        assert len(refused) >= 3
        assert all(begins <= at <= ends + DAY for times in fleet.met.values() for at in times)
        assert {fleet.answers[name, "410"] for name in exempt} == {0}
        announced(box, moves, exempt, over.isoformat())
        retire(site, box, (datetime(2026, 1, 1, tzinfo=UTC), datetime.fromisoformat(day(midnight + 30 * DAY))))


def migrate(site: Site, door: Door, fleet: Fleet, midnight: float, last: str) -> None:
    """Hold list and forecast against the truth, until only the last one is left, and until that has moved as well."""
    end, forecast = fleet.moves[last], None
    while fleet.clock.now() < end:
        listed_until, listed, told = door.snapshot()
        if listed_until > midnight:
            surely, perhaps = fleet.on_v1(listed_until)
            assert surely <= listed <= perhaps, (surely - listed, listed - perhaps)
        if told["at"] is not None and listed_until > midnight + 3.9 * DAY:
            forecast = told["at"]
        if listed == {last}:
            break
    assert forecast is not None
    low, _, high = forecast
    assert low < end < high
    names = [line["client"] for line in json.loads(site.verb("clients", "--still-on", "v1", "-o", "json"))]
    assert names == [last]
    assert "it must be completed" in site.verb("retire", "--confirm", "trips-v2", code=3)
    site.verb("approve", "--reason", "all have been told")
    until("the last one has moved", lambda: fleet.clock.now() > end)
    until("all gates have passed", lambda: door.get("")["state"] == "completed")
    until("nobody is on V1", lambda: door.snapshot()[1] == set())
    assert fleet.clock.now() > end + DAY


def announced(box: Postbox, moves: dict[str, float], exempt: list[str], over: str) -> None:
    """Each owner whose client still asked for V1 after a day was told once, with the date of its exemption."""
    found = told(box)
    assert set(Counter(map(len, found.values()))) == {1}
    names = {name for name, subject in found if "is deprecated" in subject}
    assert {name for name, at in moves.items() if at > min(moves.values()) + 3 * DAY} <= names
    texts = {str(mail["To"].addresses[0].username): mail.get_content() for mail in box.mails}
    assert all(f"is not taken from it up to and including {over}" in texts[name] for name in exempt)


def retire(site: Site, box: Postbox, dates: tuple[datetime, datetime]) -> None:
    """V1 is gone for everybody, and every owner is told so, though the controller is killed meanwhile."""
    before, taken = len(box.came), len({name for name, _ in told(box)})
    box.recipient = lambda address: "250 OK" if address < "partner-20" else "451 later"
    site.verb("retire", "--confirm", "trips-v2")
    for method in METHODS:
        for target in V1S:
            gone(site, method, target, *dates)
    v2_serves(site)
    until("some are told that V1 is gone", lambda: len(box.came) > before)
    site.kill()
    box.recipient = lambda _: "250 OK"
    site.serve(*FAST)
    until("all are told", lambda: len({name for name, subject in told(box) if "is gone" in subject}) == taken)
    assert all(len(set(ids)) == 1 for ids in told(box).values())
    lines = json.loads(site.verb("clients", "notices", "--step", "retired", "-o", "json"))
    assert {line["owner"] for line in lines} == {name for name, _ in told(box)}

"""A brownout at the real HAProxy: whom it meets, what they get, and that it ends whoever is there."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from tests import strict
from tests.adapters.haproxy_origin import Answer, Client, LineSink, Origin, make_plan, origins

from crossfade.adapters.haproxy import HaproxyProxy, HaproxyRollback
from crossfade.adapters.system import ScaledClock, SystemClock
from crossfade.core.brownout import Absence, meets
from crossfade.core.deprecation import v1_headers
from crossfade.core.plan import Brownout, Deprecation, Plan, Unattended
from crossfade.core.split import Split
from crossfade.ports import REQUEST_LINE, ProxyState

SALT = "5e1f0c7a90ab3d42"
BODY = '{"status":410,"detail":"100% \\"back\\" soon; a,b"}'
PLANNED = Deprecation(
    since=0, successor="/v2/trips/search", brownouts=(Brownout(name="first", at=1, until=2, share=5000),)
)
V1S, V2S, ENTRY = "/v1/trips/search?q=1", "/v2/trips/search", "/search"
TOLD = {"Deprecation": "@1803859200", "Link": '</v2>; rel="successor-version"', "Brownout": "@1;until=@2;share=0.5"}


@dataclass
class Site:
    plan: Plan
    proxy: HaproxyProxy
    switch: HaproxyRollback
    clock: SystemClock
    sink: LineSink
    v1: Origin
    v2: Origin

    def client(self) -> Client:
        return Client(int(self.plan.api.listen.split(":")[1]))

    def state(self, share: int, *, lasts_s: float = 60.0, everyone: int = 0, generation: int = 1) -> ProxyState:
        until = round(self.clock.now() + lasts_s * self.clock.speed)
        absence = Absence(until=until, share=share, salt=SALT, body=BODY)
        split = Split(everyone=everyone)
        return ProxyState(generation=generation, split=split, brownout=absence, v1_headers=TOLD)

    async def status(self, target: str = V1S, **headers: str) -> int:
        client = self.client()
        try:
            return (await client.get(target, *((k.replace("_", "-"), v) for k, v in headers.items()))).status
        finally:
            client.close()

    async def until_back(self) -> None:
        async with asyncio.timeout(20):
            while await self.status() == 410:  # noqa: ASYNC110 - another process tells nobody
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(
    directory: Path, *, clock: SystemClock | None = None, unattended: Unattended | None = None, **more: object
) -> AsyncIterator[Site]:
    clock, sink = clock or SystemClock(), LineSink()
    await sink.start()
    async with origins("v1", "v2") as (v1, v2):
        plan = replace(
            make_plan([v1.address], [v2.address]),
            deprecation=PLANNED,
            unattended=unattended or Unattended(),
            **more,  # type: ignore[arg-type]
        )
        proxy = HaproxyProxy(plan, directory, collector=f"127.0.0.1:{sink.port}", clock=clock, grace_s=0.2)
        switch = HaproxyRollback(directory)
        await proxy.start()
        try:
            yield Site(plan, proxy, switch, clock, sink, v1, v2)
        finally:
            await switch.close()
            await proxy.stop()
            await sink.stop()


async def test_it_meets_the_clients_that_the_hash_says(tmp_path: Path) -> None:
    """By their id; where they name none, by the user's key; the entry's and V2's paths are nobody's absence."""
    async with running(tmp_path) as site:
        await site.proxy.apply(site.state(5000, everyone=5000))
        client = site.client()
        for number in range(300):
            name = f"partner {number}, ä" if number % 3 else f"p{number}"
            answer = await client.get(V1S, ("X-Client-Id", name.encode()), ("X-User-Id", f"u{number}"))
            assert (answer.status == 410) is meets(name, 5000, SALT), name
        for number in range(100):
            answer = await client.get(V1S, ("X-Client-Id", ""), ("X-User-Id", f"u{number}"))
            assert (answer.status == 410) is meets(f"u{number}", 5000, SALT), number
        met = next(f"p{n}" for n in range(100) if meets(f"p{n}", 5000, SALT))
        for target in (ENTRY, f"{ENTRY}/7", V2S, f"{V2S}?x=1"):
            assert (await client.get(target, ("X-Client-Id", met))).status == 200, target
        client.close()


async def test_what_those_get_whom_it_meets(tmp_path: Path) -> None:
    """Whatever the method: problem+json as it was said, when to come again, nothing for a cache to keep."""
    async with running(tmp_path) as site:
        await site.proxy.apply(site.state(10_000))
        client = site.client()
        for method in ("GET", "POST", "DELETE", "PROPFIND"):
            answer = await client.get(V1S, method=method)
            assert (answer.status, answer.headers["content-type"]) == (410, "application/problem+json")
            assert json.loads(answer.body)["detail"] == '100% "back" soon; a,b'
            assert 1 <= int(answer.headers["retry-after"]) <= 61
            assert answer.headers["cache-control"] == "no-store"
            assert {name.lower(): value for name, value in TOLD.items()}.items() <= answer.headers.items()
        assert not site.v1.heads
        client.close()


async def test_it_is_announced_under_v1s_paths_whoever_answers(tmp_path: Path) -> None:
    """Once, also where V1 answers in V2's place."""
    async with running(tmp_path) as site:
        await site.proxy.apply(replace(site.state(1), brownout=None, split=Split(everyone=10_000)))
        client = site.client()
        answer = await client.get(V1S)
        assert (answer.version, answer.headers["brownout"], answer.headers["link"]) == (
            "v2",
            TOLD["Brownout"],
            TOLD["Link"],
        )
        assert not {"brownout", "deprecation"} & (await client.get(V2S)).headers.keys()
        assert not {"brownout", "deprecation"} & (await client.get(ENTRY)).headers.keys()
        await site.v2.stop()
        client.close()
        answer = await site.client().get(V1S)
        assert (answer.version, answer.headers["brownout"], answer.headers["link"]) == (
            "v1",
            TOLD["Brownout"],
            TOLD["Link"],
        )


async def test_its_answers_are_no_versions(tmp_path: Path) -> None:
    """The line says so, and that V1 was asked for."""
    async with running(tmp_path) as site:
        await site.proxy.apply(site.state(10_000))
        assert await site.status(X_User_Id="u1") == 410
        (line,) = await site.sink.wait_for(1)
        fields = dict(zip(REQUEST_LINE, line.split(","), strict=True))
        assert (fields["version"], fields["status"], fields["asked"]) == ("brownout", "410", "v1")


async def test_a_rollback_ends_it_at_once(tmp_path: Path) -> None:
    """By the switch alone: no plan, no controller."""
    async with running(tmp_path) as site:
        await site.proxy.apply(site.state(10_000, everyone=5000))
        assert await site.status() == 410
        await site.switch.rollback()
        assert await site.status() == 200


@pytest.mark.slow
async def test_it_ends_at_its_time_with_nobody_there(tmp_path: Path) -> None:
    """The proxy's own clock ends it: the controller is gone, and so is who would start a dead proxy again."""
    async with running(tmp_path) as site:
        await site.proxy.apply(site.state(10_000, lasts_s=2.0))
        assert await site.status() == 410
        await site.proxy.close()
        await site.until_back()
        (node,) = await site.proxy.observe()
        assert node.state is not None
        assert node.state.brownout is not None  # nobody has taken it away: its time was over


async def test_it_ends_once_nobody_looks_after_the_proxy(tmp_path: Path) -> None:
    async with running(tmp_path, unattended=Unattended(after_s=0.5)) as site:
        await site.proxy.apply(site.state(10_000, lasts_s=3600.0))
        assert await site.status() == 410
        await site.proxy.close()
        await site.until_back()


async def test_a_proxy_that_dies_comes_back_with_it(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        wanted = site.state(10_000)
        await site.proxy.apply(wanted)
        await site.proxy._stop_watching()
        assert site.proxy._process is not None
        site.proxy._process.send(9)
        await site.proxy._process.ended()
        await site.proxy.ensure_running()
        (node,) = await site.proxy.observe()
        assert node.state == wanted
        assert await site.status() == 410
        await site.proxy.apply(replace(wanted, generation=2, brownout=None))
        assert await site.status() == 200


@pytest.mark.parametrize("speed", [60.0, 3600.0])
async def test_plan_time_may_run_faster_than_the_proxys_clock(tmp_path: Path, speed: float) -> None:
    clock = ScaledClock(speed, SystemClock().now() - 1000.0)
    async with running(tmp_path, clock=clock) as site:
        wanted = site.state(10_000, lasts_s=30.0)
        await site.proxy.apply(wanted)
        answer = await site.client().get(V1S)
        assert answer.status == 410
        assert 1 <= int(answer.headers["retry-after"]) <= 31
        (node,) = await site.proxy.observe()
        assert node.state == wanted


async def test_who_names_nobody_is_met_by_one_for_everybody_only(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        rule = replace(site.plan.assignment, user=site.plan.assignment.user[:1])
        site.proxy._plan = replace(site.plan, assignment=rule)
        await site.proxy.stop()
        await site.proxy.start()
        for share, status in ((9999, 200), (10_000, 410)):
            await site.proxy.apply(site.state(share, generation=share))
            assert await site.status() == status, share


async def test_exempt_clients_are_told_nothing_and_met_by_none(tmp_path: Path) -> None:
    """By their id as it is, whatever it holds; others are told and met as before."""
    names = ["acme", "päritätisch, \\ #1", "a b", "x" * 64]
    async with running(tmp_path) as site:
        wanted = replace(site.state(10_000), exempt=frozenset(names))
        await site.proxy.apply(wanted)
        (node,) = await site.proxy.observe()
        assert node.state == wanted
        client = site.client()
        for name in names:
            answer = await client.get(V1S, ("X-Client-Id", name.encode()))
            assert (answer.status, {"deprecation", "brownout", "link"} & answer.headers.keys()) == (200, set()), name
        for name in ("acm", "ACME", "", "acme, acme"):
            answer = await client.get(V1S, ("X-Client-Id", name))
            assert (answer.status, "deprecation" in answer.headers) == (410, True), name
        await site.proxy.apply(replace(wanted, brownout=None, split=Split(everyone=10_000), generation=2))
        for name, told in (("acme", False), ("other", True)):
            answer = await client.get(V1S, ("X-Client-Id", name))
            assert (answer.version, "deprecation" in answer.headers) == ("v2", told), name
        client.close()


async def test_exemptions_outlive_the_proxy_and_end_when_they_are_taken_away(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        wanted = replace(site.state(10_000), exempt=frozenset({"acme"}))
        await site.proxy.apply(wanted)
        await site.proxy._stop_watching()
        assert site.proxy._process is not None
        site.proxy._process.send(9)
        await site.proxy._process.ended()
        await site.proxy.ensure_running()
        assert await site.status(X_Client_Id="acme") == 200
        await site.proxy.apply(replace(wanted, exempt=frozenset({"other"})))
        assert (await site.status(X_Client_Id="acme"), await site.status(X_Client_Id="other")) == (410, 200)
        await site.proxy.stop()
        (tmp_path / "exempt.map").write_bytes(b"\xff what\n")
        await site.proxy.start()
        assert await site.status(X_Client_Id="other") == 410


async def test_strict_readers_understand_what_v1s_clients_are_told(tmp_path: Path) -> None:
    """Of V1's answers, those in its place, and those of a brownout; others and exempt clients are told nothing."""
    first, second = 1_811_836_800, 1_814_860_800
    said = Deprecation(
        since=1_803_859_200,
        sunset=1_819_756_800,
        notice="https://example.com/v1-ends?a=b;c,d",
        policy="/policy",
        successor="/v2/trips",
        brownouts=(
            Brownout(name="first", at=first, until=first + 900, share=1),
            Brownout(name="second", at=second, until=second + 3600, share=3333),
        ),
    )
    moment = partial(datetime.fromtimestamp, tz=UTC)
    links = {
        "deprecation": "https://example.com/v1-ends?a=b;c,d",
        "sunset": "/policy",
        "successor-version": "/v2/trips",
    }
    calendar = [
        strict.Absence(moment(first), moment(first + 900), Decimal("0.001")),
        strict.Absence(moment(second), moment(second + 3600), Decimal("0.333")),
    ]
    names = {"deprecation", "sunset", "link", "brownout"}

    def understood(answer: Answer, announced: list[strict.Absence]) -> None:
        told = answer.headers
        assert names & told.keys() == (names if announced else names - {"brownout"})
        assert strict.deprecation(told["deprecation"]) == moment(said.since)
        assert strict.sunset(told["sunset"]) == moment(said.sunset or 0)
        assert strict.links(told["link"]) == links
        assert strict.brownouts(told.get("brownout", "")) == announced

    async with running(tmp_path) as site:
        client = site.client()
        half = Split(everyone=5000)
        quiet = replace(
            site.state(1), brownout=None, split=half, v1_headers=v1_headers(said, 0), exempt=frozenset({"ex"})
        )
        await site.proxy.apply(quiet)
        for number in range(20):
            user = ("X-User-Id", f"u{number}")
            understood(await client.get(V1S, user), calendar)  # whichever version answers
            by_split = await client.get(ENTRY, user)
            if by_split.version == "v1":
                understood(by_split, calendar)
            else:
                assert not names & by_split.headers.keys()
        for target, name in ((V1S, "ex"), (V2S, "other")):
            assert not names & (await client.get(target, ("X-Client-Id", name))).headers.keys()
        absent = replace(
            site.state(5000), v1_headers=v1_headers(said, 0, {"first"}), exempt=frozenset({"ex"}), generation=2
        )
        await site.proxy.apply(absent)
        statuses = set()
        for number in range(20):
            answer = await client.get(V1S, ("X-Client-Id", f"c{number}"))
            understood(answer, calendar[1:])
            statuses.add(answer.status)
        assert statuses == {200, 410}
        spared = await client.get(V1S, ("X-Client-Id", "ex"))
        assert (spared.status, names & spared.headers.keys()) == (200, set())
        over = replace(quiet, v1_headers=v1_headers(said, 0, {"first", "second"}), generation=3)
        await site.proxy.apply(over)
        understood(await client.get(V1S), [])
        client.close()


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (strict.deprecation, "1803859200"),
        (strict.deprecation, "@1803859200.5"),
        (strict.deprecation, "Wed, 01 Sep 2027 07:00:00 GMT"),
        (strict.deprecation, "@1, @2"),
        (strict.sunset, "Tue, 01 Sep 2027 07:00:00 GMT"),
        (strict.sunset, "Wed, 1 Sep 2027 07:00:00 GMT"),
        (strict.sunset, "Wed, 01 Sep 2027 07:00:00 +0000"),
        (strict.links, '</a b>; rel="x"'),
        (strict.links, '</a>; rel="x" </b>; rel="y"'),
        (strict.links, "</a>"),
        (strict.links, '</a>; rel="x",'),
        (strict.brownouts, "@1;until=@2"),
        (strict.brownouts, "@1;until=@2;share=0.1234"),
    ],
)
def test_the_readers_are_strict(read: Callable[[str], object], text: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        read(text)

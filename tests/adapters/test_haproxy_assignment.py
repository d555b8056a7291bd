"""Real requests through HAProxy go where Python says, whatever their headers hold."""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 - seeded
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.adapters.haproxy_origin import ADDRESS, COOKIE, HEADER, Answer, Client, LineSink, Origin, make_plan, origins

from crossfade.adapters.haproxy import HaproxyProxy, HaproxyRollback
from crossfade.adapters.system import SystemClock
from crossfade.core.plan import Key, Plan
from crossfade.core.split import Split, assign, user_hash
from crossfade.ports import REQUEST_LINE, ProxyState

SECRET = "p$ss\"w\\ord'#1"
COHORTS = {
    "internal": frozenset({"ann", "with space", "#hash", "Ünïcode 名", "100%", "both"}),
    "beta": frozenset({*(f"b{n}" for n in range(300)), "both"}),
}
FACTS = b"flights=1, weather=fallback"


@dataclass(frozen=True, slots=True)
class World:
    """A proxy between a client and two origins, with its telemetry."""

    plan: Plan
    proxy: HaproxyProxy
    directory: Path
    v1: Origin
    v2: Origin
    sink: LineSink
    port: int

    async def split(self, everyone: int, *, killed: bool = False, **cohorts: int) -> ProxyState:
        """Apply a split under the next generation."""
        (node,) = await self.proxy.observe()
        assert node.state is not None
        state = ProxyState(
            generation=node.state.generation + 1, split=Split(everyone=everyone, cohorts=cohorts), killed=killed
        )
        await self.proxy.apply(state)
        return state

    def expected(self, user: str | bytes, state: ProxyState) -> str:
        """Return the version that Python assigns."""
        key = user.decode("utf-8", "surrogateescape") if isinstance(user, bytes) else user
        rule = self.plan.assignment
        cohort = rule.cohort_of(key)
        return assign(user, salt=rule.salt, split=state.split, cohort=cohort, killed=state.killed).version.value


async def _world(tmp_path: Path, **plan_options: object) -> AsyncIterator[World]:
    async with origins("v1", "v2") as (v1, v2):
        sink = LineSink()
        await sink.start()
        plan = make_plan([v1.address], [v2.address], **plan_options)  # type: ignore[arg-type]
        directory = tmp_path / "state"
        proxy = HaproxyProxy(plan, directory, collector=f"127.0.0.1:{sink.port}", clock=SystemClock(), grace_s=0.2)
        await proxy.start()
        try:
            yield World(plan, proxy, directory, v1, v2, sink, int(plan.api.listen.split(":")[1]))
        finally:
            await proxy.stop()
            await sink.stop()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async for made in _world(tmp_path):
        yield made


@pytest.fixture
async def full_world(tmp_path: Path) -> AsyncIterator[World]:
    async for made in _world(tmp_path, cohorts=COHORTS, secret=SECRET, salt=12345):
        yield made


@pytest.fixture(params=["plain", "full"])
async def each_world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    options: dict[str, object] = {"cohorts": COHORTS, "secret": SECRET} if request.param == "full" else {}
    async for made in _world(tmp_path, **options):
        yield made


async def _ask_all(port: int, users: list[str], client_count: int = 16) -> list[str]:
    """Return the version that each user met, in order."""
    met = [""] * len(users)

    async def ask(start: int) -> None:
        client = Client(port)
        for index in range(start, len(users), client_count):
            met[index] = (await client.get("/search?q=1", ("X-User-Id", users[index]))).version
        client.close()

    await asyncio.gather(*(ask(start) for start in range(client_count)))
    return met


async def test_ten_thousand_requests_agree_with_python(each_world: World) -> None:
    """At many splits, up and down, every request meets the version that Python assigns."""
    world, full = each_world, bool(each_world.plan.assignment.cohorts)
    draw = random.Random(20_260_101)
    alphabet = "abcXYZ0189-_ ,;=\"'#%/\\äß名😀"
    users = [f"user-{n}" for n in range(500)] + ["".join(draw.choices(alphabet, k=12)).strip() for _ in range(400)]
    users = [user for user in users if user] + (sorted(COHORTS["beta"] | COHORTS["internal"]) if full else [])
    before: dict[str, str] = {}
    asked = 0
    for everyone in (0, 1, 50, 500, 2500, 5000, 7500, 9500, 9999, 10_000, 5000, 137):
        beta = min(10_000, everyone * 2)
        state = await (world.split(everyone, beta=beta) if full else world.split(everyone))
        met = await _ask_all(world.port, users)
        asked += len(met)
        wrong = [(u, v) for u, v in zip(users, met, strict=True) if v != world.expected(u, state)]
        assert wrong == []
        if 0 < everyone < 10_000 and asked <= 10 * len(users):
            left = [u for u, v in zip(users, met, strict=True) if v == "v1" and before.get(u) == "v2"]
            assert left == []
            before = dict(zip(users, met, strict=True))
    assert asked > 10_000


async def test_the_first_key_present_decides(world: World) -> None:
    """Header, second header, cookie, address; an empty header is an absent one, of two the first counts."""
    state = await world.split(5000)
    client = Client(world.port)
    for n in range(40):
        a, b, c = f"a{n}", f"b{n}", f"c{n}"
        cases: list[tuple[str, tuple[tuple[str, str], ...]]] = [
            (a, (("X-User-Id", a), ("X-Api-Key", b), ("Cookie", f"uid={c}"))),
            (b, (("X-Api-Key", b), ("Cookie", f"uid={c}"))),
            (b, (("X-User-Id", ""), ("X-Api-Key", b))),
            (c, (("Cookie", f"other=1; uid={c}; last=2"),)),
            (c, (("X-User-Id", ""), ("X-Api-Key", "   "), ("Cookie", f"uid={c}"))),
            ("127.0.0.1", ()),
            ("127.0.0.1", (("Cookie", "uid="),)),
            (a, (("X-User-Id", a), ("X-User-Id", b))),
            (f"{a},{b}", (("X-User-Id", f"{a},{b}"),)),
        ]
        for key, headers in cases:
            assert (await client.get("/search", *headers)).version == world.expected(key, state), headers


async def test_hostile_ids_are_hashed_as_they_are(full_world: World) -> None:
    """Long, binary, quoted and formatted ids neither break the proxy nor its telemetry lines."""
    state = await full_world.split(5000, beta=9000)
    ids: list[str | bytes] = [
        "x" * 10_000, "a,b;c=d", "100%25", "%[src]", '"quoted"', "'single'", "back\\slash", "${HOME}", "tab\there",
        "#comment", "ü" * 100, "名前", b"\xff\xfe\x80", "{curly}", "a\u2028b", "split.beta", "-", "v2",
    ]  # fmt: skip
    client = Client(full_world.port)
    for user in ids:
        answer = await client.get("/search", ("X-User-Id", user), ("X-Region", user[:900]), ("X-Client-Id", "a,b\tc"))
        assert answer.status == 200
        assert answer.version == full_world.expected(user, state), user
    lines = await full_world.sink.wait_for(len(ids))
    for line in lines:
        assert line.isascii()
        assert len(REQUEST_LINE) == len(line.split(","))
        assert "x" * 100 not in line


@pytest.mark.parametrize("raw", [b"a\nb", b"a\rb", b"a\0b"])
async def test_control_characters_never_reach_an_origin_as_a_header(world: World, raw: bytes) -> None:
    """A value that is no header value is refused or cleaned by the proxy; telemetry stays in shape."""
    await world.split(5000)
    answer = await Client(world.port).send(b"GET /search HTTP/1.1\r\nHost: t\r\nX-User-Id: " + raw + b"\r\n\r\n")
    assert answer.status in {200, 400}
    good = await Client(world.port).get("/search", ("X-User-Id", "next"))
    assert good.status == 200
    for line in await world.sink.wait_for(2 if answer.status == 200 else 1):
        assert len(REQUEST_LINE) == len(line.split(","))


async def test_cohorts_have_their_own_share(full_world: World) -> None:
    """Members meet their cohort's share, the first cohort's where they are in several; others everyone's."""
    state = await full_world.split(0, internal=10_000)
    client = Client(full_world.port)
    for user in sorted(COHORTS["internal"]):
        assert (await client.get("/search", ("X-User-Id", user))).version == "v2"
    assert (await client.get("/search", ("X-User-Id", "b1"))).version == "v1"
    assert (await client.get("/search", ("X-User-Id", "100%25"))).version == "v1"
    lines = await full_world.sink.wait_for(len(COHORTS["internal"]) + 2)
    assert [line.split(",")[6] for line in lines] == ["internal"] * 6 + ["beta", "-"]
    assert state.split.cohorts == {"internal": 10_000}


async def test_who_joins_or_leaves_a_cohort_does_so_at_once(full_world: World) -> None:
    """From the next request on, on the same connection; the line tells the cohort that was met."""
    await full_world.split(0, beta=10_000)
    salt = full_world.plan.assignment.salt
    joined = {user_hash(user, salt): "beta" for user in ("new one", *(f"n{i}" for i in range(1000)))}
    client = Client(full_world.port)

    async def versions() -> list[str | None]:
        users = ("new one", "n999", "b1", "ann", "stranger")
        return [(await client.get("/search", ("X-User-Id", user))).version for user in users]

    assert await versions() == ["v1", "v1", "v2", "v1", "v1"]
    await full_world.proxy.enrol({**joined, user_hash("b1", salt): ""})
    assert await versions() == ["v2", "v2", "v1", "v1", "v1"]
    await full_world.proxy.enrol({})
    assert await versions() == ["v1", "v1", "v2", "v1", "v1"]
    lines = [line.split(",") for line in await full_world.sink.wait_for(15)]
    met = [(line[2], line[6]) for line in lines[5:8]]
    assert met == [("v2", "beta"), ("v2", "beta"), ("v1", "-")]


async def _override(world: World, version: str, *secret: str, user: str = "someone") -> Answer:
    headers = [("X-User-Id", user), ("X-Crossfade-Version", version), *(("X-Crossfade-Secret", s) for s in secret)]
    return await Client(world.port).get("/search", *headers)


async def test_an_override_needs_the_secret(full_world: World) -> None:
    """With it the client chooses, without it or with another the split does."""
    await full_world.split(0)
    assert (await _override(full_world, "v2", SECRET)).version == "v2"
    assert (await _override(full_world, "v2")).version == "v1"
    assert (await _override(full_world, "v2", SECRET + "x")).version == "v1"
    assert (await _override(full_world, "v2", "")).version == "v1"
    assert (await _override(full_world, "v3", SECRET)).version == "v1"
    await full_world.split(10_000)
    assert (await _override(full_world, "v1", SECRET)).version == "v1"
    assert (await _override(full_world, "v1")).version == "v2"
    await full_world.split(5000)
    assert (await _override(full_world, "v2", SECRET)).version == "v2"
    assert (await _override(full_world, "v1", SECRET)).version == "v1"
    lines = await full_world.sink.wait_for(9)
    assert [line.split(",")[7] for line in lines] == list("100001011")
    for head in [*full_world.v1.heads, *full_world.v2.heads]:
        assert b"crossfade" not in head.lower()
    assert not any(SECRET in line or "someone" in line for line in lines)


async def test_without_a_secret_nobody_chooses(world: World) -> None:
    """A plan without a secret has no overrides."""
    await world.split(0)
    assert (await _override(world, "v2", "")).version == "v1"
    assert (await _override(world, "v2", "anything")).version == "v1"


async def test_kill_beats_everything(full_world: World) -> None:
    """Cohorts, overrides and V2 paths included; the split itself may stay as it was."""
    await full_world.split(10_000, killed=True, beta=10_000)
    client = Client(full_world.port)
    for user in ("ann", "b1", "someone"):
        for path in ("/search", "/v2/trips/search", "/v1/trips/search"):
            answer = await client.get(path, ("X-User-Id", user))
            assert (answer.version, answer.target) == ("v1", "/v1/trips/search")
    assert (await _override(full_world, "v2", SECRET)).version == "v1"
    switch = HaproxyRollback(full_world.directory)
    (node,) = await switch.rollback()
    assert node.state is not None
    assert (await client.get("/search", ("X-User-Id", "ann"))).version == "v1"
    await switch.close()


@pytest.mark.parametrize(
    ("asked", "on_v1", "on_v2"),
    [
        ("/search", "/v1/trips/search", "/v2/trips/search"),
        ("/search?a=/v1/x&b=%20", "/v1/trips/search?a=/v1/x&b=%20", "/v2/trips/search?a=/v1/x&b=%20"),
        ("/search/7/seats?x", "/v1/trips/search/7/seats?x", "/v2/trips/search/7/seats?x"),
        ("/v1/trips/search?a=1", "/v1/trips/search?a=1", "/v2/trips/search?a=1"),
        ("/v2/trips/search?a=1", "/v1/trips/search?a=1", "/v2/trips/search?a=1"),
        ("/v1/other/v1/x", "/v1/other/v1/x", "/v2/other/v1/x"),
        ("http://test/v2/trips/search", "/v1/trips/search", "/v2/trips/search"),
        ("/searching", "/searching", None),
        ("/v10/trips", "/v10/trips", None),
        ("/", "/", None),
    ],
)
async def test_paths_are_rewritten_as_assigned(world: World, asked: str, on_v1: str, on_v2: str | None) -> None:
    """The API's paths become the version's; others are V1's, unchanged and not reported."""
    client = Client(world.port)
    for share, version, seen in ((0, "v1", on_v1), (10_000, "v2" if on_v2 else "v1", on_v2 or on_v1)):
        await world.split(share)
        answer = await client.get(asked, ("X-User-Id", "u"))
        assert (answer.version, answer.target.removeprefix("http://test")) == (version, seen)
    await client.get("/search", ("X-User-Id", "last"))
    assert len(await world.sink.wait_for(3 if on_v2 else 1)) == (3 if on_v2 else 1)


async def test_nested_roots_are_rewritten_once(tmp_path: Path) -> None:
    """V2 below V1's root is told apart from V1."""
    async for world in _world(tmp_path, paths=("/api/search", "/api/v2/search"), entry="/search"):
        for share, version, expected in ((0, "v1", "/api/x"), (10_000, "v2", "/api/v2/x")):
            await world.split(share)
            for asked in ("/api/x", "/api/v2/x"):
                answer = await Client(world.port).get(asked)
                assert (answer.version, answer.target) == (version, expected)


async def test_facts_are_reported_and_not_passed_on(world: World) -> None:
    """A line has every field, in order; the client sees no facts."""
    state = await world.split(5000)
    world.v1.facts = world.v2.facts = b'flights=1, note="a,b\\"c", db=3.1'
    answer = await Client(world.port).get(
        "/search", ("X-User-Id", "ann"), ("X-Region", "eu,west"), ("X-Client-Id", "app"), ("Crossfade-Facts", "x=1")
    )
    assert not any("crossfade" in name for name in answer.headers)
    (line,) = await world.sink.wait_for(1)
    fields = dict(zip(REQUEST_LINE, line.split(","), strict=True))
    assert fields["version"] == world.expected("ann", state)
    assert abs(int(fields["start_us"]) / 1e6 - SystemClock().now()) < 60
    assert 0 <= int(fields["headers_us"]) < 5_000_000
    assert 0 <= int(fields["total_ms"]) < 5_000
    assert int(fields["user"]) % 2**64 % 10_000 == assign("ann", salt=world.plan.assignment.salt, split=state.split,
                                                           cohort=None).bucket  # fmt: skip
    expected = {"sequence": "0", "status": "200", "cohort": "-", "override": "0", "region": "eu%2Cwest"}
    expected |= {"client": "-", "termination": "----", "retries": "0", "server": f"{fields['version']}-1"}
    expected |= {"facts": "flights%3D1%2C%20note%3D%22a%2Cb%5C%22c%22%2C%20db%3D3.1"}
    assert expected == {name: fields[name] for name in expected}


@pytest.mark.parametrize("share", [0, 10_000])
async def test_a_line_says_who_asked_for_v1s_own_paths(world: World, share: int) -> None:
    """Whoever answers: at 100 % only these clients still know V1."""
    await world.split(share)
    for path in ("/search", "/v1/search", "/v1/search/7", "/v2/search"):
        await Client(world.port).get(path)
    lines = await world.sink.wait_for(4)
    column = REQUEST_LINE.index("asked")
    assert [line.split(",")[column] for line in lines] == ["-", "v1", "v1", "-"]


async def test_a_path_below_v1s_root_that_is_the_entry_or_v2s_is_not_v1s_own(tmp_path: Path) -> None:
    async for world in _world(tmp_path, paths=("/api/search", "/api/v2/search"), entry="/api/search"):
        for path in ("/api/search", "/api/v2/search", "/api/other"):
            await Client(world.port).get(path)
        lines = await world.sink.wait_for(3)
        assert [line.split(",")[REQUEST_LINE.index("asked")] for line in lines] == ["-", "-", "v1"]


async def test_absent_fields_are_dashes(world: World) -> None:
    """Nothing sent is a dash, and so is a hash that nobody needed."""
    await world.split(0)
    await Client(world.port).get("/search")
    (line,) = await world.sink.wait_for(1)
    fields = dict(zip(REQUEST_LINE, line.split(","), strict=True))
    assert [fields[name] for name in ("cohort", "user", "region", "client")] == ["-"] * 4


async def test_v1_headers_are_set_while_it_runs(world: World) -> None:
    """V1's answers carry them, V2's do not; values need no quoting."""
    headers = {"Deprecation": "@1767225600", "Link": '</v2>; rel="successor-version"; title="a\\b; %[src]"'}
    await world.proxy.apply(ProxyState(generation=1, split=Split(everyone=0), v1_headers=headers))
    answer = await Client(world.port).get("/search")
    assert {name.lower(): value for name, value in headers.items()} == {
        name: answer.headers[name] for name in ("deprecation", "link")
    }
    assert "sunset" not in answer.headers
    await world.proxy.apply(ProxyState(generation=1, split=Split(everyone=10_000), v1_headers=headers))
    assert "deprecation" not in (await Client(world.port).get("/search")).headers


async def test_v1_headers_are_not_told_of_paths_that_dont_move(world: World) -> None:
    await world.proxy.apply(ProxyState(generation=1, v1_headers={"Sunset": "Wed, 01 Sep 2027 00:00:00 GMT"}))
    client = Client(world.port)
    for path in ("/search", "/search/7", "/v1/trips/search", "/v2/trips/search/7"):
        assert "sunset" in (await client.get(path)).headers, path
    for path in ("/", "/searching", "/orders", "/v1"):
        answer = await client.get(path)
        assert (answer.status, "sunset" in answer.headers) == (200, False), path


@pytest.mark.parametrize("user", [(Key(HEADER, "X-User-Id"),), (Key(COOKIE, "uid"),), (Key(ADDRESS),)])
async def test_every_kind_of_key_works_alone(tmp_path: Path, user: tuple[Key, ...]) -> None:
    """A plan may name only one; a request without it stays on V1 unless everyone is on V2."""
    async for world in _world(tmp_path, user=user):
        state = await world.split(5000)
        for n in range(20):
            answer = await Client(world.port).get("/search", ("X-User-Id", f"u{n}"), ("Cookie", f"uid=u{n}"))
            key = "127.0.0.1" if user[0].source is ADDRESS else f"u{n}"
            assert answer.version == world.expected(key, state)
        if user[0].source is not ADDRESS:
            assert (await Client(world.port).get("/search")).version == "v1"
        await world.split(10_000)
        assert (await Client(world.port).get("/search")).version == "v2"

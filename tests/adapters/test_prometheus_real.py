"""A real Prometheus, scraping a real exposition: its counts reach a tick, and its end is a reason."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, generate_latest

from crossfade.adapters.prometheus import Prometheus
from crossfade.adapters.system import SystemClock
from crossfade.core.evidence.sums import Arm, Tick
from crossfade.core.plan import Metric, MetricKind, Query, Source
from crossfade.core.split import Version

pytestmark = [pytest.mark.external, pytest.mark.slow]

CHECKOUT = Metric(
    name="checkout_errors",
    kind=MetricKind.QUERIED,
    outcome="checkout_errors",
    query=Query(
        source="prometheus",
        bad='sum(increase(checkout_errors_total{version="$version"}[$interval])) or vector(0)',
        total='sum(increase(checkout_total{version="$version"}[$interval]))',
    ),
)
CONFIG = """\
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: shop
    static_configs: [{{targets: ['127.0.0.1:{port}']}}]
"""


class Shop:
    """A service whose checkouts are counted."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ["version"]
        self.total = Counter("checkout", "Checkouts", labels, registry=self.registry)
        self.errors = Counter("checkout_errors", "Failed ones", labels, registry=self.registry)

    async def metrics(self, request: web.Request) -> web.Response:
        self.total.labels("v1").inc(200)
        self.total.labels("v2").inc(50)
        self.errors.labels("v2").inc(5)
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": "text/plain"})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def shop() -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/metrics", Shop().metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield int(runner.addresses[0][1])
    await runner.cleanup()


@pytest.fixture
async def server(shop: int, tmp_path: Path) -> AsyncIterator[tuple[str, subprocess.Popen[bytes]]]:
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("Prometheus is not installed; `apt-get install prometheus` brings it")
    (tmp_path / "prometheus.yml").write_text(CONFIG.format(port=shop))
    port = free_port()
    process = start(program, tmp_path, port)
    url = f"http://127.0.0.1:{port}"
    try:
        await until_ready(url)
        yield url, process
    finally:
        process.kill()
        process.wait()


def start(program: str, folder: Path, port: int, *options: str) -> subprocess.Popen[bytes]:
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [
                program,
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                *options,
            ],
            stdout=log,
            stderr=log,
        )


async def until_ready(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(300):
            try:
                async with session.get(f"{url}/-/ready") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.1)
    pytest.fail("Prometheus did not become ready within 30 s")


async def next_tick(source: Prometheus, within_s: float) -> Tick:
    """Return the first tick to which the source has something to say."""
    for number in range(int(within_s * 10)):
        tick = source.add_to(Tick(number=number, start=0.0, length=10.0, cells={}, sources=frozenset({"collector"})))
        if tick.cells or tick.unanswered:
            return tick
        await asyncio.sleep(0.1)
    pytest.fail(f"nothing was told within {within_s} s")


async def test_counts_of_a_real_prometheus_reach_a_tick(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, process = server
    where = Source(name="prometheus", url=url, every_s=5.0)
    source = Prometheus(where, [CHECKOUT], clock=SystemClock(), lateness_s=1.0)
    await source.start()
    try:
        for _ in range(6):  # the first are asked before there were scrapes enough, and a busy machine misses some
            told = await next_tick(source, 20)
            if told.unanswered:
                continue
            one, two = (told.cells[Arm(version, "", "")] for version in Version)
            (n1, k1), (n2, k2) = one.outcomes["checkout_errors"], two.outcomes["checkout_errors"]
            if n1 == pytest.approx(1000, rel=0.3):  # 200 a second, extrapolated over 5 s
                break
        else:
            pytest.fail(f"no interval of six had 1000 checkouts: {told}")
        assert n2 == pytest.approx(n1 / 4, rel=0.1)
        assert k2 == pytest.approx(n2 / 10, rel=0.02)
        assert k1 == 0
        process.kill()
        process.wait()
        gone = await next_tick(source, 20)
        assert gone.cells == {}
        assert "Cannot connect" in gone.unanswered["checkout_errors"]
    finally:
        await source.close()


async def test_a_query_that_a_real_prometheus_refuses_says_why(server: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, _ = server
    broken = Metric(
        name="broken",
        kind=MetricKind.QUERIED,
        outcome="broken",
        query=Query(source="prometheus", bad="sum(($version$interval", total="up{version='$version'}[$interval]"),
    )
    where = Source(name="prometheus", url=url, every_s=5.0)
    source = Prometheus(where, [broken], clock=SystemClock(), lateness_s=0.0)
    await source.start()
    try:
        told = await next_tick(source, 20)
        assert told.cells == {}
        assert told.unanswered["broken"].startswith("V1, total: a matrix is no number")
    finally:
        await source.close()


def asking(name: str, bad: str, total: str = "sum(checkout_total)") -> Metric:
    query = Query(source="prometheus", bad=bad, total=total)
    return Metric(name=name, kind=MetricKind.QUERIED, outcome=name, query=query)


STRANGE = {
    "NaN is no count": asking("nan", "0 * sum(checkout_total) / 0"),
    "no series": asking("empty", 'sum(checkout_errors_total{version="v3"})'),
    "2 series": asking("several", "checkout_total"),
    "-1 is no count": asking("negative", "sum(checkout_total) * 0 - 1"),
    "HTTP 422: ": asking("refused", "checkout_total + on() checkout_total"),
    "HTTP 400: ": asking("unreadable", "sum(("),
}


async def until_told(source: Prometheus, names: set[str], within_s: float) -> dict[str, str]:
    """Return the first reason for each metric; none of them may ever have counts."""
    told: dict[str, str] = {}
    for number in range(int(within_s * 10)):
        tick = source.add_to(Tick(number=number, start=0.0, length=10.0, cells={}, sources=frozenset({"collector"})))
        assert tick.cells == {}
        told = {**tick.unanswered, **told}
        if told.keys() == names:
            return told
        await asyncio.sleep(0.1)
    pytest.fail(f"of {names} only {told} were told within {within_s} s")


async def test_what_a_real_prometheus_can_not_tell_is_never_a_count(
    server: tuple[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Strange answers, then none at all, then 503: each a reason, and never a count; three in a row are blind."""
    url, process = server
    await _until_scraped(url)
    where = Source(name="prometheus", url=url, every_s=2.0)
    source = Prometheus(where, list(STRANGE.values()), clock=SystemClock(), lateness_s=0.0)
    await source.start()
    try:
        told = await until_told(source, {metric.name for metric in STRANGE.values()}, 30)
        for reason, metric in STRANGE.items():
            assert reason in told[metric.name]
        process.send_signal(signal.SIGSTOP)
        for _ in range(300):
            told = await until_told(source, {metric.name for metric in STRANGE.values()}, 30)
            if all(reason.startswith("no answer within 2 s") for reason in told.values()):
                break
        else:
            pytest.fail(f"a stopped server is still said to say {told}")
    finally:
        process.kill()
        process.wait()
        await source.close()

    port = free_port()
    program = shutil.which("prometheus") or ""
    hasty = start(program, tmp_path, port, "--query.timeout=1ms")
    long = asking("long", "sum(sum_over_time(vector(1)[5m:1ms]))")
    where = Source(name="prometheus", url=f"http://127.0.0.1:{port}", every_s=5.0)
    source = Prometheus(where, [long], clock=SystemClock(), lateness_s=0.0)
    try:
        await until_ready(where.url)
        await source.start()
        told = await until_told(source, {"long"}, 30)
        assert "HTTP 503: " in told["long"]
    finally:
        hasty.kill()
        hasty.wait()
        await source.close()


async def _until_scraped(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(300):
            async with session.get(f"{url}/api/v1/query", params={"query": "checkout_errors_total"}) as answer:
                if (await answer.json())["data"]["result"]:
                    return
            await asyncio.sleep(0.1)
    pytest.fail("nothing was scraped within 30 s")

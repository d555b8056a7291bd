"""Where adapters meet the engine: `serve`, and the commands that speak to the proxy without a controller."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import uvicorn

from crossfade.adapters.access import FileAudit, FileTokens
from crossfade.adapters.collector import Collector
from crossfade.adapters.haproxy import HaproxyProxy, HaproxyRollback, stop_proxy_in
from crossfade.adapters.otel import Traces, traces_wanted
from crossfade.adapters.outcomes import PostedOutcomes
from crossfade.adapters.prometheus import Prometheus
from crossfade.adapters.store import SqlStore
from crossfade.adapters.system import ScaledClock, SystemClock, new_key, new_token
from crossfade.app import views
from crossfade.app.api import make_api
from crossfade.app.control import AUDIT_FILE, STORE_FILE, TOKENS_FILE, Claim, Control, note_plan, read_control
from crossfade.app.leadership import Leadership
from crossfade.app.listening import Listening, listen
from crossfade.app.meters import Meters
from crossfade.app.planfile import load_plan
from crossfade.app.settings import Settings
from crossfade.app.trend import Trend
from crossfade.app.web.access import Access
from crossfade.app.web.served import Carried, Served
from crossfade.core.plan import DAY, Plan
from crossfade.core.words import duration
from crossfade.engine.controller import Controller, Parts
from crossfade.engine.lease import LeaseKeeper
from crossfade.engine.rollback import RollbackReport, roll_back
from crossfade.errors import UnreachableError, UsageError
from crossfade.ports import MetricsSource

log = logging.getLogger("crossfade")

TELEMETRY_KEY = "telemetry.key"
PROXY_FOLDER = "proxy"
OUTCOMES_FOLDER = "outcomes"
EPOCH_FILE = "epoch"
TREND_FILE = "trend.jsonl"
DRAW_S = 1.0
"""Real seconds between looks for the charts."""
SHUTDOWN_S = 5
"""Real seconds that requests have to end in when `serve` does."""


@dataclass(slots=True)
class _App:
    """Everything that one `serve` holds open."""

    plan: Plan
    folder: Path
    switch: HaproxyRollback
    outcomes: PostedOutcomes
    store: SqlStore
    clock: SystemClock
    leadership: Leadership
    meters: Meters
    traces: Traces | None


class _Server(uvicorn.Server):
    """A server that leaves signals alone: ours end everything in order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def serve(path: Path, settings: Settings, *, stop_proxy: bool) -> None:
    """Carry a plan out until SIGINT or SIGTERM; raises an error of ours where it can't begin."""
    plan = load_plan(path)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    runner = asyncio.Runner(loop_factory=_loop_factory())
    with runner:
        runner.run(_serve(plan, path.resolve(), settings, stop_proxy=stop_proxy))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415 - not on every platform

        return uvloop.Loop
    return None


async def _serve(plan: Plan, path: Path, settings: Settings, *, stop_proxy: bool) -> None:
    folder = _make_folder(settings.folder(plan.name))
    note_plan(folder, path)
    tokens = FileTokens(settings.state / TOKENS_FILE)
    listening = listen(settings, await tokens.tokens(), SystemClock().now())
    app = _assemble(plan, folder, settings, listening.url)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await app.store.open()
        await app.leadership.begin()
        log.info("%s: clients at %s, a tick is %g s of plan time", plan.name, plan.api.listen, settings.tick_s)
        await _until_stopped(app, path, listening, tokens, stop)
    finally:
        listening.socket.close()
        await _end(app, stop_proxy=stop_proxy)


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"{folder} can't be made: {error.strerror or error}; say --state DIR") from None
    return folder.resolve()


def _assemble(plan: Plan, folder: Path, settings: Settings, url: str) -> _App:
    clock = SystemClock() if settings.speed == 1.0 else ScaledClock(settings.speed, _epoch(folder))
    key = _kept_key(folder / TELEMETRY_KEY)
    collector = Collector(clock=clock, tick_s=settings.tick_s, lateness_s=settings.lateness_s, key=key)
    database = settings.database or f"sqlite:///{folder / STORE_FILE}"
    store = SqlStore(database)
    proxy_folder = folder / PROXY_FOLDER
    proxy = HaproxyProxy(plan, proxy_folder, collector=":".join(map(str, collector.address)), clock=clock)
    switch = HaproxyRollback(proxy_folder)
    outcomes = PostedOutcomes(plan, folder / OUTCOMES_FOLDER, key=key, tick_s=settings.tick_s)
    servers = (Prometheus(source, plan.metrics, clock=clock, lateness_s=settings.lateness_s) for source in plan.sources)
    sources: tuple[MetricsSource, ...] = (outcomes, *servers)
    holder = f"{socket.gethostname()}/{os.getpid()}/{new_token()[:6]}"
    lease = LeaseKeeper(store, clock, rollout=plan.name, holder=holder, address=url, lasts_s=settings.lease_s)
    proxy.attendance.attended = lambda: lease.over is None
    traces = traces_wanted()
    meters = Meters(clock.monotonic, None if traces is None else partial(traces.span, rollout=plan.name))
    parts = Parts(
        store=store,
        proxy=proxy,
        switch=switch,
        telemetry=collector,
        clock=clock,
        sources=sources,
        lease=lease,
        probe=meters,
    )
    controller = Controller(plan, parts)
    collector.on_failure = controller.wake.set
    leadership = Leadership(
        folder=folder,
        controller=controller,
        lease=lease,
        claim=Claim(folder),
        proxy=proxy,
        collector=collector,
        store=store,
        sources=sources,
        clock=clock,
        keep_s=settings.keep_days * DAY,
    )
    return _App(plan, folder, switch, outcomes, store, clock, leadership, meters, traces)


async def _until_stopped(app: _App, path: Path, listening: Listening, tokens: FileTokens, stop: asyncio.Event) -> None:
    leadership, wall = app.leadership, SystemClock()
    token = _token(app)
    carried = Carried(
        controller=leadership.controller,
        store=app.store,
        telemetry=leadership.collector,
        clock=app.clock,
        outcomes=app.outcomes,
        trend=Trend(app.folder / TREND_FILE),
        meters=app.meters,
    )
    served = Served(
        rollouts={app.plan.name: carried},
        wall=wall,
        access=Access(local=token, tokens=tokens, now=wall.now, new_secret=new_token),
        audit=FileAudit(app.folder.parent / AUDIT_FILE),
        exposure=listening.exposure,
    )
    config = uvicorn.Config(
        make_api(served),
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        **listening.uvicorn,
    )
    server = _Server(config)
    listening.socket.listen()  # from here on whoever has read the control file is heard
    api = asyncio.create_task(server.serve(sockets=[listening.socket]))
    acting = asyncio.create_task(leadership.run())
    drawn = asyncio.create_task(_draw(app, carried.trend))
    stopped = asyncio.create_task(stop.wait())
    control = Control(
        rollout=app.plan.name, url=listening.url, token=token, plan=str(path), pid=os.getpid(), ca=listening.ca
    )
    leadership.on_lead = lambda: control.write(app.folder)
    if leadership.leads or leadership.claim.take():  # otherwise it is that of the one which leads from this folder
        control.write(app.folder)
    log.info("%s: control API at %s; try `crossfade status`", app.plan.name, listening.url)
    try:
        done, _ = await asyncio.wait({api, acting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopped}:
            task.result()  # a task that ended by itself did so by a fault: say which
    finally:
        served.end_streams()
        server.should_exit = True
        for task in (stopped, acting, drawn):
            task.cancel()
        await asyncio.gather(api, acting, stopped, drawn, return_exceptions=True)
        control.remove(app.folder)


def _token(app: _App) -> str:
    """Return the secret of commands on this machine: of all processes that serve from one folder it is the same."""
    with suppress(UnreachableError):
        if not app.leadership.claim.take():
            return read_control(app.folder).token
    return new_token()


async def _draw(app: _App, trend: Trend) -> None:
    """Note for the charts how the rollout looks, again and again."""
    while True:
        await asyncio.sleep(DRAW_S)
        controller = app.leadership.controller
        wanted = controller.rollout.wanted_split(app.plan)
        trend.note(controller, app.clock.now(), views.weight(app.plan, wanted))


async def _end(app: _App, *, stop_proxy: bool) -> None:
    led = app.leadership.leads and app.leadership.controller.nodes
    await app.switch.close()  # first: a proxy waits for its last connection before it ends
    await app.leadership.end(stop_proxy=stop_proxy)
    await app.store.close()
    if app.traces is not None:
        app.traces.close()
    if led and not stop_proxy:
        log.info("the proxy goes on serving %s; `crossfade proxy stop` ends it", app.plan.api.listen)
        if app.plan.unattended.rollback:
            alone = duration(app.plan.unattended.after_s)
            log.warning("after %s without a controller it puts everyone on V1, as the plan says", alone)


def _kept_key(path: Path) -> bytes:
    """Return the key of user hashes: the same after a restart, so that a user's first failure stays the first."""
    with suppress(FileNotFoundError):
        return path.read_bytes()
    key = new_key()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
    return key


def _epoch(folder: Path) -> float:
    """Return when a scaled clock began: a restarted demonstration goes on in the same plan time."""
    path = folder / EPOCH_FILE
    with suppress(FileNotFoundError, ValueError):
        return float(path.read_text())
    epoch = SystemClock().now()
    path.write_text(repr(epoch))
    return epoch


async def rollback_direct(folder: Path) -> RollbackReport:
    """Put every user on V1 at the proxy of a rollout's folder; needs nothing else to run."""
    switch = HaproxyRollback(folder / PROXY_FOLDER)
    try:
        return await roll_back([switch], None, SystemClock())
    finally:
        await switch.close()


async def stop_proxy(folder: Path) -> int:
    """Stop the proxy of a rollout's folder; return its pid, or raise UnreachableError where none answers."""
    pid = await stop_proxy_in(folder / PROXY_FOLDER)
    if pid is None:
        raise UnreachableError(f"no proxy runs for {folder.name}, or it does not answer in {folder / PROXY_FOLDER}")
    return pid

"""Where adapters meet the engine: `serve`, and the commands that speak to the proxy without a controller."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from crossfade.adapters.access import FileAudit, FileTokens
from crossfade.adapters.collector import Collector
from crossfade.adapters.haproxy import HaproxyProxy, HaproxyRollback, stop_proxy_in
from crossfade.adapters.otel import Traces, traces_wanted
from crossfade.adapters.outcomes import PostedOutcomes, UserBehaviour
from crossfade.adapters.prometheus import Prometheus
from crossfade.adapters.store import SqlStore
from crossfade.adapters.system import ScaledClock, SystemClock, chance, collect_cycles_seldom, new_key, new_token
from crossfade.app import views
from crossfade.app.api import make_api
from crossfade.app.control import AUDIT_FILE, STORE_FILE, TOKENS_FILE, Claim, Control, note_plan, read_control
from crossfade.app.formkey import FORM_KEY_FILE, FormKey
from crossfade.app.leadership import Leadership
from crossfade.app.listening import Listening, listen
from crossfade.app.meters import Meters
from crossfade.app.notices import Outbox, allowed_by, notifier_of, page_of
from crossfade.app.owners import OwnerOutbox, Ways
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
from crossfade.errors import CrossfadeError, UnreachableError, UsageError
from crossfade.ports import MetricsSource

log = logging.getLogger("crossfade")

TELEMETRY_KEY = "telemetry.key"
PROXY_FOLDER = "proxy"
OUTCOMES_FOLDER = "outcomes"
EVENTS_FOLDER = "events"
EPOCH_FILE = "epoch"
TREND_FILE = "trend.jsonl"
DRAW_S = 1.0
"""Real seconds between looks for the charts."""
BEGINNING = 8
"""Rollouts that begin at once, where there are several: each starts a proxy."""
AGAIN_S = 5.0
AGAIN_AT_MOST_S = 300.0
"""Real seconds until a rollout that ended by a fault is tried again beside others; twice as many after each try."""
SHUTDOWN_S = 5
"""Real seconds that requests have to end in when `serve` does."""

_ANY = {"0.0.0.0", "[::]", "*", ""}  # noqa: S104 - compared with, not listened at


@dataclass(slots=True)
class _App:
    """Everything that `serve` holds open for one rollout."""

    plan: Plan
    path: Path
    """Of the plan file."""
    folder: Path
    switch: HaproxyRollback
    store: SqlStore
    clock: SystemClock
    leadership: Leadership
    carried: Carried
    opening: asyncio.Lock
    """Held while a store is opened; one for all rollouts."""
    tellers: Sequence[Outbox | OwnerOutbox]
    """Who tell people of it."""
    fault: Exception | None = None
    """What ended it; None while nothing did."""


class _Server(uvicorn.Server):
    """A server that leaves signals alone: ours end everything in order."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def serve(paths: Sequence[Path], settings: Settings, *, stop_proxy: bool) -> None:
    """Carry plans out until SIGINT or SIGTERM; raises an error of ours where it can't begin.

    With several, what hinders one of them at its start or later ends that one alone, and it is tried again; where
    none is left, the first of these errors is raised.
    """
    plans = [(load_plan(path), path.resolve()) for path in paths]
    _must_differ(plans)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    runner = asyncio.Runner(loop_factory=_loop_factory())
    with runner:
        runner.run(_serve(plans, settings, stop_proxy=stop_proxy))


def _must_differ(plans: Sequence[tuple[Plan, Path]]) -> None:
    """Raise UsageError where two plans have one name, or want their clients at one address."""
    for number, (plan, path) in enumerate(plans):
        for other, elsewhere in plans[:number]:
            if plan.name == other.name:
                raise UsageError(
                    f"{elsewhere} and {path} are both of the rollout {plan.name}; give each a name of its own"
                )
            if _clash(plan.api.listen, other.api.listen):
                raise UsageError(
                    f"{elsewhere} and {path} both listen for clients at {plan.api.listen}; write another port in "
                    "`api: listen:` of one of them"
                )


def _clash(one: str, other: str) -> bool:
    """Tell whether two sockets can't listen at these addresses at the same time."""
    (host, _, port), (other_host, _, other_port) = one.rpartition(":"), other.rpartition(":")
    return port == other_port and (host == other_host or not _ANY.isdisjoint((host, other_host)))


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    with suppress(ImportError):
        import uvloop  # noqa: PLC0415 - not on every platform

        return uvloop.Loop
    return None


async def _serve(plans: Sequence[tuple[Plan, Path]], settings: Settings, *, stop_proxy: bool) -> None:
    for plan, path in plans:
        note_plan(_make_folder(settings.folder(plan.name)), path)
    tokens = FileTokens(settings.state / TOKENS_FILE)
    listening = listen(settings, await tokens.tokens(), SystemClock().now())
    shared = SqlStore(settings.database) if settings.database else None
    traces = traces_wanted()
    opening = asyncio.Lock()
    apps = [
        _assemble(plan, path, settings, listening.url, shared, traces=traces, opening=opening) for plan, path in plans
    ]
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await _begin(apps, settings)
        collect_cycles_seldom()
        await _until_stopped(apps, settings, listening, tokens, stop)
    finally:
        listening.socket.close()
        await asyncio.gather(*(_end(app, stop_proxy=stop_proxy) for app in apps))
        for app in apps:
            await app.store.close()
        if traces is not None:
            traces.close()


async def _begin(apps: Sequence[_App], settings: Settings) -> None:
    """Begin all; raises what hindered the first where none could begin."""
    few = asyncio.Semaphore(BEGINNING)

    async def begin(app: _App) -> None:
        async with few:
            await _begin_one(app)
        log.info("%s: clients at %s, a tick is %g s of plan time", app.plan.name, app.plan.api.listen, settings.tick_s)

    await asyncio.gather(*(_guarded(app, begin(app), alone=len(apps) == 1) for app in apps))
    _must_have_some(apps)


async def _begin_one(app: _App) -> None:
    async with app.opening:  # alembic's migrations can't be carried out side by side
        await app.store.open()
    await app.leadership.begin()


async def _carry_on(apps: Sequence[_App]) -> None:
    """Carry all out; raises what hindered the first where all have ended by a fault."""
    await asyncio.gather(*(_carry_out(app, apps) for app in apps))


async def _carry_out(app: _App, apps: Sequence[_App]) -> None:
    """Carry one rollout out; where others go on, take it up again after a fault."""
    wait = AGAIN_S
    while True:
        began = asyncio.get_running_loop().time()
        if app.fault is None:
            await _guarded(app, app.leadership.run(), alone=len(apps) == 1)
        _must_have_some(apps)
        if asyncio.get_running_loop().time() - began > AGAIN_AT_MOST_S:
            wait = AGAIN_S
        await asyncio.sleep(wait)
        wait = min(2 * wait, AGAIN_AT_MOST_S)
        log.info("%s is tried again", app.plan.name)
        app.fault = None
        await _guarded(app, _begin_one(app), alone=False)


async def _guarded(app: _App, life: Coroutine[Any, Any, None], *, alone: bool) -> None:
    """Await a part of a rollout's life; where it ends by a fault, let go of that rollout and say so everywhere."""
    try:
        await life
    except Exception as error:
        app.fault = error
        if alone:  # the process ends, and says why
            return
        known = isinstance(error, CrossfadeError)
        log.error("%s is not carried out: %s", app.plan.name, error, exc_info=None if known else error)
        controller = app.leadership.controller
        controller.following = False
        controller.fenced = f"it ended by a fault, and is tried again every {AGAIN_AT_MOST_S / 60:g} min: {error}"
        with suppress(CrossfadeError):
            await app.leadership.end(stop_proxy=False)  # so that another process can take over


def _must_have_some(apps: Sequence[_App]) -> None:
    """Raise the first fault where every rollout has ended by one."""
    faults = [app.fault for app in apps if app.fault is not None]
    if len(faults) == len(apps):
        raise faults[0]


def _make_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"{folder} can't be made: {error.strerror or error}; say --state DIR") from None
    return folder.resolve()


def _assemble(
    plan: Plan,
    path: Path,
    settings: Settings,
    url: str,
    shared: SqlStore | None,
    *,
    traces: Traces | None,
    opening: asyncio.Lock,
) -> _App:
    folder = settings.folder(plan.name).resolve()
    clock = SystemClock() if settings.speed == 1.0 else ScaledClock(settings.speed, _epoch(folder))
    key = _kept_key(folder / TELEMETRY_KEY)
    collector = Collector(
        clock=clock,
        tick_s=settings.tick_s,
        lateness_s=settings.lateness_s,
        key=key,
        clients=plan.clients is not None,
    )
    store = shared or SqlStore(f"sqlite:///{folder / STORE_FILE}")
    proxy_folder = folder / PROXY_FOLDER
    proxy = HaproxyProxy(plan, proxy_folder, collector=":".join(map(str, collector.address)), clock=clock)
    switch = HaproxyRollback(proxy_folder)
    kept = partial(_last_tick, store, plan.name)
    outcomes = PostedOutcomes(plan, folder / OUTCOMES_FOLDER, key=key, tick_s=settings.tick_s, kept=kept)
    behaviour = UserBehaviour(plan, folder / EVENTS_FOLDER, key=key, kept=kept)
    servers = (Prometheus(source, plan.metrics, clock=clock, lateness_s=settings.lateness_s) for source in plan.sources)
    sources: tuple[MetricsSource, ...] = (outcomes, behaviour, *servers)
    holder = f"{socket.gethostname()}/{os.getpid()}/{new_token()[:6]}"
    lease = LeaseKeeper(store, clock, rollout=plan.name, holder=holder, address=url, lasts_s=settings.lease_s)
    proxy.attendance.attended = lambda: lease.over is None
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
    behaviour.assigned = lambda: (controller.rollout, controller.members)
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
    outbox = _outbox(controller, store, clock, settings, url)
    owners = _owner_outbox(controller, store, clock, settings)
    tellers: Sequence[Outbox | OwnerOutbox] = [outbox] if owners is None else [outbox, owners]
    leadership.beside = partial(_all, [teller.run for teller in tellers])
    carried = Carried(
        controller=controller,
        store=store,
        telemetry=collector,
        clock=clock,
        outcomes=outcomes,
        behaviour=behaviour,
        form_key=FormKey(controller, store, new=new_key, copy=folder / FORM_KEY_FILE, former=key),
        trend=Trend(folder / TREND_FILE),
        meters=meters,
        outbox=outbox,
        owners=owners,
    )
    return _App(plan, path, folder, switch, store, clock, leadership, carried, opening, tellers)


async def _last_tick(store: SqlStore, rollout: str) -> int | None:
    kept = await store.evidence(rollout)
    return None if kept is None else kept[0]


def _outbox(controller: Controller, store: SqlStore, clock: SystemClock, settings: Settings, url: str) -> Outbox:
    plan, allowed = controller.plan, allowed_by(settings.allow_private_webhooks)
    notifiers = {rule.name: notifier_of(rule, allowed, SystemClock().now) for rule in plan.notices}
    link = page_of(plan.name, settings.public_url, url)
    return Outbox(controller, store, clock, notifiers, link=link, jitter=chance)


def _owner_outbox(
    controller: Controller, store: SqlStore, clock: SystemClock, settings: Settings
) -> OwnerOutbox | None:
    rule = controller.plan.owner_notices
    if rule is None:
        return None
    ways = Ways(rule, allowed_by(settings.allow_private_webhooks), SystemClock().now)
    return OwnerOutbox(controller, store, clock, ways, jitter=chance)


async def _all(lives: Sequence[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    await asyncio.gather(*(life() for life in lives))


async def _until_stopped(
    apps: Sequence[_App], settings: Settings, listening: Listening, tokens: FileTokens, stop: asyncio.Event
) -> None:
    wall, token = SystemClock(), _token(apps)
    served = Served(
        rollouts={app.plan.name: app.carried for app in apps},
        wall=wall,
        access=Access(local=token, tokens=tokens, now=wall.now, new_secret=new_token),
        audit=FileAudit(settings.state.resolve() / AUDIT_FILE),
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
    acting = asyncio.create_task(_carry_on(apps))
    drawn = asyncio.create_task(_draw(apps))
    stopped = asyncio.create_task(stop.wait())
    controls = [_leave_control(app, listening, token) for app in apps]
    of = apps[0].plan.name if len(apps) == 1 else f"{len(apps)} rollouts"
    log.info("%s: control API at %s; try `crossfade status`", of, listening.url)
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
        for app, control in zip(apps, controls, strict=True):
            control.remove(app.folder)


def _leave_control(app: _App, listening: Listening, token: str) -> Control:
    """Leave a rollout's control file to commands, now where we lead it and each time when we begin to."""
    control = Control(
        rollout=app.plan.name, url=listening.url, token=token, plan=str(app.path), pid=os.getpid(), ca=listening.ca
    )
    app.leadership.on_lead = lambda: control.write(app.folder)
    if app.leadership.leads or app.leadership.claim.take():  # else it is that of the one which leads from this folder
        control.write(app.folder)
    return control


def _token(apps: Sequence[_App]) -> str:
    """Return the secret of commands on this machine: of all processes that serve from one folder it is the same."""
    for app in apps:
        with suppress(UnreachableError):
            if not app.leadership.claim.take():
                return read_control(app.folder).token
    return new_token()


async def _draw(apps: Sequence[_App]) -> None:
    """Note for the charts how the rollouts look, again and again."""
    while True:
        await asyncio.sleep(DRAW_S)
        for app in apps:
            controller, at = app.leadership.controller, app.clock.now()
            if app.carried.trend.due(at):
                wanted = controller.rollout.wanted_split(app.plan)
                app.carried.trend.note(controller, at, views.weight(app.plan, wanted))


async def _end(app: _App, *, stop_proxy: bool) -> None:
    led = app.leadership.leads and app.leadership.controller.nodes
    await app.switch.close()  # first: a proxy waits for its last connection before it ends
    await app.leadership.end(stop_proxy=stop_proxy)
    for teller in app.tellers:
        await teller.close()
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

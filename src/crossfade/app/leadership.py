"""Leading and following: what one `serve` opens while it holds the lease, and lets go of when it doesn't."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from crossfade.adapters.collector import Collector
from crossfade.adapters.haproxy import HaproxyProxy
from crossfade.app.control import Claim
from crossfade.engine.controller import Controller
from crossfade.engine.lease import LeaseKeeper
from crossfade.engine.retention import let_go
from crossfade.errors import CrossfadeError, StoreError, UnreachableError
from crossfade.ports import Clock, MetricsSource, Store

log = logging.getLogger("crossfade")

PORT_FILE = "collector.port"
TIDY_S = 3600.0


@dataclass(slots=True, kw_only=True)
class Leadership:
    """Whether this process leads a rollout, and everything that only the leader has open."""

    folder: Path
    controller: Controller
    lease: LeaseKeeper
    claim: Claim
    proxy: HaproxyProxy
    collector: Collector
    store: Store
    sources: Sequence[MetricsSource]
    clock: Clock
    keep_s: float
    """Plan seconds that old ticks are kept."""
    on_lead: Callable[[], None] = lambda: None
    """Called each time when this process begins to lead."""
    leads: bool = False
    _keeping: asyncio.Task[None] | None = field(default=None, init=False)

    async def begin(self) -> None:
        """Lead where nobody does, else follow; raises what hinders it."""
        if not await self._took_over():
            await self.controller.follow(self.lease.leader)
            log.info("%s; this process follows and takes over when that one ends", self.lease.leader)

    async def run(self) -> None:
        """Follow until the lease is ours, act until it is another's, and so on; raises what hinders leading."""
        while True:
            if not self.leads:
                await self._follow()
            await self._act()
            await self._step_down()

    async def end(self, *, stop_proxy: bool) -> None:
        """Let go of everything, the lease last: whoever takes it finds all of it free."""
        if self.leads and stop_proxy and self.controller.nodes:  # unasked, it may be another controller's
            await self.proxy.stop()
        await self._close()
        await self.lease.release()
        self.claim.close()

    async def _follow(self) -> None:
        while True:
            await self.clock.sleep(self.lease.look_again_s)
            try:
                if await self._took_over():
                    return
                await self.controller.follow(self.lease.leader)
            except (StoreError, UnreachableError) as error:
                if self.leads:
                    raise
                log.error("%s, and this process can't take over: %s", self.lease.leader, error)

    async def _took_over(self) -> bool:
        """Take the lease and open what a leader has; where that fails, give the lease back and raise why."""
        self.claim.take()
        if not await self.lease.look(self.claim.predecessor):
            return False
        self.leads = True
        self._keeping = asyncio.create_task(self.lease.keep(), name="lease")
        self.claim.note(self.lease.holder)
        self.claim.predecessor = ""
        self.collector.use_port(_free_port(self.folder / PORT_FILE))
        self.proxy.collector = ":".join(map(str, self.collector.address))
        await self.collector.start()
        self.collector.closed_ticks()  # those from before we listened are another's
        for source in self.sources:
            await source.start()
        await self.controller.start()
        self.on_lead()
        return True

    async def _act(self) -> None:
        assert self._keeping is not None  # noqa: S101 - _took_over has begun it
        acting = asyncio.create_task(self.controller.run(), name="controller")
        tidying = asyncio.create_task(self._tidy(), name="retention")
        try:
            await asyncio.wait({acting, self._keeping}, return_when=asyncio.FIRST_COMPLETED)
            if acting.done():
                acting.result()  # a task that ended by itself did so by a fault: say which
        finally:
            for task in (acting, tidying):
                task.cancel()
            await asyncio.gather(acting, tidying, return_exceptions=True)

    async def _tidy(self) -> None:
        """Let go of what is old, once an hour; what hinders it is no reason to end."""
        while True:
            await self.clock.sleep(TIDY_S)
            rollout = self.controller.rollout
            try:
                gone = await let_go(self.store, rollout, self.keep_s, self.clock, lambda: self.lease.generation)
            except CrossfadeError as error:
                log.error("%s: what is old could not be deleted: %s", rollout.name, error)
                continue
            if gone:
                log.info("%s: %d old ticks, looks and records were deleted", rollout.name, gone)

    async def _step_down(self) -> None:
        await self._close()
        reason = self.lease.lost or self.lease.leader
        with suppress(StoreError, UnreachableError):
            await self.controller.follow(reason)
        log.warning("%s; it follows", reason)

    async def _close(self) -> None:
        self.leads = False
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
            self._keeping = None
        await self.proxy.close()
        for source in self.sources:
            await source.close()
        await self.collector.close()


def _free_port(path: Path) -> int:
    """Return the collector's port: the last one, because a running proxy reports to it, or another if it is taken.

    It is where the last leader on this machine was stopped and did not end.
    """
    wanted = 0
    with suppress(OSError, ValueError):
        wanted = int(path.read_text())
    for port in (wanted, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            found = int(probe.getsockname()[1])
            path.write_text(str(found))
            return found
    return 0

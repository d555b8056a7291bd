"""Leading and following: who acts for a rollout, decided by its lease, and when that changes."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from crossfade.engine.controller import Controller
from crossfade.engine.lease import LeaseKeeper
from crossfade.engine.retention import let_go
from crossfade.errors import CrossfadeError, StoreError, UnreachableError
from crossfade.ports import Clock, Store

log = logging.getLogger("crossfade")

TIDY_S = 3600.0


@dataclass(slots=True, kw_only=True)
class Leading(ABC):
    """Whether this process leads a rollout. What only a leader has open is its subclass's to open and close."""

    controller: Controller
    lease: LeaseKeeper
    store: Store
    clock: Clock
    keep_s: float
    """Plan seconds that old ticks are kept."""
    on_lead: Callable[[], None] = lambda: None
    """Called each time when this process begins to lead."""
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None
    """What is done beside acting, for as long as this process leads; how it ends is no matter."""
    leads: bool = False
    _keeping: asyncio.Task[None] | None = field(default=None, init=False)

    @abstractmethod
    def predecessor(self) -> str:
        """Return which lease holder is known to live no more; empty where none is."""

    @abstractmethod
    async def open(self) -> None:
        """Open what only a leader has, the proxy apart; raises what hinders it."""

    @abstractmethod
    async def shut(self) -> None:
        """Close what only a leader has; where little or nothing was opened, that."""

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

    async def release(self) -> None:
        """Let go of everything, the lease last: whoever takes it finds all of it free."""
        await self._close()
        await self.lease.release()

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
        """Take the lease and open what a leader has; raises what hinders it."""
        if not await self.lease.look(self.predecessor()):
            return False
        self.leads = True
        self._keeping = asyncio.create_task(self.lease.keep(), name="lease")
        await self.open()
        await self.controller.start()
        self.on_lead()
        return True

    async def _act(self) -> None:
        assert self._keeping is not None  # noqa: S101 - _took_over has begun it
        acting = asyncio.create_task(self.controller.run(), name="controller")
        others = [asyncio.create_task(self._tidy(), name="retention")]
        if self.beside is not None:
            others.append(asyncio.create_task(self.beside(), name="beside"))
        try:
            await asyncio.wait({acting, self._keeping}, return_when=asyncio.FIRST_COMPLETED)
            if acting.done():
                acting.result()  # a task that ended by itself did so by a fault: say which
        finally:
            for task in (acting, *others):
                task.cancel()
            await asyncio.gather(acting, *others, return_exceptions=True)

    async def _tidy(self) -> None:
        """Let go of what is old, once an hour; what hinders it is no reason to end."""
        while True:
            await self.clock.sleep(TIDY_S)
            name = self.controller.plan.name
            try:
                gone = await let_go(
                    self.store,
                    lambda: self.controller.rollout,
                    self.keep_s,
                    self.clock,
                    lambda: self.lease.generation,
                    feedback_s=self.controller.plan.feedback.keep_s,
                )
            except CrossfadeError as error:
                log.error("%s: what is old could not be deleted: %s", name, error)
                continue
            if gone:
                log.info("%s: %d old ticks, looks and records were deleted", name, gone)

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
        await self.shut()

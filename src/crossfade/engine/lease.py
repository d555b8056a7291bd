"""Who may act: one process at a time holds a rollout's lease, and its generation goes with every write.

No two clocks are compared. The holder raises a beat in the store; whoever wants the lease watches the beat, and takes
it after it stood still for the whole of the holder's time by their own monotonic clock. The holder counts from before
it asked, so its time is over first. A wall clock that is stepped changes nothing; a process that was stopped and goes
on finds its time over, and its writes refused.
"""

from __future__ import annotations

import asyncio
import logging

from crossfade.core.words import duration
from crossfade.errors import ConflictError, StoreError, UnreachableError
from crossfade.ports import Clock, Lease, Store

log = logging.getLogger("crossfade.lease")

BEATS = 3
"""Renewals in the time that a lease lasts."""
LOOKS = 5
"""Looks of one who waits, in the same time."""
LOOK_S_MAX = 1.0


class LeaseKeeper:
    """One process's part in it: waits for the lease, renews it, and knows whether it still may act."""

    def __init__(self, store: Store, clock: Clock, *, rollout: str, holder: str, address: str, lasts_s: float) -> None:
        """Ask for leases of `lasts_s` real seconds in the name of `holder`, which no other process ever has."""
        self.rollout = rollout
        self.seen: Lease | None = None
        """The lease as it was at the last look; None before it, and where nobody ever had it."""
        self.lost: str | None = None
        """Who took the lease that we had; None while nobody did."""
        self._store = store
        self._clock = clock
        self.holder = holder
        self._address, self._lasts_s = address, lasts_s
        self._held: Lease | None = None
        self._stands_since = clock.monotonic()
        self._until = float("-inf")
        self._trouble = ""

    @property
    def generation(self) -> int:
        """Return what goes with every write: of the latest lease we had, 0 before the first."""
        return 0 if self._held is None else self._held.generation

    @property
    def leads(self) -> bool:
        """Tell whether the lease is ours, and its time not over."""
        return self._held is not None and self.over is None

    @property
    def age_s(self) -> float:
        """Return the real seconds since the lease was renewed, by us or, as far as we have seen, by another."""
        renewed = self._until - self._lasts_s if self._held is not None and self.lost is None else self._stands_since
        return self._clock.monotonic() - renewed

    # ── waiting ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def look_again_s(self) -> float:
        """Return how long one who waits may sleep between looks."""
        return min(LOOK_S_MAX, self._lasts_s / LOOKS)

    async def look(self, ended: str = "") -> bool:
        """Take the lease where it can be had, and tell whether we have it now.

        It can be had where nobody has it, where its holder is `ended` (known to live no more), and where its beat
        stood still for as long as it lasts. Raises StoreError or UnreachableError where the store can't tell.
        """
        seen = await self._store.lease(self.rollout)
        if seen != self.seen:
            self.seen, self._stands_since = seen, self._clock.monotonic()
        if not self._can_be_had(seen, ended):
            return False
        wanted = Lease(
            rollout=self.rollout,
            generation=1 if seen is None else seen.generation + 1,
            holder=self.holder,
            address=self._address,
            lasts_s=self._lasts_s,
            beat=0,
        )
        asked = self._clock.monotonic()
        try:
            await self._store.acquire(wanted, seen)
        except ConflictError:
            return False
        self.seen = self._held = wanted
        self.lost, self._trouble = None, ""
        self._until = asked + self._lasts_s
        log.info("%s: this process leads (lease generation %d)", self.rollout, wanted.generation)
        return True

    def _can_be_had(self, seen: Lease | None, ended: str) -> bool:
        # Our own, where we didn't hear that we got it.
        if seen is None or seen.holder in ("", self.holder, ended):
            return True
        return self._clock.monotonic() - self._stands_since >= seen.lasts_s

    @property
    def leader(self) -> str:
        """Return who leads and where, as of the last look."""
        if self.seen is None or not self.seen.holder:
            return f"nobody leads {self.rollout} at the moment"
        leads = f"{self.seen.holder} leads {self.rollout} at {self.seen.address}"
        return leads if self.age_s < self.seen.lasts_s else f"{leads}, last heard of {duration(self.age_s)} ago"

    # ── holding ─────────────────────────────────────────────────────────────────────────────────────────

    async def keep(self) -> None:
        """Renew until the lease is lost."""
        while self.lost is None:
            beat_s = self._lasts_s / BEATS
            await self._clock.sleep(beat_s / BEATS if self._trouble else beat_s)
            await self.renew()

    async def renew(self) -> None:
        """Renew once; what goes wrong is told by `lost` and `over`."""
        if self._held is None or self.lost is not None:
            return
        asked = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._lasts_s / BEATS):  # or our time might end before we know of trouble
                await self._store.renew(self._held)
        except ConflictError as error:
            self.lost = str(error)
            log.error("%s: this process does not act any more: %s", self.rollout, error)
        except (StoreError, UnreachableError, TimeoutError) as error:
            self._trouble = str(error) or "the store does not answer"
            log.error("the lease of %s could not be renewed: %s", self.rollout, self._trouble)
        else:
            self._until, self._trouble = asked + self._lasts_s, ""

    async def release(self) -> None:
        """Give the lease back, so that the next one need not wait; where that fails they wait."""
        if self._held is None or self.lost is not None:
            return
        try:
            await self._store.release(self._held)
        except (StoreError, UnreachableError) as error:
            log.warning("the lease of %s could not be given back: %s", self.rollout, error)

    @property
    def over(self) -> str | None:
        """Return why we may not move anybody towards V2; None while we may."""
        if self.lost is not None:
            return self.lost
        late = self._clock.monotonic() - self._until
        if late < 0:
            return None
        return f"the lease of {self.rollout} ran out {late:.0f} s ago: {self._trouble or 'this process was stopped'}"

    @property
    def asleep(self) -> bool:
        """Tell whether our time ended and we have not even asked for more: we were stopped, and know nothing.

        One who asked in vain is not asleep: they can't keep anything, and go on watching.
        """
        return self.lost is None and not self._trouble and self.over is not None

"""Handing notices over: beside the ticks, never in their way, and only while this process leads.

The history in the store is what is told from; each rule's logbook is kept beside it. Who leads next reads both and goes
on, so a notice goes out at least once, always with the same id.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

from crossfade.adapters.notify import Allowed, Apprise, Webhook
from crossfade.core import notices
from crossfade.core.events import Event, from_data
from crossfade.core.gates import checklist
from crossfade.core.machine import State
from crossfade.core.notices import Logbook, Notice, Status
from crossfade.core.observation import Observation
from crossfade.core.places import webhook_url
from crossfade.core.plan import Kept, NoticeRule
from crossfade.engine.controller import Controller
from crossfade.errors import (
    ConflictError,
    CrossfadeError,
    NoticeRefusedError,
    NotTakenError,
    StoreError,
    UnreachableError,
    UsageError,
)
from crossfade.ports import Clock, Notifier, Store, StoredEvent

log = logging.getLogger("crossfade.notices")

LOOK_S = 1.0
"""Real seconds between looks at how things stand."""
READ_S = 30.0
"""Real seconds between looks at the history where nobody heard of anything new."""
STORE_S = 10.0
SEND_S = 60.0
"""Real seconds that a notifier may take."""
ATTEMPTS = 40
"""Of one notice: some four hours."""
FIRST_S, MOST_S = 1.0, 600.0
"""Real seconds between attempts: twice as long each time."""
ASKED_MOST_S = 3600.0
"""Longest that a receiver may ask us to wait."""
_HEARD = 1000
_KEPT_BYTES = 64 * 1024


# ── where to ────────────────────────────────────────────────────────────────────────────────────────────────


def read_kept(kept: Kept) -> str:
    """Return what is kept somewhere; ValueError naming the place where it isn't there."""
    if kept.variable:
        text = os.environ.get(kept.variable, "").strip()
        if not text:
            raise ValueError(f"the variable {kept.variable} is not set")
        return text
    if not kept.file:
        return kept.text
    try:
        with Path(kept.file).open("rb") as file:
            return file.read(_KEPT_BYTES).decode().strip()
    except OSError as error:
        raise ValueError(f"{kept.file} can't be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{kept.file} is not UTF-8") from None


def allowed_by(text: str) -> Allowed:
    """Return what --allow-private-webhooks says; UsageError where that can't be read."""
    try:
        return Allowed.read(text)
    except ValueError as error:
        raise UsageError(f"--allow-private-webhooks: {error}") from None


def page_of(rollout: str, public_url: str, listening: str) -> str:
    """Return the address of a rollout's page; UsageError where the setting is none."""
    try:
        base = webhook_url(public_url) if public_url else listening
    except ValueError:
        raise UsageError(f"--public-url is such as https://rollouts.example.org, not {public_url!r}") from None
    return f"{base.rstrip('/')}/rollouts/{quote(rollout)}"


def notifier_of(rule: NoticeRule, allowed: Allowed, now: Callable[[], float]) -> Notifier:
    """Return what hands a rule's notices over; `now` returns wall-clock seconds since the epoch."""
    if rule.webhook is not None:
        secret = None if rule.secret is None else _reader(rule.secret)
        return Webhook(_reader(rule.webhook), secret=secret, allowed=allowed, now=now)
    return Apprise(_reader(rule.apprise or Kept()))


def _reader(kept: Kept) -> Callable[[], str]:
    return lambda: read_kept(kept)


# ── handing over ────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class Telling:
    """One rule, its logbook, and how handing over goes."""

    rule: NoticeRule
    notifier: Notifier
    logbook: Logbook = field(default_factory=Logbook)
    saved: bytes = b""
    """The logbook as the store has it."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when there is something to hand over that was not there before."""
    sent: int = 0
    failed: int = 0
    """Attempts that were in vain."""
    given_up: int = 0
    trouble: str = ""
    """Why the last attempt was in vain; empty after one that wasn't."""

    def turn(self, logbook: Logbook) -> None:
        """Take the logbook as it is now."""
        known = {notice.id for notice in self.logbook.waiting}
        self.logbook = logbook
        if any(notice.id not in known for notice in logbook.waiting):
            self.news.set()


class Outbox:
    """Works out what to tell of one rollout, and hands it over. `run` is its life while this process leads."""

    def __init__(
        self,
        controller: Controller,
        store: Store,
        clock: Clock,
        notifiers: Mapping[str, Notifier],
        *,
        link: str,
        jitter: Callable[[], float],
    ) -> None:
        """Take a notifier for each rule of the plan, by its name.

        `link` leads to the rollout's page. `jitter` returns a random number from 0 to 1: it spreads attempts.
        """
        self.tellings = [Telling(rule, notifiers[rule.name]) for rule in controller.plan.notices]
        self._controller, self._store, self._clock = controller, store, clock
        self._link, self._jitter = link, jitter
        self._heard: deque[StoredEvent] = deque(maxlen=_HEARD)
        self._before: Observation | None = None
        """What was seen before the latest event: it does not tell how things stand since."""
        self._wake = asyncio.Event()
        self._read_at = float("-inf")
        self._saving = asyncio.Lock()
        if self.tellings:
            controller.listen(self._hear)

    async def run(self) -> None:
        """Tell until cancelled; ends by itself where the store says that another process leads."""
        if not self.tellings:
            return
        try:
            await self._load()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(), name="what to tell")
                for telling in self.tellings:
                    group.create_task(self._hand_over(telling), name=f"notices of {telling.rule.name}")
        except* ConflictError as lost:
            log.warning("no more notices from here: %s", lost.exceptions[0])
        except* Exception:  # the rollout goes on without
            log.exception("no more notices from here")

    async def close(self) -> None:
        """Let go of connections."""
        for telling in self.tellings:
            await telling.notifier.close()

    # ── what to tell ────────────────────────────────────────────────────────────────────────────────────

    def _hear(self, event: StoredEvent) -> None:
        self._heard.append(event)
        self._before = self._controller.seen
        self._wake.set()

    async def _load(self) -> None:
        """Go on where the logbooks stand; a store that is away comes back."""
        plan = self._controller.plan
        while True:
            try:
                async with asyncio.timeout(STORE_S):
                    kept = await self._store.notices(plan.name)
                    history = _decoded(await self._store.events(plan.name))
                break
            except (StoreError, UnreachableError, TimeoutError) as error:
                log.error("notices have to wait: %s", str(error) or "the store does not answer")
                await self._clock.sleep(LOOK_S)
        for telling in self.tellings:
            telling.saved = kept.get(telling.rule.name, b"")
            telling.logbook = Logbook()
            logbook = _read_logbook(telling) or notices.begin(plan, telling.rule, history)
            telling.turn(logbook)

    async def _follow(self) -> None:
        while True:
            try:
                await self._step()
            except ConflictError:
                raise
            except (CrossfadeError, TimeoutError) as error:
                log.error("this look for what to tell failed: %s", str(error) or "the store does not answer")
            except Exception:  # whatever one look meets, the next one looks again
                log.exception("this look for what to tell failed")
            await self._sleep(LOOK_S, self._wake)

    async def _step(self) -> None:
        plan, now = self._controller.plan, self._clock.now()
        due = self._wake.is_set() or self._clock.monotonic() - self._read_at >= READ_S
        self._wake.clear()
        history = _decoded(await self._new_events()) if due else ()
        status = self._status(now)
        for telling in self.tellings:
            logbook = notices.follow(plan, telling.rule, telling.logbook, history)
            telling.turn(notices.look(plan, telling.rule, logbook, status, now))
        await self._save()

    async def _new_events(self) -> Sequence[StoredEvent]:
        """Return what nobody was told of yet: from the store, and what it has not taken yet from those who wrote it."""
        after = min(telling.logbook.revision for telling in self.tellings)
        known = {event.revision: event for event in (*self._heard, *self._controller.unwritten)}
        try:
            async with asyncio.timeout(STORE_S):
                kept = await self._store.events(self._controller.plan.name, after)
        except (CrossfadeError, TimeoutError) as error:
            log.error("what to tell is taken from memory: %s", str(error) or "the store does not answer")
        else:
            known |= {event.revision: event for event in kept}
            self._read_at = self._clock.monotonic()
        new = []
        while after + 1 in known:
            after += 1
            new.append(known[after])
        return new

    def _status(self, now: float) -> Status | None:
        """Return how things stand, by the gates as they are now; None before a look has followed the latest event."""
        controller = self._controller
        if controller.decision is None or controller.seen is self._before:
            return None
        rollout, seen = controller.rollout, controller.seen
        moving = rollout.state in (State.RUNNING, State.PAUSED)
        gates = checklist(controller.plan, rollout, seen, controller.around, now) if moving else ()
        return Status(gates=gates, approvals=len(rollout.approvals), breakers=seen.breakers)

    async def _save(self) -> None:
        """Keep the logbooks that have changed. A store that is away is no reason not to tell: ids stay the same."""
        async with self._saving:
            changed = {telling.rule.name: notices.save(telling.logbook) for telling in self.tellings}
            changed = {t.rule.name: changed[t.rule.name] for t in self.tellings if changed[t.rule.name] != t.saved}
            if not changed:
                return
            lease = self._controller.lease
            generation = 0 if lease is None else lease.generation
            async with asyncio.timeout(STORE_S):
                await self._store.save_notices(self._controller.plan.name, changed, generation=generation)
            for telling in self.tellings:
                telling.saved = changed.get(telling.rule.name, telling.saved)

    # ── handing over ────────────────────────────────────────────────────────────────────────────────────

    async def _hand_over(self, telling: Telling) -> None:
        while True:
            telling.news.clear()
            while telling.logbook.waiting:
                notice = telling.logbook.waiting[0]
                await self._try(telling, notice)
                telling.logbook = notices.without(telling.logbook, notice.id)
                try:
                    await self._save()
                except ConflictError:
                    raise
                except (CrossfadeError, TimeoutError) as error:
                    log.error("that a notice was sent can't be kept yet: %s", str(error) or "the store does not answer")
            await telling.news.wait()

    async def _try(self, telling: Telling, notice: Notice) -> None:
        """Hand a notice over; returns when it was taken, given up, or gone into a later one."""
        for attempt in range(ATTEMPTS):
            await self._may_send()
            if notice not in telling.logbook.waiting:
                return
            after_s = await self._attempt(telling, notice)
            if after_s is None:
                return
            if attempt + 1 < ATTEMPTS:
                await self._pause(telling, attempt, after_s)
        self._give_up(telling, notice)

    async def _may_send(self) -> None:
        lease = self._controller.lease
        while lease is not None and lease.over is not None:
            await self._clock.sleep(LOOK_S)

    async def _attempt(self, telling: Telling, notice: Notice) -> float | None:
        """Try once; return None where there is nothing more to try, else how long the receiver wants us to wait."""
        try:
            async with asyncio.timeout(SEND_S):
                said = await telling.notifier.send(replace(notice, link=self._link))
        except NoticeRefusedError as error:
            telling.failed += 1
            telling.trouble = str(error)
            self._give_up(telling, notice)
            return None
        except NotTakenError as error:
            telling.trouble, wanted = str(error), error.after_s or 0.0
        except TimeoutError:
            telling.trouble, wanted = f"{telling.notifier.shown} hangs", 0.0
        except Exception as error:  # one notifier's fault is no other's
            log.exception("the notifier of %s failed", telling.rule.name)
            telling.trouble, wanted = f"{telling.notifier.shown} failed: {type(error).__name__}", 0.0
        else:
            telling.sent += 1
            telling.trouble = ""
            log.info("%s told %s of %s: %s", notice.rollout, telling.rule.name, notice.kind, said)
            return None
        telling.failed += 1
        log.warning("%s could not tell %s of %s: %s", notice.rollout, telling.rule.name, notice.kind, telling.trouble)
        return min(wanted, ASKED_MOST_S)

    def _give_up(self, telling: Telling, notice: Notice) -> None:
        telling.given_up += 1
        log.error("%s is not told of %s: %s", telling.rule.name, notice.kind, telling.trouble)

    async def _pause(self, telling: Telling, attempt: int, after_s: float) -> None:
        """Wait before the next attempt; something new is tried at once, unless the receiver asked us to wait."""
        delay_s = min(MOST_S, FIRST_S * 2.0**attempt) * (0.5 + self._jitter() / 2)
        if after_s:
            await self._clock.sleep(max(delay_s, after_s))
            return
        telling.news.clear()
        await self._sleep(delay_s, telling.news)

    async def _sleep(self, real_s: float, until: asyncio.Event) -> None:
        waits = {asyncio.ensure_future(self._clock.sleep(real_s)), asyncio.ensure_future(until.wait())}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _read_logbook(telling: Telling) -> Logbook | None:
    if not telling.saved:
        return None
    try:
        return notices.load(telling.saved)
    except ValueError as error:
        log.error("the logbook of %s begins anew: %s", telling.rule.name, error)
        return None


def _decoded(events: Sequence[StoredEvent]) -> list[tuple[int, Event]]:
    return [(event.revision, from_data(event.kind, event.at, event.data)) for event in events]

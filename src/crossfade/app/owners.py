"""Telling the owners of clients of each step towards V1's end: beside the ticks, and only while this process leads.

What is due follows from the plan's dates, the rollout, the ledger and the register; what was told is in the history. So
nothing else is kept: who leads next, or begins again after a crash, reads the history and tells the others. A
notice goes out at least once, always with the same id.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from crossfade.adapters.notify import Allowed, Mail, Webhook
from crossfade.app.clients import read_ledger
from crossfade.app.notices import ASKED_MOST_S, ATTEMPTS, FIRST_S, MOST_S, SEND_S, STORE_S, read_kept
from crossfade.core import events as e
from crossfade.core.clients import owners
from crossfade.core.clients.ledger import Ledger
from crossfade.core.clients.owners import Known, OwnerNotice
from crossfade.core.places import shown_contact
from crossfade.core.plan import OwnerNotices, OwnerStep, Plan
from crossfade.engine.controller import Controller
from crossfade.errors import CrossfadeError, NoticeRefusedError, NotTakenError
from crossfade.ports import Clock, OwnerNotifier, Store, StoredEvent

log = logging.getLogger("crossfade.owners")

LOOK_S = 5.0
"""Real seconds between looks at what is due,"""
LOOK_PLAN_S = 600.0
"""or plan seconds where those are over earlier: a clock that runs fast leaves no step out,"""
LOOK_MIN_S = 0.2
"""but no more often than in so many real seconds."""
AT_ONCE = 4
"""Notices that are handed over at the same time."""
_SAID_MAX = 300
_NAMED_MAX = 20
TOLD = e.OwnerTold.__name__


class Ways:
    """How notices get to owners: by mail, or posted to their URLs."""

    def __init__(self, rule: OwnerNotices, allowed: Allowed, now: Callable[[], float]) -> None:
        """`now` returns wall-clock seconds since the epoch; `allowed` says which private addresses may be posted to."""
        kept, secret = rule.mail, rule.secret
        self._mail = None if kept is None else Mail(lambda: read_kept(kept), sender=rule.sender, now=now)
        self._secret = None if secret is None else lambda: read_kept(secret)
        self._allowed, self._now = allowed, now

    def to(self, contact: str) -> OwnerNotifier | None:
        """Return how a contact is told; None for a mail address where the plan names no server that takes mail."""
        if "://" not in contact:
            return self._mail
        return Webhook(lambda: contact, secret=self._secret, allowed=self._allowed, now=self._now)

    async def close(self) -> None:
        """Let go of connections."""
        if self._mail is not None:
            await self._mail.close()


_NO_SERVER = "`clients: notices:` names no server that takes mail"


@dataclass(slots=True)
class Waiting:
    """A notice that is due and that its owner has not had."""

    step: OwnerStep
    since: float
    """When it was found due here; this and `again_at` are real seconds of the clock that never steps."""
    attempts: int = 0
    again_at: float = 0.0
    trouble: str = ""
    """Why it can't be delivered; empty while it was not tried in vain."""


@dataclass(slots=True)
class OwnerTelling:
    """How telling the owners of one rollout's clients goes, since this process began."""

    steps: tuple[OwnerStep, ...]
    """Those that the plan tells."""
    waiting: dict[str, Waiting] = field(default_factory=dict)
    """By the notice's id."""
    sent: Counter[OwnerStep] = field(default_factory=Counter)
    failed: Counter[OwnerStep] = field(default_factory=Counter)
    """Attempts that were in vain."""
    given_up: Counter[OwnerStep] = field(default_factory=Counter)
    lost: str = ""
    """Whom the last that was given up was for, and why."""

    def due(self, notices: Sequence[OwnerNotice], now: float) -> None:
        """Take what is due, `now` being real seconds of the clock that never steps."""
        new = {one.id: Waiting(one.occasion.step, now) for one in notices}
        self.waiting = {id_: self.waiting.get(id_, waiting) for id_, waiting in new.items()}

    def oldest_s(self, step: OwnerStep, now: float) -> float:
        """Return for how many real seconds the longest that can't be delivered has been due; 0 where all can."""
        return max((now - one.since for one in self.waiting.values() if one.step is step and one.trouble), default=0.0)

    @property
    def trouble(self) -> str:
        """Return what owners were not told, and why; empty where they all were."""
        stuck = [one for one in self.waiting.values() if one.trouble]
        given_up = self.given_up.total()
        if not stuck and not given_up:
            return ""
        why = max(stuck, key=lambda one: one.attempts).trouble if stuck else self.lost
        return f"owners of clients: {len(stuck)} waiting, {given_up} given up; {why}"


class OwnerOutbox:
    """Works out whom to tell of one rollout, and tells them. `run` is its life while this process leads."""

    def __init__(
        self, controller: Controller, store: Store, clock: Clock, ways: Ways, *, jitter: Callable[[], float]
    ) -> None:
        """`jitter` returns a random number from 0 to 1: it spreads attempts."""
        self._controller, self._store, self._clock, self._ways, self._jitter = controller, store, clock, ways, jitter
        self._told: set[str] = set()
        rule = controller.plan.owner_notices
        self.telling = OwnerTelling(() if rule is None else tuple(rule.templates))
        self._warned: object = None
        """What was said last of clients whose owners can't be told."""
        controller.listen(self._hear)

    async def run(self) -> None:
        """Tell until cancelled."""
        try:
            await self._keep_telling()
        finally:
            self.telling.waiting = {}  # who leads next has them

    async def _keep_telling(self) -> None:
        loaded = False
        while True:
            try:
                if not loaded:
                    await self._load()
                    loaded = True
                await self._look()
            except (CrossfadeError, TimeoutError) as error:
                log.error("owners of clients have to wait: %s", str(error) or "the store does not answer")
            except Exception:  # whatever one look meets, the next one looks again
                log.exception("this look for whom to tell failed")
            await self._clock.sleep(max(LOOK_MIN_S, min(LOOK_S, LOOK_PLAN_S / self._clock.speed)))

    async def close(self) -> None:
        """Let go of connections."""
        await self._ways.close()

    def _hear(self, event: StoredEvent) -> None:
        if event.kind == TOLD:
            self._told.add(str(event.data["id"]))

    async def _load(self) -> None:
        async with asyncio.timeout(STORE_S):
            history = await self._store.events(self._controller.plan.name)
        self._told = told_in((*history, *self._controller.unwritten))

    async def _look(self) -> None:
        controller, now = self._controller, self._clock.now()
        plan, rollout, ledger = controller.plan, controller.rollout, controller.ledger
        if ledger is None or not self._leads() or not owners.occasions(plan, rollout, now):
            self.telling.waiting = {}
            return
        async with asyncio.timeout(STORE_S):
            register = await self._store.register(plan.name)
        known = Known(ledger=ledger, register=register, told=self._told)
        due = owners.due(plan, rollout, known, now)
        self.telling.due(due, self._clock.monotonic())
        self._warn(owners.unowned(known), [one for one in due if self._ways.to(one.contact) is None])
        few = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._tell(one, few) for one in due))

    def _leads(self) -> bool:
        lease = self._controller.lease
        return self._controller.fenced is None and (lease is None or lease.over is None)

    def _warn(self, unowned: Sequence[str], unreached: Sequence[OwnerNotice]) -> None:
        """Say whom nobody tells, each time when that has changed."""
        said = (unowned, tuple(one.id for one in unreached))
        if said == self._warned:
            return
        self._warned = said
        name = self._controller.plan.name
        if unowned:
            log.warning("%s: %d clients still ask for V1 and nobody is told, for the register has no contact: %s",
                        name, len(unowned), _named(unowned))  # fmt: skip
        if unreached:
            log.warning("%s: %d owners have a mail address, and %s", name, len(unreached), _NO_SERVER)

    async def _tell(self, notice: OwnerNotice, few: asyncio.Semaphore) -> None:
        """Try once to hand a notice over, where it is time to; what comes of it is noted in the history."""
        way, waiting, telling = self._ways.to(notice.contact), self.telling.waiting[notice.id], self.telling
        step, contact = waiting.step, shown_contact(notice.contact)
        if way is None:
            waiting.trouble = f"{contact}: {_NO_SERVER}"
            return
        if self._clock.monotonic() < waiting.again_at:
            return
        async with few:
            if not self._leads():
                return
            taken, said, after_s = await self._attempt(way, notice)
        waiting.attempts += 1
        if taken:
            telling.sent[step] += 1
        else:
            telling.failed[step] += 1
            waiting.trouble = f"{contact}: {said}"
        if not taken and after_s is not None and waiting.attempts < ATTEMPTS:
            log.warning("%s could not be told of %s: %s", contact, step, said)
            wait = max(after_s, min(MOST_S, FIRST_S * 2.0**waiting.attempts) * (0.5 + self._jitter() / 2))
            waiting.again_at = self._clock.monotonic() + wait
            return
        if not taken:
            telling.given_up[step] += 1
            telling.lost = waiting.trouble
        telling.waiting.pop(notice.id, None)
        await self._note(notice, said, taken=taken)

    async def _attempt(self, way: OwnerNotifier, notice: OwnerNotice) -> tuple[bool, str, float | None]:
        """Return whether it was taken, what came back, and after how long to try again; None: never."""
        try:
            async with asyncio.timeout(SEND_S):
                return True, await way.send_to_owner(notice), None
        except NoticeRefusedError as error:
            return False, str(error), None
        except NotTakenError as error:
            return False, str(error), min(error.after_s or 0.0, ASKED_MOST_S)
        except TimeoutError:
            return False, "it hangs", 0.0
        except Exception as error:  # one owner's fault is no other's
            log.exception("telling %s failed", shown_contact(notice.contact))
            return False, f"it failed: {type(error).__name__}", 0.0

    async def _note(self, notice: OwnerNotice, said: str, *, taken: bool) -> None:
        contact = shown_contact(notice.contact)
        level = logging.INFO if taken else logging.ERROR
        log.log(level, "%s %s of %s: %s", contact, "told" if taken else "is not told", notice.occasion.step, said)
        await self._controller.note_owner_told(
            e.OwnerTold(
                at=self._clock.now(),
                id=notice.id,
                step=notice.occasion.step.value,
                brownout=notice.occasion.name,
                owner=notice.owner,
                contact=contact,
                clients=list(notice.clients[: owners.NAMED_MAX]),
                count=len(notice.clients),
                taken=taken,
                said=said[:_SAID_MAX],
            )
        )


def told_in(history: Sequence[StoredEvent]) -> set[str]:
    """Return the ids of the notices that owners have had, or that are tried no more."""
    return {str(event.data["id"]) for event in history if event.kind == TOLD}


def _named(clients: Sequence[str]) -> str:
    more = f" and {len(clients) - _NAMED_MAX} more" if len(clients) > _NAMED_MAX else ""
    return ", ".join(map(ascii, clients[:_NAMED_MAX])) + more


# ── what API and CLI show ────────────────────────────────────────────────────────────────────────────────────


async def planned(controller: Controller, store: Store, step: OwnerStep | None, now: float) -> dict[str, Any]:
    """Return who would get what of each step, or of one, were it due now; and for whom nobody is told.

    Raises StoreError where ledger, register or history can't be read.
    """
    plan = controller.plan
    ledger = await read_ledger(controller, store) or Ledger()
    told = told_in(await store.events(plan.name))
    known = Known(ledger=ledger, register=await store.register(plan.name), told=told)
    due = {one.id for one in owners.due(plan, controller.rollout, known, now)}
    found = [
        _shown(notice, plan, told=notice.id in told, due=notice.id in due)
        for one in ([step] if step else OwnerStep)
        if (occasion := owners.planned(plan, controller.rollout, one)) is not None
        for notice in owners.preview(plan, occasion, known, now)
    ]
    return {"notices": found, "unowned": list(owners.unowned(known))}


def _shown(notice: OwnerNotice, plan: Plan, *, told: bool, due: bool) -> dict[str, Any]:
    rule = plan.owner_notices
    by_mail = "://" not in notice.contact
    way = "webhook" if not by_mail else "mail" if rule is not None and rule.mail is not None else None
    return {
        "id": notice.id,
        "step": notice.occasion.step.value,
        "brownout": notice.occasion.name or None,
        "owner": notice.owner,
        "contact": notice.contact,
        "way": way,
        "clients": list(notice.clients),
        "subject": notice.subject,
        "text": notice.text,
        "told": told,
        "due": due,
    }


async def told(controller: Controller, store: Store) -> list[dict[str, Any]]:
    """Return who was told of what, the latest first."""
    history = [event for event in await store.events(controller.plan.name) if event.kind == TOLD]
    return [{"at": event.at, **event.data} for event in reversed(history)]

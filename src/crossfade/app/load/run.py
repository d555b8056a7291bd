"""The driver: sends what people ask at its times, and counts what comes of it. One process, one thread.

Latency counts from the start that was intended. With a rate, that is the request's place in an even schedule. Without,
each user has a timetable, one think time after the other, and at most one request under way: what was to be sent while
the user waited is sent right after, and is older by the wait. A start that is late by the driver's own timer, 2 ms at
most, counts from when it was made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import numpy as np

from crossfade.adapters.load import NoAnswerError, Pool
from crossfade.app.load.options import Address, Work
from crossfade.app.load.people import THINKING, Asking, Draws, Person, people_of, trouble_of
from crossfade.core.load.tally import Tally, Trouble
from crossfade.ports import Clock

TIMER_S = 0.002
"""How late asyncio's timers are on a quiet machine."""
IN_FLIGHT_MAX = 20_000
"""With a rate, no more are under way at once: a service that hangs must not eat this machine's memory."""
_IDLE_S = 0.2


class Driver:
    """One run."""

    def __init__(self, work: Work, clock: Clock) -> None:
        self.tally = Tally()
        self.partial = False
        """It was stopped before its time."""
        self.begun = 0.0
        self.lasted_s = 0.0
        self.in_flight = 0
        self._work = work
        self._clock = clock
        self._asking = Asking(work.plan, work.load, work.seed, clock.now())
        self._people = people_of(work)
        self._pools: dict[Address, Pool] = {}
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End early: send nothing more, and take what is counted for a part of the run."""
        self.partial = True
        self._stopped.set()

    @property
    def elapsed_s(self) -> float:
        """How long it has run."""
        return self._clock.monotonic() - self.begun if self.begun else 0.0

    async def run(self) -> None:
        """Run to the end, or until stopped; whatever was sent has been answered or given up then."""
        self.begun = self._clock.monotonic()
        sending = asyncio.create_task(self._users() if self._work.rate is None else self._schedule(self._work.rate))
        stopping = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait([sending, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                self.lasted_s = self.elapsed_s
                self.tally.abandoned = self.in_flight
        finally:
            for task in (sending, stopping):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sending
            for pool in self._pools.values():
                pool.close()
        if not self.partial:
            self.lasted_s = self._work.curve.seconds

    # with a rate

    async def _schedule(self, rate: float) -> None:
        """Send by an even schedule, whatever comes back; users take turns in a drawn order."""
        order = _turns(len(self._people), self._work.seed)
        async with asyncio.TaskGroup() as group:
            for start in self._work.curve.starts(rate):
                due = self.begun + start
                wait = due - self._clock.monotonic()
                if wait > 0:
                    await self._clock.sleep(wait)
                person = self._people[next(order)]
                if self.in_flight >= IN_FLIGHT_MAX:
                    part = self._asking.part(person, self._asking.request(person).scenario, None)
                    self.tally.bad(part, Trouble.UNSENT, f"{IN_FLIGHT_MAX:,} were under way", 0.0)
                    continue
                group.create_task(self._ask(self._pool(person.address), person, due, free=True))

    def _pool(self, address: Address) -> Pool:
        found = self._pools.get(address)
        if found is None:
            found = self._pools[address] = Pool(*address, self._clock, timeout_s=self._work.timeout_s)
        return found

    # without

    async def _users(self) -> None:
        rng = np.random.default_rng((self._work.seed, 4))
        thinking = Draws(lambda n: rng.uniform(*THINKING, n) * self._work.think_s)
        async with asyncio.TaskGroup() as group:
            for number, person in enumerate(self._people):
                group.create_task(self._user(number, person, thinking))

    async def _user(self, number: int, person: Person, thinking: Draws) -> None:
        """Be one user to the end, on connections of their own."""
        pool = Pool(*person.address, self._clock, timeout_s=self._work.timeout_s)
        end = self.begun + self._work.curve.seconds
        # The first are spread over a think time, as if everyone had been asking before.
        due, free = self.begun + self._work.think_s * (number + 0.5) / len(self._people), True
        try:
            while due < end:
                wait = due - self._clock.monotonic()
                if wait > 0:
                    free = True
                    await self._clock.sleep(wait)
                if self._clock.monotonic() >= end + TIMER_S:
                    part = self._asking.part(person, self._asking.request(person).scenario, None)
                    self.tally.still_waits(part, end - due)
                elif number < self._work.curve.level(due - self.begun) * len(self._people):
                    await self._ask(pool, person, due, free=free)
                    free = False
                elif not self._work.think_s:
                    await self._clock.sleep(_IDLE_S)
                # Without think time there is no timetable: a user asks again at once.
                due = due + thinking.next() if self._work.think_s else max(due, self._clock.monotonic())
        finally:
            pool.close()

    async def _ask(self, pool: Pool, person: Person, due: float, *, free: bool) -> None:
        request = self._asking.request(person)
        sent = self._clock.monotonic()
        if free:
            self.tally.late.add(sent - due)
        start = sent if free and sent - due <= TIMER_S else due
        self.in_flight += 1
        try:
            answer = await pool.ask(request.data)
        except NoAnswerError as error:
            part = self._asking.part(person, request.scenario, None)
            self.tally.bad(part, error.trouble, str(error), self._clock.monotonic() - start)
            return
        finally:
            self.in_flight -= 1
        part = self._asking.part(person, request.scenario, answer)
        self.tally.retried += answer.retried
        trouble = trouble_of(answer)
        if trouble is None:
            self.tally.good(part, answer.status, answer.at - start, answer.at - sent)
        else:
            self.tally.bad(part, *trouble, answer.at - start, answer.status)


def _turns(users: int, seed: int) -> Iterator[int]:
    """Yield users for ever, all of them in each round, each round in another order."""
    rng = np.random.default_rng((seed, 5))
    while True:
        yield from rng.permutation(users).tolist()

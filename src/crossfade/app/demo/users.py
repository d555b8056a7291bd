"""The simulated users as a process of its own, so that watching them does not slow them down.

It asks the proxy over real connections, at the times that the traffic model draws (open loop: a slow answer does not
hold the next request back). A line of JSON on stdout every half second says what users saw; a line on stdin that
names the rollbacks ends it, and is answered with the summary. It ends, too, when stdin does.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvloop

from crossfade.adapters.load import NoAnswerError, Pool
from crossfade.adapters.system import SystemClock
from crossfade.app.demo.tally import Tally, read
from crossfade.ports import Clock
from crossfade.simulation.traffic import Arrival, Traffic, make_users

SLICE_S = 0.05
LINE_S = 0.5
LATE_S = 0.1
"""Sending this late means that the machine can't keep up."""
IN_FLIGHT_MAX = 300
DRAIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersSettings:
    """What the process is told, as JSON in its one argument."""

    port: int
    path: str
    keys: str
    """File of user keys, one a line."""
    rate: float
    """Mean requests per real second."""
    speed: float
    plan_now: float
    """Plan time at the start."""
    seed: int
    host: str = "127.0.0.1"


class Throttle:
    """Lowers the rate where the machine can't keep up, never below a fifth, and says so through its factor."""

    LEAST = 0.2
    PATIENCE_S = 2.0
    """A moment's trouble, such as a start or an outage, is no reason."""

    def __init__(self) -> None:
        self.factor = 1.0
        self._since: float | None = None

    def look(self, now: float, late_s: float, in_flight: int) -> float:
        """Return the factor, given how late the last request was sent and how many wait for an answer."""
        if late_s < LATE_S and in_flight < IN_FLIGHT_MAX:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since > self.PATIENCE_S:
            self.factor = max(self.LEAST, self.factor * 0.8)
            self._since = None
        return self.factor


class Users:
    """All simulated users of one demo."""

    def __init__(self, settings: UsersSettings, traffic: Traffic, clock: Clock, say: Callable[[bytes], None]) -> None:
        self._settings = settings
        self._traffic = traffic
        self._clock = clock
        self._say = say
        self._pool = Pool(settings.host, settings.port, clock)
        self._tasks: set[asyncio.Task[None]] = set()
        self._throttle = Throttle()
        self._late_s = 0.0
        self._heads = [self._head(user.key, user.region, user.client) for user in traffic.users]
        self.tally = Tally(len(traffic.users))

    def _head(self, key: str, region: int, client: str) -> bytes:
        name = self._traffic.regions[region].name
        return (
            f"Host: {self._settings.host}:{self._settings.port}\r\nUser-Agent: crossfade-demo\r\nAccept: */*\r\n"
            f"X-User-Id: {key}\r\nX-Region: {name}\r\nX-Client-Id: {client}\r\n\r\n"
        ).encode()

    async def run(self) -> None:
        """Send until cancelled."""
        begun, number = self._clock.monotonic(), 0
        speed, plan_now = self._settings.speed, self._settings.plan_now
        while True:
            for arrival in self._kept(number, plan_now + number * SLICE_S * speed):
                due = begun + (arrival.at - plan_now) / speed
                wait = due - self._clock.monotonic()
                if wait > 0.001:
                    await self._clock.sleep(wait)
                self._late_s = max(0.0, -wait)
                self._send(arrival)
            number += 1
            now = self._clock.monotonic()
            self._throttle.look(now, self._late_s, len(self._tasks))
            await self._clock.sleep(max(0.0, begun + number * SLICE_S - now))

    def _kept(self, number: int, begin: float) -> list[Arrival]:
        arrivals = self._traffic.slice(number, begin, SLICE_S * self._settings.speed)
        if self._throttle.factor == 1.0:
            return arrivals
        draws = np.random.default_rng((self._settings.seed, 2, number)).random(len(arrivals))
        return [arrival for arrival, draw in zip(arrivals, draws, strict=True) if draw < self._throttle.factor]

    def _send(self, arrival: Arrival) -> None:
        self.tally.sent += 1
        home = self._traffic.users[arrival.user].home
        line = f"GET {self._settings.path}?from={home}&to={arrival.destination}&date={arrival.day} HTTP/1.1\r\n"
        task = asyncio.create_task(self._ask(arrival.user, line.encode() + self._heads[arrival.user]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, user: int, request: bytes) -> None:
        sent = self._clock.now()
        try:
            answer = await self._pool.ask(request)
        except NoAnswerError as error:
            self.tally.lose(str(error))
            return
        self.tally.add(user, read(answer), sent, self._clock.now(), retried=answer.retried)

    async def report(self) -> None:
        """Say every half second what was counted, until cancelled."""
        while True:
            await self._clock.sleep(LINE_S)
            line = self.tally.line(self._clock.now())
            line["in_flight"], line["factor"] = len(self._tasks), self._throttle.factor
            self._say(orjson.dumps(line) + b"\n")

    async def finish(self, stop: Mapping[str, Any]) -> None:
        """Wait for answers that are under way, then say the summary."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=DRAIN_S)
        for _ in self._tasks:
            self.tally.lose("no answer when the demo ended")
        self._pool.close()
        rollbacks = [(float(at), float("inf") if until is None else float(until)) for at, until in stop["rollbacks"]]
        summary = self.tally.summary(rollbacks) | {"factor": self._throttle.factor}
        self._say(orjson.dumps({"summary": summary}) + b"\n")


async def serve(settings: UsersSettings) -> None:
    """Be the users until stdin says stop or ends."""
    keys = await asyncio.to_thread(Path(settings.keys).read_text, encoding="utf-8")
    people = make_users(keys.split(), settings.seed)
    traffic = Traffic(people, mean_rate=settings.rate / settings.speed, seed=settings.seed)
    users = Users(settings, traffic, SystemClock(), _say)
    reader = await _stdin()
    running = [asyncio.create_task(users.run()), asyncio.create_task(users.report())]
    try:
        line = await reader.readline()
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
    if line.strip():
        await users.finish(orjson.loads(line))


def _say(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


def command(settings: UsersSettings, python: str) -> list[str]:
    """Return the command line of this process."""
    return [python, "-m", "crossfade.app.demo.users", orjson.dumps(asdict(settings)).decode()]


def main() -> None:
    """Run as a process."""
    settings = UsersSettings(**orjson.loads(sys.argv[1]))
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        uvloop.run(serve(settings))


if __name__ == "__main__":
    main()

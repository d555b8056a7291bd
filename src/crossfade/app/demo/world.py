"""The demo's world: real processes, reached as anybody would reach them. It does what the script says."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from crossfade.app.client import Client, local_target
from crossfade.app.control import read_control
from crossfade.app.demo.processes import Child, ChildError, Children, free_ports
from crossfade.app.demo.users import UsersSettings, command
from crossfade.app.demo.variant import Variant, shipped_plans, write_variant
from crossfade.errors import UnreachableError
from crossfade.ports import Clock

DEFECT = 0.08
"""Share of requests that the planted defect fails on V2; nothing else fails in this world."""
TICK_S, LATENESS_S = 0.5, 0.75  # real seconds: the plan's clock runs thousands of times as fast
BREAKER_COOLDOWN_S = 2.0
"""Instead of 30 s: the demo's weeks are half a minute."""
WEATHER_KEEP_S = 1.0
"""Weather is asked once a second for a place and day, so that two processors carry the load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSettings:
    """How large and how fast the world is."""

    folder: Path
    speed: float
    users: int
    rate: float
    seed: int


@dataclass(frozen=True, slots=True)
class Transition:
    """A line of V2's log about its breaker."""

    old: str
    new: str
    reason: str


class LogTail:
    """Reads what a log has grown by."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def transitions(self) -> list[Transition]:
        """Return the breaker's transitions since the last look; an unfinished line waits."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        complete = text.rfind(b"\n") + 1
        self._offset += complete
        return [found for line in text[:complete].splitlines() if (found := _transition(line))]


def _transition(line: bytes) -> Transition | None:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(entry, dict) or entry.get("logger") != "crossfade.breaker" or "new" not in entry:
        return None
    return Transition(str(entry["old"]), str(entry["new"]), str(entry["reason"]))


class World:
    """Weather, V1, V2, the controller with its proxy, and the users."""

    variant: Variant
    client: Client

    def __init__(self, settings: WorldSettings, children: Children, clock: Clock) -> None:
        self.settings = settings
        self._children = children
        self._clock = clock
        self._ports = dict(zip(("proxy", "v1", "v2", "weather"), free_ports(4), strict=True))
        self._state = settings.folder / "state"
        self._v2: Child | None = None
        self._users: Child | None = None
        self._summary: asyncio.Future[dict[str, Any]] | None = None
        self._reading: asyncio.Task[None] | None = None
        self.v2_log = LogTail(settings.folder / "v2.log")

    # ── beginning ───────────────────────────────────────────────────────────────────────────────────────

    async def start(self, say: Callable[[str], None], see_users: Callable[[dict[str, Any]], None]) -> None:
        """Start everything, each when what it needs is there; ChildError where something does not come up."""
        ports, settings = self._ports, self.settings
        self.variant = write_variant(
            settings.folder,
            shipped_plans(),
            listen=ports["proxy"],
            v1=ports["v1"],
            v2=ports["v2"],
            users=settings.users,
        )
        say("starting weather provider, V1 and V2; the first start ever builds the flight data")
        await self._start_services()
        say("starting crossfade serve: controller, collector, proxy and control API")
        await self._start_serve()
        say(f"{settings.users:,} users begin to search, about {settings.rate:.0f} requests/s")
        await self._start_users(see_users)

    async def _start_services(self) -> None:
        weather = await self._tripsearch("weather", "weather-provider", "--port", str(self._ports["weather"]))
        v1 = await self._tripsearch("v1", "v1", *self._serving("v1"))
        self._v2 = await self._start_v2()
        await self._children.healthy(weather, self._url("weather", "/healthz"))
        # V1 makes the data where there are none yet, and V2 waits for it: a minute on a slow machine.
        await self._children.healthy(v1, self._url("v1", "/readyz"), 180.0)
        await self._children.healthy(self._v2, self._url("v2", "/readyz"), 180.0)

    async def _start_v2(self) -> Child:
        breaker = ("--weather-keep", str(WEATHER_KEEP_S), "--breaker-cooldown", str(BREAKER_COOLDOWN_S))
        return await self._tripsearch("v2", "v2", *self._serving("v2"), "--weather", self._url("weather"), *breaker)

    def _serving(self, version: str) -> tuple[str, ...]:
        return ("--port", str(self._ports[version]), "--allow-faults", "--seed", str(self.settings.seed))

    async def _tripsearch(self, name: str, *arguments: str) -> Child:
        return await self._children.start(name, [sys.executable, "-m", "tripsearch", *arguments])

    async def _start_serve(self) -> None:
        speed = self.settings.speed
        flags = ("--state", str(self._state), "--api-port", "0", "--speed", str(speed), "--stop-proxy")
        pace = ("--tick", str(TICK_S * speed), "--lateness", str(LATENESS_S))
        program = [sys.executable, "-c", "from crossfade.app.cli import main; main()"]
        child = await self._children.start("serve", [*program, "serve", str(self.variant.path), *flags, *pace])
        folder = self._state / self.variant.plan.name
        until = self._clock.monotonic() + 60.0
        while True:
            try:
                self.client = Client(local_target(read_control(folder)), timeout_s=5.0)
                await asyncio.to_thread(self.client.get, "")
                return
            except UnreachableError:
                if not child.running or self._clock.monotonic() > until:
                    raise ChildError(f"crossfade serve did not come up: {child.last_words()}") from None
            await self._clock.sleep(0.1)

    async def _start_users(self, see_users: Callable[[dict[str, Any]], None]) -> None:
        settings = self.settings
        status = await asyncio.to_thread(self.client.get, "")
        told = UsersSettings(
            port=self._ports["proxy"],
            path=self.variant.plan.api.entry,
            keys=str(self.variant.keys),
            rate=settings.rate,
            speed=settings.speed,
            plan_now=status["now"],
            seed=settings.seed,
        )
        self._users = await self._children.start("users", command(told, sys.executable), piped=True)
        self._summary = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read_users(self._users, see_users))

    async def _read_users(self, users: Child, see_users: Callable[[dict[str, Any]], None]) -> None:
        stdout = users.process.stdout
        while stdout is not None and (line := await stdout.readline()):
            said = orjson.loads(line)
            if "summary" not in said:
                see_users(said)
            elif self._summary is not None and not self._summary.done():
                self._summary.set_result(said["summary"])

    def _url(self, name: str, path: str = "") -> str:
        return f"http://127.0.0.1:{self._ports[name]}{path}"

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────

    def look(self, after: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the controller's status and the events after a revision; UnreachableError. Blocks."""
        events = list(self.client.pages(f"/events?after={after}&limit=1000", 100_000))
        return self.client.get(""), events

    def gone(self) -> Child | None:
        """Return a process that ended by itself; None while all run."""
        return next(iter(self._children.ended()), None)

    # ── acting ──────────────────────────────────────────────────────────────────────────────────────────

    async def plant_defect(self) -> None:
        """Make V2 fail."""
        await self._control("v2", {"fail_rate": DEFECT})

    async def redeploy(self) -> None:
        """Replace the V2 process by a fresh one, which has no defect."""
        if self._v2 is not None:
            await self._children.stop(self._v2)
        self._v2 = await self._start_v2()
        await self._children.healthy(self._v2, self._url("v2", "/readyz"))

    async def retry(self) -> None:
        """Ask the controller to start again in the phase that was rolled back."""
        await self._verb("retry", "V2 is fixed and redeployed")

    async def approve(self) -> None:
        """Say a person's word."""
        await self._verb("approve", "all other gates have passed")

    async def begin_outage(self) -> None:
        """Make the weather provider hang."""
        await self._control("weather", {"mode": "hang"})

    async def end_outage(self) -> None:
        """Let it answer again."""
        await self._control("weather", {"mode": "normal"})

    async def _verb(self, name: str, reason: str) -> None:
        await asyncio.to_thread(self.client.post, f"/{name}", {"by": "demo", "reason": reason})

    async def _control(self, name: str, wanted: dict[str, object]) -> None:
        await asyncio.to_thread(_put, self._url(name, "/control"), wanted)

    async def stop_users(self, rollbacks: Sequence[tuple[float, float | None]]) -> dict[str, Any]:
        """End the traffic and return what users saw; empty where they do not say it in time."""
        if self._users is None or self._users.process.stdin is None or self._summary is None:
            return {}
        stdin = self._users.process.stdin
        try:
            stdin.write(json.dumps({"rollbacks": rollbacks}).encode() + b"\n")
            await stdin.drain()
            return await asyncio.wait_for(self._summary, 20.0)
        except (TimeoutError, ConnectionError):
            return {}


def _put(url: str, wanted: dict[str, object]) -> None:
    request = urllib.request.Request(  # noqa: S310 - our own loopback service
        url, method="PUT", data=json.dumps(wanted).encode(), headers={"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5.0):
            return
    except OSError as error:
        raise UnreachableError(f"{url} does not take {wanted}: {error}") from None

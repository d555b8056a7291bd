"""The breaker scenarios of phase 1: a real V2 is asked while its dependency is told to misbehave.

V2 is asked itself, not through the proxy, which takes the facts out of the answers. Nobody else may ask this V2
meanwhile: their requests count in the breaker's window too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import orjson

from crossfade.adapters.load import NoAnswerError, Pool, allow_connections
from crossfade.adapters.misbehaviour import Misbehaviour
from crossfade.core.facts import parse_facts
from crossfade.core.rehearsal import breakers as judge
from crossfade.core.rehearsal.breakers import BreakerRules, Finding, Seen, not_set_up
from crossfade.errors import UnreachableError, UsageError
from crossfade.ports import Clock

MISBEHAVIOURS: Final[Mapping[str, Mapping[str, float]]] = {
    "hang": {},
    "slow": {"delay_ms": 2000},
    "fail": {},
    "lie": {"seed": 1},
    "cut": {},
    "flaky": {"rate": 0.6, "seed": 1},
}
"""Modes, with what else the control is told. Under all but flaky no answer of the dependency is good."""
_AT_ONCE: Final = 5  # asked side by side while it misbehaves: the window fills and time-outs overlap
_POLLS: Final = 50  # looks at the breaker in one cooldown
_POLL_S_MIN: Final = 0.01
_REST_DEADLINE_S: Final = 1.0  # an answer of another path that comes later is no throughput


class Crash(Protocol):
    """The dependency's process, where somebody can end and start it."""

    async def kill(self) -> None:
        """End it at once."""

    async def start(self) -> None:
        """Start it again at the same address, and wait until it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRig:
    """What is rehearsed, and how hard."""

    v2: str
    """A question to V2 itself with a good answer: http://127.0.0.1:8102/v2/trips/search?from=JFK&to=LAX&date=..."""
    control: str | None
    """The dependency's control; None: nothing can be told to misbehave, and all is INCONCLUSIVE."""
    others: tuple[str, ...] = ()
    """Questions that have nothing to do with the dependency: V1's, and V2's other paths."""
    rules: BreakerRules = field(default_factory=BreakerRules)
    needed: tuple[str, ...] = ("flights", "hotels")
    """Facts, and fields of the answer where a healthy answer has them."""
    dependency: str = "weather"
    """Its fact; the breaker's is `<dependency>-breaker`."""
    crash: Crash | None = None
    users: int = 1000
    users_within_s: float = 3.0
    """So long it takes until each of them has asked once."""
    good_delay_ms: float = 150.0
    """A delay of the dependency that V2 still waits for."""
    rest_rate: float = 100.0
    """Requests per second to each of the others."""
    rest_s: float = 3.0


def not_rehearsed(why: str) -> Finding:
    """Return that breakers could not be rehearsed at all."""
    return not_set_up("breaker", why, "a V2 with a breaker and a dependency that can be told to misbehave")


async def breaker_scenarios(rig: BreakerRig, clock: Clock) -> AsyncIterator[Finding]:
    """Yield each criterion as it is decided; the dependency is healthy again at the end, also of an interrupted run.

    Raises UsageError for an address that is none.
    """
    if rig.control is None:
        yield not_rehearsed("name the control of V2's dependency, such as http://127.0.0.1:8103/control")
        return
    allow_connections(rig.users)
    with contextlib.closing(_Asking(rig, clock)) as asking:
        try:
            async with Misbehaviour(rig.control) as control:
                run = _Run(rig, clock, asking, control)
                for scenario in run.scenarios():
                    if (why := await run.make_ready()) is not None:
                        yield why
                        return
                    async for finding in scenario():
                        yield finding
        except UnreachableError as error:
            yield not_rehearsed(str(error))


async def as_written_scenario(rig: BreakerRig, clock: Clock) -> AsyncIterator[Finding]:
    """Yield the founding plan's figures, of a V2 and its dependency that were started with `--profile as-written`."""
    if rig.control is None:
        for finding in judge.as_written({}):
            yield finding
        return
    with contextlib.closing(_Asking(rig, clock)) as asking:
        async with Misbehaviour(rig.control) as control:
            await asking.together(rig.rules.probes)  # connections and caches; the first of all answers is a slow one
            await control.tell("slow", delay_ms=judge.AS_WRITTEN_MS["recovery"])
            recovery = await asking.together(rig.rules.probes)
            await control.tell("hang")
            timeouts = await asking.together(rig.rules.window)
            fallbacks = await asking.together(rig.rules.window)
    samples = {
        "recovery": [s for s in recovery if s.dependency == "ok"],
        "timeout": [s for s in timeouts if s.dependency == "fallback"],
        "open": [s for s in fallbacks if s.breaker == "open"],
    }
    measured = {name: _mean_ms(seen) for name, seen in samples.items() if seen}
    if "timeout" in measured and "open" in measured:
        measured["average"] = (measured["timeout"] + measured["open"]) / 2  # as many of the one as of the other
    steps = [control.curl("slow", delay_ms=2000), asking.curl, control.curl("hang"), asking.curl]
    for finding in judge.as_written(measured):
        yield replace(finding, reproduce="; ".join(steps))


class _Run:
    """The scenarios, one after the other; each starts with a healthy dependency and a closed breaker."""

    def __init__(self, rig: BreakerRig, clock: Clock, asking: _Asking, control: Misbehaviour) -> None:
        self._rig, self._rules = rig, rig.rules
        self._clock, self._asking, self._control = clock, asking, control
        self._poll_s = max(_POLL_S_MIN, rig.rules.cooldown_s / _POLLS)

    def scenarios(self) -> Iterable[Callable[[], AsyncIterator[Finding]]]:
        """Return them in their order: what the others rest on comes first."""
        yield self._states
        for mode, more in MISBEHAVIOURS.items():
            yield partial(self._misbehaves, mode, more)
        yield self._crashes
        for state in ("closed", "open", "half_open"):
            yield partial(self._many_users, state)
        yield self._cancelled
        yield self._cascade

    async def make_ready(self) -> Finding | None:
        """Heal the dependency and wait for the breaker; return why the rest can't be rehearsed, or None."""
        await self._control.tell("normal")
        seen = await self._until_closed()
        if seen[-1].breaker is None:
            fact = f"{self._rig.dependency}-breaker"
            why = f"V2 answers {seen[-1].status or 'not'} at {self._rig.v2}, and not with the fact {fact}"
            return replace(not_rehearsed(why), reproduce=self._asking.curl)
        if seen[-1].breaker != "closed":
            return self._told(judge.recovers("breaker recovers", seen, self._rules), "normal")
        if self._asking.learn() is None:
            # The first weather after a start may come too late; that says nothing of the breaker.
            seen += await self._until(lambda s: s.dependency == "ok", most=self._rules.window)
        if self._asking.learn() is None:
            if any(s.missing for s in seen):
                return self._told(judge.keeps_the_rest("healthy: the rest", seen, self._rig.needed), "normal")
            why = f"{self._rig.dependency} is not ok in V2's answers though its control says normal"
            return replace(not_rehearsed(why), reproduce=self._asking.curl)
        return None

    # scenarios

    async def _states(self) -> AsyncIterator[Finding]:
        rules, ask = self._rules, self._asking.one
        for _ in range(rules.window):  # now the window holds good answers alone
            await ask()
        await self._control.tell("fail")
        failing = await self._until(lambda s: s.breaker == "open", most=2 * rules.window)
        yield self._told(judge.opens(failing, rules), "fail")
        seen = list(failing)
        if failing[-1].breaker == "open":
            fallbacks = [await ask() for _ in range(rules.window)]
            yield self._told(judge.answers_at_once(fallbacks, rules), "fail")
            await self._control.tell("normal")
            waiting = await self._until_left_open()
            yield self._told(judge.half_opens(failing[-1], waiting, rules), "normal")
            probing = await self._probe(waiting[-1])
            yield self._told(judge.closes(probing, rules), "normal")
            seen += [*fallbacks, *waiting, *probing]
            if probing and probing[-1].breaker == "closed":
                yield self._told(await self._bad_probe(), "fail")
        yield self._told(judge.keeps_the_rest("breaker states: the rest", seen, self._rig.needed), "fail")
        yield self._told(judge.stays_fast("breaker states: time", seen, rules), "fail")

    async def _probe(self, first: Seen) -> Sequence[Seen]:
        """Return the answers from the first probe on, until it is closed."""
        if first.breaker == "open":
            return ()
        if first.breaker == "closed":
            return (first,)
        rest = await self._until(lambda s: s.breaker != "half_open", most=3 * self._rules.probes)
        return (first, *rest)

    async def _bad_probe(self) -> Finding:
        if not await self._open("fail"):
            return judge.reopens(None, await self._asking.one())
        await self._control.tell("normal")
        half_open = (await self._until_left_open())[-1]
        await self._control.tell("fail")
        return judge.reopens(half_open, await self._asking.one())

    async def _misbehaves(self, mode: str, more: Mapping[str, float]) -> AsyncIterator[Finding]:
        await self._control.tell(mode, **more)
        seen = await self._asking.together(2 * self._rules.window, at_once=_AT_ONCE)
        yield self._told(judge.keeps_the_rest(f"{mode}: the rest", seen, self._rig.needed), mode, more)
        yield self._told(judge.stays_fast(f"{mode}: time", seen, self._rules), mode, more)
        if mode != "flaky":
            finding = judge.believes_nothing_wrong(f"{mode}: {self._rig.dependency}", seen)
            yield self._told(finding, mode, more)

    async def _crashes(self) -> AsyncIterator[Finding]:
        crash = self._rig.crash
        if crash is None:
            yield not_set_up("crash and restart", "nobody can end and start the dependency's process")
            return
        await crash.kill()
        try:
            seen = await self._asking.together(2 * self._rules.window, at_once=_AT_ONCE)
        finally:
            await crash.start()
        reproduce = f"kill -9 the dependency; {self._asking.curl}"
        findings = [
            judge.keeps_the_rest("crash: the rest", seen, self._rig.needed),
            judge.stays_fast("crash: time", seen, self._rules),
            judge.believes_nothing_wrong(f"crash: {self._rig.dependency}", seen),
            judge.recovers("crash and restart", await self._until_closed(), self._rules),
        ]
        for finding in findings:
            yield replace(finding, reproduce=reproduce)

    async def _many_users(self, state: str) -> AsyncIterator[Finding]:
        name = f"{self._rig.users:,} users, breaker {state}"
        mode = "normal" if state == "closed" else "hang"
        if state != "closed" and not await self._open(mode):
            yield self._told(not_set_up(name, "the breaker did not open"), mode)
            return
        if state == "half_open":
            mode = "slow"
            await self._control.tell(mode, delay_ms=self._rig.good_delay_ms)
            await self._clock.sleep(self._rules.cooldown_s)
        seen = await self._asking.within(self._rig.users, self._rig.users_within_s)
        if not any(s.breaker == state for s in seen):
            yield self._told(not_set_up(name, "the breaker was in another state when they asked"), mode)
        yield self._told(judge.keeps_the_rest(f"{name}: the rest", seen, self._rig.needed), mode)
        yield self._told(judge.stays_fast(f"{name}: time", seen, self._rules), mode)

    async def _cancelled(self) -> AsyncIterator[Finding]:
        """Clients leave while their probes are under way; their places must be given to others."""
        if not await self._open("fail"):
            yield self._told(not_set_up("clients that leave", "the breaker did not open"), "fail")
            return
        await self._control.tell("slow", delay_ms=self._rig.good_delay_ms)
        await self._clock.sleep(self._rules.cooldown_s)
        await asyncio.gather(*(self._asking.leave() for _ in range(4 * self._rules.probes)))
        await self._control.tell("normal")
        seen = await self._until_closed()
        yield self._told(judge.recovers("clients that leave", seen, self._rules), "slow")
        yield self._told(judge.keeps_the_rest("clients that leave: the rest", seen, self._rig.needed), "slow")

    async def _cascade(self) -> AsyncIterator[Finding]:
        """The same load on V2 twice, with the dependency healthy and hung, and what other paths answer meanwhile."""
        if not self._rig.others:
            yield not_set_up("no cascade", "no path is named that has nothing to do with the dependency")
            return
        healthy = await self._rest_answered()
        await self._control.tell("hang")
        hung = await self._rest_answered()
        for url, before, after in zip(self._rig.others, healthy, hung, strict=True):
            finding = judge.keeps_throughput(f"no cascade: {urlsplit(url).path}", before, after)
            yield replace(finding, reproduce=f"{self._control.curl('hang')}; curl -i '{url}'")

    # their steps

    async def _rest_answered(self) -> Sequence[int]:
        rig = self._rig
        count = max(1, round(rig.rest_rate * rig.rest_s))
        v2 = asyncio.create_task(self._asking.within(count, rig.rest_s))
        answered = await asyncio.gather(*(_answered(url, count, rig.rest_s, self._clock) for url in rig.others))
        await v2
        return answered

    async def _open(self, mode: str) -> bool:
        """Fill the window with failures; return whether that opened it."""
        await self._control.tell(mode)
        await self._asking.together(2 * self._rules.window)
        return (await self._asking.one()).breaker == "open"

    async def _until(self, found: Callable[[Seen], bool], *, most: int) -> list[Seen]:
        """Ask until an answer is `found`, one after the other, `most` times at most."""
        seen = []
        for _ in range(most):
            seen.append(await self._asking.one())
            if found(seen[-1]):
                break
        return seen

    async def _until_left_open(self) -> list[Seen]:
        return await self._patiently(lambda s: s.breaker != "open", self._rules.cooldown_s + self._rules.late_s)

    async def _until_closed(self) -> list[Seen]:
        patience_s = self._rules.cooldown_s + self._rules.late_s
        return await self._patiently(lambda s: s.breaker in {"closed", None}, patience_s)

    async def _patiently(self, found: Callable[[Seen], bool], seconds: float) -> list[Seen]:
        """Ask now and then until an answer is `found`, for a little longer than so many seconds."""
        begun, seen = self._clock.monotonic(), [await self._asking.one()]
        while not found(seen[-1]) and seen[-1].sent_s - begun <= seconds + self._poll_s:
            if seen[-1].breaker == "open":
                await self._clock.sleep(self._poll_s)
            seen.append(await self._asking.one())
        return seen

    def _told(self, finding: Finding, mode: str, more: Mapping[str, float] | None = None) -> Finding:
        return replace(finding, reproduce=f"{self._control.curl(mode, **(more or {}))}; {self._asking.curl}")


class _Asking:
    """One question to V2, asked in many ways."""

    def __init__(self, rig: BreakerRig, clock: Clock) -> None:
        self._rig, self._clock = rig, clock
        self._address, self._request = _request(rig.v2)
        self._pool = Pool(*self._address, clock)
        self._healthy: Mapping[str, Any] | None = None
        self._last_good: Mapping[str, Any] | None = None
        self.curl = f"curl -i '{rig.v2}'"

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()

    def learn(self) -> Mapping[str, Any] | None:
        """Take what the last healthy answer held for what every answer must hold; None: there was none."""
        if self._healthy is None:
            self._healthy = self._last_good
        return self._healthy

    async def one(self) -> Seen:
        """Ask once."""
        return await self._ask(self._clock.monotonic())

    async def together(self, count: int, *, at_once: int | None = None) -> Sequence[Seen]:
        """Ask `count` times, `at_once` (all) side by side; return the answers as they were asked."""
        places = asyncio.Semaphore(at_once or count)

        async def one() -> Seen:
            async with places:
                return await self.one()

        return await asyncio.gather(*(one() for _ in range(count)))

    async def within(self, count: int, seconds: float) -> Sequence[Seen]:
        """Ask `count` times, evenly over so many seconds, whatever comes back; times count from when it was due."""
        begun = self._clock.monotonic()

        async def one(due: float) -> Seen:
            await self._clock.sleep(max(0.0, due - self._clock.monotonic()))
            return await self._ask(due)

        return await asyncio.gather(*(one(begun + seconds * i / count) for i in range(count)))

    async def leave(self) -> None:
        """Ask and go before the answer."""
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(*self._address)
            writer.write(self._request)
            await writer.drain()
            writer.close()

    async def _ask(self, sent_s: float) -> Seen:
        try:
            answer = await self._pool.ask(self._request)
        except NoAnswerError:
            return Seen(sent_s=sent_s, came_s=self._clock.monotonic(), status=0)
        said = dict(parse_facts(answer.headers.get(b"crossfade-facts", b"").decode("latin-1")).values)
        body = _object(answer.body) if answer.status == 200 else {}
        seen = Seen(
            sent_s=sent_s,
            came_s=answer.at,
            status=answer.status,
            missing=self._missing(said, body) if answer.status == 200 else (),
            dependency=said.get(self._rig.dependency),
            breaker=said.get(f"{self._rig.dependency}-breaker"),
        )
        if seen.status == 200 and not seen.missing and seen.dependency == "ok":
            self._last_good = body
        return seen

    def _missing(self, said: Mapping[str, str], body: Mapping[str, Any]) -> tuple[str, ...]:
        """What the facts deny, or the body has otherwise than the healthy answer to the same question."""
        healthy = self._healthy or {}
        return tuple(
            name
            for name in self._rig.needed
            if said.get(name) != "1" or (name in healthy and body.get(name) != healthy[name])
        )


async def _answered(url: str, count: int, seconds: float, clock: Clock) -> int:
    """Ask `count` times, evenly over so many seconds, and return how many were answered well and in time."""
    address, request = _request(url)
    begun = clock.monotonic()
    with contextlib.closing(Pool(*address, clock, timeout_s=_REST_DEADLINE_S)) as pool:

        async def one(due: float) -> bool:
            await clock.sleep(max(0.0, due - clock.monotonic()))
            try:
                return (await pool.ask(request)).status == 200
            except NoAnswerError:
                return False

        return sum(await asyncio.gather(*(one(begun + seconds * i / count) for i in range(count))))


def _request(url: str) -> tuple[tuple[str, int], bytes]:
    """Return whom to ask, and the request; UsageError where it is no http address."""
    try:
        parts = urlsplit(url)
        port = parts.port or 80
        target = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        request = f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: application/json\r\n\r\n".encode("ascii")
    except ValueError:
        raise UsageError(f"{url!r} can't be asked; write such as http://127.0.0.1:8102/v2/trips/search") from None
    if parts.scheme != "http" or not parts.hostname or "@" in parts.netloc:
        raise UsageError(f"{url!r} can't be asked; write such as http://127.0.0.1:8102/v2/trips/search")
    return (parts.hostname, port), request


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _mean_ms(seen: Sequence[Seen]) -> float:
    return sum(s.milliseconds for s in seen) / len(seen)

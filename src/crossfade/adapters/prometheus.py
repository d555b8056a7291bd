"""Counts from a Prometheus: asked once per interval, at its end, for both versions; what can't be told is said.

Each metric's two queries are instant queries, evaluated at the end of whole intervals (multiples of the plan's
`every`) once the lateness has passed, so that the last scrape has arrived. The asking is a task of its own under a
deadline: a server that hangs delays nothing but its own counts.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from string import Template

import aiohttp
import orjson

from crossfade.core.evidence.sums import Arm, Cell, Tick, merge_ticks
from crossfade.core.plan import Metric, Query, Source
from crossfade.core.split import Version
from crossfade.ports import Clock

log = logging.getLogger("crossfade.prometheus")

DEADLINE_S = 10.0
"""Real seconds for all questions of an interval; a shorter interval allows less."""
ANSWER_BYTES = 1 << 20
_REASON_LENGTH = 200
_EXTRAPOLATED = 1.05
"""`increase` guesses at the edges of its interval, so a part may come out a little greater than the whole."""


class _NoCountsError(Exception):
    """Why an answer holds no count."""


class Prometheus:
    """Keeps `ports.MetricsSource`."""

    def __init__(self, source: Source, metrics: Sequence[Metric], *, clock: Clock, lateness_s: float) -> None:
        """Ask `source` for those of the metrics that are its own, `lateness_s` real seconds after each interval."""
        self._source = source
        self._queries = {
            metric.name: metric.query for metric in metrics if metric.query and metric.query.source == source.name
        }
        self._clock = clock
        self._lateness_s = lateness_s
        self._cells: dict[Arm, Cell] = {}
        self._unanswered: dict[str, str] = {}
        self._said: dict[str, str] = {}
        """What was logged last, by metric."""
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to ask; a server that is away is no error."""
        headers = {"Authorization": f"Bearer {self._source.token}"} if self._source.token else {}
        self._session = aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=8))
        self._task = asyncio.create_task(self._ask_on(self._session), name=self._source.name)

    async def close(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._session is not None:
            await self._session.close()

    def add_to(self, tick: Tick) -> Tick:
        """Return a closed tick with the counts that have come since the one before."""
        if not tick.sources:
            return tick
        cells, self._cells = self._cells, {}
        unanswered, self._unanswered = self._unanswered, {}
        more = Tick(number=tick.number, start=tick.start, length=tick.length, cells=cells, unanswered=unanswered)
        return merge_ticks(tick, more) if cells or unanswered else tick

    # ── asking ──────────────────────────────────────────────────────────────────────────────────────────

    async def _ask_on(self, session: aiohttp.ClientSession) -> None:
        every, late = self._source.every_s, self._lateness_s * self._clock.speed
        end = math.ceil(self._clock.now() / every) * every
        while True:
            wait = end + late - self._clock.now()
            if wait > late + 2 * every:  # the clock was set back
                end = math.ceil(self._clock.now() / every) * every
                continue
            if wait > 0:
                # in pieces: a clock that is stepped meanwhile must not leave us asleep
                await self._clock.sleep(min(wait, every) / self._clock.speed)
                continue
            await self._ask(session, end)
            newest = math.floor((self._clock.now() - late) / every) * every
            end = max(end + every, newest)

    async def _ask(self, session: aiohttp.ClientSession, end: float) -> None:
        """Ask for the interval that ended at `end` (plan time) and keep what was told."""
        real = self._source.every_s / self._clock.speed
        wall = (end - self._clock.plan_time(0.0)) / self._clock.speed
        found = await asyncio.gather(
            *(self._count(session, query, wall, real) for query in self._queries.values()), return_exceptions=True
        )
        for name, counts in zip(self._queries, found, strict=True):
            if isinstance(counts, _NoCountsError):
                self._note(name, str(counts))
            elif isinstance(counts, BaseException):
                log.error("%s: asking failed", name, exc_info=counts)
                self._note(name, type(counts).__name__)
            else:
                self._keep(name, counts)

    async def _count(
        self, session: aiohttp.ClientSession, query: Query, wall: float, real_s: float
    ) -> Mapping[Version, tuple[float, float]]:
        """Return (total, bad) by version; raises _NoCountsError where anything of it can't be told."""
        interval = f"{real_s:.0f}s" if real_s == int(real_s) else f"{real_s * 1000:.0f}ms"
        wanted = [(version, what, text) for version in Version for what, text in _texts(query)]
        try:
            async with asyncio.timeout(min(DEADLINE_S, real_s)):
                values = await asyncio.gather(
                    *(
                        self._value(session, Template(text).substitute(version=version, interval=interval), wall)
                        for version, _, text in wanted
                    ),
                    return_exceptions=True,
                )
        except TimeoutError:
            raise _NoCountsError(f"no answer within {min(DEADLINE_S, real_s):g} s") from None
        told: dict[tuple[Version, str], float] = {}
        for (version, what, _), value in zip(wanted, values, strict=True):
            if isinstance(value, _NoCountsError):
                raise _NoCountsError(f"{version.upper()}, {what}: {value}")
            if isinstance(value, BaseException):
                raise value
            told[version, what] = value
        return {version: (told[version, "total"], told[version, "bad"]) for version in Version}

    async def _value(self, session: aiohttp.ClientSession, query: str, wall: float) -> float:
        asked = {"query": query, "time": f"{wall:.3f}"}
        try:
            # never redirected: the token is for this server
            async with session.post(f"{self._source.url}/api/v1/query", data=asked, allow_redirects=False) as answer:
                body = bytearray()
                async for chunk in answer.content.iter_any():
                    body += chunk
                    if len(body) > ANSWER_BYTES:
                        raise _NoCountsError("the answer is too long for one number")
                return _read(answer.status, bytes(body))
        except (aiohttp.ClientError, OSError) as error:
            raise _NoCountsError(_short(str(error) or type(error).__name__)) from None

    # ── keeping ─────────────────────────────────────────────────────────────────────────────────────────

    def _keep(self, name: str, counts: Mapping[Version, tuple[float, float]]) -> None:
        for version, (total, bad) in counts.items():
            if bad > max(total * _EXTRAPOLATED, total + 1):
                self._note(name, f"{version.upper()}: {bad:g} bad ones are more than the {total:g} there were")
                return
        empty = [version.upper() for version, (total, _) in counts.items() if round(total) < 1]
        for version, (total, bad) in counts.items():
            units = round(total)  # `increase` guesses fractions
            if units >= 1:
                share = min(1.0, bad / total)
                self._cells.setdefault(Arm(version, "", ""), Cell()).add(Cell(outcomes={name: (units, units * share)}))
        if empty:
            self._note(name, f"{' and '.join(empty)}: counted nothing")
        elif self._said.pop(name, ""):
            self._unanswered.pop(name, None)
            log.info("%s: %s tells again", name, self._source.name)

    def _note(self, name: str, reason: str) -> None:
        self._unanswered[name] = reason
        if self._said.get(name) != reason:
            log.warning("%s: %s gave no counts: %s", name, self._source.name, reason)
        self._said[name] = reason


def _texts(query: Query) -> tuple[tuple[str, str], ...]:
    return ("total", query.total), ("bad", query.bad)


def _read(status: int, body: bytes) -> float:
    """Return the one number of an answer; raises _NoCountsError where it has none that is a count."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise _NoCountsError(f"HTTP {status}" if status != 200 else "the answer is no JSON of a Prometheus")
    if status != 200 or answer.get("status") != "success":
        raise _NoCountsError(_short(f"HTTP {status}: {answer.get('error') or 'without an error'}"))
    return _number(answer.get("data"))


def _number(data: object) -> float:
    kind, result = (data.get("resultType"), data.get("result")) if isinstance(data, dict) else (None, None)
    if kind == "vector" and isinstance(result, list):
        if not result:
            raise _NoCountsError("no series; write `... or vector(0)` where none means 0")
        if len(result) > 1:
            raise _NoCountsError(f"{len(result)} series; write sum(...)")
        result = result[0].get("value") if isinstance(result[0], dict) else None
    elif kind != "scalar":
        raise _NoCountsError(
            f"a {kind} is no number; write a query of one series" if kind else "an answer without data"
        )
    try:
        value = float(result[1])  # type: ignore[index]  # whatever is no pair is caught
    except (TypeError, ValueError, IndexError, KeyError):
        raise _NoCountsError("a series without a number") from None
    if not math.isfinite(value) or value < 0:
        raise _NoCountsError(f"{value:g} is no count".replace("nan", "NaN"))
    return value


def _short(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)[:_REASON_LENGTH]

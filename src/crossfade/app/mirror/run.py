"""Asks and compares. One entry, `mirror`, for the command and for whoever has a mirror as one of several parts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from crossfade.adapters.mirror import Asker
from crossfade.app.mirror.questions import Question
from crossfade.core.mirror.compare import Answer
from crossfade.core.mirror.judge import Line, judge, needed, verdict_of
from crossfade.core.mirror.rules import Mirror, Reference
from crossfade.core.mirror.tally import Tally
from crossfade.core.plan import Plan, Upstream
from crossfade.core.verdict import Verdict, combine
from crossfade.errors import UnreachableError
from crossfade.ports import Clock

AGENT = "crossfade-mirror"
"""User-Agent of what is asked, unless the question has its own."""
LOOK_EVERY = 200
"""Questions between two looks at whether the verdict is certain."""
GONE_AFTER = 20
"""So many questions in a row without an answer, and a version is taken to be gone."""
SLACK_S = 0.1
"""How much of the time that a wait for answers took is made up for: the rate is a cap, after a stall as well."""
IN_FLIGHT_MAX = 32
"""Questions under way: a version that hangs is not asked more and more."""
_IDLE_S = 0.1
"""Wait for the next look at whether a question has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where the versions answer: what stands before a question's rest, by turns."""

    v1: tuple[str, ...]
    v2: tuple[str, ...]

    @classmethod
    def of(cls, plan: Plan) -> Places:
        """Return the plan's own services."""
        return cls(v1=_urls(plan.api.v1), v2=_urls(plan.api.v2))


def _urls(upstream: Upstream) -> tuple[str, ...]:
    return tuple(f"http://{server}{upstream.path.rstrip('/')}" for server in upstream.upstreams)


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorReport:
    """What a mirror came to."""

    verdict: Verdict
    sentence: str
    """The verdict's reason, with its figures."""
    places: Places
    entry: str
    """Where questions begin, without a slash at the end."""
    rules: Mirror
    lines: tuple[Line, ...]
    """Every field, bound and field of the reference, the worst first."""
    asked: int
    """Questions."""
    compared: int
    lasted_s: float
    partial: str = ""
    """Why it ended before its end; empty where it didn't."""
    not_compared: Mapping[str, int] = field(default_factory=dict)
    """Questions that V1's answers gave nothing to compare for, by why."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Recorded requests that were not asked, by why."""


@dataclass(slots=True)
class Running:
    """A mirror as it runs: its sums so far, and the way to end it."""

    tally: Tally
    asked: int = 0
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    why: str = ""

    def stop(self, why: str = "stopped by a person") -> None:
        """Ask nothing more; what was asked makes a partial report."""
        if not self.stopped.is_set():
            self.why = why
            self.stopped.set()


async def mirror(
    plan: Plan,
    questions: Iterator[Question | None],
    clock: Clock,
    *,
    places: Places | None = None,
    rate: float | None = None,
    for_s: float | None = None,
    timeout_s: float = 10.0,
    left_out: Mapping[str, int] | None = None,
    started: Callable[[Running], None] = lambda _: None,
) -> MirrorReport:
    """Ask every question of V1 twice and of V2 once, all at the same time, and judge what differs.

    None among the questions: there is none at the moment. It ends with the questions, after `for_s` real seconds, or,
    where that is None, as soon as the verdict is certain. `rate` is in questions per second (default: the plan's),
    `left_out` is read at the end. `started` is handed the running mirror before the first question. UnreachableError
    where a version does not answer at the start; who goes away later makes the report partial.
    """
    rules = plan.mirror or Mirror()
    places = places or Places.of(plan)
    running = Running(Tally(rules))
    started(running)
    begun = clock.monotonic()
    async with Asker(timeout_s=timeout_s) as asker:
        await _reach(asker, places)
        work = _Work(plan, rules, places, asker, running)
        await work.all(questions, clock, rate or rules.rate, for_s)
    lines = work.lines()
    verdict = verdict_of(lines, running.tally.compared)
    if running.why:
        verdict = combine([verdict, Verdict.INCONCLUSIVE])
    return MirrorReport(
        verdict=verdict,
        sentence=sentence_of(verdict, lines, running.tally.compared, rules.limit, partial=running.why)
        if running.asked
        else "nothing was asked: no question came" + (f"; it ended early: {running.why}" if running.why else ""),
        places=places,
        entry=plan.api.entry.rstrip("/"),
        rules=rules,
        lines=lines,
        asked=running.asked,
        compared=running.tally.compared,
        lasted_s=clock.monotonic() - begun,
        partial=running.why,
        not_compared=dict(running.tally.not_compared.most_common()),
        left_out=dict(left_out or {}),
    )


def sentence_of(verdict: Verdict, lines: tuple[Line, ...], compared: int, limit: float, *, partial: str = "") -> str:
    """Return a verdict's reason."""
    worst = [line for line in lines if line.verdict is verdict]
    ended = f"; it ended early: {partial}" if partial else ""
    if not compared:
        return f"nothing was compared: V1 gave no answers to compare with{ended}"
    match verdict:
        case Verdict.FAIL | Verdict.BLIND:
            more = f"; and {len(worst) - 1} more" if len(worst) > 1 else ""
            said = f"{worst[0].path}: {worst[0].said}{more}"
        case Verdict.PASS:
            judged = sum(line.verdict is not None for line in lines)
            said = f"V2 answers {compared:,} questions as V1 does: each of {judged} fields in all but {limit * 100:g} %"
        case _ if worst and worst[0].differing:
            said = f"{worst[0].path}: {worst[0].said}, too few to tell whether it is more than {limit * 100:g} %"
        case _:
            said = f"{compared:,} questions show nothing yet: below {limit * 100:g} % takes {needed(limit):,} or more"
    return said + ended


async def _reach(asker: Asker, places: Places) -> None:
    for version, urls in (("V1", places.v1), ("V2", places.v2)):
        for url in urls:
            answer = await asker.ask("HEAD", url, {"User-Agent": AGENT})
            if answer.trouble and not answer.status:
                parts = urlsplit(url)
                raise UnreachableError(f"{version} at {parts.netloc}: {answer.trouble}; start it first")


class _Work:
    """One run."""

    def __init__(self, plan: Plan, rules: Mirror, places: Places, asker: Asker, running: Running) -> None:
        self._rules, self._asker, self._running = rules, asker, running
        self._turns = cycle([(one, two) for one in places.v1 for two in places.v2])
        self._confidence = plan.confidence
        self._silent = {"V1": 0, "V2": 0}
        self._defect: Exception | None = None

    def lines(self) -> tuple[Line, ...]:
        """Judge what was compared so far."""
        return judge(
            self._running.tally,
            self._rules,
            false_pass=self._confidence.false_promotion,
            false_fail=self._confidence.false_rollback,
        )

    async def all(self, questions: Iterator[Question | None], clock: Clock, rate: float, for_s: float | None) -> None:
        """Ask until there is no more to ask, time is over, the verdict is certain, or somebody stops it."""
        stopping: asyncio.Task[Any] = asyncio.create_task(self._running.stopped.wait())
        tasks: set[asyncio.Task[Any]] = set()
        begun = due = clock.monotonic()
        try:
            for question in questions:
                now, number = clock.monotonic(), self._running.asked
                if question is None:
                    if (for_s is not None and now - begun >= for_s) or await self._stopped(stopping, tasks, _IDLE_S):
                        break
                    continue
                due = max(due + 1 / rate, now - SLACK_S) if number else now
                wait = due - now
                over = for_s is not None and max(due, now) - begun >= for_s
                if over or await self._stopped(stopping, tasks, wait) or (for_s is None and self._is_certain(number)):
                    break
                self._running.asked += 1
                task = asyncio.create_task(self._ask(question))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            while tasks and not stopping.done():
                await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in (stopping, *tasks):
                one.cancel()
            await asyncio.gather(stopping, *tasks, return_exceptions=True)
        if self._defect is not None:
            raise self._defect

    @staticmethod
    async def _stopped(stopping: asyncio.Task[Any], tasks: set[asyncio.Task[Any]], wait: float) -> bool:
        """Wait for the next turn and for room; tell whether the mirror was stopped in the meantime."""
        if wait > 0:
            await asyncio.wait([stopping], timeout=wait)
        while len(tasks) >= IN_FLIGHT_MAX and not stopping.done():
            await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        return stopping.done()

    def _is_certain(self, number: int) -> bool:
        if not number or number % LOOK_EVERY:
            return False
        return verdict_of(self.lines(), self._running.tally.compared) in (Verdict.PASS, Verdict.FAIL)

    async def _ask(self, question: Question) -> None:
        first, second = next(self._turns)
        headers = {"User-Agent": AGENT, **question.headers, **self._rules.with_headers}
        urls = (first, first, second)
        asking = [self._asker.ask(question.method, url + question.rest, headers) for url in urls]
        if self._rules.reference is not None:
            asking.append(self._asker.ask("GET", reference_url(self._rules.reference, question.shown), {}))
        v1, again, v2, *true = await asyncio.gather(*asking)
        try:
            self._running.tally.take(question.shown, v1, again, v2, true[0] if true else None)
        except Exception as error:  # noqa: BLE001 - a defect of ours, which the run ends with
            self._defect = error
            self._running.stop("a defect of the mirror")
        self._notice("V1", v1)
        self._notice("V2", v2)

    def _notice(self, version: str, answer: Answer) -> None:
        silent = bool(answer.trouble) and not answer.status
        self._silent[version] = self._silent[version] + 1 if silent else 0
        if self._silent[version] >= GONE_AFTER:
            self._running.stop(f"{version} stopped answering ({answer.trouble})")


def reference_url(reference: Reference, question: str) -> str:
    """Return what is asked of the reference for a question; a parameter that it lacks is empty."""
    url = reference.url
    given = dict(parse_qsl(urlsplit(question).query, keep_blank_values=True))
    with contextlib.suppress(ValueError):
        while "{" in url:
            begin, end = url.index("{"), url.index("}")
            url = url[:begin] + quote(given.get(url[begin + 1 : end], ""), safe="") + url[end + 1 :]
    return url

"""`crossfade mirror`: read, ask, compare, report."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import click

from crossfade.adapters.system import SystemClock
from crossfade.app.commands import say
from crossfade.app.mirror.follow import Following
from crossfade.app.mirror.questions import Question, Questions, drawn, recorded
from crossfade.app.mirror.report import as_data, as_text
from crossfade.app.mirror.run import MirrorReport, Places, Running, mirror
from crossfade.app.planfile import load_plan, quantities
from crossfade.app.planfile.mirror import mirror_rate
from crossfade.core.mirror.rules import Mirror
from crossfade.core.plan import Plan
from crossfade.core.verdict import Verdict
from crossfade.errors import UsageError
from crossfade.ports import Clock

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorOptions:
    """The command's words, as typed."""

    plan: Path
    requests: Path | None = None
    follow: Path | None = None
    sample: str | None = None
    rate: str | None = None
    for_: str | None = None
    v1: str | None = None
    v2: str | None = None
    timeout_s: float = 10.0
    seed: int = 1


def run_mirror(options: MirrorOptions, output: str) -> int:
    """Carry it out and print the report; return the exit code: 0 for PASS, else 1.

    PlanError or UsageError where the words make no sense; UnreachableError where a version does not answer.
    """
    plan = load_plan(options.plan)
    clock = SystemClock()
    places = Places.of(plan)
    places = Places(
        v1=places.v1 if options.v1 is None else _place("--v1", options.v1, plan.api.v1.path),
        v2=places.v2 if options.v2 is None else _place("--v2", options.v2, plan.api.v2.path),
    )
    questions, left_out = _questions(options, plan, clock, places)
    rate = None if options.rate is None else _read("--rate", options.rate, mirror_rate)
    for_s = None if options.for_ is None else _read("--for", options.for_, quantities.positive_duration)

    async def run() -> MirrorReport:
        return await mirror(
            plan,
            questions,
            clock,
            places=places,
            rate=rate,
            for_s=for_s,
            timeout_s=options.timeout_s,
            left_out=left_out,
            started=_stop_on_signals,
        )

    report = asyncio.run(run())
    data = as_data(report, plan.name)
    say(output, data, as_text(data))
    return 0 if report.verdict is Verdict.PASS else 1


def _questions(
    options: MirrorOptions, plan: Plan, clock: Clock, places: Places
) -> tuple[Iterator[Question | None], Mapping[str, int]]:
    if options.follow is not None:
        if options.requests is not None:
            raise UsageError("--follow and --requests are two places to take questions from; give one")
        sample = 1.0 if options.sample is None else _read("--sample", options.sample, _some)
        reading = Questions(plan, plan.mirror or Mirror())
        following = Following(reading, options.follow, places, clock, share=sample, timeout_s=options.timeout_s)
        click.echo(f"asking {sample * 100:g} % of what {options.follow} gets from now on; Ctrl-C ends it", err=True)
        return iter(following), reading.left_out
    if options.sample is not None:
        raise UsageError("--sample is of what a log gets; give --follow as well")
    if options.requests is None:
        return drawn(plan, options.seed, clock.now()), {}
    return recorded(plan, options.requests)


def _stop_on_signals(running: Running) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.stop)


def _some(text: str) -> float:
    share = quantities.share(text)
    if not share:
        raise ValueError(f"{text} is nobody; write such as 10%")
    return share


def _place(flag: str, url: str, path: str) -> tuple[str, ...]:
    """Return where to ask: an origin gets the plan's path, a URL with a path is kept."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
        _ = parts.port
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise UsageError(f"{flag} {url!r} is no place to ask; write such as http://127.0.0.1:8102")
    return (f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or path.rstrip('/')}",)


def _read(flag: str, text: str, read: Callable[[str], _T]) -> _T:
    try:
        return read(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None

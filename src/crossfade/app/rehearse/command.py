"""`crossfade rehearse`: run the parts, keep each, report."""

from __future__ import annotations

import asyncio
import hashlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click
import orjson

from crossfade.adapters.system import SystemClock
from crossfade.app.client import Client
from crossfade.app.commands import client_of, record_rehearsal, say
from crossfade.app.load.command import fast_loop
from crossfade.app.mirror.questions import recorded
from crossfade.app.planfile import load_plan, rehearsal_digest
from crossfade.app.rehearse.crash import Commands, read_commands
from crossfade.app.rehearse.kept import Kept
from crossfade.app.rehearse.page import as_html, as_text
from crossfade.app.rehearse.parts import QUICK, WHOLE, Progress, Stage, run_part
from crossfade.app.terminal.escaped import escaped
from crossfade.core.plan import Plan
from crossfade.core.rehearsal.report import Criterion, Part, PartName, Report, as_data
from crossfade.core.verdict import Verdict
from crossfade.errors import UnreachableError, UsageError
from crossfade.ports import Clock

EXIT_CODES: Final = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: 5}
STOPPED: Final = "stopped by a person"


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearseOptions:
    """The command's words, as typed."""

    plan: Path
    only: tuple[str, ...] = ()
    resume: bool = False
    out: Path | None = None
    quick: bool = False
    seed: int = 1
    record: bool = False
    state: Path = Path(".crossfade")
    reason: str = ""
    end_dependency: str = ""
    start_dependency: str = ""
    requests: Path | None = None


def run_rehearse(options: RehearseOptions, output: str) -> int:
    """Carry it out and print the report; return the exit code: 0 PASS, 1 FAIL, 5 INCONCLUSIVE.

    PlanError or UsageError where the words make no sense; with `record` UnreachableError where no controller answers,
    before anything is tried. What else can't be reached makes its part INCONCLUSIVE.
    """
    plan = load_plan(options.plan)
    if options.requests is not None:
        recorded(plan, options.requests)  # before anything is tried
    controller = _controller(options, plan)
    clock = SystemClock()
    crash = _crash(options, plan, clock)
    kept = Kept(options.out or Path(f"rehearsal-{plan.name}"))
    stage = Stage(
        plan,
        options.plan,
        clock,
        extent=QUICK if options.quick else WHOLE,
        seed=options.seed,
        crash=crash,
        requests=options.requests,
    )
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        report = runner.run(_rehearse(options, stage, kept, clock))
    kept.report(report, as_html(report))
    if output == "html":
        click.echo(as_html(report))
    else:
        say(output, as_data(report), as_text(report))
    if controller is not None:
        click.echo(escaped(_recorded(controller, report, options.reason)), err=True)
    return EXIT_CODES[report.outcome]


def _controller(options: RehearseOptions, plan: Plan) -> Client | None:
    """Return who the report is handed over to; None where nobody asked for it."""
    if not options.record:
        return None
    if options.quick:
        raise UsageError("a quick rehearsal is no evidence and can't be recorded; leave --quick or --record out")
    client = client_of(plan.name, options.state)
    carried = client.get("")["rollout"]
    if carried != plan.name:
        raise UsageError(f"{carried} is carried out there, and not {plan.name}, whose rehearsal this would be")
    return client


def _crash(options: RehearseOptions, plan: Plan, clock: Clock) -> Commands | None:
    if not (options.end_dependency or options.start_dependency):
        return None
    if plan.rehearsal.breaker is None:
        raise UsageError("the plan has no `rehearsal.breaker`, so no dependency that could crash")
    return read_commands(options.end_dependency, options.start_dependency, plan.rehearsal.breaker.control, clock)


def _recorded(controller: Client, report: Report, reason: str) -> str:
    stopped = any(part.partial == STOPPED for part in report.parts)
    if stopped or (report.missing and report.peak is None):
        return "not recorded: the rehearsal is not at its end; go on with --resume --record"
    return record_rehearsal(controller, as_data(report), reason)


async def _rehearse(options: RehearseOptions, stage: Stage, kept: Kept, clock: Clock) -> Report:
    now = clock.now()
    head = Report(
        plan=stage.plan.name,
        digest=rehearsal_digest(stage.plan),
        began=now,
        ended=now,
        parts=(),
        versions=await _versions(stage),
        quick=options.quick,
    )
    ended: dict[PartName, Part] = {}
    if options.resume:
        head = replace(kept.resume(head), versions=head.versions)
        ended = kept.ended()
    else:
        kept.begin(head)
    wanted = [name for name in PartName if name not in ended and name in (options.only or PartName)]
    stopped = _stopped_by_signals()
    with _shown(len(wanted)) as showing:
        for name in wanted:
            if stopped.is_set():
                break
            ended[name] = await _part(name, stage, stopped, clock, showing)
            kept.keep(ended[name])
            showing.ended(ended[name])
    in_order = tuple(ended[name] for name in PartName if name in ended)
    # Going on where nothing is left to be done makes it no younger.
    last = max((part.ended for part in in_order), default=clock.now())
    return replace(head, ended=last, parts=in_order)


async def _part(name: PartName, stage: Stage, stopped: asyncio.Event, clock: Clock, showing: _Showing) -> Part:
    """Run a part to its end, or until somebody stops it; what it began is ended then."""
    began = clock.now()
    progress = Progress(told=lambda criterion: showing.told(name, criterion))
    showing.began(name)
    running = asyncio.create_task(run_part(name, stage, progress))
    stopping = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        if not running.done():
            running.cancel()
            progress.partial = STOPPED
    with suppress(asyncio.CancelledError):
        await running
    return Part(
        name=name,
        criteria=tuple(progress.criteria),
        began=began,
        ended=clock.now(),
        partial=progress.partial,
        notes=tuple(progress.notes),
    )


async def _versions(stage: Stage) -> Mapping[str, str]:
    """Return a digest of what each version promises; nothing where that can't be read, which the parts tell of."""
    try:
        documents = await stage.documents()
    except (UnreachableError, UsageError):
        return {}
    found = {}
    for version, read in documents.items():
        held = {uri: text.value for uri, text in read.texts.items()}
        found[version] = hashlib.sha256(orjson.dumps(held, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return found


def _stopped_by_signals() -> asyncio.Event:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    return stopped


@dataclass(frozen=True, slots=True)
class _Showing:
    """What people see while it runs, on standard error."""

    began: Callable[[PartName], None]
    told: Callable[[PartName, Criterion], None]
    ended: Callable[[Part], None]


@contextmanager
def _shown(parts: int) -> Iterator[_Showing]:
    """Show a bar and a line for each part; where standard error is no terminal, the lines alone."""
    if not sys.stderr.isatty():
        yield _Showing(lambda _: None, lambda *_: None, lambda part: click.echo(_line(part), err=True))
        return
    from rich.console import Console  # noqa: PLC0415 - only where there is somebody to see it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=parts)

        def ended(part: Part) -> None:
            bar.console.print(_line(part), markup=False, highlight=False)
            bar.advance(task)

        yield _Showing(
            lambda name: bar.update(task, description=name),
            lambda name, one: bar.update(task, description=f"{name}: {one.outcome} {escaped(one.name)}"),
            ended,
        )


def _line(part: Part) -> str:
    cut = f", {part.partial}" if part.partial else ""
    criteria = len(part.criteria)
    return f"{part.outcome:12}  {part.name}: {criteria} {'criterion' if criteria == 1 else 'criteria'}{cut}"

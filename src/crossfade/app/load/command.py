"""`crossfade load`: read, ask, report."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from crossfade.adapters.load import allow_connections, reach
from crossfade.adapters.system import SystemClock, cpu_seconds
from crossfade.app.commands import say
from crossfade.app.load.options import LoadOptions, Work, work_of
from crossfade.app.load.page import as_html
from crossfade.app.load.report import Ran, as_data, as_text
from crossfade.app.load.run import Driver
from crossfade.core.verdict import Verdict

_LOOK_S = 0.5


def run_load(options: LoadOptions, output: str) -> int:
    """Carry the load out and print what it came to; return the exit code: 0 where everything expected was shown.

    UnreachableError where nobody listens from the start; who goes away later is counted.
    """
    work = work_of(options)
    allow_connections(work.users)
    ran = _run(work)
    data = as_data(ran)
    if output == "html":
        click.echo(as_html(data))
    else:
        say(output, data, as_text(data))
    return 0 if ran.verdict() is Verdict.PASS else 1


def _run(work: Work) -> Ran:
    async def drive() -> Ran:
        for host, port in sorted({address for addresses in work.addresses.values() for address in addresses}):
            await reach(host, port, work.timeout_s)
        driver, before = Driver(work, SystemClock()), cpu_seconds()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, driver.stop)
        with _progress(driver, work) as showing:
            told = asyncio.create_task(_tell(showing))
            try:
                await driver.run()
            finally:
                told.cancel()
        return Ran(
            work=work,
            tally=driver.tally,
            lasted_s=driver.lasted_s,
            partial=driver.partial,
            cpu_s=cpu_seconds() - before,
        )

    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        return runner.run(drive())


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes a fast event loop; None where there is none on this platform."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return None
    return uvloop.Loop


async def _tell(showing: Iterator[None]) -> None:
    """Bring the bar up to date until cancelled."""
    clock = SystemClock()
    for _ in showing:
        await clock.sleep(_LOOK_S)


@contextmanager
def _progress(driver: Driver, work: Work) -> Iterator[Iterator[None]]:
    """Give an iterator that brings the bar up to date; it ends at once where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield iter(())
        return
    from rich.console import Console  # noqa: PLC0415 - only where there is somebody to see it
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=work.curve.seconds)

        def showing() -> Iterator[None]:
            while True:
                total = driver.tally.total()
                failed = f", {total.failures:,} failed" if total.failures else ""
                bar.update(
                    task,
                    completed=driver.elapsed_s,
                    description=f"{total.requests:,} requests{failed}, {driver.in_flight:,} under way",
                )
                yield

        yield showing()

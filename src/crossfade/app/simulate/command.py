"""`crossfade simulate`: read, run, report."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from crossfade.app.commands import say
from crossfade.app.simulate.options import SimulateOptions, rivals_of, scenario_of
from crossfade.app.simulate.page import as_html
from crossfade.app.simulate.pool import simulate
from crossfade.app.simulate.report import as_data, as_text


def run_simulate(options: SimulateOptions, output: str) -> None:
    """Carry out all runs and print what they come to. Every mistake is found before the first run."""
    rivals, scenario = rivals_of(options), scenario_of(options)
    told = _progress(options.runs) if sys.stderr.isatty() else None
    outcomes = simulate(options, rivals, told=told)
    data = as_data(options, scenario, outcomes, rivals)
    if output == "html":
        click.echo(as_html(options, scenario, data, outcomes, rivals))
    else:
        say(output, data, as_text(options, scenario, data, rivals))


def _progress(runs: int) -> Callable[[int], None]:
    def tell(done: int) -> None:
        click.echo(f"\r{done} of {runs} runs" + ("\r" + " " * 30 + "\r" if done == runs else ""), nl=False, err=True)

    return tell

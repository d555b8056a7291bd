"""The commands that look, as click has them. What they do is imported when they are called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from crossfade.app.terminal.options import METRIC, OUTPUT, ROLLOUT, ROLLOUT_NAMED, STATE, URL, rollouts

if TYPE_CHECKING:
    from crossfade.app.client import Client


def add_looking(main: click.Group) -> None:
    """Add them."""
    for command in (status, why, events, metrics, clients, feedback, watch, wait, doctor, completion):
        main.add_command(command)


@click.command()
@ROLLOUT
@STATE
@URL
@OUTPUT
def status(rollout: str | None, state: Path, output: str) -> None:
    """Tell where a rollout is: phase, gates as a checklist, last decision; -o wide: metrics too."""
    from crossfade.app.terminal import commands

    commands.status(rollout, state, output)


@click.command()
@click.argument("words", nargs=-1, metavar="[ROLLOUT] [DECISION]", shell_complete=rollouts)
@STATE
@URL
@OUTPUT
@click.option("-n", "count", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many decisions.")
def why(words: tuple[str, ...], state: Path, output: str, count: int) -> None:
    """Tell why: the latest decisions, each in one sentence, or DECISION by its number with all it rested on."""
    from crossfade.app.terminal import commands

    rollout, decision = _rollout_and_number(words)
    commands.why(rollout, state, output, count, decision)


def _rollout_and_number(words: tuple[str, ...]) -> tuple[str | None, int | None]:
    """Return which rollout and which decision are meant: a number alone, or one after a name, is the decision."""
    names = words[:-1] if words and words[-1].isascii() and words[-1].isdigit() else words
    if len(names) > 1:
        raise click.UsageError("one rollout, and after it the number of a decision")
    return (names[0] if names else None), (int(words[-1]) if len(names) < len(words) else None)


@click.command()
@ROLLOUT
@STATE
@URL
@OUTPUT
@click.option("-f", "--follow", is_flag=True, help="Go on with what happens, through restarts, until Ctrl-C.")
@click.option("--after", type=click.IntRange(min=0), default=0, help="Only events after this revision.")
@click.option("--since", metavar="DURATION", help="Only of the last 15m, 2h or 3d of plan time.")
@click.option("--limit", type=click.IntRange(min=1), help="Only so many, the latest.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="Only of this kind, such as RolledBack; may be given again.",
)
def events(rollout: str | None, state: Path, output: str, **asked: Any) -> None:
    """List what happened to a rollout."""
    from crossfade.app.terminal import commands

    _ending_by_hand(lambda: commands.events(rollout, state, output, **asked))


@click.command()
@ROLLOUT
@STATE
@URL
@OUTPUT
@METRIC
def metrics(rollout: str | None, state: Path, output: str, metric: str | None) -> None:
    """Tell of each metric: V1, V2, their ratio with its confidence band, margin, evidence and sample."""
    from crossfade.app.terminal import commands

    commands.metrics(rollout, state, output, metric)


@click.group(invoke_without_command=True)
@ROLLOUT_NAMED
@STATE
@URL
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml", "csv"]),
    default="text",
    help="A table for people, or for programs and spreadsheets.",
)
@click.option("--still-on", type=click.Choice(["v1"]), help="Leave out those that have moved to V2.")
@click.pass_context
def clients(ctx: click.Context, rollout: str | None, state: Path, output: str, still_on: str | None) -> None:
    """List the clients: who still calls V1, by which way, whose they are, and when V1 will fall silent."""
    if ctx.invoked_subcommand is None:
        from crossfade.app.terminal import clients as listing

        listing.clients(rollout, state, output, still_on_v1=still_on == "v1")


@clients.command()
@click.argument("file", type=click.Path(path_type=Path))
@ROLLOUT_NAMED
@STATE
@URL
@OUTPUT
@click.option("--forget", multiple=True, metavar="CLIENT", help="Remove this entry; may be given again.")
def register(file: Path, forget: tuple[str, ...], rollout: str | None, state: Path, output: str) -> None:
    """Write the entries in FILE into the register: a CSV with a head, or a YAML list."""
    from crossfade.app.terminal import clients as listing

    listing.register(file, forget, rollout, state, output)


@clients.command()
@ROLLOUT_NAMED
@STATE
@URL
@OUTPUT
@click.option("--dry-run", is_flag=True, help="Who would get what, were it due now; nothing is sent.")
@click.option("--step", help="Of this step alone: prepared, announced, brownout, last week or retired.")
def notices(rollout: str | None, state: Path, output: str, step: str | None, *, dry_run: bool) -> None:
    """List what the owners of clients were told of V1's end, or with --dry-run who would get what."""
    from crossfade.app.terminal import owners

    owners.notices(rollout, state, output, step, dry_run=dry_run)


@click.group(invoke_without_command=True)
@ROLLOUT_NAMED
@STATE
@URL
@click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml", "csv"]),
    default="text",
    help="A table for people, or for programs and spreadsheets.",
)
@click.option("--version", type=click.Choice(["v1", "v2"]), help="Of users that had this one.")
@click.option("--topic", help="About this alone.")
@click.pass_context
def feedback(ctx: click.Context, /, rollout: str | None, state: Path, output: str, **about: str | None) -> None:
    """List what users said of the version they had: ratings and complaints, newest first."""
    if ctx.invoked_subcommand is None:
        from crossfade.app.terminal import feedback as listing

        listing.feedback(rollout, state, output, **about)


@feedback.command()
@click.argument("user")
@ROLLOUT_NAMED
@STATE
@URL
@OUTPUT
@click.option("--for", "lasts", default="7d", show_default=True, metavar="DURATION", help="How long it lets them in.")
def link(user: str, rollout: str | None, state: Path, output: str, lasts: str) -> None:
    """Make a link to the feedback form for USER: whoever has it speaks for them until it ends."""
    from crossfade.app.terminal import feedback as listing

    listing.link(user, lasts, rollout, state, output)


@feedback.command()
@click.argument("user")
@ROLLOUT_NAMED
@STATE
@URL
@OUTPUT
def forget(user: str, rollout: str | None, state: Path, output: str) -> None:
    """Forget all that USER said; what it counted stays, as numbers."""
    from crossfade.app.terminal import feedback as listing

    listing.forget(user, rollout, state, output)


@click.command()
@ROLLOUT
@STATE
@URL
@OUTPUT
@click.option(
    "--for",
    "wanted",
    required=True,
    metavar="GOAL",
    help="phase=NAME (or a later one), state=STATE, verdict=VERDICT, or gate='GATE' passing.",
)
@click.option("--timeout", metavar="DURATION", help="Real time, such as 2h; default: none.")
def wait(rollout: str | None, state: Path, output: str, wanted: str, timeout: str | None) -> None:
    """Wait until a rollout has come to GOAL: 0 it has, 5 not in time, 6 it can't any more."""
    from crossfade.app.terminal import commands

    _ending_by_hand(lambda: commands.wait(rollout, state, output, wanted, timeout))


@click.command()
@ROLLOUT
@STATE
@URL
def watch(rollout: str | None, state: Path) -> None:
    """Watch a rollout live: phases, gates, metrics, alerts, decisions; lines where no screen can be drawn."""
    from crossfade.app.commands import client_of
    from crossfade.app.terminal.watch import watch as run

    context = click.get_current_context()

    def connect() -> Client:
        with context.scope(cleanup=False):  # for the thread that follows events as well
            return client_of(rollout, state)

    connect()  # a rollout that is not there is told before the screen is taken
    _ending_by_hand(lambda: run(connect))


@click.command()
@click.argument("plan", required=False, type=click.Path(path_type=Path))
@ROLLOUT_NAMED
@STATE
@click.option("--database", default="", envvar="CROSSFADE_DATABASE", help="URL of the store, as `serve` was given it.")
@OUTPUT
def doctor(plan: Path | None, rollout: str | None, state: Path, database: str, output: str) -> None:
    """Find what is wrong with this installation, PLAN or the state's rollouts; nothing is changed."""
    from crossfade.app.doctor.command import run_doctor

    sys.exit(run_doctor(plan, rollout, state, database, output))


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes SHELL complete commands, rollouts, phases, metrics and files."""
    from crossfade.app.terminal import commands

    commands.completion(shell)


def _ending_by_hand(run: Callable[[], None]) -> None:
    """Run what goes on until Ctrl-C, which ends it with 130."""
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(130)

"""What the commands that look do. Each imports what it needs: an answer must be there at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from crossfade.app import render
from crossfade.app.client import Client
from crossfade.app.commands import client_of, say
from crossfade.app.terminal import looks
from crossfade.app.terminal.escaped import escaped, escaped_all
from crossfade.app.terminal.wait import goal, seconds
from crossfade.app.terminal.wait import wait as wait_for
from crossfade.errors import UsageError

_ALL = 1_000_000


def status(rollout: str | None, state: Path, output: str) -> None:
    """Print where a rollout is; wide: with its metrics."""
    client = client_of(rollout, state)
    data = client.get("")
    told = escaped_all(data)
    word = looks.state(told)
    text = (looks.filled(word, "  ") + "\n" if word.startswith("BLIND") else "") + render.status(told)
    if output == "wide":
        text += "\n\n" + looks.metrics(escaped_all(client.get("/metrics")), wide=True)
    say(output, data, text)


def why(rollout: str | None, state: Path, output: str, count: int, decision: int | None) -> None:
    """Print the latest decisions, or one by its number; UsageError where there is none of that number."""
    client = client_of(rollout, state)
    if decision is None:
        data = list(client.pages(f"/decisions?limit={min(count, 50)}", count))
        say(output, data, looks.decisions(escaped_all(data), wide=output == "wide"))
        return
    found = next(client.pages(f"/decisions?before={decision + 1}&limit=1", 1), None)
    if found is None or found["number"] != decision:
        raise UsageError(f"no decision {decision} is kept of this rollout; `crossfade why -n 50` lists numbers")
    say(output, found, looks.decision(escaped_all(found)))


def metrics(rollout: str | None, state: Path, output: str, metric: str | None) -> None:
    """Print every metric, or one; UsageError where the plan has none of that name."""
    data = client_of(rollout, state).get("/metrics")
    if metric is not None:
        names = [entry["name"] for entry in data]
        data = [entry for entry in data if entry["name"] == metric]
        if not data:
            raise UsageError(f"there is no metric {metric!r}; the plan has {', '.join(names)}")
    say(output, data, looks.metrics(escaped_all(data), wide=output == "wide"))


def events(rollout: str | None, state: Path, output: str, *, follow: bool, **asked: Any) -> None:
    """Print the history, and with `follow` what happens from then on; UsageError where a kind is unknown."""
    from crossfade.core.events import KINDS

    if unknown := {kind.casefold() for kind in asked["kinds"]} - {kind.casefold() for kind in KINDS}:
        raise UsageError(f"there is no kind of event {', '.join(unknown)}; there are {', '.join(KINDS)}")
    client = client_of(rollout, state)
    data = _events(client, **asked)
    if not follow:
        say(output, data, "\n".join(looks.event(escaped_all(event), wide=output == "wide") for event in data))
        return
    for event in data:
        _line(output, event)
    from crossfade.app.terminal.follow import followed

    after = data[-1]["revision"] if data else max(asked["after"], client.get("")["revision"])
    for event in followed(lambda: client_of(rollout, state), after):
        if _wanted(event, asked["kinds"]):
            _line(output, event)


def _line(output: str, event: dict[str, Any]) -> None:
    """Print one event at once, for programs too: a JSON object a line, or a YAML document."""
    import json

    if output == "json":
        click.echo(json.dumps(event))
    elif output == "yaml":
        click.echo("---")
        say(output, event, "")
    else:
        click.echo(looks.event(escaped_all(event), wide=output == "wide"))


def _events(
    client: Client, *, after: int, since: str | None, limit: int | None, kinds: tuple[str, ...]
) -> list[dict[str, Any]]:
    found: Iterator[dict[str, Any]] = client.pages(f"/events?after={after}&limit=1000", _ALL)
    kept = [event for event in found if _wanted(event, kinds)]
    if since is not None:
        begun = client.get("")["now"] - seconds(since)
        kept = [event for event in kept if event["at"] >= begun]
    return kept if limit is None else kept[-limit:]


def _wanted(event: dict[str, Any], kinds: tuple[str, ...]) -> bool:
    return not kinds or event["kind"].casefold() in {kind.casefold() for kind in kinds}


def wait(rollout: str | None, state: Path, output: str, wanted: str, timeout: str | None) -> None:
    """Print where the rollout is once it has come to something."""
    from crossfade.adapters.system import SystemClock

    found = asyncio.run(
        wait_for(
            goal(wanted),
            None if timeout is None else seconds(timeout),
            lambda: client_of(rollout, state),
            lambda text: click.echo(f"crossfade: {escaped(text)}", err=True),
            SystemClock(),
        )
    )
    told = escaped_all(found)
    say(output, found, f"{told['rollout']}: {wanted}; {told['state']} in {told['phase']['name']}, {looks.split(told)}")


def completion(shell: str) -> None:
    """Print the script that makes a shell complete our commands, as click writes it."""
    from click.shell_completion import get_completion_class

    from crossfade.app.cli import main

    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"there is no completion for {shell}")
    click.echo(kind(main, {}, "crossfade", "_CROSSFADE_COMPLETE").source(), nl=False)

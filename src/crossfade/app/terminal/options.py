"""What several commands take. Only click is imported: help must be there at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

OUTPUT = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json", "yaml", "wide"]),
    default="text",
    help="For people, for programs, or for people with more columns where there are more.",
)
STATE = click.option(
    "--state",
    type=click.Path(path_type=Path),
    envvar="CROSSFADE_STATE",
    default=".crossfade",
    show_default=True,
    help="Folder that holds one folder per rollout.",
)


def _elsewhere(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    """Keep where a controller elsewhere answers, for whatever the command asks of it."""
    ctx.meta["crossfade.url"] = value


URL = click.option(
    "--url",
    envvar="CROSSFADE_URL",
    expose_value=False,
    callback=_elsewhere,
    help="A controller elsewhere, such as https://HOST:8090; CROSSFADE_TOKEN or CROSSFADE_TOKEN_FILE has its token.",
)


def rollouts(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the rollouts that what is typed may become."""
    from crossfade.app.terminal import completing

    return [CompletionItem(name) for name in completing.rollouts(ctx.params) if name.startswith(incomplete)]


def _typed(ctx: click.Context) -> dict[str, Any]:
    """Return what is typed so far: beside an option without its value, click leaves the words where they stand."""
    words = [word for word in ctx.args if not word.startswith("-")]
    return ctx.params | {"rollout": ctx.params.get("rollout") or (words[0] if words else None)}


def _phases(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from crossfade.app.terminal import completing

    return [CompletionItem(name) for name in completing.phases(_typed(ctx)) if name.startswith(incomplete)]


def _metrics(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from crossfade.app.terminal import completing

    return [CompletionItem(name) for name in completing.metrics(_typed(ctx)) if name.startswith(incomplete)]


ROLLOUT = click.argument("rollout", required=False, shell_complete=rollouts)
ROLLOUT_NAMED = click.option("--rollout", help="Which rollout, where several are kept.", shell_complete=rollouts)
METRIC = click.option("--metric", help="This one alone.", shell_complete=_metrics)


def phase(text: str) -> Callable[[Any], Any]:
    """Return the option --phase with its help."""
    return click.option("--phase", help=text, shell_complete=_phases)

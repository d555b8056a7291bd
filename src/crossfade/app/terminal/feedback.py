"""`crossfade feedback`: what users said of the version they had."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from crossfade.app.commands import client_of, say
from crossfade.app.planfile.quantities import positive_duration
from crossfade.app.terminal.escaped import escaped_all
from crossfade.app.terminal.looks import table
from crossfade.app.terminal.sheet import cell
from crossfade.core.words import moment
from crossfade.errors import UsageError

_SHOWN = 200
"""Lines that people are shown; programs get all."""
_ALL = 1_000_000
_TEXT_SHOWN = 70
_HEAD = ("number", "at", "version", "region", "topic", "rating", "complaint", "user")


def feedback(rollout: str | None, state: Path, output: str, **about: str | None) -> None:
    """Print what users said, newest first, and for people what it adds up to in this phase.

    `about`: the version or topic that alone is wanted.
    """
    client = client_of(rollout, state)
    wanted = {**about, "limit": 1000 if output != "text" else _SHOWN}
    query = urlencode({name: value for name, value in wanted.items() if value is not None})
    lines = list(client.pages(f"/feedback?{query}", _ALL if output != "text" else _SHOWN))
    if output == "csv":
        click.echo(as_csv(lines), nl=False)
    elif output == "text":
        click.echo(shown(escaped_all(lines), escaped_all(client.get("/feedback/sums"))))
    else:
        say(output, lines, "")


def as_csv(lines: list[dict[str, Any]]) -> str:
    """Return things said as CSV; times are UTC. A cell that a spreadsheet would take for a formula begins with a '."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEAD)
    for line in lines:
        texts = {name: cell(line[name]) for name in ("region", "topic", "complaint", "user")}
        rating = "" if line["rating"] is None else line["rating"]
        row = line | texts | {"at": moment(line["at"]), "rating": rating}
        writer.writerow([row[name] for name in _HEAD])
    return out.getvalue()


def shown(lines: list[dict[str, Any]], sums: list[dict[str, Any]]) -> str:
    """Return things said as a table, and below it how much was said of each version in this phase."""
    told = [summed(version, sums) for version in ("v1", "v2")]
    if not lines:
        return "\n".join(["nobody has said anything yet", *told])
    rows = [["AT", "HAD", "RATING", "TOPIC", "REGION", "COMPLAINT"]]
    for line in lines:
        text = " ".join(line["complaint"].split())
        rows.append(
            [
                moment(line["at"])[:16],
                line["version"] or "-",
                "-" if line["rating"] is None else str(line["rating"]),
                line["topic"] or "-",
                line["region"] or "-",
                text if len(text) <= _TEXT_SHOWN else f"{text[: _TEXT_SHOWN - 1]}…",
            ]
        )
    more = [f"the latest {_SHOWN} are shown; -o csv gives all"] if len(lines) >= _SHOWN else []
    return "\n".join([table(rows), "", *more, "in this phase; times are UTC:", *told])


def summed(version: str, sums: list[dict[str, Any]]) -> str:
    """Return in one line how much was said of a version, and what of."""
    mine = [one for one in sums if one["version"] == version]
    complaints, ratings, happy = (sum(one[name] for one in mine) for name in ("complaints", "ratings", "happy"))
    satisfied = f"{happy} of {ratings} satisfied" if ratings else "nobody rated it"
    topics: dict[str, int] = {}
    for one in mine:
        if one["topic"] and one["complaints"]:
            topics[one["topic"]] = topics.get(one["topic"], 0) + one["complaints"]
    of = ", ".join(f"{count} of {topic}" for topic, count in sorted(topics.items(), key=lambda item: -item[1])[:5])
    count = f"{complaints} {'complaint' if complaints == 1 else 'complaints'}"
    return f"{version.upper()}: {count}{f' ({of})' if of else ''}, {satisfied}"


def link(user: str, lasts: str, rollout: str | None, state: Path, output: str) -> None:
    """Print a link to the form for one user; UsageError where it can't last so long."""
    try:
        for_s = positive_duration(lasts)
    except ValueError as error:
        raise UsageError(f"--for: {error}") from None
    client = client_of(rollout, state)
    made = client.post("/feedback/links", {"user": user, "for_s": for_s})
    url = f"{client.url}{made['path']}"
    say(output, {"url": url, "until": made["until"]}, url)


def forget(user: str, rollout: str | None, state: Path, output: str) -> None:
    """Have all be forgotten that a user said."""
    count = client_of(rollout, state).delete(f"/feedback?user={quote(user, safe='')}")["forgotten"]
    say(output, {"forgotten": count}, f"{count} forgotten; what they counted stays, as numbers")

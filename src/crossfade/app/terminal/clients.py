"""`crossfade clients`: who still calls V1, and the register from a file."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import click

from crossfade.app.clients import spans
from crossfade.app.commands import client_of, say
from crossfade.app.terminal.escaped import escaped, escaped_all
from crossfade.app.terminal.looks import table
from crossfade.app.terminal.sheet import cell
from crossfade.core.words import moment
from crossfade.errors import UsageError

_ALL = 100_000
_BATCH = 1000
_FIELDS = ("client", "owner", "contact", "notes", "exempt_until")
_HEAD = (
    *("client", "agent", "claimed", "standing", "requests", "error"),
    *("asked_v1_first", "asked_v1_last", "on_v1_last", "on_v2_first", "on_v2_last"),
    *_FIELDS[1:],
)


def clients(rollout: str | None, state: Path, output: str, *, still_on_v1: bool) -> None:
    """Print the clients, those that call V1 first, and the forecast for people."""
    client = client_of(rollout, state)
    path = f"/clients?{'still_on=v1&' if still_on_v1 else ''}limit=1000"
    lines = list(client.pages(path, _ALL))
    if output == "csv":
        click.echo(as_csv(lines), nl=False)
        return
    if output != "text":
        say(output, lines, "")
        return
    trend = client.get("/clients/trend")
    say(output, lines, shown(escaped_all(lines), escaped_all(trend), still_on_v1=still_on_v1))


def as_csv(lines: list[dict[str, Any]]) -> str:
    """Return clients as CSV; times are UTC. A cell that a spreadsheet would take for a formula begins with a '."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_HEAD)
    for line in lines:
        asked, on_v1, on_v2 = spans(line)
        times = (asked[0], asked[1], on_v1[1], on_v2[0], on_v2[1])
        writer.writerow(
            [
                cell(line["client"]),
                *(int(line[name]) for name in ("agent", "claimed")),
                line["standing"] or "never seen",
                *(line[name] for name in ("requests", "error")),
                *("" if at is None else moment(at) for at in times),
                *(cell(line[name] or "") for name in _FIELDS[1:]),
            ]
        )
    return out.getvalue()


def shown(lines: list[dict[str, Any]], trend: dict[str, Any], *, still_on_v1: bool) -> str:
    """Return clients as a table, and below it where all stand and when V1 will fall silent."""
    rows = [["CLIENT", "STANDS", "ASKED V1", "ON V1", "ON V2", "REQUESTS", "OWNER", "EXEMPT"]]
    for line in lines:
        asked, on_v1, on_v2 = spans(line)
        name = f"{line['client']} (agent)" if line["agent"] else line["client"]
        rows.append(
            [
                f"{name} (claimed)" if line["claimed"] and not line["agent"] else name,
                line["standing"] or "never seen",
                *(moment(at)[:16] for at in (asked[1], on_v1[1], on_v2[1])),
                f"{line['requests']:,}" + (f" to {line['requests'] + line['error']:,}" if line["error"] else ""),
                line["owner"] or "-",
                line["exempt_until"] or "-",
            ]
        )
    counts, told = trend["standings"], trend["forecast"]
    summary = [
        f"{counts['v1']} on V1, {counts['silent']} silent since, {counts['v2']} on V2; times are UTC",
        f"V1 falls silent: {told['sentence']}",
    ]
    if trend["unlisted_at_most"]:
        summary.insert(1, f"clients that are not listed had at most {trend['unlisted_at_most']:,} requests each")
    if not lines:
        return "\n".join(["no client is still on V1" if still_on_v1 else "no client was seen yet", *summary])
    return "\n".join([table(rows), "", *summary])


def register(file: Path, forget: tuple[str, ...], rollout: str | None, state: Path, output: str) -> None:
    """Write a file's entries into the register; UsageError with file and place where one can't be meant."""
    entries = _entries(file)
    client = client_of(rollout, state)
    count = 0
    for begin in range(0, max(len(entries), 1), _BATCH):
        body: dict[str, object] = {"entries": entries[begin : begin + _BATCH]}
        if not begin:
            body["forget"] = list(forget)
        count = client.post("/register", body)["registered"]
    written = f"{len(entries)} written" + (f", {len(forget)} forgotten" if forget else "")
    say(output, {"written": len(entries), "registered": count}, f"{written}; the register has {count}")


def _entries(file: Path) -> list[dict[str, Any]]:
    """Return what a CSV with a head or a YAML list says, checked."""
    from crossfade.core.clients.register import registered

    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} can't be read: {getattr(error, 'strerror', None) or error}") from None
    found = []
    for place, row in _csv(file, text) if file.suffix.lower() == ".csv" else _yaml(file, text):
        try:
            entry = registered(row)
        except ValueError as error:
            raise UsageError(f"{file}:{place}: {escaped(str(error))}") from None
        until = entry.exempt_until
        found.append({name: getattr(entry, name) for name in _FIELDS[:-1]})
        found[-1]["exempt_until"] = None if until is None else until.isoformat()
    return found


def _csv(file: Path, text: str) -> list[tuple[str, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if "client" not in (reader.fieldnames or ()):
        raise UsageError(f"{file}:1: a CSV begins with a head that has client, perhaps {', '.join(_FIELDS[1:])}")
    rows = []
    try:
        for row in reader:
            if None in row:
                raise UsageError(f"{file}:{reader.line_num}: has more cells than the head; put quotes around commas")
            rows.append((str(reader.line_num), {name: (value or "").strip() for name, value in row.items()}))
    except csv.Error as error:
        raise UsageError(f"{file}:{reader.line_num}: is no CSV: {error}") from None
    return rows


def _yaml(file: Path, text: str) -> list[tuple[str, dict[str, Any]]]:
    import yaml

    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{file} is no YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise UsageError(f"{file} is no register; write a list: - {{client: acme, owner: Ann}}, or a CSV with a head")
    return [(f"entry {number}", {str(key): value for key, value in row.items()}) for number, row in enumerate(data, 1)]

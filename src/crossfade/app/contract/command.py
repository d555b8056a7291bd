"""`crossfade contract`: read, compare, report."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from crossfade.app.commands import say
from crossfade.app.contract.asking import with_answers
from crossfade.app.contract.reading import Read, read, shown
from crossfade.app.planfile import load_plan
from crossfade.core.contract.compare import Prefixes, compare, prefixes_of
from crossfade.core.contract.document import DocumentError
from crossfade.core.contract.findings import Compared, Finding, exempt
from crossfade.core.contract.migration import migration
from crossfade.core.contract.rules import Severity
from crossfade.core.plan import Api, Deprecation, Exemption
from crossfade.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractOptions:
    """What the command was given."""

    places: tuple[str, ...]
    """A plan, or V1's and V2's documents."""
    prefix: str | None = None
    ask: tuple[str, ...] = ()
    """V1's own paths and queries whose real answers the page shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    v1: str
    v2: str
    prefixes: Prefixes
    exemptions: tuple[Exemption, ...] = ()
    title: str = "API"
    deprecation: Deprecation | None = None
    api: Api | None = None
    """Where the services are; None without a plan."""


def run_contract(options: ContractOptions, output: str) -> int:
    """Compare and print; return the exit code: 0 where nothing breaks V1's clients, or a page was asked for."""
    asked = _asked(options)
    if options.ask and (asked.api is None or output not in {"html", "markdown"}):
        raise UsageError("--ask is for the page (-o html, -o markdown) of a plan, which says where the services are")
    v1, v2 = asyncio.run(_both(asked))
    try:
        if output in {"html", "markdown"}:
            from crossfade.app.contract import page  # noqa: PLC0415 - templates, which nothing else here wants

            found = migration(v1.documents, v2.documents, asked.prefixes)
            if asked.api is not None and options.ask:
                found = asyncio.run(with_answers(found, options.ask, asked.api, asked.prefixes))
            written = page.as_html if output == "html" else page.as_markdown
            click.echo(written(found, asked.title, asked.deprecation))
            return 0
        findings = compare(v1.documents, v2.documents, asked.prefixes)
    except DocumentError as error:
        held = v1 if error.spot.uri in v1.texts else v2
        raise UsageError(f"{held.place(error.spot)}: {error}") from None
    result = exempt(findings, asked.exemptions)
    data = as_data(v1, v2, result)
    say(output, data, as_text(data))
    return 1 if result.breaks else 0


async def _both(asked: _Asked) -> tuple[Read, Read]:
    return await read(asked.v1), await read(asked.v2)


def _asked(options: ContractOptions) -> _Asked:
    match options.places:
        case (place,):
            if options.prefix is not None:
                raise UsageError("the plan says what the paths of its versions begin with; leave --prefix out")
            return _from_plan(Path(place))
        case (v1, v2):
            return _Asked(v1=v1, v2=v2, prefixes=_prefixes(options.prefix))
        case _:
            raise UsageError("name a plan, or V1's document and V2's")


def _from_plan(path: Path) -> _Asked:
    plan = load_plan(path)
    if plan.contract is None:
        raise UsageError(f"{path} has no `contract`; add one such as contract: {{v1: v1.yaml, v2: v2.yaml}}")
    return _Asked(
        v1=plan.contract.v1,
        v2=plan.contract.v2,
        prefixes=prefixes_of(plan.api.v1.path, plan.api.v2.path),
        exemptions=plan.contract.exemptions,
        title=plan.name,
        deprecation=plan.deprecation,
        api=plan.api,
    )


def _prefixes(text: str | None) -> Prefixes:
    if text is None:
        return Prefixes()
    v1, sign, v2 = text.partition("=")
    if not sign or not all(part == "" or part.startswith("/") for part in (v1, v2)):
        raise UsageError(f"--prefix {text!r} says not what paths begin with in V1 and in V2; write such as /v1=/v2")
    return Prefixes(v1.rstrip("/"), v2.rstrip("/"))


def as_data(v1: Read, v2: Read, result: Compared) -> dict[str, Any]:
    """Return the result for programs."""
    return {
        "v1": v1.named,
        "v2": v2.named,
        "compatible": not result.breaks,
        "findings": [_finding(one, v1, v2) for one in result.findings],
        "exempted": [
            {**_finding(one, v1, v2), "exempted_by": exemption.at, "reason": exemption.reason}
            for one, exemption in result.exempted
        ],
    }


def _finding(one: Finding, v1: Read, v2: Read) -> dict[str, Any]:
    return {
        "rule": one.rule,
        "severity": one.severity.value,
        "where": one.where,
        "method": one.method,
        "path": one.path,
        "part": one.part,
        "field": one.field,
        "said": one.said,
        "right": one.right,
        **{
            name: None
            if spot is None or spot.uri not in read_.texts
            else {"place": read_.place(spot), "document": shown(spot.uri), "pointer": spot.pointer}
            for name, spot, read_ in (("v1", one.v1, v1), ("v2", one.v2, v2))
        },
    }


def as_text(data: dict[str, Any]) -> str:
    """Return the result for people."""
    lines = []
    for one in data["findings"]:
        place = one["v2"] or one["v1"]
        lines.append(
            f"{one['severity']}: {one['where']}: {one['said']}; {one['right']} [{one['rule']}]".replace(": : ", ": ")
        )
        lines += [f"  {version} {one[version]['place']}" for version in ("v1", "v2") if place and one[version]]
    lines += [f"wanted: {one['where']}: {one['said']} [{one['rule']}]: {one['reason']}" for one in data["exempted"]]
    breaking = sum(one["severity"] == Severity.BREAKING for one in data["findings"])
    warnings = len(data["findings"]) - breaking
    counts = f"{breaking} breaking, {warnings} {'warning' if warnings == 1 else 'warnings'}"
    verdict = "V2 keeps V1's contract" if data["compatible"] else "V2 breaks V1's clients"
    return "\n".join([*lines, *([""] if lines else []), f"{verdict}: {counts}"])

"""What API, CLI, dashboard and metrics show of the clients: the ledger and the register as one list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from crossfade.core.clients import ledger as clients
from crossfade.core.clients.forecast import forecast
from crossfade.core.clients.ledger import Client, Entry, Ledger, Standing, Way
from crossfade.core.clients.register import Registered
from crossfade.core.plan import Plan
from crossfade.engine.controller import Controller
from crossfade.errors import StoreError
from crossfade.ports import Store

STILL_ON_V1 = (Standing.V1, Standing.SILENT)


async def read_ledger(controller: Controller, store: Store) -> Ledger | None:
    """Return the ledger as it is known here: our own where we act, else what the leader has kept.

    None where the plan keeps none; StoreError where it can't be read.
    """
    if controller.plan.clients is None or controller.fenced is None:
        return controller.ledger
    kept = await store.ledger(controller.plan.name)
    try:
        return Ledger() if kept is None else clients.load(kept)
    except ValueError as error:
        raise StoreError(f"the ledger of {controller.plan.name} can't be read: {error}") from None


def client_lines(
    plan: Plan, ledger: Ledger, register: Mapping[str, Registered], now: float, *, still_on_v1: bool = False
) -> list[dict[str, Any]]:
    """Return a line for each client that was seen or is registered, those that call V1 first, then by name.

    `now` is plan time, for exemptions.
    """
    claimed = plan.clients is None or not plan.clients.authenticated
    seen = {client: (ledger.standing(entry), entry) for client, entry in ledger}
    lines = [
        _line(client, register, now, claimed=claimed or client.agent) | _seen(standing, entry)
        for client, (standing, entry) in seen.items()
        if not still_on_v1 or standing in STILL_ON_V1
    ]
    if not still_on_v1:
        unseen = [Client(name) for name in register if Client(name) not in seen]
        lines += [_line(client, register, now, claimed=False) | _seen(None, None) for client in unseen]
    return sorted(lines, key=lambda line: (_ORDER[line["standing"]], line["client"], line["agent"]))


_ORDER = {"v1": 0, "silent": 1, "v2": 2, None: 3}
_WAYS = {
    "asked_v1_by_v1": Way.OWN_BY_V1,
    "asked_v1_by_v2": Way.OWN_BY_V2,
    "else_by_v1": Way.ELSE_BY_V1,
    "else_by_v2": Way.ELSE_BY_V2,
}


def _line(client: Client, register: Mapping[str, Registered], now: float, *, claimed: bool) -> dict[str, Any]:
    """Return who a client is; a User-Agent is nobody's entry in the register."""
    own = Registered(client="-") if client.agent else register.get(client.name, Registered(client="-"))
    until = own.exempt_until
    return {
        "client": client.name,
        "agent": client.agent,
        "claimed": claimed,
        "owner": own.owner,
        "contact": own.contact,
        "notes": own.notes,
        "exempt_until": None if until is None else until.isoformat(),
        "exempt": own.is_exempt(now),
    }


def _seen(standing: Standing | None, entry: Entry | None) -> dict[str, Any]:
    """Return what a client did; nothing of one that was never seen."""
    known = entry or Entry([0] * len(Way), [None] * len(Way), [None] * len(Way))
    return {
        "standing": None if standing is None else standing.value,
        "requests": sum(known.counts),
        "error": known.error,
        "ways": {
            name: {"requests": known.counts[way], "first": known.first[way], "last": known.last[way]}
            for name, way in _WAYS.items()
        },
    }


def spans(line: Mapping[str, Any]) -> tuple[tuple[float | None, float | None], ...]:
    """Return when a line's client first and last: asked for V1, called V1, called V2."""
    ways = line["ways"]
    of = (
        ("asked_v1_by_v1", "asked_v1_by_v2"),
        ("asked_v1_by_v1", "asked_v1_by_v2", "else_by_v1"),
        ("else_by_v2",),
    )
    return tuple(
        (
            min((ways[way]["first"] for way in names if ways[way]["first"] is not None), default=None),
            max((ways[way]["last"] for way in names if ways[way]["last"] is not None), default=None),
        )
        for names in of
    )


def standings(ledger: Ledger) -> dict[Standing, int]:
    """Return how many of the listed clients stand where."""
    found = Counter(ledger.standing(entry) for _, entry in ledger)
    return {standing: found[standing] for standing in Standing}


def trend_of(ledger: Ledger) -> dict[str, Any]:
    """Return how the clients move: where they stand, the forecast, and each day."""
    told, complete = forecast(ledger), {day.number for day in ledger.complete_days}
    return {
        "since": ledger.since,
        "until": ledger.until,
        "standings": {standing.value: count for standing, count in standings(ledger).items()},
        "listed": len(ledger),
        "unlisted_at_most": ledger.floor,
        "unnamed": sum(ledger.unnamed),
        "forecast": asdict(told) | {"at": None if told.at is None else list(told.at)},
        "days": [
            {
                "day": day.number,
                "complete": day.number in complete,
                "requests": dict(zip(_WAYS, day.requests, strict=True)),
                "asking_v1": day.asking_v1,
                "on_v1": day.on_v1,
                "on_v2": day.on_v2,
                "exact": day.exact,
            }
            for day in ledger.days
        ],
    }

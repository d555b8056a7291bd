"""Clients: the ledger in pages, how they move, and the register."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from pydantic import Field

from crossfade.app import owners
from crossfade.app.clients import client_lines, read_ledger, trend_of
from crossfade.app.web.access import Caller
from crossfade.app.web.schemas import Said
from crossfade.app.web.served import Carried, Named, Needs, Served
from crossfade.app.web.verbs import IdempotencyKey, once
from crossfade.core.access import Role
from crossfade.core.clients.ledger import Ledger
from crossfade.core.clients.register import Registered, registered
from crossfade.core.plan import OwnerStep
from crossfade.errors import ConflictError, UsageError


class Way(Said):
    """Requests that came by one way."""

    requests: int = Field(ge=0)
    first: float | None
    last: float | None
    """Start of the tick in which the first and the last came; null: none did."""


class Ways(Said):
    """Requests by what was asked for, and who answered."""

    asked_v1_by_v1: Way
    """For V1's own paths."""
    asked_v1_by_v2: Way
    else_by_v1: Way
    """For the entry or V2's own paths."""
    else_by_v2: Way


class ClientLine(Said):
    """One client."""

    client: str
    agent: bool
    """It has no id that counts: this is what its User-Agent begins with."""
    claimed: bool
    """Nobody has checked that it is this client."""
    standing: Literal["v1", "silent", "v2"] | None
    """v1: it called V1 within a day. silent: it called V1 last, and nothing for a day. v2: it calls V2, and not V1 for
    a day. Null: it is registered and was never seen."""
    requests: int
    error: int
    """It may have had so many more."""
    ways: Ways
    owner: str
    contact: str
    notes: str
    exempt_until: str | None
    """Last day, UTC and included."""
    exempt: bool
    """Now."""


class ClientPage(Said):
    """A page of clients."""

    items: list[ClientLine]
    next: str | None
    """Path of the next page; null at the end."""


class ClientForecast(Said):
    """When nobody will ask for V1's own paths any more."""

    sentence: str = Field(examples=["unknown: complete days watched: 2 of the 3 that it takes"])
    asking: int
    moved: int
    at: list[float] | None
    """By when the last one has moved with probability 10, 50 and 90 %; null: unknown."""
    silent_since: float | None


class ClientDay(Said):
    """One UTC day."""

    day: int
    """Days since 1970-01-01."""
    complete: bool
    """It is over, and somebody watched it."""
    requests: dict[str, int]
    asking_v1: int
    """Different clients that asked for V1's own paths."""
    on_v1: int
    """Different clients that asked for V1 or were answered by it."""
    on_v2: int
    exact: bool
    """No count of clients is an estimate."""


class ClientTrend(Said):
    """How the clients move."""

    since: float | None
    until: float | None
    """Begin and end of what was watched."""
    standings: dict[str, int]
    listed: int
    unlisted_at_most: int
    """A client that is not listed had so many requests at most; 0: all are listed."""
    unnamed: int
    """Requests that named no client."""
    forecast: ClientForecast
    days: list[ClientDay]
    """Oldest first; the last one is not over."""


class RegisterEntry(Said):
    """What people have written down of one client."""

    client: str = Field(examples=["acme"])
    owner: str = ""
    contact: str = Field(default="", examples=["api@acme.example"])
    """A mail address, or an http(s) URL."""
    notes: str = ""
    exempt_until: str | None = Field(default=None, examples=["2026-12-31"])
    """Last day, UTC and included, on which V1 is not taken from it."""


class AskRegister(Said):
    """Entries to be kept, in the place of those of the same clients, and clients to be forgotten."""

    entries: list[RegisterEntry] = Field(default=[], max_length=1000)
    forget: list[str] = Field(default=[], max_length=1000)


class OwnerNoticeLine(Said):
    """A notice that an owner would get of a step, were it due now."""

    id: str
    step: OwnerStep
    brownout: str | None
    """Its name, of a notice of one: the next."""
    owner: str
    contact: str
    way: Literal["mail", "webhook"] | None
    """Null: the plan names no server that takes mail, so nobody tells this owner."""
    clients: list[str]
    subject: str
    text: str
    told: bool
    """It was sent, or given up."""
    due: bool
    """It goes out now."""


class OwnerNoticesAhead(Said):
    """Who would get what."""

    notices: list[OwnerNoticeLine]
    unowned: list[str]
    """Clients that still ask for V1, and for which nobody is told: the register has no contact."""


class OwnerToldLine(Said):
    """A notice that an owner had."""

    at: float
    """Plan time."""
    id: str
    step: OwnerStep
    brownout: str
    owner: str
    contact: str
    """As it may be shown."""
    clients: list[str]
    """The first of those that it names."""
    count: int
    """How many it names."""
    taken: bool
    """False: it was given up."""
    said: str
    """What came back."""


class OwnerToldPage(Said):
    """A page of what owners were told."""

    items: list[OwnerToldLine]
    """The latest first."""
    next: str | None
    """Path of the next page; null at the end."""


def add_clients(router: APIRouter, served: Served) -> None:
    """Add what is known of clients, and where it is written down."""

    @router.get("/clients", tags=["clients"], response_model=ClientPage)
    async def clients(
        request: Request,
        carried: Named,
        still_on: Annotated[Literal["v1"] | None, Query(description="Leave out those that have moved.")] = None,
        offset: Annotated[int, Query(ge=0, le=100_000)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> Response:
        """Give a page of clients, those that call V1 first: by which way each came, when first and last, and whose."""
        ledger, register = await _ledger(carried), await carried.store.register(carried.name)
        plan, now = carried.controller.plan, carried.clock.now()
        lines = client_lines(plan, ledger, register, now, still_on_v1=still_on == "v1")
        more = f"{'still_on=v1&' if still_on else ''}offset={offset + limit}&limit={limit}"
        following = f"{request.url.path}?{more}" if offset + limit < len(lines) else None
        return carried.answer({"items": lines[offset : offset + limit], "next": following})

    @router.get("/clients/trend", tags=["clients"], response_model=ClientTrend)
    async def trend(carried: Named) -> Response:
        """Tell how the clients move: where they stand, each day, and when V1 will fall silent."""
        return carried.answer(trend_of(await _ledger(carried)))

    @router.get("/clients/notices", tags=["clients"], response_model=OwnerToldPage)
    async def notices(
        request: Request,
        carried: Named,
        offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 200,
    ) -> Response:
        """Give a page of what the owners of clients were told, the latest first."""
        _must_tell_owners(carried)
        lines = await owners.told(carried.controller, carried.store)
        following = f"{request.url.path}?offset={offset + limit}&limit={limit}" if offset + limit < len(lines) else None
        return carried.answer({"items": lines[offset : offset + limit], "next": following})

    @router.get("/clients/notices/ahead", tags=["clients"], response_model=OwnerNoticesAhead)
    async def ahead(
        carried: Named,
        step: Annotated[OwnerStep | None, Query(description="Of this step alone.")] = None,
    ) -> Response:
        """Tell who would get what of each step, were it due now, and for which clients nobody is told."""
        _must_tell_owners(carried)
        return carried.answer(await owners.planned(carried.controller, carried.store, step, carried.clock.now()))

    @router.get("/register", tags=["clients"], response_model=list[RegisterEntry])
    async def register(carried: Named) -> Response:
        """Give what people have written down of clients."""
        return carried.answer([_data(entry) for entry in (await carried.store.register(carried.name)).values()])

    @router.post("/register", tags=["clients"], response_model=dict[str, int])
    async def write(
        request: Request,
        carried: Named,
        ask: AskRegister,
        caller: Annotated[Caller, Depends(Needs(Role.OPERATOR))],
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Write entries down, all or none, and tell how many the register has."""

        async def act() -> Response:
            controller = carried.controller
            if controller.fenced is not None:
                raise ConflictError(controller.fenced)
            entries = [_entry(index, entry) for index, entry in enumerate(ask.entries)]
            if wrong := [problem for _, problem in entries if problem]:
                raise UsageError("; ".join(wrong))
            kept = [entry for entry, _ in entries if entry is not None]
            generation = 0 if controller.lease is None else controller.lease.generation
            known = await carried.store.register(carried.name)
            gone = [client for client in ask.forget if client in known]
            await carried.store.save_register(carried.name, kept, gone, generation=generation)
            return carried.answer({"registered": len(await carried.store.register(carried.name))})

        return await once(request, served, caller, idempotency_key, act)


async def _ledger(carried: Carried) -> Ledger:
    ledger = await read_ledger(carried.controller, carried.store)
    if ledger is None:
        raise HTTPException(404, "the plan keeps no ledger of clients; add the section `clients: {}` to it")
    return ledger


def _must_tell_owners(carried: Carried) -> None:
    if carried.controller.plan.owner_notices is None:
        raise HTTPException(404, "the plan tells owners of clients nothing; add `notices: {...}` to its `clients`")


def _entry(index: int, entry: RegisterEntry) -> tuple[Registered | None, str]:
    """Return an entry as it is kept, or what is wrong with it."""
    try:
        return registered(entry.model_dump()), ""
    except ValueError as error:
        return None, f"entries.{index}.{error}"


def _data(entry: Registered) -> dict[str, Any]:
    until = entry.exempt_until
    return {
        "client": entry.client,
        "owner": entry.owner,
        "contact": entry.contact,
        "notes": entry.notes,
        "exempt_until": None if until is None else until.isoformat(),
    }

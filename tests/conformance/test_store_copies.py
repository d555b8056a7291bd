"""Moving house: everything kept of a rollout, from one database to another and back, whole or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import date
from pathlib import Path

import pytest
from tests.conformance.test_store_conformance import _database

from crossfade.adapters.store import SqlStore, copies
from crossfade.core.clients.register import Registered
from crossfade.core.gates import Surroundings
from crossfade.errors import ConflictError, StoreError
from crossfade.ports import Record
from crossfade.testing.conformance.store import (
    some_enrolment,
    some_events,
    some_feedback,
    some_kept,
    some_lease,
    some_look,
    some_tick,
)

Open = Callable[[str], Awaitable[SqlStore]]
POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.external)


@pytest.fixture
async def open_(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Open]:
    """Open a new database of a kind."""
    stores: list[SqlStore] = []

    async def opened(kind: str) -> SqlStore:
        url = f"sqlite:///{tmp_path}/{len(stores)}.db"
        if kind == "postgresql":
            url = await _database(request.getfixturevalue("postgresql_server"))
        stores.append(SqlStore(url))
        await stores[-1].open()
        return stores[-1]

    yield opened
    for store in stores:
        await store.close()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "_CHUNK", 3)


async def filled(store: SqlStore) -> SqlStore:
    """Keep something of everything, and of another rollout before it, so that numbers differ."""
    await store.append("trips", 0, some_events("trips", 1, 7))
    await store.save_ticks(
        "trips", [some_kept(n, n - 1) for n in range(-2, 6)], b"\x00state", ledger=b"\x00ledger", population=b"\x00p"
    )
    for n in range(8):
        around = Surroundings(rollback_ready=(None, True, False)[n % 3], drift="Ünï \x00 \N{SNOWMAN}")
        window = some_tick(n) if n == 5 else None
        await store.save_look("trips", some_look(n / 3, {"n": n} if n % 2 else None, around=around, window=window))
    await store.save_register("trips", [Registered(client="acme", owner="Ann", exempt_until=date(2026, 12, 31))])
    for number in range(5):
        await store.add_feedback("trips", some_feedback(number), at_most=9)
    await store.save_enrolments("trips", [some_enrolment(user) for user in (-(2**63), -1, 0, 7, 2**63 - 1)])
    await store.keep_key("trips", "form", b"\x00never shown")
    return store


async def told(store: SqlStore) -> list[object]:
    """Return all that a store tells of the rollout; numbers of looks and decisions are its own."""
    looks = await store.looks("trips")
    return [
        list(await store.events("trips")),
        list(await store.ticks("trips")),
        await store.evidence("trips"),
        await store.register("trips"),
        await store.ledger("trips"),
        await store.population("trips"),
        await store.enrolments("trips"),
        [said for _, said in await store.feedback("trips")],
        [(look.look, look.outcome, look.digest, look.record) for look in looks],
        [{**decision, "number": None} for decision in await store.decisions("trips")],
    ]


async def taken(store: SqlStore, rollout: str = "trips") -> list[Record]:
    return [record async for record in store.copy_out(rollout)]


@pytest.mark.parametrize("start", ["sqlite", POSTGRESQL])
@pytest.mark.parametrize("end", ["sqlite", POSTGRESQL])
async def test_a_rollout_moves_with_all_that_is_kept_of_it(start: str, end: str, open_: Open) -> None:
    old, new = await filled(await open_(start)), await open_(end)
    await new.append("other", 0, some_events("other", 1, 1))
    await new.save_look("other", some_look(1.0, {"n": "other"}))
    await new.copy_in("trips", await taken(old))
    assert await told(new) == await told(old)
    assert list(await new.rollouts()) == ["trips", "other"]
    assert [record["n"] for record in await new.decisions("other")] == ["other"]
    assert await new.key("trips", "form") is None
    await new.append("trips", 7, some_events("trips", 8, 1))
    await new.save_look("trips", some_look(9.0, {"n": 9}))
    back = await open_(start)
    await back.copy_in("trips", await taken(new))
    assert await told(back) == await told(new)


@pytest.mark.parametrize("kind", ["sqlite", POSTGRESQL])
async def test_what_is_there_already_is_left_alone(kind: str, open_: Open) -> None:
    store = await filled(await open_(kind))
    records, before = await taken(store), await told(store)
    with pytest.raises(ConflictError, match="trips is kept here already; nothing was changed"):
        await store.copy_in("trips", records)
    assert await told(store) == before
    begun = await open_(kind)
    await begun.acquire(some_lease("a"), None)
    with pytest.raises(ConflictError, match="rollout r is kept here already"):
        await begun.copy_in("r", records)


UNFIT = [
    Record(kind="logbooks", fields={}),
    Record(kind="evidence", fields={"number": 1}),
    Record(kind="evidence", fields={"number": 1, "state": b"", "more": 1}),
    Record(kind="evidence", fields={"number": "1", "state": b""}),
    Record(kind="evidence", fields={"number": True, "state": b""}),
    Record(kind="evidence", fields={"number": 2**63, "state": b""}),
    Record(kind="evidence", fields={"number": None, "state": b""}),
    Record(kind="events", fields={"revision": 8, "at": "now", "kind": "K", "data": "{}"}),
    Record(kind="events", fields={"revision": 7, "at": 0.0, "kind": "K", "data": "{}"}),
]


@pytest.mark.parametrize("kind", ["sqlite", POSTGRESQL])
@pytest.mark.parametrize("unfit", UNFIT, ids=range(len(UNFIT)))
async def test_a_record_that_has_no_place_leaves_nothing_behind(kind: str, unfit: Record, open_: Open) -> None:
    """The last one: a revision that is there already."""
    old, new = await filled(await open_("sqlite")), await open_(kind)
    with pytest.raises(StoreError):
        await new.copy_in("trips", [*await taken(old), unfit])
    assert list(await new.rollouts()) == []
    assert await taken(new) == []
    await new.copy_in("trips", await taken(old))


@pytest.mark.parametrize("kind", ["sqlite", POSTGRESQL])
async def test_a_copy_is_of_one_moment(kind: str, open_: Open) -> None:
    store = await filled(await open_(kind))
    before = await taken(store)
    copy = store.copy_out("trips")
    found = [await anext(copy)]
    await store.append("trips", 7, some_events("trips", 8, 1))
    await store.save_ticks("trips", [some_kept(9)], b"later")
    found += [record async for record in copy]
    assert found == before


async def test_nothing_is_taken_of_a_rollout_that_is_not_there(open_: Open) -> None:
    assert await taken(await filled(await open_("sqlite")), "tripz") == []

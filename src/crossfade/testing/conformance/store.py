"""What every `ports.Store` does. Subclass `StoreConformance`, and give it the fixture `connect`."""
# ruff: noqa: S101 - a suite asserts

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import pytest

from crossfade.core.clients.register import Registered
from crossfade.core.enrolment import Enrolment
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.feedback import Feedback, FeedbackCount
from crossfade.core.gates import Surroundings
from crossfade.core.look import KeptLook, KeptTick, Look
from crossfade.core.plan import DAY
from crossfade.core.split import Version
from crossfade.errors import ConflictError, StoreError, UsageError
from crossfade.ports import Lease, Store, StoredEvent

Connect = Callable[[], Awaitable[Store]]


def some_events(rollout: str, first: int, count: int, kind: str = "Paused") -> list[StoredEvent]:
    """Return `count` events numbered from `first`."""
    numbers = range(first, first + count)
    return [StoredEvent(rollout=rollout, revision=n, at=n / 3, kind=kind, data={"by": "ann", "n": n}) for n in numbers]


def some_tick(number: int) -> Tick:
    """Return a tick with something of everything in it."""
    cell = Cell(
        requests=3,
        failures=1,
        critical=1,
        failing_users={2**64 - 1, 0},
        latency=Counter({0: 1, 225: 2}),
        facts={"weather": Counter({"fallback": 2})},
        timings={"db": (2, 0.1 + 0.2)},
        outcomes={"conversion": (3, 0.1 + 0.7)},
    )
    arms = {Arm(Version.V1, "Zürich", ""): Cell(requests=1), Arm(Version.V2, "", "beta", True): cell}
    return Tick(
        number=number,
        start=number * 10.0,
        length=10.0,
        cells=arms,
        lost=2,
        sources=frozenset({"a", "b"}),
        unanswered={"checkout": "HTTP 503"},
    )


def some_kept(number: int, previous: int | None = None) -> KeptTick:
    """Return the same tick with a place in the evidence."""
    return KeptTick(tick=some_tick(number), revision=number // 2, previous=previous)


def some_look(at: float, record: Mapping[str, object] | None = None, **more: Any) -> KeptLook:
    """Return a look at plan time `at`."""
    look = Look(at=at, due=at - 0.1, **({"revision": 3, "tick": 7} | more))
    return KeptLook(look=look, outcome="HOLD", digest=b"\x00\xff234567", record=record)


def some_feedback(number: int) -> Feedback:
    """Return what somebody said; every fourth is of the same user."""
    return Feedback(
        key=f"key{number}",
        user=number % 4 - 2**62,
        version="v2" if number % 2 else "v1",
        at=float(number),
        rating=number or None,
        complaint="\N{RIGHT-TO-LEFT MARK}Ünï \N{SNOWMAN}\n<b>" if number in (2, 3) else "",
        topic="weather" if number > 2 else "",
    )


def _count(version: str, topic: str, **sums: int) -> FeedbackCount:
    return FeedbackCount(version=version, topic=topic, region="", **sums)


def some_enrolment(user: int) -> Enrolment:
    """Return a user's joining of a cohort."""
    return Enrolment(user=user, cohort="beta", consented_at=1.5, at=2.5, by="Ünï \N{SNOWMAN}")


def some_lease(holder: str, generation: int = 1) -> Lease:
    """Return a lease that was just taken."""
    address = f"http://{holder}:8090"
    return Lease(rollout="r", generation=generation, holder=holder, address=address, lasts_s=0.1 + 0.2, beat=0)


async def _has_written(store: Store, generation: int, n: int) -> list[str]:
    """Try every kind of write, the `n`th time; return those that were not refused."""
    last = len(await store.events("r"))
    writes: dict[str, Awaitable[object]] = {
        "append": store.append("r", last, some_events("r", last + 1, 1), generation=generation),
        "save_ticks": store.save_ticks("r", [some_kept(n)], b"%d" % n, generation=generation),
        "save_look": store.save_look("r", some_look(float(n), {"n": n}), generation=generation),
        "save_notices": store.save_notices("r", {"a": b"%d" % n}, generation=generation),
        "save_register": store.save_register("r", [Registered(client=str(n))], generation=generation),
        "prune": store.prune("r", float("-inf"), generation=generation),
    }
    done = []
    for name, write in writes.items():
        try:
            await write
        except ConflictError:
            continue
        done.append(name)
    return done


ALL_WRITES = ["append", "save_ticks", "save_look", "save_notices", "save_register", "prune"]


class _Word(StrEnum):
    ONE = "one"


class StoreConformance:
    """The suite. `connect()` returns another open handle on the same, at first empty, storage."""

    @pytest.fixture
    def connect(self) -> Connect:
        """Override: return what opens a handle; close them all at teardown."""
        raise NotImplementedError

    @pytest.fixture
    async def store(self, connect: Connect) -> Store:
        """Return the first handle."""
        return await connect()

    # ── events ──────────────────────────────────────────────────────────────────────────────────────────

    async def test_a_new_store_is_empty(self, store: Store) -> None:
        """Nothing is known of a rollout that nobody wrote."""
        assert list(await store.rollouts()) == []
        assert list(await store.events("r")) == []
        assert await store.evidence("r") is None
        assert list(await store.decisions("r")) == []
        assert list(await store.ticks("r")) == []
        assert list(await store.looks("r")) == []

    async def test_events_come_back_as_they_were_appended(self, store: Store) -> None:
        """In order, times to the last bit, seen by other handles too."""
        first, more = some_events("r", 1, 2), some_events("r", 3, 1)
        await store.append("r", 0, first)
        await store.append("r", 2, more)
        assert list(await store.events("r")) == first + more
        assert list(await store.events("r", after=1)) == [first[1], *more]
        assert list(await store.events("r", after=3)) == []

    async def test_another_handle_sees_what_was_written(self, store: Store, connect: Connect) -> None:
        """And after the writer has closed, too."""
        await store.append("r", 0, some_events("r", 1, 1))
        other = await connect()
        assert list(await other.events("r")) == some_events("r", 1, 1)

    @pytest.mark.parametrize("revision", [0, 1, 3, 7])
    async def test_append_after_another_revision_is_a_conflict_and_changes_nothing(
        self, store: Store, revision: int
    ) -> None:
        """Whether the caller is behind or ahead."""
        before = some_events("r", 1, 2)
        await store.append("r", 0, before)
        with pytest.raises(ConflictError):
            await store.append("r", revision, some_events("r", revision + 1, 2, kind="Resumed"))
        assert list(await store.events("r")) == before

    async def test_the_same_append_again_is_a_conflict(self, store: Store) -> None:
        """Who never got the reply can't know whose events these are, and reads anew."""
        await store.append("r", 0, some_events("r", 1, 1))
        with pytest.raises(ConflictError):
            await store.append("r", 0, some_events("r", 1, 1))
        assert len(await store.events("r")) == 1

    @pytest.mark.parametrize(
        "events",
        [some_events("other", 1, 1), some_events("r", 2, 1), [*some_events("r", 1, 1), *some_events("r", 1, 1)]],
        ids=["other-rollout", "gap", "twice"],
    )
    async def test_misnumbered_events_are_refused_whole(self, store: Store, events: Sequence[StoredEvent]) -> None:
        """A mistake of the caller."""
        with pytest.raises(ValueError, match="can't be appended"):
            await store.append("r", 0, events)
        assert list(await store.events("r")) == []

    async def test_appending_nothing_changes_nothing(self, store: Store) -> None:
        """A rollout begins with its first event."""
        await store.append("r", 0, [])
        assert list(await store.rollouts()) == []

    async def test_of_writers_that_race_one_wins_each_revision(self, connect: Connect) -> None:
        """Every other one is told; nothing is lost, doubled or torn."""
        handles = [await connect() for _ in range(3)]
        won = 0

        async def write(store: Store, name: str) -> None:
            nonlocal won
            for _ in range(15):
                last = len(await store.events("r"))
                try:
                    await store.append("r", last, some_events("r", last + 1, 2, kind=name))
                except ConflictError:
                    continue
                won += 1

        await asyncio.gather(*(write(store, f"By{n}") for n, store in enumerate(handles)))
        events = await handles[0].events("r")
        assert [event.revision for event in events] == list(range(1, 2 * won + 1))
        assert [event.kind for event in events[::2]] == [event.kind for event in events[1::2]]
        assert won >= 15

    async def test_rollouts_are_apart_and_the_last_written_comes_first(self, store: Store) -> None:
        """Revisions are counted by rollout."""
        await store.append("old", 0, some_events("old", 1, 1))
        await store.append("new", 0, some_events("new", 1, 2))
        assert list(await store.rollouts()) == ["new", "old"]
        await store.append("old", 1, some_events("old", 2, 1))
        assert list(await store.rollouts()) == ["old", "new"]
        assert [event.rollout for event in await store.events("new")] == ["new", "new"]

    async def test_data_is_kept_as_json_whatever_it_holds(self, store: Store) -> None:
        """Enums as text, sets and tuples as lists, what is not finite as null; odd text does no harm."""
        data = {
            "word": _Word.ONE,
            "set": frozenset({3, 1}),
            "tuple": (1, "é", "\x00", "'; drop table events"),
            "proxy": MappingProxyType({"deep": {_Word.ONE: 1}}),
            "nan": float("nan"),
            "inf": float("-inf"),
        }
        event = StoredEvent(rollout="Ünï \N{SNOWMAN}", revision=1, at=0.1, kind="K", data=data)
        await store.append(event.rollout, 0, [event])
        expected = {
            "word": "one",
            "set": [1, 3],
            "tuple": [1, "é", "\x00", "'; drop table events"],
            "proxy": {"deep": {"one": 1}},
            "nan": None,
            "inf": None,
        }
        assert [kept.data for kept in await store.events(event.rollout)] == [expected]

    async def test_text_and_numbers_that_json_can_not_hold_never_stop_an_event(self, store: Store) -> None:
        """A reason may come from anywhere; what is kept is close to it."""
        event = StoredEvent(rollout="r", revision=1, at=0.0, kind="K", data={"reason": "a\ud800b", "n": 2**80})
        await store.append("r", 0, [event])
        assert (await store.events("r"))[0].data == {"reason": "a?b", "n": str(2**80)}

    # ── ticks and evidence ──────────────────────────────────────────────────────────────────────────────

    async def test_ticks_are_kept_once_with_the_evidence_that_includes_them(self, store: Store) -> None:
        """The second time nothing changes, the evidence included."""
        assert await store.save_ticks("r", [some_kept(7)], b"\x00one") == 1
        assert await store.evidence("r") == (7, b"\x00one")
        assert await store.save_ticks("r", [some_kept(7)], b"two") == 0
        assert await store.evidence("r") == (7, b"\x00one")
        assert await store.save_ticks("r", [some_kept(7), some_kept(8, 7), some_kept(9, 8)], b"three") == 2
        assert await store.evidence("r") == (9, b"three")
        assert await store.evidence("other") is None
        assert await store.save_ticks("r", [], b"four") == 0
        assert await store.evidence("r") == (9, b"three")

    async def test_ticks_come_back_by_number_with_their_place(self, store: Store) -> None:
        """As many as asked for, above a number; the first of equal ones stays."""
        kept = [some_kept(n, None if n == -1 else n - 1) for n in range(-1, 4)]
        for one in reversed(kept):
            await store.save_ticks("r", [one], b"")
        await store.save_ticks("r", [replace(kept[0], revision=None)], b"")
        assert list(await store.ticks("r")) == kept
        assert list(await store.ticks("r", after=0)) == kept[2:]
        assert list(await store.ticks("r", after=-1, limit=2)) == kept[1:3]
        assert list(await store.ticks("r", limit=0)) == []
        assert list(await store.ticks("other")) == []

    async def test_a_tick_without_a_place_comes_back_without(self, store: Store) -> None:
        """Whoever kept it did not know."""
        kept = KeptTick(tick=some_tick(1), revision=None, previous=None)
        await store.save_ticks("r", [kept], b"")
        assert list(await store.ticks("r")) == [kept]

    async def test_a_late_tick_does_not_turn_the_number_back(self, store: Store) -> None:
        """Its evidence is the latest all the same."""
        await store.save_ticks("r", [some_kept(8)], b"eight")
        assert await store.save_ticks("r", [some_kept(7)], b"and seven") == 1
        assert await store.evidence("r") == (8, b"and seven")

    async def test_a_tick_raced_for_is_kept_by_one(self, connect: Connect) -> None:
        """And the evidence is that one's."""
        handles = [await connect() for _ in range(3)]
        kept = await asyncio.gather(*(s.save_ticks("r", [some_kept(1)], b"%d" % n) for n, s in enumerate(handles)))
        assert sorted(kept) == [0, 0, 1]
        assert await handles[0].evidence("r") == (1, b"%d" % kept.index(1))

    # ── decisions ───────────────────────────────────────────────────────────────────────────────────────

    async def test_decisions_come_newest_first(self, store: Store) -> None:
        """Each with its time, as many as asked for; looks without a record are none."""
        for n in range(5):
            record = {"outcome": _Word.ONE, "n": n, "gates": ({"x": float("nan")},)}
            await store.save_look("r", some_look(n / 3, record))
            await store.save_look("r", some_look(n / 3))
        await store.save_look("other", some_look(9.0, {"n": 9}))
        found = [dict(decision) for decision in await store.decisions("r", limit=2)]
        numbers = [int(str(decision.pop("number"))) for decision in found]
        assert found == [{"at": n / 3, "outcome": "one", "n": n, "gates": [{"x": None}]} for n in (4, 3)]
        assert numbers[0] > numbers[1] > 0
        older = await store.decisions("r", before=numbers[1])
        assert [decision["n"] for decision in older] == [2, 1, 0]
        assert len(await store.decisions("r")) == 5
        assert list(await store.decisions("r", limit=0)) == []

    async def test_looks_come_in_order_as_they_were_kept(self, store: Store) -> None:
        """Times to the last bit, odd text and windows included; each rollout has its own."""
        around = Surroundings(rollback_ready=False, drift="Ünï \x00 \N{SNOWMAN}", exempted="")
        looks = [
            some_look(0.1 + 0.2, {"n": 1}),
            some_look(1 / 3, tick=None, around=around, unkept="the disk is full"),
            some_look(1 / 7, {"n": 2}, window=some_tick(-3), around=Surroundings(rollback_ready=True)),
        ]
        for look in looks:
            await store.save_look("r", look)
            await store.save_look("other", look)
        found = list(await store.looks("r"))
        assert [replace(look, record=None, number=0) for look in found] == [replace(k, record=None) for k in looks]
        assert [look.record for look in found] == [{"at": 0.1 + 0.2, "n": 1}, None, {"at": 1 / 7, "n": 2}]
        numbers = [look.number for look in found]
        assert numbers == sorted(set(numbers))
        assert list(await store.looks("r", after=numbers[0], limit=1)) == found[1:2]
        assert list(await store.looks("r", after=numbers[2])) == []
        assert list(await store.looks("r", limit=0)) == []

    # ── the lease ───────────────────────────────────────────────────────────────────────────────────────

    async def test_a_lease_is_taken_by_one_and_renewed(self, store: Store, connect: Connect) -> None:
        """What others see of it is what was written, and a beat that goes on."""
        assert await store.lease("r") is None
        await store.acquire(some_lease("a"), None)
        other = await connect()
        assert await other.lease("r") == some_lease("a")
        with pytest.raises(ConflictError, match="taken the lease of r"):
            await other.acquire(some_lease("b"), None)
        await store.renew(some_lease("a"))
        await store.renew(some_lease("a"))
        assert await other.lease("r") == replace(some_lease("a"), beat=2)
        assert await other.lease("s") is None

    async def test_a_lease_that_was_renewed_meanwhile_is_not_taken(self, store: Store) -> None:
        """Who wants it has seen it stand still, and it has not."""
        await store.acquire(some_lease("a"), None)
        await store.renew(some_lease("a"))
        with pytest.raises(ConflictError):
            await store.acquire(some_lease("b", 2), some_lease("a"))
        await store.acquire(some_lease("b", 2), replace(some_lease("a"), beat=1))
        assert await store.lease("r") == some_lease("b", 2)

    async def test_of_those_who_take_a_lease_at_once_one_has_it(self, connect: Connect) -> None:
        """Whether it was somebody's or nobody's before."""
        handles = [await connect() for _ in range(4)]
        before = None
        for generation in (1, 2):
            wanted = [some_lease(f"h{n}", generation) for n in range(4)]
            tries = [s.acquire(w, before) for s, w in zip(handles, wanted, strict=True)]
            outcomes = await asyncio.gather(*tries, return_exceptions=True)
            assert sum(isinstance(outcome, ConflictError) for outcome in outcomes) == 3
            before = await handles[0].lease("r")
            assert before == wanted[outcomes.index(None)]

    async def test_logbooks_of_notices_are_kept_by_rule(self, store: Store, connect: Connect) -> None:
        """A rule's latest logbook stands; those of other rules and rollouts stay as they are."""
        assert await store.notices("r") == {}
        await store.save_notices("r", {"a": b"1", "b": b"\x00\xff"})
        await store.save_notices("r", {"a": b"2"})
        await store.save_notices("s", {"a": b"3"})
        await store.save_notices("s", {})
        other = await connect()
        assert (await other.notices("r"), await other.notices("s")) == ({"a": b"2", "b": b"\x00\xff"}, {"a": b"3"})

    async def test_the_population_is_kept_with_the_ticks_that_it_includes(self, store: Store, connect: Connect) -> None:
        """A second try changes nothing; none leaves the last one."""
        assert await store.population("r") is None
        await store.save_ticks("r", [some_kept(1)], b"e", population=b"\x00one")
        await store.save_ticks("r", [some_kept(1)], b"e", population=b"again")
        await store.save_ticks("r", [some_kept(2)], b"e", ledger=b"l")
        other = await connect()
        assert (await other.population("r"), await other.population("s")) == (b"\x00one", None)
        await store.save_ticks("r", [some_kept(3)], b"e", population=b"two")
        assert await other.population("r") == b"two"

    async def test_the_ledger_is_kept_with_the_ticks_that_it_includes(self, store: Store, connect: Connect) -> None:
        """A reply that was lost and a second try change nothing; no ledger leaves the last one."""
        assert await store.ledger("r") is None
        await store.save_ticks("r", [some_kept(1)], b"e", ledger=b"\x00one")
        await store.save_ticks("r", [some_kept(1)], b"e", ledger=b"again")
        await store.save_ticks("s", [some_kept(1)], b"e", ledger=b"other")
        await store.save_ticks("r", [some_kept(2)], b"e")
        other = await connect()
        assert (await other.ledger("r"), await other.ledger("s")) == (b"\x00one", b"other")
        await store.save_ticks("r", [some_kept(3)], b"e", ledger=b"two")
        assert await other.ledger("r") == b"two"

    async def test_the_register_of_clients_keeps_the_latest_of_each(self, store: Store, connect: Connect) -> None:
        """An entry stands until another of the same client comes, or it is gone; other rollouts have their own."""
        assert await store.register("r") == {}
        until = date(2026, 12, 31)
        zed = Registered(client="zéd", owner="Zoë", contact="z@example.org", notes="a\nb", exempt_until=until)
        await store.save_register("r", [zed, Registered(client="acme", owner="Ann")])
        await store.save_register("s", [Registered(client="acme")])
        await store.save_register("r", [Registered(client="bob")], ["nobody"])
        await store.save_register("r", [Registered(client="acme", owner="Al")], ["bob"])
        other = await connect()
        expected = {"acme": Registered(client="acme", owner="Al"), "zéd": zed}
        assert list((await other.register("r")).items()) == list(expected.items())
        assert list(await other.register("s")) == ["acme"]

    async def test_every_write_carries_the_generation_of_the_lease(self, store: Store, connect: Connect) -> None:
        """Any other one is refused and changes nothing, from the commit of the next one's lease on."""
        assert await _has_written(store, 0, 1) == ALL_WRITES
        await store.acquire(some_lease("a"), None)
        assert await _has_written(store, 0, 2) == []
        assert await _has_written(store, 1, 3) == ALL_WRITES
        other = await connect()
        await other.acquire(some_lease("b", 2), some_lease("a"))
        for n, generation in enumerate((0, 1, 3), start=4):
            assert await _has_written(store, generation, n) == []
        assert (len(await store.events("r")), await store.evidence("r")) == (2, (3, b"3"))
        assert [look.record and look.record["n"] for look in await store.looks("r")] == [1, 3]
        assert await _has_written(other, 2, 8) == ALL_WRITES

    async def test_a_refusal_says_who_leads_and_where(self, store: Store) -> None:
        """So that whoever asked can ask there."""
        await store.acquire(some_lease("a"), None)
        with pytest.raises(ConflictError, match="a leads at http://a:8090"):
            await store.append("r", 0, some_events("r", 1, 1))
        await store.acquire(some_lease("b", 2), some_lease("a"))
        with pytest.raises(ConflictError, match="b leads at http://b:8090"):
            await store.renew(some_lease("a"))
        await store.release(some_lease("b", 2))
        with pytest.raises(ConflictError, match="nobody leads"):
            await store.append("r", 0, some_events("r", 1, 1), generation=2)

    async def test_a_lease_given_back_ends_its_generation(self, store: Store) -> None:
        """The one who gave it back writes nothing more; giving back what another one has changes nothing."""
        await store.acquire(some_lease("a"), None)
        await store.release(some_lease("a"))
        free = await store.lease("r")
        assert free is not None
        assert (free.holder, free.generation) == ("", 2)
        assert await _has_written(store, 1, 1) == []
        with pytest.raises(ConflictError):
            await store.renew(some_lease("a"))
        await store.acquire(some_lease("b", 3), free)
        await store.release(some_lease("a"))
        assert await store.lease("r") == some_lease("b", 3)

    async def test_leases_of_other_rollouts_are_no_matter(self, store: Store) -> None:
        """Each rollout has its own."""
        await store.acquire(replace(some_lease("a"), rollout="s"), None)
        assert await _has_written(store, 0, 1) == ALL_WRITES
        await store.acquire(some_lease("b"), None)
        assert await _has_written(store, 1, 2) == ALL_WRITES

    # ── feedback ────────────────────────────────────────────────────────────────────────────────────────

    async def test_what_users_say_is_kept_once_counted_and_forgotten(self, store: Store) -> None:
        """Those of other rollouts are no matter, and a writer without the lease changes nothing."""
        said = [some_feedback(number) for number in range(6)]
        for one in said:
            assert await store.add_feedback("r", one, at_most=9)
        assert not await store.add_feedback("r", replace(said[1], complaint="otherwise"), at_most=9)
        assert await store.add_feedback("s", said[0], at_most=9)
        newest = await store.feedback("r", limit=4)
        assert [one for _, one in newest] == said[:1:-1]
        assert [one for _, one in await store.feedback("r", before=newest[-1][0])] == said[1::-1]
        assert [one for _, one in await store.feedback("r", version="v2", topic="weather")] == [said[5], said[3]]
        assert list(await store.feedback_counts("r", 2.0)) == [
            _count("v1", "", said=1, complaints=1, ratings=1, happy=0),
            _count("v1", "weather", said=1, complaints=0, ratings=1, happy=1),
            _count("v2", "weather", said=2, complaints=1, ratings=2, happy=1),
        ]
        with pytest.raises(ConflictError):
            await store.add_feedback("r", some_feedback(99), at_most=9, generation=7)
        with pytest.raises(ConflictError):
            await store.forget_feedback("r", user=said[0].user, generation=7)
        await store.close()
        await store.open()
        assert await store.forget_feedback("r", user=said[0].user) == 2
        assert await store.forget_feedback("r", before=said[2].at) == 1
        assert [one for _, one in await store.feedback("r")] == [said[5], said[3], said[2]]

    async def test_a_user_who_says_too_much_is_told(self, store: Store) -> None:
        """Of each day, and of each user."""
        for number in range(3):
            await store.add_feedback("r", replace(some_feedback(number), user=7), at_most=3)
        with pytest.raises(UsageError, match="3 things within a day"):
            await store.add_feedback("r", replace(some_feedback(4), user=7), at_most=3)
        assert not await store.add_feedback("r", replace(some_feedback(0), user=7), at_most=3)  # said before
        assert await store.add_feedback("r", replace(some_feedback(5), user=7, at=2 * DAY), at_most=3)
        assert await store.add_feedback("r", replace(some_feedback(6), user=8), at_most=3)

    async def test_a_user_is_asked_once_a_phase(self, store: Store) -> None:
        """Others, and in other phases, are asked as well; who can't write asks nobody."""
        assert await store.ask_once("r", "half", 7)
        assert not await store.ask_once("r", "half", 7)
        assert await store.ask_once("r", "half", -(2**63))
        assert await store.ask_once("r", "full", 7)
        assert await store.ask_once("s", "half", 7)
        with pytest.raises(ConflictError):
            await store.ask_once("r", "full", 8, generation=7)

    async def test_who_was_asked_is_forgotten_by_phase_and_by_user(self, store: Store) -> None:
        """Of one rollout, a few at a time; a writer without the lease changes nothing."""
        for phase, user in (("half", 1), ("half", 2), ("half", 3), ("full", 1), ("full", -(2**63))):
            await store.ask_once("r", phase, user)
        await store.ask_once("s", "half", 1)
        assert await store.asked_in("r") == ["full", "half"]
        with pytest.raises(ConflictError):
            await store.forget_asked("r", "half", generation=7)
        with pytest.raises(ConflictError):
            await store.forget_feedback("r", user=1, generation=7)
        assert not await store.ask_once("r", "full", 1)
        assert await store.forget_feedback("r", user=1) == 0
        assert await store.ask_once("r", "full", 1)
        assert [await store.forget_asked("r", "half", limit=1) for _ in range(3)] == [1, 1, 0]
        assert await store.asked_in("r") == ["full"]
        assert not await store.ask_once("r", "full", -(2**63))
        assert await store.asked_in("s") == ["half"]

    # ── keys ────────────────────────────────────────────────────────────────────────────────────────────

    async def test_the_first_key_stays_whoever_proposes_another(self, store: Store, connect: Connect) -> None:
        """Of one rollout and name; a writer without the lease proposes none."""
        assert await store.key("r", "form") is None
        with pytest.raises(ConflictError):
            await store.keep_key("r", "form", b"0", generation=7)
        other = await connect()
        kept = await asyncio.gather(store.keep_key("r", "form", b"\x001"), other.keep_key("r", "form", b"\x002"))
        assert kept[0] == kept[1] == await store.key("r", "form") == await other.key("r", "form")
        assert await store.keep_key("s", "form", b"3") == b"3"
        assert await store.keep_key("r", "more", b"4") == b"4"

    # ── enrolments ──────────────────────────────────────────────────────────────────────────────────────

    async def test_enrolments_are_kept_replaced_and_forgotten(self, store: Store) -> None:
        """Those of other rollouts are no matter, and a writer without the lease changes nothing."""
        await store.save_enrolments("r", [some_enrolment(2), some_enrolment(-1)])
        await store.save_enrolments("s", [some_enrolment(2)])
        await store.save_enrolments("r", [some_enrolment(3), replace(some_enrolment(2), cohort="")], [-1, 99])
        kept = {2: replace(some_enrolment(2), cohort=""), 3: some_enrolment(3)}
        assert await store.enrolments("r") == kept
        assert await store.enrolments("s") == {2: some_enrolment(2)}
        with pytest.raises(ConflictError):
            await store.save_enrolments("r", [some_enrolment(4)], [2], generation=7)
        assert await store.enrolments("r") == kept
        await store.close()
        await store.open()
        assert await store.enrolments("r") == kept

    # ── keeping house ───────────────────────────────────────────────────────────────────────────────────

    async def test_pruning_lets_go_of_the_old_some_at_a_time_and_of_no_event(self, store: Store) -> None:
        """Of what began before a time and ended after it nothing."""
        await store.append("r", 0, some_events("r", 1, 3))
        await store.save_ticks("r", [some_kept(n) for n in range(8)], b"state")
        for n in range(8):
            await store.save_look("r", some_look(10.0 * n, {"n": n} if n % 2 else None))
        await store.save_ticks("other", [some_kept(0)], b"")
        await store.save_look("other", some_look(0.0, {"n": 0}))
        assert [await store.prune("r", 45.0, limit=2) for _ in range(4)] == [6, 4, 1, 0]
        assert [kept.tick.number for kept in await store.ticks("r")] == [4, 5, 6, 7]
        assert [look.look.at for look in await store.looks("r")] == [50.0, 60.0, 70.0]
        assert [record["n"] for record in await store.decisions("r")] == [7, 5]
        assert (len(await store.events("r")), await store.evidence("r")) == (3, (7, b"state"))
        assert len(await store.ticks("other")) == len(await store.decisions("other")) == 1
        await store.save_look("r", some_look(80.0))
        assert [look.look.at for look in await store.looks("r")][-1] == 80.0

    # ── life ────────────────────────────────────────────────────────────────────────────────────────────

    async def test_closing_loses_nothing_and_opening_again_goes_on(self, store: Store) -> None:
        """Closing and opening twice is harmless."""
        await store.append("r", 0, some_events("r", 1, 1))
        await store.save_ticks("r", [some_kept(1)], b"state")
        await store.close()
        await store.close()
        await store.open()
        await store.open()
        await store.append("r", 1, some_events("r", 2, 1))
        assert len(await store.events("r")) == 2
        assert await store.evidence("r") == (1, b"state")

    async def test_a_closed_store_says_so(self, store: Store) -> None:
        """Not an error of the database's own."""
        await store.close()
        with pytest.raises(StoreError, match="not open"):
            await store.events("r")

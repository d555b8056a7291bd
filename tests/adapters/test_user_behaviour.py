"""What users do, in requests and as posted: whose it is, and that restarts neither lose nor double it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from crossfade.adapters.outcomes import PostedEvent, UserBehaviour
from crossfade.app.planfile import load_plan
from crossfade.core.enrolment import Enrolment, Members
from crossfade.core.evidence.sums import Arm, Doing, Tick
from crossfade.core.machine import State
from crossfade.core.plan import DAY, HOUR, Behaviour, Counted, Metric, MetricKind, Plan, UserEvent
from crossfade.core.rollout import Rollout, Span
from crossfade.core.split import Split, Version, assign, user_hash
from crossfade.errors import StoreError

TRIPS = load_plan(Path(__file__).parents[2] / "plans" / "trips-v2.yaml")
HALF = 3
SALT = TRIPS.assignment.salt


def _metric(name: str, rule: Behaviour) -> Metric:
    kind = MetricKind.VALUE if rule.counted is Counted.SUMS else MetricKind.OUTCOME
    return Metric(name=name, kind=kind, outcome=name, behaviour=rule)


PLAN: Plan = replace(
    TRIPS,
    events=(
        UserEvent(name="search", method="GET", paths=("/trips/search",)),
        UserEvent(name="book"),
        UserEvent(name="visit"),
    ),
    metrics=(
        *TRIPS.metrics,
        _metric("conversion", Behaviour(of="search", counted=Counted.REACHES, event="book", within_s=HOUR)),
        _metric("value", Behaviour(of="search", counted=Counted.SUMS, event="book", within_s=2 * HOUR, most=100)),
        _metric("back", Behaviour(of="visit", counted=Counted.RETURNS, event="visit", within_s=2 * DAY)),
    ),
)
NOON = 20_000 * DAY + DAY / 2
TICK = 60.0
Found = dict[str, dict[Arm, tuple[int, float]]]


class Desk:
    """A desk at noon, in the half phase; `restart` is a crash and a start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.span = Span(NOON - DAY, HALF, opened=True, killed=False)
        self.members = Members(PLAN.assignment)
        self.last: int | None = None
        self.behaviour = self._made()

    def _made(self) -> UserBehaviour:
        async def last() -> int | None:
            return self.last

        made = UserBehaviour(PLAN, self.folder, key=b"k", kept=last)
        made.assigned = lambda: (Rollout(name="r", state=State.RUNNING, spans=(self.span,)), self.members)
        return made

    async def restart(self) -> None:
        self.behaviour = self._made()
        await self.behaviour.start()

    def take(self, *events: PostedEvent, now: float = NOON) -> dict[str, int]:
        return {fate.value: count for fate, count in self.behaviour.take(events, now).items() if count}

    def tick(self, at: float, *doings: Doing, seen: bool = True, kept: bool = True) -> Found:
        """Close the tick of a moment and return what it counts; `kept`: the store has it."""
        number = int(at // TICK)
        sources = frozenset({"collector"} if seen else ())
        tick = Tick(number=number, start=number * TICK, length=TICK, cells={}, sources=sources, doings=doings)
        cells = self.behaviour.add_to(tick).cells
        if kept:
            self.last = number
        found: Found = {}
        for arm, cell in cells.items():
            for name, (count, total) in cell.outcomes.items():
                found.setdefault(name, {})[arm] = count, round(total, 4)
        return found

    def sums(self, at: float) -> dict[str, tuple[int, float]]:
        """Close the tick of a moment; return units and their sum over all arms."""
        found = self.tick(at)
        return {name: (sum(n for n, _ in f.values()), sum(k for _, k in f.values())) for name, f in found.items()}


@pytest.fixture
async def desk(tmp_path: Path) -> Desk:
    desk = Desk(tmp_path / "events")
    await desk.behaviour.start()
    return desk


def doing(event: str, *users: str, region: str = "", times: int = 1) -> Doing:
    found = np.unique(np.array([user_hash(user, SALT) & (2**64 - 1) for user in users], dtype=np.uint64))
    return Doing(event=event, region=region, cohort="", users=found, times=np.full(len(found), times, dtype=np.int64))


def book(user: str, value: float = 1.0, **more: object) -> PostedEvent:
    return PostedEvent(event="book", user=user, value=value, **more)  # type: ignore[arg-type]


async def test_requests_open_windows_and_posts_count_in_them(desk: Desk) -> None:
    users = [f"u{n}" for n in range(200)]
    assert desk.tick(NOON, doing("search", *users)) == {}
    assert desk.take(*(book(user, 30, id=user) for user in users[:50]), now=NOON + 600) == {"taken": 50}
    on = {user: assign(user, salt=SALT, split=Split(everyone=5000), cohort=None).version for user in users}
    booked = Counter(on[user] for user in users[:50])
    found = desk.tick(NOON + HOUR + 2 * TICK)
    units = Counter(on.values())
    assert found == {"conversion": {Arm(v, "", ""): (units[v], float(booked[v])) for v in Version}}
    found = desk.tick(NOON + 2 * HOUR + 2 * TICK)
    assert found == {"value": {Arm(v, "", ""): (units[v], round(0.3 * booked[v], 4)) for v in Version}}


async def test_who_is_in_two_regions_at_once_has_one_window(desk: Desk) -> None:
    desk.tick(NOON, doing("search", "u1", "u2", region="eu"), doing("search", "u1", "u3", region="us"))
    assert desk.sums(NOON + HOUR + 2 * TICK) == {"conversion": (3, 0.0)}


async def test_the_same_told_again_counts_once(desk: Desk) -> None:
    desk.tick(NOON, doing("search", "u1"))
    now = NOON + 600
    assert desk.take(book("u1", 20, id="o-1"), book("u1", 20, id="o-1"), now=now) == {"taken": 1, "repeated": 1}
    assert desk.take(book("u1", 20, at=NOON + 300), book("u1", 30, at=NOON + 300), now=now) == {"taken": 2}
    assert desk.take(book("u1", 20, at=NOON + 300), now=now) == {"repeated": 1}
    await desk.restart()
    assert desk.take(book("u1", 20, id="o-1"), now=now) == {"repeated": 1}
    desk.tick(NOON + HOUR + 2 * TICK)
    assert desk.sums(NOON + 2 * HOUR + 2 * TICK) == {"value": (1, 0.7)}


@pytest.mark.parametrize(
    ("event", "fate"),
    [
        (book("u1", at=NOON - DAY - 1), "outdated"),  # before the assignment
        (book("u1", at=NOON - 600), "taken"),
        (book("u1", at=NOON + 900), "taken"),  # a clock that is ahead: now
        (PostedEvent(event="visit", user="u1", at=NOON - 13 * HOUR), "outdated"),  # its day may have had a window
        (PostedEvent(event="visit", user="u1", at=NOON - 11 * HOUR), "taken"),
    ],
)
async def test_what_is_too_old_is_told_to_be(desk: Desk, event: PostedEvent, fate: str) -> None:
    assert desk.take(event) == {fate: 1}


async def test_windows_end_with_the_assignment(desk: Desk) -> None:
    desk.tick(NOON, doing("search", "u1", "u2"))
    desk.span = Span(NOON + 300, HALF, opened=False, killed=True)
    assert desk.take(PostedEvent(event="visit", user="u1"), now=NOON + 400) == {"outdated": 1}
    desk.tick(NOON + 600, doing("search", "u3"))  # everybody is on V1
    desk.span = Span(NOON + 1200, HALF, opened=True, killed=False)
    desk.tick(NOON + 1140, doing("search", "u4"))  # of before
    desk.tick(NOON + 1200, doing("search", "u1"))
    assert desk.sums(NOON + 1200 + HOUR + 2 * TICK) == {"conversion": (1, 0.0)}


async def test_who_leaves_a_cohort_in_between_counts_for_nobody(desk: Desk) -> None:
    desk.tick(NOON, doing("search", "u1", "u2"))
    user = user_hash("u1", SALT)
    own = Enrolment(user=user, cohort="beta", consented_at=0.0, at=NOON + 120, by="x")
    desk.members = Members(PLAN.assignment, {user: own})
    assert desk.sums(NOON + HOUR + 2 * TICK) == {"conversion": (1, 0.0)}


async def test_what_nobody_watched_waits(desk: Desk) -> None:
    desk.tick(NOON, doing("search", "u1"))
    assert desk.tick(NOON + HOUR + 2 * TICK, seen=False) == {}
    assert desk.sums(NOON + HOUR + 3 * TICK) == {"conversion": (1, 0.0)}


@pytest.mark.parametrize("seed", range(4))
async def test_crashes_neither_lose_nor_double(tmp_path: Path, seed: int) -> None:
    """The same days with and without crashes, and with ticks that the store did not get."""
    sums: list[Counter[str]] = []
    for crashing in (False, True):
        dice, crash = np.random.default_rng(seed), np.random.default_rng(seed + 100)
        desk = Desk(tmp_path / str(crashing))
        await desk.behaviour.start()
        found: Counter[str] = Counter()
        for number, at in enumerate([*np.arange(NOON, NOON + 3 * DAY, 30 * TICK).tolist(), NOON + 9 * DAY]):
            users = [f"u{n}" for n in dice.integers(0, 40, 6)]
            events = [book(f"u{dice.integers(40)}", float(dice.integers(90)), id=f"{number}-{n}") for n in range(3)]
            visits = [PostedEvent(event="visit", user=f"u{dice.integers(40)}") for _ in range(2)]
            desk.take(*events, *visits, now=at)
            if crashing and crash.random() < 0.2:
                await desk.restart()
                assert set(desk.take(*events, now=at)) == {"repeated"}
            kept = not crashing or crash.random() < 0.8
            new = desk.tick(at, doing("search", *users), kept=kept)
            if not kept:
                await desk.restart()  # the tick is lost with the process; the next one has its windows
                new = desk.tick(at + TICK)
            for name, arms in new.items():
                for arm, (count, total) in arms.items():
                    found[f"{name} {arm.version}"] += count
                    found[f"{name} {arm.version} sum"] += round(1e4 * total)
        sums.append(found)
    assert sums[0] == sums[1]
    assert sums[0]["conversion v1"] > 20
    assert sums[0]["back v2 sum"] > 0


async def test_half_a_record_is_cut_off(desk: Desk) -> None:
    desk.tick(NOON, doing("search", "u1"))
    desk.take(book("u1", 50, id="1"))
    (path,) = desk.folder.glob("*.windows")
    whole = path.read_bytes()
    desk.take(book("u1", 50, id="2"))
    path.write_bytes(path.read_bytes()[:-3])
    await desk.restart()
    assert path.read_bytes() == whole
    assert desk.take(book("u1", 10, id="2"), book("u1", 50, id="1")) == {"taken": 1, "repeated": 1}


@pytest.mark.parametrize("text", [b"nonsense\n", b"{}\n", b'{"bytes": "x"}\n'])
async def test_a_file_that_holds_something_else_is_one_clear_error(desk: Desk, text: bytes) -> None:
    (desk.folder / "20000.windows").write_bytes(text)
    with pytest.raises(StoreError, match=r"20000\.windows holds no records of what users did: .*; move it away"):
        await desk.restart()


async def test_what_cannot_be_written_is_not_taken(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.tick(NOON, doing("search", "u1"))
    with monkeypatch.context() as broken:
        broken.setattr(desk.behaviour, "_folder", desk.folder / "missing")
        with pytest.raises(StoreError, match="can't be written"):
            desk.take(book("u1", 50, id="1"))
    assert desk.take(book("u1", 50, id="1")) == {"taken": 1}
    desk.tick(NOON + HOUR + 2 * TICK)
    assert desk.sums(NOON + 2 * HOUR + 2 * TICK) == {"value": (1, 0.5)}


async def test_files_are_gone_when_no_window_needs_them(desk: Desk) -> None:
    for day in range(8):
        desk.tick(NOON + day * DAY, doing("search", f"u{day}"))
    days = sorted(int(path.stem) for path in desk.folder.glob("*.windows"))
    assert days == [20_002, 20_003, 20_004, 20_005, 20_006, 20_007]


async def test_a_plan_without_events_keeps_nothing(tmp_path: Path) -> None:
    plain = replace(TRIPS, events=(), metrics=tuple(m for m in TRIPS.metrics if m.behaviour is None))
    idle = UserBehaviour(plain, tmp_path / "none", key=b"k")
    await idle.start()
    tick = Tick(number=1, start=0.0, length=10.0, cells={}, sources=frozenset({"c"}))
    assert (idle.add_to(tick), (tmp_path / "none").exists(), idle.names) == (tick, False, ())

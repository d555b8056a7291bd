"""Posted outcomes: whose they are, in which tick they count, and that nobody counts twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.outcomes import Fate, Posted, PostedOutcomes
from crossfade.adapters.outcomes.posted import JOURNAL, REGIONS_MAX
from crossfade.app.planfile import load_plan
from crossfade.core.evidence.sums import Arm, Tick
from crossfade.core.plan import DAY, Metric, MetricKind, Plan
from crossfade.core.split import NOBODY, Split, Version, assign
from crossfade.errors import StoreError

TRIPS = load_plan(Path(__file__).parents[2] / "plans" / "trips-v2.yaml")
CONVERSION = Metric(name="conversion", kind=MetricKind.OUTCOME, outcome="conversion")
PLAN: Plan = replace(TRIPS, metrics=(*TRIPS.metrics, CONVERSION))
HALF = Split(everyone=5000)
NOON = 20_000 * DAY + DAY / 2


class Desk:
    """A desk at noon; `take` and `close` tell what became of outcomes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.posted = PostedOutcomes(PLAN, folder, key=b"k", tick_s=10)

    def take(self, *outcomes: Posted, now: float = NOON, since: float = 0.0, killed: bool = False) -> dict[str, int]:
        fates = self.posted.take(outcomes, assigned=lambda _: (HALF, killed), phase_since=since, now=now)
        return {fate.value: count for fate, count in fates.items() if count}

    def take_of(self, history: Sequence[tuple[float, Split, bool]], *outcomes: Posted, now: float) -> dict[str, int]:
        """Take outcomes of a phase whose assignment changed: since when it was which."""

        def assigned(at: float) -> tuple[Split, bool] | None:
            return next((found[1:] for found in reversed(history) if found[0] <= at), None)

        fates = self.posted.take(outcomes, assigned=assigned, phase_since=0.0, now=now)
        return {fate.value: count for fate, count in fates.items() if count}

    def close(self, at: float = NOON, *, seen: bool = True) -> dict[Arm, tuple[int, float]]:
        """Close the tick of a moment and return its outcomes."""
        number = int(at // 10)
        sources = frozenset({"collector"} if seen else ())
        tick = self.posted.add_to(Tick(number=number, start=number * 10.0, length=10.0, cells={}, sources=sources))
        return {arm: cell.outcomes["conversion"] for arm, cell in tick.cells.items()}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def of(user: str, value: float = 1.0, **more: object) -> Posted:
    return Posted(outcome="conversion", user=user, value=value, **more)  # type: ignore[arg-type]


def test_an_outcome_counts_for_the_version_its_user_is_on(desk: Desk) -> None:
    users = [f"u{n}" for n in range(200)]
    assert desk.take(*(of(user, 0.5) for user in users)) == {"taken": 200}
    salt = PLAN.assignment.salt
    on = Counter(assign(user, salt=salt, split=HALF, cohort=None).version for user in users)
    assert desk.close() == {Arm(version, "", ""): (n, n / 2) for version, n in on.items()}
    assert desk.close(NOON + 10) == {}


def test_cohorts_and_regions_are_kept_apart(desk: Desk) -> None:
    staff = min(PLAN.assignment.cohorts["internal"])
    desk.take(of(staff, region="eu\n"), of("u1", region="us"))
    assert {("eu", "internal"), ("us", "")} == {(arm.region, arm.cohort) for arm in desk.close()}


def test_regions_are_bounded(desk: Desk) -> None:
    desk.take(*(of(f"u{n}", region=f"r{n}") for n in range(REGIONS_MAX + 20)))
    found = desk.close()
    assert len({arm.region for arm in found}) == REGIONS_MAX + 1
    assert sum(n for n, _ in found.values()) == REGIONS_MAX + 20


def test_an_outcome_counts_for_the_version_its_user_was_on_when_it_happened(desk: Desk) -> None:
    """Posted after a rollback, what was before it is still V2's; of a time that nobody knows it is nobody's."""
    salt = PLAN.assignment.salt
    users = [f"u{n}" for n in range(99)]
    second = [user for user in users if assign(user, salt=salt, split=HALF, cohort=None).version is Version.V2]
    history = [(NOON - 100, HALF, False), (NOON - 50, NOBODY, True)]
    before = [of(user, at=NOON - 60) for user in second]
    after = [of(f"{user} too", at=NOON - 40) for user in second]
    unknown = of("anybody", at=NOON - 101)
    assert desk.take_of(history, *before, *after, unknown, now=NOON) == {"taken": 2 * len(second), "outdated": 1}
    found = desk.close(NOON)
    assert (found[Arm(Version.V2, "", "")][0], found[Arm(Version.V1, "", "")][0]) == (len(second), len(second))


def test_what_is_of_a_drill_counts_for_no_version(desk: Desk) -> None:
    history = [(0.0, HALF, False), (NOON - 50, HALF, True), (NOON - 20, HALF, False)]
    posted = [of("u1", at=NOON - 30), of("u2", at=NOON - 51), of("u3", at=NOON - 20)]
    assert desk.take_of(history, *posted, now=NOON) == {"taken": 2, "outdated": 1}


def test_after_a_rollback_everybody_counts_as_v1(desk: Desk) -> None:
    desk.take(*(of(f"u{n}") for n in range(50)), killed=True)
    assert {Version.V1} == {arm.version for arm in desk.close()}


def test_a_user_counts_once_a_day_and_the_first_counts(desk: Desk) -> None:
    assert desk.take(of("u1", 1.0), of("u1", 0.0), of("u2")) == {"taken": 2, "repeated": 1}
    assert desk.take(of("u1", 0.0), now=NOON + 60) == {"repeated": 1}
    assert sum(value for _, value in desk.close().values()) == 2.0
    assert desk.take(of("u1"), now=NOON + DAY) == {"taken": 1}


def test_an_id_counts_once_whatever_day_it_comes(desk: Desk) -> None:
    assert desk.take(of("u1", id="order-7")) == {"taken": 1}
    assert desk.take(of("u1", id="order-7"), now=NOON + DAY) == {"repeated": 1}
    assert desk.take(of("u2", id="order-8"), of("u3", id="order-8")) == {"taken": 1, "repeated": 1}


def test_a_restart_counts_nobody_twice_and_keeps_no_user_in_clear(desk: Desk) -> None:
    desk.take(of("somebody", id="order-7"))
    again = Desk(desk.folder)
    assert again.take(of("somebody"), of("u2", id="order-7")) == {"repeated": 2}
    assert sum(path.stat().st_size for path in desk.folder.glob("*.units")) == 16
    assert b"some" not in b"".join(path.read_bytes() for path in desk.folder.iterdir())


def test_a_file_that_a_crash_cut_is_read_as_far_as_it_goes(desk: Desk) -> None:
    desk.take(of("u1"), of("u2"))
    (file,) = desk.folder.glob("*.units")
    file.write_bytes(file.read_bytes()[:-3])
    again = Desk(desk.folder)
    assert again.take(of("u1"), of("u2")) == {"taken": 1, "repeated": 1}
    assert Desk(desk.folder).take(of("u1"), of("u2")) == {"repeated": 2}


def test_at_puts_an_outcome_into_its_tick_while_that_is_open(desk: Desk) -> None:
    desk.take(of("u1", at=NOON - 30), of("u2"))
    assert sum(n for n, _ in desk.close(NOON - 30).values()) == 1
    assert sum(n for n, _ in desk.close(NOON).values()) == 1
    desk.take(of("u3", at=NOON - 30), now=NOON + 30)
    assert desk.close(NOON + 20) == {}
    assert sum(n for n, _ in desk.close(NOON + 30).values()) == 1


def test_what_is_older_than_the_phase_or_three_days_is_outdated(desk: Desk) -> None:
    assert desk.take(of("u1", at=NOON - 60), since=NOON - 30) == {"outdated": 1}
    assert desk.take(of("u1", at=NOON - 3 * DAY)) == {"outdated": 1}
    assert desk.take(of("u1", at=NOON - 2 * DAY), of("u1", at=NOON - DAY), of("u1")) == {"taken": 3}


def test_files_of_days_that_are_over_go(desk: Desk) -> None:
    for day in range(5):
        desk.take(of("u1"), now=NOON + day * DAY)
    assert len(list(desk.folder.glob("*.units"))) == 3


def test_a_tick_that_nobody_reported_leaves_outcomes_to_the_next(desk: Desk) -> None:
    desk.take(of("u1"))
    assert desk.close(seen=False) == {}
    assert sum(n for n, _ in desk.close(NOON + 10).values()) == 1


class World:
    """A store that has ticks or hasn't, and processes that end at any moment."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number, self.told, self.has = folder, 1000, 0, dict[int, int]()
        self.unsaved: dict[int, int] = {}
        self.desk = self._process()

    def _process(self) -> PostedOutcomes:
        return PostedOutcomes(PLAN, self.folder, key=b"k", tick_s=10, kept=self._last)

    async def _last(self) -> int | None:
        return max(self.has, default=None)

    async def step(self, what: str) -> None:
        match what:
            case "post":
                users = [of(f"u{self.told + n}", at=10.0 * self.number - 15 * n) for n in range(3)]
                fates = self.desk.take(users, assigned=lambda _: (HALF, False), phase_since=0.0, now=10.0 * self.number)
                self.told += fates[Fate.TAKEN]
            case "close" | "dark":
                sources = frozenset({"collector"} if what == "close" else ())
                tick = Tick(number=self.number, start=10.0 * self.number, length=10.0, cells={}, sources=sources)
                added = self.desk.add_to(tick).cells.values()
                self.unsaved[self.number] = sum(cell.outcomes["conversion"][0] for cell in added)
                self.number += 1
            case "save":
                self.has |= self.unsaved
                self.unsaved.clear()
            case _:
                self.unsaved.clear()
                self.desk = self._process()
                await self.desk.start()


@given(steps=st.lists(st.sampled_from(["post", "post", "close", "close", "dark", "save", "crash"]), max_size=40))
async def test_what_was_taken_is_in_the_stores_ticks_once_however_often_the_process_dies(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    world = World(tmp_path_factory.mktemp("crashes"))
    for step in [*steps, "crash", "close", "save"]:
        await world.step(step)
    assert sum(world.has.values()) == world.told


async def test_a_journal_that_grew_long_is_written_anew_with_what_is_needed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossfade.adapters.outcomes.posted.JOURNAL_BYTES", 5000)
    desk = Desk(desk.folder)
    sizes = []
    for number in range(50):
        desk.take(*(of(f"u{number}-{n}") for n in range(10)), now=NOON + 10 * number)
        sizes.append((desk.folder / JOURNAL).stat().st_size)
    assert max(sizes) < 16_000
    again = Desk(desk.folder)
    await again.posted.start()
    assert sum(n for n, _ in again.close(NOON + 500).values()) == 500
    assert again.take(*(of(f"u{number}-3") for number in range(50))) == {"repeated": 50}


async def test_half_a_line_was_not_taken_and_another_file_is_told(desk: Desk) -> None:
    desk.take(of("u1"))
    journal = desk.folder / JOURNAL
    journal.write_bytes(journal.read_bytes() + b'{"units": [[20000, "00')
    again = Desk(desk.folder)
    await again.posted.start()
    again.take(of("u2"))
    assert sum(n for n, _ in again.close().values()) == 2
    journal.write_text("no journal\n")
    with pytest.raises(StoreError, match="is no journal of outcomes"):
        await Desk(desk.folder).posted.start()


def test_units_are_found_among_very_many(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossfade.adapters.outcomes.units._RECENT", 10)
    for first in range(0, 200, 5):
        assert desk.take(*(of(f"u{n}") for n in range(first, first + 5))) == {"taken": 5}
    assert desk.take(*(of(f"u{n}") for n in range(201))) == {"repeated": 200, "taken": 1}


def test_units_that_can_not_be_kept_are_not_taken(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "missing")
    with pytest.raises(StoreError, match="can't be written"):
        desk.take(of("u1"))
    assert desk.close() == {}
    desk.folder.mkdir()
    assert desk.take(of("u1")) == {"taken": 1}


@given(users=st.lists(st.text(min_size=1, max_size=6), max_size=30))
def test_any_users_are_counted_once_each(tmp_path_factory: pytest.TempPathFactory, users: list[str]) -> None:
    desk = Desk(tmp_path_factory.mktemp("units"))
    fates = desk.posted.take([of(user) for user in users], assigned=lambda _: (HALF, False), phase_since=0.0, now=NOON)
    assert fates[Fate.TAKEN] == len(set(users)) == sum(n for n, _ in desk.close().values())

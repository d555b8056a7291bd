"""What users do, as windows that count once: against the same told in plain words, and at its edges."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from crossfade.core.behaviour import GRACE_S, Hit, Opened, Times, Users, Windows
from crossfade.core.evidence.sums import Arm
from crossfade.core.plan import DAY, HOUR, Behaviour, Counted
from crossfade.core.split import Version

V1, V2 = Arm(Version.V1, "", ""), Arm(Version.V2, "", "beta")
REACHES = Behaviour(of="search", counted=Counted.REACHES, event="book", within_s=HOUR)
SUMS = Behaviour(of="search", counted=Counted.SUMS, event="book", within_s=2 * HOUR, most=50)
RETURNS = Behaviour(of="search", counted=Counted.RETURNS, event="search", within_s=3 * DAY)
RULES = pytest.mark.parametrize("rule", [REACHES, SUMS, RETURNS], ids=lambda rule: rule.counted.value)


def _users(*users: int) -> Users:
    return np.array(users, dtype=np.uint64)


def _at(*times: float) -> Times:
    return np.array(times, dtype=np.float64)


def _opened(windows: Windows, arm: Arm, user: int, at: float) -> bool:
    new = windows.opens(arm, _users(user), _at(at))
    windows.add(new)
    return bool(len(new.users))


def _hit(windows: Windows, user: int, at: float, value: float = 1.0) -> bool:
    new = windows.hits(_users(user), _at(at), _at(value))
    windows.add(new)
    return bool(len(new.users))


Found = dict[Arm, tuple[int, float]]


def _rounded(found: Found) -> Found:
    return {arm: (count, round(total, 4)) for arm, (count, total) in found.items()}


@dataclass
class _Window:
    arm: Arm
    user: int
    since: float
    total: float = 0.0
    over: bool = False


@dataclass
class _Plain:
    """The same with one object a window."""

    rule: Behaviour
    windows: list[_Window] = field(default_factory=list)

    def open(self, arm: Arm, user: int, at: float) -> None:
        for one in self.windows:
            if one.user == user and (one.since // DAY == at // DAY or 0 <= at - one.since <= self.rule.within_s):
                return
        self.windows.append(_Window(arm, user, at))

    def hit(self, user: int, at: float, value: float) -> None:
        for one in self.windows:
            if one.user != user or one.over or not 0 <= at - one.since <= self.rule.within_s:
                continue
            if self.rule.counted is Counted.RETURNS and at // DAY <= one.since // DAY:
                continue
            one.total += value / self.rule.most if self.rule.counted is Counted.SUMS else 1.0

    def close(self, until: float) -> Found:
        found: Found = {}
        for one in self.windows:
            if not one.over and one.since + self.rule.within_s + GRACE_S <= until:
                one.over = True
                count, total = found.get(one.arm, (0, 0.0))
                found[one.arm] = count + 1, total + min(1.0, one.total)
        return found


@RULES
@pytest.mark.parametrize("seed", range(4))
def test_windows_count_what_plain_words_say(rule: Behaviour, seed: int) -> None:
    dice = np.random.default_rng(seed)
    windows, plain = Windows(rule), _Plain(rule)
    arms = {user: (V1, V2)[user % 2] for user in range(60)}
    for tick in range(0, int(6 * DAY), 1800):
        for user in sorted(dice.choice(60, 12, replace=False).tolist()):
            _opened(windows, arms[user], user, tick)
            plain.open(arms[user], user, tick)
        batch = [(int(dice.integers(60)), float(tick), float(dice.integers(40))) for _ in range(8)]
        users, at, values = zip(*batch, strict=True)
        windows.add(windows.hits(_users(*users), _at(*at), _at(*values)))
        for user, when, value in batch:
            plain.hit(user, when, value)
        found, wanted = windows.close(tick + 1800), plain.close(tick + 1800)
        assert _rounded(found) == _rounded(wanted)


def test_of_many_at_once_each_user_opens_one_a_day() -> None:
    windows = Windows(REACHES)
    new = windows.opens(V1, _users(2, 1, 2, 2, 3), _at(50, 10, 20, DAY + 5, 0))
    assert (new.users.tolist(), new.at.tolist()) == ([1, 2, 3], [10, 20, 0])
    windows.add(new)
    assert (_opened(windows, V1, 2, 7200), _opened(windows, V1, 2, DAY + 5)) == (False, True)


def test_a_window_that_is_over_takes_nothing_and_its_day_has_no_other() -> None:
    windows = Windows(REACHES)
    assert _opened(windows, V1, 7, 1000)
    assert windows.close(1000 + HOUR + GRACE_S - 1) == {}
    assert windows.close(1000 + HOUR + GRACE_S) == {V1: (1, 0.0)}
    assert (_hit(windows, 7, 1000 + HOUR), _opened(windows, V1, 7, 5000)) == (False, False)
    assert windows.close(DAY) == {}
    assert len(windows) == 0  # nothing is kept of a day that is past


@pytest.mark.parametrize(("at", "counts"), [(999, False), (1000, True), (1000 + HOUR, True), (1002 + HOUR, False)])
def test_only_what_happens_in_the_window_counts(at: float, *, counts: bool) -> None:
    windows = Windows(REACHES)
    _opened(windows, V1, 7, 1000)
    assert (_hit(windows, 7, at), _hit(windows, 8, 1000)) == (counts, False)
    assert windows.close(DAY) == {V1: (1, float(counts))}


def test_values_beyond_the_most_count_as_the_most() -> None:
    windows = Windows(SUMS)
    for user, value in ((1, 20.0), (1, 20.0), (2, 49.0), (2, 900.0)):
        _opened(windows, V2, user, 0)
        assert _hit(windows, user, 5, value)
    assert _rounded(windows.close(DAY)) == {V2: (2, 1.8)}


def test_who_comes_twice_on_one_day_has_not_returned() -> None:
    windows = Windows(RETURNS)
    _opened(windows, V1, 1, 23 * HOUR)
    assert (_hit(windows, 1, 23.5 * HOUR), _hit(windows, 1, 24.5 * HOUR)) == (False, True)
    assert not _opened(windows, V1, 1, 24.5 * HOUR)  # the first window goes on
    assert windows.close(5 * DAY) == {V1: (1, 1.0)}


def test_who_joins_a_cohort_in_between_counts_for_nobody() -> None:
    windows = Windows(REACHES)
    for user in (1, 2, 3):
        _opened(windows, V1, user, 100)
    assert windows.close(DAY - 1, [(1, 50.0), (2, 101.0), (9, 200.0)]) == {V1: (2, 0.0)}


def test_windows_that_users_were_taken_out_of_count_for_nobody() -> None:
    windows = Windows(REACHES)
    _opened(windows, V1, 1, 100)
    windows.begin_anew()
    assert _opened(windows, V2, 1, 200)
    assert windows.close(DAY) == {V2: (1, 0.0)}


def test_a_window_costs_13_bytes_and_8_when_it_is_over() -> None:
    windows = Windows(REACHES)
    for start in range(0, 400_000, 20_000):
        users = np.arange(start, start + 20_000, dtype=np.uint64) * np.uint64(2**44 + 7)
        windows.add(windows.opens(V1, users, np.full(20_000, 60.0 + start / 100)))
    assert len(windows) == 400_000
    assert windows.size <= 13 * 400_000
    assert windows.close(DAY - 1) == {V1: (400_000, 0.0)}
    assert windows.size == 8 * 400_000


def test_nothing_changes_before_it_is_added() -> None:
    windows = Windows(REACHES)
    assert isinstance(windows.opens(V1, _users(1), _at(5)), Opened)
    assert len(windows) == 0
    _opened(windows, V1, 1, 5)
    assert isinstance(windows.hits(_users(1), _at(6), _at(1)), Hit)
    assert windows.close(DAY) == {V1: (1, 0.0)}

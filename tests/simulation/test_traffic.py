"""The traffic model: reproducible, right in the mean, bent by the hour."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest

from crossfade.simulation.traffic import DAY_S, HOUR_S, REGIONS, Traffic, diurnal, make_users

MIDNIGHT = datetime(2026, 3, 2, tzinfo=UTC).timestamp()


def _traffic(seed: int = 7, rate: float = 0.5, users: int = 300) -> Traffic:
    return Traffic(make_users([f"u{i:04}" for i in range(users)], seed), mean_rate=rate, seed=seed)


def test_same_seed_draws_the_same_slice_in_any_order() -> None:
    first, second = _traffic(), _traffic()
    later = first.slice(9, MIDNIGHT, HOUR_S)
    second.slice(3, MIDNIGHT, HOUR_S)
    assert later == second.slice(9, MIDNIGHT, HOUR_S)
    assert first.users == second.users


def test_another_seed_or_slice_draws_otherwise() -> None:
    traffic = _traffic()
    assert traffic.slice(1, MIDNIGHT, HOUR_S) != traffic.slice(2, MIDNIGHT, HOUR_S)
    assert _traffic(1).slice(1, MIDNIGHT, HOUR_S) != _traffic(2).slice(1, MIDNIGHT, HOUR_S)


def test_mean_of_the_curve_over_a_day_is_one_and_it_is_never_negative() -> None:
    hours = np.linspace(0, 24, 24 * 60, endpoint=False)
    assert diurnal(hours).mean() == pytest.approx(1.0, abs=1e-9)
    assert diurnal(hours).min() > 0.2
    assert diurnal(17.0) > 2.5 * diurnal(3.0)


def test_a_whole_day_brings_the_mean_rate() -> None:
    traffic = _traffic(rate=0.2)
    count = sum(len(traffic.slice(i, MIDNIGHT + i * 600, 600)) for i in range(144))
    assert count == pytest.approx(0.2 * DAY_S, rel=0.03)


def test_regions_peak_in_their_own_afternoon() -> None:
    traffic = _traffic()
    by_hour = np.array([traffic.rates(MIDNIGHT + hour * HOUR_S) for hour in range(24)])
    peaks = by_hour.argmax(axis=0)
    for region, peak in zip(REGIONS, peaks, strict=True):
        assert 14 <= (peak + region.offset_h) % 24 <= 20


def test_arrivals_lie_inside_their_slice_in_order_and_busy_users_come_more_often() -> None:
    traffic = _traffic(rate=2.0, users=50)
    arrivals = traffic.slice(0, MIDNIGHT, DAY_S)
    times = [arrival.at for arrival in arrivals]
    assert times == sorted(times)
    assert times[0] >= MIDNIGHT
    assert times[-1] < MIDNIGHT + DAY_S
    counts = Counter(arrival.user for arrival in arrivals)
    region = [i for i, user in enumerate(traffic.users) if user.region == 0]
    busiest = max(region, key=lambda i: traffic.users[i].activity)
    laziest = min(region, key=lambda i: traffic.users[i].activity)
    assert counts[busiest] > counts[laziest]


def test_traffic_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="needs users"):
        Traffic((), mean_rate=1.0, seed=0)

"""Splits and assignment."""

from __future__ import annotations

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.split import BUCKETS, Split, Version, assign, bucket_of

keys = st.text(min_size=1, max_size=200)
salts = st.integers(0, 2**31 - 1)
shares = st.integers(0, BUCKETS)


@given(keys, salts)
def test_the_bucket_is_what_anyone_computes_from_salt_and_key(key: str, salt: int) -> None:
    assert xxhash.xxh64(key.encode(), seed=salt).intdigest() % 10_000 == bucket_of(key, salt)


@given(keys, salts, shares, shares)
def test_a_raise_moves_users_only_to_v2(key: str, salt: int, one: int, other: int) -> None:
    low, high = sorted((one, other))
    before = assign(key, salt=salt, split=Split(everyone=low), cohort=None).version
    after = assign(key, salt=salt, split=Split(everyone=high), cohort=None).version
    assert (before, after) != (Version.V2, Version.V1)


@given(keys, salts)
def test_nobody_is_on_v2_at_0_and_everybody_at_100_percent(key: str, salt: int) -> None:
    assert assign(key, salt=salt, split=Split(), cohort=None).version is Version.V1
    assert assign(key, salt=salt, split=Split(everyone=BUCKETS), cohort=None).version is Version.V2


@given(keys, salts, shares)
def test_a_kill_beats_every_share(key: str, salt: int, share: int) -> None:
    split = Split(everyone=share, cohorts={"beta": BUCKETS})
    assert assign(key, salt=salt, split=split, cohort="beta", killed=True).version is Version.V1


def test_a_cohort_has_its_own_share_and_others_have_everyones() -> None:
    split = Split(everyone=0, cohorts={"beta": 2000})
    assert (split.share_of("beta"), split.share_of("other"), split.share_of(None)) == (2000, 0, 0)


def test_the_weight_counts_cohorts_by_their_size() -> None:
    """500 beta users of 2,000 at 20 % are 5 % of all."""
    assert Split(everyone=0, cohorts={"beta": 2000}).weight({"beta": 500}, 2000) == pytest.approx(500)


def test_a_share_outside_0_to_10000_is_refused() -> None:
    with pytest.raises(ValueError, match=r"beta: a share is 0\.\.10000 basis points, not 10001"):
        Split(cohorts={"beta": 10_001})


@given(shares, shares, shares, shares)
def test_rises_from_means_that_nobody_falls_back(a: int, b: int, c: int, d: int) -> None:
    earlier, later = Split(everyone=a, cohorts={"x": b}), Split(everyone=c, cohorts={"x": d})
    assert (c >= a and d >= b) == later.rises_from(earlier)


def test_the_reason_names_bucket_share_and_cohort() -> None:
    answer = assign("u1", salt=7, split=Split(cohorts={"beta": 10_000}), cohort="beta")
    assert f"bucket {answer.bucket} is below 10000 of 10000, V2's share (100 %) for cohort beta" == answer.reason

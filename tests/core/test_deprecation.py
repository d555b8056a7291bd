"""The headers that tell V1's clients, read by grammars that are not ours."""

from __future__ import annotations

import re
from dataclasses import replace
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.deprecation import imf_fixdate, v1_headers
from crossfade.core.plan import Deprecation

SINCE, SUNSET = 1_803_859_200, 1_819_782_000
DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT")
LINKS = re.compile(r'<([^<>"\s]+)>; rel="([a-z-]+)"')


SAID = Deprecation(since=SINCE, successor="/v2/trips")


def test_all_that_a_plan_says_is_told() -> None:
    told = v1_headers(replace(SAID, sunset=SUNSET, notice="https://example.com/a;b", policy="/policy"), 0)
    assert set(told) == {"Deprecation", "Sunset", "Link"}
    assert (told["Deprecation"], told["Sunset"]) == ("@1803859200", "Wed, 01 Sep 2027 07:00:00 GMT")
    assert dict(map(reversed, LINKS.findall(told["Link"]))) == {
        "deprecation": "https://example.com/a;b",
        "sunset": "/policy",
        "successor-version": "/v2/trips",
    }


def test_what_a_plan_does_not_say_is_not_told() -> None:
    assert v1_headers(SAID, 0) == {"Deprecation": "@1803859200", "Link": '</v2/trips>; rel="successor-version"'}


def test_nothing_is_told_before_the_phase_that_begins_to() -> None:
    told = [bool(v1_headers(replace(SAID, from_phase=2), phase)) for phase in range(4)]
    assert told == [False, False, True, True]


@given(st.integers(0, 253_402_300_799))
def test_dates_are_those_of_http(seconds: int) -> None:
    written = imf_fixdate(seconds)
    assert DATE.fullmatch(written)
    assert parsedate_to_datetime(written).timestamp() == seconds


def test_a_sunset_is_not_before_the_deprecation() -> None:
    with pytest.raises(ValueError, match="sunset"):
        replace(SAID, sunset=SINCE - 1)
    assert replace(SAID, sunset=SINCE).sunset == SINCE

"""Facts: a dictionary of RFC 9651, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.facts import NO_FACTS, Facts, parse_facts


@pytest.mark.parametrize(
    ("header", "values", "timings"),
    [
        ("flights=1, weather=fallback", (("flights", "1"), ("weather", "fallback")), ()),
        ("db=3.1, cache=hit", (("cache", "hit"),), (("db", 3.1),)),
        ("a, b=?0, c=?1", (("a", "1"), ("b", "0"), ("c", "1")), ()),
        ('s="x, y \\" z"', (("s", 'x, y " z'),), ()),
        ("a=1;q=2;r, b=2", (("a", "1"), ("b", "2")), ()),
        ("a=1, a=2", (("a", "2"),), ()),
        ("n=-5, d=-0.5", (("n", "-5"),), (("d", -0.5),)),
        ("weather-breaker=half_open", (("weather-breaker", "half_open"),), ()),
    ],
)
def test_a_dictionary_is_read(
    header: str, values: tuple[tuple[str, str], ...], timings: tuple[tuple[str, float], ...]
) -> None:
    assert Facts(values, timings) == parse_facts(header)


@pytest.mark.parametrize("header", ["a=", "A=1", "a=1,", ",", "a==1", "a=1 b=2", "=", "é=1", "a=(1 2)", '"'])
def test_what_is_no_dictionary_says_nothing(header: str) -> None:
    assert (parse_facts(header).values, parse_facts(header).timings, parse_facts(header).understood) == ((), (), False)


def test_an_empty_header_has_no_facts() -> None:
    assert parse_facts("  ") == NO_FACTS


def test_too_many_facts_say_nothing() -> None:
    assert not parse_facts(", ".join(f"f{i}=1" for i in range(33))).understood


@given(st.text(max_size=300))
def test_no_text_raises(text: str) -> None:
    parse_facts(text)

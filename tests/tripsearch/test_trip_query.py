from __future__ import annotations

from datetime import date
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tripsearch.problem import ProblemError
from tripsearch.query import parse, schedule_date


def refused(query: bytes) -> ProblemError:
    with pytest.raises(ProblemError) as caught:
        parse(query)
    return caught.value


def look(query: bytes) -> None:
    """Read it; a problem has to be one that can be sent."""
    problem = None
    try:
        parse(query)
    except ProblemError as error:
        problem = error
    assert problem is None or (problem.status in (400, 404) and problem.body())


def test_codes_are_read_in_any_case() -> None:
    search = parse(b"from=jfk&to=LaX&date=2026-03-05")
    assert ("JFK", "LAX", date(2026, 3, 5)) == (search.origin.iata, search.destination.iata, search.date)


def test_what_else_is_in_the_query_does_not_matter() -> None:
    assert parse(b"utm=1&from=JFK&to=LAX&date=2026-03-05&x").destination.iata == "LAX"


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        (b"", ["from", "to", "date"]),
        (b"from=JFK&to=LAX", ["date"]),
        (b"from=JFK&to=LAX&date=", ["date"]),
        (b"from=JFK&from=LGA&to=LAX&date=2026-03-05", ["from"]),
        (b"from=JFKX&to=L4X&date=2026-03-05", ["from", "to"]),
        (b"from=JFK&to=LAX&date=2026-02-30", ["date"]),
        (b"from=JFK&to=LAX&date=2026-3-5", ["date"]),
        (b"from=JFK&to=LAX&date=20260305", ["date"]),
        (b"from=JFK&to=LAX&date=2026-W10-4", ["date"]),
        (b"from=JFK&to=LAX&date=0000-01-01", ["date"]),
        (b"from=JFK&to=LAX&date=2026-03-05%0a", ["date"]),
        ("from=JFK&to=LAX&date=" + quote("\uff12\uff10\uff12\uff16-03-05"), ["date"]),
        (b"from=JFK%00&to=LAX&date=2026-03-05", ["from"]),
        (b"from=%ff%fe%fd&to=LAX&date=2026-03-05", ["from"]),
        (b"from=JFK&to=jfk&date=2026-03-05", ["to"]),
        (b"from=JFK'--&to=LAX&date=2026-03-05", ["from"]),
    ],
)
def test_every_wrong_field_is_named(query: bytes | str, fields: list[str]) -> None:
    problem = refused(query.encode() if isinstance(query, str) else query)
    assert (400, fields) == (problem.status, [f.field for f in problem.fields])
    assert problem.body()


def test_a_code_that_no_airport_has_is_not_found() -> None:
    problem = refused(b"from=JFK&to=QQQ&date=2026-03-05")
    assert (problem.status, problem.fields[0].field) == (404, "to")


@pytest.mark.parametrize("query", [b"a=" + b"x" * 5000, b"&".join([b"a=1"] * 100), "from=\xe9".encode("latin-1")])
def test_a_query_beyond_reading_is_refused(query: bytes) -> None:
    assert refused(query).status == 400


@given(st.binary(max_size=200))
def test_any_bytes_are_a_search_or_a_problem(query: bytes) -> None:
    look(query)


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_any_values_are_a_search_or_a_problem(origin: str, destination: str, day: str) -> None:
    values = [quote(v.encode("utf-8", "surrogatepass")) for v in (origin, destination, day)]
    query = "from={}&to={}&date={}".format(*values).encode()
    look(query)


@given(st.dates())
def test_every_day_has_a_day_in_the_schedule(day: date) -> None:
    then = schedule_date(day)
    assert (2013, day.month) == (then.year, then.month)
    assert then.day == (28 if (day.month, day.day) == (2, 29) else day.day)

"""The `deprecation` section: dates, links, and what its mistakes are told as."""

from __future__ import annotations

import jsonschema
import pytest
import yaml
from tests.app.conftest import PLAN, Desk

from crossfade.app.planfile import digest, json_schema, quantities, summarise
from crossfade.core.plan import Deprecation

SECTION = "deprecation: {since: 2027-03-01, sunset: 2027-09-01T09:00+02:00, notice: 'https://example.com/ends'}\n"
SINCE, SUNSET = 1_803_859_200, 1_819_782_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-03-01", SINCE),
        ("2027-03-01T00:00Z", SINCE),
        ("2027-03-01 01:00:00 +01:00", SINCE),
        ("2027-09-01T09:00+02:00", SUNSET),
        ("2028-02-29", 1_835_395_200),
    ],
)
def test_moments(text: str, seconds: int) -> None:
    assert seconds == quantities.moment(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2027-02-29", "no date in any calendar"),
        ("2027-03-01T09:00", "in which zone"),
        ("2027-03-01T25:00Z", "no date in any calendar"),
        ("1 March 2027", "no date"),
        ("03/01/2027", "no date"),
        ("1803859200", "no date"),
    ],
)
def test_no_moments(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        quantities.moment(text)


@pytest.mark.parametrize("text", ["https://a/b?c=d#e", "http://[::1]/x", "/v2/trips", "/a(b),c;d"])
def test_links(text: str) -> None:
    assert text == quantities.link(text)


@pytest.mark.parametrize(
    "text", ["", "v2", "//evil", "ftp://a", "/a>b", '/a"b', "/a b", "/\r\nSet-Cookie: a", "/" + "a" * 1000]
)
def test_no_links(text: str) -> None:
    with pytest.raises(ValueError, match="no link"):
        quantities.link(text)


def test_the_section_becomes_headers(desk: Desk) -> None:
    plan = desk.load(PLAN + SECTION)
    assert plan.deprecation == Deprecation(
        since=SINCE, sunset=SUNSET, notice="https://example.com/ends", successor=plan.api.v2.path
    )
    told = " ".join(summarise(plan, now=SINCE + 1.0).split())
    assert "deprecated since 2027-03-01 00:00 UTC (past)" in told
    assert "may be gone from 2027-09-01 07:00 UTC;" in told
    assert "Deprecation: @1803859200 Link:" in told


def test_editors_see_the_same() -> None:
    schema = json_schema()
    section = yaml.load(SECTION, yaml.BaseLoader)
    jsonschema.validate(section["deprecation"], schema["properties"]["deprecation"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"since": "March"}, schema["properties"]["deprecation"])


def test_the_phase_from_which_on_it_is_told(desk: Desk) -> None:
    plan = desk.load(PLAN + "deprecation: {since: 2027-03-01, from: half}\n")
    assert plan.deprecation is not None
    assert plan.deprecation.from_phase == plan.phase_index("half")


@pytest.mark.parametrize(
    ("section", "path", "told"),
    [
        ("{sunset: 2027-09-01}", "deprecation.since", "is missing"),
        ("{since: 2027-03-01, sunset: 2027-02-01}", "deprecation.sunset", "is before `since`"),
        ("{since: 2027-03-01, from: hlaf}", "deprecation.from", "did you mean 'half'?"),
        ("{since: 2027-03-01, notice: ends.html}", "deprecation.notice", "no link"),
        ("{since: 2027-03-01, sunsett: 2027-04-01}", "deprecation.sunsett", "did you mean 'sunset'?"),
        ("2027-03-01", "deprecation", "write a mapping"),
    ],
)
def test_mistakes(desk: Desk, section: str, path: str, told: str) -> None:
    (problem,) = desk.problems(f"{PLAN}deprecation: {section}\n")
    assert (problem.field, told in problem.message) == (path, True), problem
    assert problem.line == len(PLAN.splitlines()) + 1


def test_a_plan_without_it_keeps_its_digest(desk: Desk) -> None:
    without = desk.load(PLAN)
    assert without.deprecation is None
    assert digest(without) != desk.load(PLAN + SECTION).digest

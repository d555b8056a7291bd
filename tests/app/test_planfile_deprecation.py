"""The `deprecation` section: dates, links, and what its mistakes are told as."""

from __future__ import annotations

import jsonschema
import pytest
import yaml
from tests.app.conftest import PLAN, Desk

from crossfade.app.planfile import digest, json_schema, quantities, summarise
from crossfade.core.plan import Brownout, Deprecation, GateKind

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
        ("2027-09-01T09:00 Europe/Berlin", SUNSET),
        ("2027-03-28T01:59 Europe/Berlin", 1_806_195_540),
        ("2027-03-28T03:00 Europe/Berlin", 1_806_195_600),
        ("2027-10-31T01:59 Europe/Berlin", 1_824_940_740),
        ("2027-10-31T03:00 Europe/Berlin", 1_824_948_000),
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
        ("2027-03-28T02:30 Europe/Berlin", "does not exist: clocks are put forward"),
        ("2027-10-31T02:30 Europe/Berlin", r"comes twice.*2027-10-31T02:30\+02:00 or 2027-10-31T02:30\+01:00"),
        ("2027-03-28T02:30 Europe/Atlantis", "no time zone that this machine knows"),
        ("2027-03-28T02:30 ../etc/passwd", "no date"),
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


FIRST = "{name: first, at: 2027-06-01T10:00 Europe/Berlin, for: 15m, share: 10%}"
CALENDAR = "deprecation: {since: 2027-03-01, sunset: 2027-09-01, brownouts: [%s]}\n"


def test_a_calendar_of_brownouts(desk: Desk) -> None:
    """In the order of its times, however it is written."""
    late = "{name: late, at: 2027-07-01T10:00Z, for: 1h, share: 100%}"
    plan = desk.load(PLAN + CALENDAR % f"{late}, {FIRST}")
    assert plan.deprecation is not None
    assert plan.deprecation.brownouts == (
        Brownout(name="first", at=1_811_836_800, until=1_811_837_700, share=1000),
        Brownout(name="late", at=1_814_436_000, until=1_814_439_600, share=10_000),
    )
    told = " ".join(summarise(plan, now=1_811_836_801.0).split())
    assert "Brownout: @1811836800;until=@1811837700;share=0.1, @1814436000;" in told
    assert "brownout first: 2027-06-01 08:00 UTC (past) for 15m, 10 % of the clients" in told
    assert "brownout late: 2027-07-01 10:00 UTC for 1h, everybody" in told
    section = yaml.load(CALENDAR % FIRST, yaml.BaseLoader)
    jsonschema.validate(section["deprecation"], json_schema()["properties"]["deprecation"])


@pytest.mark.parametrize(
    ("calendar", "told"),
    [
        ("{name: a, at: 2027-06-01, for: 15m, share: 10%}", "says no time of day"),
        ("{name: a, at: 2027-06-01T10:00, for: 15m, share: 10%}", "in which zone"),
        ("{name: a, at: 2027-06-01T10:00Z, for: 5s, share: 10%}", "write whole seconds from 1m to 1d"),
        ("{name: a, at: 2027-06-01T10:00Z, for: 15m, share: 0%}", "are nobody"),
        ("{name: a, at: 2027-06-01T10:00Z, for: 15m, share: 10}", "write 10%"),
        ("{name: a, at: 2027-06-01T10:00Z, for: 15m}", "is missing"),
        ("{name: a, at: 2027-02-01T10:00Z, for: 15m, share: 10%}", "begins before `since`"),
        ("{name: a, at: 2027-08-31T23:59Z, for: 15m, share: 10%}", "ends after `sunset`"),
        (f"{FIRST}, {FIRST}", "another brownout is called 'first'"),
        (f"{FIRST}, {{name: b, at: 2027-06-01T08:14Z, for: 15m, share: 10%}}", "before first is over"),
        (f"{FIRST}, {{name: b, at: 2027-06-02T08:14Z, for: 15m, shar: 10%}}", "did you mean 'share'"),
        (", ".join(f"{{name: n{n}, at: 2027-06-{n + 1:02}T08:14Z, for: 15m, share: 1%}}" for n in range(21)), "21"),
    ],
)
def test_calendars_with_mistakes(desk: Desk, calendar: str, told: str) -> None:
    problems = desk.problems(PLAN + CALENDAR % calendar)
    assert len(problems) == 1
    assert told in problems[0].message, problems
    assert problems[0].field.startswith("deprecation.brownouts")


def test_one_for_everybody_is_not_taken_for_blindness(desk: Desk) -> None:
    text = PLAN + "when blind: rollback after 15m\n"
    desk.load(text + CALENDAR % FIRST)
    (problem,) = desk.problems(text + CALENDAR % FIRST.replace("10%", "100%"))
    assert "leaves no traffic for 15m" in problem.message
    desk.load(text + CALENDAR % FIRST.replace("10%", "100%").replace("15m", "14m"))


def test_a_gate_on_exemptions_needs_clients_that_can_be_exempt(desk: Desk) -> None:
    gated = PLAN.replace("approved by a person]", "approved by a person, no exempted client left]")
    assert gated != PLAN
    (problem,) = desk.problems(gated)
    assert "of full ask for `no exempted client left`, and no client is exempt without `deprecation`" in problem.message
    plan = desk.load(gated + SECTION)
    assert any(gate.kind is GateKind.NO_EXEMPTED_CLIENTS for gate in plan.phases[-1].gates)

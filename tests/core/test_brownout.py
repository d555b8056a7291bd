"""The calendar of brownouts: whom one meets, when it begins and ends, and how it is announced."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core import events as e
from crossfade.core.brownout import absence, announced, due, meets, salt_of
from crossfade.core.deprecation import gone_headers, v1_headers
from crossfade.core.plan import Api, AssignmentRule, Brownout, Deprecation, Phase, Plan, Upstream
from crossfade.core.rollout import Rollout, fold
from crossfade.core.split import Split
from crossfade.engine.apply import wanted_state

AT = 1_811_844_000
FIRST = Brownout(name="first", at=AT, until=AT + 900, share=1000)
SECOND = Brownout(name="second", at=AT + 86_400, until=AT + 88_200, share=10_000)
SAID = Deprecation(since=AT - 86_400, sunset=AT + 10**6, successor="/v2/trips", brownouts=(FIRST, SECOND))
PLAN = Plan(
    name="trips",
    api=Api(
        entry="/trips",
        v1=Upstream(path="/v1/trips", upstreams=("127.0.0.1:1",)),
        v2=Upstream(path="/v2/trips", upstreams=("127.0.0.1:2",)),
    ),
    assignment=AssignmentRule(user=(), salt=7),
    metrics=(),
    phases=(
        Phase(name="half", split=Split(everyone=5000), target=5000, soak_s=60.0, gates=()),
        Phase(name="full", split=Split(everyone=10_000), target=10_000, soak_s=60.0, gates=()),
    ),
    deprecation=SAID,
)
STARTED = (e.RolloutStarted(at=0.0, plan="trips", digest=""),)
BEGUN = e.BrownoutStarted(at=float(AT), name="first", until=AT + 900, share=1000)

# RFC 9651: a list (3.1) of dates (3.3.7) with parameters (3.1.2) that are a date and a decimal (3.3.2)
_DATE = r"@(?:0|-?[1-9][0-9]{0,14})"
_ITEM = rf"{_DATE};until={_DATE};share=-?[0-9]{{1,12}}\.[0-9]{{1,3}}"
LIST = re.compile(rf"{_ITEM}(?:[ \t]*,[ \t]*{_ITEM})*")


def after(*events: e.Event) -> Rollout:
    return fold("trips", (*STARTED, *events))


def told(rollout: Rollout, at: float, plan: Plan = PLAN) -> list[tuple[str, str]]:
    return [(type(event).__name__, event.name) for event in due(plan, rollout, at)]  # type: ignore[attr-defined]


def test_it_goes_on_in_its_time_and_no_longer() -> None:
    times = [AT - 1.0, float(AT), AT + 899.0]
    assert [told(after(), at) for at in times] == [[], [("BrownoutStarted", "first")], [("BrownoutStarted", "first")]]
    assert told(after(BEGUN), AT + 899.0) == []
    assert told(after(BEGUN), AT + 900.0) == [("BrownoutEnded", "first")]
    over = after(BEGUN, e.BrownoutEnded(at=AT + 900.0, name="first", reason=""))
    assert told(over, AT + 901.0) == []
    assert told(over, AT + 86_400.0) == [("BrownoutStarted", "second")]


def test_one_that_was_missed_is_over_and_says_why() -> None:
    held = after(e.HoldBegan(at=1.0, kind="BLIND", reason="no telemetry"))
    assert told(held, float(AT)) == []
    (missed,) = due(PLAN, held, AT + 900.0)
    assert isinstance(missed, e.BrownoutEnded)
    assert missed.reason == "its time passed: the engine held: no telemetry"


def test_a_hold_does_not_end_it() -> None:
    assert told(after(BEGUN, e.HoldBegan(at=AT + 1.0, kind="BLIND", reason="none")), AT + 2.0) == []


@pytest.mark.parametrize(
    "event",
    [
        e.RolledBack(at=AT + 1.0, reason="", trigger="person", took_s=0.1, nodes={}),
        e.DrillStarted(at=AT + 1.0, phase=0, name="half", within_s=60.0, reason=""),
        e.Aborted(at=AT + 1.0, by="ada", reason=""),
    ],
)
def test_whatever_puts_everyone_on_v1_ends_it_for_good(event: e.Event) -> None:
    rollout = after(BEGUN, event)
    assert (rollout.brownout, rollout.brownouts_over) == (None, frozenset({"first"}))
    assert wanted_state(PLAN, rollout).brownout is None
    assert told(rollout, AT + 2.0) == []


def test_after_a_rollback_none_begins() -> None:
    rolled_back = after(e.RolledBack(at=1.0, reason="", trigger="person", took_s=0.1, nodes={}))
    assert told(rolled_back, float(AT)) == []
    assert told(rolled_back, AT + 900.0) == [("BrownoutEnded", "first")]


def test_none_begins_before_v1_is_announced_to_go() -> None:
    late = replace(PLAN, deprecation=replace(SAID, from_phase=1))
    assert told(after(), float(AT), late) == []
    entered = after(e.PhasePromoted(at=1.0, phase=1, name="full", reason=""))
    assert told(entered, float(AT), late) == [("BrownoutStarted", "first")]


def test_each_change_outdates_what_was_asked_of_the_proxy_before() -> None:
    begun = after(BEGUN)
    over = after(BEGUN, e.BrownoutEnded(at=AT + 5.0, name="first", reason="by hand", by="ada"))
    assert [after().generation, begun.generation, over.generation] == [1, 2, 3]
    wanted = wanted_state(PLAN, begun)
    assert wanted.brownout == absence(PLAN, begun)
    assert wanted_state(PLAN, over).brownout is None


def test_what_the_proxy_answers() -> None:
    wanted = absence(PLAN, after(BEGUN))
    assert wanted is not None
    assert (wanted.until, wanted.share, wanted.salt) == (AT + 900, 1000, salt_of("trips", "first"))
    body = json.loads(wanted.body)
    assert {"type": "about:blank", "status": 410, "successor": "/v2/trips"}.items() <= body.items()
    assert datetime.fromisoformat(body["back"]).timestamp() == AT + 900
    assert datetime.fromisoformat(body["sunset"]).timestamp() == AT + 10**6


@given(st.integers(1, 10_000), st.integers(0, 10**11), st.integers(1, 86_400))
def test_the_header_is_a_list_of_dates(share: int, at: int, length: int) -> None:
    one = Brownout(name="one", at=at, until=at + length, share=share)
    two = Brownout(name="two", at=at + length, until=at + length + 1, share=1)
    written = announced(replace(SAID, brownouts=(one, two)), ())
    assert LIST.fullmatch(written), written
    assert float(written.split("share=")[1].split(",")[0]) == pytest.approx(share / 10_000, abs=0.001)


def test_the_header_tells_of_those_to_come_and_the_one_that_goes_on() -> None:
    assert v1_headers(SAID, 0)["Brownout"] == (
        f"@{AT};until=@{AT + 900};share=0.1, @{AT + 86_400};until=@{AT + 88_200};share=1.0"
    )
    assert v1_headers(SAID, 0, {"first"})["Brownout"] == f"@{AT + 86_400};until=@{AT + 88_200};share=1.0"
    assert "Brownout" not in v1_headers(SAID, 0, {"first", "second"})
    assert "Brownout" not in gone_headers(PLAN, 1)


def test_twenty_fit_into_a_header() -> None:
    many = tuple(Brownout(name=f"b{n}", at=AT + n * 10, until=AT + n * 10 + 9, share=3333) for n in range(20))
    assert len(announced(replace(SAID, brownouts=many), ())) <= 1000


def test_shares_are_met_and_do_not_nest() -> None:
    """Of 40,000 clients the share is met within five standard deviations; two brownouts draw independently."""
    callers = [f"client-{number}" for number in range(40_000)]
    first, second = ({c for c in callers if meets(c, 1000, salt_of("trips", name))} for name in ("first", "second"))
    assert abs(len(first) - 4000) < 300
    assert abs(len(first & second) - 400) < 100
    wider = {c for c in callers if meets(c, 5000, salt_of("trips", "first"))}
    assert first < wider


@pytest.mark.parametrize(
    ("brownouts", "told"),
    [
        ((FIRST, replace(FIRST, at=AT + 1000, until=AT + 1001)), "names of their own"),
        ((SECOND, FIRST), "before second is over"),
        ((FIRST, replace(SECOND, at=AT + 899, until=AT + 1000)), "before first is over"),
    ],
)
def test_calendars_that_can_not_be(brownouts: tuple[Brownout, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(SAID, brownouts=brownouts)
    with pytest.raises(ValueError, match="after it begins"):
        replace(FIRST, until=AT)
    with pytest.raises(ValueError, match="basis points"):
        replace(FIRST, share=0)

"""Notices to the owners of clients: when each step is due, whom it concerns, what it says, and each once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from tests.core.test_brownout import AT, PLAN, SAID, STARTED, after

from crossfade.core import events as e
from crossfade.core.brownout import meets, salt_of
from crossfade.core.clients.ledger import DAY, Calls, Client, Ledger
from crossfade.core.clients.owners import (
    Known,
    Occasion,
    OwnerNotice,
    default_template,
    due,
    fault_of,
    fields_of,
    planned,
    preview,
    unowned,
)
from crossfade.core.clients.register import Registered
from crossfade.core.plan import WEEK, ClientsRule, Deprecation, OwnerNotices, OwnerStep, Plan
from crossfade.core.rollout import Rollout

DEPRECATION = replace(SAID, sunset=AT + 30 * 86_400, from_phase=1, notice="https://example.com/v1-ends")
TEMPLATES = {step: default_template(step, DEPRECATION) for step in OwnerStep}
TELLING = replace(
    PLAN, deprecation=DEPRECATION, clients=ClientsRule(notices=OwnerNotices(templates=TEMPLATES))
)  # fmt: skip
FULL = e.PhasePromoted(at=1.0, phase=1, name="full", reason="")
BEGIN = float(AT - 30 * 86_400)
COMPLETED = (
    e.RolloutCompleted(at=2.0, reason=""),
    e.RetirementStarted(at=3.0, by="ada", reason="", shown=""),
    e.V1Retired(at=4.0),
)


def ledger_of(**counts: list[int]) -> Ledger:
    """Return a ledger of ten days in which these have called in each hour."""
    ledger = Ledger()
    for hour in range(240):
        ledger.absorb(BEGIN + hour * 3600, 3600.0, Calls({Client(name): count for name, count in counts.items()}))
    return ledger


ASKS, BY_ENTRY = [0, 1, 0, 0], [0, 0, 1, 1]
LEDGER = ledger_of(acme=ASKS, acme_app=ASKS, zed=ASKS, entry=BY_ENTRY, nobody=ASKS)
REGISTER = {
    one.client: one
    for one in (
        Registered(client="acme", owner="Ann", contact="ann@acme.example"),
        Registered(client="acme_app", owner="Ann", contact="ann@acme.example", exempt_until=date(2030, 1, 31)),
        Registered(client="entry", owner="Ed", contact="ed@entry.example"),
        Registered(client="zed", contact="https://zed.example/hook"),
        Registered(client="nobody", owner="Nils"),
    )
}


def known(told: Collection[str] = (), register: Mapping[str, Registered] = REGISTER, ledger: Ledger = LEDGER) -> Known:
    return Known(ledger=ledger, register=register, told=told)


def steps(rollout: Rollout, at: float, told: Collection[str] = (), plan: Plan = TELLING) -> list[tuple[str, str]]:
    found = due(plan, rollout, known(told), at)
    return sorted({(one.occasion.step.value, one.occasion.name) for one in found})


# ── when ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("happened", "at", "told"),
    [
        ((), BEGIN + DAY - 1, []),  # who calls once a day is not known yet
        ((), BEGIN + DAY, [("prepared", "")]),
        ((FULL,), BEGIN + DAY, [("announced", "")]),
        ((FULL,), AT - WEEK - 1, [("announced", "")]),
        ((FULL,), AT - WEEK, [("announced", ""), ("brownout", "first")]),
        ((), AT - WEEK, [("prepared", "")]),  # V1's answers tell of none of this yet
        ((FULL, e.BrownoutEnded(at=5.0, name="first", reason="")), AT - WEEK, [("announced", "")]),
        ((FULL,), AT, [("announced", ""), ("brownout", "second")]),  # the first has begun: nothing is ahead
        ((FULL,), AT + 23 * 86_400, [("last week", "")]),
        ((), AT + 23 * 86_400, [("prepared", "")]),
        ((FULL,), AT + 40 * 86_400, [("last week", "")]),  # V1 stays for as long as its gates say
        ((FULL, *COMPLETED), AT + 40 * 86_400, [("retired", "")]),
        ((FULL, e.RolledBack(at=2.0, reason="", trigger="", took_s=0.1, nodes={})), AT - WEEK, []),
        ((e.Aborted(at=2.0, by="ada", reason=""),), AT - WEEK, []),
    ],
)
def test_a_step_is_due_by_the_rollouts_dates_and_the_latest_alone(
    happened: tuple[e.Event, ...], at: float, told: list[tuple[str, str]]
) -> None:
    wide = tuple(replace(one, share=10_000) for one in DEPRECATION.brownouts)
    plan = replace(TELLING, deprecation=replace(DEPRECATION, brownouts=wide))
    assert steps(after(*happened), at, plan=plan) == told


def test_each_owner_gets_each_step_once_with_all_clients_in_it() -> None:
    first = due(TELLING, after(), known(), BEGIN + DAY)
    assert [(one.contact, one.clients) for one in first] == [
        ("ann@acme.example", ("acme", "acme_app")),
        ("https://zed.example/hook", ("zed",)),
    ]
    again = due(TELLING, after(), known(), BEGIN + 5 * DAY)
    assert [one.id for one in again] == [one.id for one in first]  # whoever looks, and whenever
    assert due(TELLING, after(), known({first[0].id}), BEGIN + DAY) == first[1:]
    moved = {**REGISTER, "acme": replace(REGISTER["acme"], contact="new@acme.example")}
    (new,) = due(TELLING, after(), known({one.id for one in first}, moved), BEGIN + DAY)
    assert new.contact == "new@acme.example"


def test_only_who_asks_for_v1s_own_paths_is_told_and_who_has_moved_is_not() -> None:
    ledger = ledger_of(acme=ASKS, zed=ASKS)
    moved, until = Calls({Client("zed"): [0, 0, 0, 1], Client("acme"): ASKS}), BEGIN + 240 * 3600
    for hour in range(30):
        ledger.absorb(until + hour * 3600, 3600.0, moved)
    assert [one.clients for one in due(TELLING, after(), known(ledger=ledger), until)] == [("acme",)]


def test_clients_for_which_nobody_is_told_are_named() -> None:
    ledger = ledger_of(acme=ASKS, stranger=ASKS, nobody=ASKS, entry=BY_ENTRY)
    ledger.absorb(BEGIN + 240 * 3600, 3600.0, Calls({Client("ios/3", agent=True): ASKS}))
    assert set(unowned(known(ledger=ledger))) == {"stranger", "nobody", "ios/3 (agent)"}


def test_that_v1_is_retired_is_told_to_whoever_was_told_before_too() -> None:
    rollout = after(FULL, *COMPLETED)
    quiet = ledger_of(acme=[0, 0, 0, 1])
    assert due(TELLING, rollout, known(ledger=quiet), AT) == ()
    earlier = next(one for one in due(TELLING, after(), known(), BEGIN + DAY) if one.contact == "ann@acme.example")
    (last,) = due(TELLING, rollout, known({earlier.id}, ledger=quiet), AT)
    assert (last.contact, last.clients) == ("ann@acme.example", ("acme", "acme_app"))


def test_of_steps_that_the_plan_does_not_tell_none_is_due() -> None:
    only = {OwnerStep.ANNOUNCED: TEMPLATES[OwnerStep.ANNOUNCED]}
    plan = replace(TELLING, clients=ClientsRule(notices=OwnerNotices(templates=only)))
    assert steps(after(), BEGIN + DAY, plan=plan) == []
    assert steps(after(FULL), AT - WEEK, plan=plan) == [("announced", "")]
    assert steps(after(FULL, *COMPLETED), AT, plan=plan) == []
    assert due(PLAN, after(FULL), known(), AT) == ()
    assert planned(plan, after(), OwnerStep.RETIRED) is None


# ── exemptions and brownouts ─────────────────────────────────────────────────────────────────────────────────


def test_a_brownout_is_told_to_those_whom_it_meets_and_never_to_exempted_clients() -> None:
    names = [f"client-{number}" for number in range(300)]
    ledger = ledger_of(**dict.fromkeys(names, ASKS))
    day = datetime.fromtimestamp(AT, UTC).date()
    until = {name: day if number % 3 == 0 else date(2020, 1, 1) for number, name in enumerate(names)}
    register = {
        name: Registered(client=name, contact=f"{name}@example.org", exempt_until=until[name]) for name in names
    }
    found = due(TELLING, after(FULL), known(register=register, ledger=ledger), AT - 3600.0)
    told = {one.clients[0] for one in found if one.occasion.name == "first"}
    met = {name for name in names if meets(name, 1000, salt_of("trips", "first"))}
    assert told == {name for number, name in enumerate(names) if number % 3 and name in met}
    assert 10 < len(told) < 40
    everyone = {one.clients[0] for one in found if one.occasion.name == "second"}
    assert len(everyone) == 300  # the day after, no exemption lasts


def test_an_exempted_client_is_told_with_the_date_of_its_exemption() -> None:
    (ann, zed) = due(TELLING, after(FULL), known(), BEGIN + DAY)
    assert "  - acme\n" in ann.text
    assert "  - acme_app (exempt: V1 is not taken from it up to and including 2030-01-31)\n" in ann.text
    assert "exempt" not in zed.text


# ── texts ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("said", [DEPRECATION, Deprecation(since=AT, successor="/v2", brownouts=SAID.brownouts)])
@pytest.mark.parametrize("step", list(OwnerStep))
def test_the_default_texts_can_be_sent(step: OwnerStep, said: Deprecation) -> None:
    if step is OwnerStep.LAST_WEEK and said.sunset is None:
        return  # never comes
    template = default_template(step, said)
    assert fault_of(template, fields_of(step, said)) is None
    plan = replace(
        TELLING, deprecation=said, clients=ClientsRule(notices=OwnerNotices(templates={step: template}))
    )  # fmt: skip
    occasion = planned(plan, after(FULL), step)
    assert occasion is not None
    one = preview(plan, replace(occasion, brownout=occasion.brownout and SAID.brownouts[1]), known(), BEGIN)[-1]
    assert one.subject.startswith("trips: ")
    assert one.text.startswith("Hello owner of zed,\n\n")
    assert "  - zed\n" in one.text
    assert "$" not in one.subject + one.text
    assert ("https://example.com/v1-ends" in one.text) == bool(said.notice)


def test_a_text_says_when() -> None:
    (brownout, *_) = preview(TELLING, Occasion(step=OwnerStep.BROWNOUT, brownout=SAID.brownouts[1]), known(), BEGIN)
    assert brownout.subject == "trips: V1 answers 410 from 2027-06-02 10:00 UTC to 2027-06-02 10:30 UTC"
    assert "to 100 % of its clients" in brownout.text
    (last, *_) = preview(TELLING, Occasion(step=OwnerStep.LAST_WEEK), known(), BEGIN)
    assert "may be gone from 2027-07-01 10:00 UTC on" in last.text


def test_text_from_outside_stays_one_line_and_is_no_template() -> None:
    owner = "Ann\nBcc: all@example.org\u202e$sunset ${page} {0.__class__}"
    with pytest.raises(ValueError, match="control signs"):
        Registered(client="acme", owner=owner)
    entry = Registered(client="$x\\{y}", owner="Ann\nBcc: all@example.org $sunset {0.__class__}", contact="a@b.example")
    ledger = ledger_of(**{"$x\\{y}": ASKS})
    template = "Subject: to $owner $$1\n\n$owner: $clients\n"
    rule = ClientsRule(notices=OwnerNotices(templates={OwnerStep.PREPARED: template}))
    one = due(replace(TELLING, clients=rule), after(), known((), {entry.client: entry}, ledger), BEGIN + DAY)[0]
    name = "Ann Bcc: all@example.org $sunset {0.__class__}"
    assert (one.owner, one.subject) == (name, f"to {name} $1")
    assert one.text == f"{name}:   - $x\\{{y}}\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Subject: x\n\n$clients $$5 ${owner}\n", None),
        ("Subject: x\n\nGone from $sunsett on\n", (3, "there is no field $sunsett here; there are $rollout, $owner")),
        ("Subject: x\n\nat $begins\n", (3, "there is no field $begins")),
        ("Subject: x\n\n\n10 $ and more\n", (4, "`$` stands before the name of a field")),
        ("Subject: x\n\n${owner.contact}\n", (3, "`$` stands before the name of a field")),
        ("Hello\n\nx", (1, "begins without a subject")),
        ("Subject:\n\nx", (1, "begins without a subject")),
        ("Subject: $clients\n\nx", (1, "$clients has several lines")),
        ("Subject: x\nBcc: y\n\nx", (2, "is to be blank")),
        ("Subject: x\n\n \n", (1, "has no text below the subject")),
        ("Subject: x", (1, "has no text below the subject")),
    ],
)
def test_a_template_that_cant_be_meant_is_told_with_its_line(text: str, fault: tuple[int, str] | None) -> None:
    found = fault_of(text, fields_of(OwnerStep.ANNOUNCED, DEPRECATION))
    if fault is None:
        assert found is None
    else:
        assert found is not None
        assert (found[0], fault[1] in found[1]) == (fault[0], True), found


def test_many_clients_of_one_owner_are_counted_beyond_the_first() -> None:
    names = [f"c{number:03}" for number in range(60)]
    register = {name: Registered(client=name, contact="a@b.example") for name in names}
    (one,) = due(TELLING, after(), known((), register, ledger_of(**dict.fromkeys(names, ASKS))), BEGIN + DAY)
    assert isinstance(one, OwnerNotice)
    assert len(one.clients) == 60
    assert "  - c049\n  - and 10 more\n" in one.text


def test_the_history_may_begin_with_them() -> None:
    event = e.OwnerTold(
        at=1.0, id="n", step="retired", brownout="", owner="", contact="", clients=[], count=0, taken=True, said=""
    )
    assert after(event).revision == len(STARTED) + 1

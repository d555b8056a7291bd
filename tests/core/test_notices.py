"""What is told of a rollout: edges, once each, with the reason; the same ids whoever looks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossfade.core import events as e
from crossfade.core import notices as n
from crossfade.core.gates import GateStatus
from crossfade.core.observation import BreakerReading
from crossfade.core.plan import GateKind, Kept, NoticeKind, NoticeRule, Plan
from crossfade.core.verdict import Verdict

START = 1_000_000.0
MINUTE = 60.0
SOAKED = GateStatus(text="soak 1w", kind=GateKind.SOAK, verdict=Verdict.PASS, evidence="1w of 1w")
TARGET = GateStatus(text="failure_rate on target", kind=GateKind.ON_TARGET, verdict=Verdict.PASS, evidence="0.4 %")
WANTED = GateStatus(
    text="approved by 2 people", kind=GateKind.APPROVED, verdict=Verdict.INCONCLUSIVE, evidence="0 of 2; 2 more people"
)
STARTED = e.RolloutStarted(at=START, plan="trips", digest="d", phase="internal")
BACK = e.RolledBack(at=START + 60, reason="3 % > 1 %", trigger="failure_rate", took_s=0.21, nodes={"a": "v1"})
RETRIED = e.Retried(at=START + 90, phase=0, name="internal", by="ada", reason="fixed")


def rule(*words: NoticeKind, name: str = "team", **lasting: float) -> NoticeRule:
    """Return a rule for kinds, and for kinds that must have lasted: `breaker_open=300`."""
    on = dict.fromkeys(words, 0.0) | {NoticeKind(word.replace("_", " ")): s for word, s in lasting.items()}
    return NoticeRule(name=name, on=on, webhook=Kept(text="https://example.org"))


class Story:
    """A history that is followed, event by event, with a look after each."""

    def __init__(self, plan: Plan, told: NoticeRule, *history: e.Event) -> None:
        self.plan, self.rule = plan, told
        self.history = list(enumerate((STARTED, *history), start=1))
        self.logbook = n.begin(plan, told, self.history)
        self.status: n.Status | None = None
        self.look(START)

    def happens(self, *more: e.Event, taken: bool = True) -> list[str]:
        """Return the sentences that are told of more events."""
        new = list(enumerate(more, start=len(self.history) + 1))
        self.history += new
        self.logbook = n.follow(self.plan, self.rule, self.logbook, new)
        return self.look(more[-1].at, taken=taken)

    def look(self, at: float, status: n.Status | None = None, *, taken: bool = True) -> list[str]:
        """Return the sentences that are told after a look."""
        self.logbook = n.load(n.save(n.look(self.plan, self.rule, self.logbook, status, at)))
        told = [notice.sentence for notice in self.logbook.waiting]
        for notice in self.logbook.waiting if taken else ():
            self.logbook = n.without(self.logbook, notice.id)
        return told


def hold(at: float, kind: str = "HOLD", reason: str = "412 ms > 300 ms") -> e.HoldBegan:
    return e.HoldBegan(at=START + at, kind=kind, reason=reason)


def end(at: float, reason: str = "over: 412 ms > 300 ms") -> e.HoldEnded:
    return e.HoldEnded(at=START + at, reason=reason)


# ── events ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_rollback_is_told_with_its_reason_and_what_it_took(plan: Plan) -> None:
    story = Story(plan, rule(NoticeKind.ROLLBACK))
    assert story.happens(BACK) == [
        "trips was rolled back in internal: 3 % > 1 %; every user is on V1, 0.21 s after the decision"
    ]


def test_a_node_that_did_not_confirm_is_named(plan: Plan) -> None:
    said = replace(BACK, nodes={"a": "v1", "b": "no answer"}, by="ada")
    (sentence,) = Story(plan, rule(NoticeKind.ROLLBACK)).happens(said)
    assert sentence.endswith("by ada: 3 % > 1 %; 1 of 2 nodes have not confirmed it yet: b")


def test_everyone_is_put_back_only_once_until_a_new_attempt(plan: Plan) -> None:
    story = Story(plan, rule(NoticeKind.ROLLBACK), BACK)
    assert story.happens(replace(BACK, at=START + 70, trigger="proxy")) == []
    assert story.happens(RETRIED) == []
    assert len(story.happens(replace(BACK, at=START + 100))) == 1


def test_a_completed_rollout_that_is_rolled_back_is_news(plan: Plan) -> None:
    story = Story(plan, rule(NoticeKind.ROLLBACK, NoticeKind.COMPLETED))
    done = e.RolloutCompleted(at=START + 50, reason="all 3 gates of the last phase passed")
    assert story.happens(done) == ["trips is completed: all 3 gates of the last phase passed"]
    assert len(story.happens(BACK)) == 1


def test_a_retirement_is_told_once_the_proxy_has_confirmed_it(plan: Plan) -> None:
    story = Story(plan, rule(NoticeKind.RETIRED), e.RolloutCompleted(at=START + 50, reason="all gates passed"))
    assert story.happens(e.RetirementStarted(at=START + 60, by="ada", reason="", shown="")) == []
    assert story.happens(e.V1Retired(at=START + 61)) == ["trips has retired V1: its paths answer 410, for good"]


@pytest.mark.parametrize(
    ("kind", "event", "sentence"),
    [
        ("phase promoted", e.PhasePromoted(at=START, phase=1, name="half", reason="all 3 gates passed"),
         "trips entered half: all 3 gates passed"),
        ("phase promoted", e.PhasePromoted(at=START, phase=1, name="half", reason="by hand", by="ada"),
         "trips entered half by ada: by hand"),
        ("retried", RETRIED, "trips was started again in internal by ada: fixed"),
        ("aborted", e.Aborted(at=START, by="ada", reason=""), "trips was aborted by ada"),
        ("drill", e.DrillFailed(at=START, phase=1, name="half", reason="took 70 s, limit 60 s"),
         "trips failed a drill in half: took 70 s, limit 60 s"),
        ("paused", e.Paused(at=START, by="ada", reason="lunch"), "trips was paused in internal by ada: lunch"),
        ("alert", e.AlertRaised(at=START, key="x", sentence="20 ms > 10 ms"), "trips in internal: 20 ms > 10 ms"),
    ],
)  # fmt: skip
def test_what_is_told_of_an_event(plan: Plan, kind: str, event: e.Event, sentence: str) -> None:
    assert Story(plan, rule(NoticeKind(kind))).happens(event) == [sentence]
    others = [other for other in NoticeKind if other != kind]
    assert Story(plan, rule(*others)).happens(event) == []


def test_a_drill_that_passed_is_told_with_its_time_beside_the_limit(plan: Plan) -> None:
    passed = e.DrillPassed(
        at=START, phase=1, name="half", took_s=0.3, last_v2_s=0.1, within_s=60, lasted_s=20, nodes={"a": "v1"}
    )
    (sentence,) = Story(plan, rule(NoticeKind.DRILL)).happens(passed)
    assert sentence.endswith("every node had confirmed 0.3 s after the command, limit 1m")


# ── what lasts ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_hold_is_told_when_it_begins_and_when_it_ends_and_not_between(plan: Plan) -> None:
    story = Story(plan, rule(NoticeKind.HOLD, NoticeKind.ALERT))
    assert story.happens(hold(10)) == ["trips holds in internal: 412 ms > 300 ms"]
    assert [story.look(START + at) for at in (20, 2000, 90_000)] == [[], [], []]
    assert story.happens(end(90_010)) == ["trips holds in internal: 412 ms > 300 ms; over after 1d 1h"]


def test_blindness_that_turns_into_a_hold_is_told_as_such(plan: Plan) -> None:
    story = Story(plan, rule(NoticeKind.HOLD, NoticeKind.BLIND))
    assert story.happens(hold(10, "BLIND", "no telemetry")) == ["trips is blind in internal: no telemetry"]
    told = story.happens(hold(30))
    assert told[0].startswith("trips is blind in internal: no telemetry; over after 20s: it holds for another reason")
    assert told[1:] == ["trips holds in internal: 412 ms > 300 ms"]


def test_what_ends_before_it_lasted_long_enough_is_never_told(plan: Plan) -> None:
    story = Story(plan, rule(hold=300))
    assert story.happens(hold(10)) == []
    assert story.happens(end(200)) == []
    assert story.happens(hold(1000)) == []
    assert story.look(START + 1299) == []
    assert story.look(START + 1300) == ["trips holds in internal: 412 ms > 300 ms, for 5m by now"]


def test_what_comes_and_goes_is_no_flood(plan: Plan) -> None:
    """100 holds of 5 s within 50 minutes are told at most once in ten minutes, begin and end."""
    story = Story(plan, rule(NoticeKind.HOLD))
    told = [line for at in range(0, 3000, 30) for line in (*story.happens(hold(at)), *story.happens(end(at + 5)))]
    assert 2 <= len(told) <= 2 * (1 + 3000 // n.CALM_S)
    late = story.happens(hold(3010)) + story.look(START + 4000)
    assert "begun" in late[0]


def test_a_begin_that_nobody_has_taken_goes_out_together_with_its_end(plan: Plan) -> None:
    story = Story(plan, rule(NoticeKind.HOLD))
    story.happens(hold(10), taken=False)
    assert story.happens(end(70)) == ["trips holds in internal: 412 ms > 300 ms; over after 1m"]


def test_a_hold_that_a_rollback_ends_is_not_told_twice(plan: Plan) -> None:
    both = Story(plan, rule(NoticeKind.HOLD, NoticeKind.ROLLBACK))
    both.happens(hold(10))
    assert [line.split(" in ")[0] for line in both.happens(BACK)] == ["trips was rolled back"]
    one = Story(plan, rule(NoticeKind.HOLD))
    one.happens(hold(10))
    assert one.happens(BACK) == [
        "trips holds in internal: 412 ms > 300 ms; over after 50s: it was rolled back"
    ]  # fmt: skip


def test_an_alert_is_not_told_beside_what_the_same_rule_tells_in_other_words(plan: Plan) -> None:
    alerts = [
        e.AlertRaised(at=START, key="blind", sentence="no telemetry"),
        e.AlertRaised(at=START, key="breaker_open", sentence="breaker weather open for more than 5m"),
        e.AlertRaised(at=START, key="database_time", sentence="31 ms > 20 ms"),
    ]
    assert len(Story(plan, rule(NoticeKind.ALERT)).happens(*alerts)) == 3
    told = Story(plan, rule(NoticeKind.ALERT, NoticeKind.BLIND, NoticeKind.BREAKER_OPEN)).happens(*alerts)
    assert told == ["trips in internal: 31 ms > 20 ms"]


def test_a_new_attempt_clears_the_alerts_of_the_one_before(plan: Plan) -> None:
    story = Story(plan, rule(NoticeKind.ALERT))
    story.happens(e.AlertRaised(at=START, key="x", sentence="31 ms > 20 ms"))
    story.happens(BACK)
    assert story.happens(RETRIED) == ["trips in internal: 31 ms > 20 ms; over after 1m 30s: a new attempt began"]


def test_a_new_rule_is_told_what_lasts_and_not_what_was(plan: Plan) -> None:
    long_ago = [hold(1), end(2), replace(BACK, at=START + 3), replace(RETRIED, at=START + 4), hold(5, reason="drift")]
    logbook = n.begin(plan, rule(*NoticeKind), list(enumerate((STARTED, *long_ago), start=1)))
    assert [notice.sentence for notice in n.look(plan, rule(*NoticeKind), logbook, None, START + 9).waiting] == [
        "trips holds in internal: drift"
    ]


# ── how things stand ────────────────────────────────────────────────────────────────────────────────────────


def test_an_approval_is_wanted_once_nothing_else_is_missing_and_again_after_each(plan: Plan) -> None:
    story = Story(plan, rule(NoticeKind.APPROVAL_WANTED, NoticeKind.GATE_WAITING))
    unready = replace(TARGET, verdict=Verdict.INCONCLUSIVE)
    soaking = replace(SOAKED, verdict=Verdict.INCONCLUSIVE)
    assert story.look(START + 1, n.Status(gates=(soaking, TARGET, WANTED))) == []
    assert story.look(START + 2, n.Status(gates=(SOAKED, unready, WANTED))) == [
        "trips waits in internal, whose soak is over, for: failure_rate on target (0.4 %); "
        "approved by 2 people (0 of 2; 2 more people)"
    ]
    assert story.look(START + 3, n.Status(gates=(SOAKED, TARGET, WANTED))) == [
        "trips wants an approval to leave internal: every other gate has passed; 0 of 2; 2 more people"
    ]
    assert story.look(START + 4, n.Status(gates=(SOAKED, unready, WANTED))) == []
    assert story.look(START + 5, n.Status(gates=(SOAKED, TARGET, WANTED))) == []
    one = replace(WANTED, evidence="1 of 2: ada; one more person")
    assert story.look(START + 6, n.Status(gates=(SOAKED, TARGET, one), approvals=1)) == [
        "trips wants an approval to leave internal: every other gate has passed; 1 of 2: ada; one more person"
    ]


def test_nothing_waits_in_a_rollout_that_rests(plan: Plan) -> None:
    story = Story(plan, rule(NoticeKind.APPROVAL_WANTED, NoticeKind.GATE_WAITING), BACK)
    assert story.look(START + 99, n.Status(gates=(SOAKED, TARGET, WANTED))) == []


def opened(at: float | None) -> n.Status:
    return n.Status(breakers={"breaker_open": BreakerReading(name="weather", open_since=at, last_seen=START)})


def test_a_breaker_is_told_after_its_time_and_when_it_closes(plan: Plan) -> None:
    story = Story(plan, rule(breaker_open=300))
    assert story.look(START + 299, opened(START)) == []
    assert story.look(START + 300, opened(START)) == [
        "trips in internal: the breaker weather is open, for 5m by now, limit 5m"
    ]
    assert story.look(START + 400, n.Status()) == [], "unseen is neither open nor closed"
    assert story.look(START + 500, opened(None)) == [
        "trips in internal: the breaker weather is open; over after 8m 20s: it is closed again"
    ]


# ── the logbook ──────────────────────────────────────────────────────────────────────────────────────────────


EVENTS = (hold(0), end(0), hold(0, "BLIND", "dark"), BACK, RETRIED, e.Paused(at=0, by="p", reason=""),
          e.Resumed(at=0, by="p", reason=""), e.AlertRaised(at=0, key="x", sentence="s"),
          e.AlertCleared(at=0, key="x", sentence="over: s"),
          e.PhasePromoted(at=0, phase=1, name="half", reason="r"))  # fmt: skip


@given(story=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 900)), max_size=30), cut=st.integers(0, 30))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])  # the plan never changes
def test_a_restart_in_the_middle_makes_the_same_notices_with_the_same_ids(
    plan: Plan, story: list[tuple[e.Event, int]], cut: int
) -> None:
    """Whoever saved last, before or after an event, the ids that are sent are those of one who never stopped."""
    at = START
    history: list[tuple[int, e.Event]] = [(1, STARTED)]
    for number, (event, gap) in enumerate(story, start=2):
        at += gap
        history.append((number, replace(event, at=at)))
    told = rule(*NoticeKind)
    whole = n.follow(plan, told, n.Logbook(), history)
    before = n.follow(plan, told, n.Logbook(), history[:cut])
    after = n.follow(plan, told, n.load(n.save(before)), history)
    assert after == whole
    ids = [notice.id for notice in whole.waiting]
    assert len(ids) == len(set(ids))
    assert all("." not in one for one in ids)


def test_too_many_that_nobody_takes_are_let_go_and_rollbacks_last(plan: Plan) -> None:
    history: list[e.Event] = [STARTED]
    for number in range(n.WAITING_MAX):
        at = START + 100 * number
        history += [replace(BACK, at=at), replace(RETRIED, at=at + 50)]
    told = rule(NoticeKind.ROLLBACK, NoticeKind.RETRIED)
    logbook = n.follow(plan, told, n.Logbook(), list(enumerate(history, start=1)))
    assert {notice.kind for notice in logbook.waiting} == {NoticeKind.ROLLBACK}
    assert (len(logbook.waiting), logbook.left_out) == (n.WAITING_MAX, n.WAITING_MAX)


def test_a_kind_that_the_rule_no_longer_has_is_dropped(plan: Plan) -> None:
    logbook = n.follow(plan, rule(hold=300), n.Logbook(), [(1, STARTED), (2, hold(1))])
    assert n.look(plan, rule(NoticeKind.ROLLBACK), logbook, None, START + 999).waiting == ()


def test_a_sentence_is_one_line_of_plain_text(plan: Plan) -> None:
    said = e.Paused(at=START, by="ada", reason="a\nb\x1b[31m \u202e" + "x" * 5000)
    (sentence,) = Story(plan, rule(NoticeKind.PAUSED)).happens(said)
    assert sentence.startswith("trips was paused in internal by ada: a b [31m xx")
    assert len(sentence) <= n.SENTENCE_MAX


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"lasting": {"a": {}}, "ended": {}, "waiting": []}'])
def test_a_damaged_logbook_is_told(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        n.load(data)

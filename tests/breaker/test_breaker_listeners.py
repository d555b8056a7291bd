"""What listeners and the log are told."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading

import pytest
from tests.breaker.breaker_support import Bench, drive, fail_sync, ok_sync, state

from crossfade.breaker import CircuitBreaker, State, Transition

STORY = [
    Transition("dep", State.CLOSED, State.OPEN, 1000.0, "failure_rate"),
    Transition("dep", State.OPEN, State.HALF_OPEN, 1030.0, "cooldown_elapsed"),
    Transition("dep", State.HALF_OPEN, State.OPEN, 1030.0, "probe_failed"),
    Transition("dep", State.OPEN, State.HALF_OPEN, 1060.0, "cooldown_elapsed"),
    Transition("dep", State.HALF_OPEN, State.CLOSED, 1060.0, "probes_succeeded"),
    Transition("dep", State.CLOSED, State.OPEN, 1060.0, "forced_open"),
    Transition("dep", State.OPEN, State.CLOSED, 1060.0, "reset"),
]


def live_the_story(bench: Bench, breaker: CircuitBreaker) -> None:
    drive(breaker, "ffff")
    bench.clock.advance(30)
    drive(breaker, "f")
    bench.clock.advance(30)
    drive(breaker, "ss")
    breaker.force_open()
    breaker.call_sync(lambda: None, fallback=lambda _: None)
    breaker.reset()


def test_a_listener_gets_every_transition_once_and_in_order(bench: Bench) -> None:
    live_the_story(bench, bench.breaker())
    assert bench.seen == STORY


def test_a_transition_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        STORY[0].reason = "another"  # type: ignore[misc]


def test_the_log_has_one_line_for_each_transition_and_none_for_rejections(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "crossfade.breaker")
    live_the_story(bench, bench.breaker())
    assert len(STORY) == len(caplog.records)
    first = caplog.records[0]
    assert (first.name, first.levelname) == ("crossfade.breaker", "WARNING")
    assert first.getMessage() == "breaker dep: closed -> open (failure_rate)"
    fields = ("dep", "closed", "open", 1000.0, "failure_rate")
    assert fields == tuple(vars(first)[key] for key in ("breaker", "old", "new", "at", "reason"))


def test_transitions_are_counted(bench: Bench) -> None:
    breaker = bench.breaker()
    live_the_story(bench, breaker)
    assert breaker.transitions == {
        (State.CLOSED, State.OPEN): 2,
        (State.OPEN, State.HALF_OPEN): 2,
        (State.HALF_OPEN, State.OPEN): 1,
        (State.HALF_OPEN, State.CLOSED): 1,
        (State.OPEN, State.CLOSED): 1,
    }


def test_a_reset_in_closed_is_no_transition(bench: Bench) -> None:
    bench.breaker().reset()
    assert bench.seen == []


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
def test_a_listener_that_raises_is_logged_and_nobody_else_notices(
    bench: Bench, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def raising(_: Transition) -> None:
        raise error

    breaker = bench.breaker(listeners=(raising, bench.seen.append))
    drive(breaker, "ffff")
    assert state(breaker) is State.OPEN
    assert STORY[:1] == bench.seen
    assert [record.exc_info is not None for record in caplog.records if record.levelname == "ERROR"] == [True]


def test_an_interrupt_in_a_listener_does_not_silence_the_ones_to_come(bench: Bench) -> None:
    def interrupt(transition: Transition) -> None:
        bench.seen.append(transition)
        if transition.new is State.OPEN:
            raise KeyboardInterrupt

    breaker = bench.breaker(listeners=(interrupt,))
    with pytest.raises(KeyboardInterrupt):
        breaker.force_open()
    breaker.reset()
    assert [transition.reason for transition in bench.seen] == ["forced_open", "reset"]


def test_a_listener_that_re_enters_is_harmless_and_others_hear_things_in_order(bench: Bench) -> None:
    breaker: CircuitBreaker

    def meddler(transition: Transition) -> None:
        assert transition.new is breaker.state
        if transition.reason == "failure_rate":
            breaker.reset()
            assert ok_sync(breaker) == "ok"

    breaker = bench.breaker(listeners=(meddler, bench.seen.append))
    drive(breaker, "ffff")
    assert state(breaker) is State.CLOSED
    assert [transition.reason for transition in bench.seen] == ["failure_rate", "reset"]


def test_a_listener_that_calls_may_be_the_probe(bench: Bench) -> None:
    breaker: CircuitBreaker

    def prober(transition: Transition) -> None:
        if transition.new is State.HALF_OPEN:
            ok_sync(breaker)

    breaker = bench.half_open(listeners=(prober, bench.seen.append), probes=1)
    assert state(breaker) is State.CLOSED


def test_no_lock_is_held_while_a_listener_runs(bench: Bench) -> None:
    """Another thread can call while a listener takes its time."""
    answers: list[str] = []
    breaker: CircuitBreaker

    def slow(_: Transition) -> None:
        other = threading.Thread(target=lambda: answers.append(breaker.call_sync(str, fallback=str)))
        other.start()
        other.join(5)

    breaker = bench.breaker(listeners=(slow,))
    drive(breaker, "fff")
    fail_sync(breaker)
    assert answers == ["open"]

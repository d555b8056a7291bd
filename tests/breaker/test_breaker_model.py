"""The breaker against a model of it that is slow and plain, over stories that Hypothesis invents."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule
from tests.breaker.breaker_support import Boom, ManualClock

from crossfade.breaker import BreakerOpen, CircuitBreaker, State, Transition

COOLDOWN_S, LEASE_S = 30, 10


@dataclass
class Model:
    """What the documentation says, in lists."""

    window: int
    minimum: int
    rate: Fraction
    probes: int
    mode: str = "closed"
    generation: int = 0
    outcomes: list[bool] = field(default_factory=list)
    opened: float = 0
    passed: int = 0
    leases: dict[int, float] = field(default_factory=dict)

    def enter(self, mode: str, now: float) -> None:
        self.mode, self.opened, self.passed = mode, now, 0
        self.generation += 1
        self.outcomes, self.leases = [], {}

    def look(self, now: float) -> None:
        if self.mode == "open":
            self.opened = min(self.opened, now)
            if now - self.opened >= COOLDOWN_S:
                self.enter("half_open", now)

    def admit(self, call: int, now: float) -> bool:
        self.look(now)
        if self.mode != "half_open":
            return self.mode in {"closed", "disabled"}
        anchored = {probe: min(began, now) for probe, began in self.leases.items()}
        self.leases = {probe: began for probe, began in anchored.items() if now - began < LEASE_S}
        if self.passed + len(self.leases) >= self.probes:
            return False
        self.leases[call] = now
        return True

    def end(self, call: int, generation: int, failed: bool | None, now: float) -> None:
        if generation != self.generation:
            return
        if self.mode == "closed" and failed is not None:
            self.outcomes = [*self.outcomes, failed][-self.window :]
            enough = len(self.outcomes) >= self.minimum
            if enough and Fraction(sum(self.outcomes), len(self.outcomes)) >= self.rate:
                self.enter("open", now)
        elif self.mode == "half_open" and call in self.leases:
            late = now - min(self.leases.pop(call), now) >= LEASE_S
            if failed and not late:
                self.enter("open", now)
            elif failed is False and not late:
                self.passed += 1
                if self.passed == self.probes:
                    self.enter("closed", now)


class Suspended:
    """An awaitable that waits for what the test sends or throws."""

    def __await__(self) -> Generator[None, str, str]:
        return (yield)


class Ignored(Exception):  # noqa: N818 - says what becomes of it
    """An exception that the breaker is told to ignore."""


ENDINGS: dict[str, tuple[BaseException | None, bool | None]] = {
    "success": (None, False),
    "error": (Boom(), True),
    "ignored": (Ignored(), None),
    "cancelled": (asyncio.CancelledError(), None),
}


class Story(RuleBasedStateMachine):
    """Calls that begin and end in any order, a clock that jumps, and an operator."""

    calls = Bundle("calls")

    @initialize(
        window=st.integers(1, 6),
        minimum=st.integers(1, 6),
        rate=st.sampled_from(["0.1", "0.3", "0.5", "0.7", "1.0"]),
        probes=st.integers(1, 3),
    )
    def begin(self, window: int, minimum: int, rate: str, probes: int) -> None:
        minimum = min(minimum, window)
        self.clock = ManualClock()
        self.seen: list[Transition] = []
        self.model = Model(window, minimum, Fraction(rate), probes)
        self.number = 0
        self.breaker = CircuitBreaker(
            "dep",
            window=window,
            failure_rate=float(rate),
            minimum_calls=minimum,
            cooldown_s=COOLDOWN_S,
            probes=probes,
            probe_lease_s=LEASE_S,
            ignore=(Ignored,),
            clock=self.clock,
            listeners=(self.seen.append,),
        )

    @rule(target=calls)
    def start(self) -> Any:
        self.number += 1
        call = self.breaker.call(Suspended)
        admitted = self.model.admit(self.number, self.clock.now)
        try:
            call.send(None)
        except BreakerOpen:
            assert not admitted
            return multiple()
        assert admitted
        return [call, self.number, self.model.generation]

    @rule(call=calls, ending=st.sampled_from(["success", "success", "error", "error", "ignored", "cancelled"]))
    def end(self, call: list[Any], ending: str) -> None:
        if not call:  # ended before
            return
        coroutine: Coroutine[Any, Any, str] = call[0]
        error, failed = ENDINGS[ending]
        self.model.end(call[1], call[2], failed, self.clock.now)
        call.clear()
        try:
            coroutine.send("ok") if error is None else coroutine.throw(error)
        except StopIteration as stop:
            ended: Any = stop.value
        except (Boom, Ignored, asyncio.CancelledError) as raised:
            ended = raised
        assert ended == (error or "ok")

    @rule(n=st.integers(1, 8), failed=st.booleans())
    def call_several(self, n: int, failed: bool) -> None:
        """Calls one after another, so that windows fill and trials end."""

        def fn() -> None:
            if failed:
                raise Boom

        for _ in range(n):
            self.number += 1
            admitted = self.model.admit(self.number, self.clock.now)
            generation = self.model.generation
            answer = self.breaker.call_sync(fn, fallback=lambda reason: reason)
            assert answer == (("error" if failed else None) if admitted else "open")
            if admitted:
                self.model.end(self.number, generation, failed, self.clock.now)

    @rule(seconds=st.sampled_from([1, 9, 10, 29, 30, 31, 10_000, -1, -15, -10_000]))
    def pass_time(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(word=st.sampled_from(["force_open", "disable", "reset", "reset"]))
    def operate(self, word: str) -> None:
        getattr(self.breaker, word)()
        self.model.enter({"force_open": "forced", "disable": "disabled", "reset": "closed"}[word], self.clock.now)

    @rule()
    def look(self) -> None:
        self.model.look(self.clock.now)
        seen_as = {"forced": "open", "disabled": "closed"}.get(self.model.mode, self.model.mode)
        assert self.breaker.state == seen_as

    @invariant()
    def transitions_join(self) -> None:
        """Each begins where the one before ended, and none goes nowhere."""
        state = State.CLOSED
        for transition in getattr(self, "seen", []):
            assert transition.old is state
            assert transition.new is not state
            state = transition.new

    def teardown(self) -> None:
        """Whatever happened: if nobody holds it open, it closes as soon as the dependency is well."""
        if not hasattr(self, "breaker") or self.model.mode == "forced":
            return
        # A look anchors what a jump of the clock left in the future, and the window may hold failures that open it yet.
        for _ in range(self.model.window + 2):
            self.breaker.call_sync(lambda: None, fallback=lambda _: None)
            self.clock.advance(COOLDOWN_S)
        for _ in range(self.model.probes):
            self.breaker.call_sync(lambda: None)
        assert self.breaker.state is State.CLOSED


Story.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestStory = Story.TestCase

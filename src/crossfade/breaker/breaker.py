"""The breaker around real calls: asynchronous and synchronous, over one and the same machine.

The machine decides under a lock that is held for the pure step only. The clock, the callers' functions, fallbacks,
listeners and the log are all called outside it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from types import CoroutineType
from typing import Any, Final, Literal, TypeAlias, TypeVar, overload

from crossfade.breaker.machine import Machine, Outcome, Permit, Policy, State, Transition

__all__ = ["BreakerOpen", "CircuitBreaker", "Listener", "Reason"]

T = TypeVar("T")
F = TypeVar("F")

Reason: TypeAlias = Literal["open", "timeout", "error"]
"""Why a fallback is asked: the call was rejected, took too long, or raised."""

Listener: TypeAlias = Callable[[Transition], object]

# The enums look their members up in Python (3.11); every call needs some of them.
_SUCCESS: Final = Outcome.SUCCESS
_ERROR: Final = Outcome.ERROR
_TIMEOUT: Final = Outcome.TIMEOUT
_IGNORED: Final = Outcome.IGNORED
_CANCELLED: Final = Outcome.CANCELLED
_REJECTED: Final = Outcome.REJECTED
_OPEN: Final = State.OPEN

_log: Final = logging.getLogger("crossfade.breaker")

# A library of its own has no ports.Clock: this is its only clock, and an argument replaces it.
_monotonic: Final = time.monotonic  # noqa: TID251


class BreakerOpen(Exception):  # noqa: N818 - it is the caller's control flow, and named so in the API
    """The breaker rejected the call: the dependency was not asked."""

    def __init__(self, name: str, retry_in_s: float | None = None) -> None:
        # No super().__init__: BaseException.__new__ has the arguments already, and rejections are to be cheap.
        self.name = name
        """The breaker's name."""
        self.retry_in_s = retry_in_s
        """Seconds until the first probe may go; None if that is not a matter of time (probing, or forced open)."""

    def __str__(self) -> str:
        when = "" if self.retry_in_s is None else f", next probe in {self.retry_in_s:.3g} s"
        return f"breaker {self.name!r} is open{when}"


class _Deadline:
    """Cancels the running task once, after a time; knows its own cancellation from one that came from outside.

    ``asyncio.timeout`` in the parts that are needed here, plus the one that it leaves out: who was first.
    Raises RuntimeError outside a task of a running event loop.
    """

    __slots__ = ("_cancels_before", "_handle", "_outer_first", "_task", "passed")

    def __init__(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            msg = "timeout_s needs a running task: await the call in a coroutine that the event loop runs"
            raise RuntimeError(msg)
        self._task = task
        self._cancels_before = task.cancelling()
        self._outer_first = False
        self.passed = False
        self._handle = loop.call_later(timeout_s, self._pass)

    def _pass(self) -> None:
        self.passed = True
        self._outer_first = self._task.cancelling() > self._cancels_before
        self._task.cancel()

    def stop(self) -> bool:
        """Stop the timer; return whether a cancellation from outside is under way. To be called once."""
        if self.passed:
            return self._task.uncancel() > self._cancels_before
        self._handle.cancel()
        return False

    def missed(self, error: BaseException) -> bool:
        """Did the call miss the deadline? No, if it was given up from outside before, or the process is ending."""
        if isinstance(error, asyncio.CancelledError):
            return self.passed and not self._outer_first
        return self.passed and isinstance(error, Exception)


DEFAULT_MINIMUM_CALLS: Final = 20
"""Gives way to a smaller window."""


class CircuitBreaker:
    """Lets calls through while a dependency works, answers at once while it does not, and probes it in between.

    - ``name``: for log lines, transitions and metrics.
    - ``window``, ``failure_rate``, ``minimum_calls``: opens when at least ``minimum_calls`` of the last ``window``
      outcomes are known and the share of failures among them is ``failure_rate`` or more.
    - ``cooldown_s``: seconds in OPEN before probes are let in. Rejections do not prolong it.
    - ``probes``: so many probes are let in, and all have to succeed; one that fails reopens for a full cooldown.
    - ``probe_lease_s``: seconds after which a probe without an answer gives up its place; its late answer is void.
      Choose it longer than the slowest good answer.
    - ``ignore``: exception types that say nothing about the dependency. They reach the caller and do not count.
    - ``clock``: returns seconds; may jump.
    - ``listeners``: each is called with every ``Transition``, in order, after the fact, in the thread that noticed it,
      without a lock. An exception of a listener is logged and goes no further. Listeners must not block.

    ``timeout_s`` belongs inside the breaker, as an argument of ``call``: a hang that is cut off by a timeout around it
    looks like a caller who lost interest, and cancellations do not count.

    One breaker may serve several event loops and threads at once. Raises ValueError for values that make no sense.
    """

    __slots__ = (
        "__weakref__",
        "_announcing",
        "_clock",
        "_counts",
        "_ignore",
        "_listeners",
        "_lock",
        "_machine",
        "_pending",
        "_rejections",
        "_successes",
        "_transitions",
        "name",
    )

    def __init__(
        self,
        name: str,
        *,
        window: int = 20,
        failure_rate: float = 0.5,
        minimum_calls: int = DEFAULT_MINIMUM_CALLS,
        cooldown_s: float = 30.0,
        probes: int = 5,
        probe_lease_s: float = 10.0,
        ignore: Iterable[type[BaseException]] | type[BaseException] = (),
        clock: Callable[[], float] = _monotonic,
        listeners: Iterable[Listener] = (),
    ) -> None:
        if not isinstance(name, str) or not name:
            msg = f"name={name!r}: give a text that is not empty; it stands in log lines and metrics"
            raise ValueError(msg)
        if minimum_calls == DEFAULT_MINIMUM_CALLS and isinstance(window, int):
            # Who asks for a smaller window alone means that a full one is judged.
            minimum_calls = max(1, min(minimum_calls, window))
        policy = Policy(
            window=window,
            failure_rate=failure_rate,
            minimum_calls=minimum_calls,
            cooldown_s=cooldown_s,
            probes=probes,
            probe_lease_s=probe_lease_s,
        )
        self.name: Final = name
        self._ignore = _exception_types(ignore)
        self._clock = _callable("clock", clock)
        self._listeners = _listener_tuple(listeners)
        self._machine = Machine(name, policy)
        # Reentrant, for the garbage collector may close a forgotten call while this very thread is in a step.
        self._lock = threading.RLock()
        self._pending: deque[Transition] = deque()
        self._announcing = False
        # These two, and a permit's successes, are counted without the lock: under the GIL no other thread comes
        # between load and store.
        self._successes = 0
        self._rejections = 0
        self._counts: dict[Outcome, int] = {outcome: 0 for outcome in Outcome if outcome not in {_SUCCESS, _REJECTED}}
        self._transitions: dict[tuple[State, State], int] = {}

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.name!r}: {self._machine.mode.value}>"

    # -- looking and setting ---------------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """The state now. Reading it after the cooldown makes OPEN HALF_OPEN."""
        if self._machine.state is _OPEN:
            self._step(self._machine.resolve)
        return self._machine.state

    @property
    def counts(self) -> Mapping[str, int]:
        """How many calls ended how since the breaker was made, a copy.

        By outcome: success, error, timeout, ignored, cancelled, rejected. Every call counts, of whatever generation.
        """
        with self._lock:
            others = {outcome.value: n for outcome, n in self._counts.items()}
            return {_SUCCESS.value: self._successes, **others, _REJECTED.value: self._rejections}

    @property
    def transitions(self) -> Mapping[tuple[State, State], int]:
        """How many transitions there were, by (old, new), a copy."""
        with self._lock:
            return dict(self._transitions)

    def force_open(self) -> None:
        """Reject every call until ``reset`` or ``disable``; no cooldown runs."""
        self._step(self._machine.force_open)

    def disable(self) -> None:
        """Let every call through and never open, until ``reset`` or ``force_open``. The state reads CLOSED."""
        self._step(self._machine.disable)

    def reset(self) -> None:
        """Return to CLOSED with an empty window; calls that are under way will not count."""
        self._step(self._machine.reset)

    # -- calling ---------------------------------------------------------------------------------------------------

    @overload
    async def call(
        self, fn: Callable[[], Awaitable[T]], *, timeout_s: float | None = None, fallback: None = None
    ) -> T: ...
    @overload
    async def call(
        self,
        fn: Callable[[], Awaitable[T]],
        *,
        timeout_s: float | None = None,
        fallback: Callable[[Reason], Awaitable[F]],
    ) -> T | F: ...
    @overload
    async def call(
        self, fn: Callable[[], Awaitable[T]], *, timeout_s: float | None = None, fallback: Callable[[Reason], F]
    ) -> T | F: ...
    async def call(
        self,
        fn: Callable[[], Awaitable[Any]],
        *,
        timeout_s: float | None = None,
        fallback: Callable[[Reason], Any] | None = None,
    ) -> Any:
        """Await ``fn()``, unless the breaker is open, for ``timeout_s`` seconds at most.

        With ``fallback`` a call that is rejected ("open"), misses the deadline ("timeout") or raises ("error") gives
        ``fallback(reason)`` instead, awaited if it is awaitable. Without it:

        - BreakerOpen: rejected; raised without suspending, ``fn`` is not called.
        - TimeoutError: the deadline passed. ``fn`` was cancelled; what it made of that no longer matters. A ``fn`` that
          goes on regardless is waited for: asyncio cannot end it.
        - what ``fn`` raised, otherwise.

        Ignored exceptions and cancellations always reach the caller, and do not count. Raises ValueError if
        ``timeout_s`` is not a number.
        """
        machine = self._machine
        permit = machine.passing
        if timeout_s is not None:
            return await self._call_within(fn, _timeout(timeout_s), fallback)
        if permit is None:
            permit = self._admit()
            if permit is None:
                if fallback is None:
                    raise self._rejection()
                return await _answer(fallback, "open")
        try:
            value = await fn()
        except BaseException as error:
            reason = self._failed(permit, error)
            if fallback is None or reason is None:
                raise
            return await _answer(fallback, reason)
        if machine.steady:
            permit.successes += 1
            self._successes += 1
        else:
            self._record(permit, _SUCCESS)
        return value

    async def _call_within(
        self, fn: Callable[[], Awaitable[Any]], timeout_s: float, fallback: Callable[[Reason], Any] | None
    ) -> Any:
        permit = self._admit()
        if permit is None:
            if fallback is None:
                raise self._rejection()
            return await _answer(fallback, "open")
        try:
            deadline = _Deadline(timeout_s)
        except BaseException:
            self._record(permit, _CANCELLED)
            raise
        try:
            value = await fn()
        except BaseException as error:
            given_up = deadline.stop()
            if not deadline.missed(error):
                reason = self._failed(permit, error)
                if fallback is None or reason is None:
                    raise
                return await _answer(fallback, reason)
            self._record(permit, _TIMEOUT)
            if given_up and isinstance(error, asyncio.CancelledError):
                raise  # the dependency failed, and after that the caller went
            if fallback is None:
                raise self._too_late(timeout_s) from error
            return await _answer(fallback, "timeout")
        deadline.stop()
        if not deadline.passed:
            if self._machine.steady:
                permit.successes += 1
                self._successes += 1
            else:
                self._record(permit, _SUCCESS)
            return value
        self._record(permit, _TIMEOUT)
        if fallback is None:
            raise self._too_late(timeout_s)
        return await _answer(fallback, "timeout")

    @overload
    def call_sync(self, fn: Callable[[], T], *, timeout_s: float | None = None, fallback: None = None) -> T: ...
    @overload
    def call_sync(
        self, fn: Callable[[], T], *, timeout_s: float | None = None, fallback: Callable[[Reason], F]
    ) -> T | F: ...
    def call_sync(
        self,
        fn: Callable[[], Any],
        *,
        timeout_s: float | None = None,
        fallback: Callable[[Reason], Any] | None = None,
    ) -> Any:
        """Call ``fn()``, unless the breaker is open: ``call`` for threads, with the same outcomes and errors.

        A thread cannot be interrupted, so ``timeout_s`` cuts nothing off: it is compared with the time that the call
        took by the breaker's clock, and an answer or error that came later is a timeout. Give ``fn`` a timeout of its
        own to come back at all. Raises TypeError if ``fn`` is a coroutine function.
        """
        machine = self._machine
        permit = machine.passing
        due = None if timeout_s is None else self._clock() + _timeout(timeout_s)
        if permit is None:
            permit = self._admit()
            if permit is None:
                if fallback is None:
                    raise self._rejection()
                return fallback("open")
        try:
            value = fn()
        except BaseException as error:
            if due is None or not isinstance(error, Exception) or self._clock() <= due:
                reason = self._failed(permit, error)
                if fallback is None or reason is None:
                    raise
                return fallback(reason)
            self._record(permit, _TIMEOUT)
            if fallback is None:
                raise self._too_late(timeout_s) from error
            return fallback("timeout")
        if type(value) is CoroutineType:
            value.close()
            self._record(permit, _CANCELLED)
            msg = "call_sync got a coroutine, which nobody would await; use `await breaker.call(fn)`"
            raise TypeError(msg)
        if due is None or self._clock() <= due:
            if machine.steady:
                permit.successes += 1
                self._successes += 1
            else:
                self._record(permit, _SUCCESS)
            return value
        self._record(permit, _TIMEOUT)
        if fallback is None:
            raise self._too_late(timeout_s)
        return fallback("timeout")

    # -- steps of the machine --------------------------------------------------------------------------------------

    def _admit(self) -> Permit | None:
        """Take a permit; None is a rejection, and counted."""
        machine = self._machine
        permit = machine.passing
        if permit is not None:
            return permit
        now = self._clock()
        since, until = machine.shut
        if since <= now < until:
            self._rejections += 1
            return None
        with self._lock:
            permit, transition = machine.admit(now)
            if transition is not None:
                self._note(transition)
        if permit is None:
            self._rejections += 1
        if transition is not None:
            self._announce()
        return permit

    def _record(self, permit: Permit, outcome: Outcome) -> None:
        """Count an outcome and let the machine judge it."""
        now = self._clock()
        with self._lock:
            if outcome is _SUCCESS:
                self._successes += 1
            else:
                self._counts[outcome] += 1
            transition = self._machine.record(permit, outcome, now)
            if transition is not None:
                self._note(transition)
        if transition is not None:
            self._announce()

    def _failed(self, permit: Permit, error: BaseException) -> Reason | None:
        """Record what ``fn`` raised; return the reason for a fallback, or None if it concerns the caller alone."""
        if isinstance(error, self._ignore):
            self._record(permit, _IGNORED)
            return None
        if not isinstance(error, Exception):
            self._record(permit, _CANCELLED)
            return None
        self._record(permit, _ERROR)
        return "error"

    def _step(self, step: Callable[[float], Transition | None]) -> None:
        now = self._clock()
        with self._lock:
            transition = step(now)
            if transition is not None:
                self._note(transition)
        if transition is not None:
            self._announce()

    def _rejection(self) -> BreakerOpen:
        until = self._machine.shut[1]
        return BreakerOpen(self.name, max(0.0, until - self._clock()) if math.isfinite(until) else None)

    def _too_late(self, timeout_s: float | None) -> TimeoutError:
        return TimeoutError(f"{self.name}: no answer within {timeout_s} s")

    # -- telling -----------------------------------------------------------------------------------------------------

    def _note(self, transition: Transition) -> None:
        """Put a transition in line, under the lock and so in the order in which they happened."""
        change = (transition.old, transition.new)
        self._transitions[change] = self._transitions.get(change, 0) + 1
        self._pending.append(transition)

    def _announce(self) -> None:
        """Tell what is in line. One at a time does so; a listener that re-enters, or another thread, adds to it."""
        with self._lock:
            if self._announcing:
                return
            self._announcing = True
        try:
            while (transition := self._next_or_done()) is not None:
                self._tell(transition)
        except BaseException:
            self._announcing = False
            raise

    def _next_or_done(self) -> Transition | None:
        with self._lock:
            if self._pending:
                return self._pending.popleft()
            self._announcing = False
            return None

    def _tell(self, transition: Transition) -> None:
        _log.log(
            logging.WARNING if transition.new is _OPEN else logging.INFO,
            "breaker %s: %s -> %s (%s)",
            transition.name,
            transition.old.value,
            transition.new.value,
            transition.reason,
            extra={
                "breaker": transition.name,
                "old": transition.old.value,
                "new": transition.new.value,
                "at": transition.at,
                "reason": transition.reason,
            },
        )
        for listener in self._listeners:
            try:
                listener(transition)
            except (Exception, asyncio.CancelledError):  # noqa: BLE001 - a listener's trouble is not the caller's
                _log.exception("breaker %s: listener %r failed on %r", self.name, listener, transition)


async def _answer(fallback: Callable[[Reason], Any], reason: Reason) -> Any:
    value = fallback(reason)
    return await value if hasattr(value, "__await__") else value


def _timeout(timeout_s: float) -> float:
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)) or math.isnan(timeout_s):
        msg = f"timeout_s={timeout_s!r}: give a number of seconds, or None for no deadline"
        raise ValueError(msg)
    # An event loop cannot hold an infinite timer; a day is as good, and 0 is what is left of a spent budget.
    return min(max(0.0, timeout_s), 86_400.0)


def _exception_types(ignore: Any) -> tuple[type[BaseException], ...]:
    types: tuple[Any, ...] = (
        (ignore,) if isinstance(ignore, type) or not isinstance(ignore, Iterable) else tuple(ignore)
    )
    for one in types:
        if not (isinstance(one, type) and issubclass(one, BaseException)):
            msg = f"ignore={ignore!r}: {one!r} is no exception type; give types such as (LookupError,)"
            raise ValueError(msg)
    return types


def _callable(parameter: str, value: T) -> T:  # the types promise it, callers without types do not
    if not callable(value):
        msg = f"{parameter}={value!r}: give a function"
        raise ValueError(msg)
    return value


def _listener_tuple(listeners: object) -> tuple[Listener, ...]:
    if not isinstance(listeners, Iterable):
        msg = f"listeners={listeners!r}: give a sequence of functions that take one Transition"
        raise ValueError(msg)
    found = tuple(listeners)
    for listener in found:
        _callable("listeners", listener)
        if inspect.iscoroutinefunction(listener):
            msg = f"listeners={listener!r}: give a plain function; nobody would await a coroutine"
            raise ValueError(msg)
    return found

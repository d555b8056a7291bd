"""The circuit breaker as a pure machine: no clock, no I/O, no threads.

Theory
======

A breaker stands between a caller and a dependency and is in one of three states that the world can see:
CLOSED (calls pass and their outcomes are judged), OPEN (calls are refused until a cooldown is over) and
HALF_OPEN (a few probes pass, to find out whether the dependency is back). Two modes more are set by hand and left
by hand: FORCED_OPEN looks OPEN and has no cooldown, DISABLED looks CLOSED and judges nothing. Which event
leads from where to where is the table ``TRANSITIONS`` and nothing else; the code below only finds out *that* an event
has happened.

Every change of mode begins a new *generation*. A call takes a ``Permit`` when it begins and shows it when it ends; an
outcome whose permit is of an earlier generation changes nothing, so a slow answer from before an outage can neither
close a breaker nor open it again.

A probe's permit is a *lease*. It ends with the probe's outcome or, for a probe that never comes back, with time; the
slot is then free for another probe. Passed probes and running leases together never exceed ``Policy.probes``.

Time comes in as an argument, in seconds of any clock. The clock may jump: forwards ends a cooldown or a lease early,
backwards begins it anew from the new time, so that nothing is ever awaited longer than once its full length; NaN is no
time and changes nothing.

The window is a ring of bytes and the rate is tested in integers, so 1 failure in 10 is 10 % whatever floats say.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final

__all__ = ["TRANSITIONS", "Event", "Machine", "Mode", "Outcome", "Permit", "Policy", "State", "Transition"]


class State(enum.StrEnum):
    """What the world sees of a breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Mode(enum.StrEnum):
    """What the machine is in: the three states, and the two that are set by hand."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"


class Event(enum.StrEnum):
    """Why the mode changes; the value is the ``reason`` of a ``Transition``."""

    FAILURE_RATE = "failure_rate"
    COOLDOWN_ELAPSED = "cooldown_elapsed"
    PROBE_FAILED = "probe_failed"
    PROBES_SUCCEEDED = "probes_succeeded"
    FORCED_OPEN = "forced_open"
    DISABLED = "disabled"
    RESET = "reset"


class Outcome(enum.Enum):
    """How a call ended."""

    # The enum's own hash runs in Python and would be a third of a step.
    __hash__ = object.__hash__

    SUCCESS = "success"
    ERROR = "error"
    TIMEOUT = "timeout"
    IGNORED = "ignored"
    CANCELLED = "cancelled"
    REJECTED = "rejected"


_BY_HAND: Final = {
    Event.FORCED_OPEN: Mode.FORCED_OPEN,
    Event.DISABLED: Mode.DISABLED,
    Event.RESET: Mode.CLOSED,
}

#: mode -> event -> next mode. An event that is missing from a row cannot happen there.
TRANSITIONS: Final[Mapping[Mode, Mapping[Event, Mode]]] = MappingProxyType(
    {
        Mode.CLOSED: MappingProxyType({Event.FAILURE_RATE: Mode.OPEN, **_BY_HAND}),
        Mode.OPEN: MappingProxyType({Event.COOLDOWN_ELAPSED: Mode.HALF_OPEN, **_BY_HAND}),
        Mode.HALF_OPEN: MappingProxyType(
            {Event.PROBE_FAILED: Mode.OPEN, Event.PROBES_SUCCEEDED: Mode.CLOSED, **_BY_HAND}
        ),
        Mode.FORCED_OPEN: MappingProxyType({**_BY_HAND}),
        Mode.DISABLED: MappingProxyType({**_BY_HAND}),
    }
)

#: mode -> the state it is seen as.
SEEN_AS: Final[Mapping[Mode, State]] = MappingProxyType(
    {
        Mode.CLOSED: State.CLOSED,
        Mode.OPEN: State.OPEN,
        Mode.HALF_OPEN: State.HALF_OPEN,
        Mode.FORCED_OPEN: State.OPEN,
        Mode.DISABLED: State.CLOSED,
    }
)

# The class looks its members up in Python (3.11), so the steps that every call takes use names of their own.
_CLOSED: Final = Mode.CLOSED
_OPEN: Final = Mode.OPEN
_HALF_OPEN: Final = Mode.HALF_OPEN
_FORCED_OPEN: Final = Mode.FORCED_OPEN

_ALWAYS: Final = (-math.inf, math.inf)
_NEVER: Final = (math.inf, -math.inf)

#: outcome -> did the dependency fail? Outcomes that are missing say nothing about it.
JUDGED: Final[Mapping[Outcome, bool]] = MappingProxyType(
    {Outcome.SUCCESS: False, Outcome.ERROR: True, Outcome.TIMEOUT: True}
)


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of state, as listeners get it."""

    name: str
    """The breaker's name."""
    old: State
    """The state that was left."""
    new: State
    """The state that was entered; never equal to ``old``."""
    at: float
    """When, in seconds of the breaker's clock. The end of a cooldown is dated when it is noticed."""
    reason: str
    """A value of ``Event``: why."""


class Permit:
    """The right to make one call, to be shown again with its outcome. All calls of a generation in CLOSED share one."""

    __slots__ = ("generation", "probe", "successes")

    def __init__(self, generation: int, probe: int = 0) -> None:
        self.generation = generation
        """The generation in which the call began."""
        self.probe = probe
        """The lease of a probe in HALF_OPEN; 0 for a call in CLOSED."""
        self.successes = 0
        """Successes that were noted here instead of recorded; see ``Machine.steady``."""


def _whole(parameter: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        msg = f"{parameter}={value!r}: give a whole number of {least} or more"
        raise ValueError(msg)
    return value


def _seconds(parameter: str, value: object, *, zero: bool) -> float:
    seconds = float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if math.isfinite(seconds) and (seconds > 0 or (zero and seconds == 0)):
        return seconds
    msg = f"{parameter}={value!r}: give a finite number of seconds, {'0 or more' if zero else 'more than 0'}"
    raise ValueError(msg)


def _rate(parameter: str, value: object) -> Fraction:
    """Return the rate as it is written: 0.1 is one tenth, not the float beside it."""
    try:
        rate = Fraction(str(value))
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if isinstance(value, (bool, str)) or not 0 < rate <= 1:
        msg = f"{parameter}={value!r}: give a number above 0 and up to 1, such as 0.5 for half of the calls"
        raise ValueError(msg)
    return rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When a breaker opens, and how it finds out that it may close.

    Raises ValueError, naming the parameter, its value and what would be right.
    """

    window: int = 20
    """How many of the last outcomes are judged."""
    failure_rate: Fraction | float = 0.5
    """The share of failures among them that opens the breaker, 0 < rate <= 1. Kept as the fraction it is written as."""
    minimum_calls: int = 20
    """How many outcomes the window must hold before it is judged; at most ``window``."""
    cooldown_s: float = 30.0
    """Seconds in OPEN before the first probe."""
    probes: int = 5
    """How many probes must succeed in HALF_OPEN, and how many are let in at most."""
    probe_lease_s: float = 10.0
    """Seconds after which a probe without an outcome gives its place to another."""

    def __post_init__(self) -> None:
        """Check every value and store it in its exact form."""
        put = object.__setattr__
        _whole("window", self.window, 1)
        _whole("minimum_calls", self.minimum_calls, 1)
        _whole("probes", self.probes, 1)
        if self.minimum_calls > self.window:
            msg = (
                f"minimum_calls={self.minimum_calls}: the window holds {self.window} outcomes and could never"
                f" be judged; give minimum_calls from 1 to {self.window}, or a larger window"
            )
            raise ValueError(msg)
        put(self, "failure_rate", _rate("failure_rate", self.failure_rate))
        put(self, "cooldown_s", _seconds("cooldown_s", self.cooldown_s, zero=True))
        # A lease of 0 s would make every answer a late one, and HALF_OPEN a trap.
        put(self, "probe_lease_s", _seconds("probe_lease_s", self.probe_lease_s, zero=False))


class _Window:
    """The last outcomes, oldest overwritten first."""

    __slots__ = ("_head", "_ring", "calls", "failures", "size")

    def __init__(self, size: int) -> None:
        self._ring = bytearray(size)
        self._head = 0
        self.size = size
        self.calls = 0
        self.failures = 0

    def push(self, failed: bool) -> None:
        ring, head = self._ring, self._head
        if self.calls == self.size:
            self.failures -= ring[head]
        else:
            self.calls += 1
        ring[head] = failed
        if failed:
            self.failures += 1
        head += 1
        self._head = head if head < self.size else 0

    def push_successes(self, n: int) -> None:
        if n >= self.size:
            self._ring, self.calls, self.failures = bytearray(self.size), self.size, 0
            return
        for _ in range(n):
            self.push(False)


class Machine:
    """The breaker without clock, calls and listeners. Steps must not overlap: the owner holds a lock around each.

    Only the public attributes may be read without it: each is one reference, and says by itself what it allows.
    """

    __slots__ = (
        "_caught_up",
        "_denominator",
        "_leases",
        "_minimum",
        "_name",
        "_numerator",
        "_passed",
        "_permit",
        "_policy",
        "_probe",
        "_since",
        "_window",
        "mode",
        "passing",
        "shut",
        "state",
        "steady",
    )

    mode: Mode
    state: State
    passing: Permit | None
    """The permit while every call passes, in CLOSED and DISABLED: ``admit`` would give it, and may be left out."""
    steady: bool
    """True while no success can change the state, which is once the window holds the minimum: a success can only lower
    the rate. It may then be added to its permit's ``successes``, and the window catches up before the next outcome
    that is recorded. On a permit of an earlier generation it is lost, as it should be.
    """
    shut: tuple[float, float]
    """While from <= now < until, every call is rejected: ``admit`` would change nothing, and may be left out."""

    def __init__(self, name: str, policy: Policy) -> None:
        rate = Fraction(policy.failure_rate)
        self._name = name
        self._policy = policy
        self._minimum = policy.minimum_calls
        self._numerator = rate.numerator
        self._denominator = rate.denominator
        self._probe = 0
        self._permit = Permit(0)
        self._begin(Mode.CLOSED, 0.0)

    def _begin(self, mode: Mode, now: float) -> None:
        """Enter a mode with nothing left of the one before."""
        self.passing, self.steady = None, False  # first, so that nobody takes a shortcut into the new mode
        self._permit = Permit(self._permit.generation + 1)
        self.mode = mode
        self.state = SEEN_AS[mode]
        self._since = now
        self.shut = self._shut_from(now) if mode is _OPEN else _ALWAYS if mode is _FORCED_OPEN else _NEVER
        self._window = _Window(self._policy.window)
        self._caught_up = 0
        self._leases: dict[int, float] = {}
        self._passed = 0
        self.steady = mode is Mode.DISABLED
        self.passing = self._permit if self.state is State.CLOSED else None

    def _happen(self, event: Event, now: float) -> Transition | None:
        """Follow the table; return what the world sees of it."""
        old = self.state
        self._begin(TRANSITIONS[self.mode][event], now)
        return Transition(self._name, old, self.state, now, event.value) if self.state is not old else None

    # -- steps -----------------------------------------------------------------------------------------------------

    def resolve(self, now: float) -> Transition | None:
        """Notice that the cooldown is over."""
        if self.mode is not _OPEN:
            return None
        if now < self._since or math.isnan(self._since):
            self._since = _anchored(self._since, now)
            self.shut = self._shut_from(self._since)
        if now >= self.shut[1]:
            return self._happen(Event.COOLDOWN_ELAPSED, now)
        return None

    def admit(self, now: float) -> tuple[Permit | None, Transition | None]:
        """Ask for a call: its permit, or None for a rejection; and the change that asking brought to light."""
        transition = self.resolve(now)
        if self.passing is not None:
            return self.passing, transition
        if self.mode is not _HALF_OPEN or not self._has_room(now):
            return None, transition
        self._probe += 1
        self._leases[self._probe] = now
        return Permit(self._permit.generation, self._probe), transition

    def record(self, permit: Permit, outcome: Outcome, now: float) -> Transition | None:
        """Take the outcome of a call; return the change it made.

        A CANCELLED outcome may arrive in the middle of another step of the same thread (the garbage collector closes
        a forgotten coroutine): it only takes one lease out.
        """
        if permit.generation != self._permit.generation:
            return None
        failed = JUDGED.get(outcome)
        if self.mode is _CLOSED and failed is not None:
            return self._judge(failed, now)
        if self.mode is _HALF_OPEN:
            return self._probed(permit, failed, now)
        return None

    def force_open(self, now: float) -> Transition | None:
        """Refuse every call until ``reset``."""
        return self._happen(Event.FORCED_OPEN, now)

    def disable(self, now: float) -> Transition | None:
        """Let every call through and judge none until ``reset``."""
        return self._happen(Event.DISABLED, now)

    def reset(self, now: float) -> Transition | None:
        """Return to CLOSED with an empty window."""
        return self._happen(Event.RESET, now)

    # -- what the steps ask ----------------------------------------------------------------------------------------

    def _shut_from(self, since: float) -> tuple[float, float]:
        return since, since + self._policy.cooldown_s

    def _judge(self, failed: bool, now: float) -> Transition | None:
        window, noted = self._window, self._permit.successes
        window.push_successes(noted - self._caught_up)
        self._caught_up = noted
        window.push(failed)
        calls = window.calls
        self.steady = calls >= self._minimum
        # On every outcome: the success that completes the minimum can be the one that shows the rate.
        if self.steady and window.failures * self._denominator >= self._numerator * calls:
            return self._happen(Event.FAILURE_RATE, now)
        return None

    def _probed(self, permit: Permit, failed: bool | None, now: float) -> Transition | None:
        began = self._leases.pop(permit.probe, None)
        if began is None or failed is None or now >= _anchored(began, now) + self._policy.probe_lease_s:
            return None
        if failed:
            return self._happen(Event.PROBE_FAILED, now)
        self._passed += 1
        if self._passed < self._policy.probes:
            return None
        return self._happen(Event.PROBES_SUCCEEDED, now)

    def _has_room(self, now: float) -> bool:
        """Free the places of leases that are over; tell whether there is one for another probe."""
        leases = self._leases
        for probe in list(leases):
            began = leases[probe] = _anchored(leases.get(probe, now), now)
            if now >= began + self._policy.probe_lease_s:
                leases.pop(probe, None)
        return self._passed + len(leases) < self._policy.probes


def _anchored(since: float, now: float) -> float:
    """Return when an interval began, in the clock's present terms.

    A clock that stands before the beginning has jumped back: the interval begins anew, or it would last as long as the
    jump. NaN as ``since`` gives way to the first real time; NaN as ``now`` moves nothing.
    """
    return since if now >= since or math.isnan(now) else now

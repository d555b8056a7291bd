"""What a breaker accepts, and what it says of the rest."""

from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
from tests.breaker.breaker_support import Bench

import crossfade.breaker
from crossfade.breaker import CircuitBreaker, State, Transition


async def _coroutine_listener(_: Transition) -> None: ...


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("window", 0),
        ("window", -1),
        ("window", 2.5),
        ("window", True),
        ("failure_rate", 0),
        ("failure_rate", -0.1),
        ("failure_rate", 1.01),
        ("failure_rate", math.nan),
        ("failure_rate", math.inf),
        ("failure_rate", "0.5"),
        ("failure_rate", None),
        ("failure_rate", True),
        ("minimum_calls", 0),
        ("minimum_calls", 21),
        ("minimum_calls", "20"),
        ("cooldown_s", -1),
        ("cooldown_s", math.nan),
        ("cooldown_s", math.inf),
        ("cooldown_s", "30"),
        ("probes", 0),
        ("probes", 1.0),
        ("probe_lease_s", 0),
        ("probe_lease_s", -1),
        ("probe_lease_s", math.nan),
        ("ignore", ("KeyError",)),
        ("ignore", (int,)),
        ("ignore", 5),
        ("clock", 5),
        ("listeners", 5),
        ("listeners", ("print",)),
        ("listeners", (_coroutine_listener,)),
    ],
)
def test_a_value_that_makes_no_sense_is_named_with_what_would(parameter: str, value: Any) -> None:
    settings: dict[str, Any] = {parameter: value}
    with pytest.raises(ValueError, match=rf"^{parameter}=.*give ") as caught:
        CircuitBreaker("dep", **settings)
    assert repr(value) in str(caught.value) or parameter == "listeners"


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_breaker_has_a_name(name: Any) -> None:
    with pytest.raises(ValueError, match=r"^name=.*give "):
        CircuitBreaker(name)


def test_a_minimum_that_the_window_cannot_hold_is_refused() -> None:
    with pytest.raises(ValueError, match=r"minimum_calls=11: the window holds 10 .* from 1 to 10"):
        CircuitBreaker("dep", window=10, minimum_calls=11)


def test_the_default_minimum_gives_way_to_a_smaller_window() -> None:
    """Asking for a window of 4 alone means that four outcomes are judged."""
    breaker = CircuitBreaker("dep", window=4)
    for _ in range(4):
        with pytest.raises(ZeroDivisionError):
            breaker.call_sync(lambda: 1 / 0)
    assert State.OPEN is breaker.state


def test_the_signature_is_the_promised_one() -> None:
    parameters = inspect.signature(CircuitBreaker).parameters
    defaults = {name: each.default for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY}
    assert callable(defaults.pop("clock"))
    assert defaults == {
        "window": 20,
        "failure_rate": 0.5,
        "minimum_calls": 20,
        "cooldown_s": 30.0,
        "probes": 5,
        "probe_lease_s": 10.0,
        "ignore": (),
        "listeners": (),
    }


def test_the_package_exports_four_names() -> None:
    assert {"CircuitBreaker", "BreakerOpen", "State", "Transition"} == set(crossfade.breaker.__all__)


def test_states_have_the_promised_values() -> None:
    assert {s.name: s.value for s in State} == {"CLOSED": "closed", "OPEN": "open", "HALF_OPEN": "half_open"}


def test_a_breaker_shows_its_name_and_state_without_changing_it(bench: Bench) -> None:
    breaker = bench.half_open()
    assert repr(breaker) == "<CircuitBreaker 'dep': open>"


def test_it_works_on_the_real_clock() -> None:
    assert State.CLOSED is CircuitBreaker("dep").state

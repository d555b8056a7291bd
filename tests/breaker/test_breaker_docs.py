"""The reference page says what the machine does."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from crossfade.breaker import CircuitBreaker
from crossfade.breaker.machine import SEEN_AS, TRANSITIONS, Event, Mode, Outcome, State

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "breaker.md").read_text()


def test_the_diagram_is_drawn_from_the_table() -> None:
    arrows = [
        f"    {old} --> {new}: {event}"
        for old, row in TRANSITIONS.items()
        for event, new in row.items()
        if not (event is Event.RESET and old is Mode.CLOSED)  # empties the window, and stays
        and old is not new
    ]
    diagram = PAGE.split("stateDiagram-v2\n")[1].split("```")[0].splitlines()
    assert ["    [*] --> closed", *arrows] == diagram


@pytest.mark.parametrize("word", [*Event, *(outcome.value for outcome in Outcome), *State])
def test_every_word_is_explained(word: str) -> None:
    assert f"`{word}`" in PAGE


@pytest.mark.parametrize("parameter", list(inspect.signature(CircuitBreaker).parameters)[1:])
def test_every_parameter_is_explained(parameter: str) -> None:
    assert f"| `{parameter}` |" in PAGE


def test_every_mode_is_seen_as_a_state_and_has_a_row() -> None:
    assert set(Mode) == set(SEEN_AS) == set(TRANSITIONS)

"""What a request counts as, from the proxy's termination state, status and server."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.core.outcome import Outcome, outcome_of, timed_out


@pytest.mark.parametrize(
    ("status", "termination", "server", "outcome"),
    [
        (200, "----", "v2a", Outcome.ANSWERED),
        (404, "----", "v2a", Outcome.ANSWERED),
        (500, "----", "v2a", Outcome.FAILED),
        (503, "----", "v2a", Outcome.FAILED),
        (200, "--NI", "v2a", Outcome.ANSWERED),
        (503, "SC--", "v2a", Outcome.UNANSWERED),
        (503, "sC--", "v2a", Outcome.UNANSWERED),
        (503, "sQ--", "<NOSRV>", Outcome.UNANSWERED),
        (502, "SH--", "v2a", Outcome.UNANSWERED),
        (502, "PH--", "v2a", Outcome.UNANSWERED),
        (504, "sH--", "v2a", Outcome.UNANSWERED),
        (-1, "SH--", "v2a", Outcome.UNANSWERED),
        (-1, "----", "v2a", Outcome.UNANSWERED),
        (403, "PH--", "v2a", Outcome.ANSWERED),
        (200, "SD--", "v2a", Outcome.FAILED),
        (200, "sD--", "v2a", Outcome.FAILED),
        (200, "CD--", "v2a", Outcome.ANSWERED),
        (500, "CD--", "v2a", Outcome.FAILED),
        (200, "CL--", "v2a", Outcome.ANSWERED),
        (-1, "CH--", "v2a", Outcome.LEFT),
        (400, "CH--", "v2a", Outcome.LEFT),
        (503, "CC--", "v2a", Outcome.LEFT),
        (503, "CQ--", "<NOSRV>", Outcome.LEFT),
        (-1, "CD--", "v2a", Outcome.LEFT),
        (400, "CR--", "<NOSRV>", Outcome.NOBODYS),
        (408, "cR--", "<NOSRV>", Outcome.NOBODYS),
        (400, "PR--", "<NOSRV>", Outcome.NOBODYS),
        (410, "LR--", "<NOSRV>", Outcome.NOBODYS),
        (200, "----", "fallback", Outcome.FALLBACK),
        (503, "SC--", "fallback", Outcome.FALLBACK),
        (200, "", "v2a", Outcome.ANSWERED),
    ],
)
def test_outcomes(status: int, termination: str, server: str, outcome: Outcome) -> None:
    assert outcome is outcome_of(status, termination, server)


@given(st.integers(-1, 999), st.text(max_size=6), st.text(max_size=9))
def test_whatever_the_proxy_says_is_some_outcome(status: int, termination: str, server: str) -> None:
    outcome = outcome_of(status, termination, server)
    assert not (outcome.is_critical and outcome.is_the_versions)
    assert outcome.is_failure or not outcome.is_critical


def test_only_the_proxys_own_patience_is_a_timeout() -> None:
    assert [timed_out(t) for t in ("sH--", "SH--", "----")] == [True, False, False]

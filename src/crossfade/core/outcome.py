"""What became of one request, from what the proxy says of it: who ended it, when, and with which status.

The proxy's termination state (HAProxy's) names in its first letter who ended the request early (`C` and `c` the client,
`-` nobody, anything else the server or the proxy) and in its second what the request was waiting for (`R` the
request itself, `Q` a free connection, `C` the connection, `H` the answer's headers, `D` its body).
"""

from __future__ import annotations

from enum import Enum

GAVE_UP_MS = 1000
"""A client that leaves after waiting this long has been failed; one that leaves sooner has only left."""

FALLBACK_SERVER = "fallback"
"""Name of the server through which V1 answers in V2's place."""

_CLIENT = "Cc"
_WAITING = "QCH"


class Outcome(Enum):
    """What a request counts as."""

    ANSWERED = "answered"
    FAILED = "failed"
    """The version answered with a status of 500 or above, or broke its answer off."""
    UNANSWERED = "unanswered"
    """The version gave no answer at all: what the client got, if anything, is the proxy's."""
    FALLBACK = "fallback"
    """The version gave no answer at all, and V1 answered in its place."""
    LEFT = "left"
    """The client left while it waited: a failure after GAVE_UP_MS, nobody's request before."""
    NOBODYS = "nobody's"
    """Never sent on to a version: left or refused before, or answered by the proxy itself."""

    @property
    def is_failure(self) -> bool:
        """Tell whether it counts as a failure of the version, however long it took."""
        return self in (Outcome.FAILED, Outcome.UNANSWERED, Outcome.FALLBACK)

    @property
    def is_critical(self) -> bool:
        """Tell whether the version gave no answer at all."""
        return self in (Outcome.UNANSWERED, Outcome.FALLBACK)

    @property
    def is_the_versions(self) -> bool:
        """Tell whether the answer is the version's own, so that its facts and its latency are."""
        return self in (Outcome.ANSWERED, Outcome.FAILED)


def outcome_of(status: int, termination: str, server: str) -> Outcome:
    """Return what became of a request; `status` is -1 where none was sent to the client."""
    who, when = termination[:1] or "-", termination[1:2] or "-"
    if when == "R":
        return Outcome.NOBODYS
    if server == FALLBACK_SERVER:
        return Outcome.FALLBACK
    if who in _CLIENT and (when in _WAITING or status < 0):
        return Outcome.LEFT  # before the status: the proxy logs 503 for clients that left the queue
    if status < 0:
        return Outcome.UNANSWERED
    ended_early = who not in f"-{_CLIENT}"
    if status >= 500:
        return Outcome.UNANSWERED if ended_early and when in _WAITING else Outcome.FAILED
    return Outcome.FAILED if ended_early and when == "D" else Outcome.ANSWERED


def timed_out(termination: str) -> bool:
    """Tell whether the proxy gave up waiting for the server: no answer, and a slow one at that."""
    return termination[:1] == "s"

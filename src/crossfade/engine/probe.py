"""The probe that nobody reads: what the engine has where its own work is not measured."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from crossfade.core.decide import Decision
from crossfade.core.evidence.sums import Tick
from crossfade.ports import Fact, Span


class _Unread:
    def tell(self, **facts: Fact) -> None:
        """Tell nobody."""


_UNREAD: AbstractContextManager[Span] = nullcontext(_Unread())


class Unwatched:
    """Keeps `ports.Probe`."""

    def span(self, name: str, **facts: Fact) -> AbstractContextManager[Span]:  # noqa: ARG002 - nobody reads it
        """Return a span that tells nobody."""
        return _UNREAD

    def closed(self, ticks: Sequence[Tick]) -> None:
        """Tell nobody."""

    def decided(self, decision: Decision) -> None:
        """Tell nobody."""

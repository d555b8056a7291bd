"""Breakers as Prometheus metrics, read when they are scraped.

- ``crossfade_breaker_state{name,state}``: 1 for the state the breaker is in, 0 for the two others. A scrape after the
  cooldown makes OPEN HALF_OPEN, as any other look at the state does.
- ``crossfade_breaker_transitions_total{name,old,new}``: changes of state.
- ``crossfade_breaker_calls_total{name,outcome}``: calls by success, error, timeout, ignored, cancelled, rejected.

Needs prometheus-client, which the rest of the breaker does not.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from crossfade.breaker.breaker import CircuitBreaker
from crossfade.breaker.machine import SEEN_AS, TRANSITIONS, State

__all__ = ["BreakerCollector", "register"]

# All series exist from the beginning, so that a first transition is a rise from 0 and `rate()` sees it.
_CHANGES = sorted(
    {
        (SEEN_AS[old], SEEN_AS[new])
        for old, row in TRANSITIONS.items()
        for new in row.values()
        if SEEN_AS[old] is not SEEN_AS[new]
    }
)


class BreakerCollector(Collector):
    """Collects from the breakers it was given; add one at any time.

    Raises ValueError for a second breaker of the same name, whose series would collide.
    """

    def __init__(self, *breakers: CircuitBreaker) -> None:
        self._breakers: dict[str, CircuitBreaker] = {}
        for breaker in breakers:
            self.add(breaker)

    def add(self, breaker: CircuitBreaker) -> None:
        """Collect from this breaker too."""
        if self._breakers.setdefault(breaker.name, breaker) is not breaker:
            msg = f"breaker={breaker!r}: another breaker of this name is collected; give each a name of its own"
            raise ValueError(msg)

    def collect(self) -> Iterator[Metric]:
        """Yield the three families, read now."""
        states = GaugeMetricFamily(
            "crossfade_breaker_state", "1 for the state the breaker is in.", labels=("name", "state")
        )
        transitions = CounterMetricFamily(
            "crossfade_breaker_transitions", "Changes of the breaker's state.", labels=("name", "old", "new")
        )
        calls = CounterMetricFamily(
            "crossfade_breaker_calls", "Calls through the breaker by how they ended.", labels=("name", "outcome")
        )
        for name, breaker in list(self._breakers.items()):
            now = breaker.state
            for state in State:
                states.add_metric((name, state.value), float(state is now))
            changes = breaker.transitions
            for old, new in _CHANGES:
                transitions.add_metric((name, old.value, new.value), changes.get((old, new), 0))
            for outcome, n in breaker.counts.items():
                calls.add_metric((name, outcome), n)
        yield from (states, transitions, calls)

    def describe(self) -> Iterator[Metric]:
        """Name the families without looking at a breaker; registering is not a scrape."""
        yield GaugeMetricFamily("crossfade_breaker_state", "")
        yield CounterMetricFamily("crossfade_breaker_transitions", "")
        yield CounterMetricFamily("crossfade_breaker_calls", "")


def register(*breakers: CircuitBreaker, registry: CollectorRegistry = REGISTRY) -> BreakerCollector:
    """Register one collector for these breakers; a registry takes one, to which more breakers are added."""
    collector = BreakerCollector(*breakers)
    registry.register(collector)
    return collector

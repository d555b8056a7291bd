"""The circuit breaker, a library of its own.

``CircuitBreaker`` stands before a dependency that can fail or hang, answers in its place while it does, and finds out
by a few probes when it is back. Metrics for Prometheus are in ``crossfade.breaker.metrics``, which is imported only by
those who want them.
"""

from crossfade.breaker.breaker import BreakerOpen, CircuitBreaker
from crossfade.breaker.machine import State, Transition

__all__ = ["BreakerOpen", "CircuitBreaker", "State", "Transition"]

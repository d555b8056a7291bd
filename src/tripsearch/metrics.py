"""What /metrics shows. Each process has a registry; label children are made once, since finding them costs."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from crossfade.breaker import CircuitBreaker, State

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1.0, 2.0, 2.5, 5.0)


class Metrics:
    """Counts of one process; `service` is v1, v2 or weather-provider."""

    def __init__(self, service: str) -> None:
        self._registry = CollectorRegistry()
        requests = Counter("tripsearch_requests", "Answers, by status", ["service", "status"], registry=self._registry)
        self._statuses = {s: requests.labels(service, str(s)) for s in (200, 400, 404, 405, 500, 503)}
        self._seconds = Histogram(
            "tripsearch_request_seconds", "Time to answer", ["service"], buckets=_SECONDS, registry=self._registry
        ).labels(service)
        lookups = Counter(
            "tripsearch_cache_lookups", "Searches by cache result", ["service", "result"], registry=self._registry
        )
        self._lookups = {result: lookups.labels(service, result) for result in ("hit", "miss")}
        self._database = Histogram(
            "tripsearch_database_seconds",
            "Database time of one search that asked it",
            ["service"],
            buckets=_SECONDS,
            registry=self._registry,
        ).labels(service)
        self._weather = Counter(
            "tripsearch_weather_answers", "Weather by outcome", ["service", "outcome"], registry=self._registry
        )
        self._service = service

    def answered(self, status: int, elapsed_s: float) -> None:
        """One request to the search, or to the provider's forecast."""
        self._statuses[status].inc()
        self._seconds.observe(elapsed_s)

    def searched(self, cache: str | None, database_ms: float | None) -> None:
        """One look for flights and hotels."""
        if cache is not None:
            self._lookups[cache].inc()
        if database_ms:
            self._database.observe(database_ms / 1000)

    def weather(self, outcome: str) -> None:
        """One answer's weather: ok, kept, breaker_open, timeout, error or not_offered."""
        self._weather.labels(self._service, outcome).inc()

    def watch(self, breaker: CircuitBreaker) -> None:
        """Show this breaker too."""
        self._registry.register(_BreakerCollector(breaker))

    def page(self) -> bytes:
        """The whole page."""
        return generate_latest(self._registry)


class _BreakerCollector(Collector):
    """Reads the breaker when asked, so that an elapsed cooldown shows without a call."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker

    def collect(self) -> Iterator[Metric]:
        name, now = self._breaker.name, self._breaker.state
        state = GaugeMetricFamily("crossfade_breaker_state", "1 for the state it is in", labels=["name", "state"])
        for each in State:
            state.add_metric([name, each.value], float(each is now))
        yield state
        calls = CounterMetricFamily("crossfade_breaker_calls", "Calls by outcome", labels=["name", "outcome"])
        for outcome, count in self._breaker.counts.items():
            calls.add_metric([name, outcome], count)
        yield calls
        changes = CounterMetricFamily("crossfade_breaker_transitions", "Transitions", labels=["name", "old", "new"])
        for (old, new), count in self._breaker.transitions.items():
            changes.add_metric([name, old.value, new.value], count)
        yield changes

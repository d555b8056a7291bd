"""What /metrics shows. Each process has a registry; label children are made once, since finding them costs."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from crossfade.breaker import CircuitBreaker
from crossfade.breaker.metrics import BreakerCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1.0, 2.0, 2.5, 5.0)

WEATHER = ("ok", "kept", "stale", "breaker_open", "timeout", "error", "busy", "not_offered")
"""Outcomes of asking for weather."""


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
        weather = Counter(
            "tripsearch_weather_answers", "Weather by outcome", ["service", "outcome"], registry=self._registry
        )
        self._weather = {outcome: weather.labels(service, outcome) for outcome in WEATHER} if service == "v2" else {}

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
        """One answer's weather: one of `WEATHER`."""
        self._weather[outcome].inc()

    def watch(self, breaker: CircuitBreaker) -> None:
        """Show this breaker too."""
        self._registry.register(BreakerCollector(breaker))

    def page(self) -> bytes:
        """The whole page."""
        return generate_latest(self._registry)

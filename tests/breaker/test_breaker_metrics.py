"""What Prometheus reads of a breaker."""

from __future__ import annotations

import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.breaker.breaker_support import Bench

from crossfade.breaker import CircuitBreaker
from crossfade.breaker.metrics import BreakerCollector, register


def scraped(registry: CollectorRegistry) -> dict[str, float]:
    lines = generate_latest(registry).decode().splitlines()
    return {key: float(n) for key, n in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_each_state_is_a_series_of_0_or_1_and_a_scrape_resolves_the_cooldown(bench: Bench) -> None:
    registry = CollectorRegistry()
    register(bench.half_open(), registry=registry)
    series = scraped(registry)
    assert [
        series[f'crossfade_breaker_state{{name="dep",state="{state}"}}'] for state in ("closed", "open", "half_open")
    ] == [0, 0, 1]


def test_transitions_and_calls_are_counters(bench: Bench) -> None:
    registry = CollectorRegistry()
    breaker = bench.opened()
    register(breaker, registry=registry)
    breaker.call_sync(str, fallback=str)
    series = scraped(registry)
    assert series['crossfade_breaker_transitions_total{name="dep",new="open",old="closed"}'] == 1
    assert series['crossfade_breaker_transitions_total{name="dep",new="closed",old="half_open"}'] == 0
    assert series['crossfade_breaker_calls_total{name="dep",outcome="error"}'] == 4
    assert series['crossfade_breaker_calls_total{name="dep",outcome="rejected"}'] == 1
    assert len(series) == 3 + 5 + 6


def test_breakers_are_told_apart_by_name(bench: Bench) -> None:
    collector = BreakerCollector(CircuitBreaker("a"))
    collector.add(CircuitBreaker("b"))
    with pytest.raises(ValueError, match="name of its own"):
        collector.add(CircuitBreaker("a"))
    registry = CollectorRegistry()
    registry.register(collector)
    assert {"a", "b"} == {key.split('"')[1] for key in scraped(registry)}


def test_registering_does_not_look_at_the_breaker(bench: Bench) -> None:
    register(bench.half_open(), registry=CollectorRegistry())
    assert len(bench.seen) == 1


def test_the_breaker_itself_needs_no_prometheus() -> None:
    code = "import sys, crossfade.breaker; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

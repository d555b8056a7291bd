"""Crossfade's own metrics in Prometheus' text form, read from the controller at each scrape (R28)."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from crossfade.app.views import weight
from crossfade.core.machine import State
from crossfade.core.plan import MetricKind
from crossfade.core.split import BUCKETS, Version
from crossfade.engine.controller import Controller
from crossfade.ports import Telemetry

_TIMES = (MetricKind.LATENCY, MetricKind.LATENCY_MEAN, MetricKind.TIMING)


def exposition(controller: Controller, telemetry: Telemetry) -> bytes:
    """Return the text that Prometheus scrapes."""
    registry = CollectorRegistry()
    registry.register(_Readings(controller, telemetry))
    return generate_latest(registry)


class _Readings:
    def __init__(self, controller: Controller, telemetry: Telemetry) -> None:
        self._controller = controller
        self._telemetry = telemetry

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._rollout()
        yield from self._metrics()
        yield from self._breakers()
        yield self._requests()

    def _rollout(self) -> Iterator[Metric]:
        controller = self._controller
        rollout, plan, seen = controller.rollout, controller.plan, controller.seen
        name = [rollout.name]
        state = GaugeMetricFamily("crossfade_rollout_state", "1 for the present state", labels=["rollout", "state"])
        for known in State:
            state.add_metric([*name, known.value], float(rollout.state is known))
        yield state
        yield _one("crossfade_rollout_phase", "Index of the present phase, from 0", name, rollout.phase)
        yield _one("crossfade_rollout_held", "1 while the engine holds", name, float(rollout.held is not None))
        yield _one(
            "crossfade_rollout_blind", "1 while nothing can be said", name, float(any(b.matters for b in seen.blind))
        )
        yield _one("crossfade_rollout_rollbacks", "Rollbacks so far", name, rollout.rollbacks)
        wanted = weight(plan, rollout.wanted_split(plan)) / BUCKETS
        yield _one("crossfade_split_ratio", "V2's wanted share of all users", name, wanted)
        if seen.weight_seen is not None:
            help_text = "V2's share of this phase's requests: the adoption rate"
            yield _one("crossfade_adoption_ratio", help_text, name, seen.weight_seen / BUCKETS)

    def _metrics(self) -> Iterator[Metric]:
        labels = ["rollout", "metric", "version"]
        value = GaugeMetricFamily("crossfade_metric_value", "Value in this phase, base units", labels=labels)
        limit = GaugeMetricFamily("crossfade_metric_limit", "Limit of the guardrail, base units", labels=labels[:2])
        breached = GaugeMetricFamily("crossfade_guardrail_breached", "1 while breached", labels=labels[:2])
        name = self._controller.rollout.name
        for metric in self._controller.plan.metrics:
            reading = self._controller.seen.readings.get(metric.name)
            if reading is None:
                continue
            scale = 0.001 if metric.kind in _TIMES else 1.0
            for version, seen in ((Version.V1, reading.v1), (Version.V2, reading.v2)):
                if seen is not None:
                    value.add_metric([name, metric.name, version.value], seen * scale)
            if metric.guard is not None and metric.guard.breach is not None and not metric.guard.breach.of_v1:
                limit.add_metric([name, metric.name], metric.guard.breach.value * scale)
            breached.add_metric([name, metric.name], float(reading.guard == "FAIL"))
        yield from (value, limit, breached)

    def _breakers(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "crossfade_breaker_open", "1 while most answers say open", labels=["rollout", "breaker"]
        )
        for name, reading in self._controller.seen.breakers.items():
            family.add_metric([self._controller.rollout.name, name], float(reading.open_since is not None))
        yield family

    def _requests(self) -> Metric:
        family = CounterMetricFamily("crossfade_telemetry_lines", "Lines the collector saw", labels=["kind"])
        for kind, count in self._telemetry.counters().items():
            family.add_metric([kind], count)
        return family


def _one(name: str, text: str, rollout: list[str], value: float) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["rollout"])
    family.add_metric(rollout, value)
    return family

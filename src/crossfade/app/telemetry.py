"""Crossfade's own metrics in Prometheus' text form, read from the controllers at each scrape (R28)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from crossfade.app.clients import standings
from crossfade.app.meters import Histogram, Meters
from crossfade.app.notices import Telling
from crossfade.app.owners import OwnerTelling
from crossfade.app.views import weight
from crossfade.core.machine import State
from crossfade.core.observation import Reading
from crossfade.core.plan import GateKind, Limit, MetricKind
from crossfade.core.plan import Metric as Watched
from crossfade.core.split import BUCKETS, NOBODY
from crossfade.core.verdict import Verdict
from crossfade.engine.controller import Controller
from crossfade.ports import Telemetry

TIMES = (MetricKind.LATENCY, MetricKind.LATENCY_MEAN, MetricKind.TIMING)
"""Kinds whose values are milliseconds; they are told in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraped:
    """One rollout, as of a scrape."""

    controller: Controller
    telemetry: Telemetry
    meters: Meters
    now: float
    """Plan time."""
    tellings: Sequence[Telling] = ()
    """How handing notices over goes, rule by rule."""
    owners: OwnerTelling | None = None
    """How telling the owners of clients goes; None where the plan tells them nothing."""
    monotonic: float = 0.0
    """Real seconds, of the clock that never steps."""


def exposition(rollouts: Iterable[Scraped]) -> bytes:
    """Return the text that Prometheus scrapes."""
    families = _Families()
    families.gauge("crossfade_build_info", "1, with the version that runs", 1, version=version("crossfade"))
    for scraped in rollouts:
        told = _Rollout(families, scraped)
        told.state()
        told.shares()
        told.clients()
        for metric in scraped.controller.plan.metrics:
            reading = scraped.controller.seen.readings.get(metric.name)
            if reading is not None:
                told.metric(metric, reading)
        told.gates()
        told.breakers()
        told.lease()
        told.traffic()
        told.work()
        told.notices(scraped.tellings)
        if scraped.owners is not None:
            told.owners(scraped.owners, scraped.monotonic)
    registry = CollectorRegistry()
    registry.register(families)
    return generate_latest(registry)


class _Families:
    """Metric families by name; the first sample of one says which labels it has."""

    def __init__(self) -> None:
        self._known: dict[str, Metric] = {}

    def describe(self) -> list[Metric]:
        """Return nothing, so that registering does not collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        yield from self._known.values()

    def gauge(self, name: str, text: str, value: float | None, **labels: str) -> None:
        """Add a sample; none where the value is not known."""
        if value is None or math.isnan(value):
            return
        family = self._known.setdefault(name, GaugeMetricFamily(name, text, labels=tuple(labels)))
        assert isinstance(family, GaugeMetricFamily)  # noqa: S101 - a name has one type
        family.add_metric(tuple(labels.values()), value)

    def one_of(self, name: str, text: str, values: Iterable[str], present: str, label: str, **labels: str) -> None:
        """Add a sample for each value that something may have: 1 for the one it has, 0 for the others."""
        for value in values:
            self.gauge(name, text, float(value == present), **labels, **{label: value})

    def counter(self, name: str, text: str, value: float, **labels: str) -> None:
        """Add a sample of what only rises."""
        family = self._known.setdefault(name, CounterMetricFamily(name, text, labels=tuple(labels)))
        assert isinstance(family, CounterMetricFamily)  # noqa: S101 - a name has one type
        family.add_metric(tuple(labels.values()), value)

    def histogram(self, name: str, text: str, value: Histogram, **labels: str) -> None:
        """Add the samples of a histogram."""
        family = self._known.setdefault(name, HistogramMetricFamily(name, text, labels=tuple(labels)))
        assert isinstance(family, HistogramMetricFamily)  # noqa: S101 - a name has one type
        family.add_metric(tuple(labels.values()), value.cumulative(), value.total)


class _Rollout:
    """What is told of one rollout."""

    def __init__(self, families: _Families, scraped: Scraped) -> None:
        self._to, self._meters, self._telemetry = families, scraped.meters, scraped.telemetry
        self._controller, self._now = scraped.controller, scraped.now
        self._plan, self._seen = scraped.controller.plan, scraped.controller.seen
        self._rollout = scraped.controller.rollout
        self._name = self._rollout.name

    def state(self) -> None:
        """Tell where it is, and what is the matter."""
        to, rollout, name = self._to, self._rollout, self._name
        states = [state.value for state in State]
        to.one_of("crossfade_rollout_state", "1 for the present state", states, rollout.state, "state", rollout=name)
        to.gauge("crossfade_rollout_phase", "Index of the present phase, from 0", rollout.phase, rollout=name)
        phases = [phase.name for phase in self._plan.phases]
        present = phases[rollout.phase]
        to.one_of("crossfade_phase_current", "1 for the present phase", phases, present, "phase", rollout=name)
        to.gauge("crossfade_rollout_held", "1 while the engine holds", float(rollout.held is not None), rollout=name)
        blind = any(item.matters for item in self._seen.blind)
        to.gauge("crossfade_rollout_blind", "1 while nothing can be said", float(blind), rollout=name)
        for about in rollout.alerts:
            to.gauge("crossfade_alert_raised", "1 for what people should look at", 1, rollout=name, about=about)
        to.counter("crossfade_rollbacks", "Rollbacks in the history, drills left out", rollout.rollbacks, rollout=name)
        fenced = float(self._controller.fenced is not None)
        to.gauge("crossfade_controller_fenced", "1 while this process may not act", fenced, rollout=name)
        for node in self._controller.nodes:
            text = "1 while a node of the proxy answers"
            to.gauge("crossfade_node_reachable", text, float(node.reachable), rollout=name, node=node.node)

    def shares(self) -> None:
        """Tell V2's share: as wanted, as the nodes report it, as drawn, and as served."""
        to, name, seen = self._to, self._name, self._seen
        wanted = weight(self._plan, self._rollout.wanted_split(self._plan)) / BUCKETS
        to.gauge("crossfade_weight_ratio", "V2's share of all users, as wanted", wanted, rollout=name)
        for node in self._controller.nodes:
            if node.state is not None:
                split = NOBODY if node.state.killed else node.state.split
                reported = weight(self._plan, split) / BUCKETS
                text = "V2's share of all users, as a node of the proxy reports it"
                to.gauge("crossfade_weight_reported_ratio", text, reported, rollout=name, node=node.node)
        drawn = None if seen.weight_seen is None else seen.weight_seen / BUCKETS
        text = "V2's share of this phase's requests that were given a version by assignment"
        to.gauge("crossfade_share_observed_ratio", text, drawn, rollout=name)
        answered = {"v1": seen.requests_v1, "v2": seen.requests_v2}
        adoption = seen.requests_v2 / sum(answered.values()) if sum(answered.values()) else None
        to.gauge("crossfade_adoption_ratio", "V2's share of all of this phase's requests", adoption, rollout=name)
        for which, count in answered.items():
            to.gauge("crossfade_phase_requests", "Requests in this phase", count, rollout=name, version=which)

    def clients(self) -> None:
        """Tell where the listed clients stand, where we keep the ledger."""
        ledger = self._controller.ledger
        if ledger is None or self._controller.fenced is not None:
            return
        for standing, count in standings(ledger).items():
            text = "Clients that call V1, have fallen silent after it, or have moved to V2"
            self._to.gauge("crossfade_clients", text, count, rollout=self._name, standing=standing.value)

    def metric(self, metric: Watched, reading: Reading) -> None:
        """Tell a metric's values beside its limits, and its evidence beside what it takes."""
        to, labels = self._to, {"rollout": self._name, "metric": metric.name}
        scale = 0.001 if metric.kind in TIMES else 1.0
        sides = {"v1": (reading.v1, reading.n1), "v2": (reading.v2, reading.n2)}
        for which, (value, sample) in sides.items():
            text = "Value in this phase; seconds, or a share of 1"
            to.gauge("crossfade_metric_value", text, None if value is None else value * scale, **labels, version=which)
            to.gauge("crossfade_metric_sample", "What the value rests on", sample, **labels, version=which)
        breach = metric.guard.breach if metric.guard else None
        for family, text, limit in (
            ("crossfade_metric_limit", "Limit of the guardrail, in the value's unit", breach),
            ("crossfade_metric_target", "Target, in the value's unit", metric.target),
        ):
            to.gauge(family, text, _bound(limit, reading.v1, scale), **labels)
        ends = {"low": reading.ratio_low, "point": reading.ratio, "high": reading.ratio_high}
        for which, ratio in ends.items():
            text = "V2's rate over V1's, and the ends of its confidence sequence"
            to.gauge("crossfade_metric_v2_over_v1", text, ratio, **labels, estimate=which)
        for of, verdict in (("guardrail", reading.guard), ("target", reading.target)):
            text = "1 for the present verdict"
            to.one_of("crossfade_metric_verdict", text, list(Verdict), verdict, "verdict", **labels, of=of)
        if metric.guard is not None:
            breached, action = float(reading.guard is Verdict.FAIL), metric.guard.action.value
            to.gauge("crossfade_guardrail_breached", "1 while breached", breached, **labels, action=action)
        for of, log_e, needed in (
            ("breach", reading.harm_log_e, reading.harm_needed),
            ("promotion", reading.promote_log_e, reading.promote_needed),
        ):
            text = "Evidence as the natural logarithm of odds"
            to.gauge("crossfade_evidence_log_odds", text, log_e, **labels, of=of)
            text = "What the evidence must reach"
            to.gauge("crossfade_evidence_needed_log_odds", text, needed, **labels, of=of)

    def gates(self) -> None:
        """Tell the checklist of the present phase."""
        decision = self._controller.decision
        gates = () if decision is None else decision.gates
        for gate in gates:
            labels = {"rollout": self._name, "gate": gate.text}
            text = "1 for the present verdict of a gate of this phase"
            self._to.one_of("crossfade_gate_verdict", text, list(Verdict), gate.verdict, "verdict", **labels)
            self._to.gauge("crossfade_gate_left_seconds", "Plan time until it can pass", gate.left_s, **labels)
        waiting = [gate.kind for gate in gates if gate.verdict is not Verdict.PASS]
        wanted = float(waiting == [GateKind.APPROVED])
        text = "1 while nothing but a person's approval is missing"
        self._to.gauge("crossfade_approval_wanted", text, wanted, rollout=self._name)

    def breakers(self) -> None:
        """Tell of breakers what V2's answers tell."""
        for metric, breaker in self._seen.breakers.items():
            labels = {"rollout": self._name, "breaker": metric}
            known = "unseen" if breaker.last_seen is None else "not open" if breaker.open_since is None else "open"
            text = "1 for the state that V2's answers tell"
            states = ("open", "not open", "unseen")
            self._to.one_of("crossfade_observed_breaker_state", text, states, known, "state", **labels)
            lasted = 0.0 if breaker.open_since is None else max(0.0, self._now - breaker.open_since)
            text = "Plan time for which it has been open without a break"
            self._to.gauge("crossfade_observed_breaker_open_seconds", text, lasted, **labels)
            text = "Share of this phase's answers given with it open"
            self._to.gauge("crossfade_observed_breaker_open_ratio", text, breaker.share_open, **labels)

    def lease(self) -> None:
        """Tell who may act."""
        lease, to, name = self._controller.lease, self._to, self._name
        if lease is None:
            return
        to.gauge("crossfade_lease_leads", "1 while this process may act", float(lease.leads), rollout=name)
        to.gauge("crossfade_lease_generation", "Generation of our latest lease", lease.generation, rollout=name)
        to.gauge("crossfade_lease_age_seconds", "Real time since it was renewed", lease.age_s, rollout=name)

    def traffic(self) -> None:
        """Tell what was counted since this process began."""
        to, meters, name = self._to, self._meters, self._name
        for arm, latency in sorted(meters.latency.items()):
            labels = dict(zip(("rollout", "version", "region"), (name, *arm), strict=True))
            to.counter("crossfade_requests", "Requests in closed ticks", meters.requests[arm], **labels)
            to.counter("crossfade_failures", "Of the requests, the version's failures", meters.failures[arm], **labels)
            to.histogram("crossfade_latency_seconds", "Time to the answer's headers", latency, **labels)
        for kind, count in self._telemetry.counters().items():
            to.counter("crossfade_telemetry_lines", "Lines that the collector saw", count, rollout=name, kind=kind)
        to.counter("crossfade_ticks", "Ticks closed", meters.ticks, rollout=name)
        to.counter("crossfade_ticks_lost", "Ticks in which no proxy was heard", meters.ticks_lost, rollout=name)

    def work(self) -> None:
        """Tell of the engine's own work."""
        to, name = self._to, self._name
        for outcome, count in sorted(self._meters.decisions.items()):
            to.counter("crossfade_decisions", "Looks by what they came to", count, rollout=name, outcome=outcome)
        for work, took in sorted(self._meters.work.items()):
            to.histogram("crossfade_work_seconds", "Real time that work took", took, rollout=name, work=work)

    def notices(self, tellings: Sequence[Telling]) -> None:
        """Tell how handing notices over goes."""
        to, name = self._to, self._name
        for telling in tellings:
            labels = {"rollout": name, "rule": telling.rule.name}
            to.counter("crossfade_notices_sent", "Notices that were taken", telling.sent, **labels)
            to.counter("crossfade_notices_failed", "Attempts in vain", telling.failed, **labels)
            lost = telling.given_up + telling.logbook.left_out
            to.counter("crossfade_notices_given_up", "Notices that nobody will get", lost, **labels)
            waiting = float(len(telling.logbook.waiting))
            to.gauge("crossfade_notices_waiting", "Notices that nobody has taken yet", waiting, **labels)

    def owners(self, telling: OwnerTelling, monotonic: float) -> None:
        """Tell how telling the owners of clients goes, by step."""
        to = self._to
        waiting = Counter(one.step for one in telling.waiting.values())
        for step in telling.steps:
            labels = {"rollout": self._name, "step": step.value}
            to.counter("crossfade_owner_notices_sent", "Owners' notices that were taken", telling.sent[step], **labels)
            to.counter("crossfade_owner_notices_failed", "Attempts in vain", telling.failed[step], **labels)
            text = "Notices that owners will not get"
            to.counter("crossfade_owner_notices_given_up", text, telling.given_up[step], **labels)
            to.gauge("crossfade_owner_notices_waiting", "Due, and not taken yet", waiting[step], **labels)
            text = "Real time for which the longest that can't be delivered has been due; 0 where all can"
            to.gauge("crossfade_owner_notices_undelivered_seconds", text, telling.oldest_s(step, monotonic), **labels)


def _bound(limit: Limit | None, v1: float | None, scale: float) -> float | None:
    """Return a bound in the unit told; of one that is so many times V1, what that is now."""
    if limit is None:
        return None
    if not limit.of_v1:
        return limit.value * scale
    return None if v1 is None else limit.value * v1 * scale

"""What Prometheus is told: in its own form, true, bounded, and never falling where it must not."""

from __future__ import annotations

import asyncio
import math
import shutil
import subprocess
from collections import Counter
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.app.lived import Lived

from crossfade.app.meters import LATENCY_EDGES, MAX_REGIONS, Histogram, Meters
from crossfade.app.telemetry import Scraped, exposition
from crossfade.app.views import status_view
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.split import Version

Sample = tuple[str, frozenset[tuple[str, str]]]


def scraped(*lived: Lived) -> bytes:
    return exposition(
        Scraped(controller=one.controller, telemetry=one.telemetry, meters=one.meters, now=one.clock.now())
        for one in lived
    )


def samples(text: bytes) -> dict[Sample, float]:
    families = list(text_string_to_metric_families(text.decode()))
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def labels(**given: str) -> frozenset[tuple[str, str]]:
    return frozenset(given.items())


@pytest.mark.external
async def test_promtool_finds_nothing_to_say() -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed; `apt-get install prometheus` brings it")
    text = scraped(await Lived().begin(3))
    process = await asyncio.create_subprocess_exec(
        program, "check", "metrics", stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await process.communicate(text)
    assert (process.returncode, said) == (0, b"")


async def test_it_says_what_the_status_says() -> None:
    lived = await Lived().begin(30)
    status = status_view(lived.controller, lived.clock.now())
    told, name = samples(scraped(lived)), lived.plan.name
    mine = {"rollout": name}
    assert told["crossfade_weight_ratio", labels(**mine)] == status["weight"] / 10_000
    assert told["crossfade_share_observed_ratio", labels(**mine)] == status["weight_seen"] / 10_000
    v1, v2 = status["requests"]["v1"], status["requests"]["v2"]
    assert told["crossfade_adoption_ratio", labels(**mine)] == v2 / (v1 + v2)
    assert told["crossfade_rollout_state", labels(**mine, state="running")] == 1
    assert told["crossfade_rollout_state", labels(**mine, state="rolled_back")] == 0
    assert told["crossfade_phase_current", labels(**mine, phase=status["phase"]["name"])] == 1
    for gate in status["gates"]:
        for verdict in ("PASS", "FAIL", "INCONCLUSIVE", "BLIND"):
            sample = told["crossfade_gate_verdict", labels(**mine, gate=gate["gate"], verdict=verdict)]
            assert sample == (gate["verdict"] == verdict)
    compared = 0
    for metric, reading in status["metrics"].items():
        of = mine | {"metric": metric}
        scale = 0.001 if metric in {"latency_p95", "latency_mean", "database_time"} else 1
        for version in ("v1", "v2"):
            value = reading[version]
            shown = told.get(("crossfade_metric_value", labels(**of, version=version)))
            assert shown == (None if value is None else pytest.approx(value * scale))
        assert told["crossfade_metric_verdict", labels(**of, of="guardrail", verdict=reading["guard"])] == 1
        for key, which in (("harm", "breach"), ("promote", "promotion")):
            for suffix, family in (("log_e", "evidence_log_odds"), ("needed", "evidence_needed_log_odds")):
                value = reading[f"{key}_{suffix}"]
                assert told.get((f"crossfade_{family}", labels(**of, of=which))) == value
                compared += value is not None
    assert compared >= 8, "metrics that compare V2 with V1 have evidence"


async def test_milliseconds_of_the_plan_are_told_in_seconds() -> None:
    told = samples(scraped(await Lived().begin(3)))
    limit = told["crossfade_metric_limit", labels(rollout="trips-v2", metric="latency_p95")]
    value = told["crossfade_metric_value", labels(rollout="trips-v2", metric="latency_p95", version="v2")]
    assert limit == pytest.approx(0.3)
    assert 0.03 < value < 0.2


async def test_what_only_rises_goes_on_through_rollback_retry_and_promotion() -> None:
    lived = await Lived().begin(3)
    seen: dict[Sample, float] = {}
    for verb in ("", "rollback", "retry", "promote"):
        if verb == "retry":
            await lived.controller.retry(None, "ada", "again")
        elif verb:
            await getattr(lived.controller, verb)("ada", "why not")
        await lived.hour()
        told = {key: value for key, value in samples(scraped(lived)).items() if _rises(key[0])}
        assert {key: (value, told.get(key)) for key, value in seen.items() if told.get(key, -1) < value} == {}
        seen = told
    ticks = seen["crossfade_ticks_total", labels(rollout="trips-v2")]
    assert ticks == 7
    assert seen["crossfade_rollbacks_total", labels(rollout="trips-v2")] == 1
    assert seen["crossfade_work_seconds_count", labels(rollout="trips-v2", work="roll back")] == 1
    assert seen["crossfade_work_seconds_count", labels(rollout="trips-v2", work="retry")] == 1


def _rises(name: str) -> bool:
    return name.endswith(("_total", "_bucket", "_count", "_sum"))


async def test_requests_and_failures_add_up_to_what_the_ticks_held() -> None:
    lived = Lived()
    await lived.begin(5)
    told = samples(scraped(lived))
    requests = sum(value for (name, _), value in told.items() if name == "crossfade_requests_total")
    v2 = [value for (name, of), value in told.items() if name == "crossfade_requests_total" and ("version", "v2") in of]
    status = status_view(lived.controller, lived.clock.now())
    assert requests == status["requests"]["v1"] + status["requests"]["v2"]
    assert sum(v2) == status["requests"]["v2"]
    one = labels(rollout="trips-v2", version="v2", region="eu")
    assert told["crossfade_latency_seconds_count", one] > 0
    assert told["crossfade_latency_seconds_sum", one] == pytest.approx(
        told["crossfade_latency_seconds_count", one] * 0.063, rel=0.3
    )


async def test_an_hour_in_which_nobody_was_heard_is_a_tick_lost() -> None:
    lived = await Lived().begin(2)
    await lived.hour(heard=False)
    told = samples(scraped(lived))
    assert told["crossfade_ticks_lost_total", labels(rollout="trips-v2")] == 1
    assert told["crossfade_rollout_blind", labels(rollout="trips-v2")] == 1


async def test_who_leads_is_told() -> None:
    lived = await Lived().begin(1)
    told = samples(scraped(lived))
    assert told["crossfade_lease_leads", labels(rollout="trips-v2")] == 1
    assert told["crossfade_lease_generation", labels(rollout="trips-v2")] == 1
    assert told["crossfade_lease_age_seconds", labels(rollout="trips-v2")] > 0


async def test_several_rollouts_share_families() -> None:
    other = Lived(plan=replace(Lived().plan, name="another"))
    told = samples(scraped(await Lived().begin(1), await other.begin(1)))
    for name in ("trips-v2", "another"):
        assert told["crossfade_rollout_state", labels(rollout=name, state="running")] == 1


EVIL = 'e"u\\\n{}<script>'


async def test_what_clients_call_their_region_can_neither_break_the_form_nor_fill_the_memory() -> None:
    many = tuple(f"r{number}" for number in range(100))
    lived = await Lived(regions=(EVIL, *many)).begin(1)
    told = samples(scraped(lived))
    regions = {dict(of)["region"] for name, of in told if name == "crossfade_requests_total"}
    assert regions == {EVIL, *many[: MAX_REGIONS - 1], "other"}
    requests = sum(value for (name, _), value in told.items() if name == "crossfade_requests_total")
    status = status_view(lived.controller, lived.clock.now())
    assert requests == status["requests"]["v1"] + status["requests"]["v2"], "what shares a series is still counted"
    assert len(told) < 1500


def test_every_latency_is_in_the_bucket_that_holds_it() -> None:
    meters = Meters(lambda: 0.0)
    bins = range(226)
    counted = Cell(requests=226, latency=Counter(bins))
    meters.closed([Tick(number=1, start=0, length=1, cells={Arm(Version.V2, "", ""): counted})])
    rows = meters.latency["v2", ""].cumulative()
    for edge, count in rows[:-1]:
        assert count == sum(1.05**index <= float(edge) * 1000 * 1.0001 for index in bins), edge
    assert rows[-1] == ("+Inf", 226.0)
    assert [float(edge) for edge, _ in rows[:-1]] == pytest.approx(LATENCY_EDGES, rel=1e-5)


def test_a_value_on_an_edge_is_within_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 2.0, 3.0):
        histogram.add(value)
    assert histogram.cumulative() == [("1", 1), ("2", 3), ("+Inf", 4)]
    assert math.isclose(histogram.total, 7.5)


class _Broken:
    """A tracer that fails wherever it can."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __call__(self, name: str, **facts: object) -> _Broken:
        self._fail("open")
        return self

    def __enter__(self) -> _Broken:
        self._fail("enter")
        return self

    def tell(self, **facts: object) -> None:
        self._fail("tell")

    def __exit__(self, *error: object) -> None:
        self._fail("exit")

    def _fail(self, where: str) -> None:
        if where == self._where:
            raise RuntimeError(where)


@pytest.mark.parametrize("where", ["open", "enter", "tell", "exit"])
async def test_a_tracer_that_fails_stops_no_rollback(where: str) -> None:
    lived = await Lived().begin(1)
    lived.meters._trace = _Broken(where)
    rollout = await lived.controller.rollback("ada", "now")
    assert rollout.state == "rolled_back"
    assert lived.meters.work["roll back"].cumulative()[-1] == ("+Inf", 1)

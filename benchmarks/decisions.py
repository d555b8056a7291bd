"""How often a rollout is decided wrongly and how soon rightly, beside other tools' rules and the floors of any test.

    python benchmarks/decisions.py [RUNS]        # 60 runs of eight weeks per row; prints Markdown

Everything is decided by the product's own core. *Whole rollouts* are those of `crossfade simulate` on the shipped plan;
*direct* rows give sums of ticks straight to the evidence, at a fixed share.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crossfade.app.planfile import load_plan
from crossfade.app.simulate.defects import parse_defect
from crossfade.app.simulate.report import floors
from crossfade.core.evidence import mass, pace, streams
from crossfade.core.evidence.forecast import forecast, growth
from crossfade.core.evidence.noninferiority import alternatives, log_e_promote
from crossfade.core.evidence.ratio import log_e_ratio
from crossfade.core.plan import DAY, WEEK, MetricKind, Plan
from crossfade.core.split import Split
from crossfade.simulation.draws import latency_bins
from crossfade.simulation.floors import lai, wald
from crossfade.simulation.model import Curve, Scenario, named_regions, plan_regions
from crossfade.simulation.rivals import RULES, judge, minutes
from crossfade.simulation.run import Ending, run_once

Floats = NDArray[np.float64]
SEED = 20260105
HEALTHY = 0.005
ALPHA = 0.01
RIVALS = tuple(RULES)
SHIPPED = Path(__file__).parents[1] / "plans" / "trips-v2.yaml"


@lru_cache
def shipped() -> Plan:
    return load_plan(SHIPPED)


@lru_cache
def single(share: int, *, alone: bool, margin: float = 1.25) -> Plan:
    """Return the shipped plan with one phase of eight weeks for everyone; `alone`: with the failure rate only."""
    plan = shipped()
    phase = replace(plan.phases[1], split=Split(everyone=share), target=share, soak_s=8 * WEEK, margin=margin, gates=())
    chosen = tuple(metric for metric in plan.metrics if not alone or metric.kind is MetricKind.FAILURE_RATE)
    rule = replace(plan.assignment, region=None if alone else plan.assignment.region, cohorts={})
    return replace(plan, phases=(phase,), metrics=chosen, assignment=rule)


# ── whole rollouts ───────────────────────────────────────────────────────────────────────────────────────────

CALM: dict[str, dict[str, object]] = {
    "chance alone": {},
    "day and night": {"curve": Curve.DIURNAL},
    "shared outages": {"shared_bursts": True},
    "users who fail ten times in a row": {"users": 2000, "clustered": 10},
    "1 % of users with 60 % of the failures": {"users": 2000, "chronic": 0.01},
    "all of these at once": {
        "users": 2000,
        "curve": Curve.DIURNAL,
        "shared_bursts": True,
        "clustered": 10,
        "chronic": 0.01,
    },
    "V2 fails a fifth as often as V1": {"defects": ("failure_rate=0.1% at internal",)},
}


def scenario(changes: dict[str, object], rate: float) -> Scenario:
    changes = dict(changes)
    plan, wanted = shipped(), changes.pop("defects", ())
    regions = changes.pop("regions", plan_regions(plan))
    defects = tuple(parse_defect(text, plan, regions) for text in wanted)  # type: ignore[attr-defined, arg-type]
    users = changes.pop("users", min(864_000, round(rate * 8640)))
    return Scenario(plan=plan, rate=rate, users=users, defects=defects, regions=regions, **changes)  # type: ignore[arg-type]


def falsely(job: tuple[str, int]) -> list[bool]:
    """Tell who rolls a V2 back that is no worse: the product, then each rival."""
    name, run = job
    one = scenario(CALM[name], 10.0)
    one = replace(one, plan=replace(one.plan, phases=tuple(replace(phase, gates=()) for phase in one.plan.phases)))
    mine = run_once(one, SEED, run).ending is Ending.ROLLED_BACK
    seen = minutes(one, SEED, run)
    return [mine, *(judge(rule, seen).seconds is not None for rule in RIVALS)]


def hurt(job: tuple[str, float, int]) -> list[float]:
    """Return V2's failed requests from the defect's onset to the rollback: the product's, then each rival's."""
    text, rate, run = job
    one = scenario({"defects": (text,)}, rate)
    mine = run_once(one, SEED, run)
    seen = minutes(one, SEED, run)
    rivals = [judge(rule, seen) for rule in RIVALS]
    found = [mine.v2_failed if mine.seconds_to_rollback is not None else math.inf]
    return [*found, *(math.nan if r.too_soon else math.inf if r.seconds is None else r.v2_failed for r in rivals)]


def regional(job: tuple[str, int]) -> tuple[float, float, float]:
    """Return V2 requests of all regions until the rollback, and the floors, with ten regions of which one is broken."""
    text, run = job
    one = scenario({"regions": named_regions(10), "defects": (text,)}, 100.0)
    found, least = run_once(one, SEED, run), floors(one)
    late = found.v2_requests if found.seconds_to_rollback is not None else math.inf
    return late, least["wald"] or math.nan, least["lai"] or math.nan


# ── direct: failures ─────────────────────────────────────────────────────────────────────────────────────────


def counts(rng: np.random.Generator, n: Floats, rates: tuple[float, float]) -> Floats:
    """Draw ticks: n1, k1, n2, k2, shape (T, 4), from mean requests n (T, 2)."""
    requests = rng.poisson(n)
    bad = rng.binomial(requests, rates)
    return np.stack([requests[:, 0], bad[:, 0], requests[:, 1], bad[:, 1]], axis=1).astype(float)


def shown(plan: Plan, metric: str, ticks: Floats, lengths: Floats, share: float) -> NDArray[np.bool_]:
    """Tell after which ticks harm of a metric is shown, where each failure is another user's."""
    layout = streams.layout_of(plan, 0)
    table = np.zeros((len(ticks), len(layout.measures), 4))
    for index, measure in enumerate(layout.measures):
        if measure.metric.name == metric:
            table[:, index] = ticks
            if measure.unit not in (streams.Unit.DISTINCT, streams.Unit.RAW):
                table[:, index, 0], table[:, index, 2] = 1 - share, share
    ends = np.cumsum(lengths)
    entries = streams.Entries(
        tick=np.arange(len(ticks)),
        slot=np.full(len(ticks), -1),
        counts=table,
        in_phase=np.ones(len(ticks), dtype=bool),
    )
    wide = np.zeros((len(ticks), len(layout.measures), 2))
    _, harm = streams.advance(
        layout, streams.begin_streams(layout, 0.0), starts=ends - lengths, ends=ends, entries=entries, wide=wide
    )
    value, bar = streams.against_bars(layout, harm)[metric]
    return np.asarray(value >= bar)


def until_shown(job: tuple[str, float, float, float, bool, int]) -> float:
    """Return V2 requests from the onset until harm is shown, at 5 % of 100 requests/s; inf for more than 20 floors."""
    metric, healthy, ill, days, alone, seed = job
    share, rate = 0.05, 100.0
    floor = wald(healthy, ill, share, ALPHA) or math.inf
    step = max(4.0, floor / 40)
    rng = np.random.default_rng((SEED, seed))
    good, bad = round(days * 24), 800
    means = np.concatenate([np.full(good, 3600.0 * rate * share), np.full(bad, step)])
    both = means[:, None] * [(1 - share) / share, 1.0]
    table = np.concatenate(
        [counts(rng, both[:good], (healthy, healthy)), counts(rng, both[good:], (healthy, ill))], axis=0
    )
    hits = np.flatnonzero(shown(single(500, alone=alone), metric, table, means / share / rate, share)[good:])
    return float(table[good : good + hits[0] + 1, 2].sum()) if len(hits) else math.inf


# ── direct: latency ──────────────────────────────────────────────────────────────────────────────────────────


def until_slower(job: tuple[float, float, float, int]) -> float:
    """Return V2 requests until V2 is shown slower than V1, after so many good days."""
    shift, tail, days, seed = job
    share, needed, step = 0.05, -math.log(ALPHA * (1 - streams.GROSS_SHARE)), 5
    rng = np.random.default_rng((SEED, 1, seed))
    good, ill = latency_bins(120.0, 1.0, 1.0), latency_bins(120.0, shift, tail)
    state, now, hour = pace.Pace(), 0.0, 100 * 3600

    def tick(state: pace.Pace, n2: int, chances: Floats, at: float) -> pace.Pace:
        one = np.stack([rng.multinomial(round(n2 * (1 - share) / share), good), np.zeros(len(good))])
        two = np.stack([rng.multinomial(n2, chances), np.zeros(len(good))])
        flowed = float(mass.flowed(np.array([at]), 8 * WEEK)[0])
        return pace.step(state, start=at, flowed=flowed, one=one.astype(float), two=two.astype(float))

    for _ in range(round(max(1.0, days) * 24)):
        quiet = 0 if days < 1 else round(hour * share)  # at the start: V1's day before is known, V2 is new
        state = (
            tick(state, quiet or 1, good, now)
            if quiet
            else pace.step(
                state,
                start=now,
                flowed=0.0,
                one=np.stack([rng.multinomial(hour, good), np.zeros(len(good))]).astype(float),
                two=np.zeros((2, len(good))),
            )
        )
        now += 3600
    for index in range(2000):
        state = tick(state, step, ill, now + index * step / share / 100)
        if pace.log_e_slower(state) >= needed:
            return float((index + 1) * step)
    return math.inf


def slower_floor(shift: float, tail: float) -> float:
    """Return Wald's floor of the best single threshold."""
    one, two = 1 - latency_bins(120.0, 1.0, 1.0).cumsum(), 1 - latency_bins(120.0, shift, tail).cumsum()
    pairs = [(float(a), float(b)) for a, b in zip(one, two, strict=True) if 1e-4 < a < 1 - 1e-4]
    return min(found for pair in pairs if (found := wald(*pair, 0.05, ALPHA)) is not None)


# ── direct: promotion ────────────────────────────────────────────────────────────────────────────────────────


def promotion(job: tuple[float, float, float, int]) -> tuple[float, str, float]:
    """Return V2 requests until V2 is shown good enough, where that lay in a forecast made on the way, and the peer's.

    The peer bets everything on the very ratio at which it is asked: nobody who doesn't know it can be sooner.
    """
    harm, margin, share, seed = job
    rng = np.random.default_rng((SEED, 2, seed))
    floor = promotion_floor(margin, share)
    step, total = floor / 50, 500
    means = np.full((total, 2), step) * [(1 - share) / share, 1.0]
    table = counts(rng, means, (HEALTHY, HEALTHY * harm))
    theta = np.append(alternatives(margin), 1.0)
    paths = np.cumsum(log_e_ratio(table, theta, np.full(len(theta), margin)), axis=0)
    log_e = np.array([log_e_promote(path) for path in paths[:, :-1]])
    needed, told = (requests_until(table, path) for path in (log_e, paths[:, -1]))
    asked = 15
    sums = table[:asked].sum(axis=0)
    band, _ = forecast(
        counts=(sums[0], sums[1], sums[2], sums[3]),
        log_e=float(log_e[asked - 1]),
        needed=-math.log(0.05),
        margin=margin,
        v2_per_s=1.0,
    )
    left = needed - sums[2]
    if band is None or left <= 0:
        return needed, "none", told
    return needed, "sooner" if left < band[0] else "later" if left > band[2] else "inside", told


def requests_until(table: Floats, log_e: Floats) -> float:
    """Return V2 requests until the evidence is 20 to 1; inf where it never is."""
    hits = np.flatnonzero(log_e >= -math.log(0.05))
    return float(table[: hits[0] + 1, 2].sum()) if len(hits) else math.inf


def promotion_floor(margin: float, share: float) -> float:
    """Return V2 requests that the best alternative needs at parity: ln(20) over its growth per request."""
    return math.log(20) / float(growth(np.ones(1), np.full(1, HEALTHY), margin, share)[0])


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────


def median(values: Sequence[float] | Floats) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.median(known)) if known else math.nan


def number(value: float) -> str:
    return "-" if math.isnan(value) else "never" if math.isinf(value) else f"{value:,.0f}"


def false_rollbacks(pool: ProcessPoolExecutor, runs: int) -> Iterator[str]:
    names = ["Crossfade", *(name.capitalize() for name in RIVALS)]
    yield f"| a V2 that is no worse: {runs} rollouts each | " + " | ".join(names) + " |"
    yield "|---|" + "---:|" * len(names)
    for name in CALM:
        table = np.array(list(pool.map(falsely, [(name, run) for run in range(runs)])))
        yield f"| {name} | " + " | ".join(f"{wrong}" for wrong in table.sum(axis=0)) + " |"


def detection(pool: ProcessPoolExecutor, runs: int) -> Iterator[str]:
    yield "| V2 | onset | floor | V2 requests | 90 % | over the floor | one metric alone | over the late floor |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|"
    cases = [("failure_rate", HEALTHY, ill) for ill in (0.0075, 0.01, 0.015, 0.02, 0.05, 0.2)]
    cases += [("flights_available", 0.0, ill) for ill in (0.02, 0.05)]
    for metric, healthy, ill in cases:
        for days in (0.0, 3.0, 40.0):
            if days and ill == 0.0075:
                continue  # below the ratio at which the plan's evidence is meant to act late
            soonest, floor = (
                lai(healthy, ill, 0.05, ALPHA, seconds * 5.0 if days else 0.0) or math.nan
                for seconds in (days * DAY, 8 * WEEK)
            )
            found = [
                list(pool.map(until_shown, [(metric, healthy, ill, days, alone, s) for s in range(runs)], chunksize=10))
                for alone in (False, True)
                if not (alone and metric != "failure_rate")
            ]
            alone = f"{median(found[1]) / floor:.2f}" if len(found) > 1 else "-"
            late = f"{median(found[0]) / soonest:.2f}" if days else "-"
            what = f"{metric} {healthy:.1%} -> {ill:.2%} bad"
            when = "start" if not days else f"after {days:.0f} days"
            yield (
                f"| {what} | {when} | {floor:,.0f} | {number(median(found[0]))} | "
                f"{number(float(np.quantile(found[0], 0.9)))} | {median(found[0]) / floor:.2f} | {alone} | {late} |"
            )


def latency(pool: ProcessPoolExecutor, runs: int) -> Iterator[str]:
    yield "| V2's latency | onset | best threshold's floor | V2 requests | over the floor |\n|---|---|---:|---:|---:|"
    for what, shift, tail in (("x1.25", 1.25, 1.0), ("x1.5", 1.5, 1.0), ("slowest tenth x1.5", 1.0, 1.5)):
        for days in (0.0, 3.0, 40.0):
            floor = slower_floor(shift, tail)
            floor *= 1 + math.log(max(1.0, days * DAY * 5 / floor)) / -math.log(ALPHA) if days else 1
            found = list(pool.map(until_slower, [(shift, tail, days, s) for s in range(runs)], chunksize=5))
            when = "start" if not days else f"after {days:.0f} days"
            yield f"| {what} | {when} | {floor:,.0f} | {number(median(found))} | {median(found) / floor:.2f} |"


def regions(pool: ProcessPoolExecutor, runs: int) -> Iterator[str]:
    yield "| one region of ten fails | V2 requests of all regions | floor | over the floor |\n|---|---:|---:|---:|"
    for text in ("failure_rate=5% at canary", "failure_rate=5% at canary+3d", "failure_rate=5% at early+3d"):
        found = list(pool.map(regional, [(f"{text} in region region-1", run) for run in range(runs)]))
        late, floor = median([f[0] for f in found]), found[0][1 if text.endswith("canary") else 2]
        yield f"| {text} | {number(late)} | {floor:,.0f} | {late / floor:.2f} |"


def requests_hurt(pool: ProcessPoolExecutor, runs: int) -> Iterator[str]:
    names = [name for name in RIVALS if name not in ("zscore", "raw")]
    at = [RIVALS.index(name) for name in names]
    yield ("| defect | requests/s | Crossfade | " + " | ".join(n.capitalize() for n in names) + " | times as many |")
    yield "|---|---:|---:|" + "---:|" * len(names) + "---|"
    for rate, count in ((100.0, runs), (1000.0, max(8, runs // 4))):
        for text in ("failure_rate=5% at canary", "failure_rate=20% at canary", "failure_rate=100% at canary"):
            table = np.array(list(pool.map(hurt, [(text, rate, run) for run in range(count)])))
            mine, theirs = median(table[:, 0]), [median(table[:, 1 + index]) for index in at]
            ratio = ", ".join(f"{n.capitalize()} {number(t / mine)}" for n, t in zip(names, theirs, strict=True))
            yield f"| {text} | {rate:,.0f} | {number(mine)} | " + " | ".join(map(number, theirs)) + f" | {ratio} |"


def promotions(pool: ProcessPoolExecutor, runs: int) -> Iterator[str]:
    yield (
        "| margin, share | promoted at the margin | floor at parity | 80 % at parity within | over the floor | "
        "who is told parity | forecast's 80 % band: sooner, inside, later |\n|---|---:|---:|---:|---:|---:|---:|"
    )
    for margin, share in ((2.0, 0.05), (1.25, 0.25), (1.5, 0.5), (1.5, 0.75)):
        wrong = list(pool.map(promotion, [(margin, margin, share, s) for s in range(runs)], chunksize=10))
        right = list(pool.map(promotion, [(1.0, margin, share, 10_000 + s) for s in range(runs)], chunksize=10))
        most, floor = float(np.quantile([f[0] for f in right], 0.8)), promotion_floor(margin, share)
        told = float(np.quantile([f[2] for f in right], 0.8))
        asked = [where for needed, where, _ in right if where != "none" and math.isfinite(needed)]
        where = " / ".join(f"{asked.count(name) / len(asked):.0%}" for name in ("sooner", "inside", "later"))
        yield (
            f"| {margin:g}, {share:.0%} | {sum(math.isfinite(f[0]) for f in wrong)} of {runs} | {floor:,.0f} | "
            f"{number(most)} | {most / floor:.2f} | {told / floor:.2f} | {where} |"
        )


HEAD = """# How well rollouts are decided

Written by `make bench-decisions` (`benchmarks/decisions.py`), which decides everything anew by the product's own core:
seed {seed}, {runs} runs in each row of whole rollouts (a quarter of them where 1,000 requests/s hurt somebody) and of
slowness, {many} in each row of promotion, {direct} in each other direct row. The plan is
`plans/trips-v2.yaml`; V1 fails in 0.5 % of its answers. `never` means that more than half of the runs ended without a
rollback."""

SECTIONS: tuple[tuple[str, str, Callable[[ProcessPoolExecutor, int], Iterator[str]], str], ...] = (
    (
        "False rollbacks",
        """\
Whole rollouts of eight weeks at 10 requests/s, shares from 0 to 100 %, without gates, so that every run goes through
all shares. Asked for: at most 1 in 100. `Zscore`, a pooled test at 1 % that looks every hour, and `Raw`, this product's
own e-process on plain request counts, are negative controls: they show that the simulated traffic can fool a test.""",
        false_rollbacks,
        "runs",
    ),
    (
        "How soon harm is shown",
        """\
Direct: 5 % of 100 requests/s, each failure another user's. The floor is Wald's at the start and Lai's later, at an
error probability of 1 % over eight weeks, T being V2's requests of eight weeks. The first columns are the shipped
plan's evidence, which keeps weight for its other metrics and regions; then comes a plan that watches failures alone.
Asked for: 1.5 times the floor at the start, 1.45 later. The last column is against the floor of a test that may err in
1 % until the onset and as often as it likes afterwards (T: V2's requests until then).""",
        detection,
        "direct",
    ),
    (
        "How soon slowness is shown",
        """\
Direct: V2 slower than V1, at 1 %, 5 % of 100 requests/s, in ticks of five V2 requests. The floor is that of the best
threshold, which nobody knows beforehand. Asked for: twice the floor at the start.""",
        latency,
        "runs",
    ),
    (
        "One broken region of ten",
        "Whole rollouts at 100 requests/s, of which a tenth is the broken region's.",
        regions,
        "runs",
    ),
    (
        "Requests hurt",
        """\
Whole rollouts: V2's failed requests from the onset to the rollback, medians. A rival that rolled back before the
onset is left out of its median. Asked for: 10 times more with Flagger, 30 with Argo, 40 with Kayenta.""",
        requests_hurt,
        "runs",
    ),
    (
        "Promotion",
        """\
Direct. At the margin at most 5 % may be promoted. The floor at parity is ln 20 over the growth of the best
alternative per V2 request; asked for: 80 % within 1.5 times the floor. The floor is a mean, and a fifth of the runs
have bad luck: a test that is told that V2 is at parity and bets everything on it has its 80 % where the column before
the last says. Forecasts are made at 0.3 of the floor; asked for: 70 to 90 % inside.""",
        promotions,
        "many",
    ),
)


def main() -> None:
    """Print the page."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    sizes = {"runs": runs, "direct": 4 * runs, "many": 20 * runs}
    print(HEAD.format(seed=SEED, **sizes))
    with ProcessPoolExecutor() as pool:
        for title, text, rows, size in SECTIONS:
            began = time.monotonic()  # noqa: TID251 - a benchmark measures time
            print(f"\n## {title}\n\n{text}\n")
            for row in rows(pool, sizes[size]):
                print(row, flush=True)
            print(f"{title}: {time.monotonic() - began:.0f} s", file=sys.stderr)  # noqa: TID251 - the same


if __name__ == "__main__":
    main()

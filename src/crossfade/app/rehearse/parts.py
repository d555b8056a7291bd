"""The parts of a rehearsal: each runs what its own command runs, and gives criteria as they are decided."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Final

from crossfade.adapters.load import allow_connections, reach
from crossfade.adapters.mirror import Asker
from crossfade.adapters.system import cpu_seconds
from crossfade.app.contract.reading import Read, read
from crossfade.app.load.options import LoadOptions, Work, address_of, staff_of, work_of
from crossfade.app.load.report import Ran, notes
from crossfade.app.load.report import as_data as load_as_data
from crossfade.app.load.run import Driver
from crossfade.app.mirror.questions import drawn, recorded
from crossfade.app.mirror.report import as_data as mirror_as_data
from crossfade.app.mirror.run import Running, mirror
from crossfade.app.rehearse.breakers import BreakerRig, Crash, breaker_scenarios
from crossfade.app.rehearse.calls import Caller, Operations
from crossfade.core.contract.compare import compare, prefixes_of
from crossfade.core.contract.document import DocumentError
from crossfade.core.contract.findings import exempt
from crossfade.core.contract.rules import Severity
from crossfade.core.plan import Comparison, MetricKind, Plan
from crossfade.core.rehearsal.breakers import PLAN_COOLDOWN_S, BreakerRules, Finding
from crossfade.core.rehearsal.report import Criterion, PartName, of_finding, triggers
from crossfade.core.verdict import Verdict
from crossfade.core.words import duration
from crossfade.errors import UnreachableError, UsageError
from crossfade.ports import Clock

PROXY_S: Final = 5.0
"""For the proxy to take a connection."""
BREAKING_MAX: Final = 50
"""Findings of the contract that are told one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is asked."""

    calls: int = 60
    """Of each operation, beside the wrong ones."""
    mirror_s: float = 180.0
    """After so long a mirror that is not certain is given up."""
    load: str = "1m"
    peak: str | None = "30s"
    """None: no peak."""
    users_max: int = 100_000
    many_within_s: float = 3.0
    """Time in which each of the breaker's users asks once."""


WHOLE: Final = Extent()
QUICK: Final = Extent(calls=10, mirror_s=20.0, load="5s", peak=None, users_max=300, many_within_s=0.6)


@dataclass(slots=True, kw_only=True)
class Progress:
    """What a part has come to so far."""

    told: Callable[[Criterion], None] = lambda _: None
    """Handed each criterion as it is decided."""
    criteria: list[Criterion] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    partial: str = ""

    def add(self, criterion: Criterion) -> None:
        """Take a criterion."""
        self.criteria.append(criterion)
        self.told(criterion)

    def cannot(self, name: str, why: str, limit: str = "") -> None:
        """Take that nobody could look."""
        self.add(Criterion(name=name, outcome=Verdict.INCONCLUSIVE, figure="not tried", limit=limit, why=why))


class Stage:
    """What is rehearsed: the plan, and the deployment that it names."""

    def __init__(
        self,
        plan: Plan,
        path: Path,
        clock: Clock,
        *,
        extent: Extent = WHOLE,
        seed: int = 1,
        crash: Crash | None = None,
        requests: Path | None = None,
    ) -> None:
        """Take where questions are recorded that the mirror asks first; None: it asks what the plan's load does."""
        self.plan, self.path, self.clock, self.extent, self.seed = plan, path, clock, extent, seed
        self.crash, self.requests = crash, requests
        self._documents: Mapping[str, Read] | None = None

    async def documents(self) -> Mapping[str, Read]:
        """Return what v1 and v2 promise, read once.

        UsageError where the plan names no documents or one can't be understood, UnreachableError where nobody answers.
        """
        if self._documents is None:
            contract = self.plan.contract
            if contract is None:
                raise UsageError("the plan has no `contract`; add one such as contract: {v1: v1.yaml, v2: v2.yaml}")
            self._documents = {"v1": await read(contract.v1), "v2": await read(contract.v2)}
        return self._documents


async def run_part(name: PartName, stage: Stage, progress: Progress) -> None:
    """Run one part; what keeps it from running makes it INCONCLUSIVE, in one line."""
    try:
        await _PARTS[name](stage, progress)
    except (UnreachableError, UsageError) as error:
        progress.cannot(name.value, " ".join(str(error).split()))


async def _contract(stage: Stage, progress: Progress) -> None:
    documents, plan = await stage.documents(), stage.plan
    v1, v2 = documents["v1"], documents["v2"]
    try:
        findings = compare(v1.documents, v2.documents, prefixes_of(plan.api.v1.path, plan.api.v2.path))
    except DocumentError as error:
        held = v1 if error.spot.uri in v1.texts else v2
        raise UsageError(f"{held.place(error.spot)}: {error}") from None
    exemptions = plan.contract.exemptions if plan.contract else ()
    result = exempt(findings, exemptions)
    breaking = [one for one in result.findings if one.severity is Severity.BREAKING]
    warnings = len(result.findings) - len(breaking)
    reproduce = f"crossfade contract {shlex.quote(str(stage.path))}"
    progress.add(
        Criterion(
            name="V2 keeps V1's contract",
            outcome=Verdict.FAIL if result.breaks else Verdict.PASS,
            figure=f"{len(breaking)} breaking, {warnings} {'warning' if warnings == 1 else 'warnings'}",
            limit="0 breaking",
            why=f"{breaking[0].where}: {breaking[0].said} [{breaking[0].rule}]" if breaking else "",
            reproduce=reproduce,
        )
    )
    for one in breaking[:BREAKING_MAX]:
        progress.add(
            Criterion(
                name=f"{one.rule} {one.where}",
                outcome=Verdict.FAIL,
                figure=one.said,
                limit=one.right,
                reproduce=reproduce,
            )
        )
    progress.notes += [
        f"wanted: {one.where}: {one.said} [{one.rule}]: {exemption.reason}" for one, exemption in result.exempted
    ]


async def _calls(stage: Stage, progress: Progress) -> None:
    plan, documents = stage.plan, await stage.documents()
    async with Asker() as asker:
        for version, upstream in (("v1", plan.api.v1), ("v2", plan.api.v2)):
            operations = Operations(plan, documents[version], stage.clock.now())
            caller = Caller(version, f"http://{upstream.upstreams[0]}", operations, asker)
            try:
                async for criterion in caller.all(stage.extent.calls):
                    progress.add(criterion)
                left_out = operations.left_out()
            except DocumentError as error:
                raise UsageError(f"{documents[version].place(error.spot)}: {error}") from None
            progress.notes += [f"{version}: {one} was not called: it may change something" for one in left_out]


async def _mirror(stage: Stage, progress: Progress) -> None:
    plan, extent = stage.plan, stage.extent
    timers: list[asyncio.TimerHandle] = []

    def started(running: Running) -> None:
        why = f"not certain after {duration(extent.mirror_s)}"
        timers.append(asyncio.get_running_loop().call_later(extent.mirror_s, running.stop, why))

    questions = drawn(plan, stage.seed, stage.clock.now())
    left_out: Mapping[str, int] = {}
    if stage.requests is not None:
        first, left_out = recorded(plan, stage.requests)
        questions = chain(first, questions)
    try:
        report = await mirror(plan, questions, stage.clock, started=started)
    finally:
        for timer in timers:
            timer.cancel()
    progress.partial = report.partial
    limit = f"differs in no more than {report.rules.limit * 100:g} % of the questions, beyond V1's own noise"
    data = mirror_as_data(report, plan.name)
    for line, told in zip(report.lines, data["lines"], strict=True):
        if line.verdict is not None:
            progress.add(
                Criterion(
                    name=line.path if line.of == "fields" else f"{line.path} ({line.of})",
                    outcome=line.verdict,
                    figure=line.said,
                    limit=limit,
                    reproduce=told["reproduce"] or "",
                )
            )
    if not progress.criteria:
        progress.cannot("mirror", report.sentence, limit)
    progress.notes.append(f"{report.compared:,} questions were compared")
    if stage.requests is not None:
        progress.notes.append(f"the requests of {stage.requests} were asked first")
        progress.notes += [f"{times:,} recorded ones were not: {why}" for why, times in left_out.items()]
    progress.notes += [f"{times:,} were not: {why}" for why, times in report.not_compared.items()]


async def _load(stage: Stage, progress: Progress) -> None:
    plan, extent = stage.plan, stage.extent
    staff = not plan.override_secret and bool(staff_of(plan))
    why = await _why_not_through_the_proxy(plan, staff=staff)
    if why:
        progress.notes.append(f"the services were asked themselves, not through the proxy: {why}")
    elif staff:
        progress.notes.append(
            f"through the proxy at {plan.api.listen}, V2 as {', '.join(sorted(plan.staff_cohorts()))}"
        )
    direct, staff = bool(why), staff and not why
    profiles = {"steady": extent.load}
    if extent.peak is not None and plan.load and plan.load.peak:
        profiles["peak"] = extent.peak
    for profile, for_ in profiles.items():
        share = None if profile == "peak" else "50%"
        options = LoadOptions(
            plan=stage.path,
            profile=profile,
            for_=for_,
            users=min(plan.load.users if plan.load else 1000, extent.users_max),
            v2=share,
            direct=direct,
            staff=staff,
            seed=stage.seed,
        )
        work = work_of(options)
        ran = await _drive(work, stage.clock)
        data = load_as_data(ran)
        reproduce = shlex.join(
            [
                *("crossfade", "load", str(stage.path), "--profile", profile, "--for", for_),
                *("--users", str(work.users), "--seed", str(stage.seed)),
                *(["--v2", share] if share else []),
                *(["--direct"] if direct else ["--staff"] if staff else []),
            ]
        )
        for check in ran.checks():
            progress.add(
                Criterion(
                    name=f"{profile}: {check.text} ({check.of})",
                    outcome=check.verdict,
                    figure=check.said,
                    limit=check.text,
                    why=_example(data) if check.verdict is Verdict.FAIL else "",
                    reproduce=reproduce,
                )
            )
        progress.notes.append(f"{profile}: {work.users:,} users on {work.named} for {for_}")
        progress.notes += [f"{profile}: {note}" for note in notes(data)]


async def _why_not_through_the_proxy(plan: Plan, *, staff: bool) -> str:
    """Return why V2 can't be asked for through the proxy at 0 %; empty where it can."""
    if not plan.override_secret and not staff:
        return "at 0 % that takes the plan's `override secret`, or a cohort that a 0 % phase puts on V2"
    try:
        await reach(*address_of(plan.api.listen), timeout_s=PROXY_S)
    except UnreachableError as error:
        return str(error)
    return ""


def _example(data: Mapping[str, Mapping[str, Mapping[str, object]]]) -> str:
    return next((f"{kind}, such as: {one['example']}" for kind, one in data["troubles"].items()), "")


async def _drive(work: Work, clock: Clock) -> Ran:
    allow_connections(work.users)
    for host, port in sorted({address for addresses in work.addresses.values() for address in addresses}):
        await reach(host, port, work.timeout_s)
    driver, before = Driver(work, clock), cpu_seconds()
    await driver.run()
    return Ran(
        work=work, tally=driver.tally, lasted_s=driver.lasted_s, partial=driver.partial, cpu_s=cpu_seconds() - before
    )


async def _breakers(stage: Stage, progress: Progress) -> None:
    rig = rig_of(stage)
    if rig.rules.cooldown_s < PLAN_COOLDOWN_S:
        progress.notes.append(f"the breaker's cooldown is {rig.rules.cooldown}")
    findings: list[Finding] = []
    try:
        async with aclosing(breaker_scenarios(rig, stage.clock)) as scenarios:  # type: ignore[type-var]
            async for finding in scenarios:
                if finding.name == "crash and restart" and rig.crash is None:
                    progress.notes.append(
                        "not rehearsed: a crash of the dependency; say --end-dependency and --start-dependency"
                    )
                    continue
                findings.append(finding)
                progress.add(of_finding(finding))
    finally:
        for trigger in triggers(findings):
            progress.add(trigger)


def rig_of(stage: Stage) -> BreakerRig:
    """Return how the plan's V2 is provoked; UsageError where the plan doesn't say."""
    plan, breaker = stage.plan, stage.plan.rehearsal.breaker
    if breaker is None:
        raise UsageError(
            "the plan has no `rehearsal.breaker`; say how V2's dependency is told to misbehave, such as "
            'rehearsal: {breaker: {control: "http://127.0.0.1:8103/control"}}'
        )
    question = next(drawn(plan, stage.seed, stage.clock.now()))
    v1, v2 = (f"http://{one.upstreams[0]}{one.path.rstrip('/')}{question.rest}" for one in (plan.api.v1, plan.api.v2))
    own = f"http://{plan.api.v2.upstreams[0]}/"
    document = plan.contract.v2 if plan.contract and plan.contract.v2.startswith(own) else None
    return BreakerRig(
        v2=v2,
        control=breaker.control,
        others=(v1, *([document] if document else [])),
        rules=BreakerRules(cooldown_s=breaker.cooldown_s, latency_ms=_latency_ms(plan)),
        needed=breaker.needs,
        dependency=breaker.dependency,
        crash=stage.crash,
        users=min(plan.load.users if plan.load else 1000, stage.extent.users_max),
        users_within_s=stage.extent.many_within_s,
        rest_s=stage.extent.many_within_s,
    )


def _latency_ms(plan: Plan) -> float:
    """Return what V2's 95th percentile must keep: the plan's target for it, else 300 ms (R22)."""
    return next(
        (
            metric.target.value
            for metric in plan.metrics
            if metric.kind is MetricKind.LATENCY
            and metric.quantile == 0.95
            and metric.target
            and not metric.target.of_v1
            and metric.target.comparison in (Comparison.LE, Comparison.LT)
        ),
        BreakerRules().latency_ms,
    )


_PARTS: Mapping[PartName, Callable[[Stage, Progress], Awaitable[None]]] = {
    PartName.CONTRACT: _contract,
    PartName.CALLS: _calls,
    PartName.MIRROR: _mirror,
    PartName.LOAD: _load,
    PartName.BREAKERS: _breakers,
}

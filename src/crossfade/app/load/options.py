"""What `crossfade load` was given, and what is to be done by it: every mistake is found before the first request."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from crossfade.app.load.peak import Peak, read_peak
from crossfade.app.planfile import load_plan
from crossfade.app.planfile.load import think_time
from crossfade.app.planfile.quantities import basis_points, positive_duration, rate
from crossfade.core.load.curve import Curve, Profile, curve_of, replayed
from crossfade.core.load.judge import PEAK_SHARE
from crossfade.core.plan import KeySource, Load, Plan, Scenario
from crossfade.core.split import BUCKETS, Version
from crossfade.errors import UsageError

USERS_MAX = 100_000
_LONGEST_S = 24 * 3600.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - what a proxy listens on; asked is loopback
_RATE_MAX = 1_000_000.0

Address = tuple[str, int]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """The command's words, as typed."""

    plan: Path
    profile: str = "steady"
    for_: str = "1m"
    users: int | None = None
    think: str | None = None
    rate: str | None = None
    v2: str | None = None
    direct: bool = False
    staff: bool = False
    recording: Path | None = None
    target: str | None = None
    may_load: str | None = None
    timeout_s: float = 10.0
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done."""

    plan: Plan
    load: Load
    profile: Profile
    curve: Curve
    users: int
    think_s: float
    rate: float | None
    """Requests per second at level 1 of the curve, whatever comes back; None: users wait for their answers."""
    on_v2: float | None
    """Share of the users that ask for V2 themselves; None: the proxy decides."""
    staff: tuple[str, ...]
    """Users as whom V2 is asked for, in turns; none where they say the version itself."""
    addresses: dict[Version | None, tuple[Address, ...]]
    """By the version that answers there; None is the proxy. Users are dealt out to them."""
    named: str
    """The target, for people."""
    timeout_s: float
    seed: int
    peak: Peak | None = None

    @property
    def planned(self) -> int | None:
        """How many requests there will be; None where that depends on the users."""
        return None if self.rate is None else self.curve.count(self.rate)


def work_of(options: LoadOptions) -> Work:
    """Return what is to be done; PlanError or UsageError where the words make no sense."""
    plan = load_plan(options.plan)
    load = plan.load or Load(scenarios=(Scenario(name="entry", target=plan.api.entry),))
    profile = Profile(options.profile)
    seconds = _read("--for", options.for_, positive_duration)
    if seconds > _LONGEST_S:
        raise UsageError(f"--for {options.for_} is longer than a day; write a shorter time, such as 5m")
    users = options.users or load.users
    if users > USERS_MAX:
        raise UsageError(f"{users:,} users are more than one machine can be; {USERS_MAX:,} at most")
    asked_rate = None if options.rate is None else _read("--rate", options.rate, _rate)
    peak = _peak(options, profile, load, asked_rate)
    addresses, named = _addresses(options, plan)
    staff = staff_of(plan) if options.staff else ()
    if options.staff and (not staff or options.direct):
        raise UsageError(
            "--staff asks for V2 as the cohort that a 0% phase puts on V2, by a header or cookie, through the proxy; "
            + ("leave --direct out" if staff else "the plan has none, so give --direct")
        )
    return Work(
        plan=plan,
        load=load,
        profile=profile,
        curve=curve_of(profile, seconds) if peak is None else replayed(peak.counts, seconds),
        users=users,
        think_s=load.think_s if options.think is None else _read("--think", options.think, think_time),
        rate=asked_rate if peak is None else peak.rate,
        on_v2=_on_v2(options, plan, profile),
        staff=staff,
        addresses=addresses,
        named=named,
        timeout_s=options.timeout_s,
        seed=options.seed,
        peak=peak,
    )


def staff_of(plan: Plan) -> tuple[str, ...]:
    """Return the users whom a 0 % phase puts on V2; none where the proxy knows users by address alone."""
    if plan.assignment.user[0].source is KeySource.ADDRESS:
        return ()
    staff = plan.staff_cohorts()
    members = (user for name, users in plan.assignment.cohorts.items() if name in staff for user in users)
    return tuple(sorted(user for user in members if plan.assignment.cohort_of(user) in staff))


def _peak(options: LoadOptions, profile: Profile, load: Load, asked_rate: float | None) -> Peak | None:
    if profile is not Profile.PEAK:
        if options.recording is not None:
            raise UsageError(
                "--recording is what --profile peak replays; name that profile, or leave the recording out"
            )
        return None
    if options.recording is not None:
        if asked_rate is not None:
            raise UsageError("the recording tells the rate of its peak; leave --rate out, or the recording")
        return read_peak(options.recording)
    declared = asked_rate or load.peak
    if declared is None:
        raise UsageError(
            "what the peak is nobody says: give --recording FILE of `crossfade export ticks`, --rate 400/s, "
            "or the plan's load a `peak: 400/s`"
        )
    return Peak(counts=(1.0,), rate=declared, said=f"declared, {declared:g}/s")


def _on_v2(options: LoadOptions, plan: Plan, profile: Profile) -> float | None:
    """Return the share of users that ask for V2 themselves."""
    can_choose = options.direct or options.staff or bool(plan.override_secret)
    if options.v2 is None:
        if not can_choose or (profile is not Profile.PEAK and not (options.direct or options.staff)):
            return None
        return PEAK_SHARE if profile is Profile.PEAK else 0.5
    share = _read("--v2", options.v2, basis_points) / BUCKETS
    if not can_choose:
        raise UsageError(
            "--v2 has users choose their version: through the proxy that takes the plan's `override secret`, "
            "which it has not, or --staff; give it one, or ask the services themselves with --direct"
        )
    return share


def _addresses(options: LoadOptions, plan: Plan) -> tuple[dict[Version | None, tuple[Address, ...]], str]:
    """Return where to ask: the plan's own proxy or services, or a named target that was named twice."""
    if options.target is None:
        if options.may_load is not None:
            raise UsageError("--may-load says that a --target may be loaded; name the target")
        if not options.direct:
            return {None: (address_of(plan.api.listen),)}, f"the proxy at {plan.api.listen}"
        servers = {Version.V1: plan.api.v1.upstreams, Version.V2: plan.api.v2.upstreams}
        told = " and ".join(f"{version} at {', '.join(those)}" for version, those in servers.items())
        return {version: tuple(address_of(server) for server in those) for version, those in servers.items()}, told
    if options.direct:
        raise UsageError("--direct asks the plan's own services, --target another address; give one of them")
    return _other(options.target, options.may_load, plan)


def _other(target: str, word: str | None, plan: Plan) -> tuple[dict[Version | None, tuple[Address, ...]], str]:
    try:
        parts = urlsplit(target)
        port = parts.port or 80
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query or "@" in parts.netloc:
        raise UsageError(f"--target {target!r} is no address to ask; write such as http://staging.internal:8100")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    name = f"{host}:{port}"
    own = {plan.api.listen, *plan.api.v1.upstreams, *plan.api.v2.upstreams}
    if name not in own and word != name:
        raise UsageError(
            f"{name} is not the plan's own proxy or service, and a load can harm it; "
            f"if it is yours to load, say so: --may-load {name}"
        )
    return {None: ((parts.hostname, port),)}, name


def address_of(text: str) -> Address:
    """Return host and port, of loopback where a server listens everywhere."""
    host, _, port = text.rpartition(":")
    return _EVERYWHERE.get(host, host).strip("[]"), int(port)


def _rate(text: str) -> float:
    value = rate(text if re.search(r"/ ?s$", text) else f"{text}/s")
    if value > _RATE_MAX:
        raise ValueError(f"{text} is more than one machine can ask; write {_RATE_MAX:,.0f}/s at most")
    return value


def _read(flag: str, text: str, read: Callable[[str], _T]) -> _T:
    try:
        return read(text)
    except ValueError as error:
        raise UsageError(f"{flag}: {error}") from None

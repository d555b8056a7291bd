"""The users of a load: who they are to the proxy, what they ask, and which version answered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import orjson

from crossfade.adapters.load import Answer
from crossfade.app.load.options import Address, Work
from crossfade.core.load.tally import Part, Trouble
from crossfade.core.plan import Key, KeySource, Load, Plan, Scenario
from crossfade.core.split import Version, bucket_of
from crossfade.simulation.traffic import REGIONS, make_users

_BLOCK = 4096
_VERSIONS = {b"1": Version.V1, b"v1": Version.V1, b"2": Version.V2, b"v2": Version.V2}
_PLACEHOLDER = re.compile(r"\{([a-z0-9_]+)\}")
_DAYS_AHEAD = 7
_JSON = re.compile(rb"application/(?:[\w.+-]+\+)?json\b")
THINKING = (0.5, 1.5)
"""Pauses as parts of their mean. None is so short that a quick answer would come too late for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One user, ready to ask."""

    key: str
    region: str
    address: Address
    version: Version | None
    """Which one the user asks for; None where the proxy decides."""
    head: bytes
    """The request after its first line."""
    prefix: str | None = None
    """What stands in the path instead of the entry, where a service is asked directly."""


@dataclass(frozen=True, slots=True)
class Request:
    """What one user asks once."""

    data: bytes
    scenario: str


class Draws:
    """Numbers from a seeded generator, drawn in blocks."""

    def __init__(self, draw: Callable[[int], np.ndarray[tuple[int, ...], np.dtype[np.float64]]]) -> None:
        self._numbers = _endless(draw)

    def next(self) -> float:
        """Return the next number."""
        return next(self._numbers)


def _endless(draw: Callable[[int], np.ndarray[tuple[int, ...], np.dtype[np.float64]]]) -> Iterator[float]:
    while True:
        yield from draw(_BLOCK).tolist()


class Asking:
    """What is asked: scenarios by their weights, their values drawn anew for each request."""

    def __init__(self, plan: Plan, load: Load, seed: int, today: float) -> None:
        """`today` is the time, seconds since the epoch, from which `{date}` is counted."""
        rng = np.random.default_rng((seed, 3))
        self._uniform = Draws(rng.random)
        self._entry = plan.api.entry.rstrip("/")
        self._header = load.version.lower().encode()
        self._last: dict[str, Version] = {}
        weights = np.array([scenario.weight for scenario in load.scenarios])
        self._upto = (np.cumsum(weights) / weights.sum()).tolist()
        days = (datetime.fromtimestamp(today, tz=UTC) + timedelta(days=n) for n in range(1, _DAYS_AHEAD + 1))
        values = {**load.values, "date": tuple(day.date().isoformat() for day in days)}
        self._scenarios = [_Pieces(scenario, values) for scenario in load.scenarios]

    def request(self, person: Person) -> Request:
        """Return the next request of a user."""
        target, scenario = self.target(person.key)
        if person.prefix is not None:
            target = person.prefix + target[len(self._entry) :]
        return Request(b"GET " + target.encode() + b" HTTP/1.1\r\n" + person.head, scenario)

    def target(self, user: str) -> tuple[str, str]:
        """Return what a user asks next, path and query at the entry, and the name of its scenario."""
        draw = self._uniform.next()
        chosen = next((s for s, upto in zip(self._scenarios, self._upto, strict=True) if draw < upto), None)
        scenario = chosen or self._scenarios[-1]
        return scenario.target(user, self._uniform), scenario.name

    def part(self, person: Person, scenario: str, answer: Answer | None) -> Part:
        """Return whose sums a request belongs to.

        Errors look the same in both versions; they are put down to the one that was asked for, else to the one that
        answered the user last.
        """
        said = None if answer is None else _VERSIONS.get(answer.headers.get(self._header, b"").lower())
        if said is not None:
            self._last[person.key] = said
        return Part(said or person.version or self._last.get(person.key), person.region, scenario)


class _Pieces:
    """A scenario's target, cut at its placeholders."""

    def __init__(self, scenario: Scenario, values: Mapping[str, tuple[str, ...]]) -> None:
        self.name = scenario.name
        parts = _PLACEHOLDER.split(scenario.target)
        self._fixed, self._drawn = parts[::2], [None if name == "user" else values[name] for name in parts[1::2]]

    def target(self, user: str, uniform: Draws) -> str:
        found = [self._fixed[0]]
        for values, fixed in zip(self._drawn, self._fixed[1:], strict=True):
            found += [user if values is None else values[int(uniform.next() * len(values))], fixed]
        return "".join(found)


def trouble_of(answer: Answer) -> tuple[Trouble, str] | None:
    """Return what is wrong with an answer; None for a good one."""
    if answer.status >= 400:
        return Trouble.STATUS, f"status {answer.status}"
    if answer.body and _JSON.match(answer.headers.get(b"content-type", b"")):
        if answer.headers.get(b"content-encoding"):
            return None  # nothing was asked to be compressed; reading it is another one's test
        try:
            orjson.loads(answer.body)
        except orjson.JSONDecodeError as error:
            return Trouble.INVALID, f"says that it is JSON and is not: {error}"
    return None


def people_of(work: Work) -> list[Person]:
    """Return the users, the same for the same seed. Those who ask for V2 have the lowest buckets, as in a split."""
    keys = [f"load-{work.seed}-{number}" for number in range(work.users)]
    on_v2 = _on_v2(work, keys)
    return [
        _person(work, user.key, number, REGIONS[user.region].name, user.client, on_v2=user.key in on_v2)
        for number, user in enumerate(make_users(keys, work.seed))
    ]


def _on_v2(work: Work, keys: list[str]) -> frozenset[str]:
    if work.on_v2 is None:
        return frozenset()
    salt = work.plan.assignment.salt
    return frozenset(sorted(keys, key=lambda key: bucket_of(key, salt))[: round(work.on_v2 * len(keys))])


def _person(work: Work, key: str, number: int, region: str, client: str, *, on_v2: bool) -> Person:
    wanted = Version.V2 if on_v2 else Version.V1
    direct = None not in work.addresses
    servers = work.addresses[wanted if direct else None]
    address = servers[number % len(servers)]
    rule = work.plan.assignment
    lines = [f"Host: {_host(address)}", "User-Agent: crossfade-load", "Accept: */*"]
    sent = work.staff[number % len(work.staff)] if on_v2 and work.staff else key
    lines += _sent(next((k for k in rule.user if k.source is not KeySource.ADDRESS), None), sent)
    lines += _sent(rule.region, region)
    lines += _sent(rule.client, f"load-{client}")
    if work.on_v2 is not None and not direct and not work.staff:
        lines += [f"X-Crossfade-Secret: {work.plan.override_secret}", f"X-Crossfade-Version: {wanted}"]
    upstream = work.plan.api.v2 if on_v2 else work.plan.api.v1
    return Person(
        key=key,
        region=region if rule.region else "",
        address=address,
        version=None if work.on_v2 is None else wanted,
        head=_joined(lines),
        prefix=upstream.path.rstrip("/") if direct else None,
    )


def _joined(lines: list[str]) -> bytes:
    """Return header lines; those of cookies become one, as a client sends them."""
    cookies = [line.removeprefix("Cookie: ") for line in lines if line.startswith("Cookie: ")]
    others = [line for line in lines if not line.startswith("Cookie: ")]
    if cookies:
        others.append("Cookie: " + "; ".join(cookies))
    return ("\r\n".join(others) + "\r\n\r\n").encode()


def _sent(key: Key | None, value: str) -> list[str]:
    if key is None:
        return []
    return [f"Cookie: {key.name}={value}"] if key.source is KeySource.COOKIE else [f"{key.name}: {value}"]


def _host(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

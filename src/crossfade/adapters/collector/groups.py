"""What many rows have in common, worked out once: whose request with which outcome, and what the answer said.

Every table here is bounded, because clients and services choose what is written into it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from crossfade.core.clients.ledger import Client, Way, key_of
from crossfade.core.evidence.sums import Arm
from crossfade.core.facts import NO_FACTS, NOT_UNDERSTOOD, parse_facts
from crossfade.core.outcome import Outcome, outcome_of, timed_out
from crossfade.core.split import Version

MAX_REGIONS = 64
MAX_FACT_NAMES = 32
OTHER = "other"
"""Where names beyond these bounds are counted."""

MAX_SIGNATURES = 20_000
MAX_HEADERS = 20_000
"""Facts headers that differ (by their decimals, mostly) and are remembered."""
MAX_TIMINGS = 8
"""Decimals counted per answer."""
REGION_LENGTH = 64

_DECIMAL = re.compile(rb"(?<=%3D)-?[0-9]{1,12}\.[0-9]{1,3}(?=%2C|$)")
"""As logged: url-encoded, a member's value to its end."""
_QUOTE = b"%22"

AWAY = "brownout"
"""What stands in a version's place where a brownout gave the answer."""
BESIDE = "beside"
"""What stands there where a request is no part of the API, and V1's all the same: nobody's, and told for its event."""
_VERSIONS = {"v1": Version.V1, "v2": Version.V2}

Signature = tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """What rows of one arm and outcome have in common."""

    arm: int
    """Index into `Groups.arms`."""
    outcome: Outcome
    timed_out: bool = False
    asked_v1: bool = False
    away: bool = False
    """A brownout answered in a version's place: nobody's request, which V1 was asked for all the same."""
    way: Way = Way.ELSE_BY_V1
    answered: bool = False
    """With 2xx or 3xx: what the user asked for was done."""
    readable: bool = True


_UNREADABLE = Group(arm=0, outcome=Outcome.NOBODYS, readable=False)


class _Names:
    """The first so many names; the rest share one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[str] = set()
        self.overflowed = False

    def of(self, name: str) -> str:
        """Return the name, or OTHER where there are too many."""
        if name in self._known:
            return name
        if len(self._known) >= self._most:
            self.overflowed = True
            return OTHER
        self._known.add(name)
        return name


_PLAIN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~"
_KEPT_NAMES = 50_000


class ClientKeys(dict[bytes, bytes]):
    """The ledger's key of a client by the field of a line that names it; empty where it names none."""

    def __missing__(self, field: bytes) -> bytes:
        client = client_of(field)
        key = b"" if client is None else key_of(client)
        if len(self) >= _KEPT_NAMES:
            self.clear()
        self[field] = key
        return key

    def of(self, fields: list[bytes]) -> list[bytes]:
        """Return the keys of many: those of plain names are these themselves."""
        odd = b"".join(fields).translate(None, _PLAIN)
        if not odd and b"-" not in fields and b"" not in fields and len(max(fields, key=len)) <= REGION_LENGTH:
            return fields
        return [self[field] for field in fields]


def client_of(field: bytes) -> Client | None:
    """Return the client that a field of a line names; None where it names none."""
    text = field.decode("latin-1")
    agent = text.startswith("@")
    name = text[1:] if agent else text
    if "%" in name or name == "-" or not name.isascii() or not name.isprintable():
        name = _readable(name)
    name = name[:REGION_LENGTH].strip()
    return Client(name, agent) if name else None


class Groups(dict[Signature, int]):
    """Group index by signature; a signature seen for the first time is worked out."""

    def __init__(self) -> None:
        super().__init__()
        self.arms: list[Arm] = []
        self.groups: list[Group] = []
        self._arms: dict[Arm, int] = {}
        self._groups: dict[Group, int] = {}
        self._regions = _Names(MAX_REGIONS)

    def __missing__(self, signature: Signature) -> int:
        group = self._make(*(field.decode("latin-1") for field in signature))
        index = self._groups.setdefault(group, len(self.groups))
        if index == len(self.groups):
            self.groups.append(group)
        self[signature] = index
        return index

    def forget(self, *, tick_ended: bool = False) -> None:
        """Begin anew where too much was remembered; between batches only, since indices change.

        Whoever sends a new region with every request fills the table for the rest of the tick, not for ever.
        """
        if len(self) > MAX_SIGNATURES or (tick_ended and self._regions.overflowed):
            self.clear()
            for table in (self.arms, self.groups, self._arms, self._groups):
                table.clear()
        if tick_ended and self._regions.overflowed:
            self._regions = _Names(MAX_REGIONS)

    def _make(  # noqa: PLR0917 - the columns of a signature, in their order
        self,
        version: str,
        status: str,
        cohort: str,
        override: str,
        asked: str,
        region: str,
        termination: str,
        server: str,
    ) -> Group:
        away = version == AWAY
        beside = version == BESIDE
        side = Version.V1 if away or beside else _VERSIONS.get(version)
        if side is None:
            return Group(arm=0, outcome=Outcome.NOBODYS)
        try:
            outcome = Outcome.NOBODYS if away or beside else outcome_of(int(status), termination, server)
            answered = 200 <= int(status) < 400
        except ValueError:
            return _UNREADABLE
        if outcome is Outcome.NOBODYS and not (away or beside):
            return Group(arm=0, outcome=outcome)
        name = _readable(region)
        arm = Arm(
            version=side,
            region=self._regions.of(name) if name else "",
            cohort=_readable(cohort),
            override=override == "1",
        )
        index = self._arms.setdefault(arm, len(self.arms))
        if index == len(self.arms):
            self.arms.append(arm)
        if beside:
            return Group(arm=index, outcome=outcome, answered=answered)
        late = outcome is Outcome.UNANSWERED and timed_out(termination)
        by_v1 = side is Version.V1 or outcome is Outcome.FALLBACK
        own = asked == "v1"
        way = (Way.OWN_BY_V1 if by_v1 else Way.OWN_BY_V2) if own else Way.ELSE_BY_V1 if by_v1 else Way.ELSE_BY_V2
        return Group(arm=index, outcome=outcome, timed_out=late, asked_v1=own, away=away, way=way, answered=answered)


def _readable(field: str) -> str:
    """Return a url-encoded field as text fit to be shown; empty for a dash."""
    if field == "-":
        return ""
    return "".join(c for c in unquote(field, errors="replace") if c.isprintable())[:REGION_LENGTH]


@dataclass(frozen=True, slots=True)
class Template:
    """What answers said alike: everything but their decimals."""

    values: tuple[tuple[str, str], ...] = ()
    timings: tuple[str, ...] = ()
    cached: bool = False


NOTHING_SAID = Template()


class Headers(dict[bytes, int]):
    """Index of a Facts header as logged; `template_of` and `timings_of` are arrays by that index."""

    def __init__(self) -> None:
        super().__init__()
        self.template_of: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.timings_of: NDArray[np.float64] = np.zeros((0, MAX_TIMINGS))
        self.templates: list[Template] = []
        self.not_understood = 0
        """Headers that were no dictionary, each counted when first seen."""
        self._templates: dict[Template, int] = {}
        self._shapes: dict[bytes, Template | None] = {}
        self._names = _Names(MAX_FACT_NAMES)
        self._begin()

    def __missing__(self, header: bytes) -> int:
        index = len(self)
        self[header] = index
        if index >= len(self.template_of):
            self._grow(max(1024, 2 * index))
        numbers = _DECIMAL.findall(header)
        shape = self._shape_of(_DECIMAL.sub(b"0.0", header) if numbers else header)
        timings = list(map(float, numbers))
        if shape is None or len(shape.timings) != len(numbers):
            shape, timings = self._read(header)
        self.template_of[index] = self._index(shape)
        self.timings_of[index, : len(timings)] = timings
        return index

    def _shape_of(self, header: bytes) -> Template | None:
        """Return what headers say that differ in their decimals only; None where such must be read one by one."""
        if header not in self._shapes:
            order = count()
            template, values = self._read(_DECIMAL.sub(lambda _: b"%d.5" % next(order), header))
            simple = values == [i + 0.5 for i in range(next(order))]  # none came twice, or inside a string
            self._shapes[header] = template if simple and _QUOTE not in header else None
        return self._shapes[header]

    def _read(self, header: bytes) -> tuple[Template, list[float]]:
        facts = parse_facts(unquote(header.decode("latin-1"), errors="replace")) if header != b"-" else NO_FACTS
        if facts == NOT_UNDERSTOOD:
            self.not_understood += 1
        timings = [(name, value) for name, value in facts.timings if self._keeps(name)][:MAX_TIMINGS]
        template = Template(
            values=tuple(pair for pair in facts.values if self._keeps(pair[0])),
            timings=tuple(name for name, _ in timings),
            cached=("cache", "hit") in facts.values,
        )
        return template, [value for _, value in timings]

    def forget(self, *, tick_ended: bool = False) -> None:
        """Begin anew where too much was remembered; between batches only, since indices change."""
        too_many_names = tick_ended and self._names.overflowed
        if too_many_names:
            self._names = _Names(MAX_FACT_NAMES)
        if len(self) > MAX_HEADERS or too_many_names:
            self._begin()

    def _grow(self, size: int) -> None:
        more = size - len(self.template_of)
        self.template_of = np.pad(self.template_of, (0, more))
        self.timings_of = np.pad(self.timings_of, ((0, more), (0, 0)))

    def _begin(self) -> None:
        self.clear()
        self._templates.clear()
        self._shapes.clear()
        self.templates.clear()
        self._index(NOTHING_SAID)

    def _index(self, template: Template) -> int:
        index = self._templates.setdefault(template, len(self.templates))
        if index == len(self.templates):
            self.templates.append(template)
        return index

    def _keeps(self, name: str) -> bool:
        return self._names.of(name) == name


def flags(groups: Iterable[bool]) -> NDArray[np.bool_]:
    """Return a property of every group as an array, to be taken by group index."""
    array: NDArray[Any] = np.fromiter(groups, dtype=np.bool_)
    return array

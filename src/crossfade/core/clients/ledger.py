"""The ledger: which client came by which way, how often, when first and when last.

Memory is bounded however many clients there are. The TABLE clients with the most requests have their counts: exact
while no more than TABLE were ever seen, else within a stated error (Metwally et al. 2005, "Space-Saving", in the form
for whole batches of Agarwal et al. 2012, "Mergeable summaries"): a client with more than 1/TABLE of all requests is
always listed, and no count is further off than that. Beside them the TABLE clients that called V1 last are kept
whatever their counts, so that the last ones have names. How many different clients a day had is told by sketches.

The same ticks make the same ledger, whoever absorbs them and after how many restarts.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from itertools import chain, compress, islice
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import numpy as np
import orjson
from numpy.typing import NDArray

from crossfade.core.clients.sketch import Sketch, hashes
from crossfade.core.jsonable import to_json

TABLE = 4096
DAY = 86_400.0
KEPT_DAYS = 400
COMPLETE = 0.99
"""Share of a day that must have been watched for it to be complete."""
MOVED_S = DAY
"""Plan seconds, watched, without a call to V1 after which a client that calls V2 has moved."""
FORMAT = 1
_GAPS = 200
_PACKING = 1


class Client(NamedTuple):
    """Who calls."""

    name: str
    """The id that its requests carry."""
    agent: bool = False
    """They carry none: the name is the first product of their User-Agent."""


class Way(IntEnum):
    """What a client asked for, and who answered."""

    OWN_BY_V1 = 0
    """One of V1's own paths; V1."""
    OWN_BY_V2 = 1
    """One of V1's own paths; V2, since the split said so."""
    ELSE_BY_V1 = 2
    """The entry, or one of V2's own paths; V1, since the split said so or V2 refused."""
    ELSE_BY_V2 = 3
    """The entry, or one of V2's own paths; V2."""


ASKED = (Way.OWN_BY_V1, Way.OWN_BY_V2)
"""Ways of a client that asks for V1: its owner has something to do."""
TO_V1 = (*ASKED, Way.ELSE_BY_V1)
"""Ways by which V1 is called: asked for, or answering. They are the first."""
_NONE = (0,) * len(Way)


class Standing(StrEnum):
    """Where a client stands."""

    V1 = "v1"
    """It has called V1 within a day."""
    SILENT = "silent"
    """It called V1 last, and for a day or longer nothing: it may come back."""
    V2 = "v2"
    """It calls V2, and has not called V1 for a day."""


def key_of(client: Client) -> bytes:
    """Return a client as the ledger keeps it: url-encoded, after an @ where it is named by its User-Agent."""
    name = quote(client.name, safe="", errors="surrogatepass").encode()
    return b"@" + name if client.agent else name


def client_at(key: bytes) -> Client:
    """Return the client whose key this is."""
    agent, name = key.startswith(b"@"), key.decode().removeprefix("@")
    return Client(unquote(name, errors="surrogatepass") if "%" in name else name, agent)


@dataclass(frozen=True, slots=True)
class Rows:
    """Calls as they came, (k,) each."""

    keys: Sequence[bytes]
    """Of clients, as `key_of` gives them."""
    ways: NDArray[np.int64]
    times: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Calls:
    """Requests of one tick, each by way."""

    counts: Mapping[Client, Sequence[int]] = field(default_factory=dict)
    """By client, as they came."""
    unnamed: Sequence[int] = _NONE
    """Of those that tell no client."""
    beyond: Sequence[int] = _NONE
    """Of clients beyond those that one tick names."""
    rows: Sequence[Rows] = ()
    """Further ones of clients, not added up."""

    def plus(self, other: Calls) -> Calls:
        """Return the sum of two collectors' calls, or of two ticks'."""
        return Calls(
            unnamed=_sum(self.unnamed, other.unnamed),
            beyond=_sum(self.beyond, other.beyond),
            rows=(*self.rows, *self._listed(), *other.rows, *other._listed()),
        )

    def by_client(self) -> dict[Client, list[int]]:
        """Return the requests of each client by way, in the order of their first ones."""
        keys, counts = self.grouped()
        return {client_at(key): row for key, row in zip(keys, counts.tolist(), strict=True)}

    def grouped(self) -> tuple[list[bytes], NDArray[np.int64]]:
        """Return the keys of the clients (k), in the order of their first calls, and how often each came, (k, ways)."""
        parts = (*self._listed(), *self.rows)
        keys = list(chain.from_iterable(part.keys for part in parts))
        if not keys:
            return [], np.zeros((0, len(Way)), dtype=np.int64)
        first, place = _places(np.fromiter(map(hash, keys), dtype=np.int64, count=len(keys)))
        ways = np.concatenate([part.ways for part in parts])
        times = np.concatenate([part.times for part in parts])
        sums = np.bincount(place * len(Way) + ways, weights=times, minlength=len(first) * len(Way))
        return [keys[index] for index in first.tolist()], sums.astype(np.int64).reshape(-1, len(Way))

    def _listed(self) -> Sequence[Rows]:
        """Return what is given by client as rows."""
        cells = [(key_of(c), way, n) for c, counts in self.counts.items() for way, n in enumerate(counts)]
        if not cells:
            return ()
        keys, ways, times = zip(*cells, strict=True)
        return (Rows(keys, np.array(ways), np.array(times)),)


@dataclass(slots=True)
class Entry:
    """One client's calls, each list by way."""

    counts: list[int]
    """Counted since it is listed: at least so many."""
    first: list[float | None]
    last: list[float | None]
    """Start of the first and of the last tick with a call, plan time; None for none."""
    error: int = 0
    """It may have had so many more, before it was listed."""

    @property
    def total(self) -> int:
        """Return how many calls it had at most."""
        return sum(self.counts) + self.error

    def note(self, counts: Sequence[int], at: float) -> None:
        """Add the calls of a tick."""
        mine, first, last = self.counts, self.first, self.last
        for way, count in enumerate(counts):
            if count:
                mine[way] += count
                last[way] = at
                if first[way] is None:
                    first[way] = at

    def first_by(self, ways: Iterable[Way]) -> float | None:
        """Return when it first came by one of these ways; None for never."""
        return min((at for way in ways if (at := self.first[way]) is not None), default=None)

    def last_by(self, ways: Iterable[Way]) -> float | None:
        """Return when it last came by one of these ways; None for never."""
        return max((at for way in ways if (at := self.last[way]) is not None), default=None)


def _entry(error: int, counts: list[int], at: float) -> Entry:
    """Return the entry of a client's first calls; the list is its own from now on."""
    seen = [at if count else None for count in counts]
    return Entry(counts, seen, seen.copy(), error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One UTC day."""

    number: int
    """Days since 1970-01-01."""
    watched_s: float
    """Of its 86,400 seconds, how many somebody watched."""
    requests: tuple[int, ...]
    """By way, all clients and those without a name."""
    asking_v1: int
    """Different clients that asked for V1's own paths."""
    on_v1: int
    """Different clients that called V1: asked for it, or were answered by it."""
    on_v2: int
    """Different clients that V2 answered elsewhere."""
    exact: bool
    """No count is an estimate."""

    @property
    def was_watched(self) -> bool:
        """Tell whether nearly all of it was watched."""
        return self.watched_s >= COMPLETE * DAY


class _Today:
    """A day that is not over."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.watched_s = 0.0
        self.requests = list(_NONE)
        self.sketches = (Sketch(), Sketch(), Sketch())
        """Of clients that ask for V1, that call V1, that call V2."""

    def ended(self) -> Day:
        asking, on_v1, on_v2 = (sketch.count() for sketch in self.sketches)
        return Day(
            number=self.number,
            watched_s=self.watched_s,
            requests=tuple(self.requests),
            asking_v1=asking,
            on_v1=on_v1,
            on_v2=on_v2,
            exact=all(sketch.is_exact for sketch in self.sketches),
        )


class Ledger:
    """What is known of the clients of one rollout. It grows by `absorb`; all else only reads."""

    def __init__(self, table: int = TABLE) -> None:
        """List as many clients as `table`, twice."""
        self._most = table
        self._table: dict[bytes, Entry] = {}
        self._latest: dict[bytes, Entry] = {}
        """Clients that called V1, the latest last."""
        self._days: list[Day] = []
        self._today: _Today | None = None
        self._gaps: list[tuple[float, float]] = []
        """Times in which nobody watched, oldest first."""
        self.since: float | None = None
        """Start of the first tick that somebody watched, plan time."""
        self.until: float | None = None
        """End of the last one."""
        self.floor = 0
        """A client that is not listed had so many requests at most; 0: every client is."""
        self.unnamed = list(_NONE)
        """Requests that told no client, by way."""

    # ── growing ─────────────────────────────────────────────────────────────────────────────────────────

    def absorb(self, start: float, length: float, calls: Calls | None, *, at: float | None = None) -> None:
        """Add the calls of a tick, [start, start + length) of plan time; `calls` is None where nobody watched.

        Ticks come in order; one that was absorbed before changes nothing. at: when clients have called; None: at its
        start.
        """
        if calls is None or (self.until is not None and start < self.until - length / 2):
            return
        if self.until is not None and start > self.until:
            self._gaps = [*self._gaps[1 - _GAPS :], (self.until, start)]
        self.since = start if self.since is None else self.since
        self.until = start + length
        seen_at = start if at is None else at
        keys, counts = calls.grouped()
        self._add_to_day(start, length, calls, keys, counts)
        self.unnamed = _sum(self.unnamed, calls.unnamed)
        table, latest = self._table, self._latest
        listed = np.fromiter(map(table.__contains__, keys), dtype=np.bool_, count=len(keys))
        recent = ~listed & np.fromiter(map(latest.__contains__, keys), dtype=np.bool_, count=len(keys))
        known = np.flatnonzero(listed | recent)
        for index, calls_of in zip(known.tolist(), counts[known].tolist(), strict=True):
            (table if listed[index] else latest)[keys[index]].note(calls_of, seen_at)
        floor = self.floor
        self.floor += sum(calls.beyond)  # all of one client's, for all that is known
        strangers = np.flatnonzero(~listed)
        totals = counts[strangers].sum(axis=1) + floor
        if recent.any():
            totals[recent[strangers]] = [latest[keys[index]].total for index in np.flatnonzero(recent).tolist()]
        chosen = strangers[self._chosen(totals)]
        for index, calls_of in zip(chosen.tolist(), counts[chosen].tolist(), strict=True):
            key = keys[index]
            table[key] = latest.get(key) or _entry(floor, calls_of, seen_at)
        self._note_latest(keys, counts, seen_at, floor)

    def _chosen(self, totals: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of those that weren't listed are now, by their requests; where there are too many, others go."""
        table = self._table
        if len(table) + len(totals) <= self._most:
            return np.ones(len(totals), dtype=np.bool_)
        listed = [entry.total for entry in table.values()]
        stays, self.floor = _largest(np.concatenate([np.array(listed, dtype=np.int64), totals]), self._most, self.floor)
        for key in list(compress(table, ~stays[: len(listed)])):
            del table[key]
        return stays[len(listed) :]

    def _note_latest(self, keys: Sequence[bytes], counts: NDArray[np.int64], at: float, floor: int) -> None:
        """Have the clients that called V1 in this tick be the latest."""
        latest = self._latest
        callers = np.flatnonzero(counts[:, : len(TO_V1)].any(axis=1))[-self._most :]
        for index, calls_of in zip(callers.tolist(), counts[callers].tolist(), strict=True):
            key = keys[index]
            entry = latest.pop(key) if key in latest else self._table.get(key)
            latest[key] = entry or _entry(floor, calls_of, at)
        for key in list(islice(latest, max(0, len(latest) - self._most))):
            del latest[key]

    def _add_to_day(
        self, start: float, length: float, calls: Calls, keys: Sequence[bytes], counts: NDArray[np.int64]
    ) -> None:
        number = int(start // DAY)
        if self._today is None or self._today.number != number:
            if self._today is not None:
                self._days = [*self._days[1 - KEPT_DAYS :], self._today.ended()]
            self._today = _Today(number)
        today = self._today
        today.watched_s += length
        today.requests = _sum(today.requests, _sum(_sum(calls.unnamed, calls.beyond), counts.sum(axis=0).tolist()))
        joined = b"".join(keys)
        plain = b"%" not in joined and b"@" not in joined
        names = hashes(keys, after=b"=") if plain else hashes(map(_hashed, keys))
        came = counts > 0
        for sketch, ways in zip(today.sketches, (ASKED, TO_V1, (Way.ELSE_BY_V2,)), strict=True):
            sketch.add(names[np.logical_or.reduce([came[:, way] for way in ways])])

    # ── reading ─────────────────────────────────────────────────────────────────────────────────────────

    def __iter__(self) -> Iterator[tuple[Client, Entry]]:
        """Yield every client that is listed, in the order of names."""
        listed = {client_at(key): entry for key, entry in (self._table | self._latest).items()}
        yield from ((client, listed[client]) for client in sorted(listed))

    def __len__(self) -> int:
        return len(self._table.keys() | self._latest.keys())

    @property
    def days(self) -> Sequence[Day]:
        """Return the days, oldest first; the last one is not over."""
        return (*self._days, *([] if self._today is None else [self._today.ended()]))

    @property
    def complete_days(self) -> Sequence[Day]:
        """Return the days that are over and were watched, oldest first."""
        return tuple(day for day in self._days if day.was_watched)

    def watched_s(self, start: float, end: float) -> float:
        """Return for how long of [start, end), plan time, somebody watched."""
        if self.since is None or self.until is None:
            return 0.0
        start, end = max(start, self.since), min(end, self.until)
        dark = sum(max(0.0, min(end, stop) - max(start, begin)) for begin, stop in self._gaps)
        return max(0.0, end - start - dark)

    @property
    def quiet_before(self) -> float:
        """Return the plan time since which MOVED_S were watched: whose last call lies before it has been quiet."""
        end, left = self.until or 0.0, MOVED_S
        for begin, stop in reversed(self._gaps):
            if end - stop >= left:
                break
            left -= end - stop
            end = begin
        return end - left

    def standing(self, entry: Entry) -> Standing:
        """Tell where a client stands, as of the last tick that somebody watched."""
        to_v1, to_v2 = entry.last_by(TO_V1), entry.last[Way.ELSE_BY_V2]
        if to_v1 is None:
            return Standing.V2
        if to_v1 >= self.quiet_before:
            return Standing.V1
        return Standing.V2 if to_v2 is not None and to_v2 > to_v1 else Standing.SILENT

    def still_asks(self, entry: Entry) -> bool:
        """Tell whether a client asks for V1's own paths: it did, and has not come elsewhere since for a day."""
        asked = entry.last_by(ASKED)
        elsewhere = entry.last_by((Way.ELSE_BY_V1, Way.ELSE_BY_V2))
        return asked is not None and (asked >= self.quiet_before or elsewhere is None or elsewhere <= asked)

    # ── keeping ─────────────────────────────────────────────────────────────────────────────────────────

    def dump(self) -> bytes:
        """Return it as bytes; `load` gives an equal one back."""
        today = self._today
        held: dict[str, object] = {
            "format": FORMAT,
            "most": self._most,
            "since": self.since,
            "until": self.until,
            "floor": self.floor,
            "unnamed": self.unnamed,
            "gaps": self._gaps,
            "days": [[day.number, day.watched_s, day.requests, day.asking_v1, day.on_v1, day.on_v2, day.exact]
                     for day in self._days],
            "today": today and [today.number, today.watched_s, today.requests, [s.data() for s in today.sketches]],
            "table": list(map(_row, self._table.keys(), self._table.values())),
            "latest": [[*client_at(key)] if key in self._table else _row(key, entry)
                       for key, entry in self._latest.items()],
        }  # fmt: skip
        return zlib.compress(to_json(held), _PACKING)

    @classmethod
    def of(cls, held: Mapping[str, Any]) -> Ledger:
        """Return the ledger that `dump` packed; KeyError, TypeError or ValueError where it is none."""
        ledger = cls(held["most"])
        ledger.since, ledger.until = held["since"], held["until"]
        ledger.floor, ledger.unnamed = held["floor"], held["unnamed"]
        ledger._gaps = [(begin, end) for begin, end in held["gaps"]]
        for number, watched_s, requests, asking_v1, on_v1, on_v2, exact in held["days"]:
            ledger._days.append(
                Day(
                    number=number,
                    watched_s=watched_s,
                    requests=tuple(requests),
                    asking_v1=asking_v1,
                    on_v1=on_v1,
                    on_v2=on_v2,
                    exact=exact,
                )
            )
        if held["today"] is not None:
            number, watched_s, requests, sketches = held["today"]
            today = ledger._today = _Today(number)
            today.watched_s, today.requests = watched_s, requests
            asking, on_v1, on_v2 = map(Sketch.of, sketches)
            today.sketches = (asking, on_v1, on_v2)
        ledger._table = {key_of(Client(name, agent)): Entry(*rest) for name, agent, *rest in held["table"]}
        for name, agent, *rest in held["latest"]:
            key = key_of(Client(name, agent))
            ledger._latest[key] = Entry(*rest) if rest else ledger._table[key]
        return ledger


def load(data: bytes) -> Ledger:
    """Return the ledger that was dumped; ValueError where the bytes are none."""
    try:
        held = orjson.loads(zlib.decompress(data))
        if held["format"] != FORMAT:
            raise ValueError(f"ledger format {held['format']!r} is not {FORMAT}")
        return Ledger.of(held)
    except (KeyError, TypeError, IndexError, AttributeError, zlib.error) as error:
        raise ValueError(f"not a ledger: {error!r}") from None


def _places(hashed: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each different hash stands first, (k,), in this order, and which of these each hash is, (n,)."""
    order = np.argsort(hashed)
    ordered = hashed[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    first = np.minimum.reduceat(order, begins)
    is_first = np.zeros(len(hashed), dtype=np.bool_)
    is_first[first] = True
    rank = np.cumsum(is_first) - 1
    place = np.empty(len(hashed), dtype=np.int64)
    place[order] = np.repeat(rank[first], np.diff(np.append(begins, len(hashed))))
    return np.flatnonzero(is_first), place


def _largest(totals: NDArray[np.int64], most: int, floor: int) -> tuple[NDArray[np.bool_], int]:
    """Tell which of more than `most` totals are the largest, of equal ones the first, and how large others may be."""
    bar = int(np.partition(totals, len(totals) - most)[len(totals) - most])
    stays = totals > bar
    at_bar = np.flatnonzero(totals == bar)
    stays[at_bar[: most - int(np.count_nonzero(stays))]] = True
    return stays, max(floor, int(totals[~stays].max()))


def _row(key: bytes, entry: Entry) -> list[object]:
    name, agent = client_at(key) if b"%" in key or b"@" in key else (key.decode(), False)
    return [name, agent, entry.counts, entry.first, entry.last, entry.error]


def _sum(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return [a + b for a, b in zip(one, other, strict=True)]


def _hashed(key: bytes) -> bytes:
    if b"%" in key:
        client = client_at(key)
        return (b"@" if client.agent else b"=") + client.name.encode(errors="surrogatepass")
    return key if key.startswith(b"@") else b"=" + key

"""The evidence as one value, and its stored form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import orjson

from crossfade.core.evidence import pace
from crossfade.core.evidence.adoption import Adoption
from crossfade.core.evidence.collect import Pool, Regions
from crossfade.core.evidence.load import Load
from crossfade.core.evidence.noninferiority import ALTERNATIVES
from crossfade.core.evidence.outcomes import Pools, Waiting
from crossfade.core.evidence.pace import Pace
from crossfade.core.evidence.ratio import Floats
from crossfade.core.evidence.share import Share
from crossfade.core.evidence.streams import Layout, Streams, layout_of
from crossfade.core.evidence.sums import BINS
from crossfade.core.evidence.users import Counter, Failing
from crossfade.core.evidence.watch import Breaker, Fact, Silence, Told, Watch
from crossfade.core.plan import Plan

FORMAT = 3
_OTHER_BETS = 2
"""The format before, of other bets on promotion: what they won by then is not counted, the phase's bets begin anew."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """One metric's sums in this phase, as people count them: V1 and V2, requests (or answers) and bad ones."""

    n1: float = 0.0
    k1: float = 0.0
    n2: float = 0.0
    k2: float = 0.0
    units1: float = 0.0
    """Bad ones in the unit of the tests (distinct users per ten minutes for failures)."""
    units2: float = 0.0

    def fading(self, factor: float) -> Tally:
        """Return this times a factor."""
        return Tally(
            n1=self.n1 * factor,
            k1=self.k1 * factor,
            n2=self.n2 * factor,
            k2=self.k2 * factor,
            units1=self.units1 * factor,
            units2=self.units2 * factor,
        )

    def plus(self, other: Tally) -> Tally:
        """Return the sum."""
        return Tally(
            n1=self.n1 + other.n1,
            k1=self.k1 + other.k1,
            n2=self.n2 + other.n2,
            k2=self.k2 + other.k2,
            units1=self.units1 + other.units1,
            units2=self.units2 + other.units2,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvidenceState:
    """Everything that was learned from the ticks so far. A value: nothing changes it, functions return new ones."""

    layout: Layout
    phase: int
    phase_at: float
    """Plan time at which the phase was entered; ticks that began before it belong to no comparison."""
    streams: Streams
    failing: Failing = field(default_factory=Failing)
    regions: Regions = field(default_factory=Regions)
    pools: Mapping[tuple[int, str], Pool] = field(default_factory=dict)
    outcomes: Pools = field(default_factory=dict)
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    recent: Mapping[str, Tally] = field(default_factory=dict)
    """The same sums, fading within minutes: what is going on now."""
    latency_v1: Floats = field(default_factory=lambda: np.zeros(BINS))
    latency_v2: Floats = field(default_factory=lambda: np.zeros(BINS))
    """Answers of this phase by latency bin."""
    pace: Pace = field(default_factory=Pace)
    share: Share = field(default_factory=Share)
    breached_since: Mapping[str, float] = field(default_factory=dict)
    away: tuple[float, float | None] | None = None
    """Plan time at which the latest drill began and ended (None: not yet); its ticks belong to no comparison."""
    shown_at: Mapping[str, float] = field(default_factory=dict)
    """When a rollback guardrail was first shown breached in this phase: harm once shown stays shown."""
    watch: Watch


def dump(state: EvidenceState) -> bytes:
    """Return the state as JSON; `load` gives back a state that goes on bit by bit as this one would have.

    A stream takes 13 numbers. The only parts that grow are the sets of failing users.
    """
    streams, failing = state.streams, state.failing
    document = {
        "format": FORMAT,
        "phase": state.phase,
        "phase_at": state.phase_at,
        "streams": {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in ((name, getattr(streams, name)) for name in Streams.__slots__)
        },
        "failing": {
            "seen": failing.seen.items(),
            "hurt": [user for user, _ in failing.hurt.items()],
            "hurt_unknown": failing.hurt_unknown,
            "block": failing.block,
            "block_v1": sorted(failing.block_v1),
            "block_v2": sorted(failing.block_v2),
        },
        "regions": asdict(state.regions),
        "pools": [_dump_pool(key, pool) for key, pool in sorted(state.pools.items())],
        "outcomes": [[*key, waiting.since, *waiting.counts] for key, waiting in sorted(state.outcomes.items())],
        "tallies": {name: asdict(tally) for name, tally in state.tallies.items()},
        "recent": {name: asdict(tally) for name, tally in state.recent.items()},
        "latency_v1": state.latency_v1.tolist(),
        "latency_v2": state.latency_v2.tolist(),
        "pace": {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in ((name, getattr(state.pace, name)) for name in Pace.__slots__)
        },
        "share": {**_fields(state.share), "phase": {name: c.tolist() for name, c in state.share.phase.items()}},
        "breached_since": dict(state.breached_since),
        "shown_at": dict(state.shown_at),
        "away": state.away,
        "watch": asdict(state.watch),
    }
    return orjson.dumps(document)


def _dump_pool(key: tuple[int, str], pool: Pool) -> dict[str, Any]:
    return {
        "slot": key[0],
        "cohort": key[1],
        "since": pool.since,
        "requests": pool.requests,
        "counts": pool.counts.tolist(),
        "seen": pool.seen,
        "failed": pool.failed,
        "at": pool.at,
    }


def load(plan: Plan, stored: bytes) -> EvidenceState:
    """Return the state that `dump` stored; ValueError where it is none or belongs to another plan's streams."""
    try:
        document = orjson.loads(stored)
        if document["format"] not in (FORMAT, _OTHER_BETS):
            raise ValueError(f"evidence has format {document['format']}, this version reads {FORMAT}")
        state = _load(plan, document)
    except (KeyError, TypeError, IndexError, orjson.JSONDecodeError) as error:
        raise ValueError(f"this is no stored evidence of plan {plan.name}: {error!r}") from error
    if len(state.streams.harm) < state.layout.rows or len(state.streams.promote) != len(state.layout.compared):
        raise ValueError(f"the stored evidence has other streams than plan {plan.name} calls for")
    return state


def _load(plan: Plan, document: dict[str, Any]) -> EvidenceState:
    layout = layout_of(plan, document["phase"])
    failing, regions, watch = document["failing"], document["regions"], document["watch"]
    away = document.get("away")  # kept since drills are known
    streams: dict[str, Any] = {
        name: np.array(value, dtype=np.float64) if isinstance(value, list) else value
        for name, value in document["streams"].items()
    }
    if document["format"] == _OTHER_BETS:
        streams["promote"] = np.zeros(len(layout.compared) * ALTERNATIVES)
    widths = {"promote": ALTERNATIVES, "profile": 33, "best": 13, "onset": 13, "harm": 13, "heights": 3}
    for name, empty in widths.items():
        streams[name] = streams[name].reshape(-1, empty)  # a list without rows has lost its width
    return EvidenceState(
        layout=layout,
        phase=document["phase"],
        phase_at=document["phase_at"],
        streams=Streams(**streams),
        failing=Failing(
            seen=Counter(dict(failing["seen"])),
            hurt=Counter(dict.fromkeys(failing["hurt"], 1)),
            hurt_unknown=failing["hurt_unknown"],
            block=failing["block"],
            block_v1=frozenset(failing["block_v1"]),
            block_v2=frozenset(failing["block_v2"]),
        ),
        regions=Regions(slots=tuple(regions["slots"]), candidates=regions["candidates"], requests=regions["requests"]),
        pools={(pool["slot"], pool["cohort"]): _load_pool(pool) for pool in document["pools"]},
        outcomes={
            (measure, cohort): Waiting(since, (n1, k1, n2, k2))
            for measure, cohort, since, n1, k1, n2, k2 in document["outcomes"]
        },
        tallies={name: Tally(**tally) for name, tally in document["tallies"].items()},
        recent={name: Tally(**tally) for name, tally in document["recent"].items()},
        latency_v1=np.array(document["latency_v1"], dtype=np.float64),
        latency_v2=np.array(document["latency_v2"], dtype=np.float64),
        pace=_load_pace(document["pace"]),
        share=_load_share(document["share"]),
        breached_since=document["breached_since"],
        shown_at=document["shown_at"],
        away=None if away is None else (away[0], away[1]),
        watch=_load_watch(watch),
    )


def _load_pace(stored: dict[str, Any]) -> Pace:
    fields: dict[str, Any] = {
        name: np.array(value, dtype=np.float64) if isinstance(value, list) else value for name, value in stored.items()
    }
    return pace.reread(Pace(**fields))


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__slots__}


def _load_share(stored: dict[str, Any]) -> Share:
    phase = {name: np.array(counts, dtype=np.float64) for name, counts in stored["phase"].items()}
    return Share(**{**stored, "phase": phase})


def _load_pool(pool: dict[str, Any]) -> Pool:
    return Pool(
        since=pool["since"],
        requests=(pool["requests"][0], pool["requests"][1]),
        counts=np.array(pool["counts"], dtype=np.float64),
        seen=(pool["seen"][0], pool["seen"][1]),
        failed=tuple((one, two) for one, two in pool["failed"]),
        at=pool["at"],
    )


def _load_watch(watch: dict[str, Any]) -> Watch:
    plain = dict(watch)
    plain["gap"] = tuple(watch["gap"]) if watch["gap"] is not None else None
    if "load" in watch:  # kept since drills are known
        plain["load"] = Load(**{**watch["load"], "recent": tuple(watch["load"]["recent"])})
    if "adoption" in watch:  # kept since its gate is known
        plain["adoption"] = Adoption(**watch["adoption"])
    plain["v1"], plain["v2"] = Silence(**watch["v1"]), Silence(**watch["v2"])
    plain["facts"] = {name: Fact(**fact) for name, fact in watch["facts"].items()}
    plain["outcomes"] = {name: Told(**told) for name, told in watch["outcomes"].items()}
    plain["breakers"] = {name: Breaker(**breaker) for name, breaker in watch["breakers"].items()}
    return Watch(**plain)

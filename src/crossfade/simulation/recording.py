"""Recordings: a rollout's ticks and what happened to it, as lines of JSON. The first line is the header.

    {"crossfade": "recording", "format": 1, "rollout": ..., "history": [...], "phases": [...]}
    {"format": 1, "number": 170000, "cells": [...], "revision": 2, "previous": 169999, "looked": [at, due], ...}

A tick's line is the tick as the store keeps it, with the revision of the history at which it was absorbed, the number
of the tick absorbed before it, when a decision was made on it, and the windows of requests that were grossly bad after
it. People and proxy nodes are left out of the history; users are the keyed hashes that the ticks hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import orjson

from crossfade.core import events as e
from crossfade.core.evidence.codec import decode_tick, encode_tick
from crossfade.core.evidence.sums import BINS, HUNDREDTHS, Cell, Tick
from crossfade.core.jsonable import to_json
from crossfade.core.look import KeptTick
from crossfade.core.rollout import Rollout, evolve
from crossfade.core.split import BUCKETS, Split
from crossfade.errors import ConflictError, UsageError

FORMAT = 1
_MOST = 2**53
"""No count is above it: numbers that a float holds exactly."""
_LATEST = 1e11
"""No time is after it: the year 5138."""
PERSON = "a person"

_TOLD = (
    e.RolloutStarted,
    e.ControllerStarted,
    e.PhasePromoted,
    e.SplitApplied,
    e.GateApproved,
    e.RehearsalRecorded,
    e.PeakLoadRecorded,
    e.Paused,
    e.Resumed,
    e.DrillStarted,
    e.DrillPassed,
    e.DrillFailed,
    e.RolledBack,
    e.Retried,
    e.Aborted,
    e.RolloutCompleted,
)
"""What a recording tells of a history; holds, alerts and drift are the engine's own affairs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Happened:
    """One event of the recorded rollout."""

    revision: int
    event: e.Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A time in which users had one split."""

    revision: int
    """Of the event that it begins with."""
    at: float
    phase: str
    """Name of the recorded rollout's phase; empty where everyone was on V1."""
    split: Split | None
    """None: the proxy never confirmed one, or everyone was on V1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The first line."""

    rollout: str
    plan: str
    """Digest of the plan it was carried out from."""
    tick_s: float
    lateness_s: float
    """Plan seconds after a tick's end at which decisions were made on it."""
    last_tick: int
    from_phase: str | None = None
    """Ticks from before this phase was first entered were left out."""
    history: tuple[Happened, ...]

    def segments(self) -> list[Segment]:
        """Return the splits that users had, in order."""
        result: list[Segment] = []
        confirmed = [h for h in self.history if isinstance(h.event, e.SplitApplied)]
        moves = [h for h in self.history if isinstance(h.event, (e.RolloutStarted, e.PhasePromoted, e.Retried))]
        ends = [*(move.revision for move in moves[1:]), math.inf]
        for move, end in zip(moves, ends, strict=True):
            after = (h.event for h in confirmed if move.revision < h.revision < end)
            applied = next((split for split in after if isinstance(split, e.SplitApplied) and not split.killed), None)
            split = None if applied is None else Split(everyone=applied.everyone, cohorts=applied.cohorts)
            name = move.event.phase if isinstance(move.event, e.RolloutStarted) else getattr(move.event, "name", "")
            result.append(Segment(revision=move.revision, at=move.event.at, phase=str(name), split=split))
        rolled_back = [h for h in self.history if isinstance(h.event, e.RolledBack)]
        result += [Segment(revision=h.revision, at=h.event.at, phase="", split=None) for h in rolled_back]
        return sorted(result, key=lambda segment: segment.revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Requests that were grossly bad, and when that was seen."""

    at: float
    tick: Tick


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedTick:
    """One line after the header."""

    kept: KeptTick
    looked: tuple[float, float] | None = None
    """When a decision was first made on it, and up to when requests were taken to have arrived."""
    windows: tuple[Window, ...] = ()


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────


def told(history: Iterable[Happened]) -> tuple[Happened, ...]:
    """Return what a recording tells of a history: no names of people or nodes, nor what people wrote."""
    return tuple(
        Happened(revision=h.revision, event=_anonymous(h.event)) for h in history if isinstance(h.event, _TOLD)
    )


def _anonymous(event: e.Event) -> e.Event:
    if isinstance(event, (e.RolledBack, e.DrillPassed, e.DrillFailed)):
        event = replace(event, nodes={})
    if isinstance(event, (e.RehearsalRecorded, e.PeakLoadRecorded)):
        event = replace(event, sentence="")
    if not getattr(event, "by", ""):
        return event
    changes: dict[str, Any] = {"by": PERSON}
    if hasattr(event, "reason"):
        changes["reason"] = ""
    return replace(event, **changes)


def header_line(header: Header) -> bytes:
    """Return the first line, newline included."""
    segments = header.segments()
    phases = [
        {
            "name": segment.phase,
            "entered": segment.at,
            "left": following.at if following is not None else None,
            "split": None
            if segment.split is None
            else {"everyone": segment.split.everyone, "cohorts": dict(segment.split.cohorts)},
        }
        for segment, following in pairwise([*segments, None])
        if segment is not None and segment.phase
    ]
    data = {
        "crossfade": "recording",
        "format": FORMAT,
        "rollout": header.rollout,
        "plan": header.plan,
        "tick_s": header.tick_s,
        "lateness_s": header.lateness_s,
        "last_tick": header.last_tick,
        "from_phase": header.from_phase,
        "phases": phases,
        "history": [
            {"revision": h.revision, "at": h.event.at, "kind": type(h.event).__name__, "data": e.to_data(h.event)}
            for h in header.history
        ],
    }
    return to_json(data) + b"\n"


def tick_line(recorded: RecordedTick) -> bytes:
    """Return a tick's line, newline included."""
    kept = recorded.kept
    more: dict[str, object] = {"revision": kept.revision, "previous": kept.previous, "looked": recorded.looked}
    if recorded.windows:
        more["windows"] = [{"at": w.at, "tick": orjson.loads(encode_tick(w.tick))} for w in recorded.windows]
    return encode_tick(kept.tick)[:-1] + b"," + to_json(more)[1:] + b"\n"


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────


def read_recording(name: str, lines: Iterable[bytes]) -> tuple[Header, Iterator[RecordedTick]]:
    """Return a recording's header and its ticks, read as they are asked for; `name` is the file's, for messages.

    Raises UsageError with file and line where the file is no recording, is damaged or was cut off; of the ticks'
    lines, while they are read.
    """
    rest = iter(lines)
    try:
        header = _header(next(rest, b""))
    except (ValueError, ConflictError) as error:
        raise UsageError(f"{name}:1: {error}; a recording is what `crossfade export ticks` writes") from None
    return header, _ticks(name, header, rest)


def _header(line: bytes) -> Header:
    try:
        held = orjson.loads(line)
    except orjson.JSONDecodeError:
        held = None
    if not isinstance(held, dict) or held.get("crossfade") != "recording":
        raise ValueError("this is not the header of a recording")
    if held.get("format") != FORMAT:
        raise ValueError(f"the recording has format {held.get('format')!r}, this version reads {FORMAT}")
    try:
        header = Header(
            rollout=str(held["rollout"]),
            plan=str(held["plan"]),
            tick_s=_positive(held["tick_s"]),
            lateness_s=_number(held["lateness_s"]),
            last_tick=int(held["last_tick"]),
            from_phase=held["from_phase"],
            history=tuple(_happened(entry) for entry in held["history"]),
        )
        _check_history(header)
        header.segments()
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the header is damaged: {error!r}") from None
    return header


def _happened(entry: Mapping[str, Any]) -> Happened:
    kind, at = entry["kind"], _time(entry["at"])
    if kind not in e.KINDS:
        raise ValueError(f"the history has a {kind}, which this version does not know")
    event = e.from_data(kind, at, entry["data"])
    _positive(getattr(event, "speed", 1.0))
    if isinstance(event, e.SplitApplied):
        shares = [event.everyone, *event.cohorts.values()]
        if not all(isinstance(share, int) and 0 <= share <= BUCKETS for share in shares):
            raise ValueError(f"no split has shares of {shares} basis points")
    return Happened(revision=int(entry["revision"]), event=event)


def _check_history(header: Header) -> None:
    """Raise ConflictError where the history can't have happened, ValueError where it has no beginning."""
    rollout, last = Rollout(name=header.rollout), 0
    if not header.history or not isinstance(header.history[0].event, e.RolloutStarted):
        raise ValueError("the history does not begin with the rollout's start")
    for happened in header.history:
        if happened.revision <= last:
            raise ValueError(f"event {happened.revision} of the history comes after event {last}")
        rollout, last = evolve(rollout, happened.event), happened.revision


def _ticks(name: str, header: Header, lines: Iterator[bytes]) -> Iterator[RecordedTick]:
    last: int | None = None
    number = 1
    for number, line in enumerate(lines, start=2):
        try:
            recorded = _tick(line)
            found = recorded.kept.tick.number
            if last is not None and found <= last:
                raise ValueError(f"tick {found} comes after tick {last}; ticks are in the order of their numbers")
        except ValueError as error:
            cut = "" if line.endswith(b"\n") else "; the file seems to be cut off"
            raise UsageError(f"{name}:{number}: {error}{cut}; export it again") from None
        last = found
        yield recorded
    if last is None or last < header.last_tick:
        had = "no tick at all" if last is None else f"tick {last}"
        raise UsageError(
            f"{name}:{number}: the recording ends with {had}, its header promises ticks up to {header.last_tick}: "
            "it was cut off; export it again"
        )


def _tick(line: bytes) -> RecordedTick:
    tick = decode_tick(line)
    check_tick(tick)
    if abs(tick.start / tick.length - tick.number) > 1:
        raise ValueError(f"tick {tick.number} of {tick.length:g} s can't start at {tick.start:g}")
    held = orjson.loads(line)
    try:
        looked = held["looked"]
        return RecordedTick(
            kept=KeptTick(tick=tick, revision=_whole(held["revision"]), previous=_whole(held["previous"])),
            looked=None if looked is None else (_time(looked[0]), _time(looked[1])),
            windows=tuple(_window(entry) for entry in held.get("windows", ())),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"not a recorded tick: {error!r}") from None


def _window(entry: Mapping[str, Any]) -> Window:
    tick = decode_tick(orjson.dumps(entry["tick"]))
    check_tick(tick)
    return Window(at=_time(entry["at"]), tick=tick)


def check_tick(tick: Tick) -> None:
    """Raise ValueError where a tick holds what no collector sums up."""
    _whole(tick.number)
    _time(tick.start)
    _positive(tick.length)
    _counts("lost and malformed", (tick.lost, tick.malformed))
    if not all(isinstance(source, str) for source in tick.sources):
        raise ValueError("a source's name is text")
    for arm, cell in tick.cells.items():
        if not (isinstance(arm.region, str) and isinstance(arm.cohort, str) and isinstance(arm.override, bool)):
            raise ValueError(f"{arm[1:]!r} is not region, cohort and override")
        _check_cell(cell)


def _check_cell(cell: Cell) -> None:
    parts = (cell.failures, cell.critical, cell.fallbacks, cell.cached)
    _counts("requests", (cell.requests, cell.asked_v1, *parts))
    if max(parts) > cell.requests:
        raise ValueError(f"of {cell.requests} requests {max(parts)} can't have failed or come from a cache")
    for counts, size in ((cell.latency, BINS), (cell.latency_cached, BINS), (cell.hundredths, HUNDREDTHS)):
        _counts("a histogram", (*counts.keys(), *counts.values()))
        if max(counts, default=0) >= size:
            raise ValueError(f"a histogram of {size} bins has no bin {max(counts)}")
    _counts("the hashes of users", cell.failing_users, most=2**64)
    for values in cell.facts.values():
        _counts("answers by fact", values.values())
        if not all(isinstance(value, str) for value in values):
            raise ValueError("a fact's value is text")
    for count, total in (*cell.timings.values(), *cell.outcomes.values()):
        _counts("answers by fact", (count,))
        _number(total)


def _counts(what: str, values: Iterable[object], most: int = _MOST) -> None:
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise ValueError(f"{what} are whole numbers from 0 on, not {value!r}")


def _whole(value: object) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _number(value: object) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) <= _MOST:
        raise ValueError(f"{value!r} is not a number that a tick can hold")
    return value


def _time(value: object) -> float:
    at = _number(value)
    if not 0 <= at <= _LATEST:
        raise ValueError(f"{at:g} is not a time in seconds since 1970")
    return at


def _positive(value: object) -> float:
    number = _number(value)
    if number <= 0:
        raise ValueError(f"a length is above 0, not {number:g}")
    return number


def recorded_history(events: Sequence[e.Event]) -> list[Happened]:
    """Return a whole history, numbered as the store numbers it."""
    return [Happened(revision=revision, event=event) for revision, event in enumerate(events, start=1)]

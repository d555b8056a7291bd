"""The question of a trip search: parsed and checked, or a problem that names every wrong field."""

from __future__ import annotations

import calendar
import re
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from urllib.parse import parse_qsl

from tripsearch.airports import Airport, airports
from tripsearch.problem import FieldProblem, ProblemError

SCHEDULE_YEAR = 2013
"""The year the schedule was taken from; it is served for every year by month and day."""

_QUERY_BYTES_MAX = 2048
_FIELDS_MAX = 32
_VALUE_SHOWN = 64
_IATA = re.compile(r"[A-Za-z]{3}\Z", re.ASCII)
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z", re.ASCII)
_NAMES = ("from", "to", "date")
_EXAMPLE = "for example ?from=JFK&to=LAX&date=2026-03-05"


@dataclass(frozen=True, slots=True)
class Search:
    """A valid question."""

    origin: Airport
    destination: Airport
    date: date

    @property
    def schedule_day(self) -> int:
        """The day of 2013 whose schedule is served, from 1 to 365."""
        return schedule_date(self.date).timetuple().tm_yday


def schedule_date(day: date) -> date:
    """The same month and day in the schedule's year; 29 February becomes 28 February."""
    last = calendar.monthrange(SCHEDULE_YEAR, day.month)[1]
    return date(SCHEDULE_YEAR, day.month, min(day.day, last))


@lru_cache(maxsize=8192)
def parse(query: bytes) -> Search:
    """The search in a raw query string. Names beyond from, to and date are ignored.

    Raises ProblemError 400 when a field is missing, doubled or malformed, 404 when a code is well formed and no airport
    has it.
    """
    fields = _fields(query)
    problems: list[FieldProblem] = []
    values = {name: _single(name, fields, problems) for name in _NAMES}
    for name in ("from", "to"):
        code = values[name]
        if code is not None and not _IATA.match(code):
            problems.append(_wrong(name, code, "is no IATA code: three letters such as JFK"))
    day = _day(values["date"], problems)
    if problems or day is None:
        problems.sort(key=lambda p: _NAMES.index(p.field))
        wrong = "; ".join(f"{p.field} {p.message}" for p in problems)
        raise ProblemError(400, f"{wrong}; {_EXAMPLE}", tuple(problems))

    origin, destination = (_airport(values[name] or "", name, problems) for name in ("from", "to"))
    if origin is None or destination is None:
        raise ProblemError(404, "; ".join(f"{p.field} {p.message}" for p in problems), tuple(problems))
    if origin == destination:
        same = _wrong("to", destination.iata, f"is the same airport as from; name another than {origin.iata}")
        raise ProblemError(400, f"to {same.message}", (same,))
    return Search(origin=origin, destination=destination, date=day)


def _fields(query: bytes) -> dict[str, list[str]]:
    if len(query) > _QUERY_BYTES_MAX:
        raise ProblemError(400, f"the query has {len(query)} bytes; at most {_QUERY_BYTES_MAX} are read, {_EXAMPLE}")
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="replace")
    except UnicodeDecodeError:
        raise ProblemError(400, f"the query has bytes outside ASCII; percent-encode them, {_EXAMPLE}") from None
    except ValueError:
        raise ProblemError(400, f"the query has more than {_FIELDS_MAX} fields, {_EXAMPLE}") from None
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def _single(name: str, fields: dict[str, list[str]], problems: list[FieldProblem]) -> str | None:
    values = fields.get(name, [])
    right = "an ISO date such as 2026-03-05" if name == "date" else "a IATA code such as JFK"
    if not values or values == [""]:
        problems.append(FieldProblem(field=name, message=f"is missing; give {right}"))
        return None
    if len(values) > 1:
        problems.append(_wrong(name, ", ".join(values), f"is given {len(values)} times; give it once, {right}"))
        return None
    return values[0]


def _day(text: str | None, problems: list[FieldProblem]) -> date | None:
    if text is None:
        return None
    if not _ISO_DATE.match(text):
        problems.append(_wrong("date", text, "is no ISO date: year-month-day such as 2026-03-05"))
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        problems.append(_wrong("date", text, "is no day of the calendar; give one such as 2026-03-05"))
        return None


def _airport(code: str, name: str, problems: list[FieldProblem]) -> Airport | None:
    found = airports().get(code.upper())
    if found is None:
        problems.append(_wrong(name, code, f"{code.upper()} is the IATA code of no known airport"))
    return found


def _wrong(field: str, value: str, message: str) -> FieldProblem:
    # A lone surrogate can't be JSON.
    shown = value[:_VALUE_SHOWN].encode("utf-8", "replace").decode()
    return FieldProblem(field=field, message=message, value=shown)

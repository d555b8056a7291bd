"""The headers that tell of V1's end, read by grammars that are not ours: whatever these don't allow raises."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any

import http_sf

# RFC 9110, section 5.6.7
IMF_FIXDATE = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} "
    r"[0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)
# RFC 3986 (characters of a URI reference), RFC 9110 (token, quoted-string, lists), RFC 8288, section 3
_URI = r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+"
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
_PARAMETER = rf"[ \t]*;[ \t]*({_TOKEN})[ \t]*=[ \t]*({_TOKEN}|{_QUOTED})"
_LINK = re.compile(rf"<({_URI})>((?:{_PARAMETER})*)[ \t]*")
_RELATION = re.compile(r"[a-z][a-z0-9.-]*")


def _parsed(text: str, kind: str) -> Any:
    return http_sf.parse(text.encode("ascii"), tltype=kind)


@dataclass(frozen=True, slots=True)
class Absence:
    """One brownout, as announced."""

    at: datetime
    until: datetime
    share: Decimal


def deprecation(text: str) -> datetime:
    """Return the date of a `Deprecation` (RFC 9745: an Item that is a Date, RFC 9651)."""
    value, parameters = _parsed(text, "item")
    assert isinstance(value, datetime), text
    assert parameters == {}, text
    return value


def sunset(text: str) -> datetime:
    """Return the date of a `Sunset` (RFC 8594: an HTTP-date, written as IMF-fixdate)."""
    assert IMF_FIXDATE.fullmatch(text), text
    at = parsedate_to_datetime(text)
    assert format_datetime(at.astimezone(UTC), usegmt=True) == text  # the day of the week is that of the date
    return at


def links(text: str) -> dict[str, str]:
    """Return the targets of a `Link` (RFC 8288) by relation type; each relation once."""
    found: dict[str, str] = {}
    at = 0
    while True:
        value = _LINK.match(text, at)
        assert value is not None, text[at:]
        parameters = [(name, written.strip('"')) for name, written in re.findall(_PARAMETER, value[2])]
        (relation,) = [written for name, written in parameters if name == "rel"]
        assert _RELATION.fullmatch(relation), relation
        assert relation not in found, relation
        found[relation] = value[1]
        at = value.end()
        if at == len(text):
            return found
        assert text[at] == ",", text[at:]
        at += 1 + len(text[at + 1 :]) - len(text[at + 1 :].lstrip(" \t"))


def brownouts(text: str) -> list[Absence]:
    """Return what a `Brownout` announces: a List of Dates (RFC 9651) with their parameters."""
    found = []
    for value, parameters in _parsed(text, "list"):
        assert isinstance(value, datetime), text
        assert set(parameters) == {"until", "share"}, text
        found.append(Absence(value, parameters["until"], parameters["share"]))
    return found

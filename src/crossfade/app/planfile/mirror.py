"""The `mirror` section: what of V2's answers must be as V1's, and how many questions are asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from crossfade.app.planfile import quantities
from crossfade.app.planfile.fields import Field, Section
from crossfade.core.mirror.paths import is_path
from crossfade.core.mirror.rules import BODY, HEADER, STATUS, Bound, Expected, Mirror, Reference

MIRROR_KEYS = (
    "must_match",
    "ignore",
    "unordered",
    "headers",
    "send",
    "with",
    "mask",
    "bounds",
    "reference",
    "limit",
    "rate",
)
REFERENCE_KEYS = ("get", "fields")
RATE_MAX = 1000.0
_ITEMS_MAX = 200
_HEADER = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,128}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{1,1000}")
_NUMBER = re.compile(r"-?[0-9]{1,12}(?:\.[0-9]{1,9})?")
_WITHIN = re.compile(r"(.+?)(?: within ([0-9]{1,9}(?:\.[0-9]{1,9})?))?")
_PLACEHOLDER = re.compile(r"\{[A-Za-z0-9_.-]{1,64}\}")
_EXAMPLE_FIELDS = "{weather.temperature_c.mean: temperature_c.mean within 0.5}"


def read_mirror(field: Field | None) -> Mirror | None:
    """Return the section; None where it is left out or wrong."""
    section = field.section(MIRROR_KEYS, "{must_match: [flights, hotels]}") if field else None
    if section is None:
        return None
    usual = Mirror()
    return Mirror(
        must_match=_texts(section, "must_match", "[flights, hotels]", _any_path),
        ignore=_texts(section, "ignore", "[meta.generated_at]", _any_path),
        unordered=_unordered(section.get("unordered")),
        headers=_texts(section, "headers", "[Content-Type]", _header, usual.headers),
        send=_texts(section, "send", "[Accept, X-Region]", _header, usual.send),
        with_headers=_with(section.get("with")),
        mask=_texts(section, "mask", "[passport]", _name),
        bounds=_bounds(section.get("bounds")),
        reference=_reference(section.get("reference")),
        limit=section.parse("limit", _limit, usual.limit),
        rate=section.parse("rate", mirror_rate, usual.rate),
    )


def mirror_rate(text: str) -> float:
    """Return questions per second."""
    value = quantities.rate(text)
    if value > RATE_MAX:
        raise ValueError(f"{text} is no sample any more; write {RATE_MAX:,.0f}/s at most, such as 20/s")
    return value


def _texts(
    section: Section, key: str, example: str, read: Callable[[str], str], usual: tuple[str, ...] = ()
) -> tuple[str, ...]:
    field = section.get(key)
    if field is None:
        return usual
    items = field.items(example)
    if len(items) > _ITEMS_MAX:
        field.problem(f"are {len(items)}; {_ITEMS_MAX} are enough, and a path names everything below it")
    found = (item.parse(read) for item in items)
    return tuple(dict.fromkeys(text for text in found if text is not None))


def _unordered(field: Field | None) -> dict[str, str]:
    found = {}
    for name, key, value in field.named("{flights: flight}") if field else ():
        path, by = _key_path(name, key), value.text()
        if path and by:
            found[path] = by
    return found


def _with(field: Field | None) -> dict[str, str]:
    found = {}
    for name, key, value in field.named("{Accept: application/json}") if field else ():
        text = value.text()
        if not _HEADER.fullmatch(name):
            key.problem(f"{name!r} is no name of a header; write one such as Accept")
        elif text and not _HEADER_VALUE.fullmatch(text):
            value.problem("is no value of a header; write one line of plain signs")
        elif text:
            found[name] = text
    return found


def _bounds(field: Field | None) -> tuple[Bound, ...]:
    found = []
    for name, key, value in field.named("{weather.temperature_c: [-60, 60]}") if field else ():
        path = _key_path(name, key)
        items = value.items("[-60, 60]")
        ends = [item.parse(_number) for item in items]
        if items and len(ends) != 2:
            value.problem(f"are {len(ends)} numbers; write the least and the greatest, such as [-60, 60]")
        elif path and len(ends) == 2 and ends[0] is not None and ends[1] is not None:
            if ends[0] >= ends[1]:
                value.problem(f"{ends[0]:g} is not below {ends[1]:g}; write the least first, such as [-60, 60]")
            else:
                found.append(Bound(path=path, low=ends[0], high=ends[1]))
    return tuple(found)


def _reference(field: Field | None) -> Reference | None:
    section = field.section(REFERENCE_KEYS, f"{{get: http://..., fields: {_EXAMPLE_FIELDS}}}") if field else None
    if section is None:
        return None
    get = section.require("get", '"http://127.0.0.1:8103/observed?airport={to}&date={date}"')
    url = get.parse(_url) if get else None
    fields = section.require("fields", _EXAMPLE_FIELDS)
    found = []
    for name, key, value in fields.named(_EXAMPLE_FIELDS) if fields else ():
        path, said = _key_path(name, key), value.parse(_expected)
        if path and said:
            found.append(Expected(path=path, reference=said[0], within=said[1]))
    return Reference(url=url, fields=tuple(found)) if url and found else None


def _key_path(name: str, key: Field) -> str:
    if not is_path(name):
        key.problem(f"{name!r} is no path of a field; write one such as flights or hotels[].night_usd")
        return ""
    return name


def _any_path(text: str) -> str:
    """Return the path of a field, of the status, the body or a header, as differences are told."""
    if text.lower().startswith(HEADER) and _HEADER.fullmatch(text[len(HEADER) :]):
        return text.lower()
    if text not in (STATUS, BODY) and not is_path(text):
        raise ValueError(
            f"{text!r} is no path of a field; write one such as flights, hotels[].night_usd, "
            f"`{STATUS}` or `header Content-Type`"
        )
    return text


def _header(text: str) -> str:
    if not _HEADER.fullmatch(text):
        raise ValueError(f"{text!r} is no name of a header; write one such as Content-Type")
    return text.lower()


def _name(text: str) -> str:
    if not re.search(r"[A-Za-z0-9]", text) or len(text) > 64:
        raise ValueError(f"{text!r} is no name that values could be kept from; write one such as passport")
    return text


def _number(text: str) -> float:
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text!r} is no number; write one such as -60 or 0.5")
    return float(text)


def _limit(text: str) -> float:
    value = quantities.share(text)
    if not 0.00001 <= value <= 0.5:
        raise ValueError(f"{text} is no limit of differences; write 0.001% to 50%, such as 0.1%")
    return value


def _expected(text: str) -> tuple[str, float]:
    found = _WITHIN.fullmatch(" ".join(text.split()))
    if not found or not is_path(found[1]):
        raise ValueError(
            f"{text!r} is no field of the reference; write its path and how near, such as temperature_c.mean within 0.5"
        )
    return found[1], float(found[2] or 0)


def _url(text: str) -> str:
    plain = _PLACEHOLDER.sub("x", text)
    try:
        parts = urlsplit(plain)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
        _ = parts.port
    except ValueError:
        good = False
    if not good or re.search(r"[\s<>\"{}]", plain):
        raise ValueError(
            f"{text!r} is no URL to ask; write such as http://127.0.0.1:8103/observed?airport={{to}}&date={{date}}"
        )
    return text

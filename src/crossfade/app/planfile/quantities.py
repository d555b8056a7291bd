"""Text to numbers and names: each function returns the value, or raises ValueError saying what would be right."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from datetime import UTC, datetime
from string import Template
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from crossfade.core.plan import DAY, HOUR, MINUTE, WEEK, Key, KeySource
from crossfade.core.split import BUCKETS

_NUMBER = r"[0-9]{1,9}(?:\.[0-9]{1,9})?"
_PERCENT = re.compile(rf"({_NUMBER}) ?%")
_PLAIN = re.compile(_NUMBER)
_DURATION = re.compile("".join(rf"(?:({_NUMBER}){unit} ?)?" for unit in "wdhms"))
_MILLISECONDS = re.compile(rf"({_NUMBER}) ?(ms|s)")
_RATE = re.compile(rf"({_NUMBER}) ?/ ?s")
_WHOLE = re.compile(r"0|[1-9][0-9]{0,11}")
_SECONDS = (WEEK, DAY, HOUR, MINUTE, 1.0)
_YEAR = 366 * DAY
_TOKEN = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,128}")
_HOST = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~@:+,=-]+)*/?")
_MAX_QUERY = 2000
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?: ?(Z|[+-][0-9]{2}:[0-9]{2})| ([A-Z][A-Za-z0-9_+/-]{1,63}))?)?"
)
_LINK = re.compile(r"(?=.{1,1000}$)(?:https?://[A-Za-z0-9\[]|/(?!/))[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*")
_BEARER = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}")
_SECRET = re.compile(r"[A-Za-z0-9._~+/=-]{16,256}")


def share(text: str) -> float:
    """Return a share of 1, written as `0.5%` or `0.005`."""
    if match := _PERCENT.fullmatch(text):
        value = float(match[1]) / 100
    elif _PLAIN.fullmatch(text):
        value = float(text)
        if value > 1:
            raise ValueError(f"{text} is no share; write {text}% or a fraction of 1")
    else:
        raise ValueError(f"{text!r} is no share; write a percentage such as 0.5%")
    if value > 1:
        raise ValueError(f"{text} is more than everything; write at most 100%")
    return value


def multiple(text: str) -> float:
    """Return how many times another value, written as `95%` or `1.2`: 0.01 to 100."""
    match = _PERCENT.fullmatch(text)
    if not match and not _PLAIN.fullmatch(text):
        raise ValueError(f"{text!r} says not how much of V1's value; write 95% of v1 or 1.2 times v1")
    value = float(match[1]) / 100 if match else float(text)
    if not 0.01 <= value <= 100:
        raise ValueError(f"{text} of V1's value is never met or always; write 1% to 10000%, such as 95% of v1")
    return value


def basis_points(text: str) -> int:
    """Return a share of users in hundredths of a percent, written as `5%`."""
    match = _PERCENT.fullmatch(text)
    if not match:
        hint = f"{text}%" if _WHOLE.fullmatch(text) else "a percentage such as 5%"
        raise ValueError(f"{text!r} is no share of users; write {hint}")
    points = round(float(match[1]) * 100, 6)
    if points > BUCKETS:
        raise ValueError(f"{text} is more than everybody; write at most 100%")
    if points != int(points):
        raise ValueError(f"{text} is finer than 0.01%; write {round(points) / 100:g}%")
    return int(points)


def duration(text: str) -> float:
    """Return seconds, written as `30s`, `5m`, `24h`, `3d`, `1w` or `1w 2d`."""
    match = _DURATION.fullmatch(text)
    if not match or not any(match.groups()):
        raise ValueError(f"{text!r} is no duration; write numbers with s, m, h, d or w, such as 30s, 24h, 3d, 1w 2d")
    return sum(float(part) * size for part, size in zip(match.groups(), _SECONDS, strict=True) if part)


def positive_duration(text: str) -> float:
    """Return seconds, more than none and at most a year."""
    seconds = duration(text)
    if seconds <= 0:
        raise ValueError(f"{text} is no time at all; write how long, such as 1d")
    if seconds > _YEAR:
        raise ValueError(f"{text} is more than a year; write a shorter time, such as 1w")
    return seconds


def unattended(text: str) -> float:
    """Return seconds that a proxy may be on its own: from 5 s, which starting a controller again takes, to a week."""
    seconds = duration(text)
    if not 5 <= seconds <= WEEK:
        raise ValueError(f"{text} is no time to be without a controller; write 5s to 1w, such as 10m")
    return seconds


def rate(text: str) -> float:
    """Return requests per second, written as `400/s`; more than none."""
    match = _RATE.fullmatch(text)
    if not match or float(match[1]) <= 0:
        raise ValueError(f"{text!r} is no rate; write how many requests a second, such as 400/s")
    return float(match[1])


def milliseconds(text: str) -> float:
    """Return milliseconds, written as `300ms` or `1.2s`."""
    match = _MILLISECONDS.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no response time; write 300ms or 1.2s")
    return float(match[1]) * (1000 if match[2] == "s" else 1)


def whole(text: str) -> int:
    """Return a whole number from 0, written in plain digits."""
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"{text!r} is no whole number; write plain digits without a leading 0, such as 2000")
    return int(text)


def count(text: str) -> float:
    """Return a count, as the number that limits are kept in."""
    return float(whole(text))


def users(text: str) -> int:
    """Return a number of users, at least one; `about 100` is 100."""
    number = whole(text.removeprefix("about ").strip())
    if number == 0:
        raise ValueError("0 users are nobody; write how many there are, such as 2000")
    return number


def margin(text: str) -> float:
    """Return how many times V1's rate V2 must be shown to be below: more than 1, at most 100."""
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"{text!r} is no margin; write how many times V1's rate is still good enough, such as 1.5")
    value = float(text)
    if value <= 1:
        raise ValueError(f"{text} is no room at all, equal versions never show it; write more than 1, such as 1.5")
    if value > 100:
        raise ValueError(f"{text} lets through everything; write at most 100, such as 2")
    return value


def error_probability(text: str) -> float:
    """Return a probability of deciding wrongly: more than 0, less than a half."""
    value = share(text)
    if not 0 < value < 0.5:
        raise ValueError(f"{text} is no useful error probability; write more than 0% and less than 50%, such as 1%")
    return value


def tolerance(text: str) -> float:
    """Return how long a burst is sat out in seconds: none, or from a minute to an hour."""
    seconds = duration(text)
    if seconds and not 60 <= seconds <= 3600:
        raise ValueError(f"{text} is no burst to sit out; write 1m to 1h, such as 5m, or 0s for none")
    return seconds


def address(text: str) -> str:
    """Return host:port as written."""
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text!r} has no port; write host:port, such as 127.0.0.1:8101")
    if not _WHOLE.fullmatch(port) or not 1 <= int(port) <= 65535:
        raise ValueError(f"{port!r} in {text!r} is no port; write a number from 1 to 65535")
    if not _is_host(host):
        raise ValueError(f"{host!r} in {text!r} is no host; write a name or an address, IPv6 in brackets: '[::1]:8101'")
    return text


def _is_host(host: str) -> bool:
    bracketed = host.startswith("[") and host.endswith("]")
    numeric = bracketed or re.fullmatch(r"[0-9.]+", host)
    if not numeric:
        return len(host) <= 253 and _HOST.fullmatch(host) is not None
    try:
        version = ipaddress.ip_address(host.strip("[]")).version
    except ValueError:
        return False
    return "%" not in host and version == (6 if bracketed else 4)


def url_path(text: str) -> str:
    """Return a URL path as written."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is no path; it begins with /, such as /trips/search")
    segments = text.split("/")
    if not _PATH.fullmatch(text) or "." in segments or ".." in segments or len(text) > 200:
        raise ValueError(
            f"{text!r} is no path that a proxy can match; write letters, digits and ._~@:+,=- between single slashes"
        )
    return text


def key(text: str) -> Key:
    """Return where to look for a key: `header X-User-Id`, `cookie uid`, `address`."""
    word, _, name = text.partition(" ")
    if text == "address":
        return Key(source=KeySource.ADDRESS)
    if word not in {"header", "cookie"}:
        raise ValueError(f"{text!r} says no place to look; write header X-User-Id, cookie uid or address")
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is no {word} name; write one word, such as {word} X-User-Id")
    return Key(source=KeySource(word), name=name)


def sent_key(text: str) -> Key:
    """Return where to look for a key that clients send: `header X-Region`, `cookie region`."""
    found = key(text)
    if found.source is KeySource.ADDRESS:
        raise ValueError("an address tells no client or region; write header X-Region or cookie region")
    return found


def named(what: str, pattern: str, example: str) -> Callable[[str], str]:
    """Return a reader of names of one kind."""
    compiled = re.compile(pattern)

    def read(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"{text!r} is no name for a {what}; write one such as {example}")
        return text

    return read


rollout_name = named("rollout", r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "trips-v2")
group_name = named("cohort or phase", r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "beta")
brownout_name = named("brownout", r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "first")
metric_name = named("metric", r"[a-z][a-z0-9_]{0,63}", "failure_rate")
fact_name = named("fact", r"[a-z][a-z0-9_.-]{0,63}", "flights")
fact_value = named("fact's value", r"[A-Za-z0-9_.:/-]{1,64}", "hit")


event_name = named("user event", r"[a-z][a-z0-9_]{0,31}", "search")
outcome_name = named("posted outcome", r"[a-z][a-z0-9_.-]{0,63}", "conversion")


def query(text: str) -> str:
    """Return a query that asks for one version's count within one interval."""
    if len(text) > _MAX_QUERY:
        raise ValueError(f"is longer than {_MAX_QUERY} characters; record it as a series of its own and ask for that")
    for name, why in (("version", "V1 and V2 would get the same count"), ("interval", "it would count for ever")):
        if not re.search(rf"\$(?:{name}\b|\{{{name}\}})", text):
            raise ValueError(
                f'has no ${name}, so {why}; write such as sum(increase(errors_total{{version="$version"}}[$interval]))'
            )
    try:
        Template(text).substitute(version="v1", interval="60s")
    except KeyError as error:
        raise ValueError(f"${error.args[0]} is not known here; $version and $interval are, and $$ is a $") from None
    except ValueError:
        raise ValueError("holds a $ that names nothing; write $$ for a $") from None
    return text


def source_url(text: str) -> str:
    """Return the URL of a metrics server, without a slash at its end."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    if parts.scheme not in {"http", "https"} or not _is_host(host) or port == 0:
        raise ValueError(f"{text!r} is no address of a server; write such as http://127.0.0.1:9090")
    if "@" in parts.netloc:
        raise ValueError("holds a user or a password; write a token's file instead: token: {file: prometheus-token}")
    if parts.query or parts.fragment or not _PATH.fullmatch(parts.path):
        raise ValueError(f"{text!r} is more than an address; write such as http://127.0.0.1:9090")
    return text.rstrip("/")


def moment(text: str) -> int:
    """Return seconds since the epoch of a date (midnight, UTC) or of a date and a time of day with its zone."""
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no date; write 2027-03-01 (midnight, UTC) or 2027-03-01T09:00+01:00")
    date, clock, offset, zone = found.groups()
    if clock and not offset and not zone:
        raise ValueError(
            f"{text!r} doesn't say in which zone; write such as {date}T{clock}Z, {date}T{clock}+01:00 or "
            f"{date}T{clock} Europe/Berlin"
        )
    named = _zone(zone) if zone else None
    try:
        at = datetime.fromisoformat(f"{date}T{clock or '00:00'}{'' if zone else offset or 'Z'}")
        at = at.replace(tzinfo=named) if named else at
        seconds = int(at.timestamp())
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no date in any calendar; write such as 2027-03-01") from None
    if named:
        _must_be_once(text, at)
    return seconds


def instant(text: str) -> int:
    """Return seconds since the epoch of a date and a time of day with its zone."""
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        raise ValueError(
            f"{text!r} says no time of day; write such as {text}T10:00+01:00 or {text}T10:00 Europe/Berlin"
        )
    return moment(text)


def brownout(text: str) -> int:
    """Return how long a brownout lasts in seconds: whole, from 1 m to 1 d."""
    seconds = duration(text)
    if not MINUTE <= seconds <= DAY or seconds != int(seconds):
        raise ValueError(f"{text} is no length for a brownout; write whole seconds from 1m to 1d, such as 15m")
    return int(seconds)


def clients(text: str) -> int:
    """Return a share of the clients in hundredths of a percent, more than none."""
    points = basis_points(text)
    if points == 0:
        raise ValueError("0% of the clients are nobody; write how many are to notice, such as 10%")
    return points


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is no time zone that this machine knows; write one such as Europe/Berlin, or an offset: +01:00"
        ) from None


def _must_be_once(text: str, at: datetime) -> None:
    """Raise ValueError where clocks are put forward past a time, or back so that it comes twice."""
    ways = [at.replace(fold=fold) for fold in (0, 1)]
    if ways[0].utcoffset() == ways[1].utcoffset():
        return
    if at.astimezone(UTC).astimezone(at.tzinfo).replace(tzinfo=None) != at.replace(tzinfo=None):
        raise ValueError(f"{text!r} does not exist: clocks are put forward past it; write another time")
    written = " or ".join(way.isoformat(timespec="minutes") for way in ways)
    raise ValueError(f"{text!r} comes twice, because clocks are put back; write {written}")


def link(text: str) -> str:
    """Return a URL, or a path on the API's own host, that a Link header can hold as it is (RFC 3986's characters)."""
    if not _LINK.fullmatch(text):
        raise ValueError(f"{text!r} is no link; write a URL such as https://example.com/v1-ends, or a path")
    return text


def interval(text: str) -> float:
    """Return seconds between questions to a source: whole, from 5 s to 1 h."""
    seconds = positive_duration(text)
    if not 5 <= seconds <= HOUR or seconds != int(seconds):
        raise ValueError(f"{text} is no interval to ask in; write whole seconds from 5s to 1h, such as 1m")
    return seconds


def bearer(text: str) -> str:
    """Return a bearer token (RFC 6750); the message of the ValueError doesn't repeat it."""
    if not _BEARER.fullmatch(text):
        raise ValueError("the file's token is not one line of letters, digits and ._~+/=-; write such a one")
    return text


def secret(text: str) -> str:
    """Return a secret; the message of the ValueError doesn't repeat it."""
    if not _SECRET.fullmatch(text):
        raise ValueError("the file's secret is not 16 to 256 letters, digits and ._~+/=- on one line; write such a one")
    return text

"""Questions to ask: out of a file of recorded requests, or drawn as the plan's `load` section says."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import orjson

from crossfade.adapters.mirror import SAFE
from crossfade.app.load.people import Asking
from crossfade.core.mirror.rules import Mirror
from crossfade.core.plan import KeySource, Load, Plan, Scenario
from crossfade.errors import UsageError

LINE_BYTES_MAX = 64 * 1024
HAR_BYTES_MAX = 256 * 1024 * 1024
_ACCESS = re.compile(r'"([A-Z]{3,16}) (\S+)(?: HTTP/[0-9.]+)?"')
"""What access logs have in common: the request line in quotes (nginx, Apache, HAProxy, Envoy)."""
_REQUEST = re.compile(r"([A-Z]{3,16}) +(\S+)(?: +HTTP/[0-9.]+)?")
_TARGET = re.compile(r"/[\x21-\x7e]{0,4095}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One recorded request that can be asked again."""

    method: str
    shown: str
    """Path and query at the entry, wherever it was recorded."""
    rest: str
    """What follows the entry's path, query included."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those that are sent as recorded."""


Request = tuple[str, str, Mapping[str, str]]
"""Method, URL or path, and headers, as recorded."""


class Questions:
    """Reads recorded requests, and counts those that are left out by why."""

    def __init__(self, plan: Plan, rules: Mirror) -> None:
        self.left_out: Counter[str] = Counter()
        keys = (*plan.assignment.user, plan.assignment.client, plan.assignment.region)
        own = {key.name.lower() for key in keys if key and key.source is KeySource.HEADER}
        self._sent = own | set(rules.send)
        self._roots = tuple(
            dict.fromkeys(root.rstrip("/") for root in (plan.api.entry, plan.api.v1.path, plan.api.v2.path))
        )

    def file(self, path: Path) -> Iterator[Question]:
        """Give the questions of a file; UsageError where it can't be read or holds no requests at all."""
        try:
            with path.open("rb") as file:
                yield from self._read(file, str(path))
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error.strerror or error}") from None

    def _read(self, file: IO[bytes], name: str) -> Iterator[Question]:
        head = file.read(1)
        while head.isspace():
            head = file.read(1)
        if head == b"{":
            first = head + file.readline(LINE_BYTES_MAX)
            entries = _har(first, file, name)
            if entries is not None:
                for entry in entries:
                    yield from self._entry(entry)
                return
            yield from self._line(first)
        else:
            yield from self._line(head + file.readline(LINE_BYTES_MAX))
        while line := file.readline(LINE_BYTES_MAX):
            yield from self._line(line)

    def _line(self, line: bytes) -> Iterator[Question]:
        found = self.request(line)
        if found:
            yield from self.question(*found)

    def request(self, line: bytes) -> Request | None:
        """Read a URL, `GET /path`, an object of JSON, or a line of an access log."""
        text = line.decode("utf-8", "replace").strip()
        if not text or text.startswith("#"):
            return None
        if text.startswith("{"):
            try:
                entry = orjson.loads(text)
            except orjson.JSONDecodeError:
                entry = None
            if isinstance(entry, dict) and isinstance(entry.get("url"), str):
                return self._request_of({"request": entry})
        elif found := _ACCESS.search(text) or _REQUEST.fullmatch(text):
            return found[1], found[2], {}
        elif " " not in text and (text.startswith("/") or "://" in text):
            return "GET", text, {}
        self.left_out["no request in the line"] += 1
        return None

    def _entry(self, entry: Any) -> Iterator[Question]:
        found = self._request_of(entry)
        if found:
            yield from self.question(*found)

    def _request_of(self, entry: Any) -> Request | None:
        """Read an entry of a HAR file, or an object with `method`, `url` and `headers`."""
        request = entry.get("request") if isinstance(entry, dict) else None
        if not isinstance(request, dict) or not isinstance(request.get("url"), str):
            self.left_out["no request in the entry"] += 1
            return None
        headers = request.get("headers") or {}
        if isinstance(headers, list):
            headers = {one.get("name"): one.get("value") for one in headers if isinstance(one, dict)}
        pairs = headers.items() if isinstance(headers, dict) else ()
        kept = {name: value for name, value in pairs if isinstance(name, str) and isinstance(value, str)}
        return str(request.get("method", "GET")), request["url"], kept

    def question(self, method: str, url: str, headers: Mapping[str, str]) -> Iterator[Question]:
        """Give the question that a request is, if it may be asked: GET or HEAD, at the plan's entry."""
        if method.upper() not in SAFE:
            self.left_out[f"{method[:16]}: may change something"] += 1
            return
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("")
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        steps = parts.path.lower().replace("%2e", ".").split("/")
        if not _TARGET.fullmatch(target) or ".." in steps:
            self.left_out["no path and query"] += 1
            return
        root = next((root for root in self._roots if parts.path == root or parts.path.startswith(root + "/")), None)
        if root is None:
            self.left_out["not at the plan's entry"] += 1
            return
        yield Question(
            method=method.upper(),
            shown=self._roots[0] + target[len(root) :],
            rest=target[len(root) :],
            headers={
                name: value for name, value in headers.items() if name.lower() in self._sent and _plain(name + value)
            },
        )


def recorded(plan: Plan, path: Path) -> tuple[Iterator[Question], Mapping[str, int]]:
    """Return a file's questions, and what was left out so far by why; UsageError where it holds none."""
    reading = Questions(plan, plan.mirror or Mirror())
    questions = reading.file(path)
    first = next(questions, None)
    if first is None:
        why = "; ".join(f"{times:,}: {why}" for why, times in reading.left_out.most_common(3))
        raise UsageError(f"{path} holds no question to ask again" + (f" ({why})" if why else "; it is empty"))
    return chain([first], questions), reading.left_out


def drawn(plan: Plan, seed: int, today: float) -> Iterator[Question]:
    """Give questions without end as the plan's `load` says, else the entry alone; the same seed draws the same.

    `today`: seconds since the epoch, from which `{date}` is counted.
    """
    load = plan.load or Load(scenarios=(Scenario(name="entry", target=plan.api.entry),))
    asking = Asking(plan, load, seed, today)
    key = next((key for key in plan.assignment.user if key.source is KeySource.HEADER), None)
    for number in count():
        user = f"mirror-{seed}-{number % load.users}"
        target, _ = asking.target(user)
        yield Question(
            method="GET",
            shown=target,
            rest=target[len(plan.api.entry.rstrip("/")) :],
            headers={key.name: user} if key else {},
        )


def _plain(text: str) -> bool:
    return text.isprintable() and text.isascii()


def _har(first: bytes, file: IO[bytes], name: str) -> list[Any] | None:
    """Return the entries of a HAR file; None where the file is one object of JSON a line."""
    try:
        whole = orjson.loads(first)
        if isinstance(whole, dict) and "log" not in whole:
            return None
    except orjson.JSONDecodeError:
        rest = file.read(HAR_BYTES_MAX + 1)
        if len(rest) > HAR_BYTES_MAX:
            raise UsageError(f"{name} is longer than {HAR_BYTES_MAX:,} bytes; write its requests one a line") from None
        try:
            whole = orjson.loads(first + rest)
        except orjson.JSONDecodeError as error:
            raise UsageError(f"{name} begins as JSON and is none: {error}; write a HAR file, or URLs") from None
    entries = whole.get("log", {}).get("entries") if isinstance(whole.get("log"), dict) else None
    if not isinstance(entries, list):
        raise UsageError(f"{name} is JSON and no HAR file: it has no log.entries; write one, or URLs one a line")
    return entries

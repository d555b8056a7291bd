"""Values that are never kept: what is masked here is all that a report holds of an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_plus

SHOWN_MAX = 80
"""Characters of a value that are kept."""
MASKED = "***"
USUAL = (
    "email", "mail", "phone", "mobile", "token", "password", "passwd", "secret", "authorization", "cookie", "session",
    "apikey", "credential", "passport", "iban", "cardnumber", "cvc", "cvv", "ssn", "birth", "firstname", "lastname",
    "fullname", "surname", "street", "signature",
)  # fmt: skip
"""A name that holds one of these, whatever its signs and capitals, is masked."""
_ADDRESS = re.compile(r"[^\s\"'<>=&?/,;:@]{1,64}@[^\s\"'<>=&?/,;:@]{1,255}\.[A-Za-z]{2,}")
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_.-]+|(?i:bearer|basic) +[A-Za-z0-9+/=._~-]{16,}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Masks:
    """Which names are masked."""

    def __init__(self, more: Iterable[str] = ()) -> None:
        """`more` are names beside the usual ones."""
        self._words = (*USUAL, *(_bare(word) for word in more))

    def hides(self, name: str) -> bool:
        """Tell whether values of a field, header or parameter of that name are kept from everybody."""
        bare = _bare(name)
        return any(word in bare for word in self._words)

    def shown(self, path: str, value: Any) -> str:
        """Return a value as it may be kept: masked, on one line and cut."""
        if any(self.hides(step) for step in re.split(r"[.\[\]]+", path) if step):
            return MASKED
        if isinstance(value, bytes):
            return f"{len(value):,} bytes"  # no fields, so nobody can say what in it is sensitive
        return _cut(_plain(json.dumps(self._inside(value), ensure_ascii=False)))

    def target(self, target: str) -> str:
        """Return a path and query with the values of masked parameters taken out."""
        path, mark, query = target.partition("?")
        pairs = [self._pair(pair) for pair in query.split("&")] if mark else []
        return _plain(path + mark + "&".join(pairs))

    def _pair(self, pair: str) -> str:
        name, sign, value = pair.partition("=")
        hidden = self.hides(unquote_plus(name)) or _hidden(unquote_plus(value))
        return f"{name}={MASKED}" if sign and hidden else pair

    def _inside(self, value: Any) -> Any:
        """Return a value with what its own fields hide masked, and no longer than is shown."""
        if isinstance(value, dict):
            kept = list(value.items())[:SHOWN_MAX]
            return {key: MASKED if self.hides(key) else self._inside(inner) for key, inner in kept}
        if isinstance(value, list):
            return [self._inside(inner) for inner in value[:SHOWN_MAX]]
        # cut where nothing sensitive can be cut in two: it is masked first
        return _plain(value[: SHOWN_MAX * 50]) if isinstance(value, str) else value


def _plain(text: str) -> str:
    return _CONTROL.sub(" ", _TOKEN.sub(MASKED, _ADDRESS.sub(MASKED, text)))


def _hidden(text: str) -> bool:
    return bool(_ADDRESS.search(text) or _TOKEN.search(text))


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_MAX else text[: SHOWN_MAX - 1] + "…"


def _bare(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())

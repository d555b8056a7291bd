"""The register of clients: whose they are, whom to write to, and until when they may go on with V1.

People write it; what clients do is in the ledger. A client stands in both under the same id.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

CLIENT_BYTES = 64
"""Of a client's id, as proxies cut it."""
OWNER_LENGTH = 200
CONTACT_LENGTH = 500
NOTES_LENGTH = 2000

_CONTACT = re.compile(r"mailto:[^\s@]+@[^\s@]+|[^\s@:/]+@[^\s@]+|https?://[^\s]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """What people have written down of one client; ValueError, naming the field, where it can't be meant."""

    client: str
    """Its id, as requests carry it."""
    owner: str = ""
    """A person or a team."""
    contact: str = ""
    """Where notices to its owner go: a mail address, or an http(s) URL; empty: nowhere."""
    notes: str = ""
    exempt_until: date | None = None
    """Last day, UTC and included, on which V1 is not taken from it; None: it has no exemption."""

    def __post_init__(self) -> None:
        size = len(self.client.encode(errors="surrogatepass"))
        if not 1 <= size <= CLIENT_BYTES or not self.client.isprintable() or self.client != self.client.strip():
            raise ValueError(f"client: {self.client!r} is no id; write 1 to {CLIENT_BYTES} bytes without control signs")
        bounds = {"owner": OWNER_LENGTH, "contact": CONTACT_LENGTH, "notes": NOTES_LENGTH}
        for name, most in bounds.items():
            text = getattr(self, name)
            if len(text) > most:
                raise ValueError(f"{name}: has {len(text)} characters; at most {most} are kept")
            if not all(sign.isprintable() or sign == "\n" for sign in text):
                raise ValueError(f"{name}: {text!r} has control signs; leave them out")
        if self.contact and not _CONTACT.fullmatch(self.contact):
            raise ValueError(f"contact: {self.contact!r} is neither a mail address nor an http(s) URL")

    def is_exempt(self, at: float) -> bool:
        """Tell whether it is exempt at `at`, seconds since the epoch."""
        return self.exempt_until is not None and datetime.fromtimestamp(at, UTC).date() <= self.exempt_until


def registered(data: dict[str, Any]) -> Registered:
    """Return an entry from its fields as text, such as a row of a file; an empty field counts as left out.

    Raises ValueError, naming the field, where there is an unknown one or one can't be meant.
    """
    fields = {name: value for name, value in data.items() if value not in ("", None)}
    known = ("client", "owner", "contact", "notes", "exempt_until")
    if unknown := [name for name in fields if name not in known]:
        raise ValueError(f"{unknown[0]}: there is no such field; there are {', '.join(known)}")
    until = fields.pop("exempt_until", None)
    for name, value in fields.items():
        if not isinstance(value, str):
            raise ValueError(f"{name}: {value!r} is no text; put it in quotes")
    if "client" not in fields:
        raise ValueError("client: is missing; write the id that its requests carry")
    return Registered(exempt_until=None if until is None else _day(until), **fields)


def _day(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        return datetime.strptime(str(value), "%Y-%m-%d").date()  # noqa: DTZ007 - a day has no time zone
    except ValueError:
        raise ValueError(f"exempt_until: {value!r} is no day; write it as 2026-12-31") from None

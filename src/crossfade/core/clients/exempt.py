"""Who may go on with V1 for now: nothing tells them of its end, no brownout meets them, and V1 does not go before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

from crossfade.core.clients.register import Registered

_NAMED = 5


def exempt(register: Iterable[Registered], at: float) -> Mapping[str, date]:
    """Return the clients that are exempt at `at` (seconds since the epoch), each with its last day."""
    return {one.client: one.exempt_until for one in register if one.exempt_until is not None and one.is_exempt(at)}


def told(clients: Mapping[str, date]) -> str:
    """Return who is exempt until when, those with the latest days first; empty where nobody is."""
    latest = sorted(clients.items(), key=lambda pair: (pair[1], pair[0]), reverse=True)
    named = [f"{client} until {day.isoformat()}" for client, day in latest[:_NAMED]]
    return ", ".join([*named, *([f"and {len(latest) - _NAMED} more"] if len(latest) > _NAMED else [])])

"""Telling V1's clients that it goes: response headers from the plan's dates, as the standards write them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from crossfade.core.brownout import announced
from crossfade.core.plan import Deprecation, Plan

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def v1_headers(deprecation: Deprecation, phase: int, over: Collection[str] = ()) -> Mapping[str, str]:
    """Return the headers of V1's answers in the phase of that index; none before they are announced.

    `Deprecation` is a structured date (RFC 9745: `@` and whole seconds since the epoch), `Sunset` an IMF-fixdate
    (RFC 8594), `Link` (RFC 8288) has the relations `deprecation`, `sunset` and `successor-version` (RFC 5829).
    `Brownout` is no standard's: see `announced`; those that are `over` are not in it.
    """
    if phase < deprecation.from_phase:
        return {}
    links = {
        "deprecation": deprecation.notice,
        "sunset": deprecation.policy,
        "successor-version": deprecation.successor,
    }
    headers = {
        "Deprecation": f"@{deprecation.since}",
        "Link": ", ".join(f'<{target}>; rel="{relation}"' for relation, target in links.items() if target),
    }
    if deprecation.sunset is not None:
        headers["Sunset"] = imf_fixdate(deprecation.sunset)
    if brownouts := announced(deprecation, over):
        headers["Brownout"] = brownouts
    return headers


def gone_headers(plan: Plan, phase: int) -> Mapping[str, str]:
    """Return the headers of the answers that V1's paths get once it is retired: V1's own, its successor at least."""
    said = plan.deprecation
    headers = {} if said is None else v1_headers(said, phase, {one.name for one in said.brownouts})
    return {"Link": f'<{plan.api.v2.path}>; rel="successor-version"'} | dict(headers)


def imf_fixdate(seconds: int) -> str:
    """Return seconds since the epoch as RFC 9110 section 5.6.7 writes a date, whatever the locale."""
    at = datetime.fromtimestamp(seconds, UTC)
    return f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04} {at:%H:%M:%S} GMT"

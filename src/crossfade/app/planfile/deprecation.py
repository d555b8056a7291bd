"""The `deprecation` section: when V1 goes, and what its answers say of that."""

from __future__ import annotations

from collections.abc import Sequence

from crossfade.app.planfile import quantities
from crossfade.app.planfile.fields import Field, Section, suggest
from crossfade.core.plan import Api, Deprecation

DEPRECATION_KEYS = ("since", "sunset", "from", "notice", "policy", "successor")
_EXAMPLE = "{since: 2027-03-01, sunset: 2027-09-01}"


def read_deprecation(field: Field | None, api: Api | None, phases: Sequence[str]) -> Deprecation | None:
    """Return the section; None where it is left out or wrong."""
    section = field.section(DEPRECATION_KEYS, _EXAMPLE) if field else None
    if section is None:
        return None
    since_field = section.require("since", "2027-03-01")
    since = since_field.parse(quantities.moment) if since_field else None
    sunset = section.parse("sunset", quantities.moment, None)
    from_phase = _phase(section, phases)
    notice, policy, successor = (section.parse(key, quantities.link, "") for key in ("notice", "policy", "successor"))
    if since is None or api is None:
        return None
    if sunset is not None and sunset < since:
        section.values["sunset"].problem("is before `since`; V1 is deprecated first and goes later")
        return None
    return Deprecation(
        since=since,
        sunset=sunset,
        from_phase=from_phase,
        notice=notice,
        policy=policy,
        successor=successor or api.v2.path,
    )


def _phase(section: Section, phases: Sequence[str]) -> int:
    name = section.parse("from", str, "")
    if name and name not in phases:
        section.values["from"].problem(f"{name!r} is no phase of this plan{suggest(name, phases)}")
    return phases.index(name) if name in phases else 0

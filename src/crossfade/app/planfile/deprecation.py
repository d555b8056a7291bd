"""The `deprecation` section: when V1 goes, and what its answers say of that."""

from __future__ import annotations

from collections.abc import Sequence

from crossfade.app.planfile import quantities
from crossfade.app.planfile.fields import Field, Section, suggest
from crossfade.core.plan import Api, Brownout, Deprecation, GateKind, Key, Phase
from crossfade.core.split import BUCKETS
from crossfade.core.words import duration

DEPRECATION_KEYS = ("since", "sunset", "from", "notice", "policy", "successor", "brownouts")
BROWNOUT_KEYS = ("name", "at", "for", "share")
BROWNOUTS_MAX = 20
"""As many as the header that announces them has room for."""
_EXAMPLE = "{since: 2027-03-01, sunset: 2027-09-01}"
_BROWNOUT = "{name: first, at: 2027-06-01T10:00 Europe/Berlin, for: 15m, share: 10%}"


def read_deprecation(
    field: Field | None, api: Api | None, phases: Sequence[str], *, blind_rollback_s: float | None = None
) -> Deprecation | None:
    """Return the section; None where it is left out or wrong.

    `blind_rollback_s` is after what time without traffic the plan rolls back; None: it doesn't.
    """
    section = field.section(DEPRECATION_KEYS, _EXAMPLE) if field else None
    if section is None:
        return None
    since_field = section.require("since", "2027-03-01")
    since = since_field.parse(quantities.moment) if since_field else None
    sunset = section.parse("sunset", quantities.moment, None)
    from_phase = _phase(section, phases)
    notice, policy, successor = (section.parse(key, quantities.link, "") for key in ("notice", "policy", "successor"))
    brownouts = _brownouts(section.get("brownouts"), since, sunset, blind_rollback_s)
    if since is None or api is None or brownouts is None:
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
        brownouts=brownouts,
    )


def check_exemptions(phases: Sequence[Phase], client: Key | None, said: Field | None, field: Field) -> None:
    """Note where a phase asks that no client is exempt, and none could be; `field` is where the phases stand."""
    asks = next((p.name for p in phases if any(g.kind is GateKind.NO_EXEMPTED_CLIENTS for g in p.own_gates)), None)
    lacks = [
        *(["`assignment: client`, by which they are known"] if client is None else []),
        *(["`deprecation`, from which they are"] if said is None else []),
    ]
    if asks is not None and lacks:
        field.problem(
            f"of {asks} ask for `no exempted client left`, and no client is exempt without {' and '.join(lacks)}"
        )


def _brownouts(
    field: Field | None, since: int | None, sunset: int | None, blind_s: float | None
) -> tuple[Brownout, ...] | None:
    """Return the calendar in the order of its times; None, with problems noted, where one of them can't be."""
    if field is None:
        return ()
    items = field.items(f"[{_BROWNOUT}]")
    if len(items) > BROWNOUTS_MAX:
        field.problem(f"has {len(items)} brownouts; {BROWNOUTS_MAX} are the most that a header can announce")
        return None
    read = [(item, _brownout(item)) for item in items]
    found = sorted(((item, one) for item, one in read if one is not None), key=lambda pair: pair[1].at)
    good = len(found) == len(items) > 0
    for number, (item, one) in enumerate(found):
        if said := _why_not(one, [other for _, other in found[:number]], since, sunset, blind_s):
            item.problem(said)
            good = False
    return tuple(one for _, one in found) if good else None


def _why_not(
    one: Brownout, earlier: Sequence[Brownout], since: int | None, sunset: int | None, blind_s: float | None
) -> str | None:
    """Return what is wrong with a brownout among those that begin no later; None where nothing is."""
    if any(one.name == other.name for other in earlier):
        return f"another brownout is called {one.name!r} as well; name it otherwise"
    if earlier and one.at < earlier[-1].until:
        return f"begins before {earlier[-1].name} is over; one goes on at a time"
    if since is not None and one.at < since:
        return "begins before `since`; V1 is deprecated first"
    if sunset is not None and one.until > sunset:
        return "ends after `sunset`, when V1 may be gone; write an earlier time"
    if blind_s is not None and one.share == BUCKETS and one.until - one.at >= blind_s:
        return f"leaves no traffic for {duration(one.until - one.at)}, and `when blind` rolls back before; shorten it"
    return None


def _brownout(field: Field) -> Brownout | None:
    section = field.section(BROWNOUT_KEYS, _BROWNOUT)
    if section is None:
        return None
    fields = {
        key: section.require(key, example)
        for key, example in {
            "name": "first", "at": "2027-06-01T10:00 Europe/Berlin", "for": "15m", "share": "10%"
        }.items()
    }  # fmt: skip
    name = fields["name"].parse(quantities.brownout_name) if fields["name"] else None
    at = fields["at"].parse(quantities.instant) if fields["at"] else None
    for_s = fields["for"].parse(quantities.brownout) if fields["for"] else None
    share = fields["share"].parse(quantities.clients) if fields["share"] else None
    if name is None or at is None or for_s is None or share is None:
        return None
    return Brownout(name=name, at=at, until=at + for_s, share=share)


def _phase(section: Section, phases: Sequence[str]) -> int:
    name = section.parse("from", str, "")
    if name and name not in phases:
        section.values["from"].problem(f"{name!r} is no phase of this plan{suggest(name, phases)}")
    return phases.index(name) if name in phases else 0

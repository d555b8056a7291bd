"""The `clients` section: how the ledger knows who calls, and whether that can be believed."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from crossfade.app.planfile.fields import Field
from crossfade.app.planfile.owners import read_owner_notices
from crossfade.app.planfile.source import Text
from crossfade.core.plan import AssignmentRule, ClientsRule, Deprecation

CLIENTS_KEYS = ("ids", "believed from", "else", "notices")
_EXAMPLE = "{ids: authenticated, believed from: [10.0.0.0/8]}"


def read_clients(
    field: Field | None,
    assignment: AssignmentRule,
    said: Deprecation | None,
    folder: Path,
    *,
    dated: bool,
    retires: bool,
) -> ClientsRule | None:
    """Return the section; None where it is left out or wrong.

    Owners are told of the dates that the plan has `said` (None where these are wrong), and that V1 was retired where it
    `retires` it. A plan that is not `dated` has no such section.
    """
    section = field.section(CLIENTS_KEYS, _EXAMPLE) if field else None
    if section is None or field is None:
        return None
    authenticated = section.parse("ids", _ids, False)
    by_agent = section.parse("else", _else, False)
    where = section.get("believed from")
    networks: tuple[str, ...] = ()
    if where is not None and not (isinstance(where.node, Text) and where.text() == "anywhere"):
        found = (item.parse(_network) for item in where.items("[10.0.0.0/8]"))
        networks = tuple(network for network in found if network is not None)
    if authenticated and where is None:
        section.values["ids"].problem(
            "authenticated where? write `believed from: [10.0.0.0/8]`, the addresses of the gateway that has checked "
            "the ids, or `believed from: anywhere` where nobody else reaches the proxy"
        )
        return None
    if assignment.client is None and not by_agent:
        field.problem(
            "nothing tells who calls; write `client: header X-Client-Id` in assignment, or `else: user agent` here"
        )
        return None
    told = section.get("notices")
    notices = None
    if told is not None and (assignment.client is None or not dated):
        told.problem(
            "need `assignment: client`, by which owners' clients are known, and `deprecation`, whose dates they tell"
        )
    elif told is not None and said is not None:
        notices = read_owner_notices(told, said, folder, retires=retires)
    return ClientsRule(authenticated=authenticated, believed_from=networks, by_agent=by_agent, notices=notices)


def _ids(text: str) -> bool:
    if text not in ("authenticated", "claimed"):
        raise ValueError(f"{text!r} is neither; write authenticated, or claimed where anybody may send any id")
    return text == "authenticated"


def _else(text: str) -> bool:
    if text != "user agent":
        raise ValueError(f"{text!r} names nobody; write `user agent`, or leave it out")
    return True


def _network(text: str) -> str:
    try:
        return str(ip_network(text.strip("[]"), strict=False))
    except ValueError:
        raise ValueError(f"{text!r} is no address or network; write such as 10.1.2.3 or 10.0.0.0/8") from None

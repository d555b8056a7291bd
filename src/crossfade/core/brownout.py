"""Brownouts: short planned absences of V1, so that whoever still calls it notices before it is gone for good.

During a brownout part of the clients get 410 under V1's own paths, and nothing else changes. Whom it meets is a hash of
the client's id under the brownout's own salt: the same clients for its whole length and at every proxy, and others in
the next brownout, so shares do not nest.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

import orjson

from crossfade.core import events as e
from crossfade.core.machine import State
from crossfade.core.plan import Brownout, Deprecation, Plan
from crossfade.core.rollout import Rollout
from crossfade.core.split import BUCKETS, bucket_of

_BEGINS_IN = (State.RUNNING, State.PAUSED, State.COMPLETED)
_ENDS_IN = (*_BEGINS_IN, State.ROLLED_BACK)
"""A drill, a retirement and an abort have ended the one that went on, and nobody waits for the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """A brownout as a proxy carries it out."""

    until: int
    """Plan time, whole seconds since the epoch, at which the proxy ends it by itself."""
    share: int
    """Basis points of the clients."""
    salt: str
    """Lower-case hexadecimal digits."""
    body: str
    """Of the 410s: problem+json (RFC 9457)."""


def salt_of(rollout: str, name: str) -> str:
    """Return a brownout's own salt: 16 hexadecimal digits of SHA-256 of `<rollout>`, `brownout` and `<name>`."""
    return sha256(f"{rollout}\nbrownout\n{name}".encode()).hexdigest()[:16]


def meets(caller: str, share: int, salt: str) -> bool:
    """Tell whether a brownout meets a client (by its id) or, where clients aren't named, a user (by its key).

    The bucket is `xxh64("<salt>:<caller>", seed 0) mod 10000`, and it is met below the share (basis points).
    """
    return bucket_of(f"{salt}:{caller}", 0) < share


def calendar(plan: Plan) -> tuple[Brownout, ...]:
    """Return the plan's brownouts, in the order of their times."""
    return plan.deprecation.brownouts if plan.deprecation else ()


def due(plan: Plan, rollout: Rollout, now: float, *, exempt_known: bool = True) -> tuple[e.Event, ...]:
    """Return what the calendar makes happen at plan time `now`: brownouts that end, were missed, or begin.

    One begins in its time only, late where something was against it before: a rollback, a hold, a deprecation that
    V1's answers do not tell of yet, a register that could not be read so that nobody knows who is exempt. Once it goes
    on, a hold doesn't end it.
    """
    if rollout.state not in _ENDS_IN:
        return ()
    found: list[e.Event] = []
    against = _against(plan, rollout)
    if against is None and not exempt_known:
        against = "the register of clients could not be read"
    for one in calendar(plan):
        if one.name in rollout.brownouts_over:
            continue
        if now >= one.until:
            why = "its time is over" if rollout.brownout == one.name else f"its time passed: {against or 'unattended'}"
            found.append(e.BrownoutEnded(at=now, name=one.name, reason=why))
        elif one.at <= now and rollout.brownout is None and against is None:
            found.append(e.BrownoutStarted(at=now, name=one.name, until=one.until, share=one.share))
    return tuple(found)


def _against(plan: Plan, rollout: Rollout) -> str | None:
    """Return why no brownout may begin; None where one may."""
    if rollout.state not in _BEGINS_IN:
        return f"the rollout was {rollout.state.value}"
    if rollout.held is not None:
        return f"the engine held: {rollout.held}"
    if plan.deprecation is not None and rollout.phase < plan.deprecation.from_phase:
        return f"V1's answers told of its end only from {plan.phases[plan.deprecation.from_phase].name} on"
    return None


def absence(plan: Plan, rollout: Rollout) -> Absence | None:
    """Return what the proxy ought to carry out; None where no brownout goes on."""
    said = plan.deprecation
    one = next((one for one in calendar(plan) if one.name == rollout.brownout), None)
    if one is None or said is None:
        return None
    return Absence(until=one.until, share=one.share, salt=salt_of(plan.name, one.name), body=_problem(said, one))


def _problem(said: Deprecation, one: Brownout) -> str:
    told: dict[str, str | int] = {
        "type": said.notice or "about:blank",
        "title": "Gone for a while",
        "status": 410,
        "detail": f"V1 goes. This is the planned brownout {one.name}: V1 is back at {_rfc3339(one.until)}, and its "
        f"successor is {said.successor}",
        "successor": said.successor,
        "back": _rfc3339(one.until),
    }
    if said.sunset is not None:
        told["sunset"] = _rfc3339(said.sunset)
    return orjson.dumps(told).decode()


def _rfc3339(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def announced(said: Deprecation, over: Collection[str]) -> str:
    """Return the value of the header `Brownout`: those that are not over, empty where there are none.

    A list of dates (RFC 9651, sections 3.1 and 3.3.7), each with its end and the share of clients as parameters:
    `@1811844000;until=@1811844900;share=0.1`.
    """
    return ", ".join(
        f"@{one.at};until=@{one.until};share={_decimal(one.share)}" for one in said.brownouts if one.name not in over
    )


def _decimal(share: int) -> str:
    """Return basis points as a decimal of RFC 9651: at most three digits after the point, never rounded to none."""
    thousandths = max(1, round(share * 1000 / BUCKETS))
    return f"{thousandths // 1000}.{f'{thousandths % 1000:03}'.rstrip('0') or '0'}"

"""Enrolments: who has joined a cohort beside those whom the plan names in it, or has left one.

Of a user only the hash is kept that gives the bucket: enough to know them again in a request, and no key to be read.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from crossfade.core.plan import AssignmentRule
from crossfade.core.split import user_hash
from crossfade.errors import ConflictError, UsageError

KEY_BYTES = 512
"""Of a user key, as UTF-8."""
USERS_AT_ONCE = 10_000
ENROLMENTS_MAX = 200_000
"""Of one rollout: each change replaces all of them at the proxy."""
_SHOWN = 3
_INVISIBLE = frozenset("\u200b\u200e\u200f\u061c\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Marks that copying from a document leaves in a key; the joiners inside an emoji are not among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """One user's own say in which cohort they are."""

    user: int
    """`split.user_hash` of the key under the plan's salt."""
    cohort: str
    """Empty: has left the one that the plan names them in, and is as everyone else."""
    consented_at: float
    """When the user said so: real seconds since the epoch."""
    at: float
    """Plan time from which it holds."""
    by: str
    """Who wrote it down."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a request changes; nothing where all of it was so before."""

    cohort: str
    kept: tuple[Enrolment, ...] = ()
    """In the place of what was kept of the same users."""
    forgotten: tuple[int, ...] = ()
    """Hashes of users of whom nothing is kept any more."""
    unchanged: int = 0
    """Users for whom it was so before."""

    @property
    def size(self) -> int:
        """Return for how many users something changes."""
        return len(self.kept) + len(self.forgotten)


@dataclass(frozen=True, slots=True)
class Members:
    """Who is in which cohort: the plan's lists, and over them what users said themselves."""

    rule: AssignmentRule
    enrolments: Mapping[int, Enrolment] = field(default_factory=dict)
    """By the user's hash."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "enrolments", MappingProxyType(dict(self.enrolments)))

    def enrolment_of(self, user_key: str) -> Enrolment | None:
        """Return what a user said themselves; None where they said nothing."""
        return self.enrolments.get(user_hash(user_key, self.rule.salt)) if self.enrolments else None

    def cohort_of(self, user_key: str) -> str | None:
        """Return the user's cohort, None for everyone else."""
        own = self.enrolment_of(user_key)
        return self.rule.cohort_of(user_key) if own is None else own.cohort or None

    @property
    def cohorts(self) -> dict[int, str]:
        """Return the cohort of each user who said something, by hash; empty where they have left."""
        return {user: one.cohort for user, one in self.enrolments.items()}

    def after(self, change: Change) -> Members:
        """Return the members after a change."""
        left = {user: one for user, one in self.enrolments.items() if user not in change.forgotten}
        return Members(self.rule, left | {one.user: one for one in change.kept})

    def joined(self, cohort: str, users: Mapping[str, float], *, at: float, by: str) -> Change:
        """Return what changes where users join a cohort; `users` gives the time of consent by user key.

        Raises UsageError where the plan has no such cohort or a key can't be one, ConflictError where a user is in
        another cohort or there are too many.
        """
        if cohort not in self.rule.cohorts:
            known = ", ".join(self.rule.cohorts)
            raise UsageError(f"there is no cohort {cohort!r}; the plan has {known or 'none: nobody can be enrolled'}")
        _must_be_keys(users)
        now = {user: self.cohort_of(user) for user in users}
        elsewhere = [f"{user!r} is in {known}" for user, known in now.items() if known not in (None, cohort)]
        if elsewhere:
            raise ConflictError(f"{_some(elsewhere)}; a user is in one cohort: let them leave it first")
        change = Change(
            cohort=cohort,
            kept=tuple(
                Enrolment(user=user_hash(user, self.rule.salt), cohort=cohort, consented_at=consented, at=at, by=by)
                for user, consented in users.items()
                if now[user] is None
            ),
            unchanged=sum(known is not None for known in now.values()),
        )
        if len(self.enrolments) + len(change.kept) > ENROLMENTS_MAX:
            raise ConflictError(f"at most {ENROLMENTS_MAX:,} enrolments are kept; put lasting members into the plan")
        return change

    def left(self, users: Sequence[str], *, at: float, wall: float, by: str) -> Change:
        """Return what changes where users leave the cohorts they are in: nothing of those whom the plan doesn't name.

        `wall` is `at` in real seconds. Raises UsageError where a key can't be one.
        """
        _must_be_keys(users)
        leaving = {user: cohort for user in users if (cohort := self.cohort_of(user)) is not None}
        named = {user for user in leaving if self.rule.cohort_of(user) is not None}
        hashes = {user: user_hash(user, self.rule.salt) for user in leaving}
        return Change(
            cohort=", ".join(sorted(set(leaving.values()))),
            kept=tuple(
                Enrolment(user=hashes[user], cohort="", consented_at=wall, at=at, by=by)
                for user in leaving
                if user in named
            ),
            forgotten=tuple(hashes[user] for user in leaving if user not in named),
            unchanged=len(set(users)) - len(leaving),
        )


def fault_of(user_key: str) -> str | None:
    """Return why a text can't be meant as a user's key; None where it can."""
    if not user_key:
        return "is empty; write the key as clients send it to the API"
    size = len(user_key.encode(errors="surrogatepass"))
    if size > KEY_BYTES:
        return f"has {size:,} bytes; a key has at most {KEY_BYTES}"
    for place, sign in enumerate(user_key, start=1):
        if sign in _INVISIBLE or unicodedata.category(sign) in ("Cc", "Cs"):
            return f"has the invisible sign U+{ord(sign):04X} at {place}, which no request carries; take it out"
    if user_key != user_key.strip():
        return "begins or ends in a space, which no request carries; take it out"
    return None


def _must_be_keys(users: Iterable[str]) -> None:
    wrong = [f"user {user[:40]!r} {fault}" for user in users if (fault := fault_of(user)) is not None]
    if wrong:
        raise UsageError(_some(wrong))


def _some(found: Sequence[str]) -> str:
    more = f", and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{', '.join(found[:_SHOWN])}{more}"

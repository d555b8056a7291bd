"""Who may do what: roles, tokens, and the record of an act. Times are real seconds since the epoch, not plan time."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import sha256

PREFIX = "crossfade_"
"""Begins every token, so that scanners for leaked secrets can find one."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class Role(StrEnum):
    """What a caller may do; each may do all that the ones before it may."""

    VIEWER = "viewer"
    """Look."""
    OPERATOR = "operator"
    """Carry a rollout through its plan, and roll it back."""
    ADMIN = "admin"
    """What can't be taken back, and who may do what."""

    def covers(self, needed: Role) -> bool:
        """Tell whether this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What is kept of a token: never the secret itself."""

    name: str
    """Who acts with it; stands in the history."""
    role: Role
    digest: str = field(repr=False)
    created_at: float
    created_by: str
    expires_at: float | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"a token's name has 1 to 64 letters, digits, dots, dashes, underscores or @, not {self.name!r}"
            )

    def expired(self, now: float) -> bool:
        """Tell whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at


def digest_of(secret: str) -> str:
    """Return SHA-256 of a secret, in hex.

    A secret has 256 random bits, so nobody can guess it from a fast hash; a slow one would only slow each request.
    """
    return sha256(secret.encode(errors="surrogateescape")).hexdigest()


def issue(name: str, role: Role, secret: str, *, now: float, by: str, expires_s: float | None) -> Token:
    """Return what is kept of a new token; ValueError where its name is none."""
    until = None if expires_s is None else now + expires_s
    return Token(name=name, role=role, digest=digest_of(secret), created_at=now, created_by=by, expires_at=until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something that somebody asked for, done or refused."""

    at: float
    by: str
    """Name of the token, or the user of this machine; empty where nobody proved who they are."""
    role: str
    """Empty where nobody proved who they are."""
    address: str
    """Where the request came from; empty for a command on this machine."""
    act: str
    """The verb."""
    rollout: str = ""
    reason: str = ""
    status: int = 200
    """HTTP status of the answer: below 400 it was done."""
    detail: str = ""
    """Why it was refused."""
    left_out: int = 0
    """Refusals of unknown callers before this one that were too many to be written down."""

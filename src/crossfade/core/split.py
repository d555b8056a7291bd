"""Who gets which version: splits in basis points, and the hash that puts a user on one side of them.

The bucket of a user is ``xxh64(key, seed=salt) mod 10000``: the proxy computes the same from the same key, so
anybody who has the plan can say which version a user gets. A user is on V2 while their bucket is below V2's
share; shares only rise between rollbacks, so a raise moves users only from V1 to V2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from xxhash import xxh64_intdigest

BUCKETS = 10_000
"""A split is written in basis points: hundredths of a percent."""


class Version(StrEnum):
    """The two sides of the migration."""

    V1 = "v1"
    V2 = "v2"


def bucket_of(user_key: str | bytes, salt: int) -> int:
    """Return the bucket (0..9999) of a user key under a plan's salt (0..2**64-1); text is hashed as UTF-8.

    Bytes that are no UTF-8 may come as surrogates, as Python reads them from a command line or a path.
    """
    key = user_key.encode(errors="surrogateescape") if isinstance(user_key, str) else user_key
    return xxh64_intdigest(key, seed=salt) % BUCKETS


def user_hash(user_key: str, salt: int) -> int:
    """Return the 64 bits whose remainder is the user's bucket, as HAProxy and databases have them: signed."""
    unsigned: int = xxh64_intdigest(user_key.encode(errors="surrogateescape"), seed=salt)
    return unsigned - 2**64 if unsigned >= 2**63 else unsigned


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """V2's shares in basis points: one for everyone, and one for each cohort that is treated apart."""

    everyone: int = 0
    cohorts: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, share in (("everyone else", self.everyone), *self.cohorts.items()):
            if not 0 <= share <= BUCKETS:
                raise ValueError(f"{name}: a share is 0..{BUCKETS} basis points, not {share}")
        object.__setattr__(self, "cohorts", MappingProxyType(dict(self.cohorts)))

    def share_of(self, cohort: str | None) -> int:
        """Return V2's share (basis points) among the users of a cohort; None is everyone else."""
        return self.everyone if cohort is None else self.cohorts.get(cohort, self.everyone)

    def weight(self, sizes: Mapping[str, int], users: int) -> float:
        """Return V2's share of all users (basis points), given cohort sizes and the number of users in all.

        Without a number of users the cohorts can't be weighed, and everyone's share is the best that is known.
        """
        if users <= 0:
            return float(self.everyone)
        inside = sum(sizes.get(name, 0) for name in self.cohorts)
        on_v2 = sum(self.share_of(name) * sizes.get(name, 0) for name in self.cohorts)
        return (on_v2 + self.everyone * max(0, users - inside)) / max(users, inside)

    def rises_from(self, earlier: Split) -> bool:
        """Tell whether no user who was on V2 under `earlier` would be on V1 under this split."""
        names = set(self.cohorts) | set(earlier.cohorts)
        return self.everyone >= earlier.everyone and all(
            self.share_of(name) >= earlier.share_of(name) for name in names
        )


NOBODY = Split()
"""All users on V1: what a rollback sets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """Which version a user gets, and why."""

    version: Version
    bucket: int
    cohort: str | None
    share: int
    """V2's share (basis points) that the bucket was compared with."""
    killed: bool = False

    @property
    def reason(self) -> str:
        """Return the one sentence that `whois` prints."""
        if self.killed:
            return "everyone is on V1 after a rollback"
        whom = f"cohort {self.cohort}" if self.cohort else "everyone outside a cohort"
        relation = "below" if self.version is Version.V2 else "not below"
        return (
            f"bucket {self.bucket} is {relation} {self.share} of {BUCKETS}, "
            f"V2's share ({self.share / 100:g} %) for {whom}"
        )


def assign(user_key: str | bytes, *, salt: int, split: Split, cohort: str | None, killed: bool = False) -> Assignment:
    """Return which version a user gets under a split, with what the answer rests on."""
    bucket = bucket_of(user_key, salt)
    share = 0 if killed else split.share_of(cohort)
    version = Version.V2 if bucket < share else Version.V1
    return Assignment(version=version, bucket=bucket, cohort=cohort, share=share, killed=killed)

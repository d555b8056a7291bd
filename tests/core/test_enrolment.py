"""Who is in which cohort: the plan's lists, and over them what users said themselves."""

from __future__ import annotations

import pytest

from crossfade.core.enrolment import Change, Members, fault_of
from crossfade.core.plan import AssignmentRule
from crossfade.core.split import BUCKETS, bucket_of, user_hash
from crossfade.errors import ConflictError, UsageError

RULE = AssignmentRule(
    user=(), salt=7, cohorts={"internal": frozenset({"ann"}), "beta": frozenset({"bob", "ann"}), "new": frozenset()}
)
PLAIN = Members(RULE)


def joined(members: Members, *users: str, cohort: str = "beta") -> Members:
    return members.after(members.joined(cohort, dict.fromkeys(users, 5.0), at=6.0, by="ada"))


def left(members: Members, *users: str) -> Members:
    return members.after(members.left(users, at=8.0, wall=9.0, by="ada"))


def test_the_hash_of_a_user_gives_the_bucket() -> None:
    for user in ("u1", "ünï", "a b", "\udcff"):
        assert user_hash(user, 7) % 2**64 % BUCKETS == bucket_of(user, 7)
        assert -(2**63) <= user_hash(user, 7) < 2**63


def test_whoever_joins_is_in_and_whoever_leaves_is_as_everyone_else() -> None:
    members = joined(PLAIN, "zoe", "yan")
    assert [members.cohort_of(user) for user in ("zoe", "yan", "bob", "ann", "x")] == [
        "beta", "beta", "beta", "internal", None,
    ]  # fmt: skip
    members = left(members, "zoe", "bob", "ann")
    assert [members.cohort_of(user) for user in ("zoe", "yan", "bob", "ann")] == [None, "beta", None, None]


def test_of_whoever_leaves_nothing_is_kept_unless_the_plan_names_them() -> None:
    change = joined(PLAIN, "zoe").left(["zoe", "bob", "nobody"], at=8.0, wall=9.0, by="ada")
    assert change.forgotten == (user_hash("zoe", 7),)
    assert [(one.user, one.cohort, one.consented_at) for one in change.kept] == [(user_hash("bob", 7), "", 9.0)]
    assert (change.size, change.unchanged, change.cohort) == (2, 1, "beta")


def test_whoever_has_left_may_join_again() -> None:
    assert joined(left(PLAIN, "bob"), "bob").cohort_of("bob") == "beta"
    assert joined(left(PLAIN, "ann"), "ann").cohort_of("ann") == "beta"


def test_joining_and_leaving_twice_changes_nothing_more() -> None:
    members = joined(PLAIN, "zoe")
    assert members.joined("beta", {"zoe": 7.0, "bob": 7.0}, at=8.0, by="eve") == Change(cohort="beta", unchanged=2)
    again = left(members, "zoe").left(["zoe"], at=9.0, wall=9.0, by="eve")
    assert again == Change(cohort="", unchanged=1)


def test_a_user_is_in_one_cohort() -> None:
    with pytest.raises(ConflictError, match="'ann' is in internal; a user is in one cohort: let them leave it first"):
        PLAIN.joined("beta", {"zoe": 5.0, "ann": 5.0}, at=6.0, by="ada")


def test_an_unknown_cohort_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UsageError, match="no cohort 'bet'; the plan has internal, beta, new"):
        PLAIN.joined("bet", {"zoe": 5.0}, at=6.0, by="ada")


@pytest.mark.parametrize(
    ("key", "fault"),
    [
        ("u1", None),
        ("a b", None),
        ("\N{WAVING HAND SIGN}", None),
        ("\N{WOMAN}\N{ZERO WIDTH JOINER}\N{PERSONAL COMPUTER}", None),
        ("\N{HEBREW LETTER ALEF}", None),
        ("", "is empty"),
        ("u\N{RIGHT-TO-LEFT MARK}1", r"invisible sign U\+200F at 2"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}u1", r"invisible sign U\+202E at 1"),
        ("u1\N{ZERO WIDTH NO-BREAK SPACE}", r"invisible sign U\+FEFF at 3"),
        ("u\x001", r"invisible sign U\+0000 at 2"),
        ("u1\r", r"invisible sign U\+000D at 3"),
        (" u1", "begins or ends in a space"),
        ("ü" * 257, "has 514 bytes; a key has at most 512"),
    ],
)
def test_what_can_be_a_key(key: str, fault: str | None) -> None:
    if fault is None:
        assert fault_of(key) is None
        return
    with pytest.raises(UsageError, match=fault):
        PLAIN.joined("beta", {key: 5.0}, at=6.0, by="ada")
    with pytest.raises(UsageError, match=fault):
        PLAIN.left([key], at=6.0, wall=6.0, by="ada")

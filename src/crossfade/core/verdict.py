"""The four verdicts, and the one table by which several combine."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """What looking gave. "Don't know" has two forms: looked and can't tell, or could not look."""

    PASS = "PASS"  # noqa: S105 - a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    BLIND = "BLIND"


_RANK = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.BLIND: 2, Verdict.FAIL: 3}
"""The only order of "worst". FAIL outranks BLIND: what was seen to be bad is bad, whatever could not be seen."""


def combine(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst verdict; of none it is INCONCLUSIVE, because nobody looked at anything."""
    return max(verdicts, key=_RANK.__getitem__, default=Verdict.INCONCLUSIVE)

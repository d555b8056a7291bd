"""What users say of the version they had: a rating, a complaint, both. Pure.

Each counts once a user and day, as outcomes do; what was written is kept apart from the history, so that it can go.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import blake2b

from crossfade.core.plan import DAY
from crossfade.core.rollout import Rollout

HEARD = "feedback:heard"
"""Outcome under which ticks count users who said anything; a plan can't name it."""
COMPLAINED = "feedback:complaint"
"""Of these, who complained."""
SATISFACTION = "satisfaction"
"""Outcome that a rating becomes: 1 from `HAPPY_FROM` on, else 0."""
HAPPY_FROM = 4
"""Of ratings 1..5."""
COMPLAINT_MAX = 4000
"""Characters of a complaint."""
TOPIC_MAX = 64
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
PER_USER_DAY = 10
"""Pieces of feedback that one user may give on a day; each is kept, and the first of them counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """One thing that a user said."""

    key: str
    """The same for whatever is the same thing, said again."""
    user: int
    """`split.user_hash` under the plan's salt: the key itself is not kept."""
    version: str
    """Which one the user had: v1 or v2; empty where nobody can tell any more."""
    at: float
    """Plan time."""
    rating: int | None = None
    """1..5."""
    complaint: str = ""
    topic: str = ""
    region: str = ""


def asking_in(rollout: Rollout, keep_s: float, now: float) -> str:
    """Return what stands for the present phase of the present attempt, in which each user is asked once.

    Empty once nobody is asked any more: the rollout ended more than `keep_s` plan seconds before `now`.
    """
    if rollout.ended_at is not None and now - rollout.ended_at > keep_s:
        return ""
    return f"{rollout.phase}@{rollout.phase_since:.0f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackCount:
    """How much was said of a version, a topic and in a region."""

    version: str
    topic: str
    region: str
    said: int
    complaints: int
    ratings: int
    happy: int
    """Ratings from `HAPPY_FROM` on."""


def key_of(user: int, at: float, rating: int | None, complaint: str, topic: str, *, own: str = "") -> str:
    """Return what stands for a thing that a user said: its own id, else its words and day."""
    parts = ["id", own] if own else ["words", str(int(at // DAY)), str(rating), topic, complaint]
    return blake2b("\0".join([str(user), *parts]).encode(), digest_size=16).hexdigest()


def outcomes_of(rating: int | None, complaint: str, topic: str, wanted: Collection[str]) -> dict[str, float]:
    """Return what a thing said counts as: values by outcome.

    Of a topic `t` it is also `satisfaction.t` and `complained.t`, where these are among the outcomes that are wanted.
    """
    found = {HEARD: 1.0}
    of_topic = {f"complained.{topic}": float(bool(complaint))}
    if rating is not None:
        found[SATISFACTION] = of_topic[f"{SATISFACTION}.{topic}"] = float(rating >= HAPPY_FROM)
    if complaint:
        found[COMPLAINED] = 1.0
    return found | {name: value for name, value in of_topic.items() if topic and name in wanted}


def plain(text: str) -> str:
    """Return a text as it can be kept everywhere: composed, and without what is no character to read.

    Line ends and tabs stay, as do emoji and the marks of right-to-left scripts; overrides of the direction go, which
    would turn around what stands beside it.
    """
    kept = (char for char in unicodedata.normalize("NFC", text.replace("\r\n", "\n")) if _is_read(char))
    return "".join(kept).strip()


def _is_read(char: str) -> bool:
    return char in "\n\t" or (unicodedata.category(char) not in ("Cc", "Cs") and char not in _TURNING)

"""How much V1 is asked now, how much it was seen to answer, and whether it can take everyone."""

from __future__ import annotations

from dataclasses import dataclass

from crossfade.core.plan import MINUTE
from crossfade.core.words import moment

RECENT = 5
"""Minutes of which the busiest is taken for what all users ask now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests per plan second, minute by minute; overrides and staff included, since a rollback moves them too."""

    seconds: float = 0.0
    """Of the minute under way."""
    asked: int = 0
    answered: int = 0
    """Of the minute under way: what everyone asked, and what V1 answered without failing."""
    recent: tuple[float, ...] = ()
    """What everyone asked in the last minutes, the latest last."""
    best: float = 0.0
    """V1's best minute since the rollout began."""
    best_at: float | None = None
    """Its end, plan time."""

    @property
    def now(self) -> float | None:
        """Return what all users ask, in the busiest of the last minutes; None while no minute is over."""
        return max(self.recent, default=None)


def see(load: Load, *, seconds: float, end: float, asked: int, answered: int) -> Load:
    """Return the load after an interval of so many plan seconds that ended at `end`; a longer one is averaged."""
    seconds, asked, answered = load.seconds + seconds, load.asked + asked, load.answered + answered
    if seconds < MINUTE:
        return Load(
            seconds=seconds, asked=asked, answered=answered, recent=load.recent, best=load.best, best_at=load.best_at
        )
    rate = answered / seconds
    better = rate > load.best
    return Load(
        recent=(*load.recent, asked / seconds)[-RECENT:],
        best=rate if better else load.best,
        best_at=end if better else load.best_at,
    )


def unseen(load: Load) -> Load:
    """Return the load after an interval that nobody reported: what is asked now isn't known any more."""
    return Load(best=load.best, best_at=load.best_at)


def why_not_all(load: Load, limit: float | None) -> str | None:
    """Return why V1 isn't shown to be able to take everyone; None where it is.

    `limit` is what V1 may be given in all, requests per plan second.
    """
    now = load.now
    if now is None:
        return "what all users ask isn't known yet; it takes a minute of telemetry"
    asked = f"all users ask {now:.3g}/s"
    if limit is not None and now > limit:
        return f"{asked}, and the plan gives V1 at most {limit:.3g}/s"
    if now > load.best:
        when = f", at {moment(load.best_at)}" if load.best_at is not None else ""
        return (
            f"{asked}, and the most that V1 was seen to answer in a minute of this rollout is {load.best:.3g}/s{when}"
        )
    return None


def words(load: Load, limit: float | None) -> str:
    """Return the figures by which V1 can take everyone, for the record."""
    cap = "" if limit is None else f", the plan gives it {limit:.3g}/s"
    return f"all users ask {load.now or 0:.3g}/s, V1 has answered {load.best:.3g}/s at {moment(load.best_at)}{cap}"

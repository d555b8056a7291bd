"""Whether V2 gets the users that the plan gives it: the sample-ratio check.

The hash decides, so every request's version can be checked against its bucket; the buckets are counted by hundreds.
Three things can be wrong. Requests go to the other version than their bucket's (a proxy node with another split). V2's
share of the requests differs from the plan's by more than the luck of the draw among users explains (a
bot, answers of one version that get lost). Too many requests choose their version by an override (its secret is known).
Each of them makes the comparison doubtful, whatever it says, so the engine holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from crossfade.core.evidence.collect import Cells
from crossfade.core.evidence.ratio import Floats
from crossfade.core.evidence.sums import HUNDREDTHS, Tick
from crossfade.core.observation import ShareReading
from crossfade.core.plan import Plan
from crossfade.core.split import BUCKETS, Split, Version
from crossfade.core.verdict import Verdict

_WIDTH = BUCKETS // HUNDREDTHS
RECENT_S = 600.0
MISPLACED_MIN = 10.0
MISPLACED_SHARE = 0.002
"""Of recent requests; a change of the split may catch a few on their way."""
OVERRIDE_MIN = 100.0
OVERRIDE_SHARE = 0.2
"""Of V2's recent requests, in a phase that gives users to V2."""
ENOUGH = 1000.0
"""Requests of a phase at which the share is judged, and at which the sequence is narrowest."""
ALPHA = 0.001
TOLERANCE = 0.05
"""Of the smaller side; a smaller difference in the share harms no comparison."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Share:
    """Requests by hundredth of the users, in this phase and lately."""

    phase: Mapping[str, Floats] = field(default_factory=dict)
    """By compared cohort, shape (2, 100): V1's and V2's requests of this phase."""
    placed: float = 0.0
    misplaced: float = 0.0
    """Recent requests whose bucket is known, and those of them that got the other version; fading in 10 minutes."""
    v2: float = 0.0
    overridden: float = 0.0
    """Recent requests of V2 by assignment and by override."""


def see(share: Share, tick: Tick, split: Split, cells: Cells) -> Share:
    """Return this after a tick of the present phase; `cells` are those that are compared."""
    fade = math.exp(-tick.length / RECENT_S)
    phase = dict(share.phase)
    placed = misplaced = 0.0
    for arm, cell in cells:
        if not cell.hundredths:
            continue
        counts = np.zeros((2, HUNDREDTHS))
        side = 0 if arm.version is Version.V1 else 1
        for hundredth, requests in cell.hundredths.items():
            counts[side, hundredth] = requests
        phase[arm.cohort] = phase.get(arm.cohort, np.zeros((2, HUNDREDTHS))) + counts
        placed += float(counts.sum())
        misplaced += float(counts[side][_of_the_other(side, split.share_of(arm.cohort or None))].sum())
    second = [(arm, cell.requests) for arm, cell in tick.cells.items() if arm.version is Version.V2]
    return Share(
        phase=phase,
        placed=share.placed * fade + placed,
        misplaced=share.misplaced * fade + misplaced,
        v2=share.v2 * fade + sum(requests for arm, requests in second if not arm.override),
        overridden=share.overridden * fade + sum(requests for arm, requests in second if arm.override),
    )


def begin_phase(share: Share) -> Share:
    """Return this with nothing counted yet in the new phase."""
    return replace(Share(), v2=share.v2, overridden=share.overridden)


def _of_the_other(side: int, basis_points: int) -> Sequence[int]:
    """Return the hundredths whose users all belong to the other version than `side` (0: V1, 1: V2)."""
    if side == 0:
        return range(basis_points // _WIDTH)
    return range(math.ceil(basis_points / _WIDTH), HUNDREDTHS)


def judge(plan: Plan, share: Share, phase: int) -> ShareReading:
    """Return whether V2 has the plan's share; INCONCLUSIVE where too little was seen to say so."""
    if share.misplaced >= MISPLACED_MIN and share.misplaced > MISPLACED_SHARE * share.placed:
        part = share.misplaced / share.placed
        return ShareReading(
            verdict=Verdict.FAIL,
            sentence=f"{part:.1%} of the latest requests got the other version than the plan's split gives them: "
            "look for a proxy node with another split",
        )
    if plan.phases[phase].target and share.overridden >= OVERRIDE_MIN:
        part = share.overridden / (share.overridden + share.v2)
        if part > OVERRIDE_SHARE:
            return ShareReading(
                verdict=Verdict.FAIL,
                sentence=f"{part:.0%} of V2's latest requests chose it by an override: look who knows its secret",
            )
    readings = [_judge_cohort(plan.phases[phase].split, cohort, counts) for cohort, counts in share.phase.items()]
    worst = next((reading for reading in readings if reading.verdict is Verdict.FAIL), None)
    told = [reading for reading in readings if reading.verdict is not Verdict.INCONCLUSIVE]
    return worst or next(iter(told), ShareReading(verdict=Verdict.INCONCLUSIVE, sentence="too few requests seen yet"))


def _judge_cohort(split: Split, cohort: str, counts: Floats) -> ShareReading:
    """Hold V2's share of a cohort's requests against the plan's, as far as the draw among users can explain it.

    A hundredth of the users is drawn as a whole, so the share's variance is s (1 - s) v / 100 with v the squared
    coefficient of variation of the requests by hundredth (on the larger side, where one strange user weighs least).
    The boundary is that of an asymptotic confidence sequence (Waudby-Smith et al., arXiv:2103.06476, eq. 11, rho tuned
    to ENOUGH requests): it holds at every look.
    """
    wanted = split.share_of(cohort or None) / BUCKETS
    total = float(counts.sum())
    by_hundredth = counts.sum(axis=0)
    if total < ENOUGH or not 0.01 <= wanted <= 0.99:
        return ShareReading(verdict=Verdict.INCONCLUSIVE, sentence="too few requests seen yet")
    seen = float(counts[1].sum()) / total
    cut = round(wanted * HUNDREDTHS)
    larger = by_hundredth[cut:] if wanted <= 0.5 else by_hundredth[:cut]
    spread = float(larger.std(ddof=1) / larger.mean()) if larger.any() else math.inf
    tuned = total / ENOUGH
    z = math.sqrt((tuned + 1) / tuned * math.log((tuned + 1) / ALPHA**2))
    room = max(
        z * spread * math.sqrt(wanted * (1 - wanted) / HUNDREDTHS),
        TOLERANCE * min(wanted, 1 - wanted),
    )
    of = f" of cohort {cohort}" if cohort else ""
    text = (
        f"V2 got {seen:.2%} of the requests{of}, planned {wanted:.2%}, "
        f"the draw explains {max(0.0, wanted - room):.2%} to {min(1.0, wanted + room):.2%}"
    )
    if abs(seen - wanted) <= room:
        return ShareReading(verdict=Verdict.PASS, sentence=text, seen=seen, wanted=wanted)
    why = "users with very many requests" if _by_a_few(counts, cut, seen > wanted) else "requests that are lost"
    return ShareReading(verdict=Verdict.FAIL, sentence=f"{text}: look for {why}", seen=seen, wanted=wanted)


def _by_a_few(counts: Floats, cut: int, more_on_v2: bool) -> bool:
    """Tell whether one hundredth makes the greater side so great."""
    by_hundredth = counts.sum(axis=0)
    side = by_hundredth[:cut] if more_on_v2 else by_hundredth[cut:]
    return bool(side.max() > 3 * float(np.median(by_hundredth)))

"""Whether V2's share of all requests rises: by whole days that somebody watched, chance and weekends aside."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.test_retirement import NOW, SEEN

from crossfade.core.evidence.adoption import Adoption, see
from crossfade.core.gates import Surroundings, checklist
from crossfade.core.observation import Blindness, Observation
from crossfade.core.plan import DAY, Gate, GateKind
from crossfade.core.rollout import Rollout
from crossfade.core.verdict import Verdict
from crossfade.testing.simulator.plan import PLAN

HOUR = 3600.0
GATE = Gate(kind=GateKind.SHARE_RISES, text="v2 share rises continuously")


def after(*shares: float | None, requests: int = 24_000, hours: int = 24) -> Adoption:
    """Return it after days with these shares, and the first hour of the next; None: nobody watched that day."""
    adoption = Adoption()
    for day, share in enumerate([*shares, 0.0]):
        for hour in range(hours if day < len(shares) else 1):
            if share is not None:
                v2 = round(share * requests / 24)
                start = (20_000 + day) * DAY + hour * HOUR
                adoption = see(adoption, start=start, length=HOUR, v1=requests // 24 - v2, v2=v2)
    return adoption


def verdict(seen: Observation) -> tuple[Verdict, str]:
    plan = replace(PLAN, phases=(replace(PLAN.phases[0], gates=(GATE,)), *PLAN.phases[1:]))
    (_, status) = checklist(plan, Rollout(name="r"), seen, Surroundings(), NOW)
    return status.verdict, status.evidence


@pytest.mark.parametrize(
    ("shares", "rises"),
    [
        ([0.05, 0.06], True),
        ([0.05, 0.05, 0.25, 0.25], True),
        ([0.25, 0.24, 0.26], True),
        ([1.0, 1.0], True),
        ([0.05], False),
        ([0.05, 0.05], False),
        ([0.25, 0.05, 0.06], True),
        ([0.05, 0.25, 0.20], False),
        ([0.05, None, 0.06], True),
    ],
)
def test_it_rises_from_day_to_day_or_not(shares: list[float | None], rises: bool) -> None:
    found = verdict(replace(SEEN, adoption=after(*shares)))
    assert found[0] is (Verdict.PASS if rises else Verdict.INCONCLUSIVE), found


def test_the_evidence_names_shares_days_and_the_last_fall() -> None:
    seen = replace(SEEN, adoption=after(0.25, 0.05, 0.1))
    assert verdict(seen)[1] == "from 5.0% to 10.0% of all requests in 2 days without a fall; it fell on 2024-10-05"


def test_chance_is_no_fall() -> None:
    assert after(0.1, 0.06, 0.12, requests=240).fell is None
    assert after(0.1, 0.06, 0.12, requests=24_000).fell == 20_001


def test_without_a_whole_day_nothing_is_known() -> None:
    for adoption in (Adoption(), after(0.05, 0.06, hours=23), after(0.0, 0.0, requests=0)):
        assert verdict(replace(SEEN, adoption=adoption))[0] is Verdict.BLIND
    dark = (Blindness(what="telemetry", since=0.0, reason="nobody reports"),)
    assert verdict(replace(SEEN, adoption=after(0.05, 0.06), blind=dark))[0] is Verdict.BLIND

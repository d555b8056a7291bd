"""Plans to plant mistakes in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from crossfade.app.planfile import load_plan
from crossfade.core.plan import Plan
from crossfade.errors import PlanError, Problem

PLAN = """\
crossfade: 1
rollout: trips
api:
  entry: /trips
  listen: 127.0.0.1:8100
  v1: {path: /v1/trips, upstreams: [127.0.0.1:8101]}
  v2: {path: /v2/trips, upstreams: [127.0.0.1:8102]}
assignment:
  user: [header X-User-Id, cookie uid, address]
  client: header X-Client-Id
  region: header X-Region
  users: 2000
  cohorts: {internal: internal.txt, beta: beta.txt}
metrics:
  failure_rate: {baseline: 0.5%, target: "<= 0.5%", guard: "> 1% and worse than v1 -> rollback"}
  flights_available: {fact: flights, baseline: 100%, target: 100%, guard: "< 99% -> rollback"}
  latency_p95: {target: "<= 300ms", guard: "> 300ms -> hold"}
  breaker_open: {breaker: weather, guard: open > 5m -> alert}
  cache_hits: {fact: cache, value: hit, guard: monitor}
  database_time: {timing: db, guard: monitor}
phases:
  - {name: internal, split: 0%, cohort: internal, soak: 1w}
  - {name: canary, split: 5%, cohort: beta, soak: 1w, margin: 2, promote when: [failure_rate on target]}
  - {name: half, split: 50%, soak: 1w, margin: 1.5, promote when: [stable for 24h, no stuck breaker]}
  - {name: full, split: 100%, soak: 1w, promote when: [no v1 requests for 1d, approved by a person]}
"""


class Desk:
    """A folder with the cohort files, in which plans are written and read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "internal.txt").write_text("staff-1\nstaff-2\n")
        (folder / "beta.txt").write_text("".join(f"b{n}\n" for n in range(500)))

    def load(self, text: str | bytes, name: str = "plan.yaml") -> Plan:
        path = self.folder / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_plan(path)

    def problems(self, text: str | bytes) -> tuple[Problem, ...]:
        with pytest.raises(PlanError) as caught:
            self.load(text)
        return caught.value.problems

    def changed(self, old: str, new: str) -> str:
        """Return the plan with a change."""
        assert PLAN.count(old) == 1, old
        return PLAN.replace(old, new)

    def planted(self, old: str, new: str) -> tuple[tuple[Problem, ...], tuple[int, int]]:
        """Return the problems of the plan with a change, and where in it ^ stood (which is taken out)."""
        text = self.changed(old, new)
        at = text.index("^")
        line = text.count("\n", 0, at) + 1
        return self.problems(text.replace("^", "")), (line, at - text.rfind("\n", 0, at))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.fixture(scope="session")
def plan_text() -> str:
    return PLAN


Planted = Callable[[str, str], tuple[tuple[Problem, ...], tuple[int, int]]]

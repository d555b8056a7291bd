"""A plan whose load can be written for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

PLAN = """\
crossfade: 1
rollout: trips
api:
  entry: /trips
  listen: 127.0.0.1:{port}
  v1: {{path: /v1/trips, upstreams: [127.0.0.1:{v1}]}}
  v2: {{path: /v2/trips, upstreams: [127.0.0.1:{v2}]}}
assignment: {{user: [header X-User-Id, address], region: header X-Region, users: 100}}
metrics: {{failure_rate: {{target: "<= 1%", guard: "> 1% -> rollback"}}}}
phases:
  - {{name: half, split: 50%, soak: 1d}}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Path]:
    def write(load: str = "", port: int = 18100, v1: int = 18101, v2: int = 18102) -> Path:
        path = tmp_path / "plan.yaml"
        path.write_text(PLAN.format(port=port, v1=v1, v2=v2) + load)
        return path

    return write

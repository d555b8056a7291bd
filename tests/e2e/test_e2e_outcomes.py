"""Outcomes that were answered with success are counted once, whatever becomes of the process."""

from __future__ import annotations

import json

import pytest
from tests.e2e.site import Clients, Site, until

pytestmark = pytest.mark.slow


def _seen(site: Site) -> int:
    metrics = json.loads(site.verb("metrics", "-o", "json"))
    read = next(one for one in metrics if one["name"] == "conversion")["reading"]
    return int(read["n1"] + read["n2"]) if read else 0


def test_a_killed_controller_loses_no_outcome_and_counts_none_twice(site: Site) -> None:
    site.plan.write_text(
        site.plan.read_text().replace("metrics:\n", "metrics:\n  conversion: {outcome: conversion}\n", 1)
    )
    site.services.start()
    quick = ("--tick", "1", "--lateness", "1")
    site.serve(*quick)
    site.promote_to("half")
    posted = site.folder / "outcomes.jsonl"
    with Clients(site):
        until("a tick of the phase is over", lambda: site.status()["requests"]["v2"] > 0)
        total = 0
        for batch in range(3):
            rows = [{"metric": "conversion", "user": f"u{batch}-{n}", "value": n % 2} for n in range(500)]
            posted.write_text("".join(json.dumps(row) + "\n" for row in rows))
            assert "500" in site.verb("outcomes", "post", str(posted))
            total += 500
            site.kill()
            site.serve(*quick)
            assert "repeated" in site.verb("outcomes", "post", str(posted))
            until(f"{total} are counted", lambda wanted=total: _seen(site) == wanted)  # type: ignore[misc]

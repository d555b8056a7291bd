"""docs/reference/telemetry.md tells of every field, counter and bound that there is."""

from __future__ import annotations

import re
from pathlib import Path

from crossfade.adapters.collector import Collector, groups, losses, server, ticks
from crossfade.core.facts import parse_facts
from crossfade.ports import REQUEST_LINE
from crossfade.testing.clock import ManualClock

TEXT = (Path(__file__).parents[2] / "docs/reference/telemetry.md").read_text()


def _rows(heading: str) -> list[str]:
    section = TEXT.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)]


def test_every_field_of_the_line_in_its_order() -> None:
    assert tuple(_rows("The line")) == REQUEST_LINE


def test_every_counter() -> None:
    collector = Collector(clock=ManualClock(), tick_s=1, lateness_s=1, key=b"k")
    assert _rows("Counters") == list(collector.counters())


def test_the_example_header_can_be_read() -> None:
    (header,) = re.findall(r"^Crossfade-Facts: (.*)$", TEXT, re.MULTILINE)
    facts = parse_facts(header)
    assert dict(facts.values)["weather-breaker"] == "closed"
    assert dict(facts.timings) == {"db": 3.1}


def test_the_bounds() -> None:
    said = re.sub(r"\s+", " ", TEXT)
    for bound in (
        f"{groups.MAX_REGIONS} regions and {groups.MAX_FACT_NAMES} facts per tick",
        f"{ticks.MAX_FACT_VALUES} values per fact",
        f"{groups.MAX_TIMINGS} decimals per answer",
        f"{ticks.MAX_FAILING_USERS:,} failing users",
        f"lines of {server.MAX_LINE // 1024} KiB",
        f"overtake each other by {losses.REORDER} lines",
    ):
        assert bound in said

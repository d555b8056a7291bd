"""The compare and report pages of a rollout that has been half on V2, was rolled back, and goes on."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright
from tests.app.lived import Lived
from tests.app.serving import PLAN, TOKEN, served_with, serving

from crossfade.app import views
from crossfade.app.dashboard import model
from crossfade.app.regions import Regions
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.split import Version
from crossfade.ports import StoredEvent

REASON = "weather is wrong in Oslo"


async def live(lived: Lived, note: Any) -> None:
    """Be half on V2 for a day, be rolled back, and go on from there."""
    await lived.begin(3)
    note()
    while PLAN.phases[lived.controller.rollout.phase].target < 5000:
        await lived.controller.promote("ada", "by hand")
    for _ in range(24):
        await lived.hour()
        note()
    await lived.controller.rollback("ada", REASON)
    await lived.hour()
    await lived.controller.retry(None, "ada", "mended")
    await lived.hour()
    note()


async def _serve(begun: threading.Event, over: asyncio.Event, held: dict[str, Any], folder: Path) -> None:
    lived = Lived()
    served = served_with(lived.controller, lived.store, lived.telemetry, lived.clock, folder, meters=lived.meters)
    trend = served.rollouts[PLAN.name].trend

    def note() -> None:
        wanted = lived.controller.rollout.wanted_split(PLAN)
        trend.note(lived.controller, lived.clock.now(), views.weight(PLAN, wanted))

    await live(lived, note)
    async with serving(served) as url:
        held.update(loop=asyncio.get_running_loop(), url=url, lived=lived)
        begun.set()
        await over.wait()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    begun, over, held = threading.Event(), asyncio.Event(), dict[str, Any]()
    folder = tmp_path_factory.mktemp("served")
    thread = threading.Thread(target=lambda: asyncio.run(_serve(begun, over, held, folder)))
    thread.start()
    assert begun.wait(60)
    yield f"{held['url']}/rollouts/{PLAN.name}"
    held["loop"].call_soon_threadsafe(over.set)
    thread.join(10)


@pytest.fixture(scope="module")
def page(url: str) -> Iterator[Page]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is not installed; `apt-get install chromium` brings it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(url)
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_url(url)
        yield page
        browser.close()


def _table(page: Page, heading: str) -> list[list[str]]:
    """Return the body of the first table after a heading."""
    place = page.get_by_role("heading", name=heading, exact=True)
    rows = place.locator("xpath=following::table[1]").locator("tbody tr")
    return [row.locator("th, td").all_inner_texts() for row in rows.all()]


@pytest.mark.slow
@pytest.mark.browser
def test_the_compare_page_has_the_founding_tables(url: str, page: Page) -> None:
    page.goto(f"{url}/compare")
    rows = {row[0]: row[1:] for row in _table(page, "V1 and V2 compared")}
    assert rows["failure_rate"][:3] == ["0.5 %", "<= 0.5 %", "> 1% and worse than v1 -> rollback"]
    assert rows["weather_available"][1] == ">= 40 %"
    half = {row[0]: row[1:] for row in _table(page, "V1 against V2 at 50/50")}
    assert half.keys() >= {"failure_rate", "flights_available", "latency_p95"}
    assert half["flights_available"][:2] == ["100 %", "100 %"]
    assert re.search("not told apart|higher|lower|as high", half["failure_rate"][3])
    assert "as of" in page.get_by_text("With half of the users on each").inner_text()
    regions = _table(page, "By region")
    assert {row[1] if len(row) == 5 else row[0] for row in regions} == {"eu", "us"}
    assert page.get_by_role("heading", name="What users make of it").count() == 1


@pytest.mark.slow
@pytest.mark.browser
def test_the_report_prints_with_phases_decisions_and_incidents(url: str, page: Page) -> None:
    page.goto(f"{url}/report")
    page.emulate_media(media="print")
    try:
        assert [row[0] for row in _table(page, "Phases")] == [phase.name for phase in PLAN.phases]
        (rollback,) = [row for row in _table(page, "Incidents") if row[1] == "RolledBack"]
        assert rollback[2:] == [REASON, "1h"]
        assert len(_table(page, "Latest decisions")) > 1
        assert any(REASON in row[2] for row in _table(page, "History"))
        assert not page.get_by_role("button", name="Log out").is_visible()
        assert not page.get_by_role("link", name="Roll back").is_visible()
        hidden = page.evaluate(
            "[...document.querySelectorAll('main *')].filter(e => getComputedStyle(e).overflowY === 'auto').length"
        )
        assert hidden == 0, "on paper nobody scrolls"
    finally:
        page.emulate_media(media="screen")
    paper = page.pdf(format="A4", print_background=True)
    assert paper.startswith(b"%PDF-")
    assert paper.count(b"/Type /Page\n") >= 2
    assert len(paper) > 20_000


# ── without a browser ───────────────────────────────────────────────────────────────────────────────────────


def event(revision: int, kind: str, at: float, /, **data: Any) -> StoredEvent:
    return StoredEvent(rollout="trips-v2", revision=revision, at=at, kind=kind, data=data)


def test_an_incident_lasts_until_it_is_over() -> None:
    rows = model.incidents(
        [
            event(1, "HoldBegan", 0.0, kind="HOLD", reason="slow"),
            event(2, "AlertRaised", 30.0, key="breaker_open", sentence="open"),
            event(3, "AlertRaised", 60.0, key="blind", sentence="nothing"),
            event(4, "HoldEnded", 120.0, reason="over: slow"),
            event(5, "AlertCleared", 90.0, key="blind", sentence="over: nothing"),
            event(6, "RolledBack", 200.0, reason="bad"),
        ]
    )
    assert [(row["kind"], row["lasted"]) for row in rows] == [
        ("HoldBegan", "2m"),
        ("AlertRaised", "not over"),
        ("AlertRaised", "30s"),
        ("RolledBack", "not over"),
    ]


def test_half_is_unknown_until_it_was_reached() -> None:
    lived = Lived()
    points = [{"at": 1.0, "phase": 1, "metrics": {"failure_rate": [0.1, 0.1, 0.5, 1.0, 2.0]}}]
    assert model.at_half(PLAN, lived.controller, points) == ("", [])


def test_values_by_region_are_those_of_the_phase() -> None:
    regions = Regions(PLAN, lambda name: name)
    one, two = (
        Cell(requests=100, failures=failures, facts={"flights": {"1": 90, "0": 10}})  # type: ignore[dict-item]
        for failures in (1, 5)
    )
    for cell in (one, two):
        cell.latency[90] = 100
    chosen = Arm(Version.V2, "eu", "beta", override=True)
    cells = {
        Arm(Version.V1, "eu", ""): one,
        Arm(Version.V2, "eu", ""): two,
        chosen: two,
        Arm(Version.V1, "us", ""): one,
    }
    tick = Tick(number=1, start=0.0, length=10.0, cells=cells)
    regions.closed([tick, tick])
    eu, us = regions.rows(PLAN.metric("failure_rate"))
    assert (eu.region, eu.v1, eu.v2, eu.n1, eu.n2) == ("eu", 0.01, 0.05, 200, 200)
    assert (us.region, us.v1, us.v2, us.n1, us.n2) == ("us", 0.01, None, 200, 0)
    assert regions.rows(PLAN.metric("flights_available"))[0].v2 == pytest.approx(0.9)
    assert regions.rows(PLAN.metric("latency_p95"))[0].v2 == pytest.approx(1.05**90)
    regions.see(event(2, "AlertRaised", 0.0))
    assert regions.rows(PLAN.metric("failure_rate"))
    regions.see(event(3, "PhasePromoted", 0.0))
    assert regions.rows(PLAN.metric("failure_rate")) == []

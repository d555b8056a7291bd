"""The pages in a real browser: readable by everyone, alive, without any other host, and one sure way back."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright
from tests.app.serving import PLAN, TOKEN, served_with, serving

from crossfade.app import views
from crossfade.app.meters import Meters
from crossfade.app.web.access import Caller
from crossfade.app.web.served import Served
from crossfade.core.access import Role, digest_of
from crossfade.core.evidence.sums import Arm, Cell, Tick
from crossfade.core.split import Version
from crossfade.engine.controller import Controller, Parts
from crossfade.testing.clock import ManualClock
from crossfade.testing.proxy import FakeProxy, FakeRollback
from crossfade.testing.store import MemoryStore
from crossfade.testing.telemetry import FakeTelemetry

pytestmark = pytest.mark.slow

HOUR = 3600.0
EVIL = "<script>document.title='owned'</script><b>&\"'"


@dataclass
class Shown:
    """A served rollout and the browser's way to it."""

    url: str
    controller: Controller
    served: Served
    tell: Any
    """Closes an hour of traffic."""

    @property
    def page(self) -> str:
        return f"{self.url}/rollouts/{PLAN.name}"


def _cell(rng: np.random.Generator, requests: int, version: Version) -> Cell:
    failures = int(rng.binomial(requests, 0.005))
    cell = Cell(requests=requests, failures=failures, failing_users={int(u) for u in rng.integers(0, 2**60, failures)})
    for fact in ("flights", "hotels"):
        cell.facts[fact] = Counter({"1": requests})
    cell.facts["cache"] = Counter({"hit": requests // 2, "miss": requests - requests // 2})
    cell.timings["db"] = (requests, 3.1 * requests)
    cell.latency = Counter({int(bin_): 1 for bin_ in rng.integers(70, 100, 10)})
    if version is Version.V2:
        cell.facts["weather"] = Counter({"fresh": requests})
        cell.facts["weather-breaker"] = Counter({"closed": requests})
    return cell


async def _serve(begun: threading.Event, over: asyncio.Event, held: dict[str, Any], folder: Path) -> None:
    clock, store, telemetry = ManualClock(), MemoryStore(), FakeTelemetry()
    proxy = FakeProxy(cohorts=tuple(PLAN.assignment.cohorts))
    await store.open()
    meters = Meters(clock.monotonic)
    parts = Parts(store=store, proxy=proxy, switch=FakeRollback(proxy), telemetry=telemetry, clock=clock, probe=meters)
    controller = Controller(PLAN, parts)
    await controller.start()
    served = served_with(controller, store, telemetry, clock, folder, meters=meters)
    rng, number = np.random.default_rng(1), int(clock.now() // HOUR)

    async def hour() -> None:
        nonlocal number
        number += 1
        clock.move(max(0.0, (number + 1) * HOUR - clock.now()))
        part = PLAN.phases[controller.rollout.phase].split.share_of("beta") / 10_000
        cells = {
            Arm(version, region, "beta"): _cell(rng, int(rng.poisson(400 * share / 2)), version)
            for version, share in ((Version.V1, 1 - part), (Version.V2, part))
            for region in ("eu", EVIL)
        }
        telemetry.feed(Tick(number=number, start=number * HOUR, length=HOUR, cells=cells, sources=frozenset("c")))
        await controller.tick()
        served.rollouts[PLAN.name].trend.note(
            controller, clock.now(), views.weight(PLAN, controller.rollout.wanted_split(PLAN))
        )

    await controller.promote("ada", EVIL)
    for _ in range(60):
        await hour()
    async with serving(served) as url:
        held.update(loop=asyncio.get_running_loop(), controller=controller, hour=hour, url=url, served=served)
        begun.set()
        await over.wait()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    begun, over, held = threading.Event(), asyncio.Event(), dict[str, Any]()
    folder = tmp_path_factory.mktemp("served")
    thread = threading.Thread(target=lambda: asyncio.run(_serve(begun, over, held, folder)))
    thread.start()
    assert begun.wait(60)

    def tell() -> None:
        asyncio.run_coroutine_threadsafe(held["hour"](), held["loop"]).result(10)

    yield Shown(held["url"], held["controller"], held["served"], tell)
    held["loop"].call_soon_threadsafe(over.set)
    thread.join(10)
    assert not thread.is_alive(), "open streams keep the server from ending"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is not installed; `apt-get install chromium` brings it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def cookies(browser: Browser, shown: Shown) -> Any:
    """Log in as a person does."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(shown.page)
    page.wait_for_url("**/login?next=**")
    assert Axe().run(page).violations_count == 0
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("this token is unknown, expired or revoked").wait_for()
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_url(shown.page)
    found = context.cookies()
    context.close()
    return found


@pytest.fixture
def page(browser: Browser, cookies: Any) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.add_cookies(cookies)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert said == []


PATHS = ["", "/compare", "/report"]
BROKEN_WORDS = """() => {
  const broken = [], walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    for (const word of walker.currentNode.data.matchAll(/[A-Za-z]{2,12}/g)) {
      const range = document.createRange();
      range.setStart(walker.currentNode, word.index);
      range.setEnd(walker.currentNode, word.index + word[0].length);
      if (new Set([...range.getClientRects()].map((rect) => rect.top)).size > 1) broken.push(word[0]);
    }
  }
  return broken;
}"""
"""Return the short words of the page that go over more than one line."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 375])
@pytest.mark.parametrize("path", PATHS)
def test_nobody_is_kept_from_reading(shown: Shown, page: Page, path: str, width: int, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(shown.page + path)
    if not path:
        page.wait_for_selector("#chart canvas")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    wider = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wider <= 0
    assert page.evaluate(BROKEN_WORDS) == []


def test_no_other_host_is_asked_and_the_first_view_is_small(shown: Shown, page: Page) -> None:
    asked: list[str] = []
    sizes: list[int] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda answer: sizes.append(_sent(answer)))
    page.goto(shown.page)
    page.wait_for_selector("#chart canvas")
    assert {re.match(r"(data:|http://127\.0\.0\.1:\d+/)", url) is not None for url in asked} == {True}
    assert sum(sizes) < 100_000


def _sent(answer: Any) -> int:
    """Return the bytes that came over the wire."""
    if "event-stream" in answer.headers.get("content-type", ""):
        return 0
    return int(answer.request.sizes()["responseBodySize"])


@pytest.mark.parametrize("path", PATHS)
def test_text_from_outside_is_text(shown: Shown, page: Page, path: str) -> None:
    """A reason that a person gave, and a region as a client named itself."""
    page.goto(shown.page + path)
    assert page.get_by_text(EVIL).count() > 0
    assert page.locator("main script, main b >> text=&").count() == 0
    assert "owned" not in page.title()


def test_each_metric_is_told_by_region(shown: Shown, page: Page) -> None:
    page.goto(shown.page)
    tile = page.get_by_role("article", name="failure_rate", exact=True)
    tile.get_by_text("By region").click()
    assert tile.locator("tbody th").all_inner_texts() == sorted(["eu", EVIL], key=lambda name: _requests(shown, name))
    where = page.locator(".where").inner_text()
    shown.tell()
    page.wait_for_function("was => document.querySelector('.where').innerText !== was", arg=where, timeout=10_000)
    tile.locator("tbody th").first.wait_for(timeout=10_000)


def _requests(shown: Shown, region: str) -> int:
    regions = shown.served.rollouts[PLAN.name].regions
    (row,) = (row for row in regions.rows(PLAN.metric("failure_rate")) if row.region == region)
    return -row.n1 - row.n2


def test_a_new_tick_is_seen_within_two_seconds_and_what_was_opened_stays_open(shown: Shown, page: Page) -> None:
    page.goto(shown.page)
    page.locator("article summary").first.click()
    page.locator(".danger input[name=typed]").fill("trips")
    value = page.get_by_role("article", name="failure_rate", exact=True).locator("dd").last
    before = value.inner_text()
    where = page.locator(".where").inner_text()
    page.wait_for_timeout(300)
    shown.tell()
    page.wait_for_function("was => document.querySelector('.where').innerText !== was", arg=where, timeout=2000)
    assert value.inner_text() != before
    assert page.locator("article details[open]").count() == 1
    assert page.locator(".danger input[name=typed]").input_value() == "trips"


def test_every_gate_and_metric_is_there(shown: Shown, page: Page) -> None:
    page.goto(shown.page)
    assert shown.controller.decision is not None
    for gate in shown.controller.decision.gates:
        assert page.get_by_role("rowheader", name=gate.text, exact=True).count() == 1
    for name in shown.controller.seen.readings:
        assert page.get_by_role("article", name=name, exact=True).count() == 1
    assert page.locator("ol.line li").count() == len(PLAN.phases)
    assert page.locator("ol.line li[aria-current=step]").inner_text().startswith("canary")


def test_the_keyboard_alone_rolls_back_and_only_with_the_name(shown: Shown, page: Page) -> None:
    page.goto(shown.page)
    page.get_by_role("link", name="Roll back").focus()
    page.keyboard.press("Enter")
    field = page.locator(".danger").get_by_label("Type trips-v2 to confirm")
    field.focus()
    page.keyboard.type("trips-v1")
    page.keyboard.press("Enter")
    assert shown.controller.rollout.state.value == "running"
    field.fill("")
    page.keyboard.type("trips-v2")
    page.keyboard.press("Tab")
    page.keyboard.type("too many complaints")
    page.keyboard.press("Enter")
    page.wait_for_selector(".badge.rolled_back")
    page.get_by_text("Done: rollback.").wait_for()
    assert shown.controller.rollout.rollback_reason == "too many complaints"
    assert page.get_by_text("too many complaints").count() > 0
    page.get_by_text("Other acts").click()
    page.get_by_role("button", name="Retry", exact=True).click()
    page.wait_for_selector(".badge.running")


@pytest.mark.parametrize("width", [1200, 375])
def test_the_api_describes_itself_without_another_host(shown: Shown, page: Page, width: int) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"{shown.url}/docs")
    document = page.request.get(f"{shown.url}/openapi.json").json()
    wanted = {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    told = {tuple(text.split()[:2]) for text in page.locator("summary").all_inner_texts()}
    assert told == wanted
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    for link in page.locator("a[href^='#schema-']").all():
        assert page.locator(f"[id='{(link.get_attribute('href') or '')[1:]}']").count() == 1
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    assert all(url.startswith((f"{shown.url}/", "data:")) for url in asked)


def test_a_link_with_a_code_logs_in_once(shown: Shown, browser: Browser) -> None:
    local = Caller(name="local", role=Role.ADMIN, digest=digest_of(TOKEN), local=True)
    code = shown.served.access.offer_code(local)
    for works in (True, False):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{shown.url}/login?next=/rollouts/{PLAN.name}#code={code}")
        if works:
            page.wait_for_url(shown.page)
            page.get_by_role("button", name="Log out").click()
            page.wait_for_url("**/login")
        else:
            page.get_by_text("this token is unknown, expired or revoked").wait_for()
            assert "code" not in page.url
        context.close()


def test_a_page_of_another_site_is_never_gone_to_after_the_login(shown: Shown, browser: Browser) -> None:
    for elsewhere in ("https://evil.example/", "//evil.example/", "/\\\\evil.example/", "javascript:alert(1)"):
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{shown.url}/login?next={elsewhere}")
        page.get_by_label("Token").fill(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{shown.url}/")
        context.close()

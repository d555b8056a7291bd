"""Whatever is put into paths, queries, headers and bodies comes back as text, if at all: never as a page's script."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import aiohttp
import pytest
from tests.app.serving import BASE, TOKEN, Asked, asked
from yarl import URL

SCRIPT = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7776*7776}}${7776*7776}"
IN_PATH = quote(SCRIPT, safe="")
MINE = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Asked]:
    async with asked(tmp_path) as api:
        yield api


async def harmless(answer: aiohttp.ClientResponse) -> None:
    """Fail where a browser could take what was sent for markup."""
    text = await answer.text(errors="replace")
    assert answer.status < 500, text
    assert not any("<script>" in value for value in answer.headers.values())
    if answer.content_type in ("application/json", "application/problem+json"):
        return  # no browser renders it; `nosniff` below holds it to that where somebody's data is
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "60466176" not in text, "nothing that is sent is evaluated"


@pytest.mark.parametrize(
    "path",
    [
        f"/{IN_PATH}",
        f"/rollouts/{IN_PATH}",
        f"/rollouts/{IN_PATH}/report",
        f"/rollouts/trips-v2/{IN_PATH}",
        f"/login?next={IN_PATH}",
        f"/static/{IN_PATH}",
        f"/docs?{IN_PATH}",
        f"/metrics?{IN_PATH}",
        f"/api/v1/rollouts/{IN_PATH}",
        f"{BASE}/users/{IN_PATH}",
        f"{BASE}/events?after={IN_PATH}",
        f"/api/v1/tokens/{IN_PATH}",
    ],
)
@pytest.mark.parametrize("known", [True, False])
async def test_what_stands_in_a_path_is_never_markup(api: Asked, path: str, known: bool) -> None:
    url = URL(api.url + path, encoded=True)
    async with api.session.get(url, headers=MINE if known else {}, allow_redirects=False) as answer:
        await harmless(answer)
        if path.startswith("/api/"):
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "header", ["Host", "Origin", "Referer", "User-Agent", "Cookie", "Authorization", "X-Forwarded-For", "If-Match"]
)
@pytest.mark.parametrize("path", ["/", "/rollouts/trips-v2", "/login", BASE, f"{BASE}/pause"])
async def test_what_stands_in_a_header_is_never_markup(api: Asked, header: str, path: str) -> None:
    method = "POST" if path.endswith("/pause") else "GET"
    sent = MINE | {header: SCRIPT}
    async with api.session.request(method, api.url + path, headers=sent, json={}, allow_redirects=False) as answer:
        await harmless(answer)


async def test_reasons_and_names_come_back_as_they_were_and_are_escaped_on_every_page(api: Asked) -> None:
    assert (await api.post("pause", {"reason": SCRIPT, "by": SCRIPT[:100]}))[0] == 200
    events = (await api.get(f"{BASE}/events"))[1]["items"]
    assert events[-1]["data"]["reason"] == SCRIPT
    for page in ("", "/live", "/compare", "/report"):
        answer = await api.ask("GET", f"/rollouts/trips-v2{page}", headers=MINE)
        await harmless(answer)
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
    report = await (await api.ask("GET", "/rollouts/trips-v2/report", headers=MINE)).text()
    assert "&lt;script&gt;alert(1)" in report

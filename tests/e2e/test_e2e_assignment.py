"""The proxy, `whois` and Python agree on every user, and raising moves users only to V2."""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.request

import pytest
from tests.e2e.site import QUERY, Site, until

from crossfade.app.planfile import load_plan
from crossfade.core.plan import Phase, Plan
from crossfade.core.split import assign

pytestmark = pytest.mark.slow

USERS = [f"u{n:04d}" for n in range(1, 2001)] + [f"staff-{n:02d}" for n in range(1, 13)]


async def _versions(port: int, users: list[str]) -> dict[str, str]:
    """Ask for every user over a few kept connections."""
    answers: dict[str, str] = {}
    waiting = list(users)

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while waiting:
            user = waiting.pop()
            head = f"GET /trips/search?{QUERY} HTTP/1.1\r\nHost: x\r\nX-User-Id: {user}\r\n\r\n"
            writer.write(head.encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length")
            )
            body = await reader.readexactly(length)
            answers[user] = "v2" if b'"weather"' in body else "v1"
        writer.close()

    await asyncio.gather(*(work() for _ in range(16)))
    return answers


def _expected(plan: Plan, phase: Phase) -> dict[str, str]:
    rule = plan.assignment
    return {
        user: assign(user, salt=rule.salt, split=phase.split, cohort=rule.cohort_of(user)).version.value
        for user in USERS
    }


def test_ten_thousand_answers_agree_with_python_in_every_phase(site: Site) -> None:
    site.services.start()
    site.serve()
    plan = load_plan(site.plan)
    on_v2: set[str] = set()
    for phase in plan.phases:
        site.promote_to(phase.name)
        got = asyncio.run(_versions(site.listen, USERS))
        assert got == _expected(plan, phase)
        now_on_v2 = {user for user, version in got.items() if version == "v2"}
        assert on_v2 <= now_on_v2
        on_v2 = now_on_v2
        for user in ("staff-01", "u0042", "somebody else"):
            told = json.loads(site.verb("whois", user, "-o", "json"))["version"]
            assert told == site.ask(user)[1]
    assert on_v2 == set(USERS)


HOSTILE = {
    "commas": "a,b",
    "quotes": "\"x' --",
    "spaces": "  a b  ",
    "utf-8": "Grüße-名前".encode().decode("latin-1"),
    "percent": "%0a%00%2c",
    "10 KB": "x" * 10_000,
    "a newline's friends": "a\tb",
}


def test_hostile_header_values_are_answered_as_python_says_and_break_no_line(site: Site) -> None:
    site.services.start()
    site.serve()
    site.promote_to("half")
    plan = load_plan(site.plan)
    for name, user in HOSTILE.items():
        key = user.strip(" \t").encode("latin-1")
        wanted = assign(key, salt=plan.assignment.salt, split=plan.phases[3].split, cohort=None)
        more = {"X-Region": user[:1000], "X-Client-Id": user[:1000]}
        assert (name, *site.ask(user, **more)) == (name, 200, wanted.version.value)
    until("all lines are there", lambda: _lines(site)["received"] >= len(HOSTILE))
    assert (_lines(site)["malformed"], _lines(site)["lost"]) == (0, 0)


def test_of_a_repeated_user_id_the_first_counts(site: Site) -> None:
    site.services.start()
    site.serve()
    site.promote_to("half")
    for one, other in (("u0001", "u0002"), ("u0007", "u0011"), ("u0100", "u0200")):
        connection = http.client.HTTPConnection("127.0.0.1", site.listen, timeout=10)
        connection.putrequest("GET", f"/trips/search?{QUERY}")
        connection.putheader("X-User-Id", one)
        connection.putheader("X-User-Id", other)
        connection.endheaders()
        body = connection.getresponse().read()
        connection.close()
        assert ("v2" if b'"weather"' in body else "v1") == site.ask(one)[1]


def test_a_client_that_chooses_its_version_is_not_believed_without_the_secret(site: Site) -> None:
    site.services.start()
    site.serve()
    assert site.ask("u0001", **{"X-Crossfade-Version": "v2", "X-Crossfade-Secret": "guess"}) == (200, "v1")


def _lines(site: Site) -> dict[str, int]:
    control = json.loads((site.home / "control.json").read_text())
    with urllib.request.urlopen(f"{control['url']}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    rows = (line for line in text.splitlines() if line.startswith("crossfade_telemetry_lines_total"))
    return {row.split('"')[1]: int(float(row.split()[-1])) for row in rows}

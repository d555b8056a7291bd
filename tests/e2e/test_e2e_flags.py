"""OpenFeature flags of leader and follower tell what the proxy does: over a promotion, enrolment, a rollback."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence

import aiohttp
import pytest
from tests.e2e.site import QUERY, Site, until

from crossfade.app.planfile import load_plan
from crossfade.core.split import bucket_of

pytestmark = pytest.mark.slow

ASKING = 16
USERS = [f"u{n:04d}" for n in range(1, 2001)]
"""Asked in each of five states: ten thousand answers of the proxy, and of the leader's flags."""


async def _asked(users: Iterable[str], ask: Callable[[str], Awaitable[str]]) -> dict[str, str]:
    waiting, found = list(users), dict[str, str]()

    async def work() -> None:
        while waiting:
            user = waiting.pop()
            found[user] = await ask(user)

    await asyncio.gather(*(work() for _ in range(ASKING)))
    return found


async def _told(site: Site, leader: str, follower: str, some: Sequence[str]) -> list[dict[str, str]]:
    """Return the version of each user by the proxy and by the leader's flag, and of some by the follower's."""
    token = json.loads((site.home / "control.json").read_text())["token"]
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:

        async def proxy(user: str) -> str:
            async with session.get(
                f"http://127.0.0.1:{site.listen}/trips/search?{QUERY}", headers={"X-User-Id": user}
            ) as answer:
                return "v2" if b'"weather"' in await answer.read() else "v1"

        found = [await _asked(USERS, proxy)]
        asked: list[tuple[str, Sequence[str]]] = [(leader, USERS), (follower, some)]
        for api, users in asked:

            async def flag(user: str, api: str = api) -> str:
                url, body = f"{api}/ofrep/v1/evaluate/flags/trips-v2", {"context": {"targetingKey": user}}
                async with session.post(url, json=body) as answer:
                    return str((await answer.json())["value"])

            found.append(await _asked(users, flag))
        return found


def _apis(site: Site) -> list[str]:
    return re.findall(r"control API at (http://\S+);", site.log())


def test_flags_equal_the_proxys_choice(site: Site) -> None:
    site.services.start()
    leader = site.serve("--lease", "5")
    follower = site.serve("--lease", "5", wait=False)
    try:
        until("both answer", lambda: len(_apis(site)) == 2, 60)
        plan = load_plan(site.plan)
        beta, salt = plan.phases[1].split.share_of("beta"), plan.assignment.salt
        old = next(u for u in sorted(plan.assignment.cohorts["beta"]) if u in USERS and bucket_of(u, salt) < beta)
        new = next(u for u in USERS if plan.assignment.cohort_of(u) is None and bucket_of(u, salt) < beta)
        joining = site.folder / "joining.csv"
        joining.write_text(f"{new},2026-11-01T10:00:00Z\n")
        on_v2 = []
        for act in (
            ("status",),
            ("promote",),
            ("leave", old, "--rollout", "trips-v2"),
            ("enrol", str(joining), "--cohort", "beta"),
            ("rollback",),
        ):
            site.verb(*act)
            answers = list[dict[str, str]]()

            def agree(answers: list[dict[str, str]] = answers) -> bool:
                first, second = _apis(site)
                answers[:] = asyncio.run(_told(site, first, second, [*USERS[::10], old, new]))
                assert answers[0] == answers[1], "the leader's flags are the proxy's choice at once"
                return all(answers[0][user] == version for user, version in answers[2].items())

            until("the follower's flags are the proxy's choice", agree, 60)
            on_v2.append({user for user, version in answers[0].items() if version == "v2"})
        internal, first, left, joined, rolled_back = on_v2
        assert internal < first
        assert (first - left, left - first) == ({old}, set())
        assert (joined - left, left - joined) == ({new}, set())
        assert rolled_back == set()
    finally:
        for process in (leader, follower):
            process.kill()
            process.wait(20)

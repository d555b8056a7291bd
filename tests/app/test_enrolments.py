"""Enrolment over the control API and from a file: whole or not at all, and what is wrong is told with its place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.app.serving import BASE, PLAN, TOKEN, Asked, asked

from crossfade.app.enrolling import joining_in
from crossfade.core.access import Role
from crossfade.core.split import bucket_of, user_hash
from crossfade.errors import UsageError

SALT = PLAN.assignment.salt
BETA = PLAN.phases[1].split.share_of("beta")
NEW = next(user for user in (f"new{n}" for n in range(1000)) if 500 < bucket_of(user, SALT) < BETA)
OLD = next(user for user in sorted(PLAN.assignment.cohorts["beta"]) if 500 < bucket_of(user, SALT) < BETA)
PATH = f"{BASE}/enrolments"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Asked]:
    async with asked(tmp_path) as api:
        await api.post("promote")
        yield api


async def left(api: Asked, *users: str, token: str = f"Bearer {TOKEN}") -> tuple[int, Any]:
    asking = [("user", user) for user in users]
    answer = await api.ask("DELETE", PATH, params=asking, headers={"Authorization": token})
    return answer.status, await answer.json()


async def flag(api: Asked, user: str) -> str:
    body, headers = {"context": {"targetingKey": user}}, {"Authorization": f"Bearer {TOKEN}"}
    answer = await api.ask("POST", "/ofrep/v1/evaluate/flags/trips-v2", json=body, headers=headers)
    return str((await answer.json())["value"])


async def test_who_joins_and_leaves_is_told_alike_by_proxy_flag_and_whois(api: Asked) -> None:
    async def told(user: str) -> set[str]:
        _, whois = await api.get(f"{BASE}/users/{user}")
        return {api.proxy.version_of(user).value, await flag(api, user), whois["version"]}

    assert (await told(NEW), await told(OLD)) == ({"v1"}, {"v2"})
    joining = {"cohort": "beta", "users": [{"user": NEW, "consented_at": "1970-01-01T00:00:00Z"}, {"user": OLD}]}
    assert (await api.post("enrolments", joining))[0] == 422
    joining["users"] = [{"user": NEW}, {"user": OLD}]
    assert await api.post("enrolments", joining) == (200, {"cohort": "beta", "changed": 1, "unchanged": 1})
    assert (await told(NEW), await told(OLD)) == ({"v2"}, {"v2"})
    assert await left(api, NEW, OLD, "stranger") == (200, {"cohort": "beta", "changed": 2, "unchanged": 1})
    assert (await told(NEW), await told(OLD)) == ({"v1"}, {"v1"})
    _, page = await api.get(PATH)
    assert (page["members"], [one["user"] for one in page["items"]]) == ({"": 1}, [str(user_hash(OLD, SALT))])


async def test_one_bad_user_and_nobody_joins(api: Asked) -> None:
    for bad, why in (
        ({"user": "u\u200f1"}, "invisible sign U+200F"),
        ({"user": NEW}, "named twice"),
        ({"user": "x", "consented_at": "2999-01-01T00:00:00Z"}, "users.1.consented_at: lies in the future"),
        ({"user": "x", "consented_at": "2026-01-01T00:00:00"}, "users.1.consented_at"),
        ({"user": ""}, "users.1.user"),
    ):
        status, told = await api.post("enrolments", {"cohort": "beta", "users": [{"user": NEW}, bad]})
        assert (status, why in told["detail"]) == (422, True), told
    status, told = await api.post("enrolments", {"cohort": "alpha", "users": [{"user": NEW}]})
    assert (status, "the plan has internal, beta" in told["detail"]) == (422, True), told
    assert (await api.get(PATH))[1]["items"] == []


async def test_pages_and_roles(api: Asked) -> None:
    users = [{"user": f"n{n}"} for n in range(5)]
    assert (await api.post("enrolments", {"cohort": "beta", "users": users}))[0] == 200
    found, path = [], f"{PATH}?limit=2"
    while path:
        _, page = await api.get(path)
        found += [int(one["user"]) for one in page["items"]]
        path = page["next"]
    assert found == sorted(user_hash(f"n{n}", SALT) for n in range(5))
    viewer = await api.token("vi", Role.VIEWER)
    assert (await api.get(PATH, Authorization=viewer))[0] == 403
    assert (await left(api, "n1", token=viewer))[0] == 403


def written(folder: Path, data: bytes) -> Path:
    path = folder / "beta.csv"
    path.write_bytes(data)
    return path


def test_a_file_as_spreadsheets_write_it(tmp_path: Path) -> None:
    text = (
        '\ufeff# who\r\n u1 \r\n\r\n"a,b",2026-11-01T10:00:00Z\r\n\N{WAVING HAND SIGN}, 2026-11-01T10:00:00+02:00\r\n'
    )
    assert joining_in(written(tmp_path, text.encode())) == [
        {"user": "u1"},
        {"user": "a,b", "consented_at": "2026-11-01T10:00:00+00:00"},
        {"user": "\N{WAVING HAND SIGN}", "consented_at": "2026-11-01T10:00:00+02:00"},
    ]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "holds no user; write one key a line"),
        (b"u1\n\nu1\n", r":3: 'u1' is in line 1 already"),
        (b"u1\nu\xe2\x80\x8f2\n", r":2: .* invisible sign U\+200F at 2"),
        (b"u1\nu2,soon\n", r":2: 'u2' has agreed at 'soon', which is no time; write it as 2026"),
        (b"u1,2026-11-01T10:00:00\n", r":1: .* has no time zone; write it as 2026-11-01T10:00:00Z"),
        (b"a,b,c\n", r":1: .* a key with commas stands in quotes"),
        (b"u1\n\xff\n", r":2: is no UTF-8 text"),
        (b'u1\n"u2\n', r":2: is no CSV"),
        (b"u" * 513, r":1: .* has 513 bytes; a key has at most 512"),
        (b"u\n" * 600_000, "more than 1,000,000 bytes"),
        (b"".join(b"u%d\n" % n for n in range(10_001)), "10,001 users; at most 10,000 join at once"),
    ],
)
def test_a_bad_line_is_told_with_its_place(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        joining_in(written(tmp_path, data))


def test_all_bad_lines_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as told:
        joining_in(written(tmp_path, b"u1\nu1\nu2,x\n"))
    assert [line.partition(" ")[0].rpartition("beta.csv:")[2] for line in str(told.value).splitlines()] == [
        "2:", "3:", "nobody",
    ]  # fmt: skip


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read: No such file"):
        joining_in(tmp_path / "none")

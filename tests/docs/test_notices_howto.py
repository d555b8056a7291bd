"""docs/howto/notices.md: its rules load, and its verification takes what is really posted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.receiver import receiving
from tests.app.conftest import PLAN

from crossfade.adapters.notify import Allowed, Webhook
from crossfade.adapters.system import SystemClock
from crossfade.app import notices
from crossfade.app.planfile import load_plan
from crossfade.core.notices import Notice
from crossfade.core.plan import NoticeKind

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "notices.md").read_text()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def _block(language: str) -> str:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]  # type: ignore[no-any-return]


def test_the_rules_load(tmp_path: Path) -> None:
    for name, text in (("internal.txt", "a"), ("webhook-url", "https://example.org"), ("webhook-secret", SECRET)):
        (tmp_path / name).write_text(text)
    (tmp_path / "beta.txt").write_text("\n".join(f"b{n}" for n in range(500)))
    (tmp_path / "plan.yaml").write_text(f"{PLAN}{_block('yaml')}")
    assert [rule.name for rule in load_plan(tmp_path / "plan.yaml").notices] == ["on-call", "team"]


async def test_the_verification_takes_what_is_posted_and_nothing_else() -> None:
    names: dict[str, Any] = {}
    exec(compile(_block("python"), "notices.md", "exec"), names)
    verify: Callable[[str, dict[str, str], bytes], bool] = names["verify"]
    notice = Notice(
        id="notice_1", kind=NoticeKind.ROLLBACK, at=0.0, rollout="trips", phase="canary", rule="a", sentence="x"
    )
    async with receiving() as receiver:
        hook = Webhook(
            lambda: receiver.url, secret=lambda: SECRET, allowed=Allowed.read("127.0.0.1"), now=SystemClock().now
        )
        await hook.send(notice)
    headers, body = receiver.came[0]
    assert verify(SECRET, headers, body)
    assert not verify(SECRET, headers, body + b" ")
    assert not verify(SECRET, headers | {"webhook-id": "notice_2"}, body)
    assert not verify(SECRET, headers | {"webhook-timestamp": "1"}, body)
    shown = json.loads(_block("json"))
    assert (shown.keys(), shown["data"].keys()) == (receiver.events[0].keys(), receiver.events[0]["data"].keys())


@pytest.mark.parametrize(
    "told",
    [
        f"{notices.ATTEMPTS} times in all",
        "up to ten minutes" if notices.MOST_S == 600 else "",
        "the body is not read",
    ],
)
def test_the_numbers_in_the_text(told: str) -> None:
    assert told
    assert told in PAGE

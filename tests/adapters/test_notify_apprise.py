"""Notices through the real apprise library, to its json:// target on loopback."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator

import pytest
from tests.adapters.receiver import Receiver, receiving

from crossfade.adapters.notify import Apprise
from crossfade.core.notices import Notice
from crossfade.core.plan import NoticeKind
from crossfade.errors import NoticeRefusedError, NotTakenError

NOTICE = Notice(
    id="notice_1",
    kind=NoticeKind.ROLLBACK,
    at=0.0,
    rollout="trips",
    phase="canary",
    rule="team",
    sentence="trips was rolled back in canary: <3 % & more> > 1 %",
    link="https://rollouts.example.org/",
)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


def chat(receiver: Receiver) -> str:
    return receiver.url.replace("http:", "json:")


async def sent(*urls: str, timeout_s: float = 20.0) -> str:
    apprise = Apprise(lambda: "\n".join(urls), timeout_s=timeout_s)
    try:
        return await apprise.send(NOTICE)
    finally:
        await apprise.close()


async def test_a_chat_gets_title_sentence_and_link(receiver: Receiver) -> None:
    assert await sent(chat(receiver)) == "taken by 1"
    (event,) = receiver.events
    assert (event["title"], event["type"]) == ("trips: rollback", "failure")
    assert event["message"] == "trips was rolled back in canary: <3 % & more> > 1 %\nhttps://rollouts.example.org/"


async def test_a_chat_that_took_it_is_not_told_again_when_another_did_not(receiver: Receiver) -> None:
    async with receiving([500, 200]) as other:
        apprise = Apprise(lambda: f"{chat(receiver)}\n{chat(other)}")
        with pytest.raises(NotTakenError, match=r"1 of 2 did not take it: json://\.\.\.$"):
            await apprise.send(NOTICE)
        assert await apprise.send(NOTICE) == "taken by 2"
        await apprise.close()
        assert (len(receiver.came), len(other.came)) == (1, 2)


async def test_an_url_that_apprise_does_not_know_hinders_no_other(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(NoticeRefusedError) as caught:
        await sent("nonsense://token/token", chat(receiver))
    assert "can't read a URL nonsense://...;" in str(caught.value)
    assert len(receiver.came) == 1
    assert "token" not in caplog.text + str(caught.value)


async def test_a_chat_that_hangs_is_let_go_of_and_not_asked_twice(receiver: Receiver) -> None:
    receiver.answer(None)
    apprise = Apprise(lambda: chat(receiver) + "?rto=5", timeout_s=0.5)
    with pytest.raises(NotTakenError, match=r"did not answer within 0\.5 s"):
        await apprise.send(NOTICE)
    with pytest.raises(NotTakenError, match="still hangs"):
        await apprise.send(NOTICE)
    await asyncio.wait_for(apprise.close(), 4.0)


async def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(NoticeRefusedError, match=r"pip install 'crossfade\[apprise\]'"):
        await sent("json://127.0.0.1:1")


def test_where_it_goes_is_shown_without_secrets() -> None:
    assert (
        Apprise(lambda: "slack://T/B/secret\nmailto://u:p@example.org\n").shown == "apprise mailto://..., slack://..."
    )

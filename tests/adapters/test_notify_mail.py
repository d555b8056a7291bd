"""Notices by mail, at a real mail server: what arrives, what is tried again, and what no header can be made to hold."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
import trustme
from tests.adapters.postbox import Postbox, postbox

from crossfade.adapters.notify import Mail
from crossfade.core.clients.owners import Occasion, OwnerNotice
from crossfade.core.places import mail_address, mail_server, shown_contact
from crossfade.core.plan import OwnerStep
from crossfade.errors import NoticeRefusedError, NotTakenError

SENDER = "api-team@example.org"
NOTICE = OwnerNotice(
    id="notice_0123",
    occasion=Occasion(step=OwnerStep.ANNOUNCED),
    at=1.8e9,
    rollout="trips",
    owner="Ann Ärger, Team",
    contact="mailto:ann@acme.example",
    clients=("acme",),
    subject="trips: V1 ist überholt",
    text="Hello Ann,\n\n.\n  - acme\n\nFrom now on: " + "x" * 2000 + " ✈\n",
)


@pytest.fixture
def box() -> Iterator[Postbox]:
    with postbox() as made:
        yield made


def mail(url: str, *, sender: str = SENDER, timeout_s: float = 10.0) -> Mail:
    return Mail(lambda: url, sender=sender, now=lambda: 1.8e9, timeout_s=timeout_s)


async def sent(box: Postbox, notice: OwnerNotice = NOTICE) -> str:
    made = mail(f"smtp://127.0.0.1:{box.port}")
    try:
        return await made.send_to_owner(notice)
    finally:
        await made.close()


async def test_a_mail_arrives_as_it_was_meant(box: Postbox) -> None:
    assert await sent(box) == f"taken by 127.0.0.1:{box.port}"
    (message,), (envelope,) = box.mails, box.came
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, ["ann@acme.example"])
    assert (message["From"], message["Subject"]) == (SENDER, NOTICE.subject)
    (to,) = message["To"].addresses
    assert (to.display_name, to.addr_spec) == ("Ann Ärger, Team", "ann@acme.example")
    assert message["Message-ID"] == "<notice_0123@example.org>"  # the same when it is sent again
    assert message["Auto-Submitted"] == "auto-generated"
    assert parsedate_to_datetime(message["Date"]).timestamp() == 1.8e9
    assert message.get_content_type() == "text/plain"
    assert message.get_content().replace("\r\n", "\n") == NOTICE.text
    assert bytes(envelope.content or b"").isascii()  # type: ignore[arg-type]


async def test_no_value_becomes_a_header_or_another_recipient(box: Postbox) -> None:
    evil = "x\r\nBcc: all@example.org"
    for notice in (
        replace(NOTICE, owner=evil),
        replace(NOTICE, subject=evil),
        replace(NOTICE, contact=f"a@b.example{evil}"),
        replace(NOTICE, contact="a@b.example,c@d.example"),
        replace(NOTICE, contact="mailto:a@b.example?bcc=c@d.example"),
        replace(NOTICE, contact="<a@b.example> SIZE=1"),
    ):
        with pytest.raises(NoticeRefusedError, match="no mail address that can be written to"):
            await sent(box, notice)
    assert not box.came
    quoting = replace(NOTICE, owner='Ann" <all@example.org>, ', text="a\r\n.\r\nMAIL FROM:<x>\r\n")
    await sent(box, quoting)
    ((one,),) = [message["To"].addresses for message in box.mails]
    assert (one.display_name, one.addr_spec) == ('Ann" <all@example.org>, ', "ann@acme.example")
    assert box.came[0].rcpt_tos == ["ann@acme.example"]
    assert len(box.came) == 1


@pytest.mark.parametrize(("code", "error"), [(550, NoticeRefusedError), (450, NotTakenError)])
@pytest.mark.parametrize("where", ["recipient", "data"])
async def test_what_the_server_says_of_one_owner(box: Postbox, where: str, code: int, error: type[Exception]) -> None:
    setattr(box, where, lambda _: f"{code} 5.1.1 nobody here\x1b[2J")
    with pytest.raises(error, match=f"{code} 5.1.1 nobody here") as caught:
        await sent(box)
    assert "a…@acme.example" in str(caught.value)
    assert "ann@" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")  # on loopback
async def test_a_server_that_wants_a_login_gets_it_and_a_wrong_one_is_tried_again() -> None:
    with postbox(auth=True) as box:
        good, bad = mail(f"smtp://crossfade:p%40ss:word@127.0.0.1:{box.port}"), mail(f"smtp://a:b@127.0.0.1:{box.port}")
        assert await good.send_to_owner(NOTICE)
        with pytest.raises(NotTakenError, match="535") as caught:
            await bad.send_to_owner(NOTICE)
        await good.close()
        await bad.close()
    assert len(box.came) == 1
    assert "p@ss" not in str(caught.value)


async def test_tls_is_checked_and_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, served = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ours.issue_cert("127.0.0.1").configure_cert(served)
    with postbox(tls=served) as box:
        made = mail(f"smtps://127.0.0.1:{box.port}")
        with pytest.raises(NotTakenError, match="certificate verify failed"):
            await made.send_to_owner(NOTICE)
        ours.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert await made.send_to_owner(NOTICE)
        await made.close()
    assert len(box.came) == 1


async def test_elsewhere_than_on_this_machine_nothing_travels_in_clear(
    box: Postbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *rest, **more: found("127.0.0.1", *rest, **more))
    made = mail(f"smtp://mail.example.org:{box.port}")
    with pytest.raises(NotTakenError, match="STARTTLS"):
        await made.send_to_owner(NOTICE)
    await made.close()
    assert not box.came


async def test_a_server_that_is_away_or_hangs_is_tried_again() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        away = mail(f"smtp://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(NotTakenError, match="refused"):
            await away.send_to_owner(NOTICE)
        deaf.listen()
        hangs = mail(f"smtp://127.0.0.1:{deaf.getsockname()[1]}", timeout_s=0.2)
        with pytest.raises(NotTakenError, match="timed out"):
            async with asyncio.timeout(20):
                await hangs.send_to_owner(NOTICE)
        await away.close()
        await hangs.close()
    lost = Mail(lambda: "nowhere", sender=SENDER, now=lambda: 0.0)
    with pytest.raises(NotTakenError, match="is no URL of a mail server"):
        await lost.send_to_owner(NOTICE)
    await lost.close()


def test_urls_of_mail_servers() -> None:
    plain = mail_server("smtp://mail.example.org")
    assert (plain.host, plain.port, plain.tls, plain.user) == ("mail.example.org", 587, False, "")
    full = mail_server("smtps://a%40b:p%3Aw@mail.example.org")
    assert (full.port, full.tls, full.user, full.password) == (465, True, "a@b", "p:w")
    assert "p:w" not in repr(full)
    for text in (
        "mail.example.org",
        "https://x",
        "smtp://",
        "smtp://x:0",
        "smtp://x/y",
        "smtp://x?y",
        "smtp://x:99999",
    ):
        with pytest.raises(ValueError, match="is no URL of a mail server"):
            mail_server(text)


@pytest.mark.parametrize(
    "text",
    ["a@b.example,c@d.example", "a b@c.example", "<a@b.example>", "(x)a@b.example", "a@b.example\nBcc: x", "a@", "@b",
     "-f@b.example", "a@b_c.example", "a@b.example?cc=d", "ä@b.example", ""],
)  # fmt: skip
def test_no_mail_address(text: str) -> None:
    with pytest.raises(ValueError, match="is no mail address"):
        mail_address(text)


def test_of_a_contact_only_so_much_is_kept() -> None:
    assert shown_contact("mailto:ann@acme.example?x=1") == "a…@acme.example"
    assert shown_contact("https://hooks.example/T1/secret") == "https://hooks.example/..."

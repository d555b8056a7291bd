"""The webhook: what is posted, how it is signed, where it goes, and what an answer means."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import re
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
import standardwebhooks
import trustme
from tests.adapters.receiver import Receiver, receiving

from crossfade.adapters.notify import Allowed, Webhook
from crossfade.adapters.notify.addresses import not_public
from crossfade.adapters.system import SystemClock
from crossfade.core.notices import Notice
from crossfade.core.plan import NoticeKind
from crossfade.errors import NoticeRefusedError, NotTakenError

NOW = 1_800_000_000.5
KEY = base64.b64encode(bytes(range(32))).decode()
NOTICE = Notice(
    id="notice_0123456789abcdef",
    kind=NoticeKind.BREAKER_OPEN,
    at=1_700_000_000.25,
    rollout="trips v2/ä",
    phase="canary",
    rule="team",
    sentence="trips: weather is open ≥ 5m",
    link="https://rollouts.example.org/",
)
LOOPBACK = Allowed.read("127.0.0.1")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


def webhook(url: str, allowed: Allowed = LOOPBACK, *, now: float = NOW, timeout_s: float = 10.0) -> Webhook:
    return Webhook(lambda: url, secret=lambda: f"whsec_{KEY}", allowed=allowed, now=lambda: now, timeout_s=timeout_s)


async def refusal(hook: Webhook) -> str:
    with pytest.raises(NoticeRefusedError) as caught:
        await hook.send(NOTICE)
    return str(caught.value)


async def delay(hook: Webhook) -> NotTakenError:
    with pytest.raises(NotTakenError) as caught:
        await hook.send(NOTICE)
    return caught.value


# ── what is posted ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_notice_is_a_cloud_event_in_structured_mode(receiver: Receiver) -> None:
    """Its attributes are as the specification wants them: https://github.com/cloudevents/spec, version 1.0.2."""
    assert await webhook(receiver.url).send(NOTICE) == "200 OK"
    (headers, _), event = receiver.came[0], receiver.events[0]
    assert headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    data = event.pop("data")
    assert event == {
        "specversion": "1.0",
        "id": NOTICE.id,
        "source": "/crossfade/rollouts/trips%20v2/%C3%A4",
        "type": "dev.crossfade.notice.breaker_open",
        "subject": "canary",
        "time": "2023-11-14T22:13:20.250000Z",
        "datacontenttype": "application/json",
    }
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for name in event)
    assert data == {
        "rollout": "trips v2/ä",
        "phase": "canary",
        "kind": "breaker open",
        "over": False,
        "sentence": NOTICE.sentence,
        "link": NOTICE.link,
        "rule": "team",
    }


async def test_the_reference_library_of_standard_webhooks_takes_the_signature(receiver: Receiver) -> None:
    now = SystemClock().now()  # it refuses what is older than five minutes
    await webhook(receiver.url, now=now).send(NOTICE)
    headers, body = receiver.came[0]
    verifier = standardwebhooks.Webhook(f"whsec_{KEY}")
    assert verifier.verify(body.decode(), headers)["id"] == headers["webhook-id"] == NOTICE.id
    for name, forged in (("webhook-id", "notice_2"), ("webhook-timestamp", str(int(now) + 1))):
        with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError):
            verifier.verify(body.decode(), headers | {name: forged})
    with pytest.raises(standardwebhooks.webhooks.WebhookVerificationError):
        verifier.verify(body.decode().replace("5m", "9m"), headers)


async def test_the_same_notice_has_the_same_id_and_body(receiver: Receiver) -> None:
    for now in (NOW, NOW + 60):
        await webhook(receiver.url, now=now).send(NOTICE)
    (first, body), (second, again) = receiver.came
    assert (first["webhook-id"], body) == (second["webhook-id"], again)
    assert first["webhook-signature"] != second["webhook-signature"]


async def test_without_a_secret_nothing_is_signed(receiver: Receiver) -> None:
    await Webhook(lambda: receiver.url, secret=None, allowed=LOOPBACK, now=lambda: NOW).send(NOTICE)
    assert "webhook-signature" not in receiver.came[0][0]


async def test_address_and_secret_are_read_for_each_notice(receiver: Receiver) -> None:
    addresses: list[str] = []

    def address() -> str:
        if not addresses:
            raise ValueError("the variable HOOK is not set")
        return addresses[-1]

    hook = Webhook(address, secret=None, allowed=LOOPBACK, now=lambda: NOW)
    assert str(await delay(hook)) == "webhook: the variable HOOK is not set"
    addresses.append(receiver.url)
    assert await hook.send(NOTICE) == "200 OK"


# ── where it goes ───────────────────────────────────────────────────────────────────────────────────────────


PRIVATE = [
    "127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
    "240.0.0.1", "255.255.255.255", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not_public(["1.1.1.1", address]) == address


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"])
def test_public_addresses(address: str) -> None:
    assert not_public([address]) is None


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0"]
)
async def test_a_private_address_is_refused_however_it_is_written(receiver: Receiver, host: str) -> None:
    url = receiver.url.replace("127.0.0.1", host).replace("http:", "https:")
    hook = webhook(url, Allowed())
    with pytest.raises((NoticeRefusedError, NotTakenError)) as caught:  # some systems don't know such a name
        await hook.send(NOTICE)
    assert "no public address" in str(caught.value) or "can't be reached" in str(caught.value)
    assert receiver.came == []


async def test_what_the_operator_allows_is_reached(receiver: Receiver) -> None:
    localhost = receiver.url.replace("127.0.0.1", "localhost")
    assert await webhook(receiver.url, Allowed.read("10.0.0.0/8, 127.0.0.0/8")).send(NOTICE) == "200 OK"
    assert await webhook(localhost, Allowed.read("LOCALHOST")).send(NOTICE) == "200 OK"
    assert "no public address" in await refusal(webhook(receiver.url, Allowed.read("localhost")))


async def test_of_a_host_all_addresses_must_be_allowed(monkeypatch: pytest.MonkeyPatch, receiver: Receiver) -> None:
    """One public address beside a private one doesn't help."""
    _resolve(monkeypatch, [["1.1.1.1", "127.0.0.1"]])
    assert "127.0.0.1 is no public address" in await refusal(webhook("https://example.org/", Allowed()))


async def test_a_name_that_changes_its_mind_reaches_what_was_checked(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    """DNS rebinding: the first answer is allowed, any later one would be the cloud's metadata."""
    asked = _resolve(monkeypatch, [["127.0.0.1"], ["169.254.169.254"]])
    url = receiver.url.replace("127.0.0.1", "rebinding.example.org")
    assert await webhook(url).send(NOTICE) == "200 OK"
    assert asked == ["rebinding.example.org"]
    assert receiver.came[0][0]["host"].startswith("rebinding.example.org:")


def _resolve(monkeypatch: pytest.MonkeyPatch, answers: list[list[str]]) -> list[str]:
    """Have names resolve to these addresses, one answer after the other; return who is asked for."""
    asked: list[str] = []

    async def getaddrinfo(_: Any, host: str, port: int, **options: Any) -> list[Any]:
        asked.append(host)
        found = answers[min(len(asked), len(answers)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", getaddrinfo)
    return asked


async def test_in_clear_only_where_the_operator_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    _resolve(monkeypatch, [["1.1.1.1"]])
    assert "write https://" in await refusal(webhook("http://example.org/", Allowed()))


async def test_redirects_are_not_followed(receiver: Receiver) -> None:
    async with receiving() as inside:
        receiver.answer(307)
        receiver.headers = {"Location": inside.url}
        assert "redirects are not followed" in await refusal(webhook(receiver.url))
        assert inside.came == []


@pytest.mark.parametrize("text", ["10.0.0", "1.2.3.4.5", "a b", "http://x", "10.0.0.1/8", "-x", "*.example.org"])
def test_what_can_not_be_allowed(text: str) -> None:
    with pytest.raises(ValueError, match="neither a host, an address nor a network"):
        Allowed.read(text)


async def test_a_certificate_that_nobody_trusts(tmp_path: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        error = await delay(webhook(f"https://localhost:{port}/", Allowed.read("localhost")))
    assert str(error).endswith("its certificate is not trusted")


# ── what an answer means ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422, 501])
async def test_a_refusal_is_for_good(receiver: Receiver, status: int) -> None:
    receiver.answer(status)
    port = receiver.url.split(":")[2].split("/")[0]
    assert (await refusal(webhook(receiver.url))).startswith(f"webhook http://127.0.0.1:{port}/... answered {status}")


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
async def test_what_may_pass_is_tried_again(receiver: Receiver, status: int) -> None:
    receiver.answer(status)
    assert (await delay(webhook(receiver.url))).after_s is None


@pytest.mark.parametrize(
    ("text", "after_s"),
    [
        ("120", 120.0),
        (email.utils.formatdate(NOW + 30, usegmt=True), 29.5),
        (email.utils.formatdate(NOW - 99, usegmt=True), 0.0),
        ("soon", None),
        ("9" * 400, None),
        ("-5", None),
    ],
)
async def test_when_to_try_again_is_the_receivers_matter(receiver: Receiver, text: str, after_s: float | None) -> None:
    receiver.answer(429)
    receiver.headers = {"Retry-After": text}
    assert (await delay(webhook(receiver.url))).after_s == after_s


async def test_a_receiver_that_hangs_is_let_go_of(receiver: Receiver) -> None:
    receiver.answer(None)
    assert "did not answer within 0.2 s" in str(await delay(webhook(receiver.url, timeout_s=0.2)))


async def test_nobody_there(receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}/T0/secret"
    error = str(await delay(webhook(url)))
    assert "can't be reached" in error
    assert "secret" not in error


async def test_a_host_that_is_no_name() -> None:
    assert "can't be reached" in str(await delay(webhook(f"https://{'a' * 64}.example.org/")))


async def test_an_answer_without_end_is_not_read() -> None:
    """Neither its headers nor its body can fill the memory."""
    sent = 0

    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while sent < 500_000_000:
                writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                await writer.drain()
                sent += 65536
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(endless, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert await webhook(url).send(NOTICE) == "200 OK"
    assert sent < 50_000_000


async def test_noise_instead_of_http() -> None:
    async def noise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x00\xff" * 100_000)
        writer.close()

    server = await asyncio.start_server(noise, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert "can't be reached" in str(await delay(webhook(url)))

"""Notices as CloudEvents (1.0, structured mode) posted to a URL, signed by Standard Webhooks.

The name is resolved once for each notice; what it resolves to is checked, and the connection goes to what was checked,
so a name that changes its mind in between reaches nothing.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver, ResolveResult

from crossfade.adapters.notify.addresses import Allowed, not_public
from crossfade.core.clients.owners import OwnerNotice
from crossfade.core.notices import Notice
from crossfade.core.places import masked, signing_key, webhook_url
from crossfade.errors import NoticeRefusedError, NotTakenError

TIMEOUT_S = 10.0
"""Real seconds for everything: the name, the connection, the answer."""
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 507, 529})
"""Statuses after which trying again may help, besides those above 504."""
_TYPE = "dev.crossfade.notice"


class Webhook:
    """Keeps `ports.Notifier`. Address and secret are read anew for each notice."""

    def __init__(
        self,
        address: Callable[[], str],
        *,
        secret: Callable[[], str] | None,
        allowed: Allowed,
        now: Callable[[], float],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """`address` and `secret` return what the plan names, and raise ValueError where it isn't there.

        `now` returns wall-clock seconds since the epoch, for the signature.
        """
        self._address, self._secret = address, secret
        self._allowed, self._now = allowed, now
        self._timeout_s = timeout_s

    @property
    def shown(self) -> str:
        """Return the address as it may be logged."""
        try:
            return f"webhook {masked(self._address())}"
        except ValueError:
            return "webhook"

    async def send(self, notice: Notice) -> str:
        """Post a notice; return the status that came back. Raises as `ports.Notifier` says."""
        return await self._deliver(notice.id, cloud_event(notice))

    async def send_to_owner(self, notice: OwnerNotice) -> str:
        """Post a notice to the owner of clients, as `send` does one of the rollout."""
        return await self._deliver(notice.id, owner_event(notice))

    async def _deliver(self, notice_id: str, body: bytes) -> str:
        try:
            url = webhook_url(self._address())
            key = signing_key(self._secret()) if self._secret else None
        except ValueError as error:
            raise NotTakenError(f"{self.shown}: {error}") from None  # it may be put there meanwhile
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._post(url, body, self._headers(notice_id, body, key))
        except TimeoutError:
            raise NotTakenError(f"{self.shown} did not answer within {self._timeout_s:g} s") from None
        except (aiohttp.ClientError, OSError, UnicodeError) as error:  # the last for a host that is no name
            raise NotTakenError(f"{self.shown} can't be reached: {_reason(error)}") from None

    async def close(self) -> None:
        """Do nothing: each notice has a connection of its own."""

    def _headers(self, notice_id: str, body: bytes, key: bytes | None) -> dict[str, str]:
        headers = {"Content-Type": "application/cloudevents+json; charset=utf-8", "User-Agent": "crossfade"}
        stamp = str(int(self._now()))
        headers |= {"webhook-id": notice_id, "webhook-timestamp": stamp}
        if key is not None:
            headers["webhook-signature"] = f"v1,{signature(key, notice_id, stamp, body)}"
        return headers

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> str:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = await self._resolved(parts.hostname or "", port)
        self._must_be_allowed(parts.scheme, parts.hostname or "", [one["host"] for one in found])
        connector = aiohttp.TCPConnector(resolver=_Found(found), use_dns_cache=False, force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector, trust_env=False, auto_decompress=False) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            return self._judged(answer)

    async def _resolved(self, host: str, port: int) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        known = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=family,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family, _, proto, _, address in known
        ]

    def _must_be_allowed(self, scheme: str, host: str, addresses: list[str]) -> None:
        if self._allowed.covers(host, addresses):
            return
        private = not_public(addresses)
        if private is not None:
            raise NoticeRefusedError(
                f"{self.shown}: {private} is no public address; `serve --allow-private-webhooks` takes hosts and "
                "networks that may be posted to all the same"
            )
        if scheme != "https":
            raise NoticeRefusedError(f"{self.shown}: notices travel in clear there; write https://")

    def _judged(self, answer: aiohttp.ClientResponse) -> str:
        """Return what came back; the answer's body is not read: nobody needs it, and it may have no end."""
        status = f"{answer.status} {answer.reason or ''}".strip()[:100]
        if 200 <= answer.status < 300:
            return status
        said = f"{self.shown} answered {status}"
        if answer.status in AGAIN or answer.status > 504:
            raise NotTakenError(said, self._wanted_s(answer.headers.get("Retry-After", "")))
        if 300 <= answer.status < 400:
            raise NoticeRefusedError(f"{said}: redirects are not followed; write the address that it leads to")
        raise NoticeRefusedError(said)

    def _wanted_s(self, text: str) -> float | None:
        """Return the seconds of a Retry-After, which are a number or a date; None for anything else."""
        if text.isascii() and text.isdecimal() and len(text) < 10:
            return float(text)
        with suppress(ValueError):
            return max(0.0, parsedate_to_datetime(text).timestamp() - self._now())
        return None


class _Found(AbstractResolver):
    """Answers with what was resolved and checked, whatever is asked."""

    def __init__(self, found: list[ResolveResult]) -> None:
        self._found = found

    async def resolve(
        self,
        host: str,  # noqa: ARG002 - the interface has them
        port: int = 0,  # noqa: ARG002
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002
    ) -> list[ResolveResult]:
        """Return it."""
        return self._found

    async def close(self) -> None:
        """Do nothing."""


def cloud_event(notice: Notice) -> bytes:
    """Return a notice as a CloudEvent in JSON, the same bytes each time."""
    data = {
        "rollout": notice.rollout,
        "phase": notice.phase,
        "kind": notice.kind.value,
        "over": notice.over,
        "sentence": notice.sentence,
        "link": notice.link,
        "rule": notice.rule,
    }
    kind = notice.kind.value.replace(" ", "_")
    return _event(notice, kind, notice.phase or notice.rollout, data)


def owner_event(notice: OwnerNotice) -> bytes:
    """Return a notice to the owner of clients as a CloudEvent in JSON; the text may change between attempts."""
    data = {
        "rollout": notice.rollout,
        "step": notice.occasion.step.value,
        "brownout": notice.occasion.name or None,
        "owner": notice.owner,
        "clients": notice.clients,
        "subject": notice.subject,
        "text": notice.text,
    }
    step = notice.occasion.step.value
    return _event(notice, f"owner.{step.replace(' ', '_')}", step, data)


def _event(notice: Notice | OwnerNotice, kind: str, subject: str, data: dict[str, Any]) -> bytes:
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": notice.id,
            "source": f"/crossfade/rollouts/{quote(notice.rollout)}",
            "type": f"{_TYPE}.{kind}",
            "subject": subject,
            "time": datetime.fromtimestamp(notice.at, tz=UTC).isoformat().replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "data": data,
        }
    )


def signature(key: bytes, notice_id: str, stamp: str, body: bytes) -> str:
    """Return the base64 of HMAC-SHA256 over `id.timestamp.body`: https://www.standardwebhooks.com."""
    signed = f"{notice_id}.{stamp}.".encode() + body
    return base64.b64encode(hmac.new(key, signed, sha256).digest()).decode()


def _reason(error: Exception) -> str:
    """Return why, without the URL that aiohttp's messages may hold."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "its certificate is not trusted"
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.strerror or type(error.os_error).__name__
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__

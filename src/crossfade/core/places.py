"""Where notices go: addresses and secrets as text, and what may be shown of them."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.headerregistry import Address
from urllib.parse import unquote, urlsplit

_URL_MAX = 2000
_DOMAIN = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*")
_KEY_BYTES = (24, 64)
"""Least and most of a signing key, by Standard Webhooks."""


def webhook_url(text: str) -> str:
    """Return an address that notices can be posted to; ValueError where it is none."""
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and len(text) <= _URL_MAX
        good = good and text.isascii() and text.isprintable() and " " not in text and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError("is no address to post to; write one such as https://example.org/notices")
    if "@" in parts.netloc:
        raise ValueError("holds a user name or password; leave them out, notices are signed instead")
    return text


def signing_key(text: str) -> bytes:
    """Return the key in a Standard Webhooks secret, `whsec_` and base64; ValueError where it is none."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    least, most = _KEY_BYTES
    if not text.startswith("whsec_") or not least <= len(key) <= most:
        raise ValueError(
            f"is no secret of a webhook; make one of {least} to {most} bytes: "
            'echo "whsec_$(head -c 32 /dev/urandom | base64)"'
        )
    return key


def apprise_urls(text: str) -> tuple[str, ...]:
    """Return the URLs in a text, one a line, blank lines and those that begin with # aside; ValueError for none."""
    lines = tuple(line.strip() for line in text.splitlines())
    urls = tuple(line for line in lines if line and not line.startswith("#"))
    if not urls or not all("://" in url for url in urls):
        raise ValueError("holds no URLs of apprise, one a line, such as mailto://... or slack://...")
    return urls


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """A server that takes mail."""

    host: str
    port: int
    tls: bool
    """From the first byte on; else it is begun by STARTTLS."""
    user: str = ""
    password: str = field(default="", repr=False)


def mail_server(text: str) -> MailServer:
    """Return the server of a URL: `smtps://user:password@mail.example.org`, `smtp://...:587`; ValueError for none."""
    try:
        parts = urlsplit(text)
        usual = {"smtps": 465, "smtp": 587}.get(parts.scheme, 0)
        port = usual and (usual if parts.port is None else parts.port)
        good = port > 0 and bool(parts.hostname) and text.isascii() and text.isprintable() and " " not in text
        good = good and parts.path in {"", "/"} and not parts.query and not parts.fragment
    except ValueError:
        good, port = False, 0
    if not good:
        raise ValueError(
            "is no URL of a mail server; write smtps://USER:PASSWORD@mail.example.org (TLS), or smtp://... (STARTTLS)"
        )
    return MailServer(
        host=parts.hostname or "",
        port=port,
        tls=parts.scheme == "smtps",
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def mail_address(text: str) -> str:
    """Return a mail address, alone and without a name, that a header can hold as it is; ValueError for any other."""
    try:
        address = Address(addr_spec=text)
        good = text.isprintable() and address.addr_spec == text and bool(_DOMAIN.fullmatch(address.domain))
    except (HeaderParseError, ValueError, IndexError):
        good = False
    if not good or text.startswith("-"):
        raise ValueError(f"{text!r} is no mail address; write one such as api-team@example.org")
    return text


def shown_contact(contact: str) -> str:
    """Return where an owner is told, as it may be kept: of a mail address the first letter and the domain."""
    if "://" in contact:
        return masked(contact)
    name, _, domain = contact.removeprefix("mailto:").rpartition("@")
    return f"{name[:1]}…@{domain.partition('?')[0]}"


def masked(url: str) -> str:
    """Return a URL as it may be shown: scheme, host and port; what follows often is a secret."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(an address that can't be read)"
    rest = "/..." if parts.path.strip("/") or parts.query else ""
    return f"{parts.scheme}://{parts.hostname or '...'}{port}{rest}"

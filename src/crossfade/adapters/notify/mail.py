"""Notices to the owners of clients by mail, through a server that takes it (SMTP, RFC 5321).

The library of Python blocks, so each mail is handed over in a thread, one after the other. A mail's Message-ID is made
of the notice's id: whoever gets it twice can tell.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from ipaddress import ip_address

from crossfade.core.clients.owners import OwnerNotice
from crossfade.core.places import MailServer, mail_address, mail_server, shown_contact
from crossfade.core.words import one_line
from crossfade.errors import NoticeRefusedError, NotTakenError

TIMEOUT_S = 20.0
"""Real seconds for each answer of the server."""
_SAID_MAX = 200
_POLICY = SMTP.clone(cte_type="7bit")
"""Lines end as SMTP has them, and need nothing of the server but ASCII."""


class Mail:
    """Keeps `ports.OwnerNotifier`. The server's URL is read anew for each mail."""

    def __init__(
        self, server: Callable[[], str], *, sender: str, now: Callable[[], float], timeout_s: float = TIMEOUT_S
    ) -> None:
        """`server` returns a URL, and raises ValueError where it isn't there; `now` returns wall-clock seconds."""
        self._server, self._sender, self._now, self._timeout_s = server, sender, now, timeout_s
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mail")

    async def send_to_owner(self, notice: OwnerNotice) -> str:
        """Hand a mail over; return what the server said. Raises as `ports.OwnerNotifier` says."""
        try:
            server = mail_server(self._server())
        except ValueError as error:
            raise NotTakenError(f"the mail server: {error}") from None  # it may be put there meanwhile
        to = shown_contact(notice.contact)
        try:
            address = mail_address(notice.contact.removeprefix("mailto:"))
            message = made(notice, address, self._sender, self._now())
        except ValueError:
            raise NoticeRefusedError(f"{to} is no mail address that can be written to") from None
        where = f"{server.host}:{server.port}"
        run = asyncio.get_running_loop().run_in_executor
        try:
            return await run(self._threads, self._hand_over, server, message, address)
        except smtplib.SMTPRecipientsRefused as error:
            code, said = error.recipients[address]
            raise _refusal(f"{where} does not take mail for {to}: {code} {_said(said)}", code) from None
        except smtplib.SMTPDataError as error:
            reply = f"{error.smtp_code} {_said(error.smtp_error)}"
            raise _refusal(f"{where} does not take the mail to {to}: {reply}", error.smtp_code) from None
        except smtplib.SMTPResponseException as error:  # of the server or the sender: no fault of this owner's
            raise NotTakenError(f"{where} answered {error.smtp_code} {_said(error.smtp_error)}") from None
        except (smtplib.SMTPException, OSError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
            raise NotTakenError(f"{where}: {one_line(reason, _SAID_MAX)}") from None

    async def close(self) -> None:
        """Let go of the thread, without waiting for one that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _hand_over(self, server: MailServer, message: EmailMessage, address: str) -> str:
        context = ssl.create_default_context()
        client: smtplib.SMTP
        if server.tls:
            client = smtplib.SMTP_SSL(server.host, server.port, timeout=self._timeout_s, context=context)
        else:
            client = smtplib.SMTP(server.host, server.port, timeout=self._timeout_s)
        with client:
            if not server.tls and not _is_loopback(server.host):  # raises where the server has none
                client.starttls(context=context)
            if server.user:
                client.login(server.user, server.password)
            client.sendmail(self._sender, [address], message.as_bytes())
        return f"taken by {server.host}:{server.port}"


def made(notice: OwnerNotice, address: str, sender: str, at: float) -> EmailMessage:
    """Return a mail, plain text alone; ValueError where a value can't stand in a header."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = Address(display_name=notice.owner, addr_spec=address)
    message["Subject"] = notice.subject
    message["Date"] = format_datetime(datetime.fromtimestamp(at, UTC))
    message["Message-ID"] = f"<{notice.id}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(notice.text)
    return message


def _refusal(said: str, code: int) -> NotTakenError | NoticeRefusedError:
    """Return what a reply means: from 500 on it is for good (RFC 5321, section 4.2.1)."""
    return NoticeRefusedError(said) if code >= 500 else NotTakenError(said)


def _said(text: bytes | str) -> str:
    return one_line(text.decode("utf-8", "replace") if isinstance(text, bytes) else text, _SAID_MAX)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False

"""Asks one question of one server, for the mirror: GET or HEAD, one answer, never more of it than is compared."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Self

import aiohttp
from yarl import URL

from crossfade.core.mirror.compare import Answer, answer_of
from crossfade.errors import UsageError

SAFE = frozenset({"GET", "HEAD"})
"""Methods that are sent; whatever else was recorded changes something."""
BODY_BYTES_MAX = 4 * 1024 * 1024
"""Of a body, unpacked; a longer one is told and not compared."""
CONNECTIONS_MAX = 64
_READ = 64 * 1024
_CODINGS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_OWN = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "expect", "te", "upgrade"}
)
"""Request headers that belong to the connection, not to the question."""


class Asker:
    """Asks over kept connections; use it as a context."""

    def __init__(self, *, timeout_s: float = 10.0) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # no cookies are kept and nothing is unpacked here: a few bytes of gzip can be gigabytes
        self._session = aiohttp.ClientSession(
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            connector=aiohttp.TCPConnector(limit=CONNECTIONS_MAX),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        """Return what was answered; why there is nothing to compare is its `trouble`.

        UsageError where the method is not safe: the last of several checks, and the one that nothing gets past.
        """
        if method not in SAFE:
            raise UsageError(f"{method} may change something; a mirror sends GET and HEAD alone")
        if self._session is None:
            raise RuntimeError("ask inside the context")
        sent = {name: value for name, value in headers.items() if name.lower() not in _OWN}
        sent["Accept-Encoding"] = "gzip, deflate"
        try:
            async with self._session.request(
                method, URL(url, encoded=True), headers=sent, allow_redirects=False
            ) as answer:
                return await _read(answer)
        except TimeoutError:
            return Answer(trouble=f"no answer within {self._timeout_s:g} s")
        except aiohttp.ClientConnectorError as error:
            return Answer(trouble=f"no connection: {error.os_error.strerror or 'refused'}")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(trouble=f"no complete answer: {type(error).__name__}")


async def _read(answer: aiohttp.ClientResponse) -> Answer:
    headers = {name.lower(): ", ".join(answer.headers.getall(name)) for name in answer.headers}
    coding = headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity", *_CODINGS):
        return Answer(status=answer.status, headers=headers, trouble=f"packed as {coding[:32]}, which nobody asked for")
    unpacking = zlib.decompressobj(_CODINGS[coding]) if coding in _CODINGS else None
    body = bytearray()
    try:
        async for piece in answer.content.iter_chunked(_READ):
            body += piece if unpacking is None else unpacking.decompress(piece, BODY_BYTES_MAX + 1 - len(body))
            if len(body) > BODY_BYTES_MAX:
                answer.close()  # the rest is not waited for
                return Answer(status=answer.status, headers=headers, trouble=f"a body over {BODY_BYTES_MAX:,} bytes")
    except zlib.error:
        return Answer(status=answer.status, headers=headers, trouble=f"says that it is {coding} and is not")
    if unpacking is not None and body and not unpacking.eof:
        return Answer(status=answer.status, headers=headers, trouble=f"its {coding} ends too early")
    return answer_of(answer.status, headers, bytes(body))

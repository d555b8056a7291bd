"""Who is asking: the user of this machine, a token, or a browser that logged in with one."""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from crossfade.core.access import Role, Token, digest_of
from crossfade.ports import TokenStore

LOCAL = "local"
"""What the token of the control file is called."""

FAILURES = 10
FAILURES_S = 60.0
"""So many failed logins from one address within so many seconds, and it has to wait."""
_ADDRESSES = 10_000

CODE_S = 60.0
"""How long a login code holds; it works once."""
SESSION_S = 12 * 3600.0
_SESSIONS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody who has proved who they are."""

    name: str
    role: Role
    digest: str
    """Of the token's secret."""
    local: bool = False
    """The user of this machine, whose commands say themselves who they are."""
    session: str | None = None
    """Digest of the browser's cookie; None for a bearer token."""


@dataclass(frozen=True, slots=True)
class _Session:
    digest: str
    until: float


class Access:
    """Tells callers from strangers. What is revoked or expired holds no longer from the next request on."""

    def __init__(
        self, *, local: str, tokens: TokenStore, now: Callable[[], float], new_secret: Callable[[], str]
    ) -> None:
        """Take the control file's token, the other tokens, the wall clock, and what draws a secret."""
        self.tokens = tokens
        self._local = digest_of(local)
        self._now = now
        self.new_secret = new_secret
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._codes: OrderedDict[str, _Session] = OrderedDict()

    async def by_secret(self, secret: str) -> Caller | None:
        """Return who has this token; None where nobody has it any more."""
        return await self._by_digest(digest_of(secret))

    async def by_session(self, cookie: str) -> Caller | None:
        """Return who logged in with this cookie; None where that is over."""
        digest = digest_of(cookie)
        session = self._sessions.get(digest)
        if session is None:
            return None
        caller = await self._by_digest(session.digest) if self._now() < session.until else None
        if caller is None:
            del self._sessions[digest]
            return None
        return Caller(name=caller.name, role=caller.role, digest=caller.digest, session=digest)

    async def still(self, caller: Caller) -> bool:
        """Tell whether a caller is still who they were: neither revoked, nor expired, nor logged out."""
        if caller.session is not None and caller.session not in self._sessions:
            return False
        return await self._by_digest(caller.digest) is not None

    def open_session(self, caller: Caller) -> str:
        """Return the cookie of a new session; the oldest ends where there are too many."""
        cookie = self.new_secret()
        self._sessions[digest_of(cookie)] = _Session(caller.digest, self._now() + SESSION_S)
        while len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        return cookie

    def offer_code(self, caller: Caller) -> str:
        """Return a code that logs in as the caller, once and soon: fit for a link, as the token itself is not."""
        code = self.new_secret()
        self._codes[digest_of(code)] = _Session(caller.digest, self._now() + CODE_S)
        while len(self._codes) > _SESSIONS:
            self._codes.popitem(last=False)
        return code

    async def by_code(self, code: str) -> Caller | None:
        """Return whose code this is, and forget it; None where it is none, used or too old."""
        offered = self._codes.pop(digest_of(code), None)
        return None if offered is None or self._now() >= offered.until else await self._by_digest(offered.digest)

    def close_session(self, caller: Caller) -> None:
        """End a caller's session, where they have one."""
        self._sessions.pop(caller.session or "", None)

    async def _by_digest(self, digest: str) -> Caller | None:
        if hmac.compare_digest(digest, self._local):
            return Caller(name=LOCAL, role=Role.ADMIN, digest=digest, local=True)
        found: Token | None = None
        for token in await self.tokens.tokens():
            if hmac.compare_digest(digest, token.digest):
                found = token
        if found is None or found.expired(self._now()):
            return None
        return Caller(name=found.name, role=found.role, digest=digest)


class Failures:
    """Failed logins by address, in bounded memory."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def add(self, address: str) -> None:
        """Count one."""
        key = _group(address)
        self._times[key] = [*self._recent(key), self._monotonic()][-FAILURES:]
        self._times.move_to_end(key)
        while len(self._times) > _ADDRESSES:
            self._times.popitem(last=False)

    def wait_s(self, address: str) -> float:
        """Return the seconds that an address has to wait; 0 where it may try."""
        recent = self._recent(_group(address))
        return 0.0 if len(recent) < FAILURES else recent[0] + FAILURES_S - self._monotonic()

    def _recent(self, key: str) -> list[float]:
        since = self._monotonic() - FAILURES_S
        return [at for at in self._times.get(key, ()) if at > since]


def _group(address: str) -> str:
    """Return what counts as one address: of IPv6 the /64 that one subscriber has."""
    try:
        known = ip_address(address)
    except ValueError:
        return address
    return address if not isinstance(known, IPv6Address) else str(IPv6Address(int(known) >> 64 << 64))

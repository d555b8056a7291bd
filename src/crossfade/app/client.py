"""Commands speak to a controller over its API. Plain urllib: a command must start fast."""

from __future__ import annotations

import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from crossfade.app.control import Control
from crossfade.errors import ConflictError, CrossfadeError, UnreachableError, UsageError

_BY_STATUS: dict[int, type[CrossfadeError]] = {
    400: UsageError,
    401: UsageError,
    403: UsageError,
    404: UsageError,
    409: ConflictError,
    412: ConflictError,
    413: UsageError,
    422: UsageError,
}
_TOKEN, _TOKEN_FILE = "CROSSFADE_TOKEN", "CROSSFADE_TOKEN_FILE"
_API = "/api/v1"
SILENT_S = 40.0
"""Real seconds without a line after which a stream is given up; the controller gives a sign of life every 15."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A controller to speak to."""

    url: str
    token: str = field(repr=False)
    rollout: str = ""
    """Empty until it is known which rollout is carried out there."""
    ca: str = ""
    """File with the one certificate to trust; empty: those that this machine trusts."""
    advice: str = "is `crossfade serve` running?"
    """What to do where nobody answers."""


def local_target(control: Control) -> Target:
    """Return the controller that left a control file on this machine."""
    advice = "is `crossfade serve` running? Without it, `crossfade rollback --direct` still works"
    return Target(url=control.url, token=control.token, rollout=control.rollout, ca=control.ca, advice=advice)


def remote_target(url: str, rollout: str | None) -> Target:
    """Return a controller elsewhere, with the token from the environment; UsageError where one of them is missing."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise UsageError(
            f"--url is http(s)://HOST:PORT, not {parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()!r}"
        )
    token, file = os.environ.get(_TOKEN, ""), os.environ.get(_TOKEN_FILE, "")
    if not token and file:
        try:
            token = Path(file).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise UsageError(f"{_TOKEN_FILE}: {file} can't be read: {error}") from None
    token = token.strip()
    if not token:
        raise UsageError(f"with --url, {_TOKEN} or {_TOKEN_FILE} holds the token that `crossfade token create` gave")
    if not token.isascii() or not token.isprintable():
        raise UsageError("the token holds what is no part of one; copy it again")
    return Target(
        url=url.rstrip("/"), token=token, rollout=rollout or "", advice="is that where the controller listens?"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """What a controller says of itself."""

    hindered: str
    """Why it can't act; empty where it can."""
    follows: str = ""
    """Who leads instead; empty where it leads."""
    notices: str = ""
    """Which notices are not taken."""
    date: str = ""
    """The answer's Date."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a redirect would take the token to somebody else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Refuse."""
        return


class Client:
    """Calls one controller."""

    def __init__(self, target: Target, timeout_s: float = 10.0) -> None:
        self._target = target
        self._timeout_s = timeout_s
        # Commands never go through a proxy from the environment: it would see the token.
        handlers: list[Any] = [urllib.request.ProxyHandler({}), _NoRedirect()]
        if target.url.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=trusting(target.ca)))
        self._opener = urllib.request.build_opener(*handlers)
        self._rollout = target.rollout

    @property
    def url(self) -> str:
        """Return where the controller answers."""
        return self._target.url

    def get(self, path: str) -> Any:
        """Return the answer's JSON about the rollout; raises the error of the tree that the status stands for."""
        return self._call("GET", self._path(path), None)

    def post(self, path: str, body: dict[str, object]) -> Any:
        """The same with a JSON body."""
        return self._call("POST", self._path(path), body)

    def delete(self, path: str) -> Any:
        """The same without a body."""
        return self._call("DELETE", self._path(path), None)

    def pages(self, path: str, limit: int) -> Iterator[Any]:
        """Yield up to `limit` items of a list that comes in pages."""
        following: str | None = self._path(path)
        while following is not None and limit > 0:
            page = self._call("GET", following, None)
            yield from page["items"][:limit]
            limit -= len(page["items"])
            following = page["next"]

    def stream(self, path: str) -> Iterator[bytes]:
        """Yield the lines of an answer that goes on, as they come; UnreachableError where it breaks off.

        It ends where the controller ends it, and breaks off where nothing is heard for longer than its signs of life.
        """
        with self._answer("GET", self._path(path), None, SILENT_S) as answer:
            try:
                yield from answer
            except (OSError, ValueError, HTTPException) as error:
                raise UnreachableError(f"the controller at {self.url} is not heard any more ({error})") from None

    def general(self, method: str, path: str, body: dict[str, object] | None = None) -> Any:
        """Ask something that is about no rollout."""
        return self._call(method, _API + path, body)

    def ready(self) -> Ready:
        """Return whether the controller can act; UnreachableError where it does not answer."""
        request = urllib.request.Request(  # noqa: S310 - http and https only
            self._target.url + "/readyz", headers={"Authorization": f"Bearer {self._target.token}"}
        )
        try:
            with self._opener.open(request, timeout=self._timeout_s) as answer:
                told, date = json.load(answer), answer.headers.get("Date", "")
        except urllib.error.HTTPError as error:
            return Ready(hindered=str(_problem(error)), date=error.headers.get("Date", ""))
        except (OSError, ValueError, HTTPException) as error:
            raise self._silent(error) from None
        return Ready(hindered="", follows=told.get("follows", ""), notices=told.get("notices", ""), date=date)

    def _path(self, path: str) -> str:
        if not self._rollout:
            lines = self._call("GET", f"{_API}/rollouts", None)
            served = [line["rollout"] for line in lines if line["served"]]
            if len(served) != 1:
                raise UsageError(f"{self.url} carries out {len(served)} rollouts ({', '.join(served)}); name one")
            self._rollout = served[0]
        return f"{_API}/rollouts/{quote(self._rollout, safe='')}{path}"

    def _call(self, method: str, path: str, body: dict[str, object] | None) -> Any:
        try:
            with self._answer(method, path, body, self._timeout_s) as answer:
                return json.load(answer)
        except (OSError, ValueError, HTTPException) as error:
            raise self._silent(error) from None

    def _answer(self, method: str, path: str, body: dict[str, object] | None, timeout_s: float) -> Any:
        request = urllib.request.Request(  # noqa: S310 - http and https only
            self._target.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._target.token}", "Content-Type": "application/json"},
        )
        try:
            return self._opener.open(request, timeout=timeout_s)
        except urllib.error.HTTPError as error:
            raise _problem(error) from None
        except (OSError, ValueError, HTTPException) as error:
            raise self._silent(error) from None

    def _silent(self, error: Exception) -> UnreachableError:
        target, reason = self._target, getattr(error, "reason", error)
        who = f"the controller of {target.rollout}" if target.rollout else "the controller"
        return UnreachableError(f"{who} does not answer at {target.url} ({reason}); {target.advice}")


def trusting(ca: str) -> ssl.SSLContext:
    """Return what trusts this machine's authorities, or one certificate whatever name it is for."""
    if not ca:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise UnreachableError(f"the controller's certificate {ca} can't be read: {error}; restart it") from None
    context.check_hostname = False  # the file names this very certificate
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _problem(error: urllib.error.HTTPError) -> CrossfadeError:
    try:
        detail = json.load(error).get("detail") or str(error)
    except (ValueError, AttributeError):
        detail = f"{error}: that is no answer of a controller" if 300 <= error.code < 400 else str(error)
    return _BY_STATUS.get(error.code, CrossfadeError)(str(detail))

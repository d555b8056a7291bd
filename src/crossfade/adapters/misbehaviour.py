"""Telling a dependency to misbehave: `PUT /control` with a JSON object, as tripsearch's providers take it.

    {"mode": "normal" | "slow" | "fail" | "hang" | "lie" | "flaky" | "cut", "rate": 0..1, "delay_ms": ..., "seed": ...}

What is not given goes back to its default, so that {} and {"mode": "normal"} heal it. A dependency of one's own
only has to take the same object at an address of its own choosing.
"""

from __future__ import annotations

import json
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp

from crossfade.errors import UnreachableError, UsageError

DEADLINE_S = 5.0
_PATH = "/control"


class Misbehaviour:
    """One dependency's switch; an async context manager that heals it at the end, whatever came between."""

    def __init__(self, url: str) -> None:
        """Take the switch's address, or its origin; UsageError where it is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is no address of a control; write such as http://127.0.0.1:8103/control")
        self.url = url if parts.path not in ("", "/") else url.rstrip("/") + _PATH
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Misbehaviour:
        """Make sure that it is there and healthy; UnreachableError where it is not."""
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S))
        try:
            await self.tell("normal")
        except BaseException:
            await self._session.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Heal it."""
        if self._session is None:
            return
        try:
            await self.tell("normal")
        except UnreachableError:
            if error is None:
                raise
        finally:
            await self._session.close()

    async def tell(self, mode: str, **more: float) -> None:
        """Have it behave so from now on; UnreachableError where it does not do so."""
        if self._session is None:
            raise UnreachableError(f"{self.url} has not been opened")
        try:
            async with self._session.put(self.url, json={"mode": mode, **more}) as answer:
                if answer.status != 200:
                    said = (await answer.text())[:200]
                    raise UnreachableError(f"{self.url} answered {answer.status} to mode {mode}: {said}")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnreachableError(f"{self.url} can't be told to misbehave: {error or 'no answer'}") from None

    def curl(self, mode: str, **more: float) -> str:
        """Return the same as a command."""
        said = json.dumps({"mode": mode, **more})
        return f"curl -X PUT -H 'content-type: application/json' -d '{said}' {self.url}"

"""Idempotency-Key: a POST that is sent again gets the first answer again, and nothing is done twice."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from fastapi import HTTPException, Response

from crossfade.app.web.problems import problem_of
from crossfade.errors import ConflictError, CrossfadeError, UsageError

KEPT = 500
"""Answers kept at once; the oldest goes first."""
KEPT_S = 86_400.0
"""Real seconds that an answer is kept."""
REPLAYED = "Idempotency-Replayed"


@dataclass(slots=True)
class _Answer:
    fingerprint: bytes
    since: float
    response: asyncio.Future[Response] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Once:
    """Answers by caller and key, in memory: after a restart every key is new."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._answers: OrderedDict[tuple[str, str], _Answer] = OrderedDict()
        self._seen: OrderedDict[tuple[str, str], int] = OrderedDict()

    def first_seen(self, caller: str, key: str, revision: int) -> int:
        """Return the revision at which a key was sent first, which is `revision` where that is now.

        A request that was answered with 500 and above may have been carried out in part, or wholly.
        """
        first = self._seen.setdefault((caller, key), revision)
        while len(self._seen) > KEPT:
            self._seen.popitem(last=False)
        return first

    async def answer(
        self, caller: str, key: str | None, fingerprint: bytes, act: Callable[[], Awaitable[Response]]
    ) -> Response:
        """Return what `act` answers, or what it answered to the same key before.

        Whoever sends the key while the first is still being worked on waits for its answer. Raises UsageError
        where the key came with something else before. An answer of 500 and above is not kept: the same key tries
        again.
        """
        if key is None:
            return await act()
        self._let_go()
        known = self._answers.get((caller, key))
        if known is not None:
            if known.fingerprint != fingerprint:
                raise UsageError(f"Idempotency-Key {key!r} was sent with another request before; use a new key")
            return await _again(known)
        mine = self._answers[caller, key] = _Answer(fingerprint, self._monotonic())
        try:
            response = await _answered(act)
        except BaseException:
            self._forget(caller, key, mine)
            mine.response.cancel()
            raise
        if response.status_code >= 500:
            self._forget(caller, key, mine)
        else:
            self._seen.pop((caller, key), None)
        mine.response.set_result(response)
        return response

    def _forget(self, caller: str, key: str, mine: _Answer) -> None:
        if self._answers.get((caller, key)) is mine:
            del self._answers[caller, key]

    def _let_go(self) -> None:
        until = self._monotonic() - KEPT_S
        while self._answers:
            oldest = next(iter(self._answers.values()))
            if len(self._answers) < KEPT and oldest.since > until:
                return
            self._answers.popitem(last=False)


async def _answered(act: Callable[[], Awaitable[Response]]) -> Response:
    try:
        return await act()
    except (CrossfadeError, HTTPException) as error:
        return problem_of(error)


async def _again(known: _Answer) -> Response:
    try:
        first = await asyncio.shield(known.response)
    except asyncio.CancelledError:
        if not known.response.cancelled():
            raise
        raise ConflictError("the first request with this Idempotency-Key was broken off; look, and ask anew") from None
    headers = {name: value for name, value in first.headers.items() if name != "content-length"}
    return Response(bytes(first.body), first.status_code, {**headers, REPLAYED: "true"})

"""Real answers of both versions, as examples on the page for V1's clients."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp

from crossfade.core.contract.compare import Prefixes
from crossfade.core.contract.migration import Migration, Move
from crossfade.core.plan import Api
from crossfade.errors import UnreachableError, UsageError

TIMEOUT_S = 15.0
BYTES_MAX = 1_000_000
_SAFE = "/?&=%+:@,;~!*'()-._"


async def with_answers(found: Migration, targets: Sequence[str], api: Api, prefixes: Prefixes) -> Migration:
    """Return the page's moves with what V1 and V2 answer to some GETs of V1's own paths.

    Raises UsageError where a target is no operation of V1, or is not answered with 2xx and JSON; UnreachableError where
    nobody answers.
    """
    moves = list(found.moves)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        for target in targets:
            index = _operation(moves, target)
            v1 = await _answer(session, api.v1.upstreams[0], target)
            v2 = None
            if moves[index].v2 is not None:
                parts = urlsplit(target)
                path = _filled(moves[index], parts.path, prefixes)
                v2 = await _answer(session, api.v2.upstreams[0], f"{path}?{parts.query}" if parts.query else path)
            moves[index] = replace(moves[index], asked=target, v1_example=v1, v2_example=v2)
    return replace(found, moves=tuple(moves))


def _operation(moves: Sequence[Move], target: str) -> int:
    path = urlsplit(target).path
    for index, move in enumerate(moves):
        if move.method == "GET" and _shape(move.v1).fullmatch(path):
            return index
    known = ", ".join(move.v1 for move in moves if move.method == "GET")
    raise UsageError(f"--ask {target!r} is no GET of V1's document; it has {known or 'none'}")


def _shape(path: str) -> re.Pattern[str]:
    parts = re.split(r"\{[^{}/]*\}", path)
    return re.compile("([^/]+)".join(re.escape(part) for part in parts))


def _filled(move: Move, path: str, prefixes: Prefixes) -> str:
    """Return V2's path with the values that V1's has: both have the same shape."""
    match = _shape(move.v1).fullmatch(path)
    values = iter(match.groups() if match else ())
    return re.sub(r"\{[^{}/]*\}", lambda _: next(values, ""), move.v2 or prefixes.in_v2(path))


async def _answer(session: aiohttp.ClientSession, server: str, target: str) -> Any:
    url = f"http://{server}{quote(target, safe=_SAFE)}"
    try:
        async with session.get(url, allow_redirects=False) as answer:
            data = await answer.content.read(BYTES_MAX + 1)
            while len(data) <= BYTES_MAX and (more := await answer.content.read(BYTES_MAX + 1 - len(data))):
                data += more
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise UnreachableError(f"{url} gives no answer: {error or 'none in time'}") from None
    if not 200 <= status < 300:
        raise UsageError(f"{url} is answered with {status}; ask for something that both versions answer with 2xx")
    if len(data) > BYTES_MAX:
        raise UsageError(f"{url} is answered with more than {BYTES_MAX:,} bytes; ask for something smaller")
    try:
        return json.loads(data)
    except ValueError:
        raise UsageError(f"{url} is not answered with JSON, which the page could show") from None

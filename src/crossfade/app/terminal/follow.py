"""Events as they happen: the stream of the control API, taken up again wherever it broke off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

from crossfade.app.client import Client
from crossfade.errors import CrossfadeError, UnreachableError

AGAIN_S = 1.0
"""Real seconds between two attempts to connect."""


def followed(connect: Callable[[], Client], after: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the events after a revision (None: from now on), for ever.

    A controller that is gone is looked for until it is back.

    Raises what the controller refuses with, such as UsageError where the token is not valid any more.
    """
    from crossfade.adapters.system import SystemClock

    while True:
        try:
            for event in messages(connect().stream("/events/stream" + ("" if after is None else f"?after={after}"))):
                after = event["revision"]
                yield event
        except UnreachableError:
            pass  # looked for again
        except CrossfadeError as error:
            if type(error) is not CrossfadeError:  # 5xx: it ends, or has too many streams
                raise
        asyncio.run(SystemClock().sleep(AGAIN_S))


def messages(lines: Iterator[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the events of a stream of server-sent events; half a message at its end is none."""
    data: list[bytes] = []
    for sent in lines:
        line = sent.rstrip(b"\r\n")
        if line.startswith(b"data:"):
            data.append(line[5:].strip())
        elif not line and data:
            yield json.loads(b"\n".join(data))
            data = []

"""Stopping a proxy that outlived its controller."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from crossfade.adapters.haproxy.process import Process
from crossfade.adapters.haproxy.runtime import PID, Runtime
from crossfade.errors import CrossfadeError


async def stop_proxy_in(directory: Path, grace_s: float = 5.0) -> int | None:
    """End the HAProxy that serves from a directory, its clients first; return its pid, None where none answers."""
    runtime = Runtime(directory)
    try:
        pid = int((await runtime.info())["Pid"])
    except (CrossfadeError, KeyError, ValueError):
        return None
    finally:
        await runtime.close()
    with suppress(ProcessLookupError):
        await Process.adopt(pid).end(grace_s)
    (directory / PID).unlink(missing_ok=True)
    return pid

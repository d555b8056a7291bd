"""Checks of what runs: the controller's API, its certificate, from where it is reached, and the proxy."""

from __future__ import annotations

import asyncio
import csv
import socket
import ssl
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from crossfade.adapters.haproxy.runtime import Runtime
from crossfade.adapters.haproxy.state import Maps
from crossfade.adapters.system import SystemClock
from crossfade.app.client import Client, local_target, trusting
from crossfade.app.control import Control
from crossfade.app.doctor.finding import Finding, Subject, fail, ok, skip, warn
from crossfade.app.doctor.kept import PROXY_FOLDER, alive, history, listens, proxy_pid
from crossfade.core.words import duration
from crossfade.errors import CrossfadeError

_ASK_S = 5.0
_SERVE = "`crossfade serve` again: until then nobody watches V2"
_NOBODY = "no controller is known to run from this folder"
_CLOCKS_S = 5.0
_SOON_S = 30 * 86_400.0
_EXPIRED, _NOT_YET = 10, 9
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED and _NOT_YET_VALID."""


def controller(seen: Subject) -> Iterator[Finding]:
    """Tell whether the controller answers, can act, leads, and has the time that we have."""
    control = seen.control
    if seen.unread:
        found, _, mend = seen.unread.rpartition("; ")
        yield fail(found, mend)
        return
    if control is None:
        yield skip("no controller runs from this folder", "`crossfade serve PLAN` starts one")
        return
    if not alive(control.pid):
        yield fail(f"the controller (pid {control.pid}) has ended without a word", _SERVE)
        return
    try:
        told = Client(local_target(control), timeout_s=_ASK_S).ready()
    except CrossfadeError as error:
        yield fail(f"the controller (pid {control.pid}) is silent: {error}", "see its log; restart it")
        return
    if told.hindered:
        yield fail(f"not ready: {told.hindered}", "see `crossfade status` and the controller's log")
    elif told.follows:
        yield ok(f"it answers at {control.url}, and follows: {told.follows}")
    else:
        yield ok(f"it answers at {control.url}, is ready, and leads")
    if told.notices:
        yield warn(
            f"notices are not taken: {told.notices}",
            "`crossfade notify test PLAN` tries them; `crossfade clients notices` lists those to owners",
        )
    yield _clock(told.date)


def _clock(date: str) -> Finding:
    if not date:
        return skip("its answer has no date to compare clocks by")
    apart = abs(parsedate_to_datetime(date).timestamp() - SystemClock().now())
    if apart > _CLOCKS_S:
        return warn(f"its clock and ours are {duration(apart)} apart", "have both machines ask a time server")
    return ok("its clock and ours agree")


def exposure(seen: Subject) -> Iterator[Finding]:
    """Tell from where the control API is reached, and whether tokens travel in clear."""
    control = seen.control
    if control is None or not alive(control.pid):
        yield skip(_NOBODY)
        return
    url = urlsplit(control.url)
    beyond = [address for address in listens(control.pid, url.port or 0) if not address.is_loopback]
    if not beyond:
        yield ok("the control API is reached from this machine alone")
    elif url.scheme == "https":
        yield ok(f"the control API listens on {beyond[0]}, with TLS")
    else:
        yield warn(
            f"the control API listens on {beyond[0]} without TLS: tokens travel in clear",
            "give `serve` --tls-cert and --tls-key, or have a proxy in front of it speak TLS",
        )


def certificate(seen: Subject) -> Iterator[Finding]:
    """Tell of the certificate that the control API serves with: until when it holds, and for which names."""
    control = seen.control
    if control is None or not control.ca:
        yield skip(_NOBODY if control is None else "the control API speaks no TLS")
        return
    renew = "renew it and restart `crossfade serve`"
    try:
        found = _certificate(control)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code in (_EXPIRED, _NOT_YET):
            yield fail(f"{control.ca}: {error.verify_message}", renew)
        else:
            yield fail(
                f"what is served is not {control.ca} as it is now ({error.verify_message})", "restart `crossfade serve`"
            )
        return
    left = ssl.cert_time_to_seconds(found["notAfter"]) - SystemClock().now()
    told = f"{control.ca} holds for {duration(left)} more, until {found['notAfter']}"
    yield ok(told) if left >= _SOON_S else warn(told, renew)
    names = [value for kind, value in found.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    wanted = [name.strip() for name in seen.settings.host_name.split(",") if name.strip()]
    missing = [name for name in wanted if not any(_is_for(name, pattern) for pattern in names)]
    if missing:
        yield warn(
            f"it is for {', '.join(names) or 'nobody'}, not for {', '.join(missing)} of CROSSFADE_HOST_NAME", renew
        )
    else:
        yield ok(f"it is for {', '.join(names) or 'nobody'}")


def _certificate(control: Control) -> dict[str, Any]:
    """Return what the served certificate says; raises SSLCertVerificationError where it does not hold."""
    url = urlsplit(control.url)
    with (
        socket.create_connection((url.hostname or "", url.port or 443), timeout=_ASK_S) as connection,
        trusting(control.ca).wrap_socket(connection) as secured,
    ):
        return dict(secured.getpeercert() or {})


def _is_for(name: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return name.partition(".")[2].lower() == pattern[2:].lower()
    return name.lower() == pattern.lower()


def proxy(seen: Subject) -> Iterator[Finding]:
    """Tell whether the proxy lives and answers, and carries what the store says."""
    directory, pid = seen.folder / PROXY_FOLDER, proxy_pid(seen.folder)
    if pid is None:
        if seen.control is not None and alive(seen.control.pid):
            yield fail("the proxy has ended", "the controller starts it again; if it doesn't, its log says why")
        else:
            yield skip("no proxy runs", "`crossfade serve PLAN` starts one")
        return
    try:
        info, maps, stat = asyncio.run(_asked(directory))
    except CrossfadeError as error:
        yield fail(f"the proxy lives (pid {pid}), and its socket is silent: {error}", "restart `crossfade serve`")
        return
    yield ok(f"the proxy (pid {pid}, HAProxy {info.get('Version', '?')}) lives and answers")
    if info.get("Pid") != str(pid):
        yield warn(f"another process (pid {info.get('Pid')}) answers for it", "wait: it is being replaced")
    yield _compared(maps, seen)
    yield _healthy(stat)


async def _asked(directory: Path) -> tuple[dict[str, str], Maps, str]:
    runtime = Runtime(directory)
    try:
        return await runtime.info(), await runtime.maps(), await runtime.ask("show stat")
    finally:
        await runtime.close()


def _compared(maps: Maps, seen: Subject) -> Finding:
    """Tell whether the proxy carries what the history wants."""
    rollout = history(seen)
    carries = f"generation {maps.generation}, {'everyone on V1' if maps.killed else 'V2 may have its share'}"
    if rollout is None:
        return skip(f"it carries {carries}; the store can't tell whether that is right")
    wanted = (
        f"generation {rollout.generation}, {'everyone on V1' if rollout.wanted_killed else 'V2 may have its share'}"
    )
    if maps.generation > rollout.generation:
        return fail(
            f"it carries {carries}, the store knows {wanted}",
            "another controller acts on this proxy, or the store is an old copy: find which",
        )
    if (maps.generation, maps.killed) != (rollout.generation, rollout.wanted_killed):
        return warn(
            f"it carries {carries}, the store wants {wanted}",
            "a controller that leads sets it at its next tick; without one: `crossfade serve`",
        )
    return ok(f"it carries what the store wants: {carries}")


def _healthy(stat: str) -> Finding:
    """Tell which servers the proxy itself holds for down."""
    rows = csv.DictReader(stat.lstrip("# ").splitlines())
    down = [
        f"{row['svname']} ({row['status']}, {row.get('check_status') or 'not checked'})"
        for row in rows
        if row["pxname"] in ("v1", "v2") and row["svname"] != "BACKEND" and row["status"].startswith(("DOWN", "MAINT"))
    ]
    if down:
        return fail(f"the proxy holds for down: {', '.join(down)}", "see these services' logs")
    return ok("the proxy holds no server of V1 or V2 for down")

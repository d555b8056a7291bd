"""Checks of what a rollout is carried out from: plan, files, store, lease, and the addresses that the plan names."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from crossfade.adapters.haproxy.process import Process, ensure_port_free
from crossfade.adapters.haproxy.runtime import PID
from crossfade.adapters.store import schema
from crossfade.adapters.store.peek import Peeked, damage, peek
from crossfade.app.control import CONTROL_FILE
from crossfade.app.doctor.finding import Finding, Subject, fail, ok, skip, warn
from crossfade.app.doctor.machine import kept_safe, private
from crossfade.app.formkey import FORM_KEY_FILE
from crossfade.app.notices import read_kept
from crossfade.core.events import from_data
from crossfade.core.plan import Kept
from crossfade.core.rollout import Rollout, fold
from crossfade.errors import CrossfadeError, ProxyRefusedError

PROXY_FOLDER, TELEMETRY_KEY = "proxy", "telemetry.key"
_CONNECT_S = 2.0
_LISTENING = "0A"
_WHERE_IT_RUNS = "`serve` needs it where it runs, if not here"


def plan(seen: Subject) -> Iterator[Finding]:
    """Tell whether the plan file can be meant, and is that of the rollout."""
    if seen.plan is None:
        lines = seen.wrong.splitlines()
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        if seen.path is None:
            yield skip(seen.wrong, "name the plan: `crossfade doctor PLAN`")
        else:
            yield fail(f"{lines[0]}{more}", f"`crossfade check {seen.path}` lists every mistake")
        return
    yield ok(f"{seen.path} is a plan of {len(seen.plan.phases)} phases")


def notices(seen: Subject) -> Iterator[Finding]:
    """Tell whether the places that notices go to, and their secrets, are where the plan says."""
    plan = seen.plan
    if plan is None or not (plan.notices or plan.owner_notices):
        yield skip("no plan" if plan is None else "the plan tells nobody of anything")
        return
    for rule in plan.notices:
        missing = _missing(rule.webhook, rule.secret, rule.apprise)
        if missing:
            yield warn(f"rule {rule.name}: {missing}", _WHERE_IT_RUNS)
        else:
            yield ok(f"rule {rule.name} has all that it needs; `crossfade notify test` tries it")
    owners = plan.owner_notices
    if owners is not None:
        missing = _missing(owners.mail, owners.secret)
        if missing:
            yield warn(f"owners of clients: {missing}", _WHERE_IT_RUNS)
        else:
            yield ok("owners of clients can be told; `crossfade clients notices --dry-run` says what")


def _missing(*needed: Kept | None) -> str:
    """Return what of it can't be read, and why; empty where all can."""
    faults = []
    for kept in needed:
        try:
            if kept is not None:
                read_kept(kept)
        except ValueError as error:
            faults.append(str(error))
    return "; ".join(faults)


def upstreams(seen: Subject) -> Iterator[Finding]:
    """Tell which servers of V1 and V2 take a connection."""
    if seen.plan is None:
        yield skip("no plan")
        return
    for version, side in (("V1", seen.plan.api.v1), ("V2", seen.plan.api.v2)):
        refused = {address: why for address in side.upstreams if (why := _refused(address))}
        told = ", ".join(f"{address} ({why})" for address, why in refused.items())
        if not refused:
            yield ok(f"{version}: {', '.join(side.upstreams)} can be connected to")
        elif len(refused) < len(side.upstreams):
            yield warn(f"{version}: can't be connected to: {told}", "start it; the others serve meanwhile")
        else:
            yield fail(f"{version}: can't be connected to: {told}", "start it, or correct the plan's upstreams")


def _refused(address: str) -> str:
    """Return why a server takes no connection; empty where it does."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def port(seen: Subject) -> Iterator[Finding]:
    """Tell whether clients can be listened for where the plan says."""
    if seen.plan is None:
        yield skip("no plan")
        return
    listen, pid = seen.plan.api.listen, proxy_pid(seen.folder)
    if pid is not None:
        with suppress(PermissionError):  # of the sockets of somebody else's process
            if listens(pid, int(listen.rpartition(":")[2])):
                yield ok(f"the proxy (pid {pid}) listens at {listen}")
                return
    try:
        ensure_port_free(listen)
    except ProxyRefusedError as error:
        found, _, mend = str(error).partition("; ")
        yield fail(found, mend)
    else:
        yield ok(f"{listen} is free")


def listens(pid: int, port: int) -> list[IPv4Address | IPv6Address]:
    """Return the addresses at which a process itself listens on a TCP port; raises OSError."""
    own = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            own.add(str(entry.readlink()))
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            host, _, number = fields[1].rpartition(":")
            if fields[3] == _LISTENING and int(number, 16) == port and f"socket:[{fields[9]}]" in own:
                words = [bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8)]
                found.append(ip_address(b"".join(words)))
    return found


def proxy_pid(folder: Path) -> int | None:
    """Return the pid of a rollout's proxy; None where none lives, or none was noted."""
    try:
        process = Process.adopt(int((folder / PROXY_FOLDER / PID).read_text()))
    except (OSError, ValueError):
        return None
    try:
        return process.pid if process.alive else None
    finally:
        process.release()


def files(seen: Subject) -> Iterator[Finding]:
    """Tell whether others may read secrets, or change what the rollout is carried out by."""
    if seen.folder.stat().st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        yield warn(f"{seen.folder} is somebody else's", "run commands as the user that `serve` runs as")
    yield from kept_safe(seen.folder)
    yield from private(*(seen.folder / name for name in (CONTROL_FILE, TELEMETRY_KEY, FORM_KEY_FILE)))


def store(seen: Subject) -> Iterator[Finding]:
    """Tell whether the store can be read, by which schema, and whether it is whole."""
    found = _peek(seen)
    if isinstance(found, Finding):
        yield found
        return
    if found.revision is None:
        yield skip(f"{found.shown} holds nothing yet", "`crossfade serve` makes its tables")
        return
    if found.revision == schema.REVISION:
        yield ok(f"{found.shown} has schema {found.revision}, with {len(found.events)} events of this rollout")
    elif found.revision in schema.REVISIONS:
        yield warn(
            f"{found.shown} has schema {found.revision}, this version writes {schema.REVISION}",
            "the next `crossfade serve` migrates it; back it up before",
        )
    else:
        yield fail(
            f"{found.shown} has schema {found.revision}, this version knows {schema.REVISION} at most",
            "install the Crossfade that wrote it, or restore a backup",
        )
    wrong = damage(seen.database)
    if wrong:
        yield fail(f"{found.shown} is damaged: {wrong}", "restore it from a backup")
    elif wrong is not None:
        yield ok("SQLite's quick check finds it whole")


def _peek(seen: Subject) -> Peeked | Finding:
    if not seen.settings.database and not (seen.folder / "store.db").exists():
        return skip(f"{seen.folder} holds no store", "where `serve` was given --database, give the same here")
    try:
        return peek(seen.database, seen.name)
    except CrossfadeError as error:
        found, _, mend = str(error).rpartition("; ")
        return fail(found or mend, mend if found else "")


def history(seen: Subject) -> Rollout | None:
    """Return the rollout as its store has it; None where the store can't tell."""
    found = _peek(seen)
    if isinstance(found, Finding) or not found.events:
        return None
    return fold(seen.name, [from_data(event.kind, event.at, event.data) for event in found.events])


def started_from(seen: Subject) -> Iterator[Finding]:
    """Tell whether the plan is still the one that the rollout was started from."""
    rollout = history(seen)
    if rollout is None or not rollout.digest or seen.plan is None:
        yield skip("no plan" if seen.plan is None else "nothing was started yet, as far as the store can tell")
    elif rollout.digest != seen.plan.digest:
        yield fail(
            f"{seen.path} is not the plan that {seen.name} was started from any more",
            "take the changes back, or give the changed plan another `rollout:` name",
        )
    else:
        yield ok(f"{seen.name} was started from this plan, and is {rollout.state.value.replace('_', ' ')}")


def lease(seen: Subject) -> Iterator[Finding]:
    """Tell who may act."""
    found = _peek(seen)
    if isinstance(found, Finding) or found.lease is None:
        yield skip("nobody ever had the lease, as far as the store can tell")
        return
    held = found.lease
    if not held.holder:
        yield ok(f"nobody holds the lease (generation {held.generation}); the next `crossfade serve` takes it")
        return
    host, _, rest = held.holder.partition("/")
    pid, here = rest.partition("/")[0], host == socket.gethostname()
    told = f"{held.holder} at {held.address} holds the lease (generation {held.generation})"
    if seen.control is not None and here and pid == str(seen.control.pid) and alive(seen.control.pid):
        yield ok(f"{told}: the controller of this folder")
    elif here and pid.isdecimal() and not alive(int(pid)):
        yield warn(f"{told}, and has ended", f"another `crossfade serve` takes it within {2 * held.lasts_s:g} s")
    else:
        yield warn(f"{told}, which is not the controller of this folder", f"ask there, with --url {held.address}")


def alive(pid: int) -> bool:
    """Tell whether a process lives."""
    try:
        process = Process.adopt(pid)
    except (OSError, ValueError, OverflowError):
        return False
    try:
        return process.alive
    finally:
        process.release()

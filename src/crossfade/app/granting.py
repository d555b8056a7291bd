"""`crossfade token` and `crossfade audit`: on the files of this machine, or over the API of a controller elsewhere."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from crossfade.adapters.access import FileAudit, FileTokens
from crossfade.adapters.system import SystemClock, new_token
from crossfade.app import render
from crossfade.app.commands import elsewhere, person, say
from crossfade.app.control import AUDIT_FILE, TOKENS_FILE
from crossfade.app.planfile.quantities import duration
from crossfade.app.views import token_view
from crossfade.core.access import PREFIX, Act, Role, issue
from crossfade.errors import StoreError, UsageError


def create(state: Path, output: str, *, name: str, role: str, expires: str) -> None:
    """Make a token; its secret alone goes to the standard output, so that a script can keep it."""
    try:
        expires_s = duration(expires) if expires else None
        secret, now = PREFIX + new_token(), SystemClock().now()
        token = issue(name, Role(role), secret, now=now, by=person(), expires_s=expires_s)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if expires_s == 0:
        raise UsageError("--expires 0s is over at once; say how long it is to hold, such as 30d")
    remote = elsewhere()
    if remote is None:
        asyncio.run(FileTokens(state / TOKENS_FILE).add(token))
        note(state, "token create", "", f"{name}, {role}")
        made: dict[str, Any] = {**token_view(token, now), "token": secret}
    else:
        made = remote.general("POST", "/tokens", {"name": name, "role": role, "expires_s": expires_s})
    say(output, made, made["token"])
    click.echo(f"keep it: it is shown this once; `crossfade token revoke {name}` ends it", err=True)


def listed(state: Path, output: str) -> None:
    """Print the tokens."""
    remote = elsewhere()
    if remote is None:
        now = SystemClock().now()
        data = [token_view(token, now) for token in asyncio.run(FileTokens(state / TOKENS_FILE).tokens())]
    else:
        data = remote.general("GET", "/tokens")
    say(output, data, render.tokens(data))


def revoke(state: Path, output: str, name: str) -> None:
    """End a token."""
    remote = elsewhere()
    if remote is None:
        data = token_view(asyncio.run(FileTokens(state / TOKENS_FILE).remove(name)), SystemClock().now())
        note(state, "token revoke", "", name)
    else:
        data = remote.general("DELETE", f"/tokens/{name}")
    say(output, data, f"the token {name} is revoked: nobody gets in with it any more")


def audit(state: Path, output: str, count: int) -> None:
    """Print the latest acts, oldest first."""
    remote = elsewhere()
    if remote is None:
        data = [asdict(act) for act in asyncio.run(FileAudit(state / AUDIT_FILE).latest(count))]
    else:
        data = remote.general("GET", f"/audit?limit={count}")
    say(output, data[::-1], render.acts(data[::-1]))


def note(state: Path, act: str, rollout: str, reason: str, *, failed: str = "") -> None:
    """Write down what this machine's user did without a controller; what was done stays done where that fails."""
    done = Act(
        at=SystemClock().now(),
        by=person(),
        role=Role.ADMIN,
        address="",
        act=act,
        rollout=rollout,
        reason=reason,
        status=502 if failed else 200,
        detail=failed,
    )
    try:
        asyncio.run(FileAudit(state / AUDIT_FILE).append(done))
    except StoreError as error:
        click.echo(f"this could not be written down: {error}", err=True)

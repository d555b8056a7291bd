"""What is kept of V1 before it goes: files, a manifest that names them, and a program that takes them away.

All of it happens where `crossfade retire` is called, before the controller is asked for anything: a program that
fails, or takes too long, leaves V1 as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crossfade.adapters.haproxy.state import write_atomically
from crossfade.app.client import Client
from crossfade.core.words import duration
from crossfade.errors import CrossfadeError, UsageError

MANIFEST = "manifest.json"
_EVENTS_MAX = 10_000_000
_KEPT_BACK = ("CROSSFADE_TOKEN", "CROSSFADE_TOKEN_FILE")
"""What a program is not told of the environment."""


def write_manifest(client: Client, folder: Path, *, plan: Path | None, build: str, made_at: float) -> Path:
    """Write plan, events and report of a rollout into a folder, and the manifest last; return the manifest.

    `plan` is the plan's file where it is on this machine, `made_at` seconds since the epoch. A manifest that is there
    names files that were written whole. Raises UsageError where the folder or the plan's file can't be used.
    """
    events = list(client.pages("/events?limit=1000", _EVENTS_MAX))
    status = client.get("")
    files = {
        "plan.json": _json(client.get("/plan")),
        "events.jsonl": "".join(json.dumps(event) + "\n" for event in events),
        "report.json": _json({"status": status, "phases": client.get("/phases"), "metrics": client.get("/metrics")}),
    }
    try:
        if plan is not None:
            files["plan.yaml"] = plan.read_text(encoding="utf-8")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        (folder / MANIFEST).unlink(missing_ok=True)  # of an attempt before: its files are replaced
        for name, text in files.items():
            write_atomically(folder / name, text)
        manifest = {
            "crossfade_archive": 1,
            "rollout": status["rollout"],
            "made_at": f"{datetime.fromtimestamp(made_at, UTC):%Y-%m-%dT%H:%M:%SZ}",
            "revision": status["revision"],
            "v1": {"build": build or None, "openapi_sha256": _openapi(events)},
            "files": {name: _entry(text) for name, text in files.items()},
        }
        write_atomically(folder / MANIFEST, _json(manifest))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{folder} can't be written, or {plan} not be read: {error}") from None
    return folder / MANIFEST


def digest_of(manifest: Path) -> str:
    """Return the SHA-256 (hex) of a manifest, which stands for all that it names."""
    return hashlib.sha256(manifest.read_bytes()).hexdigest()


def run_hook(argv: Sequence[str], manifest: Path, limit_s: float) -> None:
    """Run a program with the manifest as its last argument, without a shell; it and its children are ended in time.

    Raises UsageError where there is no such program, CrossfadeError where it fails or takes longer than `limit_s`.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _KEPT_BACK}
    try:
        process = subprocess.Popen([*argv, str(manifest)], env=environment, start_new_session=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{argv[0]} can't be run: {error}; nothing was retired") from None
    try:
        code = process.wait(limit_s)
    except subprocess.TimeoutExpired:
        raise CrossfadeError(f"{argv[0]} took longer than {duration(limit_s)}; nothing was retired") from None
    finally:
        if process.returncode is None:  # too long, or Ctrl-C
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if code != 0:
        how = f"ended with {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"
        raise CrossfadeError(f"{argv[0]} {how}; nothing was retired")


def _openapi(events: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the SHA-256 of V1's document as the latest rehearsal recorded had it; None where none did."""
    told = [event["data"].get("versions", {}).get("v1") for event in events if event["kind"] == "RehearsalRecorded"]
    return next((digest for digest in reversed(told) if digest), None)


def _entry(text: str) -> dict[str, str | int]:
    data = text.encode()
    return {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def _json(data: Any) -> str:
    return json.dumps(data, indent=2) + "\n"

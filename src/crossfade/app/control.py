"""The control file: how a command on this machine finds the controller and proves that it may speak to it."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from crossfade.errors import UnreachableError, UsageError

CONTROL_FILE = "control.json"
CLAIM_FILE = "serve.lock"
STORE_FILE = "store.db"
TOKENS_FILE = "tokens.json"
AUDIT_FILE = "audit.jsonl"
"""Beside the rollouts' folders: a token holds for each of them, and the record of acts is of all."""
PLAN_FILE = "plan"
"""Says which plan file the rollout was last carried out from, for commands that need it when nobody serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """What a running controller leaves for commands, readable by its user alone."""

    rollout: str
    url: str
    token: str
    plan: str
    """Absolute path of the plan file."""
    pid: int
    ca: str = ""
    """File with the certificate that it serves with; empty without TLS."""

    def write(self, folder: Path) -> None:
        """Write the control file with mode 0600, atomically."""
        temporary = folder / f".{CONTROL_FILE}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        temporary.replace(folder / CONTROL_FILE)

    def remove(self, folder: Path) -> None:
        """Remove the control file, unless another process has written its own meanwhile."""
        with suppress(OSError, ValueError):
            if json.loads((folder / CONTROL_FILE).read_text(encoding="utf-8")).get("pid") == self.pid:
                (folder / CONTROL_FILE).unlink(missing_ok=True)


class Claim:
    """One process's claim on a rollout's folder. The system gives it back when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / CLAIM_FILE
        self._file: TextIO | None = None
        self.predecessor = ""
        """Which lease holder had the claim before and lives no more; empty where there was none, or it isn't ours."""

    def take(self) -> bool:
        """Take the claim where no living process has it, a stopped one included; tell whether we have it."""
        if self._file is None:
            file = self._path.open("a+", encoding="utf-8")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.close()
                return False
            file.seek(0)
            self.predecessor, self._file = file.read(), file
        return True

    def note(self, holder: str) -> None:
        """Leave the name under which we hold the lease to whoever comes after us."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.write(holder)
            self._file.flush()

    def close(self) -> None:
        """Give the claim back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def find_folder(state: Path, rollout: str | None) -> Path:
    """Return the folder of the rollout meant; raises UsageError where none or several could be."""
    if rollout is not None:
        folder = state / rollout
        if not folder.is_dir():
            raise UsageError(f"there is no rollout {rollout!r} in {state}; `crossfade serve PLAN` starts one")
        return folder
    folders = sorted(path for path in state.glob("*") if path.is_dir()) if state.is_dir() else []
    if not folders:
        raise UsageError(f"there is no rollout in {state}; start one with `crossfade serve PLAN`, or say --state DIR")
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise UsageError(f"{state} holds several rollouts ({names}); name one")
    return folders[0]


def note_plan(folder: Path, plan: Path) -> None:
    """Write down which plan file a rollout is carried out from."""
    (folder / PLAN_FILE).write_text(str(plan), encoding="utf-8")


def noted_plan(folder: Path) -> Path | None:
    """Return the plan file that a rollout was last carried out from; None where that was not written down."""
    try:
        return Path((folder / PLAN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def read_control(folder: Path) -> Control:
    """Read a rollout's control file; raises UnreachableError where there is none that can be read."""
    path = folder / CONTROL_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Control(**data)
    except FileNotFoundError:
        raise UnreachableError(
            f"no controller has served {folder.name} from {folder}; start it with `crossfade serve PLAN`"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise UnreachableError(f"{path} can't be read: {error}; restart the controller") from None

"""Tokens and the record of acts in files: for their owner alone, shared by every process on this machine."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from crossfade.core.access import Act, Role, Token
from crossfade.core.jsonable import to_json
from crossfade.errors import ConflictError, StoreError, UsageError

AUDIT_BYTES = 4 * 2**20
"""Size at which a file of acts is put aside."""
AUDIT_FILES = 5
"""Files of acts that are kept in all: about 100,000 acts."""


class FileTokens:
    """Keeps `ports.TokenStore` in one JSON file; what another process writes holds from the next look on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._tokens: tuple[Token, ...] = ()

    async def tokens(self) -> Sequence[Token]:
        """Return every token that was not revoked, in the order of their making."""
        return self._read()

    async def add(self, token: Token) -> None:
        """Keep a token; ConflictError where one of that name is still valid, an expired one is replaced."""
        with _locked(self._path):
            kept = [other for other in self._read() if not other.expired(token.created_at)]
            if any(other.name == token.name for other in kept):
                raise ConflictError(f"there is a token {token.name!r} already; revoke it first, or choose another name")
            self._write([*kept, token])

    async def remove(self, name: str) -> Token:
        """Forget a token and return it; UsageError where there is none of that name."""
        with _locked(self._path):
            kept = self._read()
            found = next((token for token in kept if token.name == name), None)
            if found is None:
                names = ", ".join(token.name for token in kept) or "none"
                raise UsageError(f"there is no token {name!r}; there is {names}")
            self._write([token for token in kept if token is not found])
            return found

    def _read(self) -> tuple[Token, ...]:
        try:
            status = self._path.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen:
                self._tokens = tuple(_token(item) for item in orjson.loads(self._path.read_bytes())["tokens"])
                self._seen = seen
        except FileNotFoundError:
            self._tokens, self._seen = (), None
        except (OSError, ValueError, TypeError, KeyError) as error:
            self._tokens, self._seen = (), None
            raise StoreError(
                f"{self._path} can't be read, so no token is accepted: {error}; mend it, or remove it and create "
                "the tokens anew"
            ) from None
        return self._tokens

    def _write(self, tokens: Sequence[Token]) -> None:
        temporary = self._path.with_name(f".{self._path.name}.new")
        try:
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(orjson.dumps({"tokens": [asdict(token) for token in tokens]}, option=orjson.OPT_INDENT_2))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
        except OSError as error:
            raise StoreError(f"{self._path} can't be written: {error.strerror or error}") from None


def _token(item: dict[str, Any]) -> Token:
    return Token(**{**item, "role": Role(item["role"])})


class FileAudit:
    """Keeps `ports.Audit` in lines of JSON; full files are put aside, and the oldest of them let go."""

    def __init__(self, path: Path, *, size: int = AUDIT_BYTES, files: int = AUDIT_FILES) -> None:
        self._path = path
        self._size = size
        self._files = files

    async def append(self, act: Act) -> None:
        """Keep one act."""
        await asyncio.to_thread(self._append, to_json(act) + b"\n")

    async def latest(self, limit: int) -> Sequence[Act]:
        """Return the latest acts, newest first; a line that can't be read is passed over."""
        return await asyncio.to_thread(self._latest, limit)

    def _append(self, line: bytes) -> None:
        try:
            with _locked(self._path):
                self._put_aside(len(line))
                descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                with os.fdopen(descriptor, "wb") as file:
                    file.write(line)
        except OSError as error:
            raise StoreError(f"{self._path} can't be written: {error.strerror or error}") from None

    def _put_aside(self, coming: int) -> None:
        if not self._path.exists() or self._path.stat().st_size + coming <= self._size:
            return
        for number in range(self._files - 1, 0, -1):
            older = self._aside(number)
            if older.exists():
                older.replace(self._aside(number + 1))
        self._aside(self._files).unlink(missing_ok=True)
        self._path.replace(self._aside(1))

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _latest(self, limit: int) -> list[Act]:
        found: list[Act] = []
        try:
            with _locked(self._path):
                for path in (self._path, *(self._aside(n) for n in range(1, self._files))):
                    lines = path.read_bytes().splitlines() if path.exists() else []
                    found += [act for line in reversed(lines) if (act := _act(line)) is not None]
                    if len(found) >= limit:
                        break
        except OSError as error:
            raise StoreError(f"{self._path} can't be read: {error.strerror or error}") from None
        return found[:limit]


def _act(line: bytes) -> Act | None:
    try:
        return Act(**orjson.loads(line))
    except (ValueError, TypeError):
        return None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock beside a file while the body runs; other processes wait. StoreError where it can't be made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"{path} can't be locked: {error.strerror or error}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

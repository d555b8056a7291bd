"""The key that links to the feedback form are signed with: one for all controllers of a rollout, kept in its store.

The folder keeps a copy, which another store is given first: links outlive a move of the rollout.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from crossfade.engine.controller import Controller
from crossfade.errors import ConflictError
from crossfade.ports import Store

FORM_KEY_FILE = "form.key"
NAME = "feedback form"
KEY_BYTES = 32


class FormKey:
    """The key of one rollout's links."""

    def __init__(
        self,
        controller: Controller,
        store: Store,
        *,
        new: Callable[[], bytes],
        copy: Path | None = None,
        former: bytes | None = None,
    ) -> None:
        """`new` returns a key that nobody can guess.

        `copy` is the file that keeps a copy of the key; `former` signed links of this folder before the store had one.
        """
        self._controller, self._store, self._new, self._copy, self._former = controller, store, new, copy, former
        self._kept: bytes | None = None

    async def to_sign(self) -> bytes:
        """Return the key; the first who asks has it made.

        ConflictError where there is none yet and this controller follows, StoreError where nobody can tell.
        """
        if self._kept is None and await self._read() is None:
            controller = self._controller
            if controller.fenced is not None:
                raise ConflictError(controller.fenced)
            generation = 0 if controller.lease is None else controller.lease.generation
            proposed = self._copied() or self._new()
            self._take(await self._store.keep_key(controller.plan.name, NAME, proposed, generation=generation))
        assert self._kept is not None  # noqa: S101 - one of both has set it
        return self._kept

    def here(self) -> tuple[bytes, ...]:
        """Return the keys that are known without the store: a link of any of them is ours."""
        return tuple(key for key in (self._kept or self._copied(), self._former) if key)

    async def elsewhere(self) -> bytes | None:
        """Return the key that another controller has made, where it is not known here; StoreError: nobody can tell."""
        return await self._read() if self._kept is None else None

    async def _read(self) -> bytes | None:
        found = await self._store.key(self._controller.plan.name, NAME)
        if found is not None:
            self._take(found)
        return found

    def _take(self, key: bytes) -> None:
        self._kept = key
        if self._copy is None or self._copied() == key:
            return
        with suppress(OSError):  # the store has it: the copy is for another one
            descriptor = os.open(self._copy, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(key)

    def _copied(self) -> bytes | None:
        """Return the folder's copy; None where it has none, or one that was cut off."""
        with suppress(OSError):
            found = b"" if self._copy is None else self._copy.read_bytes()
            return found if len(found) == KEY_BYTES else None
        return None
